"""The state of a run under way is read back, or refused in one line."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.shared import CPU, Trap, stop_in
from vggkit.config import RunConfig
from vggkit.runs import checkpoints
from vggkit.runs.checkpoints import read_checkpoint, write_checkpoint
from vggkit.runs.files import ArtifactError, RunPaths, claim
from vggkit.training import branch
from vggkit.training.runner import train


def test_checkpoint_is_read_back_and_its_writing_never_spoils_the_last(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = RunPaths.of(tmp_path, tiny)
    assert read_checkpoint(paths, tiny, CPU) is None

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt  # everything is written, but not yet on the disk

    with claim(paths):
        write_checkpoint(paths, {"config": tiny.to_dict(), "weight": torch.tensor([1 / 3])})
        monkeypatch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_checkpoint(paths, {"config": tiny.to_dict(), "weight": torch.tensor([0.0])})
    assert not list(tmp_path.rglob("*partial*"))
    state = read_checkpoint(paths, tiny, CPU)
    assert state is not None
    assert torch.equal(state["weight"], torch.tensor([1 / 3]))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"metrics": []}, "its epochs are not 1 to 3 at most"), ({"metrics": 7}, "'int' object is not iterable"),
        ({"metrics": [{"epoch": 2}]}, "its epochs are not 1"), ({"gradients": []}, "of other epochs than metrics"),
        ({"signal": [torch.zeros(8)]}, "a signal of other epochs or layers"),
        ({"signal": [torch.zeros(9)] * 2}, "a signal of other epochs or layers"),
        ({"model": {}}, "Missing key|loading state_dict"), ({"model": 7}, "OrderedDict|dict"),
        ({"optimizer": {}}, "it has no 'param_groups'"), ({"scheduler": 7}, "int"),
        ({"best": None}, "it has no 'best'"),
    ],
)  # fmt: skip
def test_state_that_is_none_of_the_run_is_refused_in_one_line(
    change: dict[str, Any], told: str, tiny: RunConfig, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tiny, results=tmp_path, progress=stop_in(epoch=2))
    paths = RunPaths.of(tmp_path, tiny)
    state = read_checkpoint(paths, tiny, CPU)
    assert state
    changed = state | change
    if change == {"best": None}:
        del changed["best"]
    with claim(paths):
        write_checkpoint(paths, changed)
    before = paths.checkpoint.read_bytes()
    with pytest.raises(ArtifactError, match=f"checkpoint.pt is damaged .*({told})") as error:
        train(tiny, results=tmp_path)
    assert "\n" not in str(error.value) and "move it aside to" in str(error.value)
    assert paths.checkpoint.read_bytes() == before
    # A branch of it needs no history but the number of epochs.
    if change.keys() <= {"metrics", "gradients", "model", "optimizer", "scheduler"}:
        with pytest.raises(ArtifactError, match=r"^checkpoint: ") as error:
            list(branch.branch(branch.read_state(paths.checkpoint), orders=[0], results=tmp_path))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{}", b"PAR1 and more", b"PK\x03\x04 no archive", pickle.dumps({"a": 1})])
def test_a_file_of_another_kind_is_refused_without_torchs_advice(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(
        ArtifactError, match=r"no file that torch\.save wrote.*; allowed: the checkpoint\.pt of"
    ) as error:
        branch.read_state(tmp_path / "a.pt")
    assert "weights_only" not in str(error.value) and "\n" not in str(error.value)


def test_the_letters_of_a_seal_within_a_file_are_none(tmp_path: Path) -> None:
    saved = io.BytesIO()
    torch.save({"note": "sha256: of the data"}, saved)
    assert checkpoints.unpack(saved.getvalue()) == {"note": "sha256: of the data"}


@pytest.mark.parametrize("keep", [0, 0.5, 0.95])
def test_truncated_checkpoint_is_refused_in_one_line(keep: float, tiny: RunConfig, tmp_path: Path) -> None:
    paths = RunPaths.of(tmp_path, tiny)
    with claim(paths):
        write_checkpoint(paths, {"config": tiny.to_dict(), "weight": torch.rand(1000)})
    content = paths.checkpoint.read_bytes()
    paths.checkpoint.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ArtifactError, match="is damaged") as error:
        read_checkpoint(paths, tiny, CPU)
    assert "\n" not in str(error.value)


def test_checkpoint_of_another_configuration_is_refused_by_field(tiny: RunConfig, tmp_path: Path) -> None:
    paths = RunPaths.of(tmp_path, tiny)
    with claim(paths):
        write_checkpoint(paths, {"config": tiny.to_dict() | {"precision": "bfloat16"}})
    with pytest.raises(ArtifactError, match="precision 'bfloat16', not 'float32'"):
        read_checkpoint(paths, tiny, CPU)


def test_checkpoint_cannot_run_code(tiny: RunConfig, tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()  # the trap works
    paths = RunPaths.of(tmp_path, tiny)
    with claim(paths):
        write_checkpoint(paths, {"config": tiny.to_dict(), "model": Trap(tmp_path / "trace")})
    with pytest.raises(ArtifactError, match="is damaged"):
        read_checkpoint(paths, tiny, CPU)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("sealed", [True, False], ids=["ours", "without our checksum"])
def test_one_changed_bit_of_a_number_is_refused(sealed: bool, tiny: RunConfig, tmp_path: Path) -> None:
    paths, weight = RunPaths.of(tmp_path, tiny), torch.linspace(0, 1, 5000)
    with claim(paths):
        write_checkpoint(paths, {"config": tiny.to_dict(), "weight": weight})
    content = bytearray(paths.checkpoint.read_bytes())
    if not sealed:  # as older versions left it
        del content[content.rindex(checkpoints.SEAL) :]
    place = content.index(weight.numpy().tobytes()) + 9_999
    paths.checkpoint.write_bytes(content)
    assert read_checkpoint(paths, tiny, CPU) is not None
    content[place] ^= 1
    paths.checkpoint.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"is damaged \(.*checksum.* differs\)"):
        read_checkpoint(paths, tiny, CPU)
