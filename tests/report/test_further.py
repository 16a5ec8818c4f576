"""The further experiments, the third cure and the depth: what is said of runs, and of those that are not there."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.shared import part_of_summary
from vggkit.config import RunConfig
from vggkit.report import cures, degradation, depth, further, naming, overfitting, predicted, regained, separated, tried
from vggkit.report.intervals import IMAGES, Effect, unlikely
from vggkit.report.untrained import Untrained
from vggkit.runs import propagation as artefact
from vggkit.runs.records import Run
from vggkit.study import CONFIGURATIONS, DEPTHS, LARGER, NEGLIGIBLE, SUITES, Asked, asked
from vggkit.training.order import order

ROOT = Path(__file__).parents[2]


def made(name: str, test: float, seed: int = 0, losses: tuple[float, ...] = (3, 2, 4), **settings: Any) -> Run:
    """A run of these accuracies, of which nothing else is known."""
    final = {"test_accuracy": test, "train_accuracy": test + 0.1, "validation_accuracy": test, "train_loss": 2.0}
    metrics = pd.DataFrame({"epoch": range(1, len(losses) + 1), "validation_loss": losses})
    config = RunConfig.named(name, suite="short", seed=seed, **settings)
    return Run(
        config,
        metrics,
        pd.DataFrame(),
        part_of_summary(
            final=final, diverged=False, train_images=47_500, segments=[{"device": "a machine", "torch": "2"}]
        ),
    )


def logged(name: str, seed: int, epochs: int, shares: Sequence[float] = (), **settings: Any) -> Run:
    """One that logged the signal of its first epochs; given `shares`, that of each, which is the same in all layers."""
    run = made(name, 0.3, seed, **settings)
    places = range(1, run.config.depth + 2)
    rows = [(at, place, shares[at - 1] if shares else 0.5) for at in range(1, epochs + 1) for place in places]
    return replace(run, signal=pd.DataFrame(rows, columns=["epoch", "layer", "share"]))


def listed(*runs: Run) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.config.name, []).append(run)
    return found


@pytest.fixture(scope="module")
def measured() -> Untrained:
    return Untrained(artefact.read_all(ROOT / "results"))


def test_a_number_in_a_command_is_the_one_that_is_meant() -> None:
    for value in (1e-4, 2.5e-4, 1e-6, 3e-5, 0.1, 0.5, 0.01, 1.25e-7):
        assert float(naming.exponent(value)) == value
    assert naming.exponent(1e-4) == "1e-4"


def test_skip_init_is_told_beside_rc_without_it() -> None:
    runs = [made("vgg38_rc", 0.34, seed, skip_init=True) for seed in (0, 1)] + [
        made("vgg38", 0.01, initialisation="he")
    ]
    assert cures.told(listed(*runs), {}).endswith(
        "RC with SkipInit in place of BN reach 34.00 ± 0.00 % (2 seeds) after 15 epochs."
    )
    more = listed(*runs, made("vgg38_rc", 0.36), made("vgg38_bn_rc", 0.43))
    told = "after 15 epochs, no more than RC without it (36.00 % (1 seed)); with BN and RC 43.00 %."
    assert cures.told(more, {}).endswith(told) and "SkipInit" not in cures.told(listed(runs[2]), {})
    less = listed(*runs, made("vgg38_rc", 0.30), made("vgg38", 0.1, initialisation="he"))
    assert cures.answer(less, {}).endswith("after 15 epochs, RC without it (30.00 % (1 seed)).")


def test_without_runs_everything_says_so(measured: Untrained) -> None:
    assert cures.told({}, {}).endswith("there is no run yet.")
    for page in (further.table_html({}), overfitting.long_html({}), cures.table_html({}, {})):
        assert "no run yet" in page and "nan" not in page
    table = depth.by_depth({})
    assert table.isna().all(axis=None) and table.shape == (6, 6)
    figure = depth.figure({})
    assert "there is no run yet" in figure.caption and "32 of 32 points have no run" in figure.caption


def effect(*runs: Run) -> Effect | None:
    """Of RC at 1e-2 beside RC."""
    return further.compared(listed(*runs)).get(("vgg38_rc_lr1e-2", "vgg38_rc"))


def test_one_seed_each_is_told_apart_by_the_images_alone() -> None:
    runs = [made("vgg38_rc", 0.41), made("vgg38_rc", 0.45, learning_rate=1e-2)]
    found = effect(*runs)
    assert found and found.value == pytest.approx(0.04)
    # 45 % and 41 %, each of 10,000 images: a standard error of 0.7 points.
    assert (found.low, found.high) == pytest.approx((0.04 - 1.96 * 0.007, 0.04 + 1.96 * 0.007), abs=2e-4)
    page = further.table_html(listed(*runs))
    assert "VGG38 RC as it is" in page and "+4.00 [+2.6" in page
    assert "for the draw of the test images alone, since no network has several seeds" in page
    assert "vggkit train vgg38_rc --suite further --learning-rate 1e-2 --precision bfloat16" in further.commands()


def test_of_two_rates_that_are_compared_the_larger_spread_counts() -> None:
    near, far = (0.400, 0.401), (0.40, 0.46)
    for of_large_rate, of_small_rate in ((near, far), (far, near)):
        runs = [made("vgg38_rc", test, seed, learning_rate=1e-2) for seed, test in enumerate(of_large_rate)]
        found = effect(*runs, *(made("vgg38_rc", test, seed) for seed, test in enumerate(of_small_rate)))
        # Student's t of one degree of freedom: 12.7 times at least 0.03, the standard error of a mean of two.
        assert found and found.high - found.value > 12.7 * 0.03


def test_spread_of_several_seeds_counts_for_all_of_their_depth_and_learning_rate() -> None:
    runs = [
        made("vgg38_bn_rc", 0.40),
        made("vgg38_bn_rc", 0.42, seed=1),
        made("vgg38_bn_rc", 0.45, initialisation="he"),
    ]
    (found,) = further.compared(listed(*runs)).values()
    # One seed beside two, whose deviation is 1.41 points with one degree of freedom, of which t is 12.7.
    half = math.hypot(12.706 * 0.01 * 2**0.5 * 1.5**0.5, 1.96 * 0.007)
    assert (found.low, found.high) == pytest.approx((0.04 - half, 0.04 + half), abs=1e-3)
    told = further.intervals_told(listed(*runs))
    assert "moves the accuracy by 1.41 points with 38 layers at 1e-3 (1 degree of freedom)" in told
    # Shorter runs stand in where there is none; those at another depth or rate do not.
    shorter = listed(*(made("vgg38_bn", test, seed) for seed, test in enumerate((0.30, 0.32, 0.31))))
    assert further.compared(listed(*runs), shorter) == further.compared(listed(*runs))
    (borrowed,) = further.compared(listed(runs[0], runs[2]), shorter).values()
    half = math.hypot(4.303 * 0.01 * 2**0.5, 1.96 * 0.007)  # a deviation of 1 point, two degrees of freedom
    assert borrowed.high - borrowed.value == pytest.approx(half, abs=1e-3)
    for other in ({"learning_rate": 1e-2}, {"depth": 14}):
        unlike = listed(*(made("vgg38_bn", test, seed, **other) for seed, test in enumerate((0.30, 0.39))))
        (alone,) = further.compared(listed(runs[0], runs[2]), unlike).values()
        assert alone.method == IMAGES and "Not judged, since" in further.told(listed(runs[0], runs[2]), unlike)


def test_where_the_spread_of_one_side_is_unknown_the_images_alone_count() -> None:
    runs = [made("vgg38_rc", 0.40), made("vgg38_rc", 0.42, seed=1), made("vgg38_rc", 0.45, learning_rate=1e-2)]
    found = effect(*runs)
    assert found and found.high - found.low == pytest.approx(2 * 1.96 * 0.007, abs=5e-4)
    told = further.intervals_told(listed(*runs))
    assert "1.41 points with 38 layers at 1e-3" in told
    assert "; with 38 layers at 1e-2, where it is unknown, for the images alone" in told


def test_change_that_is_too_small_for_the_arithmetic_is_told_as_the_very_run() -> None:
    def pair(losses: tuple[float, ...], decay: float) -> list[Run]:
        best = made("vgg38_bn_rc_lr1e-2", 0.5)
        settings: dict[str, Any] = {"learning_rate": 1e-2, "weight_decay": decay, "decoupled_weight_decay": True}
        return [best, made("vgg38_bn_rc", 0.5, losses=losses, **settings)]

    assert np.float32(1) - np.float32(1e-8) == 1 > np.float32(1) - np.float32(1e-6)  # rate x decay of the two
    same, other = listed(*pair((3, 2, 4), 1e-6)), listed(*pair((3, 2, 4.5), 1e-4))
    assert "The very run without it, number for number: weight decay 1e-6 (AdamW)." in further.told(same)
    assert [str(effect) for effect in further.compared(same).values()] == ["+0.00"]
    told = further.same_told(same).replace("\xa0", " ")
    assert told.startswith("With weight decay 1e-6 (AdamW) the run is") and "1 − 1.0 × 10⁻⁸, which is 1" in told
    assert further.same_told(other) == "" and "number for number" not in further.told(other)
    assert "since the spread over seeds is unknown at a depth and rate: weight decay" in further.told(other)


def test_committed_run_whose_decay_is_lost_to_rounding_is_its_baseline() -> None:
    found = tried.read(ROOT / "results")
    one, base = (found[name] for name in ("vgg38_bn_rc_lr1e-2_wd1e-6_decoupled", "vgg38_bn_rc_lr1e-2"))
    assert further.same_run(one, base) and one[0].gradients.drop(columns="parameter").equals(
        base[0].gradients.drop(columns="parameter")
    )
    assert not further.same_run(found["vgg38_bn_rc_lr1e-2_wd1e-6"], base)  # the penalty in the gradient is not lost


def test_what_does_not_learn_in_every_seed_is_not_compared() -> None:
    base, other = made("vgg38_rc", 0.40), made("vgg38_rc", 0.45, learning_rate=1e-2)
    assert effect(base, other)
    guess = made("vgg38_rc", 0.01, 1, learning_rate=1e-2)
    assert effect(base, guess) is effect(base, other, guess) is effect(made("vgg38_rc", 0.01), other) is None
    assert tried.outcome([other, guess]) == "1.00, 45.00 % (2 seeds, 1 learning)"
    assert tried.outcome([guess]) == "1.00 % (1 seed): guessing"
    assert tried.outcome([lost(other)]) == "diverged (1 seed)"
    assert tried.outcome([lost(other), base]) == "40.00 % (2 seeds, 1 diverged, 1 learning)"


def lost(run: Run) -> Run:
    """The same, diverged."""
    return replace(run, summary=part_of_summary(**{**run.summary, "diverged": True}))


def exploded(run: Run) -> Run:
    """The same, with a loss more than twice that of guessing."""
    final = {**run.summary["final"], "train_loss": 9.6}
    return replace(run, summary=part_of_summary(**{**run.summary, "final": final}))


def test_loss_far_above_guessing_is_told_as_an_explosion() -> None:
    far = exploded(made("vgg38_rc", 0.01, learning_rate=1e-2))
    assert tried.outcome([far]) == "1.00 % (1 seed): exploded, training loss 10"
    page = further.table_html(listed(far))
    assert "exploded, training loss 10" in page and "Does weight decay help" not in page  # which has no run
    assert tried.exploded([lost(far)]) is tried.exploded([made("vgg38", 0.01)]) is tried.exploded([]) is None


def test_every_network_of_the_table_has_its_place_among_those_that_overfit() -> None:
    long = [replace(made("vgg08", 0.5, batch_norm=True)), made("vgg08", 0.5)]
    page = overfitting.long_html(listed(*long))
    assert "VGG08 BN" in page and "VGG38 RC" in page and "weight decay" not in page


def test_spread_turn_and_gap_of_seeds() -> None:
    base = [made("vgg38_rc", 0.40), made("vgg38_rc", 0.42, seed=1)]
    assert tried.outcome(base) == "41.00 ± 1.41 % (2 seeds)"
    assert tried.turn(base) == "2 (smoothed: 1); 2 (smoothed: 1) of 15"
    assert tried.gap(base) == pytest.approx(10)


def test_what_was_tried_is_told_by_what_came_of_it() -> None:
    runs = [
        *(made("vgg38_bn_rc_lr1e-2", 0.50, seed) for seed in range(2)),
        made("vgg38_bn_rc", 0.40, learning_rate=1e-2, weight_decay=1e-4),
        made("vgg38_bn_rc", 0.505, learning_rate=1e-2, weight_decay=1e-5),
        made("vgg38_bn_rc", 0.60, learning_rate=1e-2, dropout=0.1),
        made("vgg08", 0.2, learning_rate=0.1),
        made("vgg38", 0.01, learning_rate=0.1),
        exploded(made("vgg38_bn", 0.01, learning_rate=0.1)),
        lost(made("vgg38_rc", 0.3, learning_rate=0.1)),
    ]
    missing = "; ".join(one.words for _, own in further.answers(listed(*runs)) for one in own if not one.runs)
    assert further.told(listed(*runs)) == (
        "Test accuracy above that without the change: dropout 0.1 (+10.00). "
        "Test accuracy below that without the change: weight decay 1e-4 (−10.00). "
        "Test accuracy not apart from that without the change: weight decay 1e-5 (+0.50). "
        "Learning: VGG08 at 0.1. Guessing: VGG38 at 0.1. Exploded: VGG38 BN at 0.1 (training loss 10). "
        f"Diverged: VGG38 RC at 0.1. No run yet: {missing}."
    )
    assert missing.startswith("weight decay 1e-6; weight decay 1e-4 (AdamW); ") and "VGG08 at 0.1" not in missing


def test_figure_shows_what_was_tried_beside_its_baseline() -> None:
    rates = [made("vgg38_rc", test, seed, learning_rate=1e-2) for seed, test in enumerate((0.45, 0.45))]
    figure = further.figure(listed(made("vgg38_rc", 0.41), made("vgg38_rc", 0.41, 1), *rates))
    assert figure is not None
    assert "VGG38 RC at 1e-2</text>" in figure.svg and "larger rate?</text>" in figure.svg
    assert "above that without the change: VGG38 RC at 1e-2 (+4.00)" in figure.caption
    assert further.figure({}) is None


def test_names_of_table_1_are_made_of_its_settings() -> None:
    for name, row in CONFIGURATIONS.items():
        assert naming.network(RunConfig.named(name)) == row.title
    suites = [[naming.network(run) for (run,) in order(asked(suite), [0], 1, suite=suite)] for suite in SUITES]
    assert all(len(set(names)) == len(names) for names in suites)


@pytest.mark.parametrize("suite", ["cure", "depth", "further", "beside", "few"])
def test_command_trains_what_the_suite_is_asked_for(suite: str) -> None:
    groups = order(asked(suite), [0], 1, suite=suite, **({"precision": "bfloat16"} if suite != "few" else {}))
    assert len({group[0].name for group in groups}) == len(SUITES[suite].asked)
    for one, (config,) in zip(SUITES[suite].asked, groups, strict=True):
        words = naming.command(one, suite).split()[2:]
        named = {
            name.removeprefix("--").replace("-", "_"): value
            for name, value in zip(words[1::2], words[2::2], strict=True)
        }
        settings = {name: RunConfig.from_text(name, value) for name, value in named.items()}
        assert RunConfig.named(words[0], **settings) == config
        assert config.epochs == (100 if suite in ("beside", "few") else 15)


def test_every_point_against_the_depth_has_a_suite_that_trains_it() -> None:
    trained = {
        length: {
            config.name: [_Named(suite)] for suite in suites for (config,) in order(asked(suite), [0], 1, suite=suite)
        }
        for length, suites in {"short": ("short", "cure", "depth"), "float32": ("float32",)}.items()
    }
    table = depth.by_depth(trained)  # type: ignore[arg-type]
    for kind, one in depth.KINDS.items():
        assert table.loc[list(one.depths), kind].notna().all(), kind


class _Named:
    """A run of which only the accuracy and the precision are asked."""

    def __init__(self, suite: str) -> None:
        self.config = RunConfig(precision="float32" if suite == "float32" else "bfloat16")
        self.summary = {"diverged": False, "final": {"test_accuracy": 0.5}}


def rounded(*runs: Run, precision: str = "bfloat16") -> list[Run]:
    return [replace(run, config=replace(run.config, precision=precision)) for run in runs]


def by_suite(short: Sequence[Run] = (), exact: Sequence[Run] = ()) -> depth.BySuite:
    """Runs in bfloat16, and some in float32."""
    return {"short": listed(*rounded(*short)), "float32": listed(*rounded(*exact, precision="float32"))}


def plain(*tests: float, first: int = 0) -> list[Run]:
    """Plain networks of these accuracies, from the shallowest of `DEPTHS` on."""
    return [made("vgg38", test, depth=at) for at, test in zip(DEPTHS[first:], tests, strict=False)]


def test_depth_at_which_plain_networks_stop_is_told_by_precision() -> None:
    short = plain(0.4, 0.3, 0.01, 0.01)
    assert depth.stops(by_suite(short), depth.PLAIN) == ([8, 14], [], [20, 26], [32, 38])
    told = depth.told(by_suite(short))
    assert (
        "in bfloat16 they learn with 8 and 14 layers, not with 20 and 26; with 32 and 38 there is no run yet." in told
    )
    assert "float32 they" not in told and "Fisher" not in told
    both = by_suite(short, plain(0.2, 0.01, first=2))
    told = depth.told(both)
    assert "in float32 they learn with 20 layers, not with 26; with 32 and 38 there is no run yet." in told
    # Of one run each, one learns: that tells nothing. Where all learn or none, there is nothing to tell.
    assert (
        "With 20 layers 1 of 1 runs learn in float32 (on a machine), 0 of 1 in bfloat16 (on a machine): these do not"
    ) in told
    assert depth.edge(both) == [depth.Counted(20, {"a machine": (1, 1)}, {"a machine": (0, 1)})]
    assert depth.edge(by_suite(plain(0.4, 0.3, 0.2), plain(0.2, first=2))) == []
    assert depth.edge(by_suite(short, plain(0.01, 0.01, first=2))) == []


def test_precision_is_that_of_the_runs_and_matters_where_chance_would_hardly_part_them(measured: Untrained) -> None:
    exact = {"short": listed(*rounded(*plain(0.4, 0.3, 0.01), precision="float32")), "float32": {}}
    assert depth.stops(exact, depth.PLAIN).untried == list(DEPTHS) and depth.edge(exact) == []
    assert all(not case.runs for case in separated.cases(exact, measured))
    rough = [made("vgg38", 0.01, seed, depth=20) for seed in range(5)]
    for wrong, words in ((0, "the precision makes a difference"), (2, "these do not tell the two apart")):
        fine = [made("vgg38", 0.01 if seed < wrong else 0.2, seed, depth=20) for seed in range(5)]
        found = by_suite(rough, [*fine[:4], *elsewhere(fine[4:])])
        (one,) = depth.edge(found)
        assert one.chance == pytest.approx(stats.fisher_exact([[5 - wrong, wrong], [0, 5]]).pvalue)
        counts = f"{5 - wrong} of 5 runs learn in float32 ({4 - wrong} of 4 on a machine; 1 of 1 on a GPU), 0 of 5 in"
        assert f"{counts} bfloat16 (on a machine): {words} (Fisher's" in depth.answer(found)
        # Chance has a say where seeds alone differ, whatever a test of precisions says.
        abstract = depth.abstract(found)
        assert ("the seed, 2 of 4 with 20 layers in float32 on a machine learned in 15" in abstract) == (wrong == 2)
        assert wrong or abstract == ""


def elsewhere(runs: Sequence[Run]) -> list[Run]:
    """The same, made on another machine."""
    segments = [{"device": "a GPU", "torch": "3"}]
    return [replace(run, summary=part_of_summary(**{**run.summary, "segments": segments})) for run in runs]


def test_gradient_and_signal_before_training_are_those_that_were_measured(measured: Untrained) -> None:
    rows = measured.frame.query("variant == 'plain' and initialisation == 'default'")
    first = rows.query("layer == 1").groupby("depth")["weight_gradient"].max()
    margin = predicted.gradient_margin(measured)
    assert first[20] < 1e-8 and margin[20] < 1 < margin[14]
    kept = predicted.told_apart(measured)
    linear = rows[rows["layer"] == rows["depth"]].groupby("depth")
    assert kept.loc[20, "float32"] == pytest.approx(linear["float32_features"].mean()[20])
    assert kept.loc[14, "bfloat16"] == pytest.approx(linear["bfloat16_features"].mean()[14])
    # The step of bfloat16 is 65,536 times that of float32: it loses them where the network is less deep.
    assert kept.loc[8, "bfloat16"] > 0.5 > kept.loc[14, "bfloat16"]
    assert kept.loc[20, "float32"] > 0.5 > kept.loc[26, "float32"]


def test_depth_at_which_seeds_differ_or_diverge_is_told_as_such(measured: Untrained) -> None:
    runs = [made("vgg08", 0.4), made("vgg38", 0.3, depth=14), made("vgg38", 0.01, 1, depth=14)]
    runs += [lost(made("vgg38", 0.3, depth=20)), made("vgg38", 0.2, depth=20, initialisation="he")]
    found = by_suite(runs)
    assert depth.stops(found, depth.PLAIN) == ([8], [14], [20], [26, 32, 38])
    told = depth.told(found)
    assert "they learn with 8 layers, in some seeds with 14, not with 20; with 26, 32, 38 there" in told
    assert "With the scale of He, in bfloat16, they learn with 20 layers; with 8, 14, 26, 32, 38" in told
    assert "they do not learn with 38 layers; with 8" in depth.told(by_suite([made("vgg38", 0.01)]))
    caption = depth.figure(found).caption.partition(" points have no run")[0]
    assert caption == "28 of 32"  # of the five runs two are of one point


def test_networks_without_a_place_for_a_shortcut_are_not_told_to_have_one() -> None:
    table = depth.by_depth(by_suite([made("vgg08", 0.4), made("vgg38_rc", 0.3, depth=14)]))
    assert table["RC"].dropna().to_dict() == {14: pytest.approx(30)}
    assert table[depth.PLAIN].dropna().to_dict() == {8: pytest.approx(40)}


def test_bn_without_depth_is_told_beside_both_where_all_three_have_runs() -> None:
    three = listed(made("vgg08", 0.32), made("vgg08", 0.42, batch_norm=True), made("vgg38_bn_rc", 0.43))
    told = degradation.alone_told(three, {})
    assert "after 15 epochs VGG08 32.0 %, VGG08 BN 42.0 %, VGG38 BN+RC 43.0 %." in told and "after 100" not in told
    assert "after 100 epochs VGG08 32.0 %" in degradation.alone_told({}, three)
    assert degradation.alone_told({name: runs for name, runs in three.items() if name != "vgg08_bn"}, {}) == ""


def test_depth_harms_a_network_with_bn_where_the_interval_says_so() -> None:
    shallow = [made("vgg08", test, seed, batch_norm=True) for seed, test in enumerate((0.550, 0.551))]
    deep = [made("vgg38_bn", test, seed) for seed, test in enumerate((0.490, 0.491))]
    told = degradation.degradation({}, listed(*shallow, *deep))
    assert "seeds: VGG08 BN 2, VGG38 BN 2): VGG38 BN −6.00 [−" in told and "the worse one" in told
    short = listed(*(made("vgg38_bn", 0.4 - depth / 100, depth=depth) for depth in (14, 20)))
    assert degradation.degradation(short, listed(*shallow, *deep)).endswith("26 % with 14, 20 % with 20 layers).")
    alike = listed(*shallow, *(made("vgg38_bn", test, seed) for seed, test in enumerate((0.550, 0.551))))
    assert "+0.00 [" in degradation.degradation({}, alike) and "worse" not in degradation.degradation({}, alike)
    assert degradation.degradation({}, listed(*deep)) == ""  # nothing to set it beside
    apart = [made("vgg08", test, seed, batch_norm=True) for seed, test in enumerate((0.50, 0.60))]
    apart += [made("vgg38_bn", test, seed) for seed, test in enumerate((0.49, 0.59))]
    told = degradation.degradation({}, listed(*apart))
    assert "VGG38 BN −1.00 [−" in told and "worse" not in told  # a point is well within what a seed moves


def test_answer_on_depth_is_short() -> None:
    short = plain(0.4, 0.3, 0.01, 0.01, 0.01, 0.01)
    rough = "in bfloat16 they learn with 8 and 14 layers, not with 20, 26, 32, 38"
    usual = "with the usual epsilon of Adam's (1e-8)"
    assert depth.answer(by_suite(short)) == f"After 15 epochs of plain networks, {usual}, {rough}."
    both = depth.answer(by_suite(short, plain(0.2, first=2)))
    assert (
        f"{rough}; in float32 they learn with 20 layers; with 26, 32, 38 there is no run yet. With 20 layers 1 of 1"
        in both
    )
    assert depth.answer(by_suite()).endswith("there is no run yet.")


def test_what_bfloat16_does_to_table_1_is_told_where_both_precisions_have_runs() -> None:
    short = plain(0.4, 0.3, 0.01, 0.01, 0.01, 0.01)
    assert depth.precision_told(by_suite()) == depth.precision_told(by_suite(short)) == ""
    assert depth.abstract(by_suite()) == depth.abstract(by_suite(short)) == ""
    told = depth.precision_told(by_suite(short, plain(0.21, first=2)))
    assert "With 20 layers 1 of 1 runs learn in float32" in told and told.endswith("has no run in float32 yet.")
    assert "VGG38 does not learn in float32 either (1.00 %" in depth.precision_told(
        by_suite(short, [*plain(0.21, first=2), made("vgg38", 0.01)])
    )
    assert "VGG38 learns in float32 (10.00 %" in depth.precision_told(
        by_suite(short, [*plain(0.21, first=2), made("vgg38", 0.1)])
    )


def test_what_a_network_needs_is_told_by_what_those_keep_that_learn(measured: Untrained) -> None:
    assert separated.answer(by_suite(), measured) == ""
    assert separated.figure(by_suite(), measured) is regained.figure(by_suite(), measured) is None
    table = separated.table_html(by_suite(), measured)
    missing = table.partition("No run yet: ")[2].partition(". ")[0]
    assert table.count("<tr>") == 1
    assert (missing.count(" in bfloat16"), missing.count(" in float32")) == (6 + 1, 4 + 3 + 3)

    # VGG08 keeps both, VGG14 in bfloat16 its gradient, VGG20 in bfloat16 neither, in float32 its signal.
    short = plain(0.4, 0.3, 0.01)
    told = separated.answer(by_suite(short, plain(0.2, first=2)), measured)
    assert told == (
        "A run learns that ends more than 1 point above guessing in test accuracy. "
        "Of the runs of plain networks these learn: of those that keep both 1 of 1, the signal alone 1 of 1, "
        "the gradient alone 1 of 1, neither 0 of 1. Where depth, epsilon and machine are the same, 1 of 1 learn with "
        "the signal and 0 of 1 without it (two-sided exact test, p = 1; machines not told apart, p = 1). "
        f"{separated.STOPPING} So few runs do not tell "
        "whether the signal makes a difference."
    )
    assert separated.answer(by_suite(short), measured).endswith("neither 0 of 1.")  # none differ in one thing


def seeds(*tests: float, **settings: Any) -> list[Run]:
    """VGG20 of these accuracies, a seed each."""
    return [made("vgg38", test, seed, depth=20, **settings) for seed, test in enumerate(tests)]


def test_what_decides_is_told_by_runs_that_are_the_same_in_all_else(measured: Untrained) -> None:
    def told(rough: Sequence[Run], exact: Sequence[Run]) -> str:
        return separated.answer(by_suite(rough, exact), measured)

    keeping = [0.2] * 5
    lost = [0.01] * 5
    gradient = told([*seeds(*lost), *seeds(*keeping, adam_epsilon=1e-20)], [])
    assert (
        "5 of 5 learn with the gradient and 0 of 5 without it (two-sided exact test, p = 0.0079; machines" in gradient
    )
    assert gradient.endswith("So with the gradient more learn than without it.")
    both = told([*seeds(*lost), *seeds(*keeping, adam_epsilon=1e-20)], seeds(0.01, 0.01, 0.01))
    assert both.endswith(
        "So with the gradient more learn than without it; whether the signal makes a difference, so few runs do not "
        "tell."
    )
    assert told(seeds(*lost), seeds(*keeping)).endswith("So with the signal more learn than without it.")
    assert told(seeds(*keeping), seeds(*lost)).endswith("So with the signal fewer learn than without it.")
    # Other machines are another thing that differs: nothing is compared.
    assert "exact test" not in told(seeds(*lost), elsewhere(seeds(*keeping)))


def test_answer_that_hangs_on_the_line_of_learning_says_so(measured: Untrained) -> None:
    near = [0.2, 0.2, 0.2, 0.022, 0.022]  # the last two end 1.2 points above guessing
    found = by_suite([*seeds(*[0.01] * 5), *seeds(*near, adam_epsilon=1e-20)])
    told = separated.answer(found, measured)
    assert "5 of 5 learn with the gradient and 0 of 5 without it" in told
    assert "it is 3 of 5 and 0 of 5 where a run has to end more than 2 points above guessing (p = 0.17)" in told
    assert told.endswith("learn than without it, but not by the higher of these lines.")
    # In brief it is the same answer, without the counts that it does not rest on.
    brief = separated.answer(found, measured, brief=True)
    assert "of those that keep" in told and "of those that keep" not in brief and "machines" not in brief
    assert brief.endswith(told[told.index(" Seeds were added after") :]) and "it is 3 of 5 and 0 of 5" in brief
    larger = [*seeds(0.01), *seeds(*[0.01] * 4, adam_epsilon=1e-6), *seeds(*[0.2] * 5, adam_epsilon=1e-20)]
    # With all runs 5 of 5 and 0 of 5, with the usual epsilon and smaller ones 5 of 5 and 0 of 1.
    for short in (False, True):
        told = separated.answer(by_suite([], larger), measured, brief=short)
        assert told.endswith("learn than without it, but not without the runs of a larger epsilon (p = 0.17).")
    clear = separated.answer(by_suite([*seeds(*[0.01] * 5), *seeds(*[0.2] * 5, adam_epsilon=1e-20)]), measured)
    assert "where a run has to end" not in clear and "line" not in clear


def test_difference_that_chance_makes_in_one_of_twenty_cases_is_not_told(measured: Untrained) -> None:
    # 1 of 20 ways to choose three of six: a p-value of 0.05, or 0.1 on both sides; beside it the same again.
    found = by_suite([*seeds(0.01, 0.01, 0.01), *seeds(0.2, 0.2, 0.2, adam_epsilon=1e-20)])
    assert "p = 0.1;" in separated.answer(found, measured) and "do not tell" in separated.answer(found, measured)
    assert not unlikely(1 - 0.95) and not unlikely(0.05) and unlikely(0.0499)


def test_direction_is_that_within_the_networks_that_are_alike(measured: Untrained) -> None:
    # In all, fewer learn with the gradient; of either machine's runs, more.
    here = [*seeds(*[0.2] * 10, adam_epsilon=1e-20), *seeds(*[0.2] * 20, *[0.01] * 10)]
    there = [*seeds(*[0.2] * 10, *[0.01] * 20, adam_epsilon=1e-20), *seeds(*[0.01] * 10)]
    told = separated.answer(by_suite([*here, *elsewhere(there)]), measured)
    assert "20 of 40 learn with the gradient and 20 of 40 without it" in told
    assert told.endswith("So with the gradient more learn than without it.")


def test_table_has_a_row_for_each_machine_and_the_figure_a_dot_for_each_run(measured: Untrained) -> None:
    moved = elsewhere([made("vgg38", 0.01, 7, depth=20), made("vgg38", 0.21, 8, depth=20)])
    found = by_suite(plain(0.4, 0.3, 0.01), [*seeds(0.2, 0.01), *moved])
    table = separated.table_html(found, measured)
    assert table.count("<tr>") == 1 + 3 + 2 and table.count("1 of 2</td>") == 2 and ",1.00 21.00" in table
    figure = separated.figure(found, measured)
    assert figure and "3 of 5 of those that keep the signal, 1 of 2 of the others" in figure.caption
    assert "2 of 2 of those that keep the gradient, 2 of 5 of the others" in figure.caption
    for ax in figure.axes:
        dots = [line for line in ax.get_lines() if line.get_linestyle() == "None"]
        assert sorted(value for line in dots for value in np.asarray(line.get_ydata())) == pytest.approx(
            [1, 1, 1, 20, 21, 30, 40]
        )


@pytest.mark.parametrize(
    ("devices", "told"),
    [
        (("NVIDIA H200", "Intel(R) Xeon(R) Processor @ 2.50GHz"), "Intel Xeon @ 2.50GHz, NVIDIA H200"),
        (("AMD EPYC 9B14", "AMD EPYC 9B14"), "AMD EPYC 9B14"),
        (("Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz", None), "Intel Core i7-8650U @ 1.90GHz, unknown"),
    ],
)
def test_machines_are_those_of_every_part_of_every_run(devices: Sequence[str | None], told: str) -> None:
    run, other = made("vgg08", 0.4), made("vgg08", 0.4, 1)
    apart = [replace(one, summary=part_of_summary(segments=[{"device": device}]))
             for one, device in zip((run, other), devices, strict=True)]  # fmt: skip
    assert naming.machines(apart) == told
    together = replace(run, summary=part_of_summary(segments=[{"device": device} for device in devices]))
    assert naming.machines([together]) == told


def test_epsilons_lose_and_keep_the_gradients_that_the_page_says(measured: Untrained) -> None:
    rows = measured.frame.query("variant == 'plain' and initialisation == 'default'").dropna(subset="weight_gradient")
    gradients = {at: layers.groupby("layer")["weight_gradient"].mean() for at, layers in rows.groupby("depth")}
    assert all((gradients[at] > NEGLIGIBLE).all() for at in DEPTHS if at < 38)
    assert all((gradients[8] > epsilon).all() and gradients[20][1] < 1e-2 * epsilon for epsilon in LARGER)
    assert gradients[20][1] < 1e-3 * LARGER[1]
    assert (gradients[20] > LARGER[0]).sum() < 10 and (gradients[20] > LARGER[1]).sum() <= 3
    told = separated.question(measured).replace("\xa0", " ")
    assert "layer of VGG20 is 2.1 × 10⁻¹⁰: above an epsilon of 1e-20, below 1e-8, 1e-7, 1e-6; that of VGG08" in told


def test_network_that_came_alive_and_fell_back_is_told(measured: Untrained) -> None:
    def grown(*gradients: float) -> depth.BySuite:
        rows = [(epoch, layer, "mean", "convolution", value)
                for epoch, value in enumerate(gradients, start=1) for layer in range(20)]  # fmt: skip
        frame = pd.DataFrame(rows, columns=["epoch", "layer", "over", "kind", "mean_abs"])
        return by_suite([replace(made("vgg38", 0.01, depth=20), gradients=frame)])

    told = regained.told(grown(1e-4, 1e-9, 1e-12), measured)
    assert "1 of 1 had one in some epoch, lost it again and do not learn: VGG20 in bfloat16 (seed 0). Whether" in told
    rising = regained.told(grown(1e-4, 1e-9, 3e-8), measured)
    assert "In the last epoch it is above epsilon again in VGG20 in bfloat16 (seed 0): a longer run" in rising
    assert regained.told(grown(1e-12, 1e-12), measured) == "" == regained.told(grown(1e-4, 1e-4), measured)
    assert regained.told(by_suite(plain(0.4, 0.3)), measured) == ""


def test_signal_is_drawn_of_a_seed_that_learns_and_of_one_that_does_not(measured: Untrained) -> None:
    def run(test: float, seed: int, **settings: Any) -> Run:
        return replace(logged("vgg38", seed, 3, depth=20, **settings), summary=made("vgg38", test).summary)

    figure = regained.figure(by_suite([run(0.01, 0)], [run(0.2, 0), run(0.2, 1), run(0.01, 2)]), measured)
    assert figure and [ax.get_title() for ax in figure.axes] == ["bfloat16", "float32"]
    drawn = [[str(line.get_label()) for line in ax.get_lines()] for ax in figure.axes]
    assert drawn == [["VGG20"], ["VGG20, seed 0", "VGG20, seed 2"]]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    small = regained.figure(by_suite([], [run(0.2, 0, adam_epsilon=1e-20)]), measured)
    assert small and "VGG20 ε 1e-20</text>" in small.svg


def test_network_that_learns_after_it_had_lost_its_signal_is_told(measured: Untrained) -> None:
    def told(*shares: float) -> str:
        losses = (3.0,) * len(shares)
        run = logged("vgg38", 0, len(shares), shares, depth=26, adam_epsilon=1e-20, losses=losses)
        return regained.told(by_suite([], [run]), measured)

    back = told(1e-9, 0.5, 1e-3, 0.25, 0.5)
    assert back.startswith("What is lost before training need not stay lost. Of the runs that had no signal before")
    assert "1 of 1 got one and learn." in back
    assert back.endswith("They are VGG26, Adam's epsilon 1e-20 in float32 (seed 0) from epoch 4 on.")
    assert told(1e-9, 0.5, 1e-3) == ""  # it fell again
    assert told(0.5, 0.5).endswith("from epoch 1 on.")


def test_signal_that_comes_back_is_told_with_the_epoch() -> None:
    metrics = pd.DataFrame({"epoch": [1, 2, 3], "train_accuracy": [0.01, 0.011, 0.05]})

    def told(*shares: float) -> str:
        run = logged("vgg38", 3, 3, shares, initialisation="he")
        return cures.returns_told(listed(replace(run, metrics=metrics))).replace("\xa0", " ")

    back = told(1e-5, 1e-3, 0.5)
    assert back.startswith(
        "A signal that the first epoch ends without comes back in VGG38 He, where 1.0 × 10⁻⁵ of the linear layer's"
    )
    assert "above 1 % from epoch 3 on, and the training accuracy a point above guessing from epoch 3 on." in back
    assert told(1e-9, 1e-9, 1e-9) == "In 15 epochs none comes back in VGG38 He."
    assert told(1e-9, 0.5, 1e-9) == "In 15 epochs none comes back in VGG38 He, where it fell again."
    assert told(0.5, 0.5, 0.5) == ""  # it was never lost


def test_one_cure_is_enough_to_say_so() -> None:
    he = made("vgg38", 0.3, initialisation="he")
    assert cures.told(listed(he), {}).startswith("Neither BN nor RC is needed")
    lsuv = made("vgg38", 0.01, initialisation="lsuv")
    assert cures.told(listed(lsuv), {}) == "Not enough after 15 epochs: VGG38 LSUV 1.00 % (1 seed)."
    slow = made("vgg38", 0.2, initialisation="lsuv", learning_rate=1e-4)
    told = cures.told(listed(lsuv, slow, lost(made("vgg38", 0.02, learning_rate=1e-4))), {})
    assert "to begin to learn: test accuracy after 15 epochs VGG38 LSUV at 1e-4 20.00 % (1 seed)." in told
    assert told.endswith(" Not enough after 15 epochs: VGG38 LSUV 1.00 % (1 seed); VGG38 at 1e-4 diverged (1 seed).")
    halves = listed(made("vgg38", 0.01, initialisation="he"), made("vgg38", 0.05, 1, initialisation="he"))
    some = cures.told(halves, {})
    assert "test accuracy after 15 epochs VGG38 He 1.00, 5.00 % (2 seeds, 1 learning)." in some


def test_best_scale_is_set_beside_bn_and_rc_for_either_length() -> None:
    slow = made("vgg38", 0.2, initialisation="lsuv", learning_rate=1e-4)
    short = listed(made("vgg38", 0.1, initialisation="he"), slow)
    assert cures.answer(short, {}) == cures.told(short, {})  # nothing to set it beside
    both = listed(made("vgg38_bn_rc", 0.4))
    long = listed(made("vgg38", 0.3, initialisation="lsuv", learning_rate=1e-4), made("vgg38_bn_rc", 0.6))
    told = cures.answer(short | both, long)
    assert "VGG38 LSUV at 1e-4, reaches 20 % after 15 epochs and 30 % after 100 epochs." in told
    assert told.endswith("None gets as far as BN and RC: 40 % after 15 epochs and 60 % after 100 epochs.")
    assert "is enough" not in told  # each of those that were tried learned
    mixed = listed(made("vgg38", 0.1, initialisation="he"), made("vgg38", 0.01, 1, initialisation="he"), slow)
    assert "Not every other scale or rate is enough: VGG38 He learns in 1 of 2 runs. None" in cures.answer(
        mixed | both, long
    )
    assert cures.answer({}, {}) == cures.told({}, {})


def test_long_runs_of_a_cure_tell_how_far_it_carries() -> None:
    slow = made("vgg38", 0.2, initialisation="lsuv", learning_rate=1e-4)
    longer = [
        made("vgg38", 0.4, initialisation="lsuv", learning_rate=1e-4),
        made("vgg38", 0.01, initialisation="he", learning_rate=1e-4),
        made("vgg38_bn_rc", 0.6),
    ]
    after = (
        "After 100: VGG38 LSUV at 1e-4 40.00 % (1 seed); VGG38 He at 1e-4 1.00 % (1 seed), which is not learning; "
        "with BN and RC 60.00 %."
    )
    assert cures.told(listed(slow), listed(*longer)).endswith(f" {after}")
    assert cures.told({}, listed(*longer)) == after
    assert "After 100" not in cures.told(listed(slow), listed(longer[-1]))


def test_networks_whose_signal_is_drawn_are_those_that_logged_it() -> None:
    runs = [
        made("vgg38", 0.01),
        logged("vgg38", 1, 3),
        logged("vgg38", 2, 3),
        logged("vgg38", 0, 2, initialisation="he"),
    ]
    found = [(naming.network(tried.config(asked)), run.config.seed) for asked, run in cures.watched(listed(*runs))]
    assert found == [("VGG38", 1)]
    skip = logged("vgg38_rc", 4, 3, skip_init=True)
    assert cures.watched(listed(skip)) == [(Asked("vgg38_rc", {"skip_init": True}), skip)]


def test_lines_of_cures_differ_and_those_at_a_small_rate_are_dashed() -> None:
    looks = {naming.network(tried.config(asked)): cures.look(asked) for asked, _ in cures.CURED}
    assert len(set(looks.values())) == len(looks)
    assert {name for name, look in looks.items() if look.line == "--"} == {name for name in looks if "1e-4" in name}
    assert looks["VGG38 He"][:2] == looks["VGG38 He at 1e-4"][:2]


def test_settings_that_the_suite_gives_are_not_given_twice() -> None:
    from vggkit.config import ConfigError

    told = r"^depth: 20 is not allowed for all runs, since vgg38 is asked for with depth 14; allowed: to leave it out"
    with pytest.raises(ConfigError, match=told):
        order([Asked("vgg38", {"depth": 14})], [0], 1, depth=20)
