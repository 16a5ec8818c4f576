import copy
import functools
import http.server
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.shared import FEW_IMAGES, ROOT, Call
from vggkit import data
from vggkit.cli import main
from vggkit.config import DATASETS, RunConfig
from vggkit.data import Splits
from vggkit.runs import store
from vggkit.runs.records import Run
from vggkit.training.runner import train

SYNTHETIC = DATASETS["synthetic"]


SLOW = 1800  # seconds after which a slow test has failed: several times what it takes beside other work


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if os.name != "posix" and item.get_closest_marker("posix"):
        pytest.skip("needs signals, forks or permissions as POSIX has them")


@pytest.fixture(scope="session")
def tiny() -> RunConfig:
    """A run of a second: 100 synthetic images, 8 layers."""
    return RunConfig.named("vgg08", dataset="synthetic", train_images_per_class=1, batch_size=25, epochs=3)


@pytest.fixture(scope="session")
def trained(tiny: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with the finished run `tiny`, trained once. Tests read it, and change only a copy."""
    results = tmp_path_factory.mktemp("trained")
    train(tiny, results=results)
    return results


@pytest.fixture(scope="session", autouse=True)
def make_synthetic_images() -> Iterator[Callable[[], object]]:
    """Make the synthetic images once in this process: nearly every test that trains needs them.

    They are the same each time and nobody changes them. The function itself is given to the test that checks this.
    A process that a test starts has the whole data set, unless it is told otherwise.
    """
    make = data._synthetic
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "synthetic", FEW_IMAGES)
        patch.setattr(data, "_synthetic", functools.cache(make))
        yield make


@pytest.fixture(scope="session", autouse=True)
def read_committed_runs_once() -> Iterator[None]:
    """Have `find_runs` read each of the project's own runs once in this process, which saves a tenth of the time.

    Each test gets copies. Runs in other folders, and a run that is read by itself, are read anew.
    """
    read, committed = store.read_run, (ROOT / "results").resolve()
    once = functools.cache(read)

    def read_run(folder: Path) -> Run:
        if not Path(folder).resolve().is_relative_to(committed):
            return read(folder)
        run = once(folder)
        signal = None if run.signal is None else run.signal.copy()
        tables = {"metrics": run.metrics.copy(), "gradients": run.gradients.copy(), "signal": signal}
        return replace(run, summary=copy.deepcopy(run.summary), **tables)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "read_run", read_run)
        yield


@pytest.fixture
def whole_synthetic_set(make_synthetic_images: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Train on what another process trains on."""
    monkeypatch.setitem(DATASETS, "synthetic", SYNTHETIC)
    monkeypatch.setattr(data, "_synthetic", make_synthetic_images)


@pytest.fixture(scope="module")
def synthetic() -> Splits:
    return data.load(RunConfig.named("vgg08", dataset="synthetic", train_images_per_class=1, batch_size=25))


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`call(*arguments)` runs the command line in this process: exit status, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vggkit", *arguments])
        # For pytest a warning is an error; the command prints it, which the tests of its output then see.
        with warnings.catch_warnings(), pytest.raises(SystemExit) as end:
            warnings.simplefilter("default")
            main.main()
        assert isinstance(end.value.code, int)
        return end.value.code, *capsys.readouterr()

    monkeypatch.delenv("VGGKIT_RESULTS", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    return run


@pytest.fixture
def cifar100_folder() -> Path:
    folder = os.environ.get("VGGKIT_DATA", "")
    if not (Path(folder) / "cifar-100-python").is_dir() or not folder:
        pytest.skip("VGGKIT_DATA does not name a folder with cifar-100-python/")
    return Path(folder)


HTML = Path(__file__).parent.parent / "book/_build/html"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """The address at which the built book is served."""
    if not (HTML / "index.html").exists():
        pytest.skip("needs the book: make book")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(HTML)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def launch() -> Iterator[Callable[..., Any]]:
    """`launch(*arguments)` gives a Chromium with these arguments, the same one for the same arguments."""
    sync = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("needs chromium")
    with sync.sync_playwright() as playwright:
        browsers: dict[tuple[str, ...], Any] = {}

        def start(*arguments: str) -> Any:
            if arguments not in browsers:
                browsers[arguments] = playwright.chromium.launch(
                    executable_path=chromium, args=["--no-sandbox", *arguments]
                )
            return browsers[arguments]

        yield start
        for browser in browsers.values():
            browser.close()


@pytest.fixture
def open_page(launch: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """A page at an address, 390 px wide, with the requests and the errors that it makes."""
    contexts = []

    def start(
        address: str, *arguments: str, ready: str = "true", width: int = 390, script: str = "", **options: Any
    ) -> Any:
        context = launch(*arguments).new_context(viewport={"width": width, "height": 844}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.requests, page.errors = [], []
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda said: page.errors.append(said.text) if said.type == "error" else None)
        page.add_init_script(script)
        page.goto(address)
        page.wait_for_function(ready)
        return page

    yield start
    for context in contexts:
        context.close()
