"""The playground's data, its committed bundle, and its page in a browser.

What its network computes is compared with PyTorch in book/playground/test, by Node: `make test-playground`
runs both. The browser tests want the book built, Chromium, and the packages that package-lock.json names.
"""

import functools
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.shared import ROOT
from vggkit.config import RunConfig
from vggkit.runs.store import read_run
from vggkit.study import CONFIGURATIONS

BUNDLE = ROOT / "book/_static/playground"
HTML = ROOT / "book/_build/html"
TOOLS = ROOT / ".cache/playground"
SMALL = "a-depth=8&b-depth=14&batch=4"
READY = "[...document.querySelectorAll('[data-out=now]')].every(e => e.textContent.startsWith('step'))"


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("playground_reference", ROOT / "book/playground/reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_presets_are_table_1s_rows(reference: ModuleType) -> None:
    presets = reference.presets()
    assert list(presets) == list(CONFIGURATIONS)
    for name, settings in presets.items():
        assert settings == {key: getattr(RunConfig.named(name), key) for key in settings}


def test_thin_lines_are_the_first_epoch_of_the_committed_runs(reference: ModuleType) -> None:
    found = reference.measured(ROOT / "results")
    assert len({tuple(run[key] for key in reference.COMPARED) for run in found}) == len(found) >= len(CONFIGURATIONS)
    for entry in found:
        run = read_run(ROOT / "results" / entry["run"])
        rows = run.gradients.query("epoch == 1 and over == 'mean' and kind != 'bn'").sort_values("layer")
        assert len(entry["gradient"]) == len(entry["update"]) == run.config.depth
        assert entry["gradient"] == pytest.approx(rows["mean_abs"], rel=1e-2)
        assert entry["update"] == pytest.approx(rows["update_ratio"], rel=1e-2)
        better = ROOT / "results/table1" / run.config.name
        assert entry["run"].startswith("table1/") or not list(better.glob("seed-*/summary.json"))


def test_page_data_is_one_script_element_of_json(
    reference: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    element = reference.page_data(ROOT / "results")
    content = re.fullmatch(r'<script type="application/json" id="vggkit-playground-data">([^<]*)</script>', element)
    assert content
    data = json.loads(content[1])
    for entry in data["weights"]:
        copy = tmp_path / entry["file"]
        parts = re.fullmatch(r"(\w+?)-(.+)-(seed-\d+)\.safetensors", copy.name)
        assert parts
        suite, name, seed = parts.groups()
        assert copy.read_bytes() == (ROOT / "results" / suite / name / seed / "weights.safetensors").read_bytes()


def test_bundle_names_its_licences_and_asks_for_nothing_from_elsewhere() -> None:
    script = (BUNDLE / "playground.js").read_text()
    assert "MIT licence" in script[:500] and "Apache License 2.0" in script[:500]
    assert not re.search(r"(?:https?:)?//[a-z0-9-]+\.[a-z]{2,}", script + (BUNDLE / "playground.css").read_text())


@pytest.mark.slow
def test_bundle_is_what_the_sources_give(tmp_path: Path) -> None:
    node = shutil.which("node")
    if not node or not (TOOLS / "node_modules/esbuild").is_dir():
        pytest.skip("needs Node and `make playground-tools`")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/node_modules").symlink_to(TOOLS / "node_modules")
    build = [node, str(ROOT / "book/playground/build.mjs"), str(tmp_path / "tools"), str(tmp_path / "out")]
    subprocess.run(build, check=True)
    for file in (tmp_path / "out").iterdir():
        assert file.read_bytes() == (BUNDLE / file.name).read_bytes(), f"{file.name}: run `make playground` and commit"


@pytest.fixture(scope="module")
def served(site: str) -> str:
    for name in ("playground.js", "playground.css"):
        assert (HTML / "_static/playground" / name).read_bytes() == (BUNDLE / name).read_bytes(), "run `make book`"
    return f"{site}/playground.html"


@pytest.fixture
def open_page(open_page: Callable[..., Any]) -> Callable[..., Any]:
    """As elsewhere, but ready where both networks have taken their first step."""
    return functools.partial(open_page, **{"ready": READY})


def says(page: Any, what: str) -> str:
    return str(page.inner_text(f"[data-out={what}]"))


def step_of(page: Any, network: str) -> int:
    found = re.match(r"step (\d+)", page.inner_text(f"[data-network={network}] [data-out=now]"))
    return int(found[1]) if found else 0


def one_step(page: Any) -> None:
    before = step_of(page, "a")
    page.wait_for_selector("[data-do=step]:enabled")
    page.click("[data-do=step]")
    page.wait_for_function(READY.replace("'step'", f"'step {before + 1}:'"))


@pytest.mark.slow
def test_the_finding_shows_from_a_file_on_a_phone(served: str, open_page: Callable[..., Any]) -> None:
    page = open_page((HTML / "playground.html").as_uri(), has_touch=True)
    plain, cured = says(page, "key").splitlines()
    assert re.search(r"VGG38: the gradient falls by 1\d orders of magnitude towards the image", plain)
    assert "VGG38 BN + RC" in cured and "falls by 1" not in cured
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("[data-key=weights]").first.is_disabled()
    assert "web server" in page.locator("[data-out=weights]").first.text_content()
    page.tap("[data-do=step]")
    page.wait_for_function(READY.replace("'step'", "'step 2:'"))
    assert {url.split(":")[0] for url in page.requests} <= {"file", "blob", "data"}
    assert page.errors == []


@pytest.mark.slow
def test_no_request_leaves_the_site_and_it_goes_on_offline(served: str, open_page: Callable[..., Any]) -> None:
    page = open_page(f"{served}#{SMALL}")
    page.context.set_offline(True)
    one_step(page)
    site = served.rsplit("/", 1)[0]
    assert all(url.startswith((site, f"blob:{site}", "data:")) for url in page.requests)


@pytest.mark.slow
def test_keyboard_trains_and_pauses_within_a_step(served: str, open_page: Callable[..., Any]) -> None:
    page = open_page(f"{served}#{SMALL}")
    page.focus("[data-do=train]")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('[data-do=train]').textContent === 'Pause'")
    page.wait_for_function(READY.replace("'step'", "'step '") + " && !/step [12]:/.test(document.body.textContent)")
    page.keyboard.press("Space")
    at_pause = [step_of(page, network) for network in "ab"]
    page.wait_for_function("document.querySelector('[data-do=train]').textContent === 'Train'")
    assert all(step_of(page, n) <= before + 3 for n, before in zip("ab", at_pause, strict=True))
    paused = [step_of(page, network) for network in "ab"]
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert [step_of(page, network) for network in "ab"] == paused
    assert "Paused." in page.text_content("[data-out=live]")
    page.focus("[data-do=cursor]")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('[data-out=reading]').textContent.startsWith('Layer 2.')")
    assert page.get_attribute("[data-do=cursor]", "aria-valuetext") == says(page, "reading")


@pytest.mark.slow
def test_a_hidden_page_pauses_and_goes_on_when_it_is_seen(served: str, open_page: Callable[..., Any]) -> None:
    page = open_page(f"{served}#{SMALL}")
    hide = """hidden => { Object.defineProperty(document, 'hidden', {get: () => hidden, configurable: true});
              document.dispatchEvent(new Event('visibilitychange')); }"""
    page.click("[data-do=train]")
    page.evaluate(hide, True)
    page.wait_for_function("document.querySelector('[data-do=train]').textContent === 'Train'")
    page.evaluate(hide, False)
    page.wait_for_function("document.querySelector('[data-do=train]').textContent === 'Pause'")


@pytest.mark.slow
def test_settings_stand_in_the_address_and_come_back(served: str, open_page: Callable[..., Any]) -> None:
    page = open_page(f"{served}#{SMALL}")
    page.select_option("[data-network=a] [data-key=preset]", "vgg08")
    page.check("[data-network=b] [data-key=batchNorm]")
    page.uncheck("[data-network=b] [data-key=residual]")
    page.check("[name=vggkit-show][value=signal]")
    address = page.url.split("#")[1]
    assert set(address.split("&")) == {"a-depth=8", "b-depth=14", "b-rc=0", "batch=4", "show=signal"}
    page.reload()
    page.wait_for_function(READY)
    assert page.url.split("#")[1] == address
    assert page.input_value("[data-network=a] [data-key=preset]") == "vgg08"
    assert page.is_checked("[name=vggkit-show][value=signal]")
    assert "the signal" in says(page, "key")


@pytest.mark.slow
def test_an_absurd_address_is_refused_in_a_sentence(served: str, open_page: Callable[..., Any]) -> None:
    page = open_page(f"{served}#{SMALL}&b-lr=<img src=x onerror=alert(1)>&seed=-1")
    assert says(page, "alert").startswith("The address asks for b-lr =") and page.locator("img[src=x]").count() == 0
    one_step(page)


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_called_diverged(served: str, open_page: Callable[..., Any]) -> None:
    page = open_page(f"{served}#a-rc=1&a-lr=1&b-depth=8&batch=4")
    page.click("[data-do=train]")
    page.wait_for_function("document.querySelector('[data-out=now]').textContent.includes('diverged')")
    at = step_of(page, "b")
    page.wait_for_function(
        f"!document.body.textContent.includes('step {at}: loss')"
    )  # network B trains on although A has diverged
    page.click("[data-do=train]")
    page.wait_for_function("document.querySelector('[data-do=train]').textContent === 'Train'")
    page.uncheck("[data-network=a] [data-key=residual]")
    page.wait_for_function(READY)
    assert "diverged" not in says(page, "now")


@pytest.mark.slow
def test_each_task_sets_what_it_says(served: str, open_page: Callable[..., Any]) -> None:
    page = open_page(f"{served}#{SMALL}")
    links = page.locator("section a[href^='#'][href*='=']")
    assert links.count() >= 5
    for i in range(links.count()):
        wanted = (links.nth(i).get_attribute("href") or "").lstrip("#")
        links.nth(i).evaluate("link => link.click()")
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert says(page, "alert") == ""
        settings = dict(part.split("=") for part in wanted.split("&"))
        for name, key in (("depth", "depth"), ("init", "initialisation"), ("lr", "learningRate")):
            for network in "ab":
                value = page.locator(f"[data-network={network}] [data-key={key}]").input_value()
                default = {"depth": "38", "init": "default", "lr": "0.001"}[name]
                assert value == settings.get(f"{network}-{name}", default)
        for name, key in (("bn", "batchNorm"), ("rc", "residual")):
            for network, default in (("a", "0"), ("b", "1")):
                checked = page.locator(f"[data-network={network}] [data-key={key}]").is_checked()
                assert checked == (settings.get(f"{network}-{name}", default) == "1")


@pytest.mark.slow
def test_table_has_a_row_for_each_layer(served: str, open_page: Callable[..., Any]) -> None:
    page = open_page(f"{served}#{SMALL}")
    page.click("details.table summary")
    page.wait_for_selector("[data-out=table] tbody tr")
    rows = page.locator("[data-out=table] tbody tr")
    assert rows.count() == 14
    assert rows.nth(7).locator("td").all_inner_texts()[:3].count("–") == 0  # network A has 8 layers: row 8 is its last
    assert rows.nth(8).locator("td").all_inner_texts()[:3] == ["–"] * 3


@pytest.mark.slow
def test_without_webassembly_a_sentence_stands_there(served: str, open_page: Callable[..., Any]) -> None:
    alert = "document.querySelector('[data-out=alert]').textContent !== ''"
    # As in a browser with it switched off: neither the page nor its workers have it.
    off = "delete self.WebAssembly;"
    page = open_page(f"{served}#{SMALL}", ready=alert, script=off + _before_workers(off))
    assert says(page, "alert").startswith("WebAssembly is switched off")
    assert page.is_disabled("[data-do=train]")
    page.select_option("[data-network=a] [data-key=depth]", "20")  # the page still answers
    assert "a-depth=20" in page.url


@pytest.mark.slow
def test_pictures_stay_here_and_what_is_none_is_refused(
    served: str, open_page: Callable[..., Any], tmp_path: Path
) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (90, 50), (200, 30, 30)).save(tmp_path / "own.png")
    (tmp_path / "none.png").write_text("no picture")
    page = open_page(f"{served}#{SMALL}")
    synthetic = page.get_attribute("[data-out=losses]", "aria-label")
    page.click("details.common summary")
    page.select_option("[data-key=images]", "own")
    before = len(page.requests)
    page.set_input_files("[data-do=file]", tmp_path / "none.png")
    page.wait_for_function("document.querySelector('[data-out=alert]').textContent.includes('no picture')")
    page.set_input_files("[data-do=file]", tmp_path / "own.png")
    page.wait_for_function("document.querySelector('[data-out=alert]').textContent === ''")
    page.wait_for_function(READY)
    assert page.get_attribute("[data-out=losses]", "aria-label") != synthetic
    assert all(url.startswith("blob:") for url in page.requests[before:])


@pytest.mark.slow
def test_weights_of_a_finished_run_are_read_where_the_page_is_served(
    served: str, open_page: Callable[..., Any]
) -> None:
    page = open_page(f"{served}#{SMALL}")
    choices = page.locator("[data-network=a] [data-key=weights] option")
    values = [choice.get_attribute("value") for choice in choices.all()]
    assert len(values) > 1 and not page.is_disabled("[data-network=a] [data-key=weights]")
    page.click("[data-network=a] summary")
    page.select_option("[data-network=a] [data-key=weights]", values[1])
    page.wait_for_function(READY)
    assert "VGG38" in says(page, "key").splitlines()[0] and not says(page, "alert")
    page.route("**/*.safetensors", lambda route: route.abort())
    page.select_option("[data-network=a] [data-key=weights]", "")
    page.select_option("[data-network=a] [data-key=weights]", values[1])
    page.wait_for_function("document.querySelector('[data-out=alert]').textContent.includes('could not be read')")
    page.wait_for_function(READY)


@pytest.mark.slow
def test_reduced_motion_leaves_out_the_fading_traces(served: str, open_page: Callable[..., Any]) -> None:
    faded = "[data-out=layers] path[opacity]"
    for motion, wanted in (("no-preference", True), ("reduce", False)):
        page = open_page(f"{served}#{SMALL}", reduced_motion=motion)
        one_step(page)
        assert bool(page.locator(faded).count()) is wanted


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_axe_finds_nothing(served: str, open_page: Callable[..., Any], width: int, mode: str) -> None:
    axe = TOOLS / "node_modules/axe-core/axe.min.js"
    if not axe.exists():
        pytest.skip("needs `make playground-tools`")
    page = open_page(f"{served}#{SMALL}&a-depth=9", width=width, color_scheme=mode)
    assert page.evaluate("document.documentElement.dataset.theme") == mode
    for summary in page.locator(".vggkit-playground summary").all():
        summary.click()
    page.wait_for_selector("[data-out=table] td")
    page.add_script_tag(path=axe)
    found = page.evaluate("axe.run('.vggkit-playground')")["violations"]
    assert [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found] == []


@pytest.mark.slow
def test_webgpu_gives_the_same_values(served: str, open_page: Callable[..., Any]) -> None:
    software = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
    values = {}
    for device in ("processor", "gpu"):
        page = open_page(f"{served}#a-depth=8&b-depth=8&batch=4&device={device}", *software)
        name = page.inner_text("[data-network=b] [data-out=now]")
        if device == "gpu" and "GPU" not in name:
            pytest.skip("this Chromium has no WebGPU adapter")
        page.click("details.table summary")
        page.wait_for_selector("[data-out=table] td")
        values[device] = page.locator("[data-out=table] tbody").inner_text()
    assert values["gpu"] == values["processor"]


@pytest.mark.slow
def test_a_lost_gpu_is_replaced_by_the_processor(served: str, open_page: Callable[..., Any]) -> None:
    in_worker = """const ask = self.GPUAdapter && GPUAdapter.prototype.requestDevice;
        if (ask) GPUAdapter.prototype.requestDevice = async function () {
          const device = await ask.call(this);
          addEventListener('message', ({data}) => { if (data.type === 'steps') device.destroy(); });
          return device;
        };"""
    software = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
    address = f"{served}#a-depth=8&b-depth=8&batch=4&device=gpu"
    page = open_page(address, *software, script=_before_workers(in_worker))
    if "GPU" not in page.inner_text("[data-network=b] [data-out=now]"):
        pytest.skip("this Chromium has no WebGPU adapter")
    page.click("[data-do=step]")
    page.wait_for_function("document.querySelector('[data-out=alert]').textContent.includes('The GPU stopped')")
    page.wait_for_function(READY.replace("startsWith('step')", "includes('(processor)')"))
    one_step(page)


def _before_workers(code: str) -> str:
    """A script that runs `code` at the start of every worker from a Blob."""
    return f"""const Whole = Blob;
        self.Blob = function (parts, options) {{ return new Whole([{json.dumps(code)}, ...parts], options); }};"""
