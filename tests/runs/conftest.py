from pathlib import Path

import pytest

from tests.runs.made import a_run, weights_of
from vggkit.config import RunConfig
from vggkit.runs.files import RunPaths, claim
from vggkit.runs.store import write_run


@pytest.fixture
def paths(tiny: RunConfig, tmp_path: Path) -> RunPaths:
    """A finished run."""
    paths = RunPaths.of(tmp_path, tiny)
    with claim(paths):
        write_run(paths, a_run(tiny), weights_of(tiny))
    return paths
