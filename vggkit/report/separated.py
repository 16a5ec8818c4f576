"""What of signal and gradient is lost in plain networks before training, each for itself, and which of these learn."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.typing import LineStyleType

from vggkit.config import ADAM_EPSILON, RunConfig
from vggkit.report.alive import FAINT, SHARE, by_epoch, logs_signal
from vggkit.report.canvas import Figure
from vggkit.report.cures import Look, signal_by_epoch, since
from vggkit.report.depth import BySuite, gradient_margin, told_apart
from vggkit.report.markup import Html
from vggkit.report.naming import exponent, machines, network
from vggkit.report.prose import origin
from vggkit.report.render import html, number, power
from vggkit.report.tried import SHORT, config, learning, outcome
from vggkit.report.untrained import Untrained
from vggkit.runs.records import Run
from vggkit.study import BY_DEPTH, DEPTHS, FLOAT32, IN_FLOAT32, LARGER, LOST, NEGLIGIBLE, SUITES, Asked

LOOKS = dict(zip(LOST, (Look(4, "P"), Look(1, "^"), Look(2, "D"), Look(0, "s")), strict=True))
"""How a network's line is drawn, by its depth."""
DASH_DOT_DOT = (0, (5, 1, 1, 1, 1, 1))
LINES: dict[float, LineStyleType] = {NEGLIGIBLE: "-", ADAM_EPSILON: "--", LARGER[0]: DASH_DOT_DOT, LARGER[1]: "-."}
"""The line of a network in float32, by Adam's epsilon; those in bfloat16 are dotted."""
HALF = 0.5
"""The cosine with float64 above which a precision counts as keeping what tells images apart."""
BOTH, SIGNAL, GRADIENT, NEITHER = "both", "signal", "gradient", "neither"
PARTS = {(True, True): BOTH, (True, False): SIGNAL, (False, True): GRADIENT, (False, False): NEITHER}
"""By whether a network keeps its signal, and its gradient."""
WORDS = {BOTH: "both", SIGNAL: "the signal alone", GRADIENT: "the gradient alone", NEITHER: "neither"}


class Case(NamedTuple):
    """Plain networks of one depth, precision and epsilon: what they keep before training, and their runs.

    Attributes:
        config: of the network, as its suite trains it.
        precision: of its runs.
        cosine: what the precision keeps of what tells images apart before the linear layer, see `depth.told_apart`.
        margin: gradient of the first layer's weights, in units of Adam's epsilon.
        runs: the finished runs of `config` in this precision, of 15 epochs.
    """

    config: RunConfig
    precision: str
    cosine: float
    margin: float
    runs: tuple[Run, ...]

    @property
    def kept(self) -> str:
        return PARTS[self.cosine > HALF, self.margin > 1]


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
            "epsilon": exponent(case.config.adam_epsilon),
            "cosine": number(case.cosine).replace("−0.00", "0.00"),
            "gradient / epsilon": _times(case.margin),
            "keeps": case.kept,
            "test accuracy": outcome(case.runs),
            "machine": machines(case.runs),
        }
        for case in every
        if case.runs
    ]
    missing = "; ".join(f"{network(case.config)} in {case.precision}" for case in every if not case.runs)
    caption = (
        "Plain networks. Before training: the cosine with float64 of what differs between images at the linear layer, "
        "in the precision of the runs, and the mean gradient of the first layer's weights in units of Adam's epsilon; "
        f"the signal is kept where the cosine is above {HALF:g}, the gradient where it is above 1. Official test "
        f"accuracy after {SUITES[SHORT].settings['epochs']} epochs. {f'No run yet: {missing}. ' if missing else ''}"
        f"{origin([run for case in every for run in case.runs])}"
    )
    columns = ["network", "precision", "epsilon", "cosine", "gradient / epsilon", "keeps", "test accuracy", "machine"]
    shown = pd.DataFrame(rows, columns=columns)
    return html(shown, "What is lost, and who learns", caption, text=("network", "precision", "keeps", "machine"))


def lost() -> str:
    """What a plain network may have lost, as Markdown."""
    return (
        "Two things can be lost before training: the signal, which is what tells images apart at the linear layer, to "
        "rounding; and the gradient of the first layer, to Adam's epsilon."
    )


def question(measured: Untrained) -> str:
    """What is separated, and how, as Markdown."""

    def above(depth: int, epsilon: float) -> str:
        gradients = measured.by_layer("plain", "weight_gradient", depth=depth)["mean"]
        return f"{int((gradients > epsilon).sum())} of the {depth} layers of VGG{depth:02d}"

    least, most = DEPTHS[0], LOST[0]
    told = [f"{exponent(epsilon)} for {above(most, epsilon)}" for epsilon in (NEGLIGIBLE, ADAM_EPSILON, *LARGER)]
    return (
        "At one depth the precision bears on the signal and Adam's epsilon on the gradient, which counts where it is "
        f"above epsilon. Before training the mean gradient is above {'; above '.join(told)}; and above "
        f"{exponent(LARGER[-1])} for {above(least, LARGER[-1])}. So each can be lost without the other."
    )


def answer(found: BySuite, measured: Untrained) -> str:
    """Which of the two of `lost` a plain network needs, as Markdown; empty without runs."""
    tried, learned = Counter[str](), Counter[str]()
    every = cases(found, measured)
    for case in every:
        tried[case.kept] += len(case.runs)
        learned[case.kept] += learning(case.runs)
    if not tried.total():
        return ""
    told = [f"{WORDS[part]}, {learned[part]} of {tried[part]} learn" for part in WORDS if tried[part]]
    text = f"Of the runs of plain networks that keep {'; '.join(told)}."
    if not all(tried[part] for part in WORDS) or learned[NEITHER] or learned[BOTH] < tried[BOTH]:
        return text
    if 0 < learned[SIGNAL] < tried[SIGNAL] or 0 < learned[GRADIENT] < tried[GRADIENT]:
        return f"{text} {_finer(every)}".rstrip()
    few = "As far as these few runs go,"
    enough = [part for part in (SIGNAL, GRADIENT) if learned[part]]
    if len(enough) == 2:
        return f"{text} {few} either is enough, and what has lost both does not learn."
    return f"{text} {few} {f'what a network needs is the {enough[0]}' if enough else 'it needs both'}."


class Border(NamedTuple):
    """Where the values of what learns part from those of what does not.

    Attributes:
        least: every run with this value or a higher one learns; infinite where the highest does not.
        most: no run with this value or a lower one learns; minus infinity where the lowest does.
        between: the runs with values in between.
    """

    least: float
    most: float
    between: int


def border(values: Sequence[tuple[float, bool]]) -> Border:
    """From what value on all runs learn, and up to what value none does, given each run's value and whether it learns.

    >>> border([(0.1, False), (0.2, True), (0.3, False), (0.4, True)])
    Border(least=0.4, most=0.1, between=2)
    """
    fails = max((value for value, learns in values if not learns), default=-math.inf)
    learns = min((value for value, learns in values if learns), default=math.inf)
    least = min((value for value, _ in values if value > fails), default=math.inf)
    most = max((value for value, _ in values if value < learns), default=-math.inf)
    return Border(least, most, len([value for value, _ in values if most < value < least]))


def _finer(every: Sequence[Case]) -> str:
    """How the runs part by the size of gradient and signal, and what decides where the other is the same; Markdown."""
    runs = [(case, bool(learning([run]))) for case in every for run in case.runs]
    gradient = border([(case.margin, learns) for case, learns in runs])
    signal = border([(case.cosine, learns) for case, learns in runs])
    told = []
    if all(map(math.isfinite, (*gradient[:2], *signal[:2]))):
        told.append(
            f"By the size of that gradient, all learn from {_times(gradient.least)} times epsilon upwards and none up "
            f"to {_times(gradient.most)}, with {_runs(gradient.between)} between; by the cosine of the signal with "
            f"float64, all from {signal.least:.3g} upwards and none up to {signal.most:.3g}, with "
            f"{_runs(signal.between)} between.".replace("-", "−")
        )
    by_epsilon = _matched(
        runs,
        lambda case: f"VGG{case.config.depth:02d} in {case.precision}",
        lambda case: f"with epsilon {exponent(case.config.adam_epsilon)}",
    )
    by_precision = _matched(
        runs,
        lambda case: f"VGG{case.config.depth:02d} with epsilon {exponent(case.config.adam_epsilon)}",
        lambda case: f"in {case.precision} ({machines(case.runs)})",
    )
    if by_epsilon or by_precision:
        told.append(f"Where all else is the same: {'; '.join([*by_epsilon, *by_precision])}.")
    if by_epsilon and by_precision:
        told.append("So neither alone decides, as far as so few runs can tell.")
    return " ".join(told)


def _matched(runs: Sequence[tuple[Case, bool]], what: Callable[[Case], str], how: Callable[[Case], str]) -> list[str]:
    """In a clause for each `what`: how all its runs learn, and how none does; left out where there are not both."""
    outcomes: dict[str, dict[str, set[bool]]] = {}
    for case, learns in runs:
        outcomes.setdefault(what(case), {}).setdefault(how(case), set()).add(learns)
    clauses = []
    for name, seen in outcomes.items():
        do, fail = ([one for one, found in seen.items() if found == {wanted}] for wanted in (True, False))
        if do and fail:
            clauses.append(f"{name} learns {' and '.join(do)}, not {' nor '.join(fail)}")
    return clauses


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"


def _times(margin: float) -> str:
    return f"{margin:.3g}" if 0.1 < margin < 1000 else power(margin)


def changed(found: BySuite, measured: Untrained) -> str:
    """Which networks without a signal got one in training, and which without a gradient came alive and fell back.

    As Markdown; empty where there are none.
    """
    every = cases(found, measured)
    back = [told for case in every if case.cosine <= HALF for run in case.runs if (told := _heard_again(case, run))]
    fallen = [told for case in every if case.margin <= 1 for run in case.runs if (told := _fell_back(case, run))]
    text = [f"What is lost before training need not stay lost. {' '.join(back + fallen)}"] if back or fallen else []
    if fallen:
        text.append("Whether rounding, epsilon or chance made a gradient fall, so few seeds cannot tell.")
    return " ".join(text)


def _heard_again(case: Case, run: Run) -> str:
    """That a run without a signal before training and after the first epoch has one from some epoch on and learns."""
    if not learning([run]) or not logs_signal(run):
        return ""
    share = by_epoch(run, SHARE).iloc[-1]
    heard = since(share > FAINT)
    if not heard or share.iloc[0] > FAINT:
        return ""
    return (
        f"{network(run.config)} in {case.precision} had no signal before training (cosine {number(case.cosine)}) and "
        f"learns: the share of the linear layer's input that differs between images was {power(share.iloc[0])} after "
        f"the first epoch, is above {100 * FAINT:g} % from epoch {heard} on, and was {number(share.iloc[-1])} after "
        "the last."
    )


def _fell_back(case: Case, run: Run) -> str:
    """That a run without a gradient before training had one in some epoch, lost it again, and does not learn."""
    if learning([run]) or run.summary["diverged"]:
        return ""
    first, epsilon = by_epoch(run, "mean_abs").iloc[0], run.config.adam_epsilon
    after = first.loc[first.idxmax() :]
    if not first.max() > epsilon > after.min():
        return ""
    again = ", above epsilon again, so that a longer run might tell more" * bool(first.iloc[-1] > epsilon)
    return (
        f"{network(run.config)} in {case.precision} was alive in epoch {first.idxmax()}, in which the mean gradient of "
        f"its first layer was {power(first.max())}; it fell to {power(after.min())} in epoch {after.idxmin()} and was "
        f"{power(first.iloc[-1])} in the last one{again}."
    )


def figure(found: BySuite, measured: Untrained) -> Figure | None:
    """The signal at the linear layer epoch by epoch, of plain networks of the depths of `LOOKS` in float32, and in
    bfloat16 where float32 has runs; None where no run has logged it."""
    lines: list[tuple[str, Look, Run]] = []
    every = cases(found, measured)
    depths = {case.config.depth for case in every if case.precision == "float32" and case.runs} & LOOKS.keys()
    for case in every:
        runs = list(filter(logs_signal, case.runs))
        if runs and case.config.depth in depths:
            line = ":" if case.precision == "bfloat16" else LINES[case.config.adam_epsilon]
            look = LOOKS[case.config.depth]._replace(line=line)
            epsilon = case.config.adam_epsilon
            named = f" ε {exponent(epsilon)}" if epsilon != ADAM_EPSILON else ""  # Adam's, short beside a line
            lines.append((f"VGG{case.config.depth:02d}{named}, {case.precision}", look, runs[0]))
    return signal_by_epoch(lines).titled("The signal by precision") if lines else None
