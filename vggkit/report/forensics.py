"""How the report's Table 1 was made: the likelihood of its rows under what we can run, and what cannot be known."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import pandas as pd

from vggkit.config import NUM_CLASSES, RunConfig
from vggkit.folders import Given
from vggkit.report.likelihood import Predicted, Scatter, predict, scatter, times
from vggkit.report.markup import Html
from vggkit.report.measures import finals
from vggkit.report.naming import exponent
from vggkit.report.render import html, number, power
from vggkit.report.verdicts import VALIDATION_IMAGES, depth_and_rate, learns
from vggkit.runs.records import Run
from vggkit.runs.store import find_runs
from vggkit.study import FULL, REPORT, title

VALUES = ("train_loss", "validation_accuracy")
"""What is compared of a row. The other two say nearly the same again: each follows from one of these."""
GUESSING = (math.log(NUM_CLASSES), 100 / NUM_CLASSES)
"""What a network that guesses has of them."""
LIKELY = 0.05
"""Chance below which, divided by the number of rows that are judged, a row is ruled out (Bonferroni)."""
RULED_OUT, POSSIBLE, UNTOLD = "ruled out", "not ruled out", "cannot be told"


@dataclass(frozen=True)
class Hypothesis:
    """One way in which the report's runs may have been made, and the suite of ours that was made so.

    `residual` says that it is one for networks with RC alone.
    """

    words: str
    suite: str
    short: str
    residual: bool = False


HYPOTHESES = (
    Hypothesis("rate stepped once per epoch", FULL, "once per epoch"),
    Hypothesis("rate stepped after every batch", "schedule", "every batch"),
    Hypothesis("shortcuts around the reduction blocks too", "placement", "shortcuts", residual=True),
)


@dataclass(frozen=True, eq=False)
class Row:
    """A row of the report under a hypothesis.

    Attributes:
        values: `VALUES` of each of our runs, (runs, 2).
        chance: that one more run lies as far from ours as the report's does; None where the spread does not tell.
        log_likelihood: of the report's values, by which hypotheses are compared; None likewise.
        guessing: the chance that a network would have that guesses.
        region: an ellipse outside which `verdict` rules a row out, (points, 2); None as `chance`.
    """

    name: str
    hypothesis: Hypothesis
    values: np.ndarray
    chance: float | None = None
    log_likelihood: float | None = None
    guessing: float | None = None
    region: np.ndarray | None = None

    @property
    def runs(self) -> int:
        return len(self.values)

    @property
    def ours(self) -> np.ndarray:
        """The mean of the runs' values, (2,); of a row that has runs."""
        return np.asarray(self.values.mean(axis=0))

    @property
    def report(self) -> np.ndarray:
        """The report's values, (2,)."""
        return np.array([REPORT["rows"][self.name][metric] for metric in VALUES])


Made = dict[str, dict[str, list[Run]]]
"""Runs by suite and configuration."""


def read(results: Given = None) -> Made:
    """By suite of `HYPOTHESES` and configuration: the runs that did not diverge, in the precision of Table 1's.

    Raises:
        ArtifactError: a run is damaged.
    """
    found: Made = {}
    for suite in (hypothesis.suite for hypothesis in HYPOTHESES):
        for run in find_runs(results, suite):
            if run.config.name in REPORT["rows"] and not run.summary["diverged"]:
                found.setdefault(suite, {}).setdefault(run.config.name, []).append(run)
    return of_one_precision(found)


def of_one_precision(made: Made) -> Made:
    """Without the runs of other suites whose precision none of Table 1's runs of their configuration has."""
    known = {name: {run.config.precision for run in runs} for name, runs in made.get(FULL, {}).items()}
    kept: Made = {}
    for suite, named in made.items():
        for name, runs in named.items():
            if alike := [run for run in runs if run.config.precision in known.get(name, {run.config.precision})]:
                kept.setdefault(suite, {})[name] = alike
    return kept


def values(runs: Sequence[Run]) -> np.ndarray:
    """`VALUES` after the last epoch, a row for each run; accuracies in per cent."""
    return np.column_stack([finals(runs, metric).to_numpy() for metric in VALUES])


def spread(runs: Made, of: tuple[int, float]) -> Scatter | None:
    """Of the seeds, pooled over all configurations of this kind that learn; None where none has a run."""
    found = [values(group) for _, group in _of_kind(runs, of)]
    return scatter(found) if found else None


def _of_kind(runs: Made, of: tuple[int, float]) -> list[tuple[str, list[Run]]]:
    """The configurations of this kind that learn with each seed, of all suites, by name."""
    groups = [named for suite in runs.values() for named in suite.items()]
    return [(name, group) for name, group in groups if all(map(learns, group)) and depth_and_rate(group[0]) == of]


def draw_variance(accuracy: float) -> float:
    """Variance of a validation accuracy in per cent by the report's draw of the images and ours, which no seed repeats.

    >>> round(draw_variance(50.0) ** 0.5, 2)
    1.41
    """
    return 2 * accuracy * (100 - accuracy) / VALIDATION_IMAGES


def judge(runs: Made) -> list[Row]:
    """Every row of the report under every hypothesis. A network that guesses tells nothing, and is left out."""
    rows: list[Row] = []
    expected: dict[int, Predicted] = {}  # by the place of its row
    for name, reported in REPORT["rows"].items():
        if reported["validation_accuracy"] <= 100 / NUM_CLASSES:
            continue
        config = RunConfig.named(name)
        noise = spread(runs, (config.depth, config.learning_rate))
        more = (0.0, draw_variance(reported["validation_accuracy"]))
        for hypothesis in HYPOTHESES:
            if hypothesis.residual and not config.residual:
                continue
            group = runs.get(hypothesis.suite, {}).get(name, [])
            row = Row(name, hypothesis, values(group) if group else np.empty((0, len(VALUES))))
            if group and noise and (further := predict(row.values, noise, more)):
                row = Row(name, hypothesis, row.values, further.chance(row.report), further.log_likelihood(row.report),
                          further.chance(GUESSING))  # fmt: skip
                expected[len(rows)] = further
            rows.append(row)
    for place, further in expected.items():  # what lies outside is ruled out
        rows[place] = replace(rows[place], region=further.region(1 - LIKELY / len(expected)))
    return rows


def verdict(row: Row, rows: Sequence[Row]) -> str:
    """What is told of a row that has runs, one of `rows` that are judged together.

    Where a network that guesses would not be ruled out, nothing is.
    """
    bound = LIKELY / max(1, sum(one.chance is not None for one in rows))
    if row.chance is None or row.guessing is None or row.guessing >= bound:
        return UNTOLD
    return RULED_OUT if row.chance < bound else POSSIBLE


def table_html(rows: Sequence[Row]) -> Html:
    """`judge` for a page, as far as there are runs."""
    known = [row for row in rows if row.runs]
    judged = [row for row in known if verdict(row, known) != UNTOLD]
    several = Counter(row.name for row in judged)  # one hypothesis alone is compared with nothing
    cells = []
    for row in known:
        report = row.report
        cell = {
            "row": title(row.name) + "*" * (REPORT["rows"][row.name]["origin"] == "template"),
            "made (seeds)": f"{row.hypothesis.short} ({row.runs})",
            "verdict": verdict(row, known),
            "chance": _small(row.chance) if row.chance is not None else "–",
            "train loss (report)": f"{number(row.ours[0])} ({number(report[0])})",
            "val acc % (report)": f"{number(row.ours[1])} ({number(report[1])})",
        }
        if max(several.values(), default=0) > 1:
            rivals = [rival for rival in judged if rival.name == row.name and several[row.name] > 1]
            cell["times less likely"] = _behind(row, rivals)
        cells.append(cell)
    ways = [way for way in HYPOTHESES if any(row.hypothesis == way for row in known)]
    caption = (
        "Each row of the report's table that is above guessing, under each way to make it of which there are runs: our "
        f"mean, in brackets the report's value (*: of its template). Made: "
        f"{'; '.join(f'{way.short}: {way.words}' for way in ways)}. Chance: how often one more run of ours, validated "
        "on other images, lies as far from the mean of ours as the report's does, in training loss and validation "
        "accuracy together, if the report's was made so; a seed moves values as much as in all runs of this depth and "
        f"learning rate. {RULED_OUT.capitalize()}: below {100 * LIKELY:g} % divided by the {len(known)} rows here."
    )
    if any(cell["verdict"] == UNTOLD for cell in cells):
        caption += (
            f" {UNTOLD.capitalize()}: there are so few seeds that a network that guesses is not ruled out either."
        )
    if any("times less likely" in cell for cell in cells):
        caption += " Times less likely: than under the best of the ways that have runs."
    return html(
        pd.DataFrame(cells), "The report's rows under each way", caption, text=("row", "made (seeds)", "verdict")
    )


def _behind(row: Row, rivals: Sequence[Row]) -> str:
    """How many times less likely a row is than under the best of the rivals, itself among them."""
    if row not in rivals or row.log_likelihood is None:
        return "–"
    best = max(rival.log_likelihood for rival in rivals if rival.log_likelihood is not None)
    return _factor(times(best, row.log_likelihood))


def _factor(value: float) -> str:
    """Two digits, without a power of ten where the number is short.

    >>> _factor(127.3), _factor(1.04), _factor(2.5e7)
    ('130', '1', '2.5\xa0×\xa010⁷')
    """
    return f"{float(f'{value:.2g}'):g}" if value < 1e5 else power(value)


def _small(chance: float) -> str:
    """Two digits, as a power of ten below a thousandth.

    >>> _small(0.0532), _small(4.8e-05)
    ('0.053', '4.8\xa0×\xa010⁻⁵')
    """
    return f"{chance:.2g}" if chance >= 1e-3 else power(chance)


def told(runs: Made, rows: Sequence[Row]) -> str:
    """By how much seeds move the values, and what can be known and what cannot, as Markdown."""
    moved = []
    for of in sorted({depth_and_rate(run) for suite in runs.values() for run in chain(*suite.values())}):
        noise = spread(runs, of)
        if noise is None or not noise.freedom:
            continue
        several = [f"{title(name)} ({len(group)})" for name, group in _of_kind(runs, of) if len(group) > 1]
        deviation = np.sqrt(np.diag(noise.squares) / noise.freedom)
        moved.append(
            f"- {of[0]} layers, learning rate {exponent(of[1])}: training loss {deviation[0]:.3f}, validation "
            f"accuracy {deviation[1]:.2f} points ({noise.freedom} degree{'s' * (noise.freedom > 1)} of freedom, from "
            f"{', '.join(several)})"
        )
    if not moved:
        return "No configuration that learns has two full runs: how much a seed changes is not known, and nothing else."
    drawn = max(draw_variance(REPORT["rows"][row.name]["validation_accuracy"]) for row in rows) ** 0.5
    missing: dict[str, list[str]] = {}
    for row in rows:
        if not row.runs:
            missing.setdefault(row.hypothesis.words, []).append(title(row.name))
    untried = [f"{words} ({'; '.join(names)})" for words, names in missing.items()]
    text = f"Without a run, so not judged: {', '.join(untried)}. " if untried else ""
    text += (
        "What cannot be known from the table: which images the report validated on, with which seed a row was made and "
        "whether it is one run of several, and, of the rows taken from its template, whether they share a setting "
        "with those that it ran itself. A way that nobody wrote down here is judged by none of these numbers."
    )
    return "\n".join([
        "A seed moves values by these standard deviations:", "", *moved, "",
        f"That the report drew other validation images adds a standard deviation of at most {drawn:.2f} points. {text}",
    ])  # fmt: skip
