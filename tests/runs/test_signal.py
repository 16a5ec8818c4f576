"""What is kept of untrained networks' signal is read back, or refused in one line."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from vggkit.config import NO_SUITES
from vggkit.runs import change, epsilon, imported, propagation, signal
from vggkit.runs.files import ArtifactError
from vggkit.runs.signal import NetworkSignal, Signal
from vggkit.study import SUITES
from vggkit.training import branch

MACHINE = {"device": "a processor", "threads": 1, "versions": {"torch": "2"}, "commit": None}
NETWORKS = {
    name: NetworkSignal((0.5, 0.25), (1e-30, 1.0), 0.1) for name in ("vgg08", "vgg38", "vgg38_bn", "vgg38_bn_rc")
}

OTHERS = {name: asdict(network) for name, network in NETWORKS.items()}


def test_measurement_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = Signal(3, 10, NETWORKS, MACHINE)
    signal.write(written, tmp_path)
    assert signal.read(tmp_path, 3) == written


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 0.4), ("seed", True), ("seed", 1), ("images", -5), ("images", "7"), ("machine", {}),
        ("machine", MACHINE | {"device": "<b>x</b>"}), ("machine", MACHINE | {"versions": {"torch": "<b>"}}),
        ("networks", {}), ("networks", OTHERS | {"vgg08": {"deviation": [1, 1], "error": [1], "spread": 0}}),
        ("networks", OTHERS | {"vgg08": {"deviation": [1], "error": [float("inf")], "spread": 0}}),
    ],
)  # fmt: skip
def test_what_no_measurement_holds_is_refused_in_one_line(name: str, value: Any, tmp_path: Path) -> None:
    signal.write(Signal(0, 10, NETWORKS, MACHINE), tmp_path)
    file = signal.place(tmp_path, 0)
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))
    with pytest.raises(ArtifactError, match="is damaged") as error:
        signal.read(tmp_path, 0)
    assert "\n" not in str(error.value) and "vggkit signal" in str(error.value)


def test_damaged_measurement_is_measured_anew_after_what_is_told(tmp_path: Path) -> None:
    file = signal.write(Signal(0, 10, NETWORKS, MACHINE), tmp_path)
    file.write_text("{")
    aside = file.with_name(".aside-seed-0.json")  # else the command that is told fails on it, as those that go on do
    told = f"; move it aside to {aside} and measure it: vggkit signal --seed 0"
    with pytest.raises(ArtifactError, match=f"{re.escape(told)}$"):
        signal.read(tmp_path, 0)
    file.rename(aside)
    with pytest.raises(ArtifactError, match=r"there is no .*seed-0\.json; measure it: vggkit signal --seed 0$"):
        signal.read(tmp_path, 0)


def test_no_run_lies_among_measurements() -> None:
    taken = {change.FOLDER, signal.FOLDER, propagation.FOLDER, epsilon.FOLDER, imported.FOLDER, branch.SUITE, "bench"}
    assert taken == set(NO_SUITES) and not taken & set(SUITES)
