"""Many runs in one call: in an order that is complete whenever it ends, each handed out as it is finished."""

import math
import os
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from vggkit.config import ConfigError, RunConfig
from vggkit.folders import Given, expanded
from vggkit.runs import store
from vggkit.runs.files import ArtifactError, InUseError, RunPaths, cannot_write, clear, make_folder, own_partial_file
from vggkit.runs.records import Run, SeedEpoch
from vggkit.training.runner import Progress, train_together


class TimeUp(Exception):
    """The time given to a sweep is over; every finished epoch is kept."""


def sweep(
    groups: Sequence[Sequence[RunConfig]],
    *,
    results: Given = None,
    archives: str | os.PathLike[str] | None = None,
    minutes: float | None = None,
    progress: Callable[[RunConfig], Progress] = lambda config: lambda epoch, images, metrics: None,
    **where: Any,
) -> Iterator[Run]:
    """Train each group, or go on with it, or load it; yield its runs.

    A run that another process is training is passed over for the next, and asked for again at the end; one whose
    finished files are damaged is left to whoever can restore them, and told of at the end.

    Args:
        groups: as `order.order` makes them.
        results: folder of results, as in `runner.train`.
        archives: folder in which each finished run is left as one `.tar.gz`, to be unpacked in `results`.
        minutes: after how long to stop, at the end of an epoch.
        progress: given a group's first configuration, what to tell of it, see `runner.Progress`.
        where: `data`, `device` and `fuse` of `runner.train`.

    Raises:
        TimeUp: `minutes` are over.
        files.InUseError: all else is finished, and another process is still training a run.
        files.ArtifactError: all else is finished, and a finished run is damaged; or as `runner.train`.
        ConfigError, data.DataError: as `runner.train`.
    """
    if minutes is not None and not 0 <= minutes < math.inf:
        raise ConfigError(f"minutes: {minutes!r} is not allowed; allowed: a finite number of at least 0")
    kept = None if archives is None else expanded("archives", archives)
    if kept:
        make_folder("archives", kept)  # now, not after the first run
    end = None if minutes is None else time.monotonic() + 60 * minutes
    between = False  # at the first batch after an epoch, when all that are trained together have that epoch
    passed_over: list[RunConfig] = []
    damaged: list[ArtifactError] = []

    def trained(group: Sequence[RunConfig]) -> list[Run]:
        tell = progress(group[0])

        def report(epoch: int, images: int, metrics: SeedEpoch | None) -> None:
            nonlocal between
            if between and metrics is None and end is not None and time.monotonic() > end:
                raise TimeUp(f"time is up after {minutes:g} minutes; call again to go on")
            between = metrics is not None
            tell(epoch, images, metrics)

        return train_together(group, results=results, progress=report, **where)

    def free(group: Sequence[RunConfig]) -> list[Run]:
        """The group's runs; where another process has one of them, or one is damaged, those of the others."""
        group = list(filter(whole, group))
        while group:
            try:
                return trained(group)
            except InUseError as error:
                taken = next(config for config in group if RunPaths.of(results, config).folder == error.folder)
                passed_over.append(taken)
                group = [config for config in group if config != taken]
        return []

    def whole(config: RunConfig) -> bool:
        try:
            store.read_finished(RunPaths.of(results, config), config)
        except ArtifactError as error:
            damaged.append(error)
            return False
        return True

    def hand_out(runs: Sequence[Run]) -> Iterator[Run]:
        for run in runs:
            if kept:
                archive(RunPaths.of(results, run.config).folder, kept)
            yield run
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # each group's graph has memory of its own

    for group in groups:
        yield from hand_out(free(group))
    held: InUseError | None = None
    for config in passed_over:  # by now another process may have finished it, or let go of it
        try:
            yield from hand_out(trained([config]))
        except InUseError as error:
            held = held or error
    if first := next(iter(damaged), held):
        raise first


def archive(folder: Path, archives: Path) -> Path:
    """Pack a finished run's folder as `<suite>_<name>_seed-<n>.tar.gz`, in one step.

    Raises:
        ArtifactError: it cannot be written.
    """
    place = folder.parts[-3:]
    target = archives / f"{'_'.join(place)}.tar.gz"
    partial = own_partial_file(target)
    try:
        with tarfile.open(partial, "w:gz") as file:  # anew each time: the run may have been trained anew
            file.add(folder, arcname="/".join(place))
        partial.replace(target)
    except (OSError, MemoryError) as error:
        failed = cannot_write(target, error, field="archives")
        clear(partial)
        raise failed from error
    return target
