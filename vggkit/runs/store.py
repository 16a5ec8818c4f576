"""What a run leaves, and how it is read back.

    results/<suite>/<name>/seed-<n>/
        config.json        the full configuration
        metrics.csv        a row for each epoch
        gradients.parquet  a row for each epoch, weight tensor and kind of average (see `training.gradients`)
        signal.parquet     a row for each epoch and layer: how much of what it is given differs between images
        summary.json       final and best metrics, speed, machine, versions, segments, checksums
        weights.safetensors  the network after the last epoch, with its configuration and a short model card
    results/.checkpoints/<suite>/<name>/seed-<n>/
        checkpoint.pt      the last finished epoch of a run under way
        lock               held while a process trains the run

A finished run's folder appears in one step, by renaming, and `summary.json` holds the checksum of
every other file and of its own content: a half-written or damaged run is never taken for a finished
one. What the files may hold is in `schema`. A folder counts only where it is the place of its own
configuration, so that a copy is never taken for another seed.
"""

import csv
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggkit.config import RunConfig
from vggkit.folders import Given, exists, expanded, results_folder
from vggkit.runs import schema
from vggkit.runs.files import (
    ArtifactError,
    RunPaths,
    aside,
    cannot_write,
    check_format,
    check_same,
    clear,
    place_of,
    reason,
    seed_of,
    sha256,
    write_file,
)
from vggkit.runs.records import Run
from vggkit.runs.weights import check_network, pack, unpack

if TYPE_CHECKING:
    import pandas as pd
    import torch

SUMMARY = "summary.json"
WEIGHTS = "weights.safetensors"
SIGNAL = "signal.parquet"
REQUIRED = {"config.json", "metrics.csv", "gradients.parquet"}
OWN_SUM = "summary_sha256"


class ArtifactWarning(UserWarning):
    """Something in a results folder was left out or left over; nothing that counts is affected."""


def write_run(paths: RunPaths, run: Run, weights: Mapping[str, "torch.Tensor"] | None = None) -> Run:
    """Write a finished run, with the network's weights, in one step; return it with its checksums.

    Raises:
        ArtifactError: the files cannot be written; the run's checkpoint is untouched.
    """
    partial = paths.partial
    try:
        files = {
            "config.json": _json(run.config.to_dict()),
            "metrics.csv": run.metrics.to_csv(index=False, lineterminator="\n").encode(),
            "gradients.parquet": run.gradients.to_parquet(compression="zstd", index=False),
        }
        if run.signal is not None:
            files[SIGNAL] = run.signal.to_parquet(compression="zstd", index=False)
        if weights:
            files[WEIGHTS] = pack(run.config, run.summary, weights)
        summary = run.summary.copy()
        summary["format"] = schema.FORMAT
        summary["files"] = {name: sha256(content) for name, content in sorted(files.items())}
        summary["summary_sha256"] = _summary_sha256(summary)
        clear(partial)  # of a killed process
        partial.mkdir(parents=True)
        for name, content in {**files, SUMMARY: _json(summary)}.items():
            write_file(partial / name, content)
        partial.rename(paths.folder)
    except (OSError, MemoryError) as error:
        failed = cannot_write(paths.folder, error)  # while the disk is as full as it was
        clear(partial)
        raise failed from error
    except BaseException:
        clear(partial)
        raise
    return replace(run, summary=summary)


def read_run(folder: str | os.PathLike[str]) -> Run:
    """Read a finished run.

    Raises:
        ArtifactError: a file other than the weights is missing, damaged, or not what the summary says, or
            holds what no run of its configuration can.
    """
    folder = expanded("folder", folder)
    with _blaming(folder / SUMMARY):
        content = _parsed((folder / SUMMARY).read_bytes())
        check_format(content, folder / SUMMARY)
        if isinstance(content, dict) and OWN_SUM in content and content[OWN_SUM] != _summary_sha256(content):
            raise ValueError("its checksum differs")
        summary = schema.check_summary(content)
        schema.check_record(SUMMARY, summary, {OWN_SUM: schema.SHA256})
        if missing := REQUIRED - set(summary["files"]):
            raise ValueError(f"it knows no {', '.join(sorted(missing))}")
    contents = {}
    for name, checksum in summary["files"].items():
        if name != WEIGHTS:  # the numbers stand without the weights
            with _blaming(folder / name):
                contents[name] = (folder / name).read_bytes()
                if sha256(contents[name]) != checksum:
                    raise ValueError("its checksum differs")
    with _blaming(folder / "config.json"):
        config = RunConfig.from_dict(_parsed(contents["config.json"]))
    with _blaming(folder / "metrics.csv"):
        metrics = _metrics(contents["metrics.csv"].decode())
        schema.check_metrics(metrics, config)
    with _blaming(folder / "gradients.parquet"):
        gradients = _table(contents["gradients.parquet"])
        schema.check_gradients(gradients, config, metrics)
    signal = None
    if SIGNAL in contents:
        with _blaming(folder / SIGNAL):
            signal = _table(contents[SIGNAL])
            schema.check_signal(signal, config, metrics)
    with _blaming(folder / SUMMARY):
        schema.check_whole(summary, config, metrics)
    return Run(config, metrics, gradients, summary, signal)


def _table(content: bytes) -> "pd.DataFrame":
    """The table in a parquet file, read by this thread alone: pyarrow's own can abort a process that ends meanwhile.

    By pyarrow itself, since `pandas.read_parquet` takes nearly twice as long for a table as small as these.
    """
    from pyarrow.parquet import ParquetFile

    return ParquetFile(BytesIO(content)).read(use_threads=False).to_pandas(use_threads=False)


def _metrics(text: str) -> "pd.DataFrame":
    """The table, each number exactly as it was written, which pandas' own parser does not do in every version."""
    import pandas as pd

    header, *rows = csv.reader(text.splitlines())
    if header != list(schema.METRIC_TYPES) or any(len(row) != len(header) for row in rows):
        raise ValueError(f"its columns must be {', '.join(schema.METRIC_TYPES)}")
    read: dict[str, Callable[[str], float]] = {"int64": int, "float64": lambda number: float(number or "nan")}
    columns = zip(schema.METRIC_TYPES.items(), zip(*rows, strict=True), strict=True) if rows else ()
    return pd.DataFrame({name: pd.Series(map(read[kind], values), dtype=kind) for (name, kind), values in columns})


@contextmanager
def _blaming(file: Path) -> Iterator[None]:
    """Turn whatever goes wrong with reading `file` into one line about that file alone."""
    remedy = (
        f"restore it from version control or a backup, or move {file.parent} aside to {aside(file.parent)} and train "
        "the run anew"
    )
    try:
        yield
    except ArtifactError:
        raise
    except FileNotFoundError as error:
        # A run under way has no folder here yet; see `write_run`.
        lost = ", without which no run is finished: it was lost, or not copied" if file.name == SUMMARY else ""
        raise ArtifactError(f"results: {file} is missing{lost}; {remedy}") from error
    except (OSError, MemoryError) as error:
        if getattr(error, "errno", None) is None and not isinstance(error, MemoryError):  # pyarrow's, of the content
            raise ArtifactError(f"results: {file} is damaged ({reason(error)}); {remedy}") from error
        raise ArtifactError(f"results: {file} cannot be read ({reason(error)}); mend it and call again") from error
    except Exception as error:  # pandas, pyarrow and json document no exceptions for content of every kind
        raise ArtifactError(f"results: {file} is damaged ({reason(error)}); {remedy}") from error


def read_finished(paths: RunPaths, config: RunConfig) -> Run | None:
    """The finished run of this configuration, or None where there is none.

    Raises:
        ArtifactError: it is damaged, or the folder holds a run of another configuration.
    """
    if not exists("results", paths.folder):
        return None
    run = read_run(paths.folder)
    check_same(run.config, config, paths.folder)
    return run


def read_weights(paths: RunPaths) -> dict[str, "torch.Tensor"]:
    """The network after the last epoch of a finished run, for `load_state_dict`; see `networks.vgg.VGG.from_run`.

    Raises:
        ArtifactError: the run left no weights, or they are damaged or of another network.
    """
    return load_weights(paths.folder)[1]


def load_weights(place: str | os.PathLike[str]) -> tuple[RunConfig, dict[str, "torch.Tensor"]]:
    """The configuration and the tensors of a run's network after the last epoch; `networks.vgg.VGG.from_run` builds it.

    Args:
        place: the run's folder, or a weights file alone, which then says itself which network it is of.

    Raises:
        ArtifactError: the run left no weights, or they are damaged or of another network.
    """
    place = expanded("weights", place)
    alone = exists("weights", place) and place.is_file()
    file = place if alone else place / WEIGHTS
    if not exists("weights", file):
        raise ArtifactError(f"weights: there is no {file}; train the run in another results folder to have them")
    remedy = f"restore it from version control or a backup, or move it aside to {aside(file)}"
    run = None if alone else read_run(place)
    try:
        content = file.read_bytes()
        if run and sha256(content) != run.summary["files"].get(WEIGHTS):
            raise ValueError("its checksum differs")
        config, tensors = unpack(file, content)
    except ArtifactError:
        raise
    except (OSError, MemoryError) as error:
        raise ArtifactError(f"weights: {file} cannot be read ({reason(error)}); mend it and call again") from error
    except Exception as error:  # of safetensors' own kinds too
        raise ArtifactError(
            f"weights: {file} is damaged ({reason(error)}); {remedy}: the run's numbers stand without it"
        ) from error
    if config and run:
        check_same(config, run.config, file)
    config = config or (run.config if run else None)
    if config is None:
        raise ArtifactError(f"weights: {file} does not say which network it is of; give the folder of its run")
    check_network(file, config, tensors)
    return config, tensors


def find_runs(
    results: Given = None, suite: str | None = None, damaged: Callable[[ArtifactError], object] | None = None
) -> list[Run]:
    """All finished runs, of one suite or of all, by suite, name and seed; (suite, name, seed) never twice.

    A folder that is not the place of its own configuration, such as a copy, is left out with an ArtifactWarning.

    Args:
        results: folder of results.
        suite: that of the runs; by default all.
        damaged: is given what `read_run` raises of a run, which is then left out; by default it is raised, since
            numbers made of the other runs would be other numbers.

    Raises:
        ArtifactError: as `read_run`, also for a run's folder that lost its summary, unless `damaged` takes it.
    """
    root = results_folder(results)
    suites = [root / suite] if suite else _listed(root)
    runs = []
    for folder in (folder for group in suites for name in _listed(group) for folder in _listed(name)):
        if seed_of(folder.name) is not None:
            if not folder.is_dir():
                _leave_out(folder, "it is no folder")
                continue
            try:
                run = read_run(folder)
            except ArtifactError as error:
                if damaged is None:
                    raise
                damaged(error)
                continue
            if folder.parts[-3:] == place_of(run.config):
                runs.append(run)
            else:
                _leave_out(folder, f"it holds {'/'.join(place_of(run.config))}")
        elif exists("results", folder / SUMMARY):
            _leave_out(folder, "a run's folder is named seed-0, seed-1, ...")
    return runs


def _listed(folder: Path) -> list[Path]:
    """What lies in a folder, by name, hidden entries left out; nothing where there is no such folder.

    A folder that may not be read is an error: to pass over it would show other numbers than are there.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ArtifactError(f"results: {folder} cannot be read ({reason(error)}); mend it and call again") from error


def _leave_out(folder: Path, why: str) -> None:
    hint = "move it to its place, or out of the results folder"
    warnings.warn(f"results: {folder} is left out: {why}; {hint}", ArtifactWarning, stacklevel=3)


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def _parsed(content: bytes) -> Any:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no number of JSON")

    if not content.strip():
        raise ValueError("it is empty")
    return json.loads(content, parse_constant=refuse)


def _summary_sha256(summary: Mapping[str, Any]) -> str:
    """Checksum of a summary's content without the checksum itself, whatever the file's layout."""
    content = {name: value for name, value in summary.items() if name != OWN_SUM}
    return sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode())
