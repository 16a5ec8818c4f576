"""Intervals that claims are judged by. Statistics alone: nothing here knows of networks or pages.

A difference of two accuracies is uncertain for two reasons: another seed would give another network,
and other test images another share of hits. An interval covers both. The part of the seeds comes from
the spread over seeds, pooled over all configurations that have several, so that also a configuration
with one seed gets an honest interval; the part of the images from Newcombe's (1998) interval. They add
as independent errors do, in quadrature on each side (the "square and add" of Zou and Donner 2008).
Several differences judged together get simultaneous intervals: with probability `LEVEL` all of them
cover at once (Dunnett 1955, here for any number of seeds on each side).
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Values = Sequence[float] | NDArray[np.floating]  # (n,)

LEVEL = 0.95
MOST_ARRANGEMENTS = 5_000  # beyond this many, a permutation interval draws arrangements instead of trying all
DRAWN = 9_999
POOLED, PERMUTATION, IMAGES, NONE = "pooled t", "permutation", "images alone", "no interval"  # how an interval was made


@dataclass(frozen=True)
class Spread:
    """A standard deviation over seeds and its degrees of freedom; with 0 of them it is unknown."""

    deviation: float
    freedom: int

    @property
    def reach(self) -> float:
        """Half-width of the interval of one value, by which spreads are compared; infinite where it is unknown."""
        return self.deviation * float(stats.t.ppf((1 + LEVEL) / 2, self.freedom)) if self.freedom else math.inf


@dataclass(frozen=True)
class Sample:
    """One configuration's values, one for each seed.

    Where the values depend on a share of `images`, such as an accuracy, `share` is its mean over the
    seeds, counted so that both rise together. `steady` says that the seed decides nothing, as for a
    network that guesses.
    """

    name: str
    values: tuple[float, ...]
    images: int = 0
    share: float = math.nan
    steady: bool = False

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))


@dataclass(frozen=True)
class Contrast:
    """The mean of `first` minus that of `second`, or minus a known number."""

    first: Sample
    second: Sample | float

    @property
    def value(self) -> float:
        return self.first.mean - (self.second.mean if isinstance(self.second, Sample) else self.second)

    @property
    def weights(self) -> dict[str, float]:
        """By sample: the derivative of the difference with respect to a mean that a seed could move."""
        sides = [(self.first, 1.0)] + ([(self.second, -1.0)] if isinstance(self.second, Sample) else [])
        return {sample.name: sign for sample, sign in sides if not sample.steady}

    @property
    def sizes(self) -> dict[str, int]:
        sides = [self.first] + ([self.second] if isinstance(self.second, Sample) else [])
        return {sample.name: len(sample.values) for sample in sides}


@dataclass(frozen=True)
class Effect:
    """A difference with its interval."""

    value: float
    low: float
    high: float
    method: str

    def __str__(self) -> str:
        """In percentage points."""
        return self.shown(100, 2)

    def shown(self, factor: float, digits: int) -> str:
        """Each number `factor` times, with its sign and `digits` places; the interval is kept on one line."""
        numbers = (self.value, self.low, self.high)
        value, low, high = (f"{factor * number:+.{digits}f}".replace("-", "−") for number in numbers)
        return value if self.method == NONE else f"{value} [{low},\N{NO-BREAK SPACE}{high}]"


def pooled_spread(groups: Iterable[Values]) -> Spread:
    """The standard deviation within groups, pooled over those of two values or more.

    >>> pooled_spread([[1.0, 3.0], [5.0], [2.0, 4.0]])
    Spread(deviation=1.4142135623730951, freedom=2)
    """
    several = [np.asarray(group, dtype=float) for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in several)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in several)
    return Spread(math.sqrt(squares / freedom) if freedom else math.nan, freedom)


def wilson_interval(share: float, images: int, level: float = LEVEL) -> tuple[float, float]:
    """Score interval of a share measured on `images` (Wilson 1927).

    >>> low, high = wilson_interval(0.5, 10_000)
    >>> f"{low:.4f} to {high:.4f}"
    '0.4902 to 0.5098'
    """
    z = float(stats.norm.ppf((1 + level) / 2))
    middle = (share + z**2 / (2 * images)) / (1 + z**2 / images)
    reach = z / (1 + z**2 / images) * math.sqrt(share * (1 - share) / images + z**2 / (4 * images**2))
    return middle - reach, middle + reach


def newcombe_interval(first: float, second: float, images: int, level: float = LEVEL) -> tuple[float, float]:
    """Interval of the difference of two shares, each on `images` (Newcombe 1998, method 10).

    It takes the two as independent. Two networks tend to fail on the same images, so it is rather too wide.
    """
    (low, high), (other_low, other_high) = (wilson_interval(share, images, level) for share in (first, second))
    below = math.hypot(first - low, other_high - second)
    return first - second - below, first - second + math.hypot(high - first, second - other_low)


def permutation_interval(first: Values, second: Values, level: float = LEVEL) -> tuple[float, float] | None:
    """Interval of a shift between two groups: what the permutation test does not reject (Pitman 1937).

    The test shuffles all values between the groups and counts arrangements whose difference of means
    is at least as extreme. An arrangement that swaps equally large parts A of `first` and B of
    `second` is as extreme as the observed one at the shift mean(A) - mean(B); the interval lies
    between order statistics of these. None where there are too few arrangements to reject at `level`.

    Beyond `MOST_ARRANGEMENTS` it draws `DRAWN` of them, always the same ones, and counts the observed
    one among them, so that the test keeps its level (Besag and Clifford 1989).
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    left, came = _swaps(len(a), len(b))
    shifts = np.sort(np.round((left @ a - came @ b) / left.sum(axis=1), 12))  # zero stays zero
    rejected = math.floor((1 - level) / 2 * (len(shifts) + 1) + 1e-9)  # arrangements, the observed one included
    return (float(shifts[rejected - 1]), float(shifts[-rejected])) if rejected else None


@lru_cache(maxsize=64)
def _swaps(first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
    """Arrangements of two groups of these sizes: 1 for what leaves the first, and for what comes from the second.

    The arrangement that swaps nothing is the observed one, and left out.
    """
    count = first + second
    if math.comb(count, first) <= MOST_ARRANGEMENTS:
        chosen = np.array(list(itertools.combinations(range(count), first)))
    else:
        order = np.random.default_rng(0).permuted(np.tile(np.arange(count), (DRAWN, 1)), axis=1)
        chosen = order[:, :first]
    inside = np.zeros((len(chosen), count))
    np.put_along_axis(inside, chosen, 1.0, axis=1)
    swapping = inside[:, first:].any(axis=1)
    return 1 - inside[swapping, :first], inside[swapping, first:]


Counts = tuple[int, int]
"""Hits, and of how many."""


def unlikely(chance: float) -> bool:
    """Whether a p-value is below the chance of a miss, 1 - `LEVEL`; one that is as large is not.

    >>> unlikely(0.049), unlikely(0.05)
    (True, False)
    """
    return round(chance, 9) < round(1 - LEVEL, 9)


def exact_test(strata: Iterable[tuple[Counts, Counts]]) -> float:
    """Two-sided p-value for hits being as likely on either side, in every stratum.

    Of one stratum it is Fisher's exact test; of several it is Birch's (1964), which counts the hits of the first sides
    in all strata together, given how many hits each stratum has in all, and adds up the probabilities of all sums that
    are at most as likely as this one. Strata need not be alike; one without hits, or without misses, says nothing.

    >>> round(exact_test([((3, 4), (1, 6))]), 3)
    0.19
    """
    sums, seen = np.ones(1), 0  # probabilities of 0, 1, ... hits on the first sides
    for (hits, of), (others, also) in strata:
        if not (of and also):
            continue  # nothing beside which the one side could be set
        sums = np.convolve(sums, stats.hypergeom.pmf(np.arange(of + 1), of + also, hits + others, of))
        seen += hits
    return min(1.0, float(sums[sums <= sums[seen] * (1 + 1e-9)].sum()))


@lru_cache(maxsize=256)
def critical_value(correlation: tuple[tuple[float, ...], ...], freedom: int, level: float = LEVEL) -> float:
    """How many standard errors all of several t values stay within, with probability `level`.

    Args:
        correlation: of the differences, (k, k); those that share a configuration are correlated.
        freedom: degrees of freedom of the deviation that all share.
    """
    correlation = _different(correlation)
    count = len(correlation)
    least = float(stats.t.ppf((1 + level) / 2, freedom))
    if count == 1:
        return least
    together = stats.multivariate_t(shape=np.array(correlation), df=freedom, allow_singular=True, seed=0)

    def missing(reach: float) -> float:
        limits = np.full(count, reach)
        inside = together.cdf(limits, lower_limit=-limits, maxpts=2_000 * count, random_state=0)
        return float(inside) - level

    most = float(stats.t.ppf(1 - (1 - level) / (2 * count), freedom))  # Bonferroni: never too small
    return most if missing(most) <= 0 else float(optimize.brentq(missing, least, most, xtol=1e-3))


def _different(correlation: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    """Without the differences that are another one over again, as those of one network to several that no seed moves.

    A t value that is equal to another up to its sign adds nothing to what may go wrong.
    """
    kept: list[int] = []
    for place, row in enumerate(correlation):
        if all(abs(row[other]) < 1 - 1e-6 for other in kept):
            kept.append(place)
    return tuple(tuple(correlation[place][other] for other in kept) for place in kept)


def joint_intervals(contrasts: Sequence[Contrast], spread: Spread, level: float = LEVEL) -> list[Effect]:
    """Simultaneous intervals: with probability `level` all of them cover at once.

    Where every contrast has so many seeds on both sides that permutations can reject at the level
    divided by their number, the seeds' part is exact for any distribution; else it is the pooled t.

    Raises:
        ValueError: a seed could move a value, and the spread over seeds is unknown.
    """
    if spread.freedom == 0 and any(contrast.weights for contrast in contrasts):
        raise ValueError("spread: unknown; at least one configuration must have several seeds")
    permuted = _permuted(contrasts, level) if contrasts else None
    reaches = permuted or _pooled_reaches(contrasts, spread, level)
    found = []
    for contrast, reach, images in zip(contrasts, reaches, _images_reaches(contrasts, level), strict=True):
        low, high = math.hypot(reach[0], images[0]), math.hypot(reach[1], images[1])
        method = PERMUTATION if permuted else POOLED if contrast.weights else IMAGES
        found.append(Effect(contrast.value, contrast.value - low, contrast.value + high, method))
    return found


def intervals_by_spread(judged: Sequence[tuple[Contrast, Spread]]) -> list[Effect]:
    """Simultaneous intervals of differences whose spreads over seeds are not all the same.

    Those of one spread are `joint_intervals`, or `images_alone` where it is unknown and a seed could move a value; each
    such set has its share of the chance of a miss (Bonferroni), by the number of its differences.
    """
    sets: dict[tuple[int, float], list[int]] = {}
    for place, (_, spread) in enumerate(judged):
        sets.setdefault((spread.freedom, spread.deviation if spread.freedom else 0.0), []).append(place)
    found: dict[int, Effect] = {}
    for places in sets.values():
        contrasts, spread = [judged[place][0] for place in places], judged[places[0]][1]
        level = 1 - (1 - LEVEL) * len(places) / len(judged)
        known = spread.freedom > 0 or not any(contrast.weights for contrast in contrasts)
        effects = joint_intervals(contrasts, spread, level) if known else images_alone(contrasts, level)
        found |= zip(places, effects, strict=True)
    return [found[place] for place in range(len(judged))]


def images_alone(contrasts: Sequence[Contrast], level: float = LEVEL) -> list[Effect]:
    """Simultaneous intervals for these very networks: for the draw of images, not for that of seeds."""
    found = []
    for contrast, (low, high) in zip(contrasts, _images_reaches(contrasts, level), strict=True):
        method = IMAGES if contrast.first.images else NONE
        found.append(Effect(contrast.value, contrast.value - low, contrast.value + high, method))
    return found


def _images_reaches(contrasts: Sequence[Contrast], level: float) -> list[tuple[float, float]]:
    """How far each contrast's interval reaches down and up for the images (Newcombe, Wilson)."""
    each, found = level ** (1 / max(1, len(contrasts))), []  # Šidák (1967): together at least the level
    for contrast in contrasts:
        first, second = contrast.first, contrast.second
        if not first.images:
            found.append((0.0, 0.0))
        elif isinstance(second, Sample):
            low, high = newcombe_interval(first.share, second.share, first.images, each)
            found.append((first.share - second.share - low, high - first.share + second.share))
        else:
            low, high = wilson_interval(first.share, first.images, each)
            found.append((first.share - low, high - first.share))
    return found


def _permuted(contrasts: Sequence[Contrast], level: float) -> list[tuple[float, float]] | None:
    each, found = 1 - (1 - level) / len(contrasts), []
    for contrast in contrasts:
        if not isinstance(contrast.second, Sample) or min(contrast.sizes.values()) < 2:
            return None
        interval = permutation_interval(contrast.first.values, contrast.second.values, each)
        if interval is None:
            return None
        found.append((contrast.value - interval[0], interval[1] - contrast.value))
    return found


def _pooled_reaches(contrasts: Sequence[Contrast], spread: Spread, level: float) -> list[tuple[float, float]]:
    def covariance(one: Contrast, other: Contrast) -> float:
        shared = one.weights.keys() & other.weights.keys()
        return sum(one.weights[name] * other.weights[name] / one.sizes[name] for name in shared)

    moving = [contrast for contrast in contrasts if contrast.weights]
    if not moving:
        return [(0.0, 0.0)] * len(contrasts)
    errors = {id(contrast): math.sqrt(covariance(contrast, contrast)) for contrast in moving}
    correlation = tuple(
        tuple(round(covariance(one, other) / (errors[id(one)] * errors[id(other)]), 9) for other in moving)
        for one in moving
    )
    factor = critical_value(correlation, spread.freedom, level) * spread.deviation
    return [(factor * errors.get(id(contrast), 0.0),) * 2 for contrast in contrasts]
