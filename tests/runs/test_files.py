"""How files are written: whole and on the disk, or not at all, whoever is killed and however full the disk is."""

import errno
import json
import os
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

from tests.runs.made import a_run, weights_of
from tests.shared import CPU, ROOT
from vggkit.config import RunConfig
from vggkit.runs import files
from vggkit.runs.checkpoints import read_checkpoint, write_checkpoint
from vggkit.runs.files import ArtifactError, RunPaths, claim
from vggkit.runs.store import find_runs, read_finished, write_run
from vggkit.training.runner import train

WRITES: dict[str, Callable[[RunPaths, RunConfig], object]] = {
    "run": lambda paths, tiny: write_run(paths, a_run(tiny), weights_of(tiny)),
    "checkpoint": lambda paths, tiny: write_checkpoint(paths, {"config": tiny.to_dict(), "more": 1}),
}


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


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    """The inodes of all files that have been brought to the disk."""
    inodes: set[int] = set()
    real = os.fsync

    def fsync(file: int) -> None:
        real(file)
        inodes.add(os.fstat(file).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    yield inodes


def test_every_file_of_a_run_is_on_the_disk_before_the_run_is_there(
    tiny: RunConfig, tmp_path: Path, synced: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = RunPaths.of(tmp_path, tiny)
    before: list[set[int]] = []
    real = os.rename

    def rename(source: Any, target: Any, **more: Any) -> None:
        if Path(target) == paths.folder:
            before.append(set(synced))
        real(source, target, **more)

    monkeypatch.setattr(os, "rename", rename)
    train(tiny, results=tmp_path)
    assert len(before) == 1
    assert {file.stat().st_ino for file in paths.folder.iterdir()} <= before[0]


def test_two_that_write_one_file_do_not_end_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, write = tmp_path / "kept.json", files.write_file

    def interrupted(path: Path, content: bytes) -> None:
        write(path, content)
        monkeypatch.setattr(files, "write_file", write)
        files.replace_file(file, b"second")  # all of it while the first stands before its last step

    monkeypatch.setattr(files, "write_file", interrupted)
    files.keep_file(file, b"first")
    assert file.read_bytes() == b"first" and list(tmp_path.iterdir()) == [file]


def test_what_killed_writers_left_is_removed_once_it_is_old(tmp_path: Path) -> None:
    file, other = tmp_path / "kept.json", tmp_path / "kept.json.more"
    new, old, others = (files.own_partial_file(path) for path in (file, file, other))
    for path in (new, old, others):
        path.write_bytes(b"half")
    for path in (old, others):
        os.utime(path, (0, 0))
    files.keep_file(file, b"whole")
    assert set(tmp_path.iterdir()) == {file, new, others}


@pytest.mark.parametrize("umask", [0o022, 0o077])
@pytest.mark.posix
def test_file_that_is_kept_follows_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        files.keep_file(tmp_path / "kept.json", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "kept.json").stat().st_mode) == 0o666 & ~umask


def test_checkpoint_is_on_the_disk(tiny: RunConfig, tmp_path: Path, synced: set[int]) -> None:
    paths = RunPaths.of(tmp_path, tiny)
    with claim(paths):
        write_checkpoint(paths, {"config": tiny.to_dict(), "weight": torch.rand(3)})
    assert paths.checkpoint.stat().st_ino in synced
