"""Where a validation loss turns: curves whose lowest place is known, with noise and without."""

import math

import numpy as np
import pandas as pd
import pytest

from tests.shared import part_of_summary
from vggkit.config import RunConfig
from vggkit.report import turning
from vggkit.runs.records import Run

EPOCHS = np.arange(1, 101)


def with_losses(losses: object) -> Run:
    """A run of these validation losses, of which nothing else is known."""
    metrics = pd.DataFrame({"validation_loss": losses})
    metrics["epoch"] = range(1, len(metrics) + 1)
    return Run(RunConfig(), metrics, pd.DataFrame(), part_of_summary(diverged=False))


def test_turn_is_the_lowest_epoch_and_excess_what_the_loss_rises_after_it() -> None:
    for epoch in (20, 35, 60):
        run = with_losses(3 + ((EPOCHS - epoch) / (100 - epoch)) ** 2)  # 3 in this epoch, 4 in the last
        assert turning.lowest_smoothed(run) == pytest.approx(epoch, abs=1)
        assert turning.excess(run) == pytest.approx(1 / 3, abs=0.03) and turning.turned(run)
    falling = with_losses(np.linspace(4, 3, 100))
    assert turning.lowest_smoothed(falling) == 100 and turning.excess(falling) == 0 and not turning.turned(falling)
    for bad in (math.nan, math.inf):
        broken = with_losses([*falling.metrics["validation_loss"][:99], bad])
        assert turning.lowest_smoothed(broken) is None is turning.excess(broken) and not turning.turned(broken)


def test_turning_epoch_of_a_diverged_run_is_none() -> None:
    assert turning.turning_epoch(with_losses([np.nan, np.inf])) is None
    assert turning.turning_epoch(with_losses([3.0, 2.0, np.nan])) == 2


def test_lowest_epochs_are_those_that_noise_cannot_tell_apart() -> None:
    epochs = np.arange(1, 101)
    valley = 1.8 + 1e-4 * (epochs - 50.0) ** 2
    assert turning.lowest_epochs(valley)[0] >= 45 and turning.lowest_epochs(valley)[-1] <= 55
    rng = np.random.default_rng(5)
    found = [turning.lowest_epochs(valley + rng.normal(0, 0.03, 100)) for _ in range(50)]
    argmins = [int((valley + rng.normal(0, 0.03, 100)).argmin()) + 1 for _ in range(50)]
    assert np.std([np.mean(epochs) for epochs in found]) < np.std(argmins)
    assert np.mean([len(epochs) for epochs in found]) > len(turning.lowest_epochs(valley + rng.normal(0, 1e-4, 100)))
    assert turning.lowest_epochs([3.0, 2.0]) == [2]
    assert turning.lowest_epochs(np.linspace(3, 2, 100)) == [100]


def test_lowest_epochs_depend_on_no_single_width_of_smoothing() -> None:
    rng = np.random.default_rng(3)
    losses = 2 + (np.arange(100) - 50) ** 2 / 5000 + rng.normal(0, 0.02, 100)
    together = set(turning.lowest_epochs(losses))
    for window in turning.WINDOWS:
        smooth, error = turning.smoothed(losses, window)
        assert {int(place) + 1 for place in np.flatnonzero(smooth <= smooth.min() + error)} <= together
    assert len(together) > 1


def test_turn_and_excess_are_medians_over_all_widths_of_smoothing() -> None:
    losses = 2 + (np.arange(100) - 50) ** 2 / 5000 + np.random.default_rng(4).normal(0, 0.05, 100)
    means = [pd.Series(losses).rolling(width, center=True).mean() for width in turning.WINDOWS]  # without the ends
    lowest = [int(mean.idxmin()) + 1 for mean in means]
    assert len(set(lowest)) > 1 and turning.lowest_smoothed(with_losses(losses)) == np.median(lowest)
    ends = [np.polyval(np.polyfit(np.arange(width), losses[-width:], 1), width - 1) for width in turning.WINDOWS]
    rises = [end / mean.min() - 1 for end, mean in zip(ends, means, strict=True)]
    assert turning.excess(with_losses(losses)) == pytest.approx(np.median(rises))
