"""Where one run's files lie, who holds them, and how a file is written: whole, or not at all.

Every file of a run, and every checkpoint, goes through `write_file`; a results folder is proved writable
by that same function before anything is trained.
"""

import errno
import glob
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vggkit.config import OneLineError, RunConfig
from vggkit.folders import results_folder
from vggkit.runs.schema import FORMAT

ABANDONED = 86_400  # seconds after its last change that a half-written file has nobody who writes it
ROOM = 2**20  # bytes: with less room than this a write that failed without a reason failed for want of room


class ArtifactError(OneLineError):
    """A run's files are damaged, in use, of another configuration, or cannot be written."""


WORKING = ".checkpoints"
"""Folder of a results folder for what is under way: checkpoints and locks."""


class InUseError(ArtifactError):
    """Another process is training the run of this folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"results: another process is training {folder}; wait for it")
        self.folder = folder


@dataclass(frozen=True)
class RunPaths:
    """Where one run's files lie under a results folder."""

    folder: Path
    checkpoint: Path
    lock: Path

    @classmethod
    def of(cls, results: str | os.PathLike[str] | None, config: RunConfig) -> "RunPaths":
        """The paths of `config` under `results`, which `folders.results_folder` reads."""
        root, place = results_folder(results), Path(*place_of(config))
        working = root / WORKING / place
        return cls(root / place, working / "checkpoint.pt", working / "lock")

    @property
    def partial(self) -> Path:
        """The run's folder while it is being written; its name does not depend on who writes it."""
        return self.folder.with_name(f".partial-{self.folder.name}")


def place_of(config: RunConfig) -> tuple[str, str, str]:
    """Suite, name and seed: the one place under a results folder where a run of `config` counts."""
    return config.suite, config.name, f"seed-{config.seed}"


def begun(results: Path) -> list[tuple[str, str, str]]:
    """Suite, name and seed of each run that has a checkpoint and is not finished."""
    places = sorted(
        file.parent.relative_to(results / WORKING).parts for file in results.glob(f"{WORKING}/*/*/*/checkpoint.pt")
    )
    return [
        (suite, name, folder)
        for suite, name, folder in places
        if seed_of(folder) is not None and not (results / suite / name / folder).is_dir()
    ]


@contextmanager
def hold(lock: Path, what: Path) -> Iterator[None]:
    """Hold `what` for this process alone by a lock file; the system lets go of it when the process ends.

    Raises:
        InUseError: another process holds it.
        ArtifactError: the lock file cannot be written.
    """
    from filelock import FileLock, Timeout  # slow to import, and wanted by those alone who train

    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
        mode = stat.S_IMODE(lock.stat().st_mode)  # else older versions of filelock pass over the umask
        held = FileLock(lock, timeout=0, mode=mode)
        held.acquire()
    except Timeout:
        raise InUseError(what) from None
    except OSError as error:
        raise cannot_write(what, error, "choose another folder") from None
    try:
        yield
    finally:
        held.release()


@contextmanager
def claim(paths: RunPaths) -> Iterator[None]:
    """Hold the run for this process alone, see `hold`.

    What a killed process left half written of this run is removed, and then it is proved that both
    folders can be written.

    Raises:
        InUseError: another process holds the run.
        ArtifactError: the results folder cannot be written.
    """
    try:
        paths.folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(paths.folder, error, "choose another folder") from None
    with hold(paths.lock, paths.folder):
        _prove_writable(paths)
        yield


def _prove_writable(paths: RunPaths) -> None:
    trial = partial_file(paths.checkpoint)
    try:
        clear(paths.partial)
        paths.partial.mkdir()
        for file in (paths.partial / "summary.json", trial):
            write_file(file, b"{}")
    except OSError as error:
        raise cannot_write(paths.folder, error, "choose another folder") from None
    finally:
        clear(paths.partial)
        clear(trial)


def write_file(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk. Raises OSError."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: bytes, partial: Path | None = None) -> None:
    """Write or replace a file in one step: a killed process leaves the old one or the new one. Raises OSError.

    Who holds the file alone may name the `partial` file that is written first; else it is one of this call alone.
    """
    partial = partial or own_partial_file(path)
    try:
        write_file(partial, content)
        partial.replace(path)
    except BaseException:
        clear(partial)
        raise


def keep_file(path: Path, content: bytes, field: str = "results") -> None:
    """Write or replace a file in one step, in a folder that is there: `make_folder` makes it.

    Raises:
        ArtifactError: it cannot be written; the message names `field`.
    """
    try:
        replace_file(path, content)
    except OSError as error:
        raise cannot_write(path, error, field=field) from error


def sha256(content: bytes) -> str:
    """The checksum that artefacts record of a file's content, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def check_writable(field: str, path: Path) -> None:
    """Raise ArtifactError, which names `field`, unless a file can be written at `path`."""
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Is a directory")
    except OSError as error:
        raise cannot_write(path, error, "name a file in a folder that is there", field=field) from error


def seed_of(name: str) -> int | None:
    """The seed that a file or folder named seed-0, seed-1, ... is of; None for other names, such as seed-00."""
    found = re.fullmatch(r"seed-(0|[1-9]\d*)", name, re.ASCII)
    return int(found[1]) if found else None


def partial_file(path: Path) -> Path:
    """Where the holder of `path` writes it before it is renamed: hidden, and another file for each name."""
    return path.with_name(f".partial-{path.name}")


def own_partial_file(path: Path) -> Path:
    """As `partial_file`, for those who hold no lock: another file in each call, so that none takes another's away.

    What killed processes left of the same file is removed, once it is as old as no write takes.
    """
    for left in path.parent.glob(f".partial-{glob.escape(path.name)}.*"):
        with suppress(OSError):
            if re.fullmatch(r"\.[0-9a-f]{16}", left.name.removeprefix(f".partial-{path.name}")) and (
                time.time() - left.stat().st_mtime > ABANDONED
            ):
                left.unlink()
    return path.with_name(f".partial-{path.name}.{secrets.token_hex(8)}")


def clear(path: Path) -> None:
    """Remove a half-written file or folder, as far as the system lets us."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink(missing_ok=True)


def make_folder(field: str, folder: Path) -> None:
    """Make `folder` where it is missing.

    Raises:
        ArtifactError: it cannot be made; the message names `field`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error, "name a folder that can be made", field=field) from error


def cannot_write(
    path: Path, error: BaseException, remedy: str = "mend it and call again", *, field: str = "results"
) -> ArtifactError:
    """One line on a write to `path` that failed, which says so where the disk is full. Call it before tidying up."""
    return ArtifactError(f"{field}: cannot write {path} ({reason(error, path.parent)}); {remedy}")


def reason(error: BaseException, folder: Path | None = None) -> str:
    """Why reading or writing failed, in one line.

    Of a write give the `folder`: libraries that do not pass on that the disk is full are found out by its free space.
    """
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, KeyError):
        return f"it has no {error}"
    words = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
    code = getattr(error, "errno", None)
    full = code == errno.ENOSPC or bool(re.search(r"no space left|os error 28", str(error), re.I))
    if folder and not full and code is None:
        with suppress(OSError):
            full = shutil.disk_usage(folder).free < ROOM
    return f"the disk is full: {words}" if full else words


def aside(path: Path) -> Path:
    """Where a damaged file or folder may be moved: beside it, under a name that no command takes for a run's."""
    return path.with_name(f".aside-{path.name}")


def check_format(content: object, place: Path, field: str = "results") -> None:
    """Raise ArtifactError where `content` is of a format that this version does not know."""
    found = content.get("format", 1) if isinstance(content, dict) else 1
    if isinstance(found, int) and found > FORMAT:
        raise ArtifactError(
            f"{field}: {place} is of format {found}, this vggkit knows formats up to {FORMAT}; use the version that "
            "wrote it, or a newer one"
        )


def check_same(found: RunConfig, wanted: RunConfig, place: Path) -> None:
    """Raise ArtifactError, naming the fields that differ, unless both are the same configuration."""
    old, new = found.to_dict(), wanted.to_dict()
    different = [f"{name} {old[name]!r}, not {new[name]!r}" for name in old if old[name] != new[name]]
    if different:
        raise ArtifactError(
            f"results: {place} holds a run of another configuration ({'; '.join(different)}); "
            "give its settings, or choose another suite or results folder"
        )
