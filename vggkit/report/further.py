"""The report's further experiments: what runs say of each; what has no run is shown as such."""

import itertools
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vggkit.report.canvas import PANEL, Figure, drawing, finish
from vggkit.report.figures import COLOURS
from vggkit.report.intervals import (
    IMAGES,
    LEVEL,
    NONE,
    Contrast,
    Effect,
    Spread,
    intervals_by_spread,
)
from vggkit.report.markup import Html, as_html
from vggkit.report.measures import CHANCE
from vggkit.report.naming import command, commands_html, exponent, network
from vggkit.report.overfitting import GAP
from vggkit.report.prose import origin
from vggkit.report.render import MISSING, NO_RUN, html, number, power
from vggkit.report.tried import SHORT, Found, accuracy, config, exploded, gap, learning, outcome
from vggkit.report.verdicts import ACCURACY, LEARNS, depth_and_rate, learns
from vggkit.runs.records import Run
from vggkit.study import BEST, RATES, REGULARISED, SUITES, Asked

WORSE = ("Exploded", "Diverged")  # a loss far above that of guessing, and one that is not finite


class Question(NamedTuple):
    """An experiment: what is asked, what is trained for it in which suite, and beside what it is set."""

    words: str
    asked: tuple[Asked, ...]
    suite: str
    baseline: Asked | None = None


def _but(start: str, **settings: object) -> Asked:
    return Asked(start, settings)


_BOTH = Asked("vgg38_bn_rc")
_SHALLOW = _but("vgg38", depth=14)
QUESTIONS = (
    Question("Does weight decay help the best?", REGULARISED[:3], "further", Asked(BEST)),
    Question("Does it, decoupled (AdamW)?", REGULARISED[3:6], "further", Asked(BEST)),
    Question("Does dropout help the best?", REGULARISED[6:], "further", Asked(BEST)),
    Question("Does BN help a shallow network?", (_but("vgg38_bn", depth=8),), "depth", Asked("vgg08")),
    Question("Do RC help VGG14?", (_but("vgg38_rc", depth=14),), "depth", _SHALLOW),
    Question("Do BN and RC help VGG14?", (_but("vgg38_bn_rc", depth=14),), "depth", _SHALLOW),
    Question("Do RC alone bear a larger rate?", RATES[:1], "further", Asked("vgg38_rc")),
    Question("Where is the rate too large?", RATES[1:], "further"),
    Question("How deep can it get?", tuple(_but("vgg38_bn_rc", depth=depth) for depth in (56, 74, 110)), SHORT, _BOTH),
    Question("Do BN and RC gain by the scale of He?", (_but("vgg38_bn_rc", initialisation="he"),), SHORT, _BOTH),
)


class Answer(NamedTuple):
    """What was found for a question: a network in words, its runs, those without the change, the two compared.

    There is a comparison where both have runs and all of these learn.
    """

    words: str
    runs: Sequence[Run]
    baseline: Sequence[Run]
    effect: Effect | None


def answers(found: Found, shorter: Found | None = None) -> list[tuple[Question, list[Answer]]]:
    """For each of `QUESTIONS` one answer for each network that is asked for.

    Where the change alone says what the network is, it stands for it. `shorter` as in `compared`.
    """
    effects = compared(found, shorter)
    result = []
    for question in QUESTIONS:
        base = config(question.baseline) if question.baseline else None
        runs = found.get(base.name, ()) if base else ()
        known = f"{network(base)}, " if base else ""
        own = []
        for one in map(config, question.asked):
            effect = effects.get((one.name, base.name)) if base else None
            own.append(Answer(network(one).removeprefix(known), found.get(one.name, ()), runs, effect))
        result.append((question, own))
    return result


def compared(found: Found, shorter: Found | None = None) -> dict[tuple[str, str], Effect]:
    """Test accuracies of the networks of `QUESTIONS` minus those without the change, by the names of both.

    Their intervals hold for the draw of the images and, where the spread over seeds is known, for that of the seed,
    and for all of them at once.
    A run that is another one over again differs from it by nothing, with any seed and any images.

    Args:
        found: runs of one length.
        shorter: other runs, whose spread over seeds stands in for that of a depth and rate that has none here.
    """
    learned = _learned(found)
    samples = ACCURACY.samples(learned)
    names = [(config(one).name, config(q.baseline).name) for q in QUESTIONS if q.baseline for one in q.asked]
    effects: dict[tuple[str, str], Effect] = {}
    judged: dict[tuple[str, str], tuple[Contrast, Spread]] = {}
    for pair in names:
        first, second = map(samples.get, pair)
        if not (first and second):
            continue
        if same_run(*(learned[name] for name in pair)):
            effects[pair] = Effect(0.0, 0.0, 0.0, NONE)
        else:
            judged[pair] = Contrast(first, second), _spread(found, shorter, _kinds(found, pair))[0]
    return effects | dict(zip(judged, intervals_by_spread([*judged.values()]), strict=True))


def _learned(found: Found | None) -> dict[str, Sequence[Run]]:
    """The networks that learn with each seed."""
    return {name: runs for name, runs in (found or {}).items() if runs and all(map(learns, runs))}


def _kinds(found: Found, names: Iterable[str]) -> set[Hashable]:
    return {ACCURACY.kind(run) for name in names for run in found[name]}


def _spread(found: Found, shorter: Found | None, kinds: set[Hashable]) -> tuple[Spread, bool]:
    """Of the test accuracy over seeds, of networks of these depths and rates, see `Outcome.spread`."""
    return ACCURACY.spread([_learned(found), _learned(shorter)], kinds)


def same_run(runs: Sequence[Run], others: Sequence[Run]) -> bool:
    """Whether each run has the numbers of the other of its seed, epoch by epoch and to the last digit.

    That happens where a change is too small for the arithmetic: AdamW multiplies each weight by 1 - rate x decay,
    which in float32 is 1 where the product is below 3e-8.
    """
    own, theirs = ({run.config.seed: run for run in group} for group in (runs, others))
    return own.keys() == theirs.keys() and all(_alike(own[seed], theirs[seed]) for seed in own)


def _alike(run: Run, other: Run) -> bool:
    ours, theirs = (
        one.metrics.drop(columns=["train_seconds", "seconds"], errors="ignore").reset_index(drop=True)
        for one in (run, other)
    )
    return ours.equals(theirs) and run.summary["final"] == other.summary["final"]


def told(found: Found, shorter: Found | None = None) -> str:
    """What came of all that was tried, in words."""
    sides = [f"Test accuracy {side} that without the change" for side in ("above", "below", "not apart from")]
    same = "The very run without it, number for number"
    alone = "Not judged, since the spread over seeds is unknown at a depth and rate"
    kinds = (*sides, alone, same, "Learning", "Guessing", *WORSE, "No run yet")
    groups: dict[str, list[str]] = {what: [] for what in kinds}
    for words, runs, baseline, effect in itertools.chain(*(own for _, own in answers(found, shorter))):
        if not runs:
            groups["No run yet"].append(words)
        elif effect and same_run(runs, baseline):
            groups[same].append(words)
        elif effect:
            side = alone if effect.method == IMAGES else sides[0 if effect.low > 0 else 1 if effect.high < 0 else 2]
            groups[side].append(f"{words} ({number(100 * effect.value, '+')})")
        else:
            far, worse = exploded(runs), accuracy(runs).empty
            what = WORSE[1] if worse else WORSE[0] if far else "Learning" if learning(runs) else "Guessing"
            groups[what].append(words + (f" (training loss {far:,.0f})" if far else ""))
    return " ".join(f"{what}: {'; '.join(names)}." for what, names in groups.items() if names)


def same_told(found: Found) -> str:
    """Which changes are too small for the arithmetic, and why, as Markdown; empty where there are none."""
    decays = [
        (one.words, config.learning_rate * config.weight_decay)
        for one in itertools.chain(*(own for _, own in answers(found)))
        if one.runs and one.baseline and same_run(one.runs, one.baseline)
        if (config := one.runs[0].config).decoupled_weight_decay
    ]
    return " ".join(
        f"With {words} the run is, number for number, the one without: each step multiplies a weight by 1 − rate × "
        f"decay, at least 1 − {power(product)}, which is 1 in float32, whose numbers below 1 lie "
        f"{power(float(np.finfo(np.float32).epsneg))} apart."
        for words, product in decays
    )


def intervals_told(found: Found, shorter: Found | None = None) -> str:
    """For what the intervals of `compared` hold, in words."""
    level = f"{100 * LEVEL:g} % intervals, simultaneous for all comparisons,"
    pairs = [pair for pair, effect in compared(found, shorter).items() if effect.method != NONE]
    moved, unknown = [], []
    for depth, rate in sorted({depth_and_rate(run) for pair in pairs for name in pair for run in found[name]}):
        spread, borrowed = _spread(found, shorter, {(depth, rate)})
        words = f"with {depth} layers at {exponent(rate)}"
        if spread.freedom:
            degrees = f"{spread.freedom} degree{'s' * (spread.freedom > 1)} of freedom" + ", of shorter runs" * borrowed
            moved.append(f"{100 * spread.deviation:.2f} points {words} ({degrees})")
        else:
            unknown.append(words)
    if not moved:
        return f"{level} for the draw of the test images alone, since no network has several seeds"
    alone = f"; {' and '.join(unknown)}, where it is unknown, for the images alone" * bool(unknown)
    draws = "for the draw of the test images and of the seed, which moves the accuracy by"
    return f"{level} {draws} {'; '.join(moved)}{alone}"


def figure(found: Found, shorter: Found | None = None) -> Figure | None:
    """Test accuracy of each change beside that without it, question by question; None without runs."""
    lines: list[tuple[str, Answer | None]] = []
    for question, own in answers(found, shorter):
        if known := [(one.words, one) for one in own if one.runs]:
            lines += [(question.words, None), *known]
    if not lines:
        return None
    with drawing(1.1 * PANEL, height=0.8 + 0.24 * len(lines)) as (ax,):
        ax.set(xlabel="test accuracy (%)", ylim=(len(lines) - 0.4, -0.6))
        ticks, shown = {}, []
        beside: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 10}
        for place, (words, answer) in enumerate(lines):
            if answer is None:
                ax.annotate(words, (0, place), xycoords=("figure fraction", "data"), xytext=(2, 0), **beside,
                            fontweight="bold", annotation_clip=False)  # fmt: skip
                continue
            ticks[place] = words
            shown += [*answer.runs, *answer.baseline]
            values, base = accuracy(answer.runs), accuracy(answer.baseline)
            ax.plot([100 * CHANCE] * 2, [place - 0.5, place + 0.5], ":", color="#808080", linewidth=1)
            if values.empty:
                ax.annotate("diverged", (100 * CHANCE, place), xytext=(5, 0), **beside)
                continue
            if len(base):
                ax.plot([base.mean(), values.mean()], [place, place], color="#808080", linewidth=1)
                ax.plot(base.mean(), place, "|", color="#808080", markersize=10, markeredgewidth=2)
            ax.plot(values, [place] * len(values), "o", color=COLOURS[0], markersize=6, label=words)
        ax.set_yticks(list(ticks), list(ticks.values()))
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_color("none")  # it would go through the questions
        finding = told(found, shorter)
        caption = (
            f"{as_html(finding)} Blue: with the change, a dot for each seed; grey: the mean without it; dotted: "
            f"guessing. Differences in percentage points, judged by {intervals_told(found, shorter)}. {origin(shown)}"
        )
        return finish((ax,), caption, f"Dot plot of test accuracies. {finding}")


def table_html(found: Found, shorter: Found | None = None) -> Html:
    """What was found for each of `QUESTIONS`: a row for the network without the change, and one for each with it.

    What has no run yet is left out; `told` lists it.
    """
    rows = []
    for question, own in answers(found, shorter):
        entries = [(one.words, one.runs, one.effect) for one in own if one.runs]
        if question.baseline and entries:
            entries.insert(0, (f"{network(config(question.baseline))} as it is", own[0].baseline, None))
        for words, runs, effect in entries:
            rows.append(
                {
                    "question": question.words,
                    "network": words,
                    "test accuracy": outcome(runs),
                    "difference": str(effect) if effect else MISSING,
                    "gap": number(gap(runs)),
                }
            )
    if not rows:
        return Html(f"<p>{NO_RUN}</p>", NO_RUN)
    frame = pd.DataFrame(rows)
    shown = []
    for words, group in frame.groupby("question", sort=False):
        shown.append({"network": f'<b class="vggkit-across">{as_html(words)}</b>'})
        shown += group.drop(columns="question").map(as_html).to_dict("records")
    caption = (
        f"All images, {SUITES[SHORT].settings['epochs']} epochs. Official test accuracy after the last epoch, mean ± "
        f"standard deviation over seeds (guessing: at most {100 * (CHANCE + LEARNS):g} %); difference in percentage "
        f"points from the network as it is, where both learn, in brackets {intervals_told(found, shorter)}. {GAP}"
    )
    files = {"csv": frame.map(lambda cell: cell.replace("−", "-")).to_csv(index=False)}
    return html(pd.DataFrame(shown).fillna(""), "Further experiments", caption, markup=True, files=files,
                text=("network", "test accuracy"))  # fmt: skip


def commands() -> Html:
    """The command of each row of `table_html`."""
    made = [command(asked, question.suite) for question in QUESTIONS for asked in question.asked]
    return commands_html("The command that trains each of them", made)
