"""Which regulariser moves the turn of the validation loss: runs whose turn is known, and intervals beside Student's."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.shared import ROOT, part_of_summary
from vggkit.config import RunConfig
from vggkit.report import claims, overfitting, turning
from vggkit.report.tried import config
from vggkit.report.verdicts import ACCURACY, EXCESS
from vggkit.runs.records import Run
from vggkit.study import BEST, OVERFITTED

EPOCHS = np.arange(1, 101)


def made(turn: int, end: float, seed: int = 0, test: float = 0.2, **settings: Any) -> Run:
    """A run on few images whose validation loss is a parabola, 3 in the epoch `turn` and `end` in the last."""
    losses = np.minimum(4.6, 3 + (end - 3) * ((EPOCHS - turn) / max(1, 100 - turn)) ** 2)
    final = {"test_accuracy": test, "train_accuracy": 0.6, "validation_accuracy": test, "train_loss": 1.0}
    return Run(
        RunConfig.named(BEST, suite="few", seed=seed, **settings),
        pd.DataFrame({"epoch": EPOCHS, "validation_loss": losses, "train_loss": np.linspace(4, 1, 100)}),
        pd.DataFrame(),
        part_of_summary(
            final=final, diverged=False, train_images=2_500, segments=[{"device": "a machine", "torch": "2"}]
        ),
    )


def listed(*runs: Run) -> dict[str, list[Run]]:
    return {
        name: list(group)
        for name, group in itertools.groupby(sorted(runs, key=lambda run: run.config.name), lambda run: run.config.name)
    }


def studied(turns: Sequence[int], decayed: Sequence[int], dropped: Sequence[int]) -> dict[str, list[Run]]:
    """Runs whose losses turn in these epochs: without a regulariser, with weight decay, with dropout."""
    return listed(
        *(made(turn, 4.0, seed) for seed, turn in enumerate(turns)),
        *(made(turn, 4.0, seed, weight_decay=1e-4) for seed, turn in enumerate(decayed)),
        *(made(turn, 3.1, seed, dropout=0.5) for seed, turn in enumerate(dropped)),
    )


def test_intervals_of_one_comparison_are_students() -> None:
    found = listed(
        *(made(turn, 4.0, seed) for seed, turn in enumerate((30, 34))),
        *(made(turn, 4.0, seed, dropout=0.5) for seed, turn in enumerate((60, 68))),
    )
    (effect,) = overfitting.moved(found, overfitting.TURN).values()
    turns = [[turning.lowest_smoothed(run) for run in runs] for runs in found.values()]
    theirs = stats.ttest_ind(*turns).confidence_interval(0.95)  # the same sizes and one pooled variance, as here
    assert sorted((abs(effect.low), abs(effect.high))) == pytest.approx(sorted(map(abs, theirs)), rel=1e-3)
    assert effect.value == pytest.approx(32, abs=2)


def test_what_moves_the_turn_is_told_apart_from_what_cannot_be_told() -> None:
    told = overfitting.told(studied((30, 32), (33, 31), (80, 82)))
    assert told.startswith(
        "Without a regulariser (2 seeds) the smoothed validation loss is lowest in epoch 31 (30 to 32 by seed) of 100 "
        "and ends 33 % (33 to 33 % by seed) above that. The loss turns later"
    )
    assert "The loss turns later with dropout 0.5 (by +50 [" in told
    answer = overfitting.answer(studied((30, 32), (33, 31), (80, 82)))
    assert answer == f"VGG38 BN+RC at 1e-2, 2,500 images in batches of 25, 100 epochs: {told}"
    assert "cannot be told with weight decay 1e-4" in told
    assert "The loss rises less far with dropout 0.5" in told and "rises less far with weight" not in told
    assert "The loss turns earlier with dropout 0.5" in overfitting.told(studied((80, 82), (80, 83), (30, 32)))


def test_a_loss_that_leaves_the_panel_is_named_unless_it_is_one_of_the_first() -> None:
    found = studied((30, 32), (), ())
    for run, epoch in zip(found[config(OVERFITTED[0]).name], (3, 16), strict=True):
        run.metrics.loc[epoch - 1, "validation_loss"] = 8.2
    figure = overfitting.figure(found)
    assert figure is not None
    told = "After epoch 5 a validation loss lies above the panel, at its highest with no regulariser, seed 1: 8.2 in "
    assert f"{told}epoch 16." in figure.caption
    untouched = overfitting.figure(studied((30, 32), (), ()))
    assert untouched is not None and "above the panel" not in untouched.caption


def test_page_says_from_which_rise_on_a_loss_has_turned() -> None:
    page = " ".join((ROOT / "book/further.md").read_text(encoding="utf-8").split())
    assert (turning.TURNED, claims.OVERFIT) == (0.01, 0.05)
    assert "ends more than a hundredth above its lowest" in page and "asks for five hundredths" in page


def test_losses_that_never_rise_turn_alike_which_tells_nothing_of_those_that_do() -> None:
    found = studied((20, 60), (), (100, 100))  # the latter lowest in the last epoch with either seed
    assert overfitting.moved(found, overfitting.TURN) == {}
    told = overfitting.told(found)
    assert "The loss has not turned by the last epoch, where it is at most 1 % above its lowest, with dropout" in told
    assert "later" not in told
    # Nor do their rises, which are alike with every seed, say how far a seed moves those of losses that rise.
    unlike = listed(made(30, 3.6), made(30, 4.4, seed=1), *(made(100, 3.1, seed, dropout=0.5) for seed in range(2)))
    (effect,) = overfitting.moved(unlike, EXCESS).values()
    assert effect.value == pytest.approx(-1 / 3, abs=0.02) and effect.low < -0.5 and effect.high > 0
    assert "rises less far" not in overfitting.told(unlike)


def test_where_the_network_as_it_is_does_not_overfit_no_turn_is_compared() -> None:
    found = studied((100, 100), (30, 32), ())
    told = overfitting.told(found)
    assert "with no regulariser (2 seeds)" in told and "lowest in epoch" not in told and "turns" not in told
    assert overfitting.moved(found, overfitting.TURN) == {}


def test_loss_that_turns_with_one_seed_of_two_is_not_said_not_to_turn() -> None:
    found = studied((30, 32), (), (80, 100))
    assert "has not turned" not in overfitting.told(found)
    assert overfitting.table_html(found, "Few").text.count("not turned") == 0


def test_with_one_seed_each_no_interval_is_claimed() -> None:
    found = studied((30,), (33,), (80,))
    assert "no interval is told with weight decay 1e-4 (by +3 epochs)" in overfitting.told(found)
    unequal = studied((30, 34), (), (80,))  # the turn of the latter may scatter otherwise: it hardly rises
    assert "with dropout 0.5 (by +48 [" in overfitting.told(unequal)  # but here it does, and is of one kind with them
    assert "[" not in overfitting.told(found) and "later with" not in overfitting.told(found)
    assert "for the draw of the test images alone" in overfitting.table_html(found, "Few")
    assert "draws of the seed" in overfitting.table_html(studied((30, 32), (33, 31), (80, 82)), "Few")
    assert "with dropout 0.5 (1 seed)." in overfitting.told(studied((30,), (), (100,)))
    assert "not turned" not in overfitting.told(found)


def test_networks_that_guess_are_left_out_and_without_runs_nothing_is_said() -> None:
    assert overfitting.learned(listed(made(30, 4.0, test=0.01))) == {}
    assert overfitting.figure({}) is None and overfitting.told({}) == "" == overfitting.table_html({}, "Few")
    assert overfitting.answer({}) == ""
    assert overfitting.missing(studied((30,), (33,), (80,)), OVERFITTED, "on few images") == (
        "Without a run on few images yet: dropout 0.1; weight decay 1e-4 (AdamW)."
    )
    left = overfitting.missing(listed(made(30, 4.0, test=0.01)), OVERFITTED[:1], "")
    assert left == "Left out, since not every seed learns: no regulariser."
    assert (
        overfitting.missing({config(asked, "few").name: [made(30, 4.0)] for asked in OVERFITTED}, OVERFITTED, "") == ""
    )
    alone = listed(made(80, 3.1, dropout=0.5))
    assert overfitting.told(alone) == "" and overfitting.moved(alone, ACCURACY) == {}
    assert "dropout 0.5" in overfitting.table_html(alone, "Few")


def test_accuracy_is_told_by_the_side_of_its_interval() -> None:
    def accuracies(weight_decay: float, dropout: float) -> dict[str, list[Run]]:
        return listed(
            *(made(30 + seed, 4.0, seed, test=0.2 + 0.001 * seed) for seed in range(3)),
            *(made(30 + seed, 4.0, seed, test=weight_decay + 0.001 * seed, weight_decay=1e-4) for seed in range(3)),
            made(100, 3.0, test=dropout, dropout=0.5),
        )

    told = overfitting.told(accuracies(0.3, 0.1))
    assert "Test accuracy is higher with weight decay 1e-4 (by +10.00 [" in told
    assert "Test accuracy is lower with dropout 0.5 (by −10.10 [" in told and "higher or lower" not in told
    told = overfitting.told(accuracies(0.2, 0.2))
    assert "Whether test accuracy is higher or lower cannot be told with weight decay 1e-4 (by +0.00 [" in told
    assert "is higher with" not in told and "is lower with" not in told
    page = overfitting.table_html(accuracies(0.3, 0.1), "Regularised").text
    assert page.count("not turned") == 1  # a loss that does not turn is lowest in any of its last epochs


def test_figure_draws_every_seed_and_names_each_regulariser_once() -> None:
    figure = overfitting.figure(studied((30, 32), (33, 31), (80, 82)))
    assert figure is not None and "seeds 0, 1" in figure.caption
    for panel in figure.values["panels"]:
        names = [line["name"] for line in panel["lines"]]
        assert names == [
            f"{words}{seed}" for words in ("no regulariser", "weight decay 1e-4", "dropout 0.5")
            for seed in ("", ", seed 1")
        ]  # fmt: skip
    assert figure.svg.count("no regulariser</text>") == 2


def test_each_regulariser_that_is_asked_for_has_a_name_of_its_own() -> None:
    found = listed(*(made(30, 4.0, **asked.settings) for asked in OVERFITTED))
    words = [words for words, _ in overfitting.learned(found).values()]
    assert len(set(words)) == len(OVERFITTED) and words[0] == "no regulariser"
