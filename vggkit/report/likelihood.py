"""How likely a value is as one more run of a kind. Statistics alone: nothing here knows of networks or pages.

Of d numbers of each run, runs of one kind are taken as normal about a mean of their own, and those of all kinds as
having one covariance, known from the spread of those kinds that have several runs.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scatter:
    """Sums of squares and products about each kind's mean, (d, d), and their degrees of freedom."""

    squares: Array
    freedom: int


@dataclass(frozen=True)
class Fit:
    """How one more value fits to the runs of a kind.

    Attributes:
        chance: probability that one more run lies at least as far from their mean, by Hotelling's distance.
        log_likelihood: natural logarithm of the predictive density at the value.
    """

    chance: float
    log_likelihood: float


def scatter(kinds: Iterable[Array]) -> Scatter:
    """The scatter within kinds, each (n, d), pooled over those of two runs or more.

    Raises:
        ValueError: there is no kind.
    """
    groups = [np.asarray(kind, dtype=float) for kind in kinds]
    if not groups:
        raise ValueError("kinds: none; at least one is needed")
    centred = [group - group.mean(axis=0) for group in groups]
    squares = np.sum([rows.T @ rows for rows in centred], axis=0)
    return Scatter(squares, sum(len(group) - 1 for group in groups))


def fit(
    value: Sequence[float] | Array, runs: Array, spread: Scatter, more: Sequence[float] | None = None
) -> Fit | None:
    """How `value` (d,) fits to `runs` (n, d) as one more; None where the freedom does not allow to tell.

    The predictive distribution is Student's in d dimensions, of freedom - d + 1 degrees (Geisser 1993, chapter 2,
    with Jeffreys' prior), in which the covariance, and the mean of n runs, are as uncertain as they are.

    Args:
        value: one number for each of the d.
        runs: of the kind.
        spread: of all kinds.
        more: variances of what else differs between the value and the runs, but not among these, by default none. They
            are added to the scale, which is exact for a large freedom.
    """
    values, count = np.asarray(value, dtype=float), len(value)
    expected = _predictive(runs, spread, count, more)
    if expected is None:
        return None
    away = values - expected.centre
    distance = float(away @ np.linalg.solve(expected.shape, away))
    density = stats.multivariate_t(np.zeros(count), expected.shape, df=expected.degrees).logpdf(away)
    return Fit(float(stats.f.sf(distance / count, count, expected.degrees)), float(density))


def region(runs: Array, spread: Scatter, more: Sequence[float] | None = None, level: float = 0.95) -> Array | None:
    """The ellipse that one more run lies in with probability `level`, as places along it (points, 2).

    None where the freedom does not allow to tell; the arguments of two numbers each are those of `fit`, whose chance is
    1 - `level` everywhere on the ellipse.
    """
    expected = _predictive(runs, spread, 2, more)
    if expected is None:
        return None
    angle = np.linspace(0, 2 * np.pi, 181)
    reach = math.sqrt(2 * stats.f.ppf(level, 2, expected.degrees))
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    return np.asarray(expected.centre + reach * circle @ np.linalg.cholesky(expected.shape).T)


class _Predictive(NamedTuple):
    """Student's distribution of one more run: centre (d,), shape (d, d) and degrees of freedom."""

    centre: Array
    shape: Array
    degrees: int


def _predictive(runs: Array, spread: Scatter, count: int, more: Sequence[float] | None) -> _Predictive | None:
    degrees = spread.freedom - count + 1
    if degrees < 1:
        return None
    shape = (1 + 1 / len(runs)) * spread.squares / degrees + np.diag([0.0] * count if more is None else list(more))
    return _Predictive(np.asarray(runs, dtype=float).mean(axis=0), shape, degrees)


def times(one: float, other: float) -> float:
    """By which factor one likelihood is above another, of their natural logarithms; infinite beyond float64."""
    return math.exp(min(one - other, 700.0))
