"""The report's further experiments: what runs say of each.

Runs of suites with the same settings are taken together, by name; what has no run is shown as such, with the command
that makes it.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from vggkit.config import RunConfig
from vggkit.folders import Given
from vggkit.report.canvas import PANEL, Figure, drawing, finish
from vggkit.report.figures import COLOURS
from vggkit.report.intervals import LEVEL, newcombe_interval
from vggkit.report.markup import Html, as_html
from vggkit.report.measures import CHANCE, finals, turning_epoch
from vggkit.report.naming import command, commands_html, network
from vggkit.report.prose import origin
from vggkit.report.render import MISSING, NO_RUN, html, number
from vggkit.report.verdicts import LEARNS, TEST_IMAGES
from vggkit.runs.records import Run
from vggkit.runs.store import find_runs
from vggkit.study import BEST, CONFIGURATIONS, FULL, RATES, REGULARISED, SUITES, Asked

SHORT = "short"

Found = Mapping[str, Sequence[Run]]
"""Runs by name, of one length on the same images."""


def read(results: Given = None, suite: str = SHORT) -> dict[str, list[Run]]:
    """By name: the runs of all suites with the settings of this one, a seed never twice.

    Raises:
        ArtifactError: a run is damaged.
    """
    alike = [name for name, other in SUITES.items() if other.settings == SUITES[suite].settings]
    found: dict[str, dict[int, Run]] = {}
    for name in alike:
        for run in find_runs(results, name):
            found.setdefault(run.config.name, {}).setdefault(run.config.seed, run)
    return {name: [runs[seed] for seed in sorted(runs)] for name, runs in found.items()}


def config(asked: Asked, suite: str = SHORT) -> RunConfig:
    return RunConfig.named(asked.configuration, suite=suite, **asked.settings)


def accuracy(runs: Sequence[Run]) -> pd.Series:
    """Test accuracy after the last epoch in per cent, of each seed that did not diverge."""
    return finals(runs, "test_accuracy")


def learning(runs: Sequence[Run]) -> int:
    """How many of them have learned: their test accuracy is above that of guessing by `verdicts.LEARNS`."""
    return int((accuracy(runs) > 100 * (CHANCE + LEARNS)).sum())


def seeds_told(runs: Sequence[Run]) -> str:
    """How many runs there are, and of these how many diverged, and how many learned where only some did."""
    diverged, learned = sum(run.summary["diverged"] for run in runs), learning(runs)
    some = f", {learned} learning" * (0 < learned < len(runs))
    return f"{len(runs)} seed{'s' * (len(runs) > 1)}" + f", {diverged} diverged" * bool(diverged) + some


def outcome(runs: Sequence[Run]) -> str:
    """What runs reached, in words."""
    if not runs:
        return NO_RUN
    found = accuracy(runs)
    if found.empty:
        return f"diverged ({seeds_told(runs)})"
    spread = f" ± {found.std(ddof=1):.2f}" if len(found) > 1 else ""
    return f"{found.mean():.2f}{spread} % ({seeds_told(runs)})" + ": guessing" * (not learning(runs))


def difference(runs: Sequence[Run], baseline: Sequence[Run]) -> tuple[float, float, float] | None:
    """Of the means, in percentage points, with its interval for the draw of the test images alone; None without runs.

    Of runs that guess or diverge it says nothing: None too.
    """
    found, base = accuracy(runs), accuracy(baseline)
    if found.empty or base.empty or not learning(runs):
        return None
    low, high = newcombe_interval(found.mean() / 100, base.mean() / 100, TEST_IMAGES)
    return float(found.mean() - base.mean()), 100 * low, 100 * high


def gap(runs: Sequence[Run]) -> float:
    """Training minus validation accuracy after the last epoch, in percentage points; NaN without runs."""
    return float((finals(runs, "train_accuracy") - finals(runs, "validation_accuracy")).mean())


def turn(runs: Sequence[Run]) -> str:
    """The epoch of the lowest validation loss of each seed."""
    kept = [run for run in runs if not run.summary["diverged"]]
    epochs = sorted(epoch for run in kept if (epoch := turning_epoch(run)) is not None)
    if not epochs:
        return MISSING if runs else NO_RUN
    return f"{', '.join(map(str, epochs))} of {kept[0].config.epochs}"


class Question(NamedTuple):
    """An experiment: what is asked, what is trained for it in which suite, and beside what it is set."""

    words: str
    asked: tuple[Asked, ...]
    suite: str
    baseline: Asked | None = None


def _but(start: str, **settings: object) -> Asked:
    return Asked(start, settings)


_BOTH = Asked("vgg38_bn_rc")
QUESTIONS = (
    Question("Does weight decay help the best network?", REGULARISED[:3], "further", Asked(BEST)),
    Question("Does decoupled weight decay (AdamW)?", REGULARISED[3:6], "further", Asked(BEST)),
    Question("Does dropout?", REGULARISED[6:], "further", Asked(BEST)),
    Question("Does BN help a shallow network?", (_but("vgg38_bn", depth=8),), "depth", Asked("vgg08")),
    Question("Do RC, in one of 14 layers?", (_but("vgg38_rc", depth=14),), "depth",
             _but("vgg38", depth=14)),
    Question("Do both?", (_but("vgg38_bn_rc", depth=14),), "depth", _but("vgg38", depth=14)),
    Question("Do RC alone bear a larger learning rate?", RATES[:1], "further", Asked("vgg38_rc")),
    Question("Where does the rate become too large?", RATES[1:], "further"),
    Question("How deep can it get?", tuple(_but("vgg38_bn_rc", depth=depth) for depth in (56, 74, 110)), SHORT, _BOTH),
    Question("Is a rate stepped after batches worse?", (_but("vgg38_bn_rc", schedule="cosine-per-batch"),),
             SHORT, _BOTH),
    Question("Do BN and RC gain by the scale of He?", (_but("vgg38_bn_rc", initialisation="he"),), SHORT,
             _BOTH),
)  # fmt: skip


class Answer(NamedTuple):
    """What was found for a question: a network in words, its runs, and those without the change."""

    words: str
    runs: Sequence[Run]
    baseline: Sequence[Run]


def answers(found: Found) -> list[tuple[Question, list[Answer]]]:
    """For each of `QUESTIONS` one answer for each network that is asked for.

    Where the change alone says what the network is, it stands for it.
    """
    result = []
    for question in QUESTIONS:
        base = config(question.baseline) if question.baseline else None
        runs = found.get(base.name, ()) if base else ()
        known = f"{network(base)}, " if base else ""
        configs = [config(asked) for asked in question.asked]
        own = [Answer(network(one).removeprefix(known), found.get(one.name, ()), runs) for one in configs]
        result.append((question, own))
    return result


def told(found: Found) -> str:
    """What came of all that was tried, in words."""
    sides = [f"Test accuracy {side} that without the change" for side in ("above", "below", "not apart from")]
    groups: dict[str, list[str]] = {what: [] for what in (*sides, "Learning", "Guessing", "Diverged")}
    untried = 0
    for words, runs, baseline in itertools.chain(*(own for _, own in answers(found))):
        if not runs:
            untried += 1
        elif apart := difference(runs, baseline):
            value, low, high = apart
            side = 0 if low > 0 else 1 if high < 0 else 2
            groups[sides[side]].append(f"{words} ({number(value, '+')})")
        else:
            what = "Diverged" if accuracy(runs).empty else "Learning" if learning(runs) else "Guessing"
            groups[what].append(words)
    sentences = [f"{what}: {'; '.join(names)}." for what, names in groups.items() if names]
    return " ".join([*sentences, *([f"{untried} have no run yet."] if untried else [])])


def figure(found: Found) -> Figure | None:
    """Test accuracy of each change beside that without it, question by question; None without runs."""
    lines: list[tuple[str, Answer | None]] = []
    for question, own in answers(found):
        if known := [(one.words, one) for one in own if one.runs]:
            lines += [(question.words, None), *known]
    if not lines:
        return None
    with drawing(1.1 * PANEL, height=0.8 + 0.24 * len(lines)) as (ax,):
        ax.set(xlabel="test accuracy (%)", ylim=(len(lines) - 0.4, -0.6))
        ax.axvline(100 * CHANCE, color="#808080", linestyle=":", linewidth=1)
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
        finding = told(found)
        caption = (
            f"{as_html(finding)} Blue: with the change, a dot for each seed; grey: the mean without it; dotted: "
            f"guessing. Differences in percentage points, by their {100 * LEVEL:g} % intervals for the draw of the "
            f"test images alone, not for that of seeds. {origin(shown)}"
        )
        return finish((ax,), caption, f"Dot plot of test accuracies. {finding}")


def table_html(found: Found) -> Html:
    """What was found for each of `QUESTIONS`: a row for the network without the change, and one for each with it."""
    rows = []
    for question, own in answers(found):
        entries = [(one.words, one.runs, difference(one.runs, one.baseline)) for one in own]
        if question.baseline:
            entries.insert(0, (f"{network(config(question.baseline))} as it is", own[0].baseline, None))
        for words, runs, apart in entries:
            value, low, high = (number(part, "+") for part in apart or (math.nan,) * 3)
            rows.append(
                {
                    "question": question.words,
                    "network": words,
                    "test accuracy": outcome(runs),
                    "difference": f"{value} [{low},\N{NO-BREAK SPACE}{high}]" if apart else MISSING,
                    "gap": number(gap(runs)),
                }
            )
    frame = pd.DataFrame(rows)
    shown = []
    for words, group in frame.groupby("question", sort=False):
        shown.append({"network": f'<b class="vggkit-across">{as_html(words)}</b>'})
        shown += group.drop(columns="question").map(as_html).to_dict("records")
    caption = (
        f"All images, {SUITES[SHORT].settings['epochs']} epochs. Official test accuracy after the last epoch, mean ± "
        f"standard deviation over seeds (guessing: at most {100 * (CHANCE + LEARNS):g} %); difference in percentage "
        f"points from the network as it is, with its {100 * LEVEL:g} % interval for the draw of the test images alone, "
        "not for that of seeds; gap: training minus validation accuracy in points."
    )
    files = {"csv": frame.map(lambda cell: cell.replace("−", "-")).to_csv(index=False)}
    return html(pd.DataFrame(shown).fillna(""), "Further experiments", caption, markup=True, files=files,
                text=("network", "test accuracy"))  # fmt: skip


def commands() -> Html:
    """The command of each row of `table_html`."""
    made = [command(asked, question.suite) for question in QUESTIONS for asked in question.asked]
    return commands_html("The command that trains each of them", made)


LONG = ((Asked(BEST), FULL), *((asked, "beside") for asked in REGULARISED))


def turns_html(found: Found) -> Html:
    """Which regulariser moves the turn of the validation loss, by runs as long as Table 1's."""
    rows = []
    for asked, suite in LONG:
        runs = found.get(config(asked, suite).name, ())
        rows.append(
            {
                "network": network(config(asked)).removeprefix(f"{CONFIGURATIONS[BEST].title}, "),
                "test accuracy": outcome(runs),
                "lowest validation loss in epoch": turn(runs),
                "gap": number(gap(runs)),
            }
        )
    caption = (
        f"{CONFIGURATIONS[BEST].title} for {RunConfig().epochs} epochs, with and without a regulariser: epoch of the "
        "lowest validation loss of each seed; gap: training minus validation accuracy in points at the end."
    )
    return html(pd.DataFrame(rows), "Overfitting of the best run", caption, text=("network", "test accuracy"))


def long_commands() -> Html:
    """The command of each row of `turns_html`."""
    return commands_html("The command that trains each of them", [command(asked, suite) for asked, suite in LONG])
