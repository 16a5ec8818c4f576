"""What a run records, as types: the rows of its metrics, its summary, and who trained which epochs.

`schema` checks the same of what is read from files; tests hold the two together.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NotRequired, TypedDict, cast

from vggkit.config import RunConfig

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor


class TrainedEpoch(TypedDict):
    """What training itself tells of an epoch: means over its batches, and of the gradient's norm also the last."""

    learning_rate: float
    train_loss: float
    train_accuracy: float
    gradient_norm_last: float
    gradient_norm_mean: float


class Epoch(TrainedEpoch):
    """A row of metrics.csv: losses are means per image, accuracies shares, times in seconds."""

    epoch: int
    validation_loss: float
    validation_accuracy: float
    train_seconds: float
    seconds: float


class SeedEpoch(Epoch):
    """An epoch as progress is told of it, where several runs may be under way."""

    name: str
    seed: int


class Measured(TypedDict):
    """The network after one epoch, on all three splits. A loss that is not finite is None."""

    epoch: int
    train_loss: float | None
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float
    test_loss: float | None
    test_accuracy: float


class Best(TypedDict):
    """The epoch of the highest validation accuracy so far, with the network's state after it; 0 and None before any."""

    epoch: int
    validation_accuracy: float
    model: "dict[str, Tensor] | None"


class Machine(TypedDict):
    """What a process computes with; it names no host, user or path."""

    device: str
    threads: int
    versions: dict[str, str]
    commit: str | None


class Segment(TypedDict):
    """Epochs that one process trained. What is None was not recorded when they were trained."""

    first_epoch: int
    last_epoch: int
    precision: str
    commit: str | None
    device: str | None
    threads: int | None
    torch: str | None
    fused: bool | None
    # How many networks the process trained side by side, at most; runs of older versions lack it.
    together: NotRequired[int]


class Summary(Machine):
    """The content of summary.json. Speed is that of the median epoch."""

    diverged: bool
    final: Measured
    best: Measured | None
    parameters: int
    train_images: int
    wall_seconds: float
    images_per_second: float
    data_sha256: str
    # Runs of older versions lack these.
    fused: NotRequired[bool]
    segments: NotRequired[list[Segment]]
    format: NotRequired[int]
    # Set when the run is written, and so in every run that is read: SHA-256 of every other file, and of the summary's
    # own content.
    files: NotRequired[dict[str, str]]
    summary_sha256: NotRequired[str]


@dataclass(frozen=True)
class Run:
    """A finished run."""

    config: RunConfig
    metrics: "pd.DataFrame"
    gradients: "pd.DataFrame"
    summary: Summary
    signal: "pd.DataFrame | None" = None  # of older versions there is none

    @cached_property
    def last_gradients(self) -> "pd.DataFrame":
        """The last epoch's gradients, over its batches: a row for each weight tensor but those of BN, input first."""
        table = self.gradients
        rows = table[(table["over"] == "mean") & (table["kind"] != "bn") & (table["epoch"] == table["epoch"].max())]
        return rows.sort_values("layer")


def has_diverged(train_loss: float, validation_loss: float) -> bool:
    """Whether an epoch with these losses is a run's last: one of them is not finite."""
    return not (math.isfinite(train_loss) and math.isfinite(validation_loss))


def metric_of(epoch: Measured, name: str) -> float | None:
    """A metric by its name, such as test_accuracy."""
    return cast("Mapping[str, float | None]", epoch)[name]


def segments(run: Run) -> list[Segment]:
    """By whom the run's epochs were trained: one entry for each process, in order, with the keys of `schema.SEGMENT`.

    Runs of older versions recorded the last process alone, which stands for all epochs.
    """
    summary = run.summary
    return summary.get("segments") or [segment(run.config, 1, len(run.metrics), summary, summary.get("fused"))]


def segment(
    config: RunConfig, first: int, last: int, machine: Machine | None = None, fused: bool | None = None
) -> Segment:
    """Which epochs one process trained, and on what; without `machine`, as in old checkpoints, that is not known."""
    return {
        "first_epoch": first,
        "last_epoch": last,
        "precision": config.precision,
        "commit": machine["commit"] if machine else None,
        "device": machine["device"] if machine else None,
        "threads": machine["threads"] if machine else None,
        "torch": machine["versions"].get("torch") if machine else None,
        "fused": fused,
    }
