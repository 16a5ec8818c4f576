"""Many runs in one call: order, hand-out, stopping in time and going on."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from vggkit.artifacts import find_runs
from vggkit.config import ConfigError
from vggkit.sweep import TimeUp, order, sweep

SETTINGS = {"dataset": "synthetic", "train_images_per_class": 1, "epochs": 2, "suite": "local"}


def test_first_seeds_of_all_come_before_the_next() -> None:
    def placed(together: int) -> list[list[tuple[int, int]]]:
        groups = order(["vgg08", "vgg38"], [0, 1, 2], together)
        return [[(config.depth, config.seed) for config in group] for group in groups]

    assert placed(1) == [[(8, 0)], [(38, 0)], [(8, 1)], [(38, 1)], [(8, 2)], [(38, 2)]]
    assert placed(2) == [[(8, 0), (8, 1)], [(38, 0), (38, 1)], [(8, 2)], [(38, 2)]]
    with pytest.raises(ConfigError, match="together"):
        order(["vgg08"], [0], 0)


def test_stops_in_time_goes_on_and_hands_out_what_is_finished(tmp_path: Path) -> None:
    groups = order(["vgg08"], [0, 1], 1, **SETTINGS)
    where = {"results": tmp_path / "results", "archives": tmp_path / "archives"}
    with pytest.raises(TimeUp):
        list(sweep(groups, minutes=0, **where))
    assert find_runs(tmp_path / "results") == []
    runs = list(sweep(groups, **where))
    assert [run.config.seed for run in runs] == [0, 1]
    for path in sorted((tmp_path / "archives").iterdir()):
        with tarfile.open(path) as file:
            file.extractall(tmp_path / "unpacked", filter="data")
    unpacked = find_runs(tmp_path / "unpacked")
    assert [run.summary for run in unpacked] == [run.summary for run in runs]


def test_stops_in_time_where_the_last_seed_of_a_group_is_finished_already(tmp_path: Path) -> None:
    list(sweep(order(["vgg08"], [1], 1, **SETTINGS), results=tmp_path))
    with pytest.raises(TimeUp):
        list(sweep(order(["vgg08"], [0, 1], 2, **SETTINGS), results=tmp_path, minutes=0))
    assert [run.config.seed for run in find_runs(tmp_path)] == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0-x"], "seeds: "),
        (["--seeds", "0-99999999999"], "seeds: "),
        (["--set", "epochs"], "FIELD=VALUE"),
        (["--set", "epoch=2"], "did you mean epochs?"),
        (["--set", "seed=3"], "--seeds gives it"),
        (["--seeds", "0,0"], "seeds: "),
        (["--seeds", "3-1"], "seeds: "),
        (["--minutes", "nan"], "minutes: "),
        (["--archives", "a_file"], "archives: "),
        (["vgg9"], "unknown configuration"),
    ],
)
def test_wrong_sweep_is_one_line_and_status_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "a_file").write_text("")
    call = [sys.executable, "-m", "vggkit", "sweep", *arguments]
    done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
