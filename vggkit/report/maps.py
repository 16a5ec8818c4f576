"""Heat maps of trained networks, layers by epochs, all in the same colours: gradient, step, and signal."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm

from vggkit.config import ADAM_EPSILON
from vggkit.report.alive import FAINT, MOVED, SHARE, Trained, by_epoch, layers_told, logs_signal, moved_by, still
from vggkit.report.canvas import COLOUR_MAP, SMALL_PANEL, Figure, canvas_of, drawing, finish, finite
from vggkit.report.markup import as_html
from vggkit.report.prose import origin
from vggkit.report.render import power
from vggkit.runs.select import is_full
from vggkit.study import STATISTICS, title

ACROSS = 4  # maps that a page has room for
RANGES = {"mean_abs": (1e-12, 1.0), "update_ratio": (1e-8, 0.1), SHARE: (1e-8, 1.0)}
"""Of the colours of a statistic, the same for all networks; what is smaller has the colour of the lowest."""
TITLES = {
    "mean_abs": "The gradient, layer by epoch",
    "update_ratio": "The steps, layer by epoch",
    SHARE: "The signal, layer by epoch",
}
LABELS = {name: statistic.label for name, statistic in STATISTICS.items()} | {SHARE: "share that differs"}
WHAT = {
    "mean_abs": "Mean |gradient| of each convolution and the linear layer, averaged over the batches of each epoch",
    "update_ratio": "|update| / |weight| of each convolution and the linear layer, averaged over each epoch's batches",
    SHARE: "Share of each layer's input that differs between images, after each epoch",
}


def figures(found: Sequence[Trained]) -> list[Figure]:
    """How Table 1's gradients, weights and signals move, layers by epochs; none where there is no run."""
    named = [(title(trained.run.config.name), trained) for trained in found]
    logged = [statistic for statistic in STATISTICS if statistic in RANGES]
    drawn = [heatmaps(statistic, named).titled(TITLES[statistic]) for statistic in logged] if named else []
    heard = [
        (name + ("" if is_full(one.heard) else f" ({len(one.heard.metrics)} epochs)"), Trained(one.heard, None))
        if one.heard
        else (name, one)
        for name, one in named
    ]
    return drawn + ([heatmaps(SHARE, heard).titled(TITLES[SHARE])] if any(one.heard for one in found) else [])


def heatmaps(statistic: str, found: Sequence[tuple[str, Trained]]) -> Figure:
    """Layers by epochs of one statistic of `RANGES`, a panel for each run, all in the same colours.

    Args:
        statistic: of a run that does not log it, or that diverged in its first epoch, nothing is drawn.
        found: titles and runs, at least one of which is drawn.
    """
    logged = [(name, one) for name, one in found if statistic != SHARE or logs_signal(one.run)]
    shown = [(name, one) for name, one in logged if not by_epoch(one.run, statistic).empty]
    with drawing(*[SMALL_PANEL] * (len(shown) + 1), height=SMALL_PANEL) as (*axes, key):
        for ax, (name, trained) in zip(axes, shown, strict=True):
            _map(ax, by_epoch(trained.run, statistic), statistic)
            ax.set_title(name, fontsize=11)
        colours = ScalarMappable(LogNorm(*RANGES[statistic]), COLOUR_MAP)
        bar = canvas_of(key).colorbar(colours, ax=key, label=LABELS[statistic], extend="min", location="left")
        if statistic == "mean_abs":
            bar.ax.axhline(ADAM_EPSILON, color="white", linewidth=2)
            bar.ax.annotate("alive above", (1, ADAM_EPSILON), xycoords=("axes fraction", "data"), xytext=(4, 0),
                            textcoords="offset points", fontsize=10, va="center", annotation_clip=False)  # fmt: skip
        key.set_axis_off()
        finding = _grouped([(name, FINDINGS[statistic](trained)) for name, trained in logged])
        silent = [name for name, _ in found if name not in dict(logged)]
        unknown = f"No run logged it of {' and '.join(silent)}. " if silent else ""
        caption = (
            f"{as_html(finding)} {unknown}{WHAT[statistic]}. Smaller than {power(RANGES[statistic][0], 1)} is darkest, "
            f"exactly zero grey. {origin([trained.run for _, trained in shown])}"
        )
        layers = [[f"layer {place}" for place in by_epoch(one.run, statistic).index] for _, one in shown]
        description = f"{len(shown)} heat maps of {LABELS[statistic]}, layers by epochs. {finding}"
        across = None if len(axes) % ACROSS else ACROSS - 1  # else the key would have a row of its own
        return finish((*axes, key), caption, description, [*layers, []], across)


def _map(ax: Axes, values: pd.DataFrame, statistic: str) -> None:
    ax.imshow(
        np.ma.masked_where(~(finite(values) > 0).to_numpy(), values.to_numpy()),
        aspect="auto",
        interpolation="nearest",
        cmap=COLOUR_MAP,
        norm=LogNorm(*RANGES[statistic]),
        extent=(0.5, values.shape[1] + 0.5, values.shape[0] + 0.5, 0.5),
        label=LABELS[statistic],
    )
    ax.set(xlabel="epoch", ylabel="layer")


def _grouped(told: Sequence[tuple[str, str]]) -> str:
    """What is said of each name as sentences; of those of which the same is said, at once."""
    groups: dict[str, list[str]] = {}
    for name, what in told:
        groups.setdefault(what, []).append(name)
    return " ".join(f"{'; '.join(names)}: {what}." for what, names in groups.items())


def _lives(trained: Trained) -> str:
    """When its layers come alive, in words."""
    run = trained.run
    if run.summary["diverged"]:
        return f"diverged in epoch {len(run.metrics)}"
    alive = by_epoch(run, "mean_abs") > run.config.adam_epsilon
    if alive.to_numpy().all():
        return "every layer is alive in every epoch"
    parts = {"in the first epoch": alive.iloc[:, 0], "in the last": alive.iloc[:, -1], "in none": ~alive.any(axis=1)}
    told = (f"{when}: {layers_told(alive.index[which])}" for when, which in parts.items() if which.any())
    return f"alive {', '.join(told)}"


def _moves(trained: Trained) -> str:
    """Which layers do not move, in words; where only the length of the way is known, in words of that."""
    if trained.run.summary["diverged"]:
        return f"diverged in epoch {len(trained.run.metrics)}"
    places, found = still(trained), moved_by(trained)
    if not places:
        way = f"the updates of every layer add up to {100 * MOVED:g} % of its norm or more"
        return "every layer moves" if trained.change else way
    first = f"in {len(trained.run.metrics)} epochs layer {places[0]} by {power(found[places[0]])} of its norm"
    if trained.change:
        return f"not moved: {layers_told(places)}, {first}"
    return f"not moved, by the sum of their updates: {layers_told(places)}, {first} at most"


def _hears(trained: Trained) -> str:
    """Where little of the input differs between images after the last epoch, in words."""
    shares = by_epoch(trained.run, SHARE).iloc[:, -1]
    faint = shares.index[shares < FAINT]
    if faint.empty:
        return f"{100 * FAINT:g} % or more differs in every layer"
    return f"less than {100 * FAINT:g} % differs in {layers_told(faint)}"


FINDINGS: dict[str, Callable[[Trained], str]] = {"mean_abs": _lives, "update_ratio": _moves, SHARE: _hears}
"""What a heat map shows of a run, in words."""
