"""The command that measures untrained networks: what it keeps, and how it tells a mistake."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.shared import Call
from vggkit.data import load
from vggkit.runs.epsilon import Arm, Movement
from vggkit.runs.propagation import Network
from vggkit.training import epsilon, propagation


def test_command_measures_each_seed_and_goes_on(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (propagation, epsilon):
        monkeypatch.setattr(module, "load", lambda config, data: load(replace(config, dataset="synthetic"), data))
    monkeypatch.setattr(propagation, "NETWORKS", [Network(8, False, False, "default")])
    monkeypatch.setattr(epsilon, "travel", lambda arm, splits, seed, steps: Movement(
        (1.0,) * arm.depth, (4.6,) * steps, (1.0,) * (arm.depth + 1), (1.0,) * (arm.depth + 1)
    ))  # fmt: skip
    monkeypatch.setattr(epsilon, "ARMS", (Arm(8, "default", 1e-8),))
    status, out, error = call("propagation", "--seeds", "2-3", "--images", "3", "--results", str(tmp_path))
    assert (status, error) == (0, "")
    assert [line.split(",")[0] for line in out.splitlines()] == [
        "seed 2: 9 layers", f"seed 2: {epsilon.STEPS} steps of Adam", "seed 3: 9 layers"
    ]  # fmt: skip
    kept = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert kept == ["epsilon/seed-2.json", "propagation/seed-2.parquet", "propagation/seed-3.parquet"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--seeds", "x"], "seeds: 'x' is not allowed"),
        (["--images", "1", "--data", "nowhere"], "images: 1 is not allowed; allowed: an integer of at least 2"),
        (["--images", "2", "--data", "nowhere"], "data: no folder nowhere"),
    ],
)
def test_mistake_is_one_line(arguments: list[str], told: str, call: Call, tmp_path: Path) -> None:
    status, out, error = call("propagation", *arguments, "--results", str(tmp_path))
    assert (status, out, error.count("\n")) == (2, "", 1)
    assert error.startswith("vggkit: ") and told in error
