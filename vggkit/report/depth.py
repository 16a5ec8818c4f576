"""At which depth plain networks stop learning: what short runs say."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from vggkit.config import ADAM_EPSILON
from vggkit.folders import Given
from vggkit.report import tried
from vggkit.report.canvas import PANEL, Figure, drawing, finish, widen
from vggkit.report.figures import COLOURS, LEAST_SPAN
from vggkit.report.intervals import Counts, exact_test, unlikely
from vggkit.report.labels import direct_labels
from vggkit.report.measures import CHANCE
from vggkit.report.naming import exponent, machines
from vggkit.report.prose import origin
from vggkit.report.tried import SHORT, Found, accuracy, config, learning, reached
from vggkit.runs.records import Run
from vggkit.study import DEPTHS, FLOAT32, LOST, SUITES, Asked


class Kind(NamedTuple):
    """Networks that differ in nothing but their depth: what they are, whose runs are shown, and how."""

    configuration: str
    settings: Mapping[str, Any]
    suite: str
    depths: Sequence[int]
    look: tuple[int, str, str]  # colour, marker, line
    precision: str | None = None  # of the runs that count; any where it is None


PLAIN, EXACT, HE = "plain, bfloat16", "plain, float32", "plain, He"
KINDS = {
    PLAIN: Kind("vgg38", {}, SHORT, DEPTHS, (0, "s", "-"), "bfloat16"),
    EXACT: Kind("vgg38", {}, FLOAT32, LOST, (0, "P", "--"), "float32"),
    "BN": Kind("vgg38_bn", {}, SHORT, DEPTHS, (1, "^", "-")),
    "RC": Kind("vgg38_rc", {}, SHORT, DEPTHS[1:], (2, "D", "-")),
    "BN+RC": Kind("vgg38_bn_rc", {}, SHORT, DEPTHS[1:], (3, "v", "-")),
    HE: Kind("vgg38", {"initialisation": "he"}, SHORT, DEPTHS, (0, "o", "-.")),
}
"""Shortcuts need a block, which `DEPTHS[0]` has not."""
BySuite = Mapping[str, Found]
"""Runs of each suite of `KINDS`."""


def read(results: Given = None) -> BySuite:
    """The runs of all `KINDS`.

    Raises:
        ArtifactError: a run is damaged.
    """
    return {suite: tried.read(results, suite) for suite in (SHORT, FLOAT32)}


def runs_of(found: BySuite, kind: str, depth: int) -> Sequence[Run]:
    """The runs of a kind of network of this depth."""
    one = KINDS[kind]
    if depth not in one.depths:
        return ()
    name = replace(config(Asked(one.configuration, one.settings)), depth=depth).name
    return [run for run in found.get(one.suite, {}).get(name, ()) if one.precision in (None, run.config.precision)]


def by_depth(found: BySuite) -> pd.DataFrame:
    """Mean test accuracy in per cent, depths by kinds; missing where there is no run, or all diverged."""
    table = {kind: [accuracy(runs_of(found, kind, depth)).mean() for depth in DEPTHS] for kind in KINDS}
    return pd.DataFrame(table, index=list(DEPTHS), dtype="float64")


class Stops(NamedTuple):
    """The depths at which networks of a kind learn, with each seed or with some, and those at which they do not."""

    learn: list[int]
    mixed: list[int]
    fail: list[int]
    untried: list[int]


def stops(found: BySuite, kind: str) -> Stops:
    result = Stops([], [], [], [])
    for depth in KINDS[kind].depths:
        runs = runs_of(found, kind, depth)
        learned = learning(runs)
        if not runs:
            result.untried.append(depth)
        elif learned == len(runs):
            result.learn.append(depth)
        else:
            (result.mixed if learned else result.fail).append(depth)
    return result


class Counted(NamedTuple):
    """Of plain networks of one depth, how many runs have learned, of how many, by machine, in each precision."""

    depth: int
    exact: Mapping[str, Counts]
    rough: Mapping[str, Counts]

    @property
    def chance(self) -> float:
        """The p-value of Fisher's exact test for the two precisions being alike, machines not told apart."""
        return exact_test([(_total(self.exact), _total(self.rough))])


def _total(counts: Mapping[str, Counts]) -> Counts:
    return sum(learned for learned, _ in counts.values()), sum(of for _, of in counts.values())


def by_machine(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The runs of each machine, or of several where a run was begun on one and went on on another."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(machines([run]), []).append(run)
    return found


def _counts(runs: Iterable[Run]) -> dict[str, Counts]:
    return {made: (learning(group), len(group)) for made, group in by_machine(runs).items()}


def edge(found: BySuite) -> list[Counted]:
    """The depths that have runs in both precisions, and at which some learned and some did not."""
    counted = []
    for depth in DEPTHS:
        one = Counted(depth, *(_counts(runs_of(found, kind, depth)) for kind in (EXACT, PLAIN)))
        learned, of = _total(one.exact)
        also, others = _total(one.rough)
        if of and others and 0 < learned + also < of + others:
            counted.append(one)
    return counted


def told(found: BySuite) -> str:
    """At which depth plain networks stop, and what others reach there, as Markdown."""
    text = f"{_learned(found)}{_apart(found)}"
    he = stops(found, HE)
    if len(he.untried) < len(DEPTHS):
        counts = {depth: len(runs_of(found, HE, depth)) for depth in DEPTHS}
        several = [f"{count} with {depth}" for depth, count in counts.items() if count > 1]
        seeds = "one seed each" + f", {' and '.join(several)} layers" * bool(several)
        text += f" With the scale of He, {_arithmetic(found, HE)}, they {_outcomes(he)} ({seeds})."
    table = by_depth(found)
    ends = {kind: table[kind].dropna() for kind in ("BN", "RC", "BN+RC")}
    others = [
        f"with {kind} {known.iloc[0]:.0f} % at {known.index[0]} layers and {known.iloc[-1]:.0f} % at {known.index[-1]}"
        for kind, known in ends.items()
        if len(known) > 1
    ]
    return text + f" Test accuracies {'; '.join(others)}." * bool(others)


def answer(found: BySuite) -> str:
    """At which depth plain networks stop, in a sentence or two, as Markdown."""
    return f"{_learned(found)}{_apart(found)}"


def precision_told(found: BySuite) -> str:
    """What bfloat16 does to plain networks, and to that of Table 1, as Markdown; empty where nothing is known of it."""
    if not (text := _apart(found).strip()):
        return ""
    last = DEPTHS[-1]
    deep, exact, rough = runs_of(found, EXACT, last), stops(found, EXACT), stops(found, PLAIN)
    if not deep:
        return f"{text} VGG{last} has no run in float32 yet."
    learns = "learns" if last in exact.learn else "learns in some seeds" if last in exact.mixed else "does not learn"
    either = " either" * (last in exact.fail and last in rough.fail)
    return f"{text} VGG{last} {learns} in float32{either} ({reached(deep)})."


def abstract(found: BySuite) -> str:
    """Whether the seed decides where plain networks stop, in a sentence, as Markdown; empty where none is seen to."""
    mixed = [
        f"{learned} of {of} with {one.depth} layers in {precision} on {made}"
        for one in edge(found)
        for precision, counts in (("float32", one.exact), ("bfloat16", one.rough))
        for made, (learned, of) in counts.items()
        if 0 < learned < of
    ]
    if not mixed:
        return ""
    return (
        "Where plain networks stop, chance has a say: of runs that differ in nothing but the seed, "
        f"{' and '.join(mixed)} learned in {SUITES[SHORT].settings['epochs']} epochs."
    )


def _apart(found: BySuite) -> str:
    """Whether the precision bears on what learns, at each depth where some runs do and some do not, as Markdown."""
    told = ""
    for one in edge(found):
        (learned, of), (also, others) = _total(one.exact), _total(one.rough)
        known = "the precision makes a difference" if unlikely(one.chance) else "these do not tell the two apart"
        told += (
            f" With {one.depth} layers {learned} of {of} runs learn in float32 ({_places(one.exact)}), {also} of "
            f"{others} in bfloat16 ({_places(one.rough)}): {known} (Fisher's exact test, p = {one.chance:.2g})."
        )
    return told


def _places(counts: Mapping[str, Counts]) -> str:
    """How many learn on which machine."""
    if len(counts) == 1:
        return f"on {next(iter(counts))}"
    return "; ".join(f"{learned} of {of} on {made}" for made, (learned, of) in counts.items())


def _learned(found: BySuite) -> str:
    """At which depths plain networks learn, in each precision."""
    kinds = {kind: stops(found, kind) for kind in (PLAIN, EXACT)}
    known = {kind: one for kind, one in kinds.items() if len(one.untried) < len(KINDS[kind].depths)}
    if not known:
        return "At which depth they stop learning is not known: there is no run yet."
    parts = [f"in {KINDS[kind].precision} they {_outcomes(one)}" for kind, one in known.items()]
    return (
        f"After {SUITES[SHORT].settings['epochs']} epochs of plain networks, with the usual epsilon of Adam's "
        f"({exponent(ADAM_EPSILON)}), {'; '.join(parts)}."
    )


def _arithmetic(found: BySuite, kind: str) -> str:
    """In which precision the runs of a kind were trained, in words."""
    used = {run.config.precision for depth in DEPTHS for run in runs_of(found, kind, depth)}
    return f"in {' and '.join(sorted(used))}"


def _outcomes(found: Stops) -> str:
    """At which depths networks learn, with all seeds that there are or with some, and at which they do not."""
    learn = [f"with {listed(found.learn)} layers"] * bool(found.learn)
    learn += [f"in some seeds with {listed(found.mixed)}"] * bool(found.mixed)
    fail = f"with {listed(found.fail)}"
    words = f"learn {', '.join(learn)}" + f", not {fail}" * bool(found.fail) if learn else f"do not learn {fail} layers"
    return words + f"; with {listed(found.untried)} there is no run yet" * bool(found.untried)


def listed(depths: Sequence[int]) -> str:
    """Depths in words."""
    return (" and " if len(depths) == 2 else ", ").join(map(str, depths))


def figure(found: BySuite) -> Figure:
    """Test accuracy after the short runs against the depth."""
    table = by_depth(found)
    points = [(kind, depth) for kind, one in KINDS.items() for depth in one.depths]
    missing = sum(not runs_of(found, *point) for point in points)
    of_runs = {
        kind: {depth: accuracy(runs_of(found, kind, depth)).to_numpy() for depth in one.depths}
        for kind, one in KINDS.items()
    }
    with drawing(PANEL, height=4.0) as (ax,):
        ax.set(xlabel="depth (layers)", xticks=list(DEPTHS), xlim=(DEPTHS[0] - 1, DEPTHS[-1] + 1))
        ax.set_ylabel("test accuracy (%)")
        ax.axhline(100 * CHANCE, color="#808080", linestyle=":", linewidth=1)
        _lines(ax, {kind: (table[kind], one.look) for kind, one in KINDS.items()}, of_runs)
        widen(ax, LEAST_SPAN["accuracy"])
        finding = told(found)
        first = f"{missing} of {len(points)} points {'has' if missing == 1 else 'have'} no run yet. " if missing else ""
        caption = (
            f"{first}{finding} Official test accuracy after {SUITES[SHORT].settings['epochs']} epochs on all images, a "
            "mark for each run, the line through the means; dotted: guessing. "
            f"{origin([run for point in points for run in runs_of(found, *point)])}"
        )
        return finish([ax], caption, f"A line chart of accuracy by depth. {finding}")


def _lines(
    ax: Axes,
    drawn: Mapping[str, tuple[pd.Series, tuple[int, str, str]]],
    of_runs: Mapping[str, Mapping[int, np.ndarray]],
) -> None:
    """A line with its name for each series that has a value; its marks are runs, by depth."""
    named = []
    for name, (values, (colour, marker, style)) in drawn.items():
        shown = values.dropna()
        if len(shown):
            look: dict[str, Any] = {"color": COLOURS[colour], "marker": marker, "markersize": 5}
            marks = [(depth, value) for depth, values in of_runs[name].items() for value in values]
            ax.plot(*zip(*marks, strict=True), linestyle="none", label=f"_{name}", **look)
            look["markevery"] = []  # its sample beside the name has the mark all the same
            (line,) = ax.plot(shown.index, shown, linestyle=style, linewidth=1.6, **look)
            named.append((name, line))
    direct_labels(ax, named)
