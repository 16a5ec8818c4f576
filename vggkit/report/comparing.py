"""Two runs, or all runs of two suites, side by side: which settings differ, how they end, how they learn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vggkit.config import DATASETS, NUM_CLASSES, ConfigError, RunConfig, check_name
from vggkit.report.canvas import PANEL, Figure, drawing, finish, finite, widen
from vggkit.report.figures import COLOURS, LEAST_SPAN
from vggkit.report.intervals import NONE, POOLED, Contrast, Effect, Spread, images_alone, intervals_by_spread
from vggkit.report.labels import direct_labels
from vggkit.report.markup import Html
from vggkit.report.measures import finals
from vggkit.report.render import MISSING, html, number
from vggkit.report.tables import METRICS, TEST
from vggkit.report.verdicts import Group, Outcome
from vggkit.runs.files import place_of
from vggkit.runs.records import Run, metric_of
from vggkit.runs.select import all_runs, fullest_runs, of_suite
from vggkit.runs.store import find_runs
from vggkit.study import shown_suites, title

Side = dict[str, list[Run]]
"""Runs of one side, by configuration."""
LINES = ("-", "--")
"""Of the first side, and of the second."""
LONGEST_LABEL = 24
ALL = "all"
NOTE = (
    "Means over the seeds of each side; accuracies are per cent, their differences percentage points. The intervals of "
    "a metric that are made in one way cover all their differences at once with 95 %. The spread over seeds is that of "
    "networks of the same depth and learning rate that learn, or of shorter runs of such where these have one seed "
    "each. Where it is unknown, an interval is made of “images alone” and says nothing of other seeds, and a loss or a "
    "training metric has none; nor has a side of which only some seeds learned."
)
"""How the differences are to be read."""


@dataclass(frozen=True)
class Comparison:
    """What two sides have in common and what not.

    Attributes:
        names: what each side was called by whoever asked.
        pairs: the configurations laid side by side, the first side's runs and the second's.
        settings: columns runs, setting, first, second: the settings in which pairs differ, the values each side has,
            and the configurations of these pairs, or `ALL`.
        differences: a row for each pair and metric; columns first, second, metric, the means over seeds `first mean`
            and `second mean`, `difference` (second - first) with `low` and `high`, and `method` of the interval.
            Accuracies are per cent, their differences percentage points; what is not known is missing.
    """

    names: tuple[str, str]
    pairs: list[tuple[list[Run], list[Run]]]
    settings: pd.DataFrame
    differences: pd.DataFrame


def compare(results: Path, first: str, second: str) -> Comparison:
    """Compare what `first` and `second` name under a results folder: SUITE, SUITE/NAME or SUITE/NAME/seed-N.

    Configurations that both sides have are paired; where each side is of one configuration, these two are.

    Raises:
        ConfigError: a side names no finished run, a run is on both sides, or these have no configuration in common.
        ArtifactError: as `find_runs`.
    """
    sides = [_side(results, name) for name in (first, second)]
    if all(len(side) == 1 for side in sides):
        pairs = [(next(iter(sides[0].values())), next(iter(sides[1].values())))]
    else:
        pairs = [(runs, sides[1][name]) for name, runs in sides[0].items() if name in sides[1]]
    if not pairs:
        one, other = (", ".join(side) for side in sides)
        raise ConfigError(f"second: {second} has {other}; allowed: what has a configuration of {first}, {one}")
    for runs, others in pairs:  # which would count as two samples, and are one
        if both := {place_of(run.config) for run in runs} & {place_of(run.config) for run in others}:
            raise ConfigError(
                f"second: {'/'.join(min(both))} is on both sides; allowed: runs that {first} does not name"
            )
    return Comparison((first, second), pairs, _settings(pairs), _differences(pairs, _shorter(results, pairs)))


def of_book(results: Path, first: str | None = None, second: str | None = None) -> Comparison | None:
    """As `compare`; a side that nobody names is a configuration that the book shows, the first two in its order.

    Where only one configuration has runs, there is nothing to compare, and None is returned.

    Raises:
        ConfigError, ArtifactError: as `compare`.
    """
    shown = [f"{runs[0].config.suite}/{name}" for name, runs in fullest_runs(results).items()]
    free = iter([place for place in shown if place not in (first, second)])
    sides = [side or next(free, None) for side in (first, second)]
    return compare(results, sides[0], sides[1]) if sides[0] and sides[1] else None


def _side(results: Path, place: str) -> Side:
    suite, _, rest = place.strip("/").partition("/")
    runs = find_runs(results, suite) if suite and not suite.startswith(".") else []
    name, _, seed = rest.partition("/")
    chosen = [run for run in runs if (not name or run.config.name == name) and seed in ("", f"seed-{run.config.seed}")]
    if not chosen:
        _check_place(results, suite, name, seed)
    side: Side = {}
    for run in chosen:
        side.setdefault(run.config.name, []).append(run)
    return side


def _check_place(results: Path, suite: str, name: str, seed: str) -> None:
    """Raise ConfigError about the first part of a place that no finished run has."""
    there = [place_of(run.config) for run in find_runs(results)]
    check_name("suite", suite, dict.fromkeys(one for one, *_ in there))
    check_name(f"run of {suite}", name, dict.fromkeys(run for of, run, _ in there if of == suite))
    check_name(f"seed of {suite}/{name}", seed, [one for of, run, one in there if (of, run) == (suite, name)])


def _settings(pairs: Sequence[tuple[list[Run], list[Run]]]) -> pd.DataFrame:
    def values(runs: list[Run], name: str) -> str:
        return ", ".join(dict.fromkeys(str(getattr(run.config, name)) for run in runs))

    rows = []
    for field in fields(RunConfig):
        told: dict[tuple[str, str], list[str]] = {}
        for one, other in pairs:
            told.setdefault((values(one, field.name), values(other, field.name)), []).append(one[0].config.name)
        rows += [
            (ALL if len(names) == len(pairs) else ", ".join(names), field.name, *both)
            for both, names in told.items()
            if both[0] != both[1]
        ]
    return pd.DataFrame(rows, columns=["runs", "setting", "first", "second"])


def _shorter(results: Path, pairs: Sequence[tuple[list[Run], list[Run]]]) -> list[Group]:
    """Runs that the book shows and that are shorter than all of these, whose spread over seeds may be borrowed."""
    least = min(run.config.epochs for pair in pairs for runs in pair for run in runs)
    groups = (of_suite(all_runs(results), suite) for suite in shown_suites())
    return [group for group in groups if group and all(run.config.epochs < least for run in chain(*group.values()))]


def _differences(pairs: Sequence[tuple[list[Run], list[Run]]], shorter: Sequence[Group] = ()) -> pd.DataFrame:
    rows = []
    for metric, words in (METRICS | TEST).items():
        groups = [(finals(one, metric), finals(other, metric)) for one, other in pairs]
        known = [place for place, (one, other) in enumerate(groups) if len(one) and len(other)]
        effects = dict(zip(known, _effects(metric, [pairs[i] for i in known], shorter), strict=True))
        for place, ((one, other), (ours, theirs)) in enumerate(zip(pairs, groups, strict=True)):
            effect = effects.get(place)
            row: dict[str, str | float] = {"first": _called(one), "second": _called(other), "metric": words}
            row |= {"first mean": ours.mean(), "second mean": theirs.mean()}
            row |= {"difference": effect.value} if effect else {}
            row |= {"low": effect.low, "high": effect.high} if effect and effect.method != NONE else {}
            rows.append(row | {"method": effect.method if effect else MISSING})
    columns = ["first", "second", "metric", "first mean", "second mean", "difference", "low", "high", "method"]
    return pd.DataFrame(rows).reindex(columns=columns)


def _effects(metric: str, pairs: Sequence[tuple[list[Run], list[Run]]], shorter: Sequence[Group]) -> list[Effect]:
    """Second minus first for each pair, in the units of `finals`; simultaneous intervals where they can be had.

    A spread over seeds stands for networks that learn and have the same depth and learning rate, see
    `verdicts.Outcome`. A side of which some seeds learned and others did not, or diverged, is described by no mean and
    spread, and has no interval.
    """

    def share(run: Run) -> float | None:
        return None if run.summary["diverged"] else metric_of(run.summary["final"], metric)

    outcome = Outcome(share, share=lambda run: metric_of(run.summary["final"], metric) or 0.0, learned=True)
    group = {f"{place} {side}": runs for place, pair in enumerate(pairs) for side, runs in enumerate(pair)}
    samples = outcome.samples(group)
    scale = 100 if metric.endswith("accuracy") else 1
    effects: dict[int, Effect] = {}
    pooled: dict[int, tuple[Contrast, Spread]] = {}
    borrowed: dict[int, bool] = {}
    alone: dict[int, Contrast] = {}
    for place, (one, other) in enumerate(pairs):
        first, second = samples[f"{place} 0"], samples[f"{place} 1"]
        if first is None or second is None or not (outcome.comparable(one) and outcome.comparable(other)):
            value = float(finals(other, metric).mean() - finals(one, metric).mean())
            effects[place] = Effect(value, value, value, NONE)
            continue
        contrast = Contrast(replace(second, images=_images(metric, other[0])), first)
        moved = {
            outcome.kind(run) for runs, sample in ((one, first), (other, second)) if not sample.steady for run in runs
        }
        spread, borrowed[place] = outcome.spread([group, *shorter], moved) if moved else (Spread(math.nan, 0), False)
        if spread.freedom:
            pooled[place] = contrast, spread
        else:
            alone[place] = contrast
    found = dict(zip(alone, images_alone([*alone.values()]), strict=True))
    joint = intervals_by_spread([*pooled.values()])
    found |= {place: _told(effect, borrowed[place]) for place, effect in zip(pooled, joint, strict=True)}
    effects |= {i: Effect(scale * e.value, scale * e.low, scale * e.high, e.method) for i, e in found.items()}
    return [effects[place] for place in range(len(pairs))]


def _told(effect: Effect, borrowed: bool) -> Effect:
    """The effect, whose method says where the spread is that of shorter runs."""
    return replace(effect, method=f"{POOLED} of shorter runs") if borrowed and effect.method == POOLED else effect


def _images(metric: str, run: Run) -> int:
    """On how many images an accuracy was measured; 0 for a loss, whose spread over images is not recorded."""
    if not metric.endswith("accuracy") or metric.startswith("train"):
        return 0
    size = DATASETS[run.config.dataset]
    return NUM_CLASSES * (size.test if metric.startswith("test") else size.validation)


def _called(runs: list[Run]) -> str:
    """Suite and name, with the seed where there is one alone."""
    config = runs[0].config
    return f"{config.suite}/{config.name}" + (f"/seed-{config.seed}" if len(runs) == 1 else "")


def as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Cells as they are shown: numbers with the digits that mean something, the interval in brackets."""
    if "difference" not in frame:
        return frame.drop(columns="runs") if set(frame["runs"]) <= {ALL} else frame
    shown = frame[["first", "second", "metric"]].copy()
    for column in ("first mean", "second mean"):
        shown[column] = frame[column].map(number)
    interval = zip(frame["difference"], frame["low"], frame["high"], strict=True)
    shown["second − first"] = [
        number(value, "+") + (f" [{number(low, '+')}, {number(high, '+')}]" if math.isfinite(low) else "")
        for value, low, high in interval
    ]
    shown["interval"] = frame["method"]
    sides = frame[["first", "second"]].drop_duplicates()
    if len(sides) == 1:  # then the sides are said once, at the top
        one, other = sides.iloc[0]
        return shown.drop(columns=["first", "second"]).rename(columns={"first mean": one, "second mean": other})
    return shown


def _shortened(name: str) -> str:
    """A name that leaves room for the lines beside it."""
    return name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1]}…"


def as_markdown(comparison: Comparison) -> str:
    """Both tables, for a page or a note."""
    parts = []
    for frame in (comparison.settings, comparison.differences):
        shown = as_text(frame)
        rows = [list(shown.columns), ["---"] * len(shown.columns), *shown.astype(str).to_numpy().tolist()]
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
    return "\n\n".join(parts)


def as_html(frame: pd.DataFrame) -> Html:
    """The settings or the differences of a comparison, for a page."""
    if "difference" not in frame:
        return html(as_text(frame), "Settings that differ")
    words = ("first", "second", "metric", "interval")
    return html(as_text(frame), "Differences after the last epoch", NOTE, text=words)


def figure(comparison: Comparison) -> Figure:
    """Validation accuracy over the epochs and mean |gradient| over the layers, the second side dashed."""
    with drawing(PANEL, PANEL, height=4.0) as axes:
        named = []
        for place, pair in enumerate(comparison.pairs):
            for runs, style in zip(pair, LINES, strict=True):
                look: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)], "linestyle": style, "linewidth": 1.5}
                for run in runs:
                    (line,) = axes[0].plot(
                        run.metrics["epoch"], finite(100 * run.metrics["validation_accuracy"]), **look
                    )
                    last = run.last_gradients
                    if "mean_abs" in last:
                        axes[1].plot(np.linspace(0, 1, len(last)), finite(last["mean_abs"]), **look)
                named.append((_shortened(title(runs[-1].config.name)), line))
        widen(axes[0], LEAST_SPAN["accuracy"])
        direct_labels(axes[0], named)
        axes[0].set(xlabel="epoch", ylabel="validation accuracy (%)")
        axes[1].set(xlabel="depth in the network (input 0, output 1)", ylabel="mean |gradient|", yscale="log")
        one, other = comparison.names
        caption = (
            f"{one} (solid) and {other} (dashed), each seed a line. First, validation accuracy over the epochs; "
            "second, mean |gradient| over the depth in the last epoch."
        )
        return finish(axes, caption, f"Line charts. {caption}")
