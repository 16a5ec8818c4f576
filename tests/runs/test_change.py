"""What is kept of what training changed is read back, or refused in one line; and belongs to its run alone."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from vggkit.config import RunConfig
from vggkit.runs import change
from vggkit.runs.change import Change, Changes
from vggkit.runs.files import ArtifactError, RunPaths
from vggkit.runs.records import Run
from vggkit.runs.store import read_run

ROOT = Path(__file__).parents[2]
MACHINE = {"device": "a processor", "threads": 1, "versions": {"torch": "2"}, "commit": None}
ONE = Change(10, "ab" * 32, (0.5,) * 8, (1.0, 1e-30, *(0.0,) * 7), (1.0, *(0.5,) * 8))


def test_measurement_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = Changes(3, "cd" * 32, {"vgg08": ONE}, MACHINE)
    change.write(written, tmp_path)
    assert change.read(tmp_path, 3) == written


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 1), ("format", 0), ("data_sha256", "ab"), ("machine", {}),
        ("networks", [1]), ("networks", {"vgg08": {}}), ("networks", {"vgg08": 1}),
        ("networks", {"<b>": dataclasses.asdict(ONE)}), ("networks", {"vgg38": dataclasses.asdict(ONE)}),
        ("networks", {"vgg08": dataclasses.asdict(ONE) | {"images": 0}}),
        ("networks", {"vgg08": dataclasses.asdict(ONE) | {"displacement": [1.0]}}),
        ("networks", {"vgg08": dataclasses.asdict(ONE) | {"before": [1.0, -1.0, 0.0]}}),
    ],
)  # fmt: skip
def test_what_no_measurement_holds_is_refused_in_one_line(name: str, value: Any, tmp_path: Path) -> None:
    file = change.write(Changes(0, "cd" * 32, {"vgg08": ONE}, MACHINE), tmp_path)
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))
    with pytest.raises(ArtifactError, match="is damaged") as error:
        change.read(tmp_path, 0)
    assert "\n" not in str(error.value) and "vggkit change --seed 0" in str(error.value)


@pytest.fixture
def run(tiny: RunConfig, trained: Path) -> Run:
    return read_run(RunPaths.of(trained, tiny).folder)


def test_a_measurement_counts_for_the_run_whose_weights_it_saw(run: Run, tmp_path: Path) -> None:
    assert change.of_run(run, tmp_path) is None  # nothing was measured
    run = dataclasses.replace(run, config=RunConfig.named("vgg08"))
    own = dataclasses.replace(ONE, weights_sha256=run.summary["files"]["weights.safetensors"])
    change.write(Changes(0, "cd" * 32, {"vgg08": own}, MACHINE), tmp_path)
    assert change.of_run(run, tmp_path) == own
    other = dataclasses.replace(run, config=RunConfig.named("vgg38"))
    assert change.of_run(other, tmp_path) is None  # another configuration was
    change.write(Changes(0, "cd" * 32, {"vgg08": ONE}, MACHINE), tmp_path)
    with pytest.raises(ArtifactError, match=r"other weights of vgg08; measure it anew: vggkit change --seed 0"):
        change.of_run(run, tmp_path)


def test_a_newer_format_is_told_before_anything_else(tmp_path: Path) -> None:
    file = change.write(Changes(0, "cd" * 32, {"vgg08": ONE}, MACHINE), tmp_path)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 2, "networks": [1]}))
    with pytest.raises(ArtifactError, match=r"is of format 2, this vggkit knows 1; use the version that wrote it"):
        change.read(tmp_path, 0)


def test_every_committed_run_of_table_1_with_weights_is_measured() -> None:
    files = sorted((ROOT / "results/table1").glob("*/seed-*/weights.safetensors"))
    assert files
    for file in files:
        run = read_run(file.parent)
        assert change.of_run(run, ROOT / "results"), f"vggkit change --seed {run.config.seed}"
