"""Many runs in one call: in an order that is complete whenever it ends, each handed out as it is finished."""

import math
import os
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from vggkit.artifacts import ArtifactError, Run, RunPaths, make_folder
from vggkit.config import ConfigError, RunConfig
from vggkit.training import Progress, train_together


class TimeUp(Exception):
    """The time given to a sweep is over; every finished epoch is kept."""


def order(names: Sequence[str], seeds: Sequence[int], together: int, **settings: Any) -> list[list[RunConfig]]:
    """Groups of runs to train together: the first `together` seeds of every configuration, then the next.

    Raises:
        ConfigError: a name, a setting or `together` is unusable.
    """
    if together < 1:
        raise ConfigError(f"together: {together!r} is not allowed; allowed: an integer of at least 1")
    for field, values in (("names", names), ("seeds", seeds)):
        if not values or len(set(values)) != len(values):
            raise ConfigError(f"{field}: {list(values)!r} is not allowed; allowed: at least one, each once")
    return [
        [RunConfig.named(name, **settings, seed=seed) for seed in group]
        for group in (seeds[start : start + together] for start in range(0, len(seeds), together))
        for name in names
    ]


def sweep(
    groups: Sequence[Sequence[RunConfig]],
    *,
    results: str | os.PathLike[str] = "results",
    archives: Path | None = None,
    minutes: float | None = None,
    progress: Callable[[RunConfig], Progress] = lambda config: lambda epoch, images, metrics: None,
    **where: Any,
) -> Iterator[Run]:
    """Train each group, or go on with it, or load it; yield its runs.

    Args:
        groups: as `order` makes them.
        results: folder of results.
        archives: folder in which each finished run is left as one `.tar.gz`, to be unpacked in `results`.
        minutes: after how long to stop, at the end of an epoch.
        progress: given a group's first configuration, what to tell of it, see `training.Progress`.
        where: `data`, `device` and `fuse` of `training.train`.

    Raises:
        TimeUp: `minutes` are over.
        ConfigError, data.DataError, artifacts.ArtifactError: as `training.train`.
    """
    if minutes is not None and not 0 <= minutes < math.inf:
        raise ConfigError(f"minutes: {minutes!r} is not allowed; allowed: a finite number of at least 0")
    if archives:
        make_folder("archives", archives)  # now, not after the first run
    end = None if minutes is None else time.monotonic() + 60 * minutes
    between = False  # at the first batch after an epoch, when all that are trained together have that epoch
    for group in groups:
        tell = progress(group[0])

        def report(epoch: int, images: int, metrics: dict[str, Any] | None, tell: Progress = tell) -> None:
            nonlocal between
            if between and metrics is None and end is not None and time.monotonic() > end:
                raise TimeUp(f"time is up after {minutes:g} minutes; call again to go on")
            between = metrics is not None
            tell(epoch, images, metrics)

        for run in train_together(group, results=results, progress=report, **where):
            if archives:
                archive(RunPaths.of(results, run.config).folder, archives)
            yield run
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # each group's graph has memory of its own


def archive(folder: Path, archives: Path) -> Path:
    """Pack a finished run's folder as `<suite>_<name>_seed-<n>.tar.gz`, in one step.

    Raises:
        ArtifactError: it cannot be written.
    """
    place = folder.parts[-3:]
    target = archives / f"{'_'.join(place)}.tar.gz"
    partial = target.with_suffix(".partial")
    try:
        with tarfile.open(partial, "w:gz") as file:  # anew each time: the run may have been trained anew
            file.add(folder, arcname="/".join(place))
        partial.replace(target)
    except OSError as error:
        raise ArtifactError(f"archives: cannot write {target} ({error.strerror or error})") from error
    return target
