"""The state of a run under way is read back, or refused in one line."""

import os
import pickle
from pathlib import Path

import pytest
import torch

from tests.shared import CPU, Trap
from vggkit.config import RunConfig
from vggkit.runs import checkpoints
from vggkit.runs.checkpoints import read_checkpoint, write_checkpoint
from vggkit.runs.files import ArtifactError, RunPaths, claim


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
