"""Whether a finished run can be made again: its first epoch is trained anew and laid beside what it recorded.

On the kind of machine that trained it the numbers are equal bit for bit (see `runner`). Elsewhere the order of sums
differs, and with it the last bits of every product; training magnifies that as it does a change of the seed, the more
the longer it goes on. So one epoch is compared, and its training loss, a mean over thousands of images, within
`TOLERANCE`. That much finds other images, or a network that learns where this one does not; another seed it does not
tell apart, since the first epochs of two seeds differ by no more. Equality bit for bit does.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from vggkit.data import load
from vggkit.folders import Given
from vggkit.runs.files import ArtifactError
from vggkit.runs.records import Machine, Run, segments
from vggkit.study import STATISTICS
from vggkit.training.compute import Compute, fusing_as_begun, warn_of_emulation, worth_fusing
from vggkit.training.evaluation import evaluate
from vggkit.training.gradients import to_frame
from vggkit.training.graph import one_step
from vggkit.training.step import Trainer, train_epoch

TOLERANCE = 0.01
"""By how much, relative to the recorded one, the first epoch's training loss may differ on another machine."""


class Compared(NamedTuple):
    """A number that the run recorded of its first epoch, and what it is when trained again."""

    name: str
    recorded: float
    again: float

    @property
    def difference(self) -> float:
        """Relative to the recorded number; not finite where only one of them is, or the recorded one is 0."""
        if self.recorded == self.again or (np.isnan(self.recorded) and np.isnan(self.again)):
            return 0.0
        return abs(self.again - self.recorded) / abs(self.recorded) if self.recorded else float("inf")


@dataclass(frozen=True)
class Repetition:
    """A first epoch trained again.

    Attributes:
        metrics: the epoch's metrics, its times left out.
        gradients: by statistic, the largest relative difference over weight tensors and averages.
        machine: what trained it now.
    """

    metrics: tuple[Compared, ...]
    gradients: dict[str, float]
    machine: Machine

    @property
    def equal(self) -> bool:
        """Whether every number is the recorded one, bit for bit."""
        return not any(one.difference for one in self.metrics) and not any(self.gradients.values())

    @property
    def agrees(self) -> bool:
        """Whether the training loss is the recorded one within `TOLERANCE`."""
        loss = next(one for one in self.metrics if one.name == "train_loss")
        return loss.difference <= TOLERANCE


def first_epoch(run: Run, *, data: Given = None, device: str | torch.device | None = None) -> Repetition:
    """Train the first epoch of `run` again, from its seed, as it was trained: precision, batches, fused or not.

    Raises:
        ConfigError, data.DataError: as `runner.train`.
        ArtifactError: the images are not those that the run was trained on.
    """
    config, compute = run.config, Compute.resolve(run.config.precision, device)
    splits = load(config, data).to(compute.device)
    if splits.checksum != run.summary["data_sha256"]:
        raise ArtifactError(f"data: these images are not those that {config.name} was trained on; name their folder")
    warn_of_emulation(compute)
    begun = segments(run)[0]["fused"]  # runs of older versions do not tell
    fused = worth_fusing(config, compute.device) if begun is None else fusing_as_begun(begun, compute.device)
    compute = replace(compute, fused=fused)
    with compute.process_settings():
        trainer = Trainer(config, splits, compute)
        row, values = train_epoch([trainer], 1, one_step([trainer]), lambda images: None)[0]
        loss, accuracy = evaluate(trainer.model, splits.validation, compute)
    again = {**row, "validation_loss": loss, "validation_accuracy": accuracy}
    recorded = run.metrics.iloc[0]
    metrics = tuple(Compared(name, float(recorded[name]), float(value)) for name, value in again.items())  # type: ignore[arg-type]
    frame = to_frame(trainer.gradient_log.names, values[None])
    return Repetition(metrics, _largest_differences(run.gradients, frame), trainer.machine)


def _largest_differences(recorded: pd.DataFrame, again: pd.DataFrame) -> dict[str, float]:
    before = recorded[recorded["epoch"] == 1].reset_index(drop=True)
    found = {}
    for name in (name for name in STATISTICS if name in before):
        old, new = before[name].to_numpy(dtype=float), again[name].to_numpy(dtype=float)
        same = (old == new) | (np.isnan(old) & np.isnan(new))
        relative = np.abs(new - old) / np.where(old == 0, np.nan, np.abs(old))
        found[name] = float(np.where(same, 0.0, np.nan_to_num(relative, nan=np.inf)).max())
    return found
