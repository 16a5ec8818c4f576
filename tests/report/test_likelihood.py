"""Likelihood of one more run, on simulated runs whose truth is known, and beside Hotelling's and Student's."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.path import Path
from scipy import stats

from vggkit.report import likelihood
from vggkit.report.likelihood import Scatter, predict, scatter, times

COVARIANCE = np.array([[1.0, -0.6], [-0.6, 4.0]])
SPREAD = Scatter(np.array([[2.0, 0.5], [0.5, 1.0]]), 6)
RUNS = np.array([[1.0, 2.0], [3.0, 2.5]])


def study(rng: np.random.Generator, means: Sequence[Sequence[float]], runs: int) -> list[np.ndarray]:
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


@pytest.mark.parametrize("value", [[1.5, 1.0], [4.0, 3.0], [2.0, 0.0]])
def test_without_other_variances_it_is_hotelling_and_student(value: list[float]) -> None:
    found = predict(RUNS, SPREAD)
    assert found
    degrees, away = SPREAD.freedom - 1, np.array(value) - RUNS.mean(axis=0)
    shape = 1.5 * SPREAD.squares / degrees
    exact = stats.f.sf(away @ np.linalg.solve(shape, away) / 2, 2, degrees)
    assert found.chance(value) == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / likelihood.DRAWS))
    density = stats.multivariate_t(RUNS.mean(axis=0), shape, df=degrees).logpdf(value)
    assert found.log_likelihood(value) == pytest.approx(density, abs=0.1)


@pytest.mark.parametrize(("kinds", "runs"), [(2, 2), (3, 1), (5, 2)])
def test_chance_is_uniform_where_the_value_is_one_more_run(
    kinds: int, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is drawn with a known variance beside that of the runs: nearly so, and at the small end closer."""
    monkeypatch.setattr(likelihood, "DRAWS", 2_000)
    rng, more = np.random.default_rng(1), (0.0, 8.0)
    chances = []
    for _ in range(300):
        spread = scatter(study(rng, [[place, 1] for place in range(kinds)], 2))
        own = rng.multivariate_normal([0, 0], COVARIANCE, size=runs)
        found = predict(own, spread, more)
        assert found
        chances.append(found.chance(rng.multivariate_normal([0, 0], COVARIANCE + np.diag(more))))
    for chance, reach in ((0.05, 0.035), (0.3, 0.11), (0.7, 0.11)):
        assert np.mean(np.array(chances) < chance) == pytest.approx(chance, abs=reach)


def test_a_kind_that_lies_elsewhere_is_less_likely_the_more_runs_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "COVARIANCES", 500)
    rng = np.random.default_rng(2)
    right = {}
    for runs in (2, 10):
        hits = []
        for _ in range(100):
            kinds = study(rng, [[0, 0], [4, 0]], runs)
            spread, value = scatter(kinds), rng.multivariate_normal([0, 0], COVARIANCE)
            one, other = (predict(kind, spread) for kind in kinds)
            assert one and other
            hits.append(one.log_likelihood(value) > other.log_likelihood(value))
        right[runs] = np.mean(hits)
    assert 0.7 < right[2] < right[10]
    assert right[10] > 0.95


def test_with_many_runs_it_is_the_normal_distribution() -> None:
    runs = np.random.default_rng(3).multivariate_normal([5, 5], COVARIANCE, size=20_000)
    found = predict(runs, scatter([runs]), [0.5, 1.0])
    assert found
    true = stats.multivariate_normal([5, 5], COVARIANCE + np.diag([0.5, 1.0]))
    assert found.log_likelihood([6.0, 3.0]) == pytest.approx(true.logpdf([6.0, 3.0]), abs=0.05)
    distance = np.array([1, -2]) @ np.linalg.inv(COVARIANCE + np.diag([0.5, 1.0])) @ np.array([1, -2])
    assert found.chance([6.0, 3.0]) == pytest.approx(math.exp(-distance / 2), abs=0.02)


def test_region_is_where_the_chance_is_what_is_left() -> None:
    found = predict(RUNS, SPREAD, [0.1, 3.0])
    assert found
    edge = found.region(0.9)
    assert [found.chance(place) for place in edge] == pytest.approx([0.1] * len(edge), abs=0.002)
    wide = Path(found.region(0.99))
    assert all(wide.contains_point((x, y)) for x, y in edge)


def test_nothing_is_told_where_the_spread_does_not_tell_and_factors_stay_finite() -> None:
    assert predict(RUNS, Scatter(np.eye(2), 1)) is None
    assert predict(RUNS, Scatter(np.array([[1.0, 0.0], [0.0, 0.0]]), 4)) is None  # two seeds with the same accuracy
    assert times(-1.0, -3.0) == pytest.approx(math.e**2)
    assert math.isfinite(times(0.0, -1e9))
