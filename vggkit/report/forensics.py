"""How the report's Table 1 was made: the likelihood of its rows under what we can run, and what cannot be known."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import pandas as pd

from vggkit.config import NUM_CLASSES, RunConfig
from vggkit.folders import Given
from vggkit.report.likelihood import Fit, Scatter, fit, region, scatter, times
from vggkit.report.markup import Html
from vggkit.report.measures import finals
from vggkit.report.naming import exponent
from vggkit.report.render import html, number, power
from vggkit.report.verdicts import VALIDATION_IMAGES, learns
from vggkit.runs.records import Run
from vggkit.runs.store import find_runs
from vggkit.study import FULL, REPORT, title

VALUES = ("train_loss", "validation_accuracy")
"""What is compared of a row. The other two say nearly the same again: each follows from one of these."""
LIKELY = 0.05
"""Chance from which on a row of the report is said to be likely."""


class Hypothesis(NamedTuple):
    """One way in which the report's runs may have been made, and the suite of ours that was made so."""

    words: str
    suite: str
    short: str


HYPOTHESES = (
    Hypothesis("rate stepped once per epoch", FULL, "once per epoch"),
    Hypothesis("rate stepped after every batch", "schedule", "every batch"),
    Hypothesis("shortcuts around the reduction blocks too", "placement", "shortcuts"),
)


WIDER = 3.0
"""How many times as much a seed may well move values as a few runs show: three tell a deviation to a factor of 6."""


class Row(NamedTuple):
    """A row of the report under a hypothesis; nothing of it where there is no run.

    Attributes:
        values: `VALUES` of each run, (runs, 2).
        fit: by the seeds' spread as it was measured.
        wider: by one that is `WIDER` times as large.
        region: an ellipse that holds one more run with 95 %, (points, 2).
    """

    name: str
    hypothesis: Hypothesis
    values: np.ndarray
    fit: Fit | None = None
    wider: Fit | None = None
    region: np.ndarray | None = None

    @property
    def runs(self) -> int:
        return len(self.values)

    @property
    def ours(self) -> np.ndarray:
        """The mean of the runs' values, (2,)."""
        return np.asarray(self.values.mean(axis=0))

    @property
    def report(self) -> np.ndarray:
        """The report's values, (2,)."""
        return np.array([REPORT["rows"][self.name][metric] for metric in VALUES])


def read(results: Given = None) -> dict[str, dict[str, list[Run]]]:
    """By suite of `HYPOTHESES` and configuration: the runs that did not diverge.

    Raises:
        ArtifactError: a run is damaged.
    """
    found: dict[str, dict[str, list[Run]]] = {}
    for suite in (hypothesis.suite for hypothesis in HYPOTHESES):
        for run in find_runs(results, suite):
            if run.config.name in REPORT["rows"] and not run.summary["diverged"]:
                found.setdefault(suite, {}).setdefault(run.config.name, []).append(run)
    return found


def values(runs: Sequence[Run]) -> np.ndarray:
    """`VALUES` after the last epoch, a row for each run; accuracies in per cent."""
    return np.column_stack([finals(runs, metric).to_numpy() for metric in VALUES])


def spread(runs: dict[str, dict[str, list[Run]]], learning_rate: float) -> Scatter | None:
    """Of the seeds, pooled over all configurations of this learning rate that learn; None where none has a run."""
    kinds = [values(group) for _, group in _of_rate(runs, learning_rate)]
    return scatter(kinds) if kinds else None


def _of_rate(runs: dict[str, dict[str, list[Run]]], learning_rate: float) -> list[tuple[str, list[Run]]]:
    """The configurations of this learning rate that learn with each seed, of all suites, by name."""
    groups = [named for suite in runs.values() for named in suite.items()]
    return [
        (name, group)
        for name, group in groups
        if all(map(learns, group)) and group[0].config.learning_rate == learning_rate
    ]


def draw_variance(accuracy: float) -> float:
    """Variance of a validation accuracy in per cent by the report's draw of the images and ours, which no seed repeats.

    >>> round(draw_variance(50.0) ** 0.5, 2)
    1.41
    """
    return 2 * accuracy * (100 - accuracy) / VALIDATION_IMAGES


def judge(runs: dict[str, dict[str, list[Run]]]) -> list[Row]:
    """Every row of the report under every hypothesis. A network that guesses tells nothing, and is left out."""
    rows = []
    for name, told in REPORT["rows"].items():
        if told["validation_accuracy"] <= 100 / NUM_CLASSES:
            continue
        noise = spread(runs, RunConfig.named(name).learning_rate)
        more = (0.0, draw_variance(told["validation_accuracy"]))
        for hypothesis in HYPOTHESES[: None if "_rc" in name else 2]:  # without RC there is no shortcut to place
            group = runs.get(hypothesis.suite, {}).get(name, [])
            row = Row(name, hypothesis, values(group) if group else np.empty((0, len(VALUES))))
            if group and noise is not None:
                scatters = (noise, Scatter(WIDER**2 * noise.squares, noise.freedom))
                measured, wider = (fit(row.report, row.values, one, more) for one in scatters)
                row = row._replace(fit=measured, wider=wider, region=region(row.values, noise, more))
            rows.append(row)
    return rows


def table_html(rows: Sequence[Row]) -> Html:
    """`judge` for a page, as far as there are runs."""
    known = [row for row in rows if row.runs]
    several = Counter(row.name for row in known if row.fit)  # one hypothesis alone is compared with nothing
    cells = []
    for row in known:
        told = REPORT["rows"][row.name]
        cell = {
            "row": title(row.name) + "*" * (told["origin"] == "template"),
            "made": row.hypothesis.short,
            "seeds": str(row.runs),
            "train loss (report)": f"{number(row.ours[0])} ({number(told[VALUES[0]])})",
            "val acc % (report)": f"{number(row.ours[1])} ({number(told[VALUES[1]])})",
            "chance": _chance(row),
        }
        if max(several.values(), default=0) > 1:
            rivals = [rival for rival in known if rival.name == row.name and several[row.name] > 1]
            cell["times less likely"] = _behind(row.fit, [rival.fit for rival in rivals])
            cell[f"with {WIDER:g} × the spread"] = _behind(row.wider, [rival.wider for rival in rivals])
        cells.append(cell)
    made = [way for way in HYPOTHESES if any(row.hypothesis == way for row in known)]
    caption = (
        "Each row of the report's table that is above guessing, under each way to make it of which there are runs: our "
        "mean, in brackets the report's value (*: of its template). Made: "
        f"{'; '.join(f'{way.short}: {way.words}' for way in made)}. Chance: probability that one more run of ours "
        "lies at least as far from the mean of ours as the report's, in training loss and validation accuracy "
        "together; a small one speaks against the hypothesis."
    )
    if any("times less likely" in cell for cell in cells):
        caption += (
            " Times less likely than the best of the hypotheses that have runs, beside it the same if a seed moves the "
            f"values {WIDER:g} times as much as these few show: such a factor can be large where none is ruled out."
        )
    return html(pd.DataFrame(cells), "Likelihood of the report's rows", caption,
                text=("row", "made"))  # fmt: skip


def _behind(one: Fit | None, rivals: Sequence[Fit | None]) -> str:
    """How many times less likely a row is than under the best of the rivals, itself among them."""
    best = max((rival.log_likelihood for rival in rivals if rival), default=math.nan)
    return "–" if one is None or math.isnan(best) else _factor(times(best, one.log_likelihood))


def _factor(value: float) -> str:
    """Two digits, without a power of ten where the number is short.

    >>> _factor(127.3), _factor(1.04), _factor(2.5e7)
    ('130', '1', '2.5\xa0×\xa010⁷')
    """
    return f"{float(f'{value:.2g}'):g}" if value < 1e5 else power(value)


def _chance(row: Row) -> str:
    return "too few seeds" if row.fit is None else _small(row.fit.chance)


def _small(chance: float) -> str:
    """Two digits, as a power of ten below a thousandth.

    >>> _small(0.0532), _small(4.8e-05)
    ('0.053', '4.8\xa0×\xa010⁻⁵')
    """
    return f"{chance:.2g}" if chance >= 1e-3 else power(chance)


def told(runs: dict[str, dict[str, list[Run]]], rows: Sequence[Row]) -> str:
    """What can be known and what cannot, as Markdown."""
    moved = []
    for rate in sorted({run.config.learning_rate for suite in runs.values() for run in chain(*suite.values())}):
        noise = spread(runs, rate)
        if noise is None or not noise.freedom:
            continue
        several = [f"{title(name)} ({len(group)})" for name, group in _of_rate(runs, rate) if len(group) > 1]
        deviation = np.sqrt(np.diag(noise.squares) / noise.freedom)
        moved.append(
            f"at the learning rate {exponent(rate)} the training loss by {deviation[0]:.3f} and the validation "
            f"accuracy by {deviation[1]:.2f} points (standard deviations, {noise.freedom} "
            f"degree{'s' * (noise.freedom > 1)} of freedom, from {', '.join(several)})"
        )
    if not moved:
        return "No configuration that learns has two full runs: how much a seed changes is not known, and nothing else."
    small = [row for row in rows if row.fit and row.fit.chance < LIKELY]
    drawn = max(draw_variance(REPORT["rows"][row.name]["validation_accuracy"]) for row in rows) ** 0.5
    text = (
        f"A seed moves {'; '.join(moved)}. That the report "
        f"drew other validation images moves the accuracy by up to {drawn:.2f} points more. "
    )
    text += (
        "Less likely than 5 % are: "
        + "; ".join(f"{title(row.name)}, {row.hypothesis.words} ({_small(row.fit.chance)})" for row in small if row.fit)
        + ". "
        if small
        else "No row is less likely than 5 % under a hypothesis that has runs. "
    )
    missing: dict[str, list[str]] = {}
    for row in rows:
        if not row.runs:
            missing.setdefault(row.hypothesis.words, []).append(title(row.name))
    untried = [f"{words} ({'; '.join(names)})" for words, names in missing.items()]
    text += f"Without a run, so not judged: {', '.join(untried)}. " if untried else ""
    return text + (
        "What cannot be known from the table: which images the report validated on, with which seed a row was made and "
        "whether it is one run of several, and, of the rows taken from its template, whether they share a setting "
        "with those that it ran itself. A hypothesis that nobody wrote down here is judged by none of these numbers."
    )
