"""Where a validation loss turns: the epoch in which it is lowest, and by how much it ends above that.

A single epoch's lowest is partly luck, so the loss is smoothed.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from vggkit.runs.records import Run

Losses = Sequence[float] | NDArray[np.floating]  # (epochs,)

SMOOTHED = 9  # epochs, for a dot that is drawn
WINDOWS = (5, 7, 9, 11, 13)  # epochs: what depends on one choice among them is not told
TURNED = 0.01  # a loss that ends more than 1 % above its lowest has turned


def turning_epoch(run: Run) -> int | None:
    """The epoch with the lowest validation loss; None where none is finite."""
    losses = run.metrics.set_index("epoch")["validation_loss"]
    finite = losses[np.isfinite(losses)]
    return None if finite.empty else int(finite.idxmin())


def lowest_smoothed(run: Run) -> float | None:
    """The epoch in which the smoothed validation loss is lowest, the median over `WINDOWS`.

    None where the loss is not finite in every epoch.
    """
    losses = _finite(run)
    return None if losses is None else float(np.median([smoothed(losses, width)[0].argmin() for width in WINDOWS])) + 1


def excess(run: Run) -> float | None:
    """By which share of its lowest the smoothed validation loss ends above that; median and None as there."""
    losses = _finite(run)
    if losses is None:
        return None
    curves = [smoothed(losses, width)[0] for width in WINDOWS]
    return float(np.median([curve[-1] / curve.min() - 1 for curve in curves]))


def turned(run: Run) -> bool:
    """Whether the loss rises at the end: where it does not, the excess is near zero in every seed, for no merit."""
    above = excess(run)
    return above is not None and above > TURNED


def _finite(run: Run) -> Losses | None:
    losses = run.metrics["validation_loss"].to_numpy()
    return losses if np.isfinite(losses).all() else None


def smoothed(losses: Losses, window: int = SMOOTHED) -> tuple[np.ndarray, float]:
    """A curve's mean over `window` epochs around each, and the standard error of its lowest value.

    A straight line is fitted over each window (Savitzky and Golay 1964), which is the mean inside the
    curve and does not flatten its ends. The error comes from how the curve scatters about the fit
    around its lowest point. A curve shorter than three epochs stays as it is, with no error.
    """
    return _smoothed(tuple(map(float, losses)), window)


@lru_cache(maxsize=4096)  # a page asks for the curves of the same runs many times
def _smoothed(losses: tuple[float, ...], window: int) -> tuple[np.ndarray, float]:
    curve = np.array(losses)
    curve.flags.writeable = False
    window = min(window, len(curve) - 1 + len(curve) % 2)
    if window < 3:
        return curve, 0.0
    smooth = signal.savgol_filter(curve, window, 1)
    smooth.flags.writeable = False
    lowest = int(smooth.argmin())
    near = slice(max(0, lowest - window), lowest + window + 1)
    scatter = math.sqrt(float(np.mean((curve - smooth)[near] ** 2)) / (1 - 1 / window))
    return smooth, scatter / math.sqrt(window)


def lowest_epochs(losses: Losses) -> list[int]:
    """The epochs, from 1, whose smoothed loss lies within one standard error of the lowest, for any of `WINDOWS`."""
    places: set[int] = set()
    for window in WINDOWS:
        smooth, error = smoothed(losses, window)
        places |= set(np.flatnonzero(smooth <= smooth.min() + error).tolist())
    return [place + 1 for place in sorted(places)]
