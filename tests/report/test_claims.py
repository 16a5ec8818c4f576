"""Verdicts on claims: each rule on made-up runs whose verdict is known, and how often it is wrong on equal networks."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.shared import part_of_summary
from vggkit import study
from vggkit.config import RunConfig
from vggkit.report import claims, judgements, measures, reported, tables, verdicts
from vggkit.report.intervals import Effect
from vggkit.report.verdicts import FAILS, HOLDS, OPEN
from vggkit.runs.records import Run
from vggkit.study import CONFIGURATIONS, SUITES

FIVE_LOW, FIVE_HIGH = [0.480, 0.482, 0.484, 0.486, 0.488], [0.520, 0.522, 0.524, 0.526, 0.528]
OVERLAPPING = [0.476, 0.490, 0.483, 0.479, 0.487]
SPREAD = [0.498, 0.500, 0.502]  # three seeds of VGG08, which tell the spread over seeds
SIMULATED = 200


def made_up(
    name: str,
    accuracy: float | None = 0.5,
    suite: str = "table1",
    seed: int = 0,
    losses: Sequence[float] = (2.0, 1.0),
    gradients: Sequence[float] = (),
    **final: float,
) -> Run:
    """A run as training writes it. Without an accuracy it diverged: then it has no loss, and guesses."""
    config = RunConfig.named(name, suite=suite, seed=seed)
    frame = _frames(tuple(losses), tuple(gradients))
    shares = {f"{split}_accuracy": 0.01 if accuracy is None else accuracy for split in ("train", "validation", "test")}
    none = {f"{split}_loss": None for split in ("train", "validation", "test")}
    summary = part_of_summary(final=shares | none | final, diverged=accuracy is None, parameters=1)
    return Run(config, *frame, summary)


@cache
def _frames(losses: tuple[float, ...], gradients: tuple[float, ...]) -> tuple[pd.DataFrame, pd.DataFrame]:
    metrics = pd.DataFrame({"epoch": range(1, len(losses) + 1), "validation_loss": losses})
    kinds = ["conv"] * (len(gradients) - 1) + ["linear"]
    layers = {"epoch": 1, "layer": range(len(gradients)), "mean_abs": gradients, "kind": kinds[: len(gradients)]}
    return metrics, pd.concat([pd.DataFrame(layers).assign(over="mean"), pd.DataFrame(layers).assign(over="last")])


def judged(claim: str, shorter: Sequence[float] = SPREAD, **accuracies: Sequence[float | None]) -> str:
    """The verdict on runs of these accuracies, a run for each seed.

    VGG08 has three seeds, which tell its spread, and a VGG38 in a shorter suite, which tell that of its depth.
    """
    return judged_alone(claim, shorter, **{"vgg08": SPREAD} | accuracies)


def judged_alone(claim: str, shorter: Sequence[float] = (), **accuracies: Sequence[float | None]) -> str:
    """The verdict without these."""
    named = {name.replace("_lr", "_lr1e-2"): values for name, values in accuracies.items()}
    runs = {n: [made_up(n, v, seed=seed) for seed, v in enumerate(values)] for n, values in named.items()}
    more = {name: [*runs.get(name, ()), *deep(shorter, name)] for name in ("vgg38_bn_rc", BEST)}
    return judgements.judge(claim, runs | more).verdict


def deep(accuracies: Sequence[float], name: str = "vgg38_bn_rc") -> list[Run]:
    """Short runs of VGG38 BN+RC, whose spread over seeds stands in for that of full runs of VGG38 at their rate."""
    return [made_up(name, value, "short", seed) for seed, value in enumerate(accuracies)]


def test_more_is_told_where_the_interval_holds_no_zero() -> None:
    for high, low in (([0.53], [0.48]), (FIVE_HIGH[:3], FIVE_LOW[:3]), (FIVE_HIGH, FIVE_LOW), (FIVE_HIGH, [0.48])):
        assert judged("residual_over_bn", vgg38_rc=high, vgg38_bn=low) == HOLDS
        assert judged("residual_over_bn", vgg38_rc=low, vgg38_bn=high) == FAILS
        assert judged("residual_over_bn", vgg38_rc=high, vgg38_bn=high) == OPEN
    assert judged("residual_over_bn", vgg38_rc=[0.500], vgg38_bn=[0.498]) == OPEN
    assert judged("residual_over_bn", vgg38_rc=FIVE_LOW, vgg38_bn=OVERLAPPING) == OPEN
    assert judged("residual_over_bn", vgg38_rc=[0.53]) == OPEN


def test_without_a_spread_over_seeds_there_is_no_verdict_but_what_these_runs_say() -> None:
    runs = {name: [made_up(name, value)] for name, value in (("vgg38_rc", 0.60), ("vgg38_bn", 0.40))}
    found = judgements.judge("residual_over_bn", runs)
    assert (found.verdict, found.tendency, found.settled) == (OPEN, HOLDS, False)
    assert shown(runs) == "these runs: for it"
    assert shown({"vgg38_rc": runs["vgg38_bn"], "vgg38_bn": runs["vgg38_rc"]}) != "these runs: for it"
    assert "images alone" in judgements.judge("residual_over_bn", runs).parts[0].words
    assert judged_alone("residual_over_bn", vgg38_rc=[0.60], vgg38_bn=[0.40]) == OPEN
    wide = [0.40, 0.50, 0.60]  # the same two runs beside seeds that differ much
    assert judged("residual_over_bn", wide, vgg38_rc=[0.60], vgg38_bn=[0.40]) == OPEN


def test_spread_comes_from_networks_of_the_same_depth_by_full_runs_and_else_by_shorter_ones() -> None:
    two = {"vgg38_rc": [0.55], "vgg38_bn": [0.45]}
    assert judged_alone("residual_over_bn", vgg08=SPREAD, **two) == OPEN  # of another depth alone
    assert judged_alone("residual_over_bn", SPREAD, **two) == HOLDS
    runs = {name: [made_up(name, values[0])] for name, values in two.items()} | {"vgg38_bn_rc": deep(SPREAD)}
    assert "(pooled t, 2 df of shorter runs, 1 + 1 seeds)" in judgements.judge("residual_over_bn", runs).parts[0].words
    full = [made_up("vgg38_bn_rc", value, seed=seed) for seed, value in enumerate((0.5, 0.7))]
    found = judgements.judge("residual_over_bn", runs | {"vgg38_bn_rc": [*deep(SPREAD), *full]})
    assert found.verdict == OPEN and "(pooled t, 1 df, 1 + 1 seeds)" in found.parts[0].words
    # Of two depths the larger spread counts, whichever it is.
    assert judged("bn_over_vgg08", (0.4, 0.5, 0.6), vgg38_bn=[0.60]) == OPEN
    assert judged("bn_over_vgg08", vgg08=[0.4, 0.5, 0.6], vgg38_bn=[0.65]) == OPEN
    assert judged("bn_over_vgg08", vgg38_bn=[0.60]) == HOLDS


def test_spread_of_networks_at_one_learning_rate_says_nothing_of_those_at_another() -> None:
    wide = {"vgg38_bn_lr": [0.30, 0.60]}
    assert judged("residual_over_bn", vgg38_rc=[0.55], vgg38_bn=[0.45], **wide) == HOLDS
    assert judged("learning_rate_bn", vgg38_bn=[0.55], **wide) == OPEN
    alone = {"vgg38_rc": [0.55], "vgg38_bn": [0.45], "vgg38_bn_lr": [0.45, 0.451]}
    assert judged_alone("residual_over_bn", **alone) == OPEN


def test_network_that_names_one_class_for_all_images_is_at_chance_exactly() -> None:
    runs = {n: [made_up(n, v)] for n, v in (("vgg38", 0.01), ("vgg38_bn", 0.5), ("vgg38_rc", 0.5))}
    told = judgements.judge("trainable", runs | {"vgg38_bn_rc": deep(SPREAD)}).parts
    assert told[0].words == "VGG38 − chance: +0.00 (exactly: one class for all images, 1 seed)"
    runs["vgg38"] = [made_up("vgg38", 0.011)]
    assert "images alone" in judgements.judge("trainable", runs | {"vgg38_bn_rc": deep(SPREAD)}).parts[0].words


def test_networks_that_guess_tell_no_spread() -> None:
    assert judged_alone("residual_over_bn", vgg38=[0.01] * 3, vgg38_rc=[0.60], vgg38_bn=[0.40]) == OPEN


def test_diverged_run_counts_as_chance() -> None:
    answering = {"vgg38_rc": [made_up("vgg38_rc", 0.53)], "vgg38_bn": [made_up("vgg38_bn", None, test_accuracy=0.6)]}
    sample = verdicts.ACCURACY.samples(answering)["vgg38_bn"]
    assert sample is not None and sample.mean == 0.01
    assert judged("residual_over_bn", vgg38_rc=[0.53], vgg38_bn=[None]) == HOLDS
    assert judged("trainable", vgg38=[None], vgg38_bn=[0.5], vgg38_rc=[0.5]) == HOLDS
    assert judged("trainable", vgg38=[0.01], vgg38_bn=[None], vgg38_rc=[0.5]) == FAILS


def test_trainable_is_more_than_a_point_above_chance() -> None:
    assert judged("trainable", vgg38=[0.01], vgg38_bn=[0.5], vgg38_rc=[0.5]) == HOLDS
    assert judged("trainable", vgg38=[0.01, 0.01], vgg38_bn=[0.5, 0.51], vgg38_rc=[0.5, 0.51]) == HOLDS
    assert judged("trainable", vgg38=[0.30], vgg38_bn=[0.5], vgg38_rc=[0.5]) == FAILS
    assert judged("trainable", vgg38=[0.02], vgg38_bn=[0.5], vgg38_rc=[0.5]) == OPEN
    assert judged("trainable", vgg38=[0.01], vgg38_bn=[0.5], vgg38_rc=[0.03]) == OPEN


def test_configuration_that_learns_with_some_seeds_decides_nothing() -> None:
    assert judged("trainable", vgg38=[0.01, 0.9], vgg38_bn=[0.5], vgg38_rc=[0.5]) == OPEN
    assert judged("residual_over_bn", vgg38_rc=[0.53, 0.54], vgg38_bn=[0.5, None]) == OPEN
    runs = {
        n: [made_up(n, v, seed=s) for s, v in enumerate(vs)]
        for n, vs in (("vgg38_rc", [0.5]), ("vgg38_bn", [0.4, None]))
    }
    assert "VGG38 BN learned in 1 of 2 seeds" in judgements.judge("residual_over_bn", runs).parts[0].words


def test_best_is_above_each_of_the_others() -> None:
    others = {"vgg38_rc": [0.50], "vgg38_bn": [0.48], "vgg38": [0.01]}
    assert judged("both_best", vgg38_bn_rc=[0.55], **others) == HOLDS
    assert judged("both_best", vgg38_bn_rc=[0.505], **others) == OPEN
    assert judged("both_best", vgg38_bn_rc=[0.45], **others) == FAILS


def test_deeper_is_judged_by_the_networks_with_residual_connections_and_bn_by_itself() -> None:
    with_rc = {"vgg38_rc": [0.53], "vgg38_bn_rc": [0.54], "vgg38_bn_rc_lr": [0.60]}
    assert judged("deeper", **with_rc) == HOLDS
    assert judged("deeper", **with_rc | {"vgg38_rc": [0.45]}) == FAILS
    assert judged("deeper", **with_rc | {"vgg38_rc": [0.50]}) == OPEN
    assert judged("bn_over_vgg08", vgg38_bn=[0.53]) == HOLDS
    assert judged("bn_over_vgg08", vgg38_bn=[0.46]) == FAILS


def test_close_is_within_two_points_by_the_whole_interval() -> None:
    tight: Any = {"shorter": [0.5, 0.5, 0.5001]}
    assert judged("learning_rate_bn", **tight, vgg38_bn=[0.48], vgg38_bn_lr=[0.48]) == HOLDS
    assert judged("learning_rate_bn", **tight, vgg38_bn=[0.48], vgg38_bn_lr=[0.465]) == OPEN
    assert judged("learning_rate_bn", **tight, vgg38_bn=[0.48], vgg38_bn_lr=[0.52]) == FAILS
    assert judged("learning_rate_bn", vgg38_bn=FIVE_LOW, vgg38_bn_lr=OVERLAPPING) == HOLDS
    assert judged("learning_rate_bn", vgg38_bn=FIVE_LOW, vgg38_bn_lr=[x + 0.02 for x in FIVE_HIGH]) == FAILS


def regularise(*gaps: float) -> str:
    def run(name: str, gap: float, seed: int = 0) -> Run:
        return made_up(name, seed=seed, train_accuracy=0.5 + gap, validation_accuracy=0.5)

    runs = {"vgg08": [run("vgg08", gap, seed) for seed, gap in enumerate((0.10, 0.101, 0.099))]}
    runs |= {name: [run(name, gap)] for name, gap in zip(claims.REMEDIES, gaps, strict=True)}
    runs["vgg38_bn_rc"] += [
        made_up("vgg38_bn_rc", suite="short", seed=seed, train_accuracy=share)
        for seed, share in enumerate((0.6, 0.601))
    ]
    return judgements.judge("regularise", runs).verdict


def test_regularising_narrows_the_gap_of_every_remedy() -> None:
    assert regularise(0.04, 0.03, 0.02) == HOLDS
    assert regularise(0.04, 0.03, 0.20) == FAILS
    assert regularise(0.04, 0.03, 0.10) == OPEN


def test_reports_own_table_says_the_remedies_widen_the_gap() -> None:
    text = reported.report_gaps()
    assert "4.75 for VGG08" in text and "21.28 for VGG38 BN+RC at 1e-2" in text
    assert "5 of the 5" in text


BEST = "vgg38_bn_rc_lr1e-2"


def losing(*losses: Sequence[float], claim: str = "overfits") -> judgements.Judgement:
    return judgements.judge(claim, {BEST: [made_up(BEST, seed=s, losses=v) for s, v in enumerate(losses)]})


def valley(lowest: float, end: float) -> list[float]:
    """Down to 1 at the epoch `lowest`, up to `end` in epoch 100, in straight lines."""
    return list(np.interp(np.arange(1, 101), [1, lowest, 100], [3.0, 1.0, end]))


def test_overfitting_ends_five_per_cent_above_the_lowest() -> None:
    assert losing(valley(50, 1.30), valley(45, 1.31)).verdict == HOLDS
    assert losing(valley(50, 1.30)).tendency == HOLDS
    assert losing(valley(50, 1.30)).verdict == OPEN  # with one seed, the spread over seeds is unknown
    assert losing(valley(50, 1.04), valley(50, 1.041)).tendency == FAILS
    assert losing(valley(50, 1.30), valley(50, 3.0)).verdict == OPEN
    assert losing([np.nan] * 100, valley(50, 1.3)).verdict == OPEN
    assert losing([*valley(50, 1.3)[:99], np.inf], valley(50, 1.3)).verdict == OPEN
    # The spread of networks whose loss never rises again says nothing about one whose loss does.
    flat = [made_up("vgg08", seed=s, losses=valley(100, 1.0)) for s in range(3)]
    runs = {BEST: [made_up(BEST, losses=valley(50, 1.3))], "vgg08": flat}
    assert judgements.judge("overfits", runs).verdict == OPEN


def test_turning_is_judged_by_all_epochs_that_noise_cannot_tell_from_the_lowest() -> None:
    assert losing(valley(50, 1.3), valley(48, 1.3), claim="turns").verdict == HOLDS
    assert losing(valley(50, 1.3), claim="turns").tendency == HOLDS
    assert losing(valley(50, 1.3), claim="turns").verdict == OPEN
    assert losing(valley(30, 3.0), valley(32, 3.0), claim="turns").verdict == FAILS
    assert losing(valley(50, 1.3), valley(80, 1.3), claim="turns").verdict == OPEN
    assert (
        losing(*[list(np.interp(np.arange(100), [0, 49, 79, 99], [3, 1, 1, 1.3]))] * 2, claim="turns").verdict == OPEN
    )
    # In a shallow valley with noise, a single low epoch outside the allowed range does not decide.
    rng, told = np.random.default_rng(0), []
    for _ in range(100):
        shallow = 1.5 + 0.1 * np.array(valley(50, 2.0)) + rng.normal(0, 0.01, 100)
        shallow[33] = shallow.min() - 0.001
        assert shallow.argmin() == 33
        told.append(losing(list(shallow), claim="turns").tendency)
    assert told.count(FAILS) == 0 and told.count(HOLDS) > 50
    assert losing([np.nan] * 100, claim="turns").verdict == OPEN


def test_vanishing_is_below_a_hundredth_of_the_last_layer() -> None:
    def vanishing(*ratios: float) -> judgements.Judgement:
        runs = [made_up("vgg38", 0.01, seed=s, gradients=[r, r, 5.0, 5.0, 1.0]) for s, r in enumerate(ratios)]
        return judgements.judge("vanishing", {"vgg38": runs})

    assert vanishing(0.001, 0.0011).verdict == vanishing(0.0, 0.0).verdict == HOLDS
    assert vanishing(0.1, 0.11).verdict == FAILS
    assert vanishing(0.0001, 0.011).verdict == vanishing(np.nan, np.nan).verdict == OPEN
    assert (vanishing(0.001).verdict, vanishing(0.001).tendency) == (OPEN, HOLDS)


def test_first_half_of_the_convolutions_does_not_count_the_linear_layer() -> None:
    """Of three convolutions the first half is one; if the linear layer were counted too, it would be two of four."""
    run = made_up("vgg38", gradients=[1.0, 100.0, 100.0, 2.0])
    assert measures.vanishing_ratio(run) == 0.5
    assert measures.weakest_ratio(run) == 0.5
    only_mean = run.gradients.copy()
    only_mean.loc[only_mean["over"] == "last", "mean_abs"] = (
        np.nan
    )  # the value of the last batch is not used, but the mean over batches
    assert measures.vanishing_ratio(Run(run.config, run.metrics, only_mean, run.summary)) == 0.5


def test_spread_of_a_ratio_comes_from_gradients_that_pass_as_many_layers_and_vanish_likewise() -> None:
    steady = {"vgg08": [made_up("vgg08", gradients=[r, r, 1.0], seed=s) for s, r in enumerate((0.5, 0.51))]}
    alone = {"vgg38": [made_up("vgg38", gradients=[1e-9, 1e-9, 1.0])]}
    found = judgements.judge("vanishing", steady | alone)
    assert (found.verdict, found.tendency, found.settled) == (OPEN, HOLDS, False)
    # Runs of the same depth whose gradient does not vanish lend no spread either.
    deep = {"vgg38_rc": [made_up("vgg38_rc", gradients=[r, r, 1.0], seed=s) for s, r in enumerate((0.5, 0.51))]}
    assert not judgements.judge("vanishing", deep | alone).settled
    likewise = [made_up("vgg38_bn", gradients=[r, r, 1.0], seed=s) for s, r in enumerate((1e-8, 1e-7))]
    found = judgements.judge("vanishing", steady | deep | alone | {"vgg38_bn": likewise})
    assert found.settled and "1 df" in found.parts[0].words


def test_of_two_kinds_of_gradients_the_larger_spread_counts() -> None:
    pairs = {"vgg38_bn": (0.5, 0.51), "vgg38_rc": (1e-6, 1e-9), "vgg38_bn_rc": (0.5,)}
    runs = {n: [made_up(n, gradients=[r, r, 1.0], seed=s) for s, r in enumerate(pair)] for n, pair in pairs.items()}
    found = judgements.judge("recovers", runs)
    assert (found.verdict, found.tendency, found.settled) == (OPEN, OPEN, True)


def test_gradient_recovers_where_no_layer_is_below_a_hundredth() -> None:
    def recovers(*weakest: float) -> str:
        runs = {
            name: [made_up(name, seed=s, gradients=[5.0, 5.0, r * (1 + s / 50), 1.0]) for s in range(3)]
            for name, r in zip(claims.REMEDIES, weakest, strict=True)
        }
        return judgements.judge("recovers", runs).verdict

    assert recovers(0.2, 0.1, 0.05) == HOLDS
    assert recovers(0.2, 0.1, 0.005) == FAILS
    assert recovers(0.2, 0.1, 0.01) == OPEN


COMPARED = ("deeper", "bn_over_vgg08", "residual_over_bn", "both_best", "learning_rate_bn", "best_of_all", "regularise")


@pytest.mark.simulated
@pytest.mark.parametrize(
    ("seeds", "deviation"),
    [
        (1, 0.02),
        *(
            pytest.param(*more, marks=pytest.mark.slow)
            for more in ((1, 0.002), (2, 0.002), (2, 0.02), (3, 0.002), (3, 0.02), (5, 0.02))
        ),
    ],
)
def test_equal_networks_seldom_get_a_wrong_verdict(seeds: int, deviation: float) -> None:
    """Seven networks of equal accuracy. Where each has one seed, two have three, so that the spread is known.

    A claim that one is better is wrong whether it holds or fails; the claim that two are close is wrong only where
    it fails. A rule that is wrong in 5 % of all cases passes in 999 of 1,000 such tests (binomial).
    """
    rng = np.random.default_rng(seeds)
    wrong = {claim: {HOLDS: 0, FAILS: 0, OPEN: 0} for claim in COMPARED}
    for _ in range(SIMULATED):
        runs = {}
        for name in CONFIGURATIONS:
            count = 3 if name in ("vgg08", "vgg38") and seeds == 1 else seeds
            test, validation = (rng.binomial(n, rng.normal(0.5, deviation, count)) / n for n in (10_000, 2_500))
            train = rng.normal(0.6, deviation, count)
            runs[name] = [
                made_up(name, test[s], seed=s, validation_accuracy=validation[s], train_accuracy=train[s])
                for s in range(count)
            ]
        for claim in COMPARED:
            wrong[claim][judgements.judge(claim, runs).verdict] += 1
    most = int(stats.binom.ppf(0.999, SIMULATED, 0.05))
    for claim, counts in wrong.items():
        assert counts[FAILS] <= most, (claim, counts)
        assert counts[HOLDS] <= most or claim == "learning_rate_bn", (claim, counts)


def shown(runs: dict[str, list[Run]]) -> str:
    return "\n".join(judgements.table(runs).set_index("claim").loc[claims.BY_KEY["residual_over_bn"].text, "verdict"])


def test_reduced_runs_decide_nothing_and_give_a_tendency_only_where_all_are_of_one_suite() -> None:
    short = {"vgg38_bn_rc": SPREAD, "vgg38_rc": [0.53], "vgg38_bn": [0.48]}
    runs = {name: [made_up(name, v, "short", seed) for seed, v in enumerate(vs)] for name, vs in short.items()}
    assert judgements.judge("residual_over_bn", runs).verdict == OPEN
    rc, bn = "vgg38_rc", "vgg38_bn"
    full, preview = made_up(rc, 0.53), {name: made_up(name, a, "preview") for name, a in ((rc, 0.1), (bn, 0.2))}
    spread = [
        made_up("vgg38_bn_rc", value, suite, seed)
        for suite in ("table1", "preview")
        for seed, value in enumerate(SPREAD)
    ]
    assert shown({"vgg38_bn_rc": spread, rc: [full], bn: [made_up(bn, 0.48)]}) == HOLDS
    assert shown({"vgg38_bn_rc": spread, rc: [full], bn: [preview[bn]]}) == f"{OPEN} yet"
    both = {rc: [full, preview[rc]], bn: [preview[bn]]}
    epochs = SUITES["preview"].settings["epochs"]
    assert shown(both | {"vgg38_bn_rc": spread}) == f"{OPEN} yet\n(preview, {epochs} epochs: {FAILS})"
    assert shown(both) == f"{OPEN} yet\n(preview, {epochs} epochs: these runs: against it)"
    assert shown({name: [run, made_up(name, 0.3, "short")] for name, run in preview.items()}).count("short") == 1


def test_sentences_read_well_and_assert_only_what_is_decided() -> None:
    rc, bn = "vgg38_rc", "vgg38_bn"
    claim = claims.BY_KEY["residual_over_bn"]
    spread = [
        made_up("vgg38_bn_rc", value, suite, s) for suite in ("table1", "preview") for s, value in enumerate(SPREAD)
    ]

    def sentence(first: float, second: float, suite: str = "table1", spread: Sequence[Run] = spread) -> str:
        runs = {rc: [made_up(rc, first, suite)], bn: [made_up(bn, second, suite)], "vgg38_bn_rc": list(spread)}
        return judgements.told(runs, "residual_over_bn")

    reduced = "Reduced runs (`preview`, 10 epochs), which decide nothing,"
    assert sentence(0.55, 0.45) == f"{claim.yes}."
    assert sentence(0.45, 0.55) == f"{claim.no}."
    open_ = sentence(0.5, 0.5)
    assert open_.startswith(f"The full runs leave open whether {claim.yes} (VGG38 RC against VGG38 BN, +0.00 [−")
    assert sentence(0.55, 0.45, spread=[]) == f"The full runs, too few for a verdict, suggest that {claim.yes}."
    assert sentence(0.45, 0.55, "preview") == f"{reduced} suggest that {claim.no}."
    assert sentence(0.5, 0.5, "preview").startswith(f"{reduced} leave open whether {claim.yes} (VGG38 RC against")
    assert judgements.told({}, "residual_over_bn") == f"It is not known yet whether {claim.yes}: runs are missing."
    split = {bn: [made_up(bn, 0.45, "preview")], rc: [made_up(rc, 0.55, "preview")], "vgg38_bn_rc": spread}
    split |= {"vgg38_bn_lr1e-2": [made_up("vgg38_bn_lr1e-2", v - 0.04, "preview", s) for s, v in enumerate(SPREAD)]}
    both = judgements.told(split, "residual_over_bn", "learning_rate_bn")
    other = claims.BY_KEY["learning_rate_bn"].yes
    assert both.startswith(f"{reduced} suggest that {claim.yes}; they leave open whether {other}")
    three = judgements.told({}, "residual_over_bn", "vanishing", "turns")
    assert three.startswith(f"It is not known yet whether {claim.yes}; whether ")
    assert f"; and whether {claims.BY_KEY['turns'].yes}: runs are missing." in three


def test_every_claim_has_a_clause_for_either_answer_and_names_what_it_needs() -> None:
    for claim in claims.CLAIMS:
        for clause in (claim.yes, claim.no):
            assert not clause.endswith(".") and len(clause) > 20
            assert (
                clause[:2].isupper() or clause[:3].isupper() or clause[0].islower()
            )  # so that it can follow "whether"
        assert claim.yes != claim.no and claim.words.endswith(".")
        assert set(claim.needs) <= set(CONFIGURATIONS)
        assert judgements.judge(claim.key, {}).needs == claim.needs
        assert claim.text in claims.RULES
    assert len(claims.BY_KEY) == len(claims.CLAIMS)


def test_page_says_rules_methods_and_seeds() -> None:
    runs = {n: [made_up(n, a, seed=s) for s in range(4)] for n, a in (("vgg38_rc", 0.53), ("vgg38_bn", 0.48))}
    words = "\n".join(judgements.table(runs).set_index("claim").loc[claims.BY_KEY["residual_over_bn"].text, "our runs"])
    assert re.fullmatch(
        r"VGG38 RC − VGG38 BN: \+5.00 \[\+3.6\d, \+6.3\d\] \(permutation, 4 \+ 4 seeds\)", words.replace("\xa0", " ")
    )
    few = {name: group[:3] for name, group in runs.items()}
    assert "(pooled t, 4 df, 3 + 3 seeds)" in judgements.judge("residual_over_bn", few).parts[0].words
    for number in (claims.CLOSE, verdicts.LEARNS, claims.OVERFIT, claims.ABOUT, verdicts.VANISHED):
        assert f"{100 * number:.0f}" in claims.RULES
    assert str(Effect(0.05, 0.04, 0.06, "")).replace("\xa0", " ") == "+5.00 [+4.00, +6.00]"


def test_difference_from_the_report_is_set_against_the_spread_over_seeds() -> None:
    def trained(name: str, seed: int, value: float, suite: str = "table1") -> Run:
        final: dict[str, Any] = dict.fromkeys(tables.METRICS, value)
        return made_up(name, suite=suite, seed=seed, **final)

    runs = {"vgg08": [trained("vgg08", s, v) for s, v in enumerate((0.48, 0.50, 0.52))]}
    deep = {
        "vgg38_rc": [trained("vgg38_rc", 0, 0.5)],
        "vgg38_bn": [trained("vgg38_bn", s, v, "short") for s, v in enumerate((0.42, 0.40, 0.38))],
    }
    frame = reported.against_report(runs | deep).set_index(["name", "metric"])
    spread = 2.0  # sample sd of 48, 50, 52, and of the short runs of VGG38

    def factor_of(comparisons: int) -> float:
        return float(stats.t.isf(0.05 / (2 * comparisons), 2))  # 2 degrees of freedom

    factor = factor_of(8)
    assert factor == pytest.approx(12.59, abs=0.01)
    assert frame.loc[("vgg08", "val acc %"), "allowed"] == pytest.approx(factor * spread * np.sqrt(4 / 3), rel=1e-6)
    assert frame.loc[("vgg38_rc", "val acc %"), "allowed"] == pytest.approx(factor * spread * np.sqrt(2), rel=1e-6)
    text = reported.against_report_text(runs)
    assert "train loss 0.50 against 1.74" in text and "val acc % 50.00" not in text
    assert "Of 4 values" in text and f"val acc % {factor_of(4) * 2 * np.sqrt(4 / 3):.2f} to" in text
    assert reported.against_report({"vgg38_rc": [trained("vgg38_rc", 0, 0.5)]})["allowed"].isna().all()
    assert "cannot be told" in reported.against_report_text({"vgg08": runs["vgg08"][:1]})
    beside = {"vgg08": [*runs["vgg08"], made_up("vgg08", None, seed=3)]}  # a seed that diverged counts for nothing
    assert reported.against_report_text(beside) == text
    assert reported.spreads_text(beside) == reported.spreads_text(runs) and "(3 seeds)" in reported.spreads_text(runs)


@pytest.mark.simulated
def test_report_is_seldom_called_different_where_only_the_seed_differs() -> None:
    """Twelve comparisons, three configurations of four values, as in this book; the whole is wrong in at most 5 %."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(SIMULATED):
        runs = {}
        for name in ("vgg08", "vgg38_rc", BEST):
            row = study.REPORT["rows"][name]
            # The report's run is one draw too: all our seeds differ from it by what it drew.
            theirs = {metric: row[metric] - rng.normal(0, 2) for metric in tables.METRICS}
            runs[name] = [
                made_up(
                    name,
                    seed=seed,
                    **{m: (v + rng.normal(0, 2)) / (1 if "loss" in m else 100) for m, v in theirs.items()},
                )
                for seed in range(3 if name == "vgg08" else 1)
            ]
        frame = reported.against_report(runs)
        assert len(frame) == 12
        wrong += bool(((frame["ours"] - frame["report"]).abs() > frame["allowed"]).any())
    assert wrong <= int(stats.binom.ppf(0.999, SIMULATED, 0.05))


def test_part_that_keeps_a_claim_open_is_named() -> None:
    runs = {name: [made_up(name, value)] for name, value in (("vgg38_rc", 0.50), ("vgg38_bn_rc", 0.60), (BEST, 0.61))}
    runs["vgg08"] = [made_up("vgg08", value, seed=seed) for seed, value in enumerate(SPREAD)]
    runs["vgg38_bn_rc"] += deep(SPREAD)
    runs[BEST] += deep(SPREAD, BEST)
    told = judgements.told(runs, "deeper")
    assert told.startswith("The full runs leave open whether VGG38 with RC")
    settled, left = told[told.index(" (settled for ") :].split("; open for ")
    assert settled == " (settled for VGG38 BN+RC against VGG08 and VGG38 BN+RC at 1e-2 against VGG08"
    assert left.startswith("VGG38 RC against VGG08, +0.00 [−") and left.endswith("]).")
    # Where many are open, they are counted: three of BEST's six, of which a seed moves it by 14 points.
    runs |= {"vgg38": [made_up("vgg38", 0.01)], "vgg38_bn": [made_up("vgg38_bn", 0.45)]}
    runs[BEST] = [made_up(BEST, value, seed=seed) for seed, value in enumerate((0.53, 0.60, 0.67, 0.60, 0.60))]
    runs["vgg38_bn_lr1e-2"] = [made_up("vgg38_bn_lr1e-2", value, seed=seed) for seed, value in enumerate((0.1, 0.1))]
    assert judgements.told(runs, "best_of_all").endswith("the best of all seven (of 6 comparisons 2 hold).")


def test_network_whose_seeds_are_of_two_kinds_is_judged_by_its_own_spread_too() -> None:
    def turned(name: str, seed: int, rise: float) -> Run:
        losses = [*np.linspace(3, 2, 20), *np.linspace(2, 2 * (1 + rise), 20)]
        run = made_up(name, 0.5, seed=seed)
        metrics = pd.DataFrame({"epoch": range(1, 41), "validation_loss": losses})
        return Run(run.config, metrics, run.gradients, run.summary)

    group = {
        BEST: [turned(BEST, 0, 0.0), turned(BEST, 1, 0.6)],
        "vgg08": [turned("vgg08", 0, 0.0), turned("vgg08", 1, 0.0)],
        "vgg38_rc": [turned("vgg38_rc", 0, 0.30), turned("vgg38_rc", 1, 0.301)],
    }
    (part,) = verdicts.EXCESS.parts([group], [verdicts.Pair(BEST, 0.0, "", verdicts.above(0.05))])
    assert part.verdict == OPEN and part.tendency == HOLDS and "1 df, 2 seeds" in part.words


def test_what_a_claim_fails_by_is_named_and_what_it_does_not_fail_by_is_not() -> None:
    gaps = {"vgg08": 0.10, "vgg38_bn": 0.05, "vgg38_rc": 0.30, "vgg38_bn_rc": 0.05}
    runs = {
        name: [made_up(name, 0.5 + seed / 1000, seed=seed, train_accuracy=0.5 + gap + seed / 1000) for seed in (0, 1)]
        for name, gap in gaps.items()
    }
    told = judgements.told(runs, "regularise")
    assert "is wider than VGG08's in VGG38 RC (+" in told and "VGG38 BN" not in told
