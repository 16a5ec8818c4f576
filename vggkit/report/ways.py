"""What each way to make the report's runs moves: our runs that differ in one thing alone, beside the report's rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Polygon

from vggkit.report.canvas import INK, Figure, drawing, finish
from vggkit.report.figures import COLOURS
from vggkit.report.forensics import HYPOTHESES, LIKELY, Hypothesis, Row
from vggkit.report.intervals import Contrast, Effect, intervals_by_spread
from vggkit.report.prose import small
from vggkit.report.verdicts import ACCURACY, Group, learns
from vggkit.study import FULL, REPORT, title

LOOKS = dict(zip((way.suite for way in HYPOTHESES), ((0, "s"), (1, "^"), (2, "D")), strict=True))
"""Of each way, by its suite: colour, as its place in seaborn's colour-blind palette, and marker."""
DASHES: dict[str, Any] = {"s": "-", "^": (0, (4, 2)), "D": (0, (1, 1.5))}
WIDTH = HEIGHT = 2.3  # of a panel, in inches: two stand side by side on a phone
MARGIN = 0.12  # of the axes, as a share of what the values span


def told(made: Mapping[str, Group], rows: Sequence[Row]) -> str:
    """How far each way moves our values from Table 1's, and under which the report's rows are likely, as Markdown.

    Args:
        made: the runs, as `forensics.read` finds them.
        rows: `forensics.judge` of them.
    """
    known = [row for row in rows if row.fit]
    usual = {row.name: row for row in known if row.hypothesis.suite == FULL}
    effects = accuracies(made)
    moved = [_moved(way, [row for row in known if row.hypothesis == way], usual, effects) for way in HYPOTHESES[1:]]
    if not any(moved):
        return "Runs that differ from those of Table 1 in one thing alone, which would tell what it moves, are missing."
    strict = LIKELY / len(known)  # so many chances are looked at (Bonferroni)
    names = dict.fromkeys(row.name for row in known)
    chances = {name: [row.fit.chance for row in known if row.fit and row.name == name] for name in names}
    none = [title(name) for name in names if max(chances[name]) < strict]
    text = f"{_fitting(known)}."
    if none:
        text += (
            f" With all {len(known)} comparisons taken into account, {', '.join(none)} fit{'s' * (len(none) == 1)} "
            "none of them: there something else differs, or more than one thing does."
        )
    first = (
        "**What runs tell.** Some of ours differ from those of Table 1 in one thing alone (differences of test "
        "accuracies in points, in brackets simultaneous 95 % intervals):"
    )
    return "\n".join([first, "", *(f"- {sentence}" for sentence in moved if sentence), "", text])


def gained(made: Mapping[str, Group]) -> str:
    """Which networks are better with shortcuts around the reduction blocks too, as Markdown; empty where none is."""
    better = [
        f"{title(name)} {effect}"
        for (suite, name), effect in accuracies(made).items()
        if suite == "placement" and effect.low > 0
    ]
    if not better:
        return ""
    return (
        "Shortcuts around the reduction blocks too, which pool and have no weights, raise the test accuracy (in "
        f"points, with simultaneous 95 % intervals): {'; '.join(better)}."
    )


def accuracies(made: Mapping[str, Group]) -> dict[tuple[str, str], Effect]:
    """By suite and configuration: the test accuracy of each way's runs minus that of Table 1's.

    The intervals hold all at once, for the draws of the images and of the seed; the spread over seeds is that of all
    runs of one depth and learning rate, whichever the way. Networks of which a run guesses are left out.
    """
    group = {f"{suite}/{name}": runs for suite, named in made.items() for name, runs in named.items()}
    group = {place: runs for place, runs in group.items() if all(map(learns, runs))}
    samples, judged = ACCURACY.samples(group), {}
    for place, runs in group.items():
        suite, name = place.split("/")
        first, second = samples[place], samples.get(f"{FULL}/{name}")
        if suite != FULL and first and second:
            spread, _ = ACCURACY.spread([group], set(map(ACCURACY.kind, runs)))
            judged[suite, name] = Contrast(first, second), spread
    return dict(zip(judged, intervals_by_spread([*judged.values()]), strict=True))


def _moved(
    way: Hypothesis, rows: Sequence[Row], usual: Mapping[str, Row], effects: Mapping[tuple[str, str], Effect]
) -> str:
    """How the training losses of one way lie from those of Table 1, and whether that is towards the report's."""
    pairs = [(row, usual[row.name]) for row in rows if row.name in usual]
    if not pairs:
        return ""
    sides: dict[str, list[str]] = {}
    for row, other in pairs:
        side = "nearer to" if abs(row.ours - row.report)[0] < abs(other.ours - row.report)[0] else "further from"
        values = f"{other.ours[0]:.2f} to {row.ours[0]:.2f}, report {row.report[0]:.2f}"
        sides.setdefault(side, []).append(f"{title(row.name)} ({values})")
    listed = "; ".join(f"{side} the report's for {', '.join(names)}" for side, names in sides.items())
    apart = [f"{title(name)} {effect}" for (suite, name), effect in effects.items() if suite == way.suite]
    text = f"*With the {way.words}* the training loss comes {listed}."
    return text + f" The test accuracy changes: {'; '.join(apart)}." * bool(apart)


def _fitting(known: Sequence[Row]) -> str:
    """Which of the report's rows fit to each way, in words."""
    ways = []
    for way in HYPOTHESES:
        rows = [row for row in known if row.hypothesis == way]
        names = [title(row.name) for row in rows if row.fit and row.fit.chance >= LIKELY]
        if rows:
            ways.append(f"{way.words}, {len(names)} of {len(rows)}" + f" ({', '.join(names)})" * bool(names))
    return f"Rows of the report that fit, with a chance of {100 * LIKELY:g} % or more: {'; '.join(ways)}"


def figure(rows: Sequence[Row]) -> Figure | None:
    """Training loss and validation accuracy of the report's rows and of our runs, a panel a row; None without runs."""
    known = [row for row in rows if row.runs]
    names = list(dict.fromkeys(row.name for row in known))
    if not names:
        return None
    places = [place for row in known for place in (*row.values, row.report)]
    ends = [(min(axis), max(axis)) for axis in zip(*places, strict=True)]
    limits = [(low - MARGIN * (high - low), high + MARGIN * (high - low)) for low, high in ends]
    with drawing(*[WIDTH] * len(names), height=HEIGHT) as axes:
        for ax, name in zip(axes, names, strict=True):
            ax.set(xlabel="training loss", ylabel="validation accuracy (%)", xlim=limits[0], ylim=limits[1])
            ax.set_title(title(name) + "*" * (REPORT["rows"][name]["origin"] == "template"), fontsize=11)
            for row in known:
                if row.name == name:
                    _draw(ax, row)
            ax.plot(*known[[row.name for row in known].index(name)].report, color=INK, marker="*", markersize=11,
                    linestyle="none", label="the report")  # fmt: skip
        marks = {line.get_label(): line for ax in axes for line in ax.get_lines()}
        shown = [name for name in (*(way.short for way in HYPOTHESES), "the report") if name in marks]
        axes[0].legend(
            [marks[name] for name in shown], shown,
            loc="upper left", frameon=False, fontsize=8.5, handletextpad=0.2, borderaxespad=0,
        )  # fmt: skip
        finding = _fitting([row for row in known if row.fit])
        caption = (
            f"{finding}. In each panel the star is the report's row (*: of its template), every other mark the end of "
            "a run of ours; an ellipse holds one more run of its kind with 95 %, as far as its few seeds tell. Where "
            f"none is seen it is larger than the panel. The axes are the same in all. {_from(known)}"
        )
        return finish(axes, caption, f"A plot of accuracy against loss for each of {len(names)} rows. {finding}.")


def _draw(ax: Axes, row: Row) -> None:
    colour, marker = LOOKS[row.hypothesis.suite]
    style: dict[str, Any] = {"color": COLOURS[colour], "marker": marker, "markersize": 5, "linestyle": "none"}
    ax.plot(*row.values.T, label=row.hypothesis.short, **style)
    if row.region is not None:
        ax.add_patch(Polygon(row.region, fill=False, edgecolor=COLOURS[colour], linewidth=1, linestyle=DASHES[marker]))


def _from(rows: Sequence[Row]) -> str:
    """How many runs of each suite are shown, as a caption's last line."""
    runs = {way.suite: sum(row.runs for row in rows if row.hypothesis == way) for way in HYPOTHESES}
    return small("; ".join(f"{suite}: {count} run{'s' * (count > 1)}" for suite, count in runs.items() if count))
