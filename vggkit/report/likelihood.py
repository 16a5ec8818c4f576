"""How likely a value is as one more run of a kind. Statistics alone: nothing here knows of networks or pages.

Of d numbers of each run, runs of one kind are taken as normal about a mean of their own, and those of all kinds as
having one covariance, known from the spread of those kinds that have several runs. A value may differ from the runs by
more than that, with variances that are known.
"""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Array = NDArray[np.float64]

DRAWS = 50_000  # of the distance's distribution: a chance of 1 % is told to a tenth of itself
COVARIANCES = 4_000  # over which a density is averaged


@dataclass(frozen=True)
class Scatter:
    """Sums of squares and products about each kind's mean, (d, d), and their degrees of freedom."""

    squares: Array
    freedom: int


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


@dataclass(frozen=True)
class Predicted:
    """What one more value of a kind may be; `predict` makes it.

    Attributes:
        centre: mean of the kind's runs, (d,).
        shares: by how much the runs' covariance counts: 1 + 1/n, for the draw of the value and that of the mean.
        spread: of all kinds.
        more: variances of what else differs between the value and the runs, (d,).
    """

    centre: Array
    shares: float
    spread: Scatter
    more: Array

    @property
    def covariance(self) -> Array:
        """As it is estimated, (d, d)."""
        return self.shares * self.spread.squares / self.spread.freedom + np.diag(self.more)

    def chance(self, value: Sequence[float] | Array) -> float:
        """Probability that one more lies at least as far from the centre, by Mahalanobis' distance."""
        further = int((self._distances >= self._distance(value)).sum())
        return (1 + further) / (1 + DRAWS)

    def log_likelihood(self, value: Sequence[float] | Array) -> float:
        """Natural logarithm of the predictive density, averaged over the covariances that the spread leaves open.

        These are inverse Wishart (Geisser 1993, chapter 2, with Jeffreys' prior).
        """
        d, random = len(self.centre), np.random.default_rng(0)
        drawn = stats.invwishart(self.spread.freedom, self.spread.squares).rvs(COVARIANCES, random_state=random)
        covariances = self.shares * drawn.reshape(-1, d, d) + np.diag(self.more)
        away = np.broadcast_to(np.asarray(value) - self.centre, (COVARIANCES, d))[..., None]
        squares = (away * np.linalg.solve(covariances, away)).sum(axis=(1, 2))
        logarithms = -0.5 * (squares + np.linalg.slogdet(covariances)[1] + d * math.log(2 * math.pi))
        return float(special.logsumexp(logarithms) - math.log(COVARIANCES))

    def region(self, level: float = 0.95) -> Array:
        """The ellipse that holds one more value with probability `level`, as places along it (points, 2), for d = 2."""
        reach = math.sqrt(float(np.quantile(self._distances, level)))
        angle = np.linspace(0, 2 * np.pi, 181)
        circle = np.column_stack([np.cos(angle), np.sin(angle)])
        return np.asarray(self.centre + reach * circle @ np.linalg.cholesky(self.covariance).T)

    def _distance(self, value: Sequence[float] | Array) -> float:
        away = np.asarray(value, dtype=float) - self.centre
        return float(away @ np.linalg.solve(self.covariance, away))

    @functools.cached_property
    def _distances(self) -> Array:
        """Distances of further values, each from a spread drawn anew, as both come about where the estimate is true.

        Without `more` they have Hotelling's distribution, whatever the covariance is; with it the chance is nearly
        right, as far as the estimated covariance stands for the true one.
        """
        d, freedom = len(self.centre), self.spread.freedom
        root = np.linalg.cholesky(self.spread.squares / freedom)
        drawn = root @ _scatters(freedom, d, DRAWS) @ root.T
        estimates = self.shares * drawn / freedom + np.diag(self.more)
        random = np.random.default_rng(1)
        away = random.multivariate_normal(np.zeros(d), self.covariance, size=DRAWS)[..., None]
        return np.asarray((away * np.linalg.solve(estimates, away)).sum(axis=(1, 2)))


@functools.cache
def _scatters(freedom: int, d: int, draws: int) -> Array:
    """Scatters of unit covariance, Wishart, (draws, d, d): to draw them takes longer than all else."""
    drawn = stats.wishart(freedom, np.eye(d)).rvs(draws, random_state=np.random.default_rng(0))
    return np.asarray(drawn).reshape(-1, d, d)


def predict(runs: Array, spread: Scatter, more: Sequence[float] | None = None) -> Predicted | None:
    """What one more value of a kind may be; None where the spread does not tell in all directions.

    Args:
        runs: of the kind, (n, d).
        spread: of all kinds.
        more: variances of what else differs between the value and the runs, but not among these, by default none.
    """
    values = np.asarray(runs, dtype=float)
    d = values.shape[1]
    if spread.freedom < d or np.linalg.matrix_rank(spread.squares) < d:
        return None
    return Predicted(values.mean(axis=0), 1 + 1 / len(values), spread, np.zeros(d) if more is None else np.array(more))


def times(one: float, other: float) -> float:
    """By which factor one likelihood is above another, of their natural logarithms; infinite beyond float64."""
    return math.exp(min(one - other, 700.0))
