"""Intervals against published tables, enumeration and simulation."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vggkit.report import intervals
from vggkit.report.intervals import (
    LEVEL,
    Contrast,
    Sample,
    Spread,
    exact_test,
    images_alone,
    intervals_by_spread,
    joint_intervals,
    permutation_interval,
    pooled_spread,
)

SIMULATED = 400


def at_most(rate: float, cases: int) -> int:
    """How many of `cases` may go wrong at a true `rate`; exceeded with a probability of 1 in 1,000 (binomial)."""
    return int(stats.binom.ppf(0.999, cases, rate))


@pytest.mark.parametrize(
    ("hits", "images", "low", "high"),  # Newcombe 1998, Statistics in Medicine 17, 857-872, Table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_is_the_published_one(hits: int, images: int, low: float, high: float) -> None:
    assert intervals.wilson_interval(hits / images, images) == pytest.approx((low, high), abs=6e-5)
    theirs = stats.binomtest(hits, images).proportion_ci(0.9, method="wilson")
    assert intervals.wilson_interval(hits / images, images, 0.9) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "images", "low", "high"),  # the same volume, 873-890, Table II, method 10
    [(9, 3, 10, 0.1705, 0.8090), (6, 2, 7, 0.0582, 0.8062)],
)
def test_newcombe_interval_is_the_published_one(first: int, second: int, images: int, low: float, high: float) -> None:
    found = intervals.newcombe_interval(first / images, second / images, images)
    assert found == pytest.approx((low, high), abs=6e-5)


def interval_of(first: intervals.Values, second: intervals.Values) -> tuple[float, float]:
    found = permutation_interval(first, second)
    assert found is not None
    return found


def two_sided_p(first: np.ndarray, second: np.ndarray) -> float:
    """p of the two-sided permutation test: every way to divide the pooled values into two groups is tried."""
    pooled = np.concatenate([first, second])
    dealt = []
    for chosen in itertools.combinations(range(len(pooled)), len(first)):
        inside = np.isin(np.arange(len(pooled)), chosen)
        dealt.append(pooled[inside].mean() - pooled[~inside].mean())
    observed = first.mean() - second.mean()
    at_least, at_most = np.mean(np.array(dealt) >= observed - 1e-12), np.mean(np.array(dealt) <= observed + 1e-12)
    return float(min(1, 2 * min(at_least, at_most)))


@pytest.mark.parametrize("sizes", [(4, 4), (5, 5), (3, 5), (5, 4)])
def test_permutation_interval_holds_what_the_enumerated_test_does_not_reject(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(sizes))
    first, second = rng.normal(0.53, 0.01, sizes[0]), rng.normal(0.50, 0.01, sizes[1])
    low, high = interval_of(first, second)
    for bound, inwards in ((low, 1e-6), (high, -1e-6)):
        assert two_sided_p(first - bound - inwards, second) > 0.05
        assert two_sided_p(first - bound + inwards, second) <= 0.05
    sample = stats.permutation_test((first, second), lambda a, b: a.mean() - b.mean(), n_resamples=np.inf)
    assert two_sided_p(first, second) == pytest.approx(sample.pvalue)
    assert (low > 0 or high < 0) == (sample.pvalue <= 0.05)


def test_four_seeds_a_side_are_told_apart_by_complete_separation_and_three_by_no_permutation() -> None:
    assert permutation_interval([5, 6, 7, 8], [1, 2, 3, 4]) == (1, 7)  # 70 arrangements: 1 on each side
    assert permutation_interval([5, 6, 7], [1, 2, 3]) is None  # 20 arrangements: p is 0.1 at least
    assert (
        permutation_interval([5, 6, 7, 8], [1, 2, 3, 4], 1 - 0.05 / 2) is None
    )  # at 97.5 %, as for one of two comparisons
    assert permutation_interval(range(6, 11), range(1, 6), 1 - 0.05 / 6) == (
        1,
        9,
    )  # 252 arrangements are enough for six comparisons


def test_drawn_arrangements_give_nearly_what_all_of_them_do(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.53, 0.01, 7), rng.normal(0.50, 0.01, 6)
    exact = permutation_interval(first, second)
    monkeypatch.setattr(intervals, "MOST_ARRANGEMENTS", 0)
    intervals._swaps.cache_clear()
    assert permutation_interval(first, second) == pytest.approx(exact, abs=1e-3)
    again = permutation_interval(first, second)
    intervals._swaps.cache_clear()
    assert permutation_interval(first, second) == again
    intervals._swaps.cache_clear()


def test_work_for_a_permutation_interval_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    plain = itertools.combinations

    def counted(values: range, size: int) -> Iterator[tuple[int, ...]]:
        asked.append(math.comb(len(values), size))
        return plain(values, size)

    monkeypatch.setattr(itertools, "combinations", counted)
    intervals._swaps.cache_clear()
    rng = np.random.default_rng(0)
    for seeds in (7, 9, 40):
        first, second = rng.normal(1, 1, seeds), rng.normal(0, 1, seeds)
        low, high = interval_of(first, second)
        assert low < first.mean() - second.mean() < high
    assert asked == [math.comb(14, 7)]  # of nine and of forty seeds a side, nothing is enumerated
    welch = stats.ttest_ind(first, second, equal_var=False).confidence_interval(LEVEL)
    assert (low, high) == pytest.approx((welch.low, welch.high), abs=0.03)


def equicorrelated(count: int) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(1.0 if i == j else 0.5 for j in range(count)) for i in range(count))


@pytest.mark.parametrize(
    ("count", "freedom", "published"),  # Dunnett 1964, Biometrics 20, 482-491, two-sided, joint 95 %
    [(1, 5, 2.57), (2, 5, 3.03), (3, 5, 3.29), (6, 5, 3.73), (6, 16, 2.87)],
)
def test_critical_values_are_dunnetts(count: int, freedom: int, published: float) -> None:
    assert intervals.critical_value(equicorrelated(count), freedom) == pytest.approx(published, abs=0.006)


def test_pooled_intervals_are_scipys_dunnett() -> None:
    rng = np.random.default_rng(2)
    groups = [rng.normal(0.5, 0.01, 3) for _ in range(4)]  # too few seeds for permutations
    control, *others = (Sample(str(place), tuple(group)) for place, group in enumerate(groups))
    found = joint_intervals([Contrast(sample, control) for sample in others], pooled_spread(groups))
    theirs = stats.dunnett(*groups[1:], control=groups[0], random_state=0).confidence_interval(LEVEL)
    assert [effect.low for effect in found] == pytest.approx(list(theirs.low), abs=1e-4)
    assert [effect.high for effect in found] == pytest.approx(list(theirs.high), abs=1e-4)
    assert {effect.method for effect in found} == {intervals.POOLED}


def test_spread_is_pooled_over_groups_of_several() -> None:
    spread = pooled_spread([[1.0, 3.0], [5.0], [10.0, 10.0, 13.0]])  # squares 2 and 6, degrees of freedom 1 and 2
    assert spread.deviation == pytest.approx(math.sqrt(8 / 3)) and spread.freedom == 3
    assert pooled_spread([[1.0], [2.0]]).freedom == 0
    with pytest.raises(ValueError, match="spread: unknown"):
        joint_intervals([Contrast(Sample("a", (0.5,)), Sample("b", (0.4,)))], Spread(math.nan, 0))


def drawn(rng: np.random.Generator, mean: float, deviation: float, seeds: int, name: str, images: int) -> Sample:
    values = rng.binomial(images, rng.normal(mean, deviation, seeds)) / images
    return Sample(name, tuple(values), images, float(values.mean()))


@pytest.mark.simulated
@pytest.mark.parametrize("deviation", [0.0, 0.005, 0.02])
@pytest.mark.parametrize("lengths", [(1, 1), (1, 3)])
def test_interval_with_one_seed_a_side_covers_the_true_difference(lengths: tuple[int, int], deviation: float) -> None:
    rng, missed, newcombe = np.random.default_rng(3), 0, 0
    for _ in range(SIMULATED):
        first, second, third = (
            drawn(rng, mean, deviation, seeds, name, 10_000)
            for mean, seeds, name in zip((0.53, 0.5, 0.5), (*lengths, 3), "abc", strict=True)
        )
        (effect,) = joint_intervals([Contrast(first, second)], pooled_spread([second.values, third.values]))
        missed += not effect.low <= 0.03 <= effect.high
        low, high = intervals.newcombe_interval(first.share, second.share, 10_000)
        newcombe += not low <= 0.03 <= high
    assert missed <= at_most(0.05, SIMULATED)
    if deviation == 0.02:
        assert newcombe > 0.5 * SIMULATED  # images alone would miss most


@pytest.mark.simulated
@pytest.mark.parametrize(
    ("lengths", "deviation"),
    [
        *(((1, 1, 1, 1, 1, 1, 3), deviation) for deviation in (0.0, 0.005, 0.02)),
        *(
            pytest.param((seeds,) * 7, deviation, marks=[pytest.mark.slow] * (seeds != 3))
            for seeds in (2, 3, 5)
            for deviation in (0.0, 0.005, 0.02)
        ),
    ],
)
def test_simultaneous_intervals_cover_at_once(lengths: tuple[int, ...], deviation: float) -> None:
    rng, missed = np.random.default_rng(4), 0
    for _ in range(SIMULATED):
        samples = [drawn(rng, 0.5, deviation, seeds, str(place), 10_000) for place, seeds in enumerate(lengths)]
        contrasts = [Contrast(samples[0], other) for other in samples[1:]]
        effects = joint_intervals(contrasts, pooled_spread(sample.values for sample in samples))
        missed += any(effect.low > 0 or effect.high < 0 for effect in effects)
    assert missed <= at_most(0.05, SIMULATED)


def test_network_that_guesses_has_no_spread_over_seeds() -> None:
    guessing = Sample("vgg38", (0.01,), 10_000, 0.01, steady=True)
    (effect,) = joint_intervals([Contrast(guessing, 0.01)], Spread(0.2, 2))
    assert (effect.low, effect.high) == pytest.approx(
        [bound - 0.01 for bound in intervals.wilson_interval(0.01, 10_000)]
    )
    assert effect.method == intervals.IMAGES


def test_a_difference_told_twice_widens_no_interval() -> None:
    # One network compared with several whose values no seed changes gives the same t value each time.
    once = float(stats.t.ppf(0.975, 4))
    assert intervals.critical_value(((1.0, 1.0), (1.0, 1.0)), 4) == pytest.approx(once)
    assert intervals.critical_value(((1.0, -1.0), (-1.0, 1.0)), 4) == pytest.approx(once)
    two = intervals.critical_value(((1.0, 0.5), (0.5, 1.0)), 14)
    assert intervals.critical_value(((1.0, 1.0, 0.5), (1.0, 1.0, 0.5), (0.5, 0.5, 1.0)), 14) == pytest.approx(two)
    assert stats.t.ppf(0.975, 14) < two < stats.t.ppf(1 - 0.05 / 4, 14)  # between one alone and Bonferroni


@given(counts=st.tuples(*(st.integers(0, 8) for _ in range(4))))
def test_exact_test_of_one_stratum_is_fishers(counts: tuple[int, int, int, int]) -> None:
    hits, misses, others, wrong = counts
    ours = exact_test([((hits, hits + misses), (others, others + wrong))])
    assert ours == pytest.approx(stats.fisher_exact([[hits, misses], [others, wrong]]).pvalue, abs=1e-7)


def test_exact_test_of_strata_is_that_of_all_arrangements_within_each() -> None:
    strata = [((3, 4), (1, 3)), ((1, 1), (1, 3)), ((2, 2), (2, 2))]

    def sums(stratum: tuple[tuple[int, int], tuple[int, int]]) -> list[int]:
        """Hits of the first side, for each way to choose who is on it."""
        (hits, of), (others, also) = stratum
        people = [1] * (hits + others) + [0] * (of + also - hits - others)
        return [sum(chosen) for chosen in itertools.combinations(people, of)]

    every = Counter(sum(found) for found in itertools.product(*map(sums, strata)))
    seen = every[sum(hits for (hits, _), _ in strata)]
    expected = sum(count for count in every.values() if count <= seen) / every.total()
    assert exact_test(strata) == pytest.approx(expected)
    assert exact_test(strata[:2]) == pytest.approx(exact_test(strata))  # where all hit, nothing is said
    assert exact_test([]) == exact_test([((0, 3), (0, 4))]) == 1


def test_differences_of_several_spreads_share_the_chance_of_a_miss() -> None:
    base = Sample("base", (0.50, 0.51), 10_000, 0.505)
    others = [Sample(f"at {value}", (value, value + 0.01), 10_000, value + 0.005) for value in (0.4, 0.5, 0.6)]
    contrasts = [Contrast(other, base) for other in others]
    narrow, wide, unknown = Spread(0.005, 6), Spread(0.02, 3), Spread(math.nan, 0)
    assert intervals_by_spread([(one, narrow) for one in contrasts]) == joint_intervals(contrasts, narrow)
    assert intervals_by_spread([(one, unknown) for one in contrasts]) == images_alone(contrasts)
    first, second, third = intervals_by_spread(list(zip(contrasts, (narrow, wide, narrow), strict=True)))
    assert [first, third] == joint_intervals([contrasts[0], contrasts[2]], narrow, 1 - 0.05 * 2 / 3)
    assert [second] == joint_intervals([contrasts[1]], wide, 1 - 0.05 / 3)
    assert intervals_by_spread([]) == []


def test_permutation_intervals_of_several_differences_are_each_at_their_share_of_the_level() -> None:
    rng = np.random.default_rng(1)
    samples = [Sample(name, tuple(rng.normal(size=6))) for name in "abc"]
    contrasts = [Contrast(one, samples[2]) for one in samples[:2]]
    for level in (LEVEL, 0.9):
        found = joint_intervals(contrasts, Spread(1.0, 15), level)
        expected = [permutation_interval(one.values, samples[2].values, 1 - (1 - level) / 2) for one in samples[:2]]
        assert [(effect.low, effect.high) for effect in found] == [pytest.approx(interval) for interval in expected]


def test_intervals_of_images_are_each_at_sidaks_level() -> None:
    samples = [Sample(name, (share,), 10_000, share) for name, share in (("a", 0.4), ("b", 0.5), ("c", 0.6))]
    contrasts = [Contrast(one, samples[2]) for one in samples[:2]]
    for effect, one in zip(images_alone(contrasts), samples, strict=False):
        expected = intervals.newcombe_interval(one.share, 0.6, 10_000, LEVEL**0.5)
        assert (effect.low, effect.high) == pytest.approx(expected)


def test_spread_of_few_seeds_reaches_further_than_a_larger_one_of_many() -> None:
    few, many = Spread(0.010, 1), Spread(0.011, 20)
    assert few.reach == pytest.approx(0.010 * 12.706, rel=1e-4) and few.reach > many.reach
    assert Spread(math.nan, 0).reach == math.inf
