"""Figures of what they are given, finished runs or measurements: they load nothing and train nothing.

Curves use seaborn's colour-blind palette. A `Figure` carries its caption, computed from the run, and a
description for those who cannot see it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize

from vggkit.config import ConfigError
from vggkit.report.canvas import NO_COLOUR, PANEL, Figure, canvas_of, direct_labels, drawing, finish, finite, widen
from vggkit.report.intervals import lowest_epochs
from vggkit.report.measures import turning_epoch, vanishing_ratio
from vggkit.report.prose import run_settings, spans
from vggkit.runs.imported import ImportedRun
from vggkit.runs.select import Runs, is_full, one_suite
from vggkit.runs.signal import Signal
from vggkit.runs.store import Run
from vggkit.study import CONFIGURATIONS, STATISTICS, title

COLOURS = sns.color_palette("colorblind").as_hex()
TRAIN, VALIDATION = COLOURS[0:2]
EPOCHS = LinearSegmentedColormap.from_list("epochs", ["#3f7fd0", "#d9822b"])  # both show on white and on black
DASHES = ((6.0, 2.0), (3.0, 1.5), (1.5, 1.5))  # of runs made elsewhere
LEAST_SPAN = {"loss": 0.2, "accuracy": 5.0}  # of the curves' axes


def curves(runs: Sequence[Run], imported: Sequence[ImportedRun] = ()) -> Figure:
    """Cross-entropy and accuracy of training and validation over the epochs (the report's Figures 1 and 4).

    Runs made elsewhere are drawn beside them, thin and dashed, and called imported.

    Raises:
        ConfigError: the runs are of several suites, and so of different lengths, or too many are imported.
    """
    if len(imported) > len(DASHES):
        raise ConfigError(f"imported: {len(imported)} runs; allowed: at most {len(DASHES)} in one figure")
    if len(suites := sorted({run.config.suite for run in runs})) > 1:
        raise ConfigError(f"runs: of suites {', '.join(suites)}; allowed: runs of one suite, see select.one_suite")
    with drawing(PANEL, PANEL) as axes:
        for ax, metric in zip(axes, ("loss", "accuracy"), strict=True):
            ends = []
            for run, line in zip(runs, ("-", "--", ":", "-."), strict=False):
                for split, colour in (("train", TRAIN), ("validation", VALIDATION)):
                    values = finite(run.metrics[f"{split}_{metric}"] * (100 if metric == "accuracy" else 1))
                    ax.plot(run.metrics["epoch"], values, line, color=colour, linewidth=1.8)
                    name = split if len(runs) == 1 and not imported else f"{_label(run)}, {split}"
                    ends.append((run.metrics["epoch"], values, name, colour))
            ends += [
                end for run, dashes in zip(imported, DASHES, strict=False) for end in _beside(ax, run, metric, dashes)
            ]
            widen(ax, LEAST_SPAN[metric])
            direct_labels(ax, ends)
            ax.set(xlabel="epoch", ylabel="cross-entropy" if metric == "loss" else "accuracy (%)")
        sentences = []
        for run in runs:
            final, best = run.summary["final"], turning_epoch(run)
            lowest = (
                "no finite validation loss"
                if best is None
                else f"validation loss lowest in epoch {best} of {run.config.epochs}{_smoothed(run)}"
            )
            sentences.append(
                f"{title(run.config.name)} ends at {_percent(final['train_accuracy'])} training and "
                f"{_percent(final['validation_accuracy'])} validation accuracy ({lowest})"
            )
        for other in imported:
            ends_at = [_percent(other.final[f"{split}_accuracy"]) for split in ("train", "validation")]
            sentences.append(
                f"thin and dashed, {other.label}, made elsewhere in {len(other.rows)} epochs (model: {other.model}), "
                f"ends at {ends_at[0]} training and {ends_at[1]} validation accuracy"
            )
        caption = f"{'; '.join(sentences)}. {_origin(runs) if runs else ''}".rstrip()
        return finish(axes, caption, "Line charts of loss and accuracy by epoch. " + "; ".join(sentences))


def _beside(ax: Axes, run: ImportedRun, metric: str, dashes: tuple[float, ...]) -> list[tuple[Any, Any, str, str]]:
    """Draw the curves of a run made elsewhere; return where they end, for their labels."""
    ends = []
    for split, colour in (("train", TRAIN), ("validation", VALIDATION)):
        values = finite(run.metrics[f"{split}_{metric}"] * (100 if metric == "accuracy" else 1))
        ax.plot(run.metrics["epoch"], values, color=colour, linewidth=1.4, dashes=dashes)
        ends.append((run.metrics["epoch"], values, f"{run.label}, {split}", colour))
    return ends


def _smoothed(run: Run) -> str:
    """Where the smoothed loss is as low as noise can tell: a single epoch's lowest is partly luck."""
    losses = run.metrics["validation_loss"]
    if not np.isfinite(losses).all():
        return ""
    return f"; smoothed, it is as low within its error in epochs {spans(lowest_epochs(losses))}"


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
                ax.plot(layers, shown if scale == "log" else values, color=EPOCHS(norm(epoch)), linewidth=1)
            ax.set(xlabel="layer, from input to output", ylabel=STATISTICS[statistic].label, yscale=scale)
        bar = canvas_of(axes[-1]).colorbar(mpl.cm.ScalarMappable(norm, EPOCHS), ax=axes[-1], label="epoch", aspect=30)
        bar.outline.set_visible(False)
        ratio = vanishing_ratio(run)
        reached = (
            "Averaged over the last epoch's batches, the median convolution of the first half gets "
            f"{_times(ratio)} the last layer's mean |gradient|."
            if np.isfinite(ratio)
            else "In the last epoch the gradients are not finite."
        )
        caption = (
            f"{title(run.config.name)}: {STATISTICS[statistic].label} of each convolution and the linear layer, "
            f"{'last batch' if over == 'last' else 'mean over the batches'} of each epoch; linear and logarithmic. "
            f"{reached} {_origin([run])}"
        )
        description = f"Line charts over the layers of {title(run.config.name)}, one line for each epoch. {reached}"
        return finish(axes, caption, description)


def gradient_heatmap(run: Run, statistic: str = "mean_abs", over: str = "mean") -> Figure:
    """The same statistic as colour: every weight tensor, BN included, against the epoch."""
    if statistic not in run.gradients:
        return _unlogged(run, statistic)
    chosen = run.gradients[run.gradients["over"] == over]
    table = chosen.pivot(index="layer", columns="epoch", values=statistic).sort_index()
    shown = finite(table).where(table > 0).to_numpy()
    measured = shown[~np.isnan(shown)]
    low, high = (measured.min(), measured.max()) if measured.size else (0.1, 1.0)
    span = f"from {low:.1e} to {high:.1e}" if measured.size else "nowhere positive and finite"
    # What a logarithmic scale has no colour for, and where.
    marked = {"exactly zero": table == 0, "not finite": ~np.isfinite(table)}
    grey = [what for what, where in marked.items() if where.any(axis=None)]
    counts = {what: int(where.iloc[:, -1].sum()) for what, where in marked.items()}
    names = chosen.drop_duplicates("layer").set_index("layer")["parameter"]
    last = " and ".join(f"{what} in {count} of {len(table)} tensors" for what, count in counts.items() if count)
    last = last or f"smallest in <code>{names[table.iloc[:, -1].idxmin()]}</code>"
    with drawing(7.0, height=3.6) as axes:
        extent = (0.5, table.shape[1] + 0.5, table.shape[0] + 0.5, 0.5)
        colours = mpl.colormaps["viridis"].with_extremes(bad=NO_COLOUR)
        norm = LogNorm(low, high)
        image = axes[0].imshow(shown, aspect="auto", interpolation="nearest", cmap=colours, norm=norm, extent=extent)
        axes[0].set(xlabel="epoch", ylabel="weight tensor, from input to output")
        canvas_of(axes[0]).colorbar(image, ax=axes[0], label=STATISTICS[statistic].label)
        note = f" Grey: {' or '.join(grey)}." if grey else ""
        caption = (
            f"{title(run.config.name)}: {STATISTICS[statistic].label} of all {len(table)} weight tensors, averaged "
            f"over the batches of each epoch, {span}. In the last epoch it is {last}.{note} {_origin([run])}"
        )
        return finish(axes, caption, f"Heat map, layers by epochs, of {title(run.config.name)}, {span}.")


def comparison(runs: Runs, seed: int = 0) -> Figure:
    """Validation accuracy over the epochs, and the gradient over the layers in the last epoch, of one suite's runs.

    Of `runs`, which may be of several suites, it shows those of one seed in the suite with most configurations
    (see `select.one_suite`): runs of different lengths on one axis would say which is longer, not which is better.

    Raises:
        ConfigError: none of them has this seed.
    """
    chosen = one_suite(runs, seed=seed)
    if not chosen:
        raise ConfigError(f"seed: no run of seed {seed} among these; allowed: a seed that has finished runs")
    with drawing(PANEL, PANEL, height=4.0) as axes:
        ends = []
        for name, run in chosen.items():
            accuracy = finite(100 * run.metrics["validation_accuracy"])
            axes[0].plot(run.metrics["epoch"], accuracy, **_style(name, len(accuracy)))
            ends.append((run.metrics["epoch"], accuracy, title(name), _colour(name)))
            if "mean_abs" not in run.gradients:
                continue
            last = run.gradients.query("over == 'mean' and kind != 'bn'")
            last = last[last["epoch"] == last["epoch"].max()].sort_values("layer")
            place = np.linspace(0, 1, len(last))
            axes[1].plot(place, finite(last["mean_abs"]), **_style(name, len(last)))
        widen(axes[0], LEAST_SPAN["accuracy"])
        direct_labels(axes[0], ends)
        axes[0].set(xlabel="epoch", ylabel="validation accuracy (%)")
        axes[1].set(xlabel="depth in the network (input 0, output 1)", ylabel="mean |gradient|", yscale="log")
        order = sorted(chosen.values(), key=lambda run: -run.summary["final"]["validation_accuracy"])
        ends_at = [_percent(run.summary["final"]["validation_accuracy"]) for run in order]
        ranked = ", ".join(f"{title(run.config.name)} {end}" for run, end in zip(order, ends_at, strict=True))
        suite = order[0].config.suite
        caption = (
            f"{len(order)} of {len(CONFIGURATIONS)} configurations, all runs of suite <code>{suite}</code>, which has "
            f"most of them at one length. Final validation accuracy: {ranked}. {_dashed(chosen)}{_origin(order)}"
        )
        return finish(axes, caption, f"Line charts; final validation accuracy: {ranked}.")


def signal_propagation(signal: Signal) -> Figure:
    """What passes forwards and backwards through the untrained networks, layer by layer; see `training.signal`."""
    networks = signal.networks
    with drawing(PANEL, PANEL, height=4.0) as axes:
        ends = []
        for name, network in networks.items():
            place = pd.Series(np.linspace(0, 1, len(network.deviation)))
            axes[0].plot(place, network.deviation, **_style(name, len(place)))
            axes[1].plot(place, network.error, **_style(name, len(place)))
            ends.append((place, pd.Series(network.deviation), title(name), _colour(name)))
        for ax, label in zip(axes, ("deviation between images", "norm of the error gradient"), strict=True):
            ax.set(xlabel="depth in the network (input 0, output 1)", ylabel=label, yscale="log")
        direct_labels(axes[0], ends)
        plain = networks["vgg38"]
        others = ", ".join(
            f"{title(name)} {network.deviation[-1]:.1e}"
            for name, network in networks.items()
            if name not in ("vgg08", "vgg38")
        )
        grown = " and ".join(
            f"in {title(name)} from {networks[name].error[-1]:.2g} to {networks[name].error[0]:.2g}"
            for name in ("vgg38_bn", "vgg38_bn_rc")
        )
        finding = (
            f"In VGG38 the deviation between images falls from {plain.deviation[0]:.1e} at the first convolution to "
            f"{plain.deviation[-1]:.1e} at the last, and the error gradient from {plain.error[-1]:.1e} at the last to "
            f"{plain.error[0]:.1e} at the first"
        )
        caption = (
            f"Before training: standard deviation over {signal.images} synthetic images of each convolution's output "
            "(root mean square over channels and positions), and L2 norm of the error's gradient with respect to the "
            f"same output. {finding}. Its logits differ between images by at most {plain.spread:.1e} of their size, "
            f"where float32 has steps of {np.finfo(np.float32).eps:.1e}: all images look the same to it. At the last "
            f"convolution the others keep: {others}. With BN the error gradient grows from the last convolution to the "
            f"first, {grown}. <i>[seed {signal.seed}, float64]</i>"
        )
        return finish(axes, caption, f"Line charts over the depth of {len(networks)} untrained networks. {finding}.")


def _unlogged(run: Run, statistic: str) -> Figure:
    """In place of a figure of what a run of an older version did not log."""
    told = f"{title(run.config.name)}: {STATISTICS[statistic].label} was not logged when this run was trained"
    with drawing(PANEL, height=1.0) as axes:
        axes[0].axis("off")
        axes[0].text(0.5, 0.5, "not logged", ha="center", va="center")
        return finish(axes, f"{told}. {_origin([run])}", f"{told}.")


def _colour(name: str) -> str:
    return str(COLOURS[CONFIGURATIONS[name].colour])


def _style(name: str, points: int) -> dict[str, Any]:
    """How a configuration's line of so many points looks; its marker tells it apart without colour."""
    row = CONFIGURATIONS[name]
    return {"color": _colour(name), "linestyle": row.line, "marker": row.marker, "markevery": max(1, points // 8),
            "markersize": 4, "linewidth": 1.6}  # fmt: skip


def _dashed(names: Iterable[str]) -> str:
    dashed = [title(name) for name in names if CONFIGURATIONS[name].line != "-"]
    return f"Dashed: {', '.join(dashed)}. " if dashed else ""


def _label(run: Run) -> str:
    return title(run.config.name) + ("" if is_full(run) else "*")


def _percent(value: float | None) -> str:
    return "no finite" if value is None or pd.isna(value) else f"{100 * value:.1f} %"


def _times(ratio: float) -> str:
    return f"{ratio:.2g} times" if ratio >= 0.01 else f"{ratio:.1e} times"


def _origin(runs: Sequence[Run]) -> str:
    """Which results a figure shows; every caption ends with it."""
    settings = sorted({f"{run.config.suite}: {run_settings(run)}" for run in runs})
    reduced = [title(run.config.name) for run in runs if not is_full(run)]
    if not reduced:
        note = ""
    elif len(reduced) == len(runs):
        note = " Not a full run of Table 1." if len(runs) == 1 else " No full runs of Table 1."
    else:
        note = f" Not full runs of Table 1 (marked *): {', '.join(reduced)}."
    return f"<i>[{'; '.join(settings)}]</i>{note}"
