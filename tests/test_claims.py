"""Verdicts: each rule on made-up runs whose answer is known, the intervals against published and enumerated ones."""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vggkit import claims, tables
from vggkit.artifacts import Run
from vggkit.claims import FAILS, HOLDS, OPEN
from vggkit.config import SUITES, RunConfig

FIVE_LOW, FIVE_HIGH = [0.480, 0.482, 0.484, 0.486, 0.488], [0.520, 0.522, 0.524, 0.526, 0.528]
OVERLAPPING = [0.476, 0.490, 0.483, 0.479, 0.487]


def made_up(
    name: str,
    accuracy: float | None = 0.5,
    suite: str = "table1",
    seed: int = 0,
    losses: Sequence[float] = (2.0, 1.0),
    gradients: Sequence[float] = (),
    **final: float,
) -> Run:
    config = RunConfig.named(name, suite=suite, seed=seed)
    metrics = pd.DataFrame({"epoch": range(1, len(losses) + 1), "validation_loss": losses})
    layers = {"epoch": 1, "layer": range(len(gradients)), "mean_abs": gradients, "over": "last", "kind": "conv"}
    summary = {"final": {"test_accuracy": accuracy, **final}, "diverged": accuracy is None, "parameters": 1}
    return Run(config, metrics, pd.DataFrame(layers), summary)


def verdict(claim: str, suite: str = "table1", **accuracies: Sequence[float | None]) -> str:
    named = {name.replace("_lr", "_lr1e-2"): values for name, values in accuracies.items()}
    runs = {n: [made_up(n, v, suite, seed) for seed, v in enumerate(values)] for n, values in named.items()}
    return claims.judge(claim, runs)[0]


@pytest.mark.parametrize(
    ("hits", "images", "low", "high"),  # Newcombe 1998, Statistics in Medicine 17, 857-872, Table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_is_the_published_one(hits: int, images: int, low: float, high: float) -> None:
    assert claims.wilson_interval(hits / images, images) == pytest.approx((low, high), abs=6e-5)


@pytest.mark.parametrize(
    ("first", "second", "images", "low", "high"),  # the same volume, 873-890, Table II, method 10
    [(9, 3, 10, 0.1705, 0.8090), (6, 2, 7, 0.0582, 0.8062)],
)
def test_newcombe_interval_is_the_published_one(first: int, second: int, images: int, low: float, high: float) -> None:
    found = claims.newcombe_interval(first / images, second / images, images)
    assert found == pytest.approx((low, high), abs=6e-5)


def two_sided_p(first: np.ndarray, second: np.ndarray) -> float:
    """By enumeration of every way to deal the pooled values into two groups."""
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
    low, high = claims.permutation_interval(first, second)  # type: ignore[misc]
    for bound, inwards in ((low, 1e-6), (high, -1e-6)):
        assert two_sided_p(first - bound - inwards, second) > 0.05
        assert two_sided_p(first - bound + inwards, second) <= 0.05
    sample = stats.permutation_test((first, second), lambda a, b: a.mean() - b.mean(), n_resamples=np.inf)
    assert two_sided_p(first, second) == pytest.approx(sample.pvalue)
    assert (low > 0 or high < 0) == (sample.pvalue <= 0.05)


def test_four_seeds_a_side_are_told_apart_by_complete_separation_and_three_by_no_permutation() -> None:
    assert claims.permutation_interval([5, 6, 7, 8], [1, 2, 3, 4]) == (1, 7)  # 70 arrangements: 1 on each side
    assert claims.permutation_interval([5, 6, 7], [1, 2, 3]) is None  # 20 arrangements: p is 0.1 at least
    assert claims.difference([0.3, 0.4, 0.5, 0.6], [0.3, 0.2, 0.1, 0.1]).above() == OPEN  # one value shared: low is 0


@pytest.mark.parametrize(
    ("first", "second", "method"),
    [
        (FIVE_HIGH, FIVE_LOW, "permutation"),
        (FIVE_HIGH[:3], FIVE_LOW[:3], "Welch"),
        (FIVE_HIGH[:2], FIVE_LOW, "Welch"),  # 21 arrangements
        (FIVE_HIGH, FIVE_LOW[:1], "Newcombe"),
        ([0.5, 0.5], [0.5, 0.5], "Newcombe"),  # no spread to go by
    ],
)
def test_method_follows_the_number_of_seeds(first: list[float], second: list[float], method: str) -> None:
    effect = claims.difference(first, second)
    assert effect.method == method
    assert effect.value == pytest.approx(np.mean(first) - np.mean(second))
    assert effect.low <= effect.value <= effect.high


def test_more_is_told_where_the_interval_holds_no_zero() -> None:
    for high, low in (([0.53], [0.48]), (FIVE_HIGH[:3], FIVE_LOW[:3]), (FIVE_HIGH, FIVE_LOW), (FIVE_HIGH, [0.48])):
        assert verdict("residual_over_bn", vgg38_rc=high, vgg38_bn=low) == HOLDS
        assert verdict("residual_over_bn", vgg38_rc=low, vgg38_bn=high) == FAILS
        assert verdict("residual_over_bn", vgg38_rc=high, vgg38_bn=high) == OPEN
    assert verdict("residual_over_bn", vgg38_rc=[0.500], vgg38_bn=[0.498]) == OPEN
    assert verdict("residual_over_bn", vgg38_rc=FIVE_LOW, vgg38_bn=OVERLAPPING) == OPEN
    assert verdict("residual_over_bn", vgg38_rc=[0.53]) == OPEN


def test_diverged_run_counts_as_chance() -> None:
    assert verdict("residual_over_bn", vgg38_rc=[0.53], vgg38_bn=[None]) == HOLDS
    assert verdict("trainable", vgg38=[None], vgg38_bn=[0.5], vgg38_rc=[0.5]) == HOLDS
    assert verdict("trainable", vgg38=[0.01], vgg38_bn=[None], vgg38_rc=[0.5]) == FAILS


def test_trainable_is_more_than_a_point_above_chance() -> None:
    assert verdict("trainable", vgg38=[0.01], vgg38_bn=[0.5], vgg38_rc=[0.5]) == HOLDS
    assert verdict("trainable", vgg38=[0.01, 0.01], vgg38_bn=[0.5, 0.51], vgg38_rc=[0.5, 0.51]) == HOLDS
    assert verdict("trainable", vgg38=[0.30], vgg38_bn=[0.5], vgg38_rc=[0.5]) == FAILS
    assert verdict("trainable", vgg38=[0.02], vgg38_bn=[0.5], vgg38_rc=[0.5]) == OPEN
    assert verdict("trainable", vgg38=[0.01, 0.9], vgg38_bn=[0.5], vgg38_rc=[0.5]) == OPEN


def test_best_is_above_each_of_the_others() -> None:
    others = {"vgg38_rc": [0.50], "vgg38_bn": [0.48], "vgg38": [0.01]}
    assert verdict("both_best", vgg38_bn_rc=[0.55], **others) == HOLDS
    assert verdict("both_best", vgg38_bn_rc=[0.505], **others) == OPEN
    assert verdict("both_best", vgg38_bn_rc=[0.45], **others) == FAILS


def test_close_is_within_two_points_by_the_whole_interval() -> None:
    assert verdict("learning_rate_bn", vgg38_bn=[0.48], vgg38_bn_lr=[0.48]) == HOLDS
    assert verdict("learning_rate_bn", vgg38_bn=[0.48], vgg38_bn_lr=[0.465]) == OPEN
    assert verdict("learning_rate_bn", vgg38_bn=[0.48], vgg38_bn_lr=[0.52]) == FAILS
    assert verdict("learning_rate_bn", vgg38_bn=FIVE_LOW, vgg38_bn_lr=OVERLAPPING) == HOLDS
    assert verdict("learning_rate_bn", vgg38_bn=FIVE_LOW, vgg38_bn_lr=FIVE_HIGH) == FAILS


def overfits(*losses: Sequence[float], claim: str = "overfits") -> str:
    name = "vgg38_bn_rc_lr1e-2"
    return claims.judge(claim, {name: [made_up(name, seed=s, losses=v) for s, v in enumerate(losses)]})[0]


def test_overfitting_turns_early_and_ends_five_per_cent_above() -> None:
    def turning(epoch: int, end: float) -> list[float]:
        return [2.0] * (epoch - 1) + [1.0] + [end] * (100 - epoch)

    assert overfits(turning(50, 1.06)) == HOLDS
    assert overfits(turning(89, 1.06), turning(20, 1.5)) == HOLDS
    assert overfits(turning(50, 1.04)) == FAILS
    assert overfits(turning(90, 1.5)) == FAILS
    assert overfits(turning(50, 1.06), turning(90, 1.5)) == OPEN
    assert overfits(turning(50, 1.06), claim="turns") == HOLDS
    assert overfits(turning(34, 1.06), claim="turns") == FAILS
    assert overfits(turning(50, 1.06), turning(70, 1.06), claim="turns") == OPEN
    assert overfits([np.nan] * 100) == OPEN
    assert overfits([*turning(50, 1.06)[:99], np.inf]) == OPEN


def test_turning_epoch_of_a_diverged_run_is_none() -> None:
    assert tables.turning_epoch(made_up("vgg08", losses=[np.nan, np.inf])) is None
    assert tables.turning_epoch(made_up("vgg08", losses=[3.0, 2.0, np.nan])) == 2


def test_vanishing_is_below_a_hundredth_of_the_last_layer_in_every_seed() -> None:
    def judged(*ratios: float) -> str:
        runs = [made_up("vgg38", seed=s, gradients=[r, r, 5.0, 1.0]) for s, r in enumerate(ratios)]
        return claims.judge("vanishing", {"vgg38": runs})[0]

    assert judged(0.009) == judged(0.0, 1e-12) == HOLDS
    assert judged(0.011) == FAILS
    assert judged(0.009, 0.011) == judged(np.nan) == OPEN


def shown(runs: dict[str, list[Run]]) -> str:
    return claims.table(runs).set_index("claim").loc[tables.REPORT["claims"]["residual_over_bn"], "verdict"]


def test_reduced_runs_decide_nothing_and_give_a_direction_only_where_all_are_of_one_suite() -> None:
    assert verdict("residual_over_bn", "short", vgg38_rc=[0.53], vgg38_bn=[0.48]) == OPEN
    rc, bn = "vgg38_rc", "vgg38_bn"
    full, preview = made_up(rc, 0.53), {name: made_up(name, a, "preview") for name, a in ((rc, 0.1), (bn, 0.2))}
    assert shown({rc: [full], bn: [made_up(bn, 0.48)]}) == HOLDS
    assert shown({rc: [full], bn: [preview[bn]]}) == f"{OPEN} yet"
    both = {rc: [full, preview[rc]], bn: [preview[bn]]}
    epochs = SUITES["preview"]["epochs"]
    assert shown(both) == f"{OPEN} yet\n(preview, {epochs} epochs: {FAILS})"
    assert shown({name: [run, made_up(name, 0.3, "short")] for name, run in preview.items()}).count("short") == 1


def test_page_says_rules_methods_and_seeds() -> None:
    runs = {n: [made_up(n, a, seed=s) for s in range(4)] for n, a in (("vgg38_rc", 0.53), ("vgg38_bn", 0.48))}
    words = claims.table(runs).set_index("claim").loc[tables.REPORT["claims"]["residual_over_bn"], "our runs"]
    assert words.replace("\xa0", " ") == "VGG38 RC − VGG38 BN: +5.00 [+5.00, +5.00] (permutation, 4 + 4 seeds)"
    for number in (claims.CLOSE, claims.LEARNS, claims.LATEST_TURN, claims.OVERFIT, claims.VANISHED):
        assert f"{100 * number:.0f}" in claims.RULES


def test_difference_from_the_report_is_set_against_the_spread_over_seeds() -> None:
    names = tables.METRICS

    def trained(name: str, seed: int, value: float) -> Run:
        return made_up(name, seed=seed, **dict.fromkeys(names, value))

    runs = {"vgg08": [trained("vgg08", s, v) for s, v in enumerate((0.48, 0.50, 0.52))]}
    frame = claims.against_report(runs | {"vgg38_rc": [trained("vgg38_rc", 0, 0.5)]}).set_index(["name", "metric"])
    spread, factor = 2.0, 4.302653  # sample sd of 48, 50, 52; Student's t with 2 degrees of freedom
    assert frame.loc[("vgg08", "val acc %"), "allowed"] == pytest.approx(factor * spread * np.sqrt(4 / 3), rel=1e-6)
    assert frame.loc[("vgg38_rc", "val acc %"), "allowed"] == pytest.approx(factor * spread * np.sqrt(2), rel=1e-6)
    text = claims.against_report_text(runs)
    assert "train loss 0.50 against 1.74" in text and "val acc % 50.00" not in text
    assert "cannot be told" in claims.against_report_text({"vgg08": runs["vgg08"][:1]})
