"""What a run leaves, and how it is read back.

    results/<suite>/<name>/seed-<n>/
        config.json        the full configuration
        metrics.csv        a row for each epoch
        gradients.parquet  a row for each epoch, weight tensor and kind of average (see `gradients`)
        summary.json       final and best metrics, speed, machine, versions, checksums
        weights.safetensors  the network after the last epoch (committed for seed 0 only)
    results/.checkpoints/<suite>/<name>/seed-<n>/
        checkpoint.pt      the last finished epoch of a run under way
        lock               held while a process trains the run

A finished run's folder appears in one step, by renaming, and `summary.json` holds the checksum of
every other file and of its own content: a half-written or damaged run is never taken for a finished
one.
"""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from filelock import FileLock, Timeout

from vggkit.config import ConfigError, OneLineError, RunConfig

if TYPE_CHECKING:  # importing torch takes seconds, which reading runs does not need
    import torch

WEIGHTS = "weights.safetensors"
REQUIRED = {"config.json", "metrics.csv", "gradients.parquet"}
MEASURED = [f"{split}_{metric}" for split in ("train", "validation", "test") for metric in ("loss", "accuracy")]
SUMMARY = {
    "diverged", "final", "best", "parameters", "train_images", "wall_seconds", "images_per_second",
    "data_sha256", "device", "threads", "versions", "commit", "files",
}  # fmt: skip
OWN_SUM = "summary_sha256"


class ArtifactError(OneLineError):
    """A run's files are damaged, in use, of another configuration, or cannot be written."""


@dataclass(frozen=True)
class Run:
    """A finished run."""

    config: RunConfig
    metrics: pd.DataFrame
    gradients: pd.DataFrame
    summary: dict[str, Any]


@dataclass(frozen=True)
class RunPaths:
    """Where one run's files lie under a results folder."""

    folder: Path
    checkpoint: Path
    lock: Path

    @classmethod
    def of(cls, results: str | os.PathLike[str], config: RunConfig) -> "RunPaths":
        place = Path(config.suite, config.name, f"seed-{config.seed}")
        working = Path(results, ".checkpoints", place)
        return cls(Path(results, place), working / "checkpoint.pt", working / "lock")


@contextmanager
def claim(paths: RunPaths) -> Iterator[None]:
    """Hold the run for this process alone; the system lets go of it when the process ends.

    Raises:
        ArtifactError: another process holds it, or the results folder cannot be written.
    """
    lock = FileLock(paths.lock, timeout=0)
    try:
        paths.folder.parent.mkdir(parents=True, exist_ok=True)
        paths.lock.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=paths.folder.parent):
            pass
        lock.acquire()
    except Timeout:
        raise ArtifactError(f"results: another process is training {paths.folder}; wait for it") from None
    except OSError as error:
        raise ArtifactError(f"results: cannot write {paths.folder} ({error.strerror}); choose another folder") from None
    try:
        yield
    finally:
        lock.release()


def write_run(paths: RunPaths, run: Run, weights: "Mapping[str, torch.Tensor] | None" = None) -> Run:
    """Write a finished run, with the network's weights, in one step; return it with its checksums.

    Raises:
        ArtifactError: the files cannot be written; the run's checkpoint is untouched.
    """
    try:
        return _write_run(paths, run, weights)
    except OSError as error:
        reason = error.strerror or error
        raise ArtifactError(f"results: cannot write {paths.folder} ({reason}); mend it and call again") from error


def _write_run(paths: RunPaths, run: Run, weights: "Mapping[str, torch.Tensor] | None") -> Run:
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=paths.folder.parent))
    try:
        _write_json(partial / "config.json", run.config.to_dict())
        run.metrics.to_csv(partial / "metrics.csv", index=False)
        run.gradients.to_parquet(partial / "gradients.parquet", compression="zstd", index=False)
        if weights:
            from safetensors.torch import save_file

            save_file({name: tensor.contiguous().cpu() for name, tensor in weights.items()}, partial / WEIGHTS)
        files = {path.name: _sha256(path) for path in sorted(partial.iterdir())}
        summary = run.summary | {"files": files}
        summary[OWN_SUM] = _summary_sha256(summary)
        _write_json(partial / "summary.json", summary)
        for path in partial.iterdir():
            path.chmod(0o644)
            _sync(path)
        partial.chmod(0o755)  # mkdtemp makes it private, safetensors its file
        partial.rename(paths.folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Run(run.config, run.metrics, run.gradients, summary)


def read_run(folder: Path) -> Run:
    """Read a finished run.

    Raises:
        ArtifactError: a file other than the weights is missing, damaged, or not what the summary says.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text())
        if missing := (SUMMARY - set(summary)) | (REQUIRED - set(summary.get("files", REQUIRED))):
            raise ValueError(f"summary.json knows no {', '.join(sorted(missing))}")
        for name, sha256 in summary["files"].items():
            if name != WEIGHTS and _sha256(folder / name) != sha256:  # the numbers stand without the weights
                raise ArtifactError(
                    f"results: {folder / name} is damaged; restore it, or delete {folder} to train anew"
                )
        config = RunConfig.from_dict(json.loads((folder / "config.json").read_text()))
        metrics = pd.read_csv(folder / "metrics.csv")
        gradients = pd.read_parquet(folder / "gradients.parquet")
        _check_summary(summary, metrics)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(
            f"results: {folder} cannot be read ({reason}); restore it, or delete it to train anew"
        ) from error
    return Run(config, metrics, gradients, summary)


def _check_summary(summary: dict[str, Any], metrics: pd.DataFrame) -> None:
    """Raise ValueError unless the summary is as it was written and repeats its epochs' rows of metrics.csv."""
    if summary.get(OWN_SUM) != _summary_sha256(summary):
        raise ValueError("summary.json is damaged")
    rows = metrics.set_index("epoch")
    for which in ("final", "best"):
        values = summary[which]
        if values is None and which == "best":  # a run that diverged in its first epoch has none
            continue
        if missing := {"epoch", *MEASURED} - set(values):
            raise ValueError(f"summary.json knows no {', '.join(sorted(missing))} of its {which} epoch")
        epoch = values["epoch"]
        if epoch not in rows.index or (which == "final" and epoch != rows.index[-1]):
            raise ValueError(f"summary.json has epoch {epoch} as {which}, unlike metrics.csv")
        for name in rows.columns.intersection(MEASURED):
            recorded = float(rows.loc[epoch, name])
            if values[name] != (recorded if math.isfinite(recorded) else None):
                raise ValueError(f"summary.json has {which} {name} {values[name]}, metrics.csv {recorded}")


def read_finished(paths: RunPaths, config: RunConfig) -> Run | None:
    """The finished run of this configuration, or None where there is none.

    Raises:
        ArtifactError: it is damaged, or the folder holds a run of another configuration.
    """
    if not paths.folder.exists():
        return None
    run = read_run(paths.folder)
    check_same(run.config, config, paths.folder)
    return run


def read_weights(paths: RunPaths) -> "dict[str, torch.Tensor]":
    """The network after the last epoch of a finished run, for `load_state_dict`.

    Raises:
        ArtifactError: the run left no weights, or they are damaged.
    """
    from safetensors.torch import load_file

    file = paths.folder / WEIGHTS
    if not file.exists():
        raise ArtifactError(f"weights: {paths.folder} holds no {WEIGHTS}; train the run anew in another results folder")
    if _sha256(file) != read_run(paths.folder).summary["files"].get(WEIGHTS):
        raise ArtifactError(
            f"weights: {file} is damaged; restore it, or delete this file alone: the run's numbers stand without it"
        )
    return load_file(file)


def make_folder(field: str, folder: Path) -> None:
    """Make `folder` where it is missing.

    Raises:
        ArtifactError: it cannot be made; the message names `field`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"{field}: cannot make folder {folder} ({error.strerror})") from error


def check_same(found: RunConfig, wanted: RunConfig, place: Path) -> None:
    """Raise ArtifactError, naming the fields that differ, unless both are the same configuration."""
    old, new = found.to_dict(), wanted.to_dict()
    different = [f"{name} {old[name]!r}, not {new[name]!r}" for name in old if old[name] != new[name]]
    if different:
        raise ArtifactError(
            f"results: {place} holds a run of another configuration ({'; '.join(different)}); "
            "give its settings, or choose another suite or results folder"
        )


def find_runs(results: str | os.PathLike[str], suite: str | None = None) -> list[Run]:
    """All finished runs, of one suite or of all, by suite, name and seed.

    Raises:
        ArtifactError: as `read_run`, also for a run's folder that lost its summary.
    """
    folders = sorted(path for path in Path(results).glob(f"{suite or '*'}/*/seed-*") if path.is_dir())
    return [read_run(folder) for folder in folders if not any(part.startswith(".") for part in folder.parts[-3:])]


def write_checkpoint(paths: RunPaths, state: dict[str, Any]) -> None:
    """Replace the checkpoint in one step: a killed process leaves the old one or the new one.

    Raises:
        ArtifactError: it cannot be written; the old one is still there.
    """
    import torch

    partial = paths.checkpoint.with_suffix(".partial")
    try:
        torch.save(state, partial)
        _sync(partial)
        partial.replace(paths.checkpoint)
    except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError where the disk is full
        reason = str(error).splitlines()[0]
        raise ArtifactError(
            f"checkpoint: cannot write {paths.checkpoint} ({reason}); mend it and call again"
        ) from error


def read_checkpoint(paths: RunPaths, config: RunConfig, device: "torch.device") -> dict[str, Any] | None:
    """The state of an unfinished run, or None where there is none.

    Raises:
        ArtifactError: it is damaged or of another configuration.
    """
    if not paths.checkpoint.exists():
        return None
    import torch

    try:
        state = torch.load(paths.checkpoint, map_location=device, weights_only=True)
        found = RunConfig.from_dict(state["config"])
    except ConfigError:
        raise ArtifactError(f"checkpoint: {paths.checkpoint} is of another version; delete it to start anew") from None
    except Exception as error:  # torch.load documents no exceptions: zip, pickle and runtime errors all occur
        raise ArtifactError(f"checkpoint: {paths.checkpoint} is damaged; delete it to start anew") from error
    check_same(found, config, paths.checkpoint)
    return state


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def _summary_sha256(summary: dict[str, Any]) -> str:
    """Checksum of a summary's content without the checksum itself, whatever the file's layout."""
    content = {name: value for name, value in summary.items() if name != OWN_SUM}
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
