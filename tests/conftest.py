import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.shared import Call
from vggkit import data
from vggkit.cli import main
from vggkit.config import RunConfig
from vggkit.training.runner import train


def pytest_runtest_setup(item: pytest.Item) -> None:
    if os.name != "posix" and item.get_closest_marker("posix"):
        pytest.skip("needs signals, forks or permissions as POSIX has them")


@pytest.fixture(scope="session")
def tiny() -> RunConfig:
    """A run of a second: 200 synthetic images, 8 layers."""
    return RunConfig.named("vgg08", dataset="synthetic", train_images_per_class=2, batch_size=50, epochs=3)


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
    """
    make = data._synthetic
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_synthetic", functools.cache(make))
        yield make


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
