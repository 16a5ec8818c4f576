"""What of signal and gradient is lost in plain networks before training, each for itself, and which of these learn."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from vggkit.config import ADAM_EPSILON, RunConfig
from vggkit.report.canvas import PANEL, Figure, drawing, finish, widen
from vggkit.report.cures import Look
from vggkit.report.depth import BySuite, by_machine
from vggkit.report.figures import COLOURS, LEAST_SPAN
from vggkit.report.intervals import Counts, exact_test, unlikely
from vggkit.report.markup import Html
from vggkit.report.measures import CHANCE
from vggkit.report.naming import exponent, network
from vggkit.report.predicted import HALF, gradient_margin, told_apart
from vggkit.report.prose import origin
from vggkit.report.render import html, number, power
from vggkit.report.tried import SHORT, accuracy, config, learning
from vggkit.report.untrained import Untrained
from vggkit.report.verdicts import LEARNS, learns
from vggkit.runs.records import Run
from vggkit.study import BY_DEPTH, DEPTHS, FLOAT32, IN_FLOAT32, LARGER, LOST, NEGLIGIBLE, SUITES, Asked

LOOKS = dict(zip(LOST, (Look(4, "P"), Look(1, "^"), Look(2, "D"), Look(0, "s")), strict=True))
"""How a network's line is drawn, by its depth."""
DOTS = {DEPTHS[0]: Look(7, "o"), DEPTHS[1]: Look(3, "v"), **LOOKS}
"""How the dots of a network's runs are drawn, by its depth."""
CLEARLY = 0.02
"""How far above guessing a run ends that learns by a higher line: does the answer hang on where it is drawn?"""
STOPPING = "Seeds were added after those before them had been seen, which makes p too small by an unknown amount."
BOTH, SIGNAL, GRADIENT, NEITHER = "both", "signal", "gradient", "neither"
PARTS = {(True, True): BOTH, (True, False): SIGNAL, (False, True): GRADIENT, (False, False): NEITHER}
"""By whether a network keeps its signal, and its gradient."""
WORDS = {BOTH: "both", SIGNAL: "the signal alone", GRADIENT: "the gradient alone", NEITHER: "neither"}


class Case(NamedTuple):
    """Plain networks of one depth, precision and epsilon: what they keep before training, and their runs.

    Attributes:
        config: of the network, as its suite trains it.
        precision: of its runs.
        cosine: what the precision keeps of what tells images apart before the linear layer, see `predicted.told_apart`.
        margin: gradient of the first layer's weights, in units of Adam's epsilon.
        runs: the finished runs of `config` in this precision, of 15 epochs.
    """

    config: RunConfig
    precision: str
    cosine: float
    margin: float
    runs: tuple[Run, ...]

    @property
    def signal(self) -> bool:
        """Whether it keeps its signal."""
        return self.cosine > HALF

    @property
    def gradient(self) -> bool:
        """Whether it keeps its gradient."""
        return self.margin > 1

    @property
    def kept(self) -> str:
        return PARTS[self.signal, self.gradient]


def cases(found: BySuite, measured: Untrained) -> list[Case]:
    """All plain networks that are asked for or trained, the shallow first."""
    cosines, margins = told_apart(measured), gradient_margin(measured)
    listed = []
    for suite, asked in _asked():
        one, precision = config(asked, suite), "float32" if suite == FLOAT32 else "bfloat16"
        runs = (run for run in found.get(suite, {}).get(one.name, ()) if run.config.precision == precision)
        margin = margins.get(one.depth, math.nan) * ADAM_EPSILON / one.adam_epsilon
        cosine = cosines.loc[one.depth, precision]
        if not (math.isnan(cosine) or math.isnan(margin)):
            listed.append(Case(one, precision, cosine, margin, tuple(runs)))
    return sorted(listed, key=lambda case: case.config.depth)


def _asked() -> Iterator[tuple[str, Asked]]:
    counted = [one for one in BY_DEPTH if "adam_epsilon" in one.settings]
    for asked in (*(Asked("vgg38", {"depth": depth}) for depth in DEPTHS), *counted):
        yield SHORT, asked
    for asked in IN_FLOAT32:
        yield FLOAT32, asked


def table_html(found: BySuite, measured: Untrained) -> Html:
    """What each kind of plain network keeps before training, and what it reached; a row for each that has runs."""
    every = cases(found, measured)
    rows = [
        {
            "network": f"VGG{case.config.depth:02d}",
            "precision": case.precision,
            "ε": exponent(case.config.adam_epsilon),
            "cosine": number(case.cosine).replace("−0.00", "0.00"),
            "gradient / ε": _times(case.margin),
            "keeps": case.kept,
            "learn": f"{learning(runs)} of {len(runs)}",
            "machine": made,
            "test accuracies (%)": " ".join(f"{value:.2f}" for value in accuracy(runs)),
        }
        for case in every
        for made, runs in by_machine(case.runs).items()
    ]
    missing = "; ".join(f"{network(case.config)} in {case.precision}" for case in every if not case.runs)
    caption = (
        "Plain networks. Before training: the cosine with float64 of what differs between images at the linear layer, "
        "in the precision of the runs, and the mean gradient of the first layer's weights in units of Adam's ε; the "
        f"signal is kept where the cosine is above {HALF:g}, the gradient where it is above 1. How many seeds "
        f"learn in {SUITES[SHORT].settings['epochs']} epochs; the file has the test accuracy of each. "
        f"{f'No run yet: {missing}. ' if missing else ''}"
        f"{origin([run for case in every for run in case.runs])}"
    )
    columns = ["network", "precision", "ε", "cosine", "gradient / ε", "keeps", "learn", "machine"]
    whole = pd.DataFrame(rows, columns=[*columns, "test accuracies (%)"])
    files = {"csv": whole.map(lambda cell: cell.replace("−", "-")).to_csv(index=False)}
    words = ("network", "precision", "keeps", "machine")
    return html(whole[columns], "What is lost, and who learns", caption, text=words, files=files)


def lost() -> str:
    """What a plain network may have lost, as Markdown."""
    return (
        "Two things can be lost before training: the signal, which is what tells images apart at the linear layer, to "
        "rounding; and the gradient of the first layer, to Adam's epsilon."
    )


def question(measured: Untrained) -> str:
    """What is separated, and how, as Markdown."""

    def first(depth: int) -> float:
        return float(gradient_margin(measured)[depth]) * ADAM_EPSILON

    least, most = DEPTHS[0], LOST[0]
    epsilons = (NEGLIGIBLE, ADAM_EPSILON, *LARGER)
    above = [exponent(epsilon) for epsilon in epsilons if first(most) > epsilon]
    below = [exponent(epsilon) for epsilon in epsilons if first(most) <= epsilon]
    return (
        "At one depth the precision bears on the signal and Adam's epsilon on the gradient, which counts where it is "
        f"above epsilon. Before training the mean gradient of the first layer of VGG{most:02d} is "
        f"{power(first(most))}: above an epsilon of {' and '.join(above)}, below {', '.join(below)}; that of "
        f"VGG{least:02d}, {power(first(least))}, is above all of these. So each can be lost without the other."
    )


def answer(found: BySuite, measured: Untrained, *, brief: bool = False) -> str:
    """Which of the two of `lost` a plain network needs, as Markdown; empty without runs.

    If `brief`, it is told by the runs that are alike, as far as they tell something.
    """
    tried, learned = Counter[str](), Counter[str]()
    every = cases(found, measured)
    for case in every:
        tried[case.kept] += len(case.runs)
        learned[case.kept] += learning(case.runs)
    if not tried.total():
        return ""
    counts = [f"{WORDS[part]} {learned[part]} of {tried[part]}" for part in WORDS if tried[part]]
    text = [f"A run learns that ends more than {100 * LEARNS:g} point above guessing in test accuracy."]
    if not brief:
        text.append(f"Of the runs of plain networks these learn: of those that keep {', '.join(counts)}.")
    found_out = {part: _beside(every, *_ALIKE[part]) for part in (GRADIENT, SIGNAL)}
    alike = {GRADIENT: "depth, precision and machine", SIGNAL: "depth, epsilon and machine"}
    tests = {part: test for part, test in found_out.items() if test}
    for part, test in tests.items():
        (keep, of), (lose, others) = test.keep, test.lose
        across = f"; machines not told apart, p = {test.across:.2g}" * (not brief)
        if unlikely(test.chance) or not brief:
            text.append(
                f"Where {alike[part]} are the same, {keep} of {of} learn with the {part} and {lose} of {others} "
                f"without it (two-sided exact test, p = {test.chance:.2g}{across})."
            )
    higher = _beside(every, *_ALIKE[GRADIENT], _clearly) if GRADIENT in tests else None
    other = higher and (higher.keep, higher.lose) != (tests[GRADIENT].keep, tests[GRADIENT].lose)
    if higher and other:
        (keep, of), (lose, others) = higher.keep, higher.lose
        text.append(
            f"For the gradient it is {keep} of {of} and {lose} of {others} where a run has to end more than "
            f"{100 * CLEARLY:g} points above guessing (p = {higher.chance:.2g})."
        )
    usual = [case for case in every if case.config.adam_epsilon <= ADAM_EPSILON]
    strict = _beside(usual, *_ALIKE[GRADIENT]) if len(usual) < len(every) else None
    if strict and not brief:
        (keep, of), (lose, others) = strict.keep, strict.lose
        text.append(
            "Without the runs whose epsilon is larger than Adam's, which changes the steps of every layer (a smaller "
            "one changes those of layers whose gradient is small), "
            f"{keep} of {of} learn with the gradient and {lose} of {others} without it (p = {strict.chance:.2g})."
        )
    hangs = []
    if GRADIENT in tests and unlikely(tests[GRADIENT].chance):
        hangs += ["not by the higher of these lines"] * bool(higher and not unlikely(higher.chance))
        if strict and not unlikely(strict.chance):
            hangs.append(f"not without the runs of a larger epsilon (p = {strict.chance:.2g})")
    return " ".join([*text, STOPPING * bool(tests), _verdict(tests, hangs)]).rstrip()


_ALIKE: dict[str, tuple[Callable[[Case], bool], Callable[[Case], tuple[object, ...]]]] = {
    GRADIENT: (lambda case: case.gradient, lambda case: (case.config.depth, case.precision)),
    SIGNAL: (lambda case: case.signal, lambda case: (case.config.depth, case.config.adam_epsilon)),
}
"""For each thing to keep: whether a network keeps it, and in what runs are alike that do and that do not."""


class Beside(NamedTuple):
    """Runs that keep something beside those that do not and are the same in all else.

    Attributes:
        keep, lose: how many learn of either, and of how many.
        more: whether more learn that keep it than would if it made no difference.
        chance: the p-value for its making none.
        across: the same where machines are not told apart.
    """

    keep: Counts
    lose: Counts
    more: bool
    chance: float
    across: float


def _clearly(run: Run) -> bool:
    """Whether a run learns by a higher line."""
    return float(run.summary["final"]["test_accuracy"]) > CHANCE + CLEARLY and learns(run)


def _beside(
    every: Sequence[Case],
    keeps: Callable[[Case], bool],
    alike: Callable[[Case], tuple[object, ...]],
    learned: Callable[[Run], bool] = learns,
) -> Beside | None:
    """Of runs on one machine that are `alike`, those that keep something beside those that do not; None without such.

    Each kind of alike runs is a stratum of `intervals.exact_test`; `learned` says which runs count as learning.
    """
    strict = _strata(every, keeps, lambda case, made: (*alike(case), made), learned)
    across = _strata(every, keeps, lambda case, made: alike(case), learned)
    if not strict:
        return None
    keep, lose = ((sum(hits for hits, _ in side), sum(of for _, of in side)) for side in zip(*strict, strict=True))
    # Within strata (Mantel and Haenszel 1959): the totals alone can say the opposite of every stratum.
    expected = sum(of * (hits + others) / (of + also) for (hits, of), (others, also) in strict)
    return Beside(keep, lose, keep[0] > expected, exact_test(strict), exact_test(across))


def _strata(
    every: Sequence[Case],
    keeps: Callable[[Case], bool],
    alike: Callable[[Case, str], tuple[object, ...]],
    learned: Callable[[Run], bool],
) -> list[tuple[Counts, Counts]]:
    """Of each kind of runs that are alike, by case and machine: how many learn that keep something, and that do not."""
    strata: dict[tuple[object, ...], dict[bool, list[bool]]] = {}
    for case in every:
        for made, runs in by_machine(case.runs).items():
            sides = strata.setdefault(alike(case, made), {True: [], False: []})
            sides[keeps(case)] += map(learned, runs)
    both = ((sides[True], sides[False]) for sides in strata.values())
    return [((sum(kept), len(kept)), (sum(lost), len(lost))) for kept, lost in both if kept and lost]


def _verdict(tests: Mapping[str, Beside], hangs: Sequence[str]) -> str:
    """What of the two matters, in a sentence; empty where neither was tried.

    `hangs` says on what the answer for the gradient rests: otherwise it would be another.
    """
    if not tests:
        return ""
    told, unknown = [], []
    for part, test in tests.items():
        if unlikely(test.chance):
            rests = (f", but {', and '.join(hangs)}") * bool(hangs and part == GRADIENT)
            told.append(f"with the {part} {'more' if test.more else 'fewer'} learn than without it{rests}")
        else:
            unknown.append(f"the {part}")
    if not told:
        return f"So few runs do not tell whether {' or '.join(unknown)} makes a difference."
    also = f"; whether {' or '.join(unknown)} makes a difference, so few runs do not tell" * bool(unknown)
    return f"So {', and '.join(told)}{also}."


def _times(margin: float) -> str:
    return f"{margin:.3g}" if 0.1 < margin < 1000 else power(margin)


def figure(found: BySuite, measured: Untrained) -> Figure | None:
    """Test accuracy of each run against what its network keeps before training; None without runs."""
    every = [case for case in cases(found, measured) if case.runs]
    if not every:
        return None
    runs = [run for case in every for run in case.runs]
    with drawing(PANEL, PANEL, height=3.8) as (signal, gradient):
        signal.set(xlabel="signal: cosine with float64", xlim=(-0.1, 1.1))
        gradient.set(xlabel="gradient of the first layer / epsilon", xscale="log")
        for ax, bound in ((signal, HALF), (gradient, 1.0)):
            ax.set(ylabel="test accuracy (%)")
            ax.axvline(bound, color="#808080", linestyle=":", linewidth=1)
        named: dict[str, Line2D] = {}
        for case in every:
            look = DOTS[case.config.depth]
            style: dict[str, Any] = {"color": COLOURS[look.colour], "marker": look.marker, "linestyle": "none"}
            values = accuracy(case.runs)
            # Dots of one network side by side, so that each is seen, and on their own side of the bound.
            beside = np.arange(len(values)) - (len(values) - 1) / 2
            reach = max(1.0, (len(values) - 1) / 2)
            apart = min(0.28, 0.8 * abs(math.log10(case.margin)) / reach)
            signal.plot(case.cosine + 0.018 * beside, values, markersize=5, **style)
            (dots,) = gradient.plot(case.margin * 10 ** (apart * beside), values, markersize=5, **style)
            named.setdefault(f"VGG{case.config.depth:02d}", dots)
        for ax in (signal, gradient):
            widen(ax, LEAST_SPAN["accuracy"])
        names = {"handles": [*named.values()], "labels": [*named], "frameon": False}
        gradient.legend(loc="center left", bbox_to_anchor=(1, 0.5), **names)
        finding = f"Plain networks that learn: {'; '.join(_counted(every, part) for part in (SIGNAL, GRADIENT))}"
        caption = (
            f"{finding}. A dot for each run: test accuracy after {SUITES[SHORT].settings['epochs']} epochs against "
            "what its network keeps before training, as in the table; dots of one network are shifted sideways, so as "
            f"not to hide each other. Right of the dotted line is what counts as kept. {origin(runs)}"
        )
        return finish((signal, gradient), caption, f"Two dot plots of accuracy. {finding}.")


def _counted(every: Sequence[Case], part: str) -> str:
    """How many learn of the runs that keep the signal, or the gradient, and of those that do not."""
    told = []
    for keeps, words in ((True, f"of those that keep the {part}"), (False, "of the others")):
        runs = [run for case in every for run in case.runs if (case.kept in (part, BOTH)) == keeps]
        told.append(f"{learning(runs)} of {len(runs)} {words}")
    return ", ".join(told)
