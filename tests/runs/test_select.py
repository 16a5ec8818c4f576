"""Which runs stand for a configuration."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runs.made import a_run
from vggkit.config import RunConfig
from vggkit.runs import select
from vggkit.runs.files import RunPaths, claim
from vggkit.runs.store import write_run


@pytest.fixture
def keep(tmp_path: Path) -> Callable[..., None]:
    """`keep(suite, seed)` writes a run of made-up numbers."""

    def write(suite: str, seed: int) -> None:
        config = RunConfig.named("vgg08", suite=suite, seed=seed)
        paths = RunPaths.of(tmp_path, config)
        with claim(paths):
            write_run(paths, a_run(config))

    return write


def test_the_run_of_a_seed_is_of_that_seed_and_of_the_fullest_suite_that_has_it(
    keep: Callable[..., None], tmp_path: Path
) -> None:
    for suite, seed in (("preview", 0), ("preview", 2), ("short", 1), ("short", 2)):
        keep(suite, seed)

    def chosen(seed: int) -> list[tuple[str, int]]:
        runs = select.representative_runs(tmp_path, seed).values()
        return [(run.config.suite, run.config.seed) for run in runs]

    assert [chosen(seed) for seed in (0, 1, 2, 3)] == [[("preview", 0)], [("short", 1)], [("short", 2)], []]
