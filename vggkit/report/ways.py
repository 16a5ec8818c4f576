"""What each way to make the report's runs moves: runs of ours with one setting changed, beside the report's rows."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Polygon

from vggkit.report.canvas import INK, Figure, drawing, finish
from vggkit.report.figures import COLOURS
from vggkit.report.forensics import HYPOTHESES, LIKELY, POSSIBLE, RULED_OUT, UNTOLD, Hypothesis, Made, Row, verdict
from vggkit.report.intervals import Effect
from vggkit.report.markup import Html, as_html
from vggkit.report.measures import finals
from vggkit.report.naming import machines
from vggkit.report.prose import small
from vggkit.report.render import BREAK, html
from vggkit.report.verdicts import ACCURACY, Outcome, learns
from vggkit.study import FULL, REPORT, title

WORDS = (RULED_OUT, POSSIBLE, UNTOLD)
LOSS = Outcome(lambda run: run.summary["final"]["train_loss"], learned=True)
LOOKS = dict(zip((way.suite for way in HYPOTHESES), ((0, "s"), (1, "^"), (2, "D")), strict=True))
"""Of each way, by its suite: colour, as its place in seaborn's colour-blind palette, and marker."""
DASHES: dict[str, Any] = {"s": "-", "^": (0, (4, 2)), "D": (0, (1, 1.5))}
WIDTH, HEIGHT = 2.3, 2.3  # of a panel, in inches: two stand side by side on a phone, three on a page
MARGIN = 0.12  # of the axes, as a share of what the values span


def told(rows: Sequence[Row]) -> str:
    """Which of the report's rows each way leaves possible, as Markdown; or that only Table 1's has runs."""
    known = [row for row in rows if row.runs]
    if all(row.hypothesis.suite == FULL for row in known):
        return "Runs that differ from those of Table 1 in one setting, which would tell what it moves, are missing."
    names = dict.fromkeys(row.name for row in known)
    verdicts = {name: {verdict(row, known) for row in known if row.name == name} for name in names}
    text = ["The report's rows under each way to make them:", ""]
    for way in HYPOTHESES:
        parts = [f"{word} {', '.join(those)}" for word in WORDS if (those := _those(known, way, word))]
        text += [f"- {way.words}: {'; '.join(parts)}"] * bool(parts)
    if none := [title(name) for name in names if verdicts[name] == {RULED_OUT}]:
        which = ", ".join(none)
        text += ["", f"All are {RULED_OUT} for {which}: something else differs there, or more than one thing."]
    return "\n".join(text)


def _those(known: Sequence[Row], way: Hypothesis, word: str) -> list[str]:
    """The rows of which this verdict is told under a way."""
    return [title(row.name) for row in known if row.hypothesis == way and verdict(row, known) == word]


def table_html(made: Made) -> Html:
    """What each way moves: training loss and test accuracy beside those of Table 1's runs; empty without runs."""
    losses, accuracies = moved(made, LOSS), moved(made, ACCURACY)
    cells = []
    places = [(way.suite, name) for name in REPORT["rows"] for way in HYPOTHESES if (way.suite, name) in losses]
    for suite, name in places:
        usual, ours = (finals(made[place][name], "train_loss") for place in (FULL, suite))
        way = next(way for way in HYPOTHESES if way.suite == suite)
        cells.append({
            "network": title(name),
            "changed": way.short,
            "seeds": f"{len(ours)}/{len(usual)}",
            "train loss": f"{usual.mean():.2f}→{ours.mean():.2f}",
            "difference": losses[suite, name].shown(1, 2),
            "report": f"{REPORT['rows'][name]['train_loss']:.2f}",
            "test acc,\npoints": str(accuracies[suite, name]),
        })  # fmt: skip
    if not cells:
        return Html("")
    trained = {suite: machines(chain(*made[suite].values())) for suite in made}
    caption = (
        "Runs with one setting changed (every batch: the rate stepped after every batch; shortcuts: around the "
        "reduction blocks too) beside those of Table 1, and the report's training loss: differences with simultaneous "
        "95 % intervals for the draws of the seed and of the test images. Seeds: "
        "of these / of Table 1. Machine and version differ too: "
        f"{'; '.join(f'{suite} on {places}' for suite, places in trained.items())}."
    )
    frame = pd.DataFrame(cells)
    plain = frame.rename(columns=lambda name: " ".join(name.split()))
    # An interval stands under its difference, in two lines: side by side they would not fit the page.
    stacked = frame.map(lambda cell: cell.replace(" [", "\n[").replace(",\N{NO-BREAK SPACE}", ",\n"))
    shown = stacked.map(lambda cell: BREAK.join(map(as_html, cell.split("\n"))))
    files = {"csv": plain.map(lambda cell: cell.replace("−", "-")).to_csv(index=False)}
    return html(shown, "What one setting moves", caption, text=("network", "changed"), markup=True, files=files)


def gained(made: Made) -> str:
    """What shortcuts around the reduction blocks do to the test accuracy, as Markdown; empty where nothing is told."""
    effects = {name: effect for (suite, name), effect in moved(made, ACCURACY).items() if suite == "placement"}
    better = [f"{title(name)} by {effect}" for name, effect in effects.items() if effect.low > 0]
    if not better:
        return ""
    untold = [title(name) for name, effect in effects.items() if effect.low <= 0 <= effect.high]
    seeds = max(len(runs) for runs in made["placement"].values())
    return (
        "Shortcuts around the reduction blocks too, which pool and have no weights, go with a higher test accuracy "
        f"({seeds} seed{'s' * (seeds > 1)} each; points with simultaneous 95 % intervals): {'; '.join(better)}"
        + f"; for {' and '.join(untold)} it cannot be told" * bool(untold)
        + "."
    )


def moved(made: Made, outcome: Outcome) -> dict[tuple[str, str], Effect]:
    """By suite and configuration: the value of each way's runs minus that of Table 1's.

    The intervals hold all at once, for the draws of the images, if it depends on these, and of the seed; the spread
    over seeds is that of all runs of one depth and learning rate, whichever the way. Networks of which a run guesses
    are left out.
    """
    group = {f"{suite}/{name}": runs for suite, named in made.items() for name, runs in named.items()}
    group = {place: runs for place, runs in group.items() if all(map(learns, runs))}
    pairs = [(place, f"{FULL}/{place.split('/')[1]}") for place in group if not place.startswith(f"{FULL}/")]
    effects = outcome.differences(group, pairs)
    return {(suite, name): effects[place, other] for place, other in effects for suite, name in [place.split("/")]}


def figure(rows: Sequence[Row]) -> Figure | None:
    """Training loss and validation accuracy of the report's rows and of our runs, a panel a row; None without runs."""
    known = [row for row in rows if row.runs]
    names = list(dict.fromkeys(row.name for row in known))
    if not names:
        return None
    with drawing(*[WIDTH] * len(names), height=HEIGHT) as axes:
        for ax, name in zip(axes, names, strict=True):
            ax.set(xlabel="training loss", ylabel="validation accuracy (%)")
            ax.set_title(title(name) + "*" * (REPORT["rows"][name]["origin"] == "template"), fontsize=11)
            ax.margins(MARGIN)
            for row in known:
                if row.name == name:
                    _draw(ax, row, verdict(row, known) != UNTOLD)
            star: dict[str, Any] = {"marker": "*", "markersize": 13, "markerfacecolor": "none", "linestyle": "none"}
            report = next(row.report for row in known if row.name == name)
            ax.plot(*report, color=INK, label="the report", **star)
            ax.set(xlim=np.clip(ax.get_xlim(), 0, None), ylim=np.clip(ax.get_ylim(), 0, 100))  # what is possible
        marks = {line.get_label(): line for ax in axes for line in ax.get_lines()}
        shown = [name for name in (*(way.short for way in HYPOTHESES), "the report") if name in marks]
        low, high = axes[0].get_ylim()
        axes[0].set_yticks([tick for tick in axes[0].get_yticks() if low <= tick <= high])
        axes[0].set_ylim(low, high + 0.2 * len(shown) * (high - low))  # room for the names
        axes[0].legend(
            [marks[name] for name in shown], shown,
            loc="upper left", frameon=False, fontsize=9.5, handlelength=1, handletextpad=0.4, borderaxespad=0,
        )  # fmt: skip
        out = {way.words: _those(known, way, RULED_OUT) for way in HYPOTHESES}
        listed = "; ".join(f"{words}: {', '.join(those)}" for words, those in out.items() if those)
        finding = f"Ways that the report's rows rule out: {listed or 'none'}"
        caption = (
            f"{finding}. In each panel the star is the report's row (*: of its template), every other mark the end of "
            "a run of ours. An ellipse holds one more run of its kind, validated on other images, as far as the seeds "
            "of this depth and learning rate tell: of "
            f"{sum(row.chance is not None for row in known)} ellipses all with {100 - 100 * LIKELY:g} %, and a star "
            f"outside is {RULED_OUT}. Where it cannot be told, none is drawn. Each panel has axes of its own. "
            f"{_from(known)}"
        )
        return finish(
            axes, caption, f"A plot of accuracy against loss for each of {len(names)} rows. {finding}.", across=3
        )


def _draw(ax: Axes, row: Row, told: bool) -> None:
    colour, marker = LOOKS[row.hypothesis.suite]
    style: dict[str, Any] = {"color": COLOURS[colour], "marker": marker, "markersize": 5, "linestyle": "none"}
    ax.plot(*row.values.T, label=row.hypothesis.short, **style)
    if told and row.region is not None:
        ax.add_patch(Polygon(row.region, fill=False, edgecolor=COLOURS[colour], linewidth=1, linestyle=DASHES[marker]))


def _from(rows: Sequence[Row]) -> str:
    """How many runs of each suite are shown, as a caption's last line."""
    runs = {way.suite: sum(row.runs for row in rows if row.hypothesis == way) for way in HYPOTHESES}
    return small("; ".join(f"{suite}: {count} run{'s' * (count > 1)}" for suite, count in runs.items() if count))
