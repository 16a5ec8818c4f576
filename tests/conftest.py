import os
from pathlib import Path

import pytest

from vggkit.config import RunConfig


@pytest.fixture
def tiny() -> RunConfig:
    """A run of a second: 200 synthetic images, 8 layers."""
    return RunConfig.named("vgg08", dataset="synthetic", train_images_per_class=2, batch_size=50, epochs=3)


@pytest.fixture
def cifar100_folder() -> Path:
    folder = os.environ.get("VGGKIT_DATA", "")
    if not (Path(folder) / "cifar-100-python").is_dir() or not folder:
        pytest.skip("VGGKIT_DATA does not name a folder with cifar-100-python/")
    return Path(folder)
