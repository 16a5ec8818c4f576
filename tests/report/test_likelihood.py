"""Likelihood of one more run, on simulated runs whose truth is known."""

import math

import numpy as np
import pytest
from matplotlib.path import Path
from scipy import stats

from vggkit.report.likelihood import Scatter, fit, region, scatter, times

COVARIANCE = np.array([[1.0, -0.6], [-0.6, 4.0]])


def study(rng: np.random.Generator, means: list[list[float]], runs: int) -> list[np.ndarray]:
    return [rng.multivariate_normal(mean, COVARIANCE, size=runs) for mean in means]


def test_scatter_is_the_pooled_covariance_and_single_runs_add_nothing() -> None:
    rng = np.random.default_rng(0)
    kinds = study(rng, [[0, 0], [50, 9]], 4)
    expected = sum(3 * np.cov(kind.T) for kind in kinds)
    found = scatter([*kinds, np.array([[7.0, 7.0]])])
    assert found.freedom == 6
    np.testing.assert_allclose(found.squares, expected)
    with pytest.raises(ValueError, match="kinds"):
        scatter([])


@pytest.mark.parametrize("runs", [2, 5])
def test_chance_is_uniform_where_the_value_is_one_more_run(runs: int) -> None:
    rng = np.random.default_rng(1)
    chances = []
    for _ in range(400):
        kinds = study(rng, [[0, 0], [3, 1], [9, 2]], runs)
        found = fit(rng.multivariate_normal([0, 0], COVARIANCE), kinds[0], scatter(kinds))
        assert found
        chances.append(found.chance)
    assert stats.kstest(chances, "uniform").pvalue > 0.01


def test_a_kind_that_lies_elsewhere_is_less_likely_the_more_runs_there_are() -> None:
    rng = np.random.default_rng(2)
    right = {}
    for runs in (2, 10):
        hits = []
        for _ in range(100):
            kinds = study(rng, [[0, 0], [4, 0]], runs)
            spread, value = scatter(kinds), rng.multivariate_normal([0, 0], COVARIANCE)
            one, other = (fit(value, kind, spread) for kind in kinds)
            assert one and other
            hits.append(one.log_likelihood > other.log_likelihood)
        right[runs] = np.mean(hits)
    assert 0.75 < right[2] < right[10]
    assert right[10] > 0.95


def test_with_many_runs_it_is_the_normal_distribution() -> None:
    runs = np.random.default_rng(3).multivariate_normal([5, 5], COVARIANCE, size=20_000)
    found = fit([6.0, 3.0], runs, scatter([runs]), [0.5, 1.0])
    assert found
    true = stats.multivariate_normal([5, 5], COVARIANCE + np.diag([0.5, 1.0]))
    assert found.log_likelihood == pytest.approx(true.logpdf([6.0, 3.0]), abs=0.05)
    distance = np.array([1, -2]) @ np.linalg.inv(COVARIANCE + np.diag([0.5, 1.0])) @ np.array([1, -2])
    assert found.chance == pytest.approx(math.exp(-distance / 2), abs=0.01)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_region_holds_its_share_of_further_runs(level: float) -> None:
    rng = np.random.default_rng(5)
    inside = []
    for _ in range(1000):
        kinds = study(rng, [[0, 0], [3, 1], [9, 2]], 3)
        spread, value = scatter(kinds), rng.multivariate_normal([0, 0], COVARIANCE)
        edge, found = region(kinds[0], spread, level=level), fit(value, kinds[0], spread)
        assert edge is not None and found
        inside.append(Path(edge).contains_point((value[0], value[1])))
        assert inside[-1] == (found.chance > 1 - level) or found.chance == pytest.approx(1 - level, abs=0.01)
    assert np.mean(inside) == pytest.approx(level, abs=0.05)


def test_region_is_where_the_chance_is_what_is_left() -> None:
    runs, spread, more = np.array([[1.0, 2.0], [3.0, 2.5]]), Scatter(np.array([[2.0, 0.5], [0.5, 1.0]]), 6), [0.1, 3.0]
    edge = region(runs, spread, more, 0.9)
    assert edge is not None
    chances = [found.chance for place in edge if (found := fit(place, runs, spread, more))]
    np.testing.assert_allclose(chances, [0.1] * len(edge))
    assert region(runs, Scatter(np.eye(2), 1)) is None


def test_nothing_is_told_with_too_few_runs_and_factors_stay_finite() -> None:
    assert fit([0.0, 0.0], np.zeros((1, 2)), Scatter(np.eye(2), 1)) is None
    assert times(-1.0, -3.0) == pytest.approx(math.e**2)
    assert math.isfinite(times(0.0, -1e9))
