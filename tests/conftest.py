import os
import sys
from pathlib import Path

import pytest

from tests.shared import Call
from vggkit.cli import main
from vggkit.config import RunConfig


@pytest.fixture
def tiny() -> RunConfig:
    """A run of a second: 200 synthetic images, 8 layers."""
    return RunConfig.named("vgg08", dataset="synthetic", train_images_per_class=2, batch_size=50, epochs=3)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`call(*arguments)` runs the command line in this process: exit status, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vggkit", *arguments])
        with pytest.raises(SystemExit) as end:
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
