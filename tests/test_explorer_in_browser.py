"""The explorer of measured gradients as a reader meets it, in a browser; it wants the book built, and Chromium."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vggkit.report.figures import colour
from vggkit.study import shown_suites

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
HTML = ROOT / "book/_build/html/explorer.html"
READY = "document.querySelector('#vggkit-explorer [data-out=reading] b')"
PAIR = ("vgg38", "vgg38_bn_rc")  # what stands there first


@pytest.fixture(params=["served", "as a file"])
def address(request: pytest.FixtureRequest, site: str) -> str:
    return f"{site}/explorer.html" if request.param == "served" else HTML.as_uri()


def measured(name: str, suite: str, layer: int, epoch: int, statistic: str = "mean_abs") -> float:
    """A value straight from a run's file; `layer` counts convolutions and the linear layer from 1."""
    rows = pd.read_parquet(ROOT / "results" / suite / name / "seed-0" / "gradients.parquet")
    rows = rows[(rows["over"] == "mean") & (rows["kind"] != "bn") & (rows["epoch"] == epoch)].sort_values("layer")
    return float(rows[statistic].iloc[layer - 1])


def common_suite(*names: str) -> str:
    return next(s for s in shown_suites() if all((ROOT / "results" / s / name / "seed-0").is_dir() for name in names))


def spoken(page: Any) -> list[float]:
    """What the live region says of A and of B, and how many times A's value B's is."""
    return [float(text) for text in page.locator("[data-out=reading] .spoken").all_text_contents()]


def count(page: Any, what: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+) of (\d+)", page.inner_text(f"#vggkit-explorer [data-out={what}]"))
    assert found
    return int(found[1]), int(found[2])


def says_what_was_measured(page: Any, layer: int, epoch: int, statistic: str = "mean_abs") -> None:
    suite = common_suite(*PAIR)
    assert count(page, "layer")[0] == layer and count(page, "epoch")[0] == epoch
    expected = [measured(name, suite, layer, epoch, statistic) for name in PAIR]
    ratio = [expected[1] / expected[0]] if expected[0] else []  # of an update that is exactly 0 there is none
    assert spoken(page) == pytest.approx(expected + ratio, rel=0.055)  # two digits


def test_lines_have_the_colours_of_their_networks_in_figures(open_page: Callable[..., Any]) -> None:
    page = open_page(HTML.as_uri(), ready=READY)
    look = "(line) => [getComputedStyle(line).stroke, getComputedStyle(line).strokeDasharray]"

    def drawn(where: str, n: str) -> tuple[str, ...]:
        return tuple(page.eval_on_selector(f"#vggkit-explorer {where} path.{n}", look))

    def expected(name: str) -> str:
        return f"rgb{tuple(int(colour(name)[at : at + 2], 16) for at in (1, 3, 5))}"

    for pair in (PAIR, ("vgg08", "vgg38_bn"), ("vgg38_bn", "vgg38_bn_lr1e-2")):
        for n, name in zip("ab", pair, strict=True):
            page.select_option(f"#vggkit-explorer [data-key={n}]", name)
        lines = [drawn("[data-out=lines]", n) for n in "ab"]
        assert [stroke for stroke, _ in lines] == [expected(name) for name in pair]
        assert lines[0] != lines[1]  # by their dashes, where two share a colour
        assert lines == [drawn(f"label.{n}", n) for n in "ab"]


def test_sliders_keys_and_pointer_say_the_values_of_the_artefacts(
    address: str, open_page: Callable[..., Any], site: str
) -> None:
    page = open_page(address, ready=READY)
    epochs = count(page, "epoch")[1]
    says_what_was_measured(page, 1, epochs)
    page.focus("[data-do=epoch]")
    page.keyboard.press("ArrowLeft")
    says_what_was_measured(page, 1, epochs - 1)
    page.focus("[data-do=layer]")
    page.keyboard.press("End")
    says_what_was_measured(page, 38, epochs - 1)
    page.focus(".charts >> nth=0")
    for key in ("ArrowUp", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    says_what_was_measured(page, 36, epochs - 2)
    page.keyboard.press("Home")
    page.select_option("[data-key=show]", "update_ratio")
    says_what_was_measured(page, 1, epochs - 2, "update_ratio")
    map_of_a = page.locator(".map canvas").first
    map_of_a.scroll_into_view_if_needed()
    box = map_of_a.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 12.5 / 38, box["y"] + box["height"] * 1.5 / epochs)
    says_what_was_measured(page, 13, 2, "update_ratio")
    origin = ("file:", "data:") if address.startswith("file") else (site, "data:")
    assert page.requests and all(url.startswith(origin) for url in page.requests)
    assert page.errors == []


OPEN_TABLE = "document.querySelector('#vggkit-explorer details').open = true"


def test_state_stands_in_the_address_and_comes_back(address: str, open_page: Callable[..., Any]) -> None:
    page = open_page(address, ready=READY)
    page.select_option("[data-key=a]", "vgg08")
    page.select_option("[data-key=runs]", "fullest")
    page.select_option("[data-key=scale]", "fit")
    page.fill("[data-do=epoch]", "3")
    page.fill("[data-do=layer]", "5")
    wanted = {"a=vgg08", "runs=fullest", "scale=fit", "epoch=3", "layer=5"}
    page.wait_for_function("location.hash.includes('layer=5')")
    assert set(page.url.split("#")[1].split("&")) == wanted
    page.evaluate(OPEN_TABLE)
    before = page.inner_text("[data-out=reading]"), page.inner_text("[data-out=table]")
    page.reload()
    page.wait_for_function(READY)
    page.evaluate(OPEN_TABLE)
    assert (page.inner_text("[data-out=reading]"), page.inner_text("[data-out=table]")) == before
    assert set(page.url.split("#")[1].split("&")) == wanted
    assert page.inner_text("#vggkit-explorer [data-out=alert]") == ""


def test_an_absurd_address_is_refused_in_a_sentence(open_page: Callable[..., Any], site: str) -> None:
    page = open_page(f"{site}/explorer.html#a=<img src=x onerror=alert(1)>&epoch=1000000", ready=READY)
    assert page.inner_text("[data-out=alert]").startswith("The address asks for a = ")
    assert page.locator("img[src=x]").count() == 0
    assert page.input_value("[data-key=a]") == PAIR[0]


def test_runs_of_unlike_lengths_are_told_and_the_shorter_stays_at_its_end(
    open_page: Callable[..., Any], site: str
) -> None:
    """Whatever runs there are: of what the page brings, B's run loses all epochs but two before the script reads it."""
    shorten = """addEventListener("readystatechange", () => {
        const source = document.getElementById("vggkit-explorer-data");
        if (!source || window.shortened) return;
        window.shortened = true;
        const data = JSON.parse(source.textContent);
        for (const run of data.runs.filter(({ name }) => name === "vgg38_bn_rc"))
          Object.assign(run, { epochs: 2, values: { layers: { mean_abs: "HH".repeat(38) } } });
        source.textContent = JSON.stringify(data);
      }, true);"""
    page = open_page(f"{site}/explorer.html", ready=READY, script=shorten)
    assert count(page, "epoch")[1] > 2
    assert page.inner_text("[data-out=runs]").startswith("Both runs: ")
    assert "its last epoch stays" in page.inner_text("[data-out=runs]")
    assert "epoch 2, its last" in page.inner_text("[data-out=reading]")
    page.select_option("[data-key=show]", "l2_norm")
    assert "VGG38 BN+RC: L2 norm of the gradient was not logged" in page.inner_text("[data-out=reading]")
    assert page.errors == []


def test_play_goes_to_the_last_epoch_and_a_key_stops_it(open_page: Callable[..., Any], site: str) -> None:
    page = open_page(f"{site}/explorer.html", ready=READY)
    epochs = count(page, "epoch")[1]
    page.focus("[data-do=play]")
    page.keyboard.press("Enter")
    assert page.get_attribute("[data-out=reading]", "aria-live") == "off"
    page.wait_for_function("document.querySelector('[data-out=epoch]').textContent.startsWith('3 ')")
    page.focus(".charts >> nth=0")
    page.keyboard.press("Space")
    assert page.inner_text("[data-do=play]") == "Play" and 3 <= count(page, "epoch")[0] < epochs
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelector('[data-do=play]').textContent === 'Play'")
    says_what_was_measured(page, 1, epochs)
    assert page.get_attribute("[data-out=reading]", "aria-live") == "polite"


def test_less_motion_shows_a_few_epochs_a_second_apart(open_page: Callable[..., Any], site: str) -> None:
    page = open_page(f"{site}/explorer.html#a=vgg08&b=vgg38_rc", ready=READY, reduced_motion="reduce")
    epochs = count(page, "epoch")[1]
    page.click("[data-do=play]")
    next_one = 1 + max(1, -(-epochs // 10))
    page.wait_for_function(f"document.querySelector('[data-out=epoch]').textContent.startsWith('{next_one} ')")
    assert count(page, "epoch")[0] == next_one


def test_without_scripts_the_figure_stands_there(address: str, open_page: Callable[..., Any]) -> None:
    page = open_page(address, java_script_enabled=False)
    assert page.locator("figure.vggkit-figure svg").first.is_visible()
    assert not page.locator("#vggkit-explorer").is_visible()
    scripted = open_page(address, ready=READY)
    assert scripted.locator("figure.vggkit-figure").count() == 0
    assert scripted.evaluate("document.documentElement.scrollWidth") <= 390
