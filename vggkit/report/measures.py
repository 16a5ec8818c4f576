"""Numbers of one run that tables, claims and figures show."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vggkit.config import NUM_CLASSES
from vggkit.runs.records import Run, metric_of

CHANCE = 1 / NUM_CLASSES
"""Accuracy of guessing one of 100 balanced classes."""


def finals(runs: Sequence[Run], metric: str) -> pd.Series:
    """A metric after the last epoch, for each seed that did not diverge; accuracies in per cent.

    A diverged run has no loss, while what it answers still has an accuracy: to leave out both keeps all
    means of a row over the same seeds.
    """
    values = pd.Series(
        [metric_of(run.summary["final"], metric) for run in runs if not run.summary["diverged"]], dtype=float
    )
    return values if "loss" in metric else 100 * values


def _last_gradients(run: Run) -> tuple[np.ndarray, float]:
    """Mean |gradient| of the convolutions, input first, and of the linear layer, over the last epoch's batches."""
    layers = run.last_gradients
    if "mean_abs" not in layers:  # a run of a version that did not log it
        return np.empty(0), float("nan")
    values, kinds = layers["mean_abs"].to_numpy(), layers["kind"].to_numpy()
    last = values[kinds == "linear"]
    return values[kinds == "conv"], float(last[-1]) if len(last) else float("nan")


def vanishing_ratio(run: Run) -> float:
    """Mean |gradient| in the last epoch: median over the first half of the convolutions, over the last layer's."""
    convolutions, last = _last_gradients(run)
    half = convolutions[: len(convolutions) // 2]
    half = half[~np.isnan(half)]
    return float(np.median(half)) / last if last and half.size else float("nan")


def weakest_ratio(run: Run) -> float:
    """Mean |gradient| in the last epoch: that of the convolution with the smallest, over the last layer's."""
    convolutions, last = _last_gradients(run)
    return float(convolutions.min(initial=np.inf)) / last if last and convolutions.size else float("nan")
