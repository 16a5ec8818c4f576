"""Figures of the chapter on the cause, made of measurements of untrained networks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from vggkit.config import ADAM_EPSILON
from vggkit.networks import theory
from vggkit.report.canvas import PANEL, Figure, drawing, finish
from vggkit.report.figures import COLOURS
from vggkit.report.intervals import LEVEL
from vggkit.report.labels import direct_labels
from vggkit.report.render import power
from vggkit.report.untrained import (
    DEEP,
    STEP32,
    STEP64,
    VARIANTS,
    Moved,
    Untrained,
    expected_error,
    expected_factor,
    expected_share,
)
from vggkit.runs.epsilon import Arm
from vggkit.runs.propagation import ROUNDED
from vggkit.study import CONFIGURATIONS

TINY, USUAL = 1e-30, ADAM_EPSILON  # of Adam
LAYER = "layer, from input to output"
NAMED = {"default": "PyTorch's default initialisation", "he": "He initialisation"}


def _style(variant: str, points: int) -> dict[str, Any]:
    row = CONFIGURATIONS["_".join([f"vgg{DEEP}", *variant.lower().replace("plain", "").split("+")]).rstrip("_")]
    return {"color": COLOURS[row.colour], "marker": row.marker, "markersize": 4, "linewidth": 1.6,
            "markevery": max(1, points // 8)}  # fmt: skip


def _draw(ax: Axes, found: Mapping[str, pd.DataFrame]) -> None:
    """A line for each kind of network with a band for its interval; named at its end."""
    named = []
    for variant, values in found.items():
        shown = values.where(values > 0) if ax.get_yscale() == "log" else values
        style = _style(variant, len(shown))
        (line,) = ax.plot(shown.index, shown["mean"], **style)
        ax.fill_between(shown.index, shown["low"], shown["high"], color=style["color"], alpha=0.25, linewidth=0)
        named.append((variant, line))
    direct_labels(ax, named)


def _by_layer(
    ax: Axes, measured: Untrained, value: str, label: str, initialisation: str = "default", **look: Any
) -> None:
    """A panel: a value over the layers of the deep networks."""
    ax.set(xlabel=LAYER, ylabel=label, **look)
    _draw(ax, {name: measured.by_layer(name, value, initialisation).loc[:DEEP] for name in VARIANTS})


def _by_depth(ax: Axes, measured: Untrained, value: str, label: str, *theories: pd.Series) -> None:
    """A panel: a value against the depth, with the plain network after He initialisation, and with theory."""
    ax.set(xlabel="depth (layers)", ylabel=label, yscale="log")
    _draw(ax, {name: measured.by_depth(name, value) for name in VARIANTS})
    he = measured.by_depth("plain", value, "he")
    ax.plot(he.index, he["mean"], **{**_style("plain", 1), "linestyle": "-.", "markerfacecolor": "none"})
    for values in theories:
        _theory(ax, values)


def _theory(ax: Axes, values: pd.Series) -> None:
    ax.plot(values.index, values, color="#808080", linestyle="--", linewidth=1.2, zorder=3)


def _precision(ax: Axes, *steps: tuple[str, float]) -> None:
    for name, step in steps:
        ax.axhline(step, color="#808080", linestyle=":", linewidth=1)
        ax.annotate(f"{name}'s step", (1, step), xycoords=("axes fraction", "data"), xytext=(-2, 3),
                    textcoords="offset points", fontsize=10, ha="right")  # fmt: skip


def e(value: float) -> str:
    """A number in a sentence: with a power of ten where it is small or large."""
    return (f"{value:.0f}" if 99.5 <= abs(value) < 1000 else power(value)).replace("-", "−")


def seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def ranged(found: pd.Series, show: Any = e) -> str:
    """A mean with its interval."""
    if np.isnan(found["low"]):
        return str(show(found["mean"]))
    return f"{show(found['mean'])} [{show(found['low'])},\N{NO-BREAK SPACE}{show(found['high'])}]"


def _origin(measured: Untrained, *initialisations: str) -> str:
    counts = ", ".join(f"{NAMED[name]}: {seeds(measured.seeds(DEEP, name))}" for name in initialisations)
    return f"<i>[{measured.images} images, float64; {counts}; bands: {100 * LEVEL:g} % intervals of the mean]</i>"


def forward(measured: Untrained) -> Figure:
    """How much of what each layer of the deep networks is given differs between images."""
    kinds = ("default", "he")
    with drawing(PANEL, PANEL, height=4.0) as axes:
        for ax, initialisation in zip(axes, kinds, strict=True):
            label = "share that differs between images"
            _by_layer(ax, measured, "share", label, initialisation, yscale="log", ylim=(1e-16, 3))
            ax.set_title(NAMED[initialisation], fontsize=10)
            _theory(ax, expected_share(measured, initialisation))
            _precision(ax, ("float32", STEP32))
        last = measured.at("plain", "share", DEEP)
        others = ", ".join(
            f"{name} {e(measured.at(name, 'share', DEEP)['mean'])}" for name in VARIANTS if name != "plain"
        )
        finding = (
            f"In plain VGG38 the share falls from {e(measured.at('plain', 'share', 1)['mean'])} in the images to "
            f"{ranged(last)} before the linear layer"
        )
        caption = (
            "Before training: of the input of each layer, the standard deviation over images as a share of its root "
            f"mean square. {finding}; the others keep {others}. After He, plain VGG38 keeps "
            f"{e(measured.at('plain', 'share', DEEP, 'he')['mean'])}. Dashed: theory for the plain network; dotted: "
            f"the smallest share that float32 can hold. {_origin(measured, *kinds)}"
        )
        return finish(axes, caption, f"Line charts over the layers of four networks. {finding}.")


def backward(measured: Untrained) -> Figure:
    """The error's gradient by the input of each layer, and the mean |gradient| of its weights."""
    with drawing(PANEL, PANEL, height=4.0) as axes:
        _by_layer(axes[0], measured, "error", "norm of the error gradient", yscale="log")
        _by_layer(axes[1], measured, "weight_gradient", "mean |gradient| of the weights", yscale="log")
        _theory(axes[0], expected_error(measured))
        first, last = (measured.at("plain", "weight_gradient", layer)["mean"] for layer in (1, DEEP))
        finding = (
            f"In plain VGG38 the weights' gradient is {e(last)} in the linear layer and {e(first)} in the first one"
        )
        caption = (
            "Before training: L2 norm of the gradient of the mean cross-entropy by the input of each layer, and mean "
            f"|gradient| of each layer's weights. {finding}, in steps at the reduction blocks; the error falls evenly, "
            f"to {e(measured.at('plain', 'error', 1)['mean'])} at the images. Dashed: theory for the plain network. "
            f"{_origin(measured, 'default')}"
        )
        return finish(axes, caption, f"Line charts over the layers of four networks. {finding}.")


def depth(measured: Untrained) -> Figure:
    """What of the signal arrives at the end, and what of the error at the beginning, against the depth."""
    with drawing(PANEL, PANEL, height=4.0) as axes:
        depths = measured.by_depth("plain", "share").index
        start, factor = measured.by_depth("BN", "growth")["mean"].iloc[0], expected_factor(measured, "BN", "growth")
        share = pd.Series({at: expected_share(measured, depth=at).iloc[-1] for at in depths})
        growth = pd.Series({at: theory.backward(at, "default")[0] for at in depths})
        growth_bn = pd.Series({at: start * factor ** (at - depths[0]) for at in depths})
        _by_depth(axes[0], measured, "share", "share that differs at the linear layer", share)
        _by_depth(axes[1], measured, "growth", "error at layer 2 / at the linear layer", growth, growth_bn)
        axes[0].set_ylim(1e-17, 3)
        axes[1].set_ylim(bottom=1e-50)
        _precision(axes[0], ("float32", STEP32), ("float64", STEP64))
        told = {
            (name, value): f"{ranged(measured.factor(name, value), '{:.3f}'.format)} "
            f"(theory: {expected_factor(measured, name, value):.3f})"
            for name, value in (("plain", "share"), ("plain", "growth"), ("BN", "growth"))
        }
        finding = (
            f"Each layer more multiplies the signal of the plain network by {told['plain', 'share']} and its error by "
            f"{told['plain', 'growth']}; with BN alone it multiplies the error by {told['BN', 'growth']}"
        )
        caption = (
            "Before training, against the depth: the share of the linear layer's input that differs between images, "
            f"and the norm of the error gradient at the second layer over that at the linear one. {finding}. Dashed: "
            "theory; dash-dotted, hollow: the plain network after He initialisation. In deeper plain networks "
            "the numbers of float64 are the same for all images, to the last digit: a share of 0, which is not drawn. "
            f"{_origin(measured, 'default', 'he')} "
            f"<i>[beyond {DEEP} layers: {seeds(measured.seeds(110))}]</i>"
        )
        return finish(axes, caption, f"Line charts over the depth of four networks. {finding}.")


def rounded(measured: Untrained) -> Figure:
    """What of the features' differences between images is the same in each precision of training."""
    with drawing(PANEL, PANEL, height=4.0) as axes:
        lost, kept = [], []
        for ax, precision in zip(axes, ROUNDED, strict=True):
            value = f"{precision}_features"
            _by_layer(ax, measured, value, "cosine with float64", ylim=(-0.1, 1.1))
            ax.set_title(precision, fontsize=10)
            found = measured.by_layer("plain", value)["mean"].loc[:DEEP]
            half = int(found.index[found < 0.5].min()) if (found < 0.5).any() else None
            lost.append(f"{precision} keeps less than half from layer {half} on" if half else f"{precision} keeps all")
            others = (f"{name} {measured.at(name, value, DEEP)['mean']:.2f}" for name in VARIANTS if name != "plain")
            kept.append(f"{', '.join(others)} in {precision}")
        finding = f"In plain VGG38 {' and '.join(lost)}"
        caption = (
            "Before training, the same networks in the precisions of training beside float64: the cosine between what "
            "differs between images in each layer's input and the same in float64 (1: the same; 0: nothing but "
            f"rounding, or nothing at all). {finding}; at the linear layer the others have {'; '.join(kept)}. "
            f"{_origin(measured, 'default')} "
            f"<i>[bfloat16: {', '.join(f'{name} {seeds(measured.known(name, value))}' for name in VARIANTS)}]</i>"
        )
        return finish(axes, caption, f"Line charts over the layers of four networks. {finding}.")


def epsilon(moved: Moved) -> Figure:
    """How far the weights move with one epsilon and another, and what becomes of the signal."""
    arms = {f"ε = {power(value, 1)}": Arm(DEEP, "default", value) for value in (USUAL, TINY)}
    colours = dict(zip(arms, (COLOURS[0], COLOURS[1]), strict=True))
    with drawing(PANEL, PANEL, height=4.0) as axes:
        for ax, value, label in (
            (axes[0], "moved", "|change| / |weight|"),
            (axes[1], "share_after", "share that differs between images"),
        ):
            ax.set(xlabel=LAYER, ylabel=label, yscale="log")
            named = []
            for (name, arm), marker in zip(arms.items(), "so", strict=True):
                found = moved.by_layer(arm, value).loc[:DEEP]
                look: dict[str, Any] = {"color": colours[name], "marker": marker, "markevery": 5, "markersize": 4}
                (line,) = ax.plot(found.index, found["mean"], **look)
                for travel in moved.travels:  # few seeds: they say more than an interval
                    each = getattr(travel.arms[arm], value)[:DEEP]
                    ax.plot(found.index, each, color=colours[name], linewidth=0.6, alpha=0.6)
                named.append((name, line))
            direct_labels(ax, named)
        _theory(axes[1], moved.by_layer(arms[f"ε = {power(USUAL, 1)}"], "share_before").loc[:DEEP]["mean"])
        usual, tiny = (moved.by_layer(arm, "moved") for arm in arms.values())
        finding = (
            f"With an epsilon of {power(USUAL, 1)} the first layer moves by {e(usual.loc[1, 'mean'])} of its size and "
            f"the linear layer by {e(usual.loc[DEEP, 'mean'])}; with {power(TINY, 1)} the first moves by "
            f"{e(tiny.loc[1, 'mean'])}, and no layer by less than {e(tiny['mean'].min())}"
        )
        caption = (
            f"Plain VGG38 after {moved.steps} steps of Adam on {moved.batch} images each, in float64: how far the "
            "weights of each layer moved, as a share of their norm, and the share of each layer's input that then "
            f"differs between the images of the first batch; dashed: before. {finding}. "
            f"<i>[mean of {seeds(len(moved.travels))}; thin: each]</i>"
        )
        return finish(axes, caption, f"Line charts over the layers. {finding}.")
