"""The names of a figure's lines, each beside where its line ends: no legend to look up."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnnotationBbox, DrawingArea
from matplotlib.patches import ConnectionPatch
from matplotlib.transforms import ScaledTranslation

from vggkit.report.canvas import canvas_of

BESIDE, STROKE = 5.0, 22.0  # where a line's sample beside its name begins, from the axes, and its length, in points


def direct_labels(ax: Axes, lines: Sequence[tuple[str, Line2D]]) -> None:
    """Name each line beside its last finite value, moved apart where lines end close together.

    Names are in the page's ink, which can be read on it; before each stands a stroke of its line, with its marker. A
    line that ends among the others has its name alone: there a stroke would look like more of it.
    """
    scale = ax.yaxis.get_transform()
    ends: list[tuple[float, float, str, Line2D]] = []
    for name, line in lines:
        line.set_label(name)
        along, values = (np.asarray(data, dtype=float) for data in line.get_data())
        with np.errstate(invalid="ignore", divide="ignore"):
            shown = np.flatnonzero(np.isfinite(scale.transform(values)))
        if shown.size:
            ends.append((float(values[shown[-1]]), float(along[shown[-1]]), name, line))
    rightmost = max((end for _, end, *_ in ends), default=0.0)
    low, high = scale.transform(ax.get_ylim())
    gap = (high - low) * 0.066
    ends.sort(key=lambda end: end[0])
    places = [float(scale.transform(value)) for value, *_ in ends]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    for i in reversed(range(len(places))):  # what was pushed out at the top comes down again
        places[i] = min(places[i], high - gap * (len(places) - 1 - i))
    for (value, end, name, line), transformed in zip(ends, places, strict=True):
        place = float(scale.inverted().transform(transformed))
        away = 6.0
        if end == rightmost:
            away = STROKE + BESIDE + 4
            ax.add_artist(_stroke(line, (end, place)))
            if abs(transformed - float(scale.transform(value))) > 0.2 * gap:  # moved: else it seems to be the end
                ax.add_artist(_leader(ax, (end, value), place, line))
        ax.annotate(
            name, (end, place), xytext=(away, 0), textcoords="offset points", va="center", fontsize=10,
            annotation_clip=False,
        )  # fmt: skip


def _stroke(line: Line2D, place: tuple[float, float]) -> AnnotationBbox:
    """A short piece of a line, its marker in the middle, a little to the right of a place of the axes."""
    sample = DrawingArea(STROKE, 8)
    kept = ("color", "linestyle", "linewidth", "marker", "markersize", "markerfacecolor")
    look = {key: getattr(line, f"get_{key}")() for key in kept}
    sample.add_artist(Line2D((0, STROKE / 2, STROKE), (4, 4, 4), markevery=[1], **look))
    return AnnotationBbox(
        sample, place, xybox=(BESIDE, 0), boxcoords="offset points", box_alignment=(0, 0.5), frameon=False, pad=0,
        annotation_clip=False,
    )  # fmt: skip


def _leader(ax: Axes, end: tuple[float, float], place: float, line: Line2D) -> ConnectionPatch:
    """A thin line from a curve's end to the piece beside its name."""
    right = ax.transData + ScaledTranslation(BESIDE / 72, 0, canvas_of(ax).dpi_scale_trans)
    look: dict[str, Any] = {"color": line.get_color(), "linewidth": 0.6, "clip_on": False}
    leader = ConnectionPatch(end, (end[0], place), ax.transData, right, **look)
    leader.set_in_layout(False)
    return leader
