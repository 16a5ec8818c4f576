"""Sentences made of runs: the headline follows the runs that there are, the discussion what differs and how."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd
import pytest

from tests.report.test_claims import made_up
from vggkit.report import prose, reported, tables
from vggkit.runs.records import Run
from vggkit.study import REPORT

VANISHING, LEVEL = (1e-15, 1e-9, 1e-4, 1.0), (0.5, 0.4, 0.6, 1.0)


def run(name: str, accuracy: float, suite: str = "table1", seed: int = 0, vanishing: bool = False) -> Run:
    made = made_up(name, accuracy, suite, seed, gradients=VANISHING if vanishing else LEVEL)
    made.summary["train_images"] = made.config.train_images
    return made


def told(**accuracies: Any) -> str:
    """The headline of runs of these accuracies; VGG38's gradient vanishes."""
    named = {name.replace("_lr", "_lr1e-2"): value for name, value in accuracies.items()}
    return prose.headline({name: [run(name, value, vanishing=name == "vgg38")] for name, value in named.items()})


def test_headline_of_full_runs_rests_on_nothing_else() -> None:
    assert told(vgg08=0.482, vgg38=0.01, vgg38_bn_rc=0.543, vgg38_bn_rc_lr=0.594) == (
        "**On CIFAR-100, 8 layers reach 48 % test accuracy in 100 epochs, 38 layers 1 %, which is guessing; in the "
        "deep one the gradient falls by up to 15 orders of magnitude. Batch normalisation and residual connections "
        "together bring it back and reach 54 % (learning rate 0.001) and 59 % (learning rate 0.01).**"
    )
    alone = told(vgg08=0.482, vgg38=0.01, vgg38_bn_rc=0.543)
    assert "reach 54 % (learning rate 0.001)." in alone


def test_headline_says_which_numbers_a_full_run_would_replace() -> None:
    runs = {
        "vgg08": [run("vgg08", 0.48), run("vgg08", 0.50, seed=1), run("vgg08", 0.13, "preview")],
        "vgg38": [run("vgg38", 0.01, "preview", vanishing=True)],
        "vgg38_bn_rc": [run("vgg38_bn_rc", 0.9, "preview")],
        "vgg38_bn_rc_lr1e-2": [run("vgg38_bn_rc_lr1e-2", 0.59)],
    }
    text = prose.headline(runs)
    assert (
        text.startswith("**On CIFAR-100, 8 layers reach 49 % test accuracy in 100 epochs, 38")
        and "59 %" in text
        and "90 %" not in text
    )
    assert text.endswith(" (VGG38 in a shorter run of 10 epochs, 15,800 images, until a full one is there.)")
    runs["vgg38"].insert(0, run("vgg38", 0.012, vanishing=True))
    assert prose.headline(runs) == text.partition(" (VGG38")[0]


def test_headline_does_not_say_what_is_not_so() -> None:
    learns = {"vgg08": [run("vgg08", 0.48)], "vgg38": [run("vgg38", 0.30)], "vgg38_bn_rc": [run("vgg38_bn_rc", 0.54)]}
    text = prose.headline(learns)
    assert "guessing" not in text and "orders" not in text and "together help, and reach 54 %" in text
    learns["vgg38_bn_rc"] = [run("vgg38_bn_rc", 0.2, vanishing=True)]
    assert "together do not help: 20 %" in prose.headline(learns)
    learns["vgg38"] = [run("vgg38", 0.01, vanishing=True)]
    assert "together help, and reach 20 %" in prose.headline(learns)
    for missing in learns:
        assert prose.headline({name: group for name, group in learns.items() if name != missing}) == ""
    diverged = made_up("vgg38", None, gradients=VANISHING)
    assert prose.headline(learns | {"vgg38": [diverged]}) == ""


def full(name: str, seed: int = 0, offsets: Mapping[str, float] = MappingProxyType({}), suite: str = "table1") -> Run:
    """A full run whose last epoch has the report's values, changed by `offsets`; the training loss falls to it."""
    row = REPORT["rows"][name]
    final = {metric: row[metric] + offsets.get(metric, 0.0) for metric in tables.METRICS}
    final = {metric: value / (1 if "loss" in metric else 100) for metric, value in final.items()}
    made = made_up(name, suite=suite, seed=seed, **final)
    steps = pd.DataFrame({"epoch": [1, 2, 3]} | {m: [v, v, v] for m, v in final.items()})
    steps["train_loss"] += [2.0, -min(0.0, offsets.get("train_loss", 0.0)) / 2, 0.0]
    return Run(made.config, steps, made.gradients, made.summary)


def discussed(**offsets: dict[str, float]) -> str:
    """The discussion of three seeds of VGG08 as the report has it, and of one run of others."""
    spread = {metric: 0.01 if "loss" in metric else 0.1 for metric in tables.METRICS}
    runs = {"vgg08": [full("vgg08", seed, {m: seed * d for m, d in spread.items()}) for seed in range(3)]}
    named = {name.replace("_lr", "_lr1e-2"): values for name, values in offsets.items()}
    runs |= {name: [full(name, offsets=values)] for name, values in named.items()}
    # VGG38's spread is that of a network of its depth and learning rate, here of short runs.
    for name in ("vgg38_bn", "vgg38_bn_lr1e-2"):
        runs[name] = [full(name, s, {m: s * d for m, d in spread.items()}, "short") for s in range(3)]
    return prose.discussion(reported.against_report(runs), runs)


def test_discussion_tells_apart_what_lies_lower_and_what_lies_higher() -> None:
    text = discussed(vgg38_rc={"train_loss": -0.4}, vgg38_bn_rc_lr={"train_loss": 0.3})
    assert "Of 12 values, 10 are no further from the report's than a seed can move them" in text
    assert "come in the report's order: VGG08, VGG38 RC, VGG38 BN+RC at 1e-2" in text
    assert "lower for VGG38 RC (0.93 against 1.33), and higher for VGG38 BN+RC at 1e-2 (0.84 against 0.54)" in text
    assert "within the bound it is higher for VGG08 (1.75 against 1.74)" in text
    assert "took VGG08, VGG38 RC from its template and ran VGG38 BN+RC at 1e-2 itself" in text
    assert "Our VGG38 RC passes the report's 1.33 in epoch 2 of 100, with 52.3 % validation accuracy" in text
    assert "So it is with VGG38 BN+RC at 1e-2. It is the other way round with VGG38 RC," in text


def test_discussion_names_no_cause_of_what_does_not_differ() -> None:
    text = discussed(vgg38_rc={})
    assert "No training loss is beyond" in text and "passes" not in text and "So it is with" not in text
    assert "other way round" not in text and "from its template and ran" not in text
    assert "reduction blocks" not in discussed()  # no network with RC
    assert prose.discussion(reported.against_report({}), {}) == ""
    one = {"vgg08": [full("vgg08")]}
    assert prose.discussion(reported.against_report(one), one) == ""


@pytest.mark.parametrize("points", [3.0, 12.6])
def test_discussion_tells_how_far_training_accuracies_lie_apart(points: float) -> None:
    text = discussed(vgg38_rc={"train_accuracy": points})
    assert f"lie up to {points:.1f} points apart (VGG38 RC)" in text
    assert 100 < len(re.findall(r"\w+", text)) < 450


def test_origin_names_reduced_runs_among_full_ones_in_words_and_as_marked_only_where_they_are() -> None:
    runs = [run("vgg08", 0.5), run("vgg38_bn_rc_lr1e-2", 0.5, "preview")]
    assert "; not full runs of Table 1: VGG38 BN+RC at 1e-2]" in prose.origin(runs)
    assert "; not full runs of Table 1 (marked *): VGG38 BN+RC at 1e-2]" in prose.origin(runs, marked=True)
    assert "marked" not in prose.origin(runs[1:], marked=True) and "not full" not in prose.origin(runs[:1])
