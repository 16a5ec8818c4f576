"""What is written is read back exactly, and nothing half-written or damaged passes for a run."""

import ast
import csv
import errno
import hashlib
import json
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from tests.shared import ROOT, Call, Trap, part_of_summary
from vggkit.config import ConfigError, RunConfig
from vggkit.networks.vgg import VGG, count_parameters
from vggkit.runs import files, schema, store, weights
from vggkit.runs.store import (
    ArtifactError,
    ArtifactWarning,
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
from vggkit.study import CONFIGURATIONS
from vggkit.training.gradients import to_frame, weight_names

CPU = torch.device("cpu")


def a_run(config: RunConfig) -> Run:
    """A run such as training leaves, but of made-up numbers."""
    # Numbers with all their digits, of many magnitudes: if one is rounded when it is written, the tests see it.
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(len(schema.METRICS), config.epochs, generator=generator, dtype=torch.float64)
    columns = dict(zip(schema.METRICS, draws.numpy(), strict=True))
    columns |= {name: values**9 for name, values in columns.items() if "loss" in name or "norm" in name}
    metrics = pd.DataFrame({"epoch": range(1, config.epochs + 1), **columns})
    metrics["learning_rate"] *= config.learning_rate
    model = VGG.from_config(config)
    names = weight_names(model)
    history = torch.rand(config.epochs, 2, 3, len(names), generator=generator, dtype=torch.float64)

    def measured(place: int) -> dict[str, Any]:
        row = {name: metrics[name].iloc[place] for name in schema.MEASURED if not name.startswith("test")}
        return {"epoch": place + 1, **row, "test_loss": 0.1, "test_accuracy": 0.125}

    summary = {
        "diverged": False,
        "final": measured(config.epochs - 1),
        "best": measured(int(metrics["validation_accuracy"].argmax())),
        "parameters": count_parameters(model),
        "train_images": 100 * (config.train_images_per_class or 0),
        "wall_seconds": 12.5,
        "images_per_second": 1000.0,
        "data_sha256": "0" * 64,
        "device": "AMD EPYC",
        "threads": 2,
        "versions": {"python": "3.11.7", "torch": "2.13.0+cpu"},
        "commit": "b24ba1675159bfbf6f1a10afa8e9ed0b89cabbb5+changes",
    }
    return Run(config, metrics, to_frame(names, history), part_of_summary(**summary))


def weights_of(config: RunConfig) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return VGG.from_config(config).state_dict()


@pytest.fixture
def paths(tiny: RunConfig, tmp_path: Path) -> RunPaths:
    """A finished run."""
    paths = RunPaths.of(tmp_path, tiny)
    with claim(paths):
        write_run(paths, a_run(tiny), weights_of(tiny))
    return paths


def test_run_is_read_back_exactly(tiny: RunConfig, tmp_path: Path) -> None:
    config = replace(tiny, epochs=1000)
    paths, written, weights = RunPaths.of(tmp_path, config), a_run(config), weights_of(config)
    with claim(paths):
        write_run(paths, written, weights)
    read = read_run(paths.folder)
    assert read.config == config
    pd.testing.assert_frame_equal(read.metrics, written.metrics, check_exact=True)
    pd.testing.assert_frame_equal(read.gradients, written.gradients, check_exact=True)
    found = read_weights(paths)
    assert set(found) == set(weights) and all(torch.equal(found[name], weights[name]) for name in weights)


@pytest.mark.parametrize(
    "file", sorted(ROOT.glob("results/*/*/seed-*/metrics.csv")), ids=lambda f: "-".join(f.parts[-4:-1])
)
def test_committed_numbers_are_read_as_python_reads_them(file: Path) -> None:
    # Python's own float() is exact; the parser of pandas is not by default in all versions.
    with file.open(newline="") as text:
        header, *rows = csv.reader(text)
    metrics = read_run(file.parent).metrics
    assert list(metrics.columns) == header
    assert metrics.astype(float).to_numpy().tolist() == [[float(value) for value in row] for row in rows]


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
    with pytest.raises(ArtifactError, match=r"summary\.json is damaged") as error:
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
        # With a new checksum, too: here the change contradicts metrics.csv.
        (("final", "validation_loss"), 1.5, False),
        (("final", "epoch"), 999, False),
        (("best",), {}, False),
        (("best", "epoch"), 1, False),
        (("diverged",), True, False),
        (("parameters",), 59717, False),
        (("train_images",), 47500, False),
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
    with pytest.raises(ArtifactError, match=rf"summary\.json is damaged \(it knows no {last}") as error:
        read_finished(paths, tiny)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_damaged_weights_stop_only_who_wants_them(keep: float, paths: RunPaths, tiny: RunConfig) -> None:
    file = paths.folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    assert read_finished(paths, tiny) is not None
    with pytest.raises(
        ArtifactError, match=rf"weights: {file} is damaged.*move it aside to .*the run's numbers stand without it"
    ) as error:
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
    # Neither what a process leaves that is killed before it renames the folder of a run, nor a folder among the
    # checkpoints, is a finished run.
    shutil.copytree(paths.folder, paths.folder.parent / ".partial-killed")
    shutil.copytree(paths.folder, paths.checkpoint.parent, dirs_exist_ok=True)
    found = [(run.config.suite, run.config.seed) for run in find_runs(tmp_path)]
    assert found == [("local", 0), ("local", 1), ("other", 0)]
    assert [run.config.suite for run in find_runs(tmp_path, "other")] == ["other"]


def test_run_that_lost_its_summary_is_not_passed_over(paths: RunPaths, tmp_path: Path) -> None:
    (paths.folder.parent / "seed-9").write_text("a file beside the runs")
    with pytest.warns(ArtifactWarning, match="seed-9"):
        assert len(find_runs(tmp_path)) == 1
    (paths.folder / "summary.json").unlink()
    with pytest.raises(ArtifactError, match=r"seed-0/summary\.json is missing"):
        find_runs(tmp_path)


@pytest.mark.parametrize("command", ["list", "table"])
def test_command_shows_an_empty_folder_and_refuses_what_is_none(command: str, call: Call, tmp_path: Path) -> None:
    assert call(command, "--results", str(tmp_path))[0] == 0
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "missing", tmp_path / "file"):
        told = f"vggkit: results: no folder {wrong}; name one that exists by --results\n"
        assert call(command, "--results", str(wrong)) == (2, "", told)


def test_refused_training_prints_one_line_alone_and_names_the_options(call: Call, tmp_path: Path) -> None:
    words = ["train", "vgg08", "--results", str(tmp_path), "--data", str(tmp_path)]
    for wrong, told in (([], "cifar-100-python"), (["--lr", "1"], "--learning-rate"), (["--epoch", "1"], "--epochs")):
        status, out, error = call(*words, *wrong)
        assert (status, out, error.count("\n")) == (2, "", 1)
        assert told in error


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
    bad = Run(run.config, run.metrics, run.gradients, run.summary | {"wall_seconds": float("nan")})
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
        with claim(RunPaths.of(tmp_path, replace(tiny, seed=1))):
            pass
    with claim(paths):
        pass


def test_unwritable_results_folder_is_refused_in_one_line(tiny: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")  # a file in the way, since permissions do not stop root
    with pytest.raises(ArtifactError, match="cannot write") as error, claim(RunPaths.of(tmp_path / "file", tiny)):
        pass
    assert "\n" not in str(error.value)


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
    assert not left_over(tmp_path)
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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of 1 MB."""
    if (
        not hasattr(os, "geteuid")
        or os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("mounting a file system takes root")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def fill(disk: Path, leave: int) -> None:
    free = shutil.disk_usage(disk).free - leave
    (disk / "filling").write_bytes(bytes(free))


def left_over(results: Path) -> list[str]:
    return [path.name for path in results.rglob("*") if "partial" in path.name]


@pytest.mark.parametrize("leave", range(0, 700_000, 50_000))
def test_full_disk_is_told_wherever_it_fills_up(leave: int, small_disk: Path, tiny: RunConfig) -> None:
    paths, failed = RunPaths.of(small_disk, tiny), []
    old, new = ({"config": tiny.to_dict(), "weight": torch.zeros(size)} for size in (10, 60_000))
    with claim(paths):
        write_checkpoint(paths, old)
        fill(small_disk, leave)
        writes: dict[str, Callable[[], object]] = {
            "checkpoint": lambda: write_checkpoint(paths, new),
            "run": lambda: write_run(paths, a_run(tiny), weights_of(tiny)),
        }
        for what, write in writes.items():
            try:
                write()
            except ArtifactError as error:
                assert re.search(r"cannot write .* \(the disk is full: .*\); mend it and call again$", str(error))
                failed.append(what)
            assert left_over(small_disk) == []
    kept = read_checkpoint(paths, tiny, CPU)
    assert kept is not None and len(kept["weight"]) == (10 if "checkpoint" in failed else 60_000)
    assert (read_finished(paths, tiny) is None) == ("run" in failed)
    assert len(failed) == 2 or leave > 0
    assert len(failed) == 0 or leave < 650_000


WRITES: dict[str, Callable[[RunPaths, RunConfig], object]] = {
    "run": lambda paths, tiny: write_run(paths, a_run(tiny), weights_of(tiny)),
    "checkpoint": lambda paths, tiny: write_checkpoint(paths, {"config": tiny.to_dict(), "more": 1}),
}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full: No space left on device"),
        (OSError("[Errno 28] Error writing. Detail: [errno 28] No space left on device"), "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded"),
        (MemoryError(), "not enough memory"),
    ],
)
@pytest.mark.parametrize("what", WRITES)
@pytest.mark.parametrize("call", range(4))
def test_write_that_fails_is_one_line_and_leaves_nothing(
    what: str, call: int, error: Exception, told: str, tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(1000))

    def fail(descriptor: int) -> None:
        if next(calls) == (call if what == "run" else 0):
            raise error

    paths = RunPaths.of(tmp_path, tiny)
    with claim(paths):
        write_checkpoint(paths, {"config": tiny.to_dict()})
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(ArtifactError, match=re.escape(told)) as failed:
            WRITES[what](paths, tiny)
    assert "\n" not in str(failed.value)
    assert left_over(tmp_path) == [] and not paths.folder.exists()
    assert read_checkpoint(paths, tiny, CPU) == {"config": tiny.to_dict()}


def test_writer_that_does_not_say_why_is_asked_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")
    assert "disk is full" not in files.reason(failed, tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=4096)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    assert "disk is full" in files.reason(failed, tmp_path)


# Starts two processes for each configuration: one is killed while it writes the run, one while it writes a checkpoint.
KILLED_WRITERS = """
import json, os, sys
from tests.runs.test_store import RunConfig, RunPaths, a_run, claim, write_checkpoint, write_run
for settings in json.loads(sys.argv[1]):
    config = RunConfig.from_dict(settings)
    paths = RunPaths.of(sys.argv[2], config)
    if os.fork() == 0:
        with claim(paths):
            os.fsync = lambda descriptor: os.kill(os.getpid(), 9)
            if os.fork() == 0:
                write_checkpoint(paths, {})
            os.wait()
            write_run(paths, a_run(config))
    assert os.wait()[1] == 9
"""


@pytest.mark.posix
def test_what_a_killed_process_left_is_removed_by_the_next_one_on_this_run_alone(
    tiny: RunConfig, tmp_path: Path
) -> None:
    configs = [replace(tiny, seed=seed) for seed in (1, 10)]
    call = [sys.executable, "-c", KILLED_WRITERS, json.dumps([config.to_dict() for config in configs]), str(tmp_path)]
    subprocess.run(call, check=True, cwd=ROOT)
    assert sorted(left_over(tmp_path)) == [
        ".partial-checkpoint.pt",
        ".partial-checkpoint.pt",
        ".partial-seed-1",
        ".partial-seed-10",
    ]
    with claim(RunPaths.of(tmp_path, configs[0])):
        assert sorted(left_over(tmp_path)) == [".partial-checkpoint.pt", ".partial-seed-10"]


@pytest.mark.parametrize("broken", ["run", "checkpoint"])
def test_results_folder_is_proved_by_the_call_that_writes(
    broken: str, tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, write = RunPaths.of(tmp_path, tiny), files.write_file

    def refuse(path: Path, content: bytes) -> None:
        if (path.parent == paths.checkpoint.parent) == (broken == "checkpoint"):
            raise PermissionError(errno.EACCES, "Permission denied")
        write(path, content)

    monkeypatch.setattr(files, "write_file", refuse)
    with pytest.raises(ArtifactError, match=r"cannot write .*Permission denied.*choose another folder"), claim(paths):
        raise AssertionError("training would begin")
    monkeypatch.undo()
    with claim(paths):  # the claim that failed does not stand
        pass


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
@pytest.mark.posix
def test_files_and_folders_follow_the_umask(umask: int, tiny: RunConfig, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        paths = RunPaths.of(tmp_path / "results", tiny)
        with claim(paths):
            write_checkpoint(paths, {})
            write_run(paths, a_run(tiny), weights_of(tiny))
    finally:
        os.umask(before)
    made = [tmp_path / "results", *(tmp_path / "results").rglob("*")]
    assert {"weights.safetensors", "lock", "checkpoint.pt"} <= {path.name for path in made}
    for path in made:
        assert stat.S_IMODE(path.stat().st_mode) == (0o777 if path.is_dir() else 0o666) & ~umask, path


@pytest.mark.parametrize("given", [str, Path])
def test_home_folder_is_expanded_where_a_path_enters(
    given: type, tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    paths = RunPaths.of(given("~/results"), tiny)
    with claim(paths):
        write_run(paths, a_run(tiny), weights_of(tiny))
    assert [run.config for run in find_runs(given("~/results"))] == [tiny]
    folder = given(f"~/{paths.folder.relative_to(tmp_path / 'home')}")
    assert read_run(folder).config == tiny
    VGG.from_run(folder)
    assert not (tmp_path / "~").exists()
    with pytest.raises(ConfigError, match="home folder") as error:
        find_runs("~nobody-of-this-name/results")
    assert "\n" not in str(error.value)


def test_copies_and_strangers_are_named_and_left_out(paths: RunPaths, tiny: RunConfig, tmp_path: Path) -> None:
    for copy in ("seed-0.bak", "seed-1", "seed-2", "seed-00", "seed-0 (copy)", "old"):
        shutil.copytree(paths.folder, paths.folder.parent / copy)
    other = RunPaths.of(tmp_path, replace(tiny, suite="table1")).folder
    shutil.copytree(paths.folder, other)
    (paths.folder.parent / "seed-3.bak").mkdir()  # an empty folder is passed over in silence
    with pytest.warns(ArtifactWarning) as told:
        runs = find_runs(tmp_path)
    assert [run.config for run in runs] == [tiny]
    messages = [str(warning.message) for warning in told]
    assert len(messages) == 7 and not any("\n" in message for message in messages)
    for folder in (other, paths.folder.parent / "seed-0.bak", paths.folder.parent / "seed-1"):
        assert sum(message.startswith(f"results: {folder} is left out: ") for message in messages) == 1
    with pytest.warns(ArtifactWarning):
        assert find_runs(tmp_path, "table1") == []


def test_table_passes_over_copies_without_a_traceback(call: Call, tmp_path: Path) -> None:
    results = tmp_path / "results"
    for suite in ("table1", "preview"):
        shutil.copytree(ROOT / f"results/{suite}/vgg08/seed-0", results / suite / "vgg08/seed-0")
    for seed in range(1, 5):
        shutil.copytree(ROOT / "results/table1/vgg08/seed-0", results / f"table1/vgg08/seed-{seed}")
    shutil.copytree(ROOT / "results/preview/vgg38/seed-0", results / "table1/vgg38/seed-0")
    status, out, error = call("table", "--format", "csv", "--results", str(results))
    assert status == 0 and "Traceback" not in error
    assert "table1, 1 seed" in out.replace('"', "") and "5 seeds" not in out


@pytest.mark.parametrize(
    "call",
    ["from vggkit.runs import checkpoints, files, schema, store",
     "from vggkit.runs.store import find_runs; assert len(find_runs('results')) >= 19"],
)  # fmt: skip
def test_artifacts_need_no_torch(call: str) -> None:
    code = (
        f"import sys\n{call}\nprint([m for m in ('torch', 'scipy', 'matplotlib', 'safetensors') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


def test_clone_that_converts_line_ends_has_all_runs_whole(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a clone")
    clone = tmp_path / "clone"
    settings = ["-c", "core.autocrlf=true", "-c", "core.eol=crlf"]  # as Git for Windows has them
    subprocess.run(["git", "clone", "-q", *settings, str(ROOT), str(clone)], check=True, capture_output=True)
    assert b"\r\n" in (clone / "README.md").read_bytes()  # the settings have an effect
    listed = ["git", "ls-files", "results/*/summary.json"]
    committed = subprocess.run(listed, cwd=clone, capture_output=True, text=True, check=True).stdout.split()
    assert len(find_runs(clone / "results")) == len(committed) >= 19


def messages() -> list[str]:
    """Every string in the library's source but docstrings; in an f-string {} stands for each value."""
    found = []
    for file in sorted((ROOT / "vggkit").rglob("*.py")):
        tree = ast.parse(file.read_text())
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
        docs = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented)
                and node.body and isinstance(node.body[0], ast.Expr)}  # fmt: skip
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | inside:
                found.append(node.value)
    return found


def test_no_message_advises_to_delete_what_was_trained() -> None:
    told = messages()
    assert len(told) > 500 and any("restore it from version control" in message for message in told)
    for message in told:
        if re.search(r"\b(delet|eras|discard|wip|rm -)", message, re.I):
            # Images can be downloaded again; results cannot.
            assert message.startswith("data: ") or ("{}" in message and "data" in message), message


def test_damage_is_answered_with_a_place_to_restore_from_and_a_place_to_move_to(
    paths: RunPaths, tiny: RunConfig, tmp_path: Path
) -> None:
    with claim(paths):
        write_checkpoint(paths, {"config": tiny.to_dict()})
    files = ["summary.json", "config.json", "metrics.csv", "gradients.parquet", "weights.safetensors"]
    for file in [*(paths.folder / name for name in files), paths.checkpoint]:
        content = file.read_bytes()
        file.write_bytes(content[:-20])
        with pytest.raises(ArtifactError, match=rf"{re.escape(str(file))} is damaged") as error:
            if file.name == "weights.safetensors":
                read_weights(paths)
            elif file == paths.checkpoint:
                read_checkpoint(paths, tiny, CPU)
            else:
                read_finished(paths, tiny)
        message = str(error.value)
        place = re.search(r"restore it from .*backup, or move (?:it|\S+) aside to ([^\s:]+)", message)
        assert place and "\n" not in message
        file.write_bytes(content)
    # A folder that is moved to the place that the message names is not looked at any more.
    paths.folder.rename(place_aside := paths.folder.parent / ".aside-seed-0")
    assert find_runs(tmp_path) == [] and read_finished(paths, tiny) is None  # without a warning
    assert place_aside.exists()


def test_weights_say_whose_they_are(paths: RunPaths, tiny: RunConfig, tmp_path: Path) -> None:
    with safe_open(paths.folder / "weights.safetensors", "pt") as file:
        card = json.loads(file.metadata()["vggkit"])
    assert RunConfig.from_dict(card["config"]) == tiny
    assert (card["name"], card["dataset"], card["test_accuracy"]) == (tiny.name, "synthetic", 0.125)
    assert card["commit"].startswith("b24ba16")
    alone = shutil.copy(paths.folder / "weights.safetensors", tmp_path / "alone.safetensors")
    for place in (alone, paths.folder, str(paths.folder)):
        model = VGG.from_run(place)
        assert not model.training
        state = model.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in weights_of(tiny).items())


def test_weights_files_are_the_same_bytes_each_time(paths: RunPaths, tiny: RunConfig) -> None:
    packed = {weights.pack(tiny, a_run(tiny).summary, weights_of(tiny)) for _ in range(5)}
    assert packed == {(paths.folder / "weights.safetensors").read_bytes()}


def reseal(folder: Path) -> None:
    """Compute all checksums of a run anew, as somebody would who changes files on purpose."""
    file = folder / "summary.json"
    summary = json.loads(file.read_text())
    summary["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in summary["files"]}
    seal(summary)
    file.write_text(json.dumps(summary))


@pytest.mark.parametrize("change", [{"batch_norm": True}, {"residual": True}, {"depth": 14}, {"seed": 1}])
@pytest.mark.parametrize("with_card", [True, False])
def test_weights_of_another_network_are_refused_in_one_line(
    with_card: bool, change: dict[str, Any], paths: RunPaths, tiny: RunConfig
) -> None:
    other = RunConfig.from_dict(tiny.to_dict() | change)
    tensors = weights_of(other)
    content = weights.pack(other, a_run(other).summary, tensors) if with_card else save(tensors)
    (paths.folder / "weights.safetensors").write_bytes(content)
    reseal(paths.folder)
    if not with_card and set(tensors) == set(weights_of(tiny)):
        VGG.from_run(paths.folder)  # without a card, only shapes can tell networks apart
        return
    for load in (lambda: VGG.from_run(paths.folder), lambda: read_weights(paths)):
        with pytest.raises(ArtifactError, match="another") as error:
            load()
        assert "\n" not in str(error.value)


def test_old_weights_without_a_card_load_through_their_run(paths: RunPaths, tiny: RunConfig, tmp_path: Path) -> None:
    (paths.folder / "weights.safetensors").write_bytes(save(weights_of(tiny)))
    reseal(paths.folder)
    assert torch.equal(VGG.from_run(paths.folder).classifier.bias, weights_of(tiny)["classifier.bias"])
    alone = shutil.copy(paths.folder / "weights.safetensors", tmp_path / "alone.safetensors")
    with pytest.raises(ArtifactError, match="does not say which network"):
        VGG.from_run(alone)


def test_readme_names_the_committed_weights_and_loads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text()
    snippet = next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "from_run" in block)
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    exec(snippet, names)
    assert names["model"](torch.zeros(2, 3, 32, 32)).shape == (2, 100)
    sentence = re.search(r"[^.]*weights[^.]* lie beside [^.]*\.", text, re.S)
    assert sentence
    named = set(re.findall(r"`(vgg\w+(?:-\w+)?)`", sentence[0]))
    assert named == {file.parts[-3] for file in ROOT.glob("results/table1/*/seed-0/weights.safetensors")}


@pytest.mark.parametrize("name", [*CONFIGURATIONS, "vgg14"])
def test_shapes_are_those_of_the_network(name: str) -> None:
    config = RunConfig(depth=14, batch_norm=False) if name == "vgg14" else RunConfig.named(name)
    shapes = {name: tuple(p.shape) for name, p in VGG.from_config(config).named_parameters()}
    assert list(schema.parameter_shapes(config).items()) == list(shapes.items())


def test_checkpoint_cannot_run_code(tiny: RunConfig, tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()  # the trap works
    paths = RunPaths.of(tmp_path, tiny)
    with claim(paths):
        write_checkpoint(paths, {"config": tiny.to_dict(), "model": Trap(tmp_path / "trace")})
    with pytest.raises(ArtifactError, match="is damaged"):
        read_checkpoint(paths, tiny, CPU)
    assert not (tmp_path / "trace").exists()


def test_what_cannot_be_read_is_told_and_not_passed_over(paths: RunPaths, tmp_path: Path) -> None:
    # Root may read every folder, so a failing system call stands in for missing permission.
    read = Path.iterdir
    for locked in (tmp_path, paths.folder.parent.parent, paths.folder.parent):
        with pytest.MonkeyPatch.context() as patch:

            def refuse(folder: Path, locked: Path = locked) -> Any:
                if folder == locked:
                    raise PermissionError(13, "Permission denied")
                return read(folder)

            patch.setattr(Path, "iterdir", refuse)
            with pytest.raises(ArtifactError, match=f"results: {locked} cannot be read .*Permission denied") as error:
                find_runs(tmp_path)
            assert "\n" not in str(error.value)


def test_file_or_dangling_link_in_a_runs_place_is_named(paths: RunPaths, tmp_path: Path) -> None:
    (paths.folder.parent / "seed-7").write_text("no folder")
    (paths.folder.parent / "seed-8").symlink_to(tmp_path / "nowhere")
    with pytest.warns(ArtifactWarning) as told:
        assert [run.config.seed for run in find_runs(tmp_path)] == [0]
    assert sorted(Path(str(one.message).split()[1]).name for one in told) == ["seed-7", "seed-8"]


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(36, "File name too long")])
def test_path_that_cannot_be_looked_up_is_one_line(
    error: OSError, paths: RunPaths, tiny: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **settings: Any) -> Any:
        raise error

    monkeypatch.setattr(Path, "stat", refuse)
    for look in (
        lambda: read_finished(paths, tiny),
        lambda: read_checkpoint(paths, tiny, CPU),
        lambda: store.load_weights(paths.folder),
    ):
        with pytest.raises(ConfigError, match=f"cannot be looked up .{error.strerror}") as told:
            look()
        assert "\n" not in str(told.value)
