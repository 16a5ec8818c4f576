"""Figures of what they are given, finished runs or measurements: they load nothing and train nothing.

Curves use seaborn's colour-blind palette. A `Figure` carries its caption, computed from the run, and a
description for those who cannot see it.
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.lines import Line2D

from vggkit.config import NUM_CLASSES, ConfigError
from vggkit.report.canvas import COLOUR_MAP, PANEL, Figure, canvas_of, drawing, finish, finite, widen
from vggkit.report.labels import direct_labels
from vggkit.report.measures import vanishing_ratio
from vggkit.report.prose import origin, small, spans
from vggkit.report.render import power
from vggkit.report.turning import lowest_epochs, turning_epoch
from vggkit.report.verdicts import learns
from vggkit.runs.imported import ImportedRun
from vggkit.runs.records import Run
from vggkit.runs.select import Runs, is_full, one_suite
from vggkit.runs.signal import Signal
from vggkit.study import CONFIGURATIONS, STATISTICS, title

COLOURS = [colour if colour != "#de8f05" else "#c97f00" for colour in sns.color_palette("colorblind").as_hex()]
"""seaborn's, the orange darker: each has a contrast of at least 3 with a white page and with a dark one."""
TRAIN, VALIDATION = COLOURS[0:2]
EPOCHS = LinearSegmentedColormap.from_list("epochs", ["#3f7fd0", "#d9822b"])  # both show on white and on black
STYLES = ("-", "--", ":", "-.")  # of our runs
DASHES = ((6.0, 2.0), (3.0, 1.5), (1.5, 1.5))  # of runs made elsewhere
LEAST_SPAN = {"loss": 0.2, "accuracy": 5.0}  # of the curves' axes
GRADIENT_RANGE = (1e-24, 1.0)  # of every logarithmic axis of mean |gradient| over the layers: networks can be compared
DEPTHS = "BN and RC are variants of VGG38."
KINDS = {"weights of convolutions and linear layer": "kind != 'bn'", "scales of BN": "kind == 'bn'"}


def curves(runs: Sequence[Run], imported: Sequence[ImportedRun] = ()) -> Figure:
    """Cross-entropy and accuracy of training and validation over the epochs (the report's Figures 1 and 4).

    Runs made elsewhere are drawn beside them, thin and dashed, and called imported.

    Raises:
        ConfigError: the runs are of several suites, and so of different lengths, or there are too many.
    """
    if len(imported) > len(DASHES):
        raise ConfigError(f"imported: {len(imported)} runs; allowed: at most {len(DASHES)} in one figure")
    if len(runs) > len(STYLES):
        raise ConfigError(f"runs: {len(runs)} runs; allowed: at most {len(STYLES)} in one figure")
    if len(suites := sorted({run.config.suite for run in runs})) > 1:
        raise ConfigError(f"runs: of suites {', '.join(suites)}; allowed: runs of one suite, see select.one_suite")
    with drawing(PANEL, PANEL) as axes:
        for ax, metric in zip(axes, ("loss", "accuracy"), strict=True):
            named = []
            for run, style in zip(runs, STYLES, strict=False):
                for split, colour in (("train", TRAIN), ("validation", VALIDATION)):
                    values = finite(run.metrics[f"{split}_{metric}"] * (100 if metric == "accuracy" else 1))
                    (line,) = ax.plot(run.metrics["epoch"], values, style, color=colour, linewidth=1.8)
                    alone = len(runs) == 1 and not imported
                    named.append((split if alone else f"{_label(run)}, {split}", line))
            for other, dashes in zip(imported, DASHES, strict=False):
                named += _beside(ax, other, metric, dashes)
            widen(ax, LEAST_SPAN[metric])
            direct_labels(ax, named)
            ax.set(xlabel="epoch", ylabel="cross-entropy" if metric == "loss" else "accuracy (%)")
        findings, lowest = [], []
        for run in runs:
            name, final, best = title(run.config.name), run.summary["final"], turning_epoch(run)
            findings.append(
                f"{name} ends at {_percent(final['train_accuracy'])} training and "
                f"{_percent(final['validation_accuracy'])} validation accuracy"
            )
            lowest.append(
                f"{name} has no finite validation loss"
                if best is None
                else f"that of {name} stays about that of guessing, ln {NUM_CLASSES} = {math.log(NUM_CLASSES):.2f}"
                if not learns(run)
                else f"that of {name} has its lowest value in epoch {best} of {run.config.epochs}{_smoothed(run)}"
            )
        for other in imported:
            ends_at = [_percent(other.final[f"{split}_accuracy"]) for split in ("train", "validation")]
            findings.append(
                f"thin and dashed, {other.label}, made elsewhere in {len(other.rows)} epochs (model: {other.model}), "
                f"ends at {ends_at[0]} training and {ends_at[1]} validation accuracy"
            )
        finding = "; ".join(findings)
        told = f" Validation loss: {'; '.join(lowest)}." if lowest else ""
        caption = f"{finding}.{told} {origin(runs, marked=True) if runs else ''}".rstrip()
        return finish(axes, caption, f"Line charts of loss and accuracy by epoch. {finding}.")


def _beside(ax: Axes, run: ImportedRun, metric: str, dashes: tuple[float, ...]) -> list[tuple[str, Line2D]]:
    """Draw the curves of a run made elsewhere; return the lines with their names."""
    named = []
    for split, colour in (("train", TRAIN), ("validation", VALIDATION)):
        values = finite(run.metrics[f"{split}_{metric}"] * (100 if metric == "accuracy" else 1))
        (line,) = ax.plot(run.metrics["epoch"], values, color=colour, linewidth=1.4, dashes=dashes)
        named.append((f"{run.label}, {split}", line))
    return named


def _smoothed(run: Run) -> str:
    """Where the smoothed loss is as low as noise can tell: a single epoch's lowest is partly luck."""
    losses = run.metrics["validation_loss"]
    if not np.isfinite(losses).all():
        return ""
    return f"; smoothed, it is equally low within its error in epochs {spans(lowest_epochs(losses))}"


def gradient_flow(run: Run, statistic: str = "mean_abs", over: str = "last") -> Figure:
    """A statistic of every layer's gradient, a line for each epoch (the report's Figures 2, 3 and 5)."""
    if statistic not in run.gradients:
        return _unlogged(run, statistic)
    chosen = run.gradients[(run.gradients["over"] == over) & (run.gradients["kind"] != "bn")]
    table = finite(chosen.pivot(index="epoch", columns="layer", values=statistic).sort_index())
    layers = np.arange(1, table.shape[1] + 1)
    norm = Normalize(1, max(2, table.index.max()))
    with drawing(PANEL, PANEL) as axes:
        for ax, scale in zip(axes, ("linear", "log"), strict=True):
            for epoch, values in table.iterrows():
                shown = values.where(values > 0)  # zero has no logarithm
                drawn = shown if scale == "log" else values
                ax.plot(layers, drawn, color=EPOCHS(norm(epoch)), linewidth=1, label=f"epoch {epoch}")
            ax.set(xlabel="layer, from input to output", ylabel=STATISTICS[statistic].label, yscale=scale)
        if statistic == "mean_abs":
            low, high = axes[-1].get_ylim()
            axes[-1].set_ylim(min(low, GRADIENT_RANGE[0]), max(high, GRADIENT_RANGE[1]))
        bar = canvas_of(axes[-1]).colorbar(mpl.cm.ScalarMappable(norm, EPOCHS), ax=axes[-1], label="epoch", aspect=30)
        bar.outline.set_visible(False)
        ratio = vanishing_ratio(run)
        name = title(run.config.name)
        reached = (
            f"In {name} the median convolution of the first half gets {power(ratio)} times the last layer's "
            "mean |gradient|, averaged over the last epoch's batches."
            if np.isfinite(ratio)
            else f"In the last epoch the gradients of {name} are not finite."
        )
        caption = (
            f"{reached} Shown is {STATISTICS[statistic].label} of each convolution and the linear layer, "
            f"{'last batch' if over == 'last' else 'mean over the batches'} of each epoch; first linear, then "
            f"logarithmic. {origin([run])}"
        )
        description = f"Line charts over the layers of {name}, one line for each epoch. {reached}"
        return finish(axes, caption, description)


def gradient_heatmap(run: Run, statistic: str = "mean_abs", over: str = "mean") -> Figure:
    """The same statistic as colour: every weight tensor, BN included, against the epoch."""
    if statistic not in run.gradients:
        return _unlogged(run, statistic)
    chosen = run.gradients[run.gradients["over"] == over]
    whole = _by_epoch(chosen, statistic)
    shown = finite(whole).where(whole > 0)
    measured = shown.to_numpy()[shown.notna().to_numpy()]
    low, high = (measured.min(), measured.max()) if measured.size else (0.1, 1.0)
    span = f"from {power(low)} to {power(high)}" if measured.size else "nowhere positive and finite"
    # What a logarithmic scale has no colour for, and where.
    marked = {"exactly zero": whole == 0, "not finite": ~np.isfinite(whole)}
    grey = [what for what, where in marked.items() if where.any(axis=None)]
    counts = {what: int(where.iloc[:, -1].sum()) for what, where in marked.items()}
    names = chosen.drop_duplicates("layer").set_index("layer")["parameter"]
    last = " and ".join(f"{what} in {count} of {len(whole)} tensors" for what, count in counts.items() if count)
    last = last or f"smallest in <code>{names[whole.iloc[:, -1].idxmin()]}</code>"
    parts = {kind: _by_epoch(chosen.query(query), statistic) for kind, query in KINDS.items()}
    if min(map(len, parts.values())) < 2:  # the first convolution has BN in every network
        parts = {"weight tensors": whole}
    name, label = title(run.config.name), STATISTICS[statistic].label
    with drawing(*[PANEL if len(parts) > 1 else 1.25 * PANEL] * len(parts), height=3.6) as axes:
        norm = LogNorm(low, high)
        for ax, (kind, rows) in zip(axes, parts.items(), strict=True):
            extent = (0.5, rows.shape[1] + 0.5, rows.shape[0] + 0.5, 0.5)
            values = np.ma.masked_where(~(finite(rows) > 0).to_numpy(), rows.to_numpy())
            look: dict[str, Any] = {"interpolation": "nearest", "cmap": COLOUR_MAP, "norm": norm, "label": label}
            image = ax.imshow(values, aspect="auto", extent=extent, **look)
            ax.set(xlabel="epoch", ylabel="from input to output", title=kind)
            ax.title.set_fontsize(11)
            canvas_of(ax).colorbar(image, ax=ax, label=label)
        note = f" Grey: {' or '.join(grey)}." if grey else ""
        beside = ", those of BN beside the others in the same colours" if len(parts) > 1 else ""
        caption = (
            f"{name}: {label} of all {len(whole)} weight tensors is in the last epoch {last}. "
            f"Averaged over the batches of each epoch, it goes {span}{beside}.{note} {origin([run])}"
        )
        description = f"Heat map{'s' * (len(parts) > 1)} of {label}, tensors by epochs, of {name}, {span}; {last}."
        tensors = [[str(names[layer]) for layer in rows.index] for rows in parts.values()]
        return finish(axes, caption, re.sub(r"<[^>]*>", "", description), tensors)


def _by_epoch(gradients: pd.DataFrame, statistic: str) -> pd.DataFrame:
    """A statistic as a table, tensors by epochs."""
    return gradients.pivot(index="layer", columns="epoch", values=statistic).sort_index()


def comparison(runs: Runs, seed: int = 0) -> Figure:
    """Validation accuracy over the epochs, and the gradient over the layers in the last epoch, of one suite's runs.

    Of `runs`, which may be of several suites, it shows those of one seed in the suite that `select.one_suite` takes:
    runs of different lengths on one axis would say which is longer, not which is better.

    Raises:
        ConfigError: none of them has this seed.
    """
    chosen = one_suite(runs, seed=seed)
    if not chosen:
        raise ConfigError(f"seed: no run of seed {seed} among these; allowed: a seed that has finished runs")
    with drawing(PANEL, PANEL, height=4.0) as axes:
        named: tuple[list[tuple[str, Line2D]], ...] = ([], [])
        for name, run in chosen.items():
            accuracy = finite(100 * run.metrics["validation_accuracy"])
            (line,) = axes[0].plot(run.metrics["epoch"], accuracy, **_style(name, len(accuracy)))
            named[0].append((_short(name), line))
            last = run.last_gradients
            if "mean_abs" not in last:
                continue
            place = np.linspace(0, 1, len(last))
            (line,) = axes[1].plot(place, finite(last["mean_abs"]), **_style(name, len(last)))
            named[1].append((_short(name), line))
        widen(axes[0], LEAST_SPAN["accuracy"])
        axes[0].set(xlabel="epoch", ylabel="validation accuracy (%)")
        axes[1].set(xlabel="depth (input 0, output 1)", ylabel="mean |gradient|", yscale="log")
        for ax, lines in zip(axes, named, strict=True):
            direct_labels(ax, lines)
        order = sorted(chosen.values(), key=lambda run: -run.summary["final"]["validation_accuracy"])
        ends_at = [_percent(run.summary["final"]["validation_accuracy"]) for run in order]
        ranked = ", ".join(f"{title(run.config.name)} {end}" for run, end in zip(order, ends_at, strict=True))
        suite, epochs = order[0].config.suite, order[0].config.epochs
        missing = [title(name) for name in CONFIGURATIONS if name not in chosen]
        lacking = f", which has none yet of {' and '.join(missing)}" if missing else ""
        caption = (
            f"Validation accuracy after {epochs} epochs: {ranked}. First, accuracy over the epochs; second, mean "
            f"|gradient| over the depth in the last epoch. {DEPTHS} {_dashed(chosen)}{len(order)} of "
            f"{len(CONFIGURATIONS)} configurations, of each the run of suite <code>{suite}</code> with the lowest "
            f"seed{lacking}. "
            f"{origin(order)}"
        )
        weakest = {name: vanishing_ratio(run) for name, run in chosen.items() if "mean_abs" in run.gradients}
        right = ", ".join(f"{title(name)} {power(ratio)}" for name, ratio in weakest.items() if np.isfinite(ratio))
        description = (
            f"Two line charts. First, validation accuracy by epoch; it ends at: {ranked}. Second, mean gradient over "
            "the depth of each network in the last epoch; as a multiple of the last layer's, the median convolution "
            f"of the first half gets: {right or 'nothing that was logged'}."
        )
        return finish(axes, caption, description)


def signal_propagation(signal: Signal) -> Figure:
    """What passes forwards and backwards through the untrained networks, layer by layer; see `training.signal`."""
    networks = signal.networks
    with drawing(PANEL, PANEL, height=4.0) as axes:
        named: tuple[list[tuple[str, Line2D]], ...] = ([], [])
        for name, network in networks.items():
            place = np.linspace(0, 1, len(network.deviation))
            for ax, lines, values in zip(axes, named, (network.deviation, network.error), strict=True):
                (line,) = ax.plot(place, values, **_style(name, len(place)))
                lines.append((_short(name), line))
        labels = ("deviation between images", "norm of the error gradient")
        for ax, lines, label in zip(axes, named, labels, strict=True):
            ax.set(xlabel="depth (input 0, output 1)", ylabel=label, yscale="log")
            direct_labels(ax, lines)
        plain = networks["vgg38"]
        others = ", ".join(
            f"{title(name)} {power(network.deviation[-1])}"
            for name, network in networks.items()
            if name not in ("vgg08", "vgg38")
        )
        grown = " and ".join(
            f"in {title(name)} from {power(networks[name].error[-1])} to {power(networks[name].error[0])}"
            for name in ("vgg38_bn", "vgg38_bn_rc")
        )
        finding = (
            f"In VGG38 the deviation between images falls from {power(plain.deviation[0])} at the first convolution "
            f"to {power(plain.deviation[-1])} at the last, and the error gradient from {power(plain.error[-1])} at the "
            f"last to {power(plain.error[0])} at the first"
        )
        caption = (
            f"{finding}. Its logits differ between images by at most {power(plain.spread)} of their size, where "
            f"float32 has steps of {power(float(np.finfo(np.float32).eps))}: all images look the same to it. At the "
            f"last convolution the others keep: {others}. With BN the error gradient grows from the last convolution "
            f"to the first, {grown}. Before training; first, standard deviation over {signal.images} synthetic images "
            "of each convolution's output (root mean square over channels and positions); second, L2 norm of the "
            f"error's gradient with respect to the same output. {DEPTHS} {small(f'seed {signal.seed}, float64')}"
        )
        return finish(
            axes, caption, f"Two line charts over the depth of {len(networks)} untrained networks. {finding}."
        )


def _unlogged(run: Run, statistic: str) -> Figure:
    """In place of a figure of what a run of an older version did not log."""
    told = f"{title(run.config.name)}: {STATISTICS[statistic].label} was not logged when this run was trained"
    with drawing(PANEL, height=1.0) as axes:
        axes[0].axis("off")
        axes[0].text(0.5, 0.5, "not logged", ha="center", va="center")
        return finish(axes, f"{told}. {origin([run])}", f"{told}.")


def colour(name: str) -> str:
    """That of a configuration's lines, in every figure."""
    return str(COLOURS[CONFIGURATIONS[name].colour])


def _short(name: str) -> str:
    """A configuration's title beside its line: most are VGG38's, which `DEPTHS` says once."""
    return title(name).removeprefix("VGG38 ")


def _style(name: str, points: int) -> dict[str, Any]:
    """How a configuration's line of so many points looks; its marker tells it apart without colour."""
    row = CONFIGURATIONS[name]
    return {"color": colour(name), "linestyle": row.line, "marker": row.marker, "markevery": max(1, points // 8),
            "markersize": 4, "linewidth": 1.6}  # fmt: skip


def _dashed(names: Iterable[str]) -> str:
    dashed = [title(name) for name in names if CONFIGURATIONS[name].line != "-"]
    return f"Dashed: {', '.join(dashed)}. " if dashed else ""


def _label(run: Run) -> str:
    return title(run.config.name) + ("" if is_full(run) else "*")


def _percent(value: float | None) -> str:
    return "no finite" if value is None or pd.isna(value) else f"{100 * value:.1f} %"
