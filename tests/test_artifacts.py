"""What is written is read back exactly, and nothing half-written or damaged passes for a run."""

import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from vggkit.artifacts import (
    SUMMARY,
    ArtifactError,
    Run,
    RunPaths,
    claim,
    find_runs,
    read_checkpoint,
    read_finished,
    read_run,
    read_weights,
    write_checkpoint,
    write_run,
)
from vggkit.config import RunConfig
from vggkit.gradients import to_frame

CPU = torch.device("cpu")
WEIGHTS = {"classifier.weight": torch.arange(12.0).reshape(3, 4)}


def a_run(config: RunConfig) -> Run:
    # Numbers of full length in many sizes: one that is rounded on the way does not come back equal.
    generator = torch.Generator().manual_seed(0)
    losses = torch.randn(2, 1000, generator=generator, dtype=torch.float64).exp() ** 5
    metrics = pd.DataFrame({"epoch": range(1, 1001), "train_loss": losses[0], "validation_loss": losses[1]})
    history = torch.rand(3, 2, 3, 2, generator=generator, dtype=torch.float64)
    row = metrics.iloc[-1].to_dict() | {"epoch": 1000, "train_accuracy": 0.5, "validation_accuracy": 0.25}
    final = row | {"test_loss": 0.1, "test_accuracy": 0.125}
    summary = dict.fromkeys(SUMMARY - {"files"}) | {"diverged": False, "final": final, "parameters": 59716}
    return Run(config, metrics, to_frame(["entry.conv.weight", "entry.bn.weight"], history), summary)


@pytest.fixture
def paths(tiny: RunConfig, tmp_path: Path) -> RunPaths:
    """A finished run."""
    paths = RunPaths.of(tmp_path, tiny)
    with claim(paths):
        write_run(paths, a_run(tiny), WEIGHTS)
    return paths


def test_run_is_read_back_exactly(paths: RunPaths, tiny: RunConfig) -> None:
    written, read = a_run(tiny), read_run(paths.folder)
    assert read.config == tiny
    pd.testing.assert_frame_equal(read.metrics, written.metrics, check_exact=True)
    pd.testing.assert_frame_equal(read.gradients, written.gradients, check_exact=True)
    assert torch.equal(read_weights(paths)["classifier.weight"], WEIGHTS["classifier.weight"])


@pytest.mark.parametrize("place", [0, 0.3, 0.7, 1])
@pytest.mark.parametrize("name", ["config.json", "metrics.csv", "gradients.parquet"])
def test_one_changed_bit_anywhere_is_refused(name: str, place: float, paths: RunPaths, tiny: RunConfig) -> None:
    content = bytearray((paths.folder / name).read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    (paths.folder / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name} is damaged") as error:
        read_finished(paths, tiny)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "metrics.csv", "gradients.parquet", "summary.json"])
def test_missing_file_is_refused_in_one_line(name: str, paths: RunPaths, tiny: RunConfig) -> None:
    (paths.folder / name).unlink()
    with pytest.raises(ArtifactError, match=name) as error:
        read_finished(paths, tiny)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0, 0.5, 0.9])
def test_truncated_summary_is_refused_in_one_line(keep: float, paths: RunPaths, tiny: RunConfig) -> None:
    content = (paths.folder / "summary.json").read_bytes()
    (paths.folder / "summary.json").write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ArtifactError, match="cannot be read") as error:
        read_finished(paths, tiny)
    assert "\n" not in str(error.value)


def seal(summary: dict[str, Any]) -> None:
    content = {name: value for name, value in summary.items() if name != "summary_sha256"}
    summary["summary_sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@pytest.mark.parametrize(
    ("path", "value", "sealed"),
    [
        (("parameters",), 59717, True),
        (("diverged",), True, True),
        (("final", "test_accuracy"), 0.126, True),
        # Sealed anew by who changed it: the metrics tell.
        (("final", "validation_loss"), 1.5, False),
        (("final", "epoch"), 999, False),
        (("best",), {}, False),
    ],
)
def test_changed_summary_is_refused_in_one_line(
    path: tuple[str, ...], value: Any, sealed: bool, paths: RunPaths, tiny: RunConfig
) -> None:
    file = paths.folder / "summary.json"
    summary = json.loads(file.read_text())
    assert read_finished(paths, tiny) is not None
    *outer, last = path
    (summary[outer[0]] if outer else summary)[last] = value
    if not sealed:
        seal(summary)
    file.write_text(json.dumps(summary))
    with pytest.raises(ArtifactError, match=r"summary\.json") as error:
        read_finished(paths, tiny)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", [("diverged",), ("data_sha256",), ("files", "metrics.csv"), ("final", "test_loss")])
def test_summary_without_a_key_is_refused_by_its_name(path: tuple[str, ...], paths: RunPaths, tiny: RunConfig) -> None:
    summary = json.loads((paths.folder / "summary.json").read_text())
    *outer, last = path
    del (summary[outer[0]] if outer else summary)[last]
    seal(summary)
    (paths.folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(ArtifactError, match=f"summary.json knows no {last}") as error:
        read_finished(paths, tiny)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_damaged_weights_stop_only_who_wants_them(keep: float, paths: RunPaths, tiny: RunConfig) -> None:
    file = paths.folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    assert read_finished(paths, tiny) is not None
    with pytest.raises(ArtifactError, match=rf"weights: {file} is damaged.* delete this file alone") as error:
        read_weights(paths)
    assert "\n" not in str(error.value)


def test_weights_alone_may_be_missing(paths: RunPaths, tiny: RunConfig) -> None:
    (paths.folder / "weights.safetensors").unlink()
    assert read_finished(paths, tiny) is not None
    with pytest.raises(ArtifactError, match=r"^weights: "):
        read_weights(paths)


@pytest.mark.parametrize(("field", "value"), [("seed", 1), ("precision", "bfloat16"), ("epochs", 9)])
def test_run_of_another_configuration_is_refused_by_field(field: str, value: Any, paths: RunPaths) -> None:
    config = read_run(paths.folder).config
    other = RunConfig.from_dict(config.to_dict() | {field: value})
    with pytest.raises(ArtifactError, match=f"{field} {getattr(config, field)!r}, not {value!r}") as error:
        read_finished(paths, other)
    assert "\n" not in str(error.value)


def test_runs_are_found_by_suite_and_seed_but_not_unfinished_ones(paths: RunPaths, tmp_path: Path) -> None:
    config = read_run(paths.folder).config
    for changes in ({"seed": 1}, {"suite": "other"}):
        more = RunConfig.from_dict(config.to_dict() | changes)
        with claim(RunPaths.of(tmp_path, more)):
            write_run(RunPaths.of(tmp_path, more), a_run(more))
    # What a process leaves that is killed between writing a run's files and renaming their folder, and
    # a folder like a run's where checkpoints lie.
    shutil.copytree(paths.folder, paths.folder.parent / ".partial-killed")
    shutil.copytree(paths.folder, paths.checkpoint.parent, dirs_exist_ok=True)
    found = [(run.config.suite, run.config.seed) for run in find_runs(tmp_path)]
    assert found == [("local", 0), ("local", 1), ("other", 0)]
    assert [run.config.suite for run in find_runs(tmp_path, "other")] == ["other"]


def test_run_that_lost_its_summary_is_not_passed_over(paths: RunPaths, tmp_path: Path) -> None:
    (paths.folder.parent / "seed-9").write_text("a file beside the runs")
    assert len(find_runs(tmp_path)) == 1
    (paths.folder / "summary.json").unlink()
    with pytest.raises(ArtifactError, match=r"seed-0 cannot be read .*summary\.json"):
        find_runs(tmp_path)


@pytest.mark.parametrize("command", ["list", "table"])
def test_command_shows_an_empty_folder_and_refuses_what_is_none(command: str, tmp_path: Path) -> None:
    def call(results: Path) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "vggkit", command, "--results", str(results)]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    assert call(tmp_path).returncode == 0
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "missing", tmp_path / "file"):
        done = call(wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"vggkit: results: no folder {wrong}; name one that exists by --results\n"


def test_refused_training_prints_one_line_alone_and_names_the_options(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "vggkit", "train", "vgg08", "--results", str(tmp_path), "--data", str(tmp_path)]
    for wrong, told in (([], "cifar-100-python"), (["--lr", "1"], "--learning-rate"), (["--epoch", "1"], "--epochs")):
        done = subprocess.run([*words, *wrong], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert told in done.stderr


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_interrupted_writing_leaves_nothing_behind(
    error: BaseException, tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object, **settings: object) -> None:
        raise error

    paths = RunPaths.of(tmp_path, tiny)
    monkeypatch.setattr(pd.DataFrame, "to_parquet", interrupt)
    told = ArtifactError if isinstance(error, OSError) else KeyboardInterrupt
    with claim(paths), pytest.raises(told):
        write_run(paths, a_run(tiny))
    assert read_finished(paths, tiny) is None
    assert find_runs(tmp_path) == []
    assert list(paths.folder.parent.iterdir()) == []


def test_summary_is_standard_json_and_refuses_nan(paths: RunPaths, tiny: RunConfig, tmp_path: Path) -> None:
    run = a_run(tiny)
    bad = Run(run.config, run.metrics, run.gradients, {"final": float("nan")})
    other = RunPaths.of(tmp_path / "elsewhere", tiny)
    with claim(other), pytest.raises(ValueError, match="JSON"):
        write_run(other, bad)
    assert read_finished(other, tiny) is None
    assert set(json.loads((paths.folder / "summary.json").read_text())["files"]) == {
        path.name for path in paths.folder.iterdir()
    } - {"summary.json"}


def test_claim_excludes_the_same_run_alone_and_ends_with_its_holder(tiny: RunConfig, tmp_path: Path) -> None:
    paths = RunPaths.of(tmp_path, tiny)
    with claim(paths):
        with pytest.raises(ArtifactError, match="another process is training"), claim(paths):
            pass
        with claim(RunPaths.of(tmp_path, RunConfig.from_dict(tiny.to_dict() | {"seed": 1}))):
            pass
    with claim(paths):
        pass


def test_unwritable_results_folder_is_refused_in_one_line(tiny: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")  # a folder's permissions would not stop root
    with pytest.raises(ArtifactError, match="cannot write") as error, claim(RunPaths.of(tmp_path / "file", tiny)):
        pass
    assert "\n" not in str(error.value)


def test_checkpoint_is_read_back_and_its_writing_never_spoils_the_last(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = RunPaths.of(tmp_path, tiny)
    assert read_checkpoint(paths, tiny, CPU) is None

    def interrupt(state: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    with claim(paths):
        write_checkpoint(paths, {"config": tiny.to_dict(), "weight": torch.tensor([1 / 3])})
        monkeypatch.setattr(torch, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_checkpoint(paths, {"config": tiny.to_dict(), "weight": torch.tensor([0.0])})
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


def test_full_disk_is_told_in_one_line_and_the_checkpoint_kept(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(state: object, file: Path) -> None:
        raise OSError(28, "No space left on device")

    paths = RunPaths.of(tmp_path, tiny)
    with claim(paths):
        write_checkpoint(paths, {"config": tiny.to_dict()})
        monkeypatch.setattr(torch, "save", fail)
        with pytest.raises(ArtifactError, match="No space left") as error:
            write_checkpoint(paths, {})
    assert "\n" not in str(error.value)
    assert read_checkpoint(paths, tiny, CPU) == {"config": tiny.to_dict()}


class Trap:
    """A pickle that leaves a trace when somebody reads it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_checkpoint_cannot_run_code(tiny: RunConfig, tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()  # the trap works
    paths = RunPaths.of(tmp_path, tiny)
    with claim(paths):
        write_checkpoint(paths, {"config": tiny.to_dict(), "model": Trap(tmp_path / "trace")})
    with pytest.raises(ArtifactError, match="is damaged"):
        read_checkpoint(paths, tiny, CPU)
    assert not (tmp_path / "trace").exists()
