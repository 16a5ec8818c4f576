"""Branches trained from one state: on the same batches, kept, and gone on with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.shared import Call, refused, stop_in
from vggkit.config import ConfigError, RunConfig
from vggkit.runs.files import ArtifactError, InUseError, RunPaths
from vggkit.training import branch, compute
from vggkit.training.runner import train

# Where the processor emulates it, which the branches say as well.
pytestmark = pytest.mark.filterwarnings("ignore:precision. bfloat16 is emulated")


@pytest.fixture(scope="module")
def checkpoint(tiny: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run of three epochs that was stopped after the first."""
    results = tmp_path_factory.mktemp("stopped")
    with pytest.raises(KeyboardInterrupt):
        train(tiny, results=results, progress=stop_in(2))
    return RunPaths.of(results, tiny).checkpoint


@pytest.fixture
def state(checkpoint: Path) -> branch.State:
    return branch.read_state(checkpoint)


def test_branches_see_the_same_batches_from_the_same_state(state: branch.State, tmp_path: Path) -> None:
    made = list(branch.branch(state, orders=[0, 1], precisions=["float32", "bfloat16"], results=tmp_path))
    by = {(one["order"], one["precision"]): one for one in made}
    first = {key: one["losses"][0] for key, one in by.items()}
    # All branches see their first batch with the same weights. In bfloat16 the loss differs only by rounding to 8 bits,
    # with another order of the batches by much more.
    assert first[0, "bfloat16"] == pytest.approx(first[0, "float32"], rel=2**-7)
    assert first[0, "bfloat16"] != first[0, "float32"]
    assert abs(first[1, "float32"] - first[0, "float32"]) > abs(first[0, "bfloat16"] - first[0, "float32"])
    assert [row["epoch"] for row in by[0, "float32"]["epochs"]] == [2]
    assert np.mean(by[0, "float32"]["losses"]) == pytest.approx(by[0, "float32"]["epochs"][0]["train_loss"], abs=1e-5)


def test_branches_in_one_precision_are_equal_and_leave_the_state_as_it_was(state: branch.State, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in state.content["model"].items()}
    one, two = (
        next(branch.branch(state, orders=[0], precisions=["float32"], results=tmp_path / name)) for name in ("a", "b")
    )
    assert one["losses"] == two["losses"]
    assert all(torch.equal(before[name], value) for name, value in state.content["model"].items())


def test_interrupted_branches_go_on_where_they_were(state: branch.State, tmp_path: Path) -> None:
    next(branch.branch(state, orders=[0], results=tmp_path))
    rest = list(branch.branch(state, orders=[0], results=tmp_path))
    assert [(one["order"], one["precision"]) for one in rest] == [(0, "bfloat16")]
    assert list(branch.branch(state, orders=[0], results=tmp_path)) == []
    (kept,) = branch.find_branches(tmp_path)
    assert len(kept["branches"]) == 2
    assert kept["config"] == state.config.to_dict()


def test_branches_of_a_version_with_fewer_settings_are_gone_on_with(state: branch.State, tmp_path: Path) -> None:
    next(branch.branch(state, orders=[0], results=tmp_path))
    file = branch.place(state, tmp_path)
    content = json.loads(file.read_text())
    del content["config"]["reduction_shortcut"]
    file.write_text(json.dumps(content))
    assert len(list(branch.branch(state, orders=[0], results=tmp_path))) == 1
    content["config"]["learning_rate"] *= 2
    file.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="branches of another configuration"):
        list(branch.branch(state, orders=[0], results=tmp_path))


def test_an_emulated_precision_is_told_before_the_branches(
    state: branch.State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "bfloat16_ratio", lambda: 0.07)
    with pytest.warns(compute.PrecisionWarning, match="0.07 times"):
        next(branch.branch(state, orders=[0], results=tmp_path))


def test_one_process_at_a_time_adds_branches_to_a_state(state: branch.State, tmp_path: Path) -> None:
    first = branch.branch(state, orders=[0], results=tmp_path)
    next(first)
    with pytest.raises(InUseError, match="another process"):
        next(branch.branch(state, orders=[1], results=tmp_path))
    first.close()  # type: ignore[attr-defined]
    next(branch.branch(state, orders=[1], results=tmp_path))
    (kept,) = branch.find_branches(tmp_path)
    assert {one["order"] for one in kept["branches"]} == {0, 1}


def test_a_branch_that_diverges_is_kept_as_such_and_keeps_no_other_from_being_trained(
    state: branch.State, tmp_path: Path, call: Call
) -> None:
    for group in state.content["optimizer"]["param_groups"]:
        group["lr"] = group["initial_lr"] = 1e30
    state.content["scheduler"]["base_lrs"] = [1e30]
    for one in branch.branch(state, orders=[0], results=tmp_path):
        assert one["epochs"][-1]["train_loss"] is None
    (kept,) = branch.find_branches(tmp_path)
    assert len(kept["branches"]) == 2 and None in kept["branches"][0]["losses"]


def test_the_command_keeps_branches_and_refuses_in_one_line(checkpoint: Path, tmp_path: Path, call: Call) -> None:
    file, where = str(checkpoint), ("--results", str(tmp_path))
    status, out, _ = call("branch", file, "--orders", "0", *where)
    assert (status, out.count("order 0 in")) == (0, 2)
    assert len(branch.find_branches(tmp_path)[0]["branches"]) == 2
    for wrong in ([file, "--orders", "x"], [file, "--epochs", "9"], [str(tmp_path / "none.pt")]):
        refused(call, "branch", *wrong, *where)


def test_wrong_branches_are_refused_in_one_line(state: branch.State, tmp_path: Path) -> None:
    mistakes: tuple[dict[str, Any], ...] = ({"epochs": 3}, {"epochs": 0}, {"orders": []}, {"orders": [0, 0]})
    for wrong in (*mistakes, {"orders": [-1]}):
        with pytest.raises(ConfigError, match=rf"^{next(iter(wrong))}: ") as error:
            list(branch.branch(state, results=tmp_path, **{"orders": [0]} | wrong))
        assert "\n" not in str(error.value)
    (tmp_path / "none.pt").write_bytes(b"no checkpoint")
    for file in (tmp_path / "none.pt", tmp_path / "missing.pt"):
        with pytest.raises(ArtifactError, match=r"^checkpoint: ") as refused:
            branch.read_state(file)
        assert "\n" not in str(refused.value)


def test_a_damaged_file_of_branches_is_refused(state: branch.State, tmp_path: Path) -> None:
    next(branch.branch(state, orders=[0], results=tmp_path))
    file = branch.place(state, tmp_path)
    kept = json.loads(file.read_text())
    for damage in ("", "[]", json.dumps(kept | {"branches": [{}]}), json.dumps(kept | {"config": {"depth": 9}})):
        file.write_text(damage)
        with pytest.raises(ArtifactError, match="cannot be read as branches"):
            branch.find_branches(tmp_path)
