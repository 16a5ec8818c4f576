"""At which depth plain networks lose gradient and signal before training, measured and by theory, and who learns there.

Theory starts from two numbers that are measured: the first layer's gradient with the fewest layers, and the
differences between images behind the entry. Nothing is fitted.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from vggkit.config import ADAM_EPSILON
from vggkit.networks import theory
from vggkit.report.canvas import PANEL, Figure, drawing, finish
from vggkit.report.depth import EXACT, KINDS, PLAIN, BySuite, listed, runs_of
from vggkit.report.figures import COLOURS
from vggkit.report.labels import direct_labels
from vggkit.report.tried import learning
from vggkit.report.untrained import STEPS, Untrained, expected_share
from vggkit.runs.propagation import ROUNDED
from vggkit.runs.records import Run
from vggkit.study import DEPTHS

HALF = 0.5
"""The cosine with float64 above which a precision counts as keeping what tells images apart."""
RUNS = {"float32": EXACT, "bfloat16": PLAIN}
"""Of each precision the kind of `depth.KINDS` that is trained in it."""


def gradient_margin(measured: Untrained) -> pd.Series:
    """By depth the gradient of the first layer's weights in the untrained plain network, in units of Adam's epsilon."""
    first = measured.rows("plain").query("layer == 1").groupby("depth")["weight_gradient"]
    margin: pd.Series = np.exp(first.apply(lambda found: np.log(found).mean())) / ADAM_EPSILON
    return margin


def expected_margin(measured: Untrained) -> pd.Series:
    """`gradient_margin` by theory, for `DEPTHS`: that of the fewest layers, and by what the error shrinks with more."""
    norms = pd.Series({depth: theory.backward(depth, "default")[0] for depth in DEPTHS})
    return norms / norms[DEPTHS[0]] * gradient_margin(measured)[DEPTHS[0]]


def told_apart(measured: Untrained) -> pd.DataFrame:
    """What each precision keeps, depths by precisions, of what tells images apart before the plain linear layer.

    The cosine with the same in float64, mean over the seeds: 1 where it is the same, 0 where it is rounding alone.
    """
    found = {
        precision: [measured.by_layer("plain", f"{precision}_features", depth=at)["mean"].get(at) for at in DEPTHS]
        for precision in ROUNDED
    }
    return pd.DataFrame(found, index=list(DEPTHS), dtype="float64")  # missing where it was not measured


def expected_cosine(measured: Untrained) -> pd.DataFrame:
    """`told_apart` by theory: one rounding of what it has differ between images, see `theory.rounded_cosine`."""
    shares = [float(expected_share(measured, depth=depth).iloc[-1]) for depth in DEPTHS]
    found = {precision: [theory.rounded_cosine(share, STEPS[precision]) for share in shares] for precision in ROUNDED}
    return pd.DataFrame(found, index=list(DEPTHS))


class Crossing(NamedTuple):
    """The last depth that keeps something and the first that has lost it."""

    kept: int
    lost: int


def crossing(values: pd.Series, bound: float) -> Crossing | None:
    """Between which neighbouring depths a value falls below a bound; None where it does not, or does not stay there."""
    above = [bool(value > bound) for value in values]
    count = sum(above)
    if above != [True] * count + [False] * (len(above) - count) or not 0 < count < len(above):
        return None
    return Crossing(int(values.index[count - 1]), int(values.index[count]))


def told(found: BySuite, measured: Untrained) -> str:
    """Where theory has gradient and signal lost, and whether plain networks stop there, as Markdown."""
    margins, expected = gradient_margin(measured), expected_margin(measured)
    text = []
    if at := crossing(expected, 1.0):
        first, second = (
            f"{depth} layers ({expected[depth]:.2g} times epsilon; measured: {margins[depth]:.2g})" for depth in at
        )
        text.append(
            "By theory, which starts from the gradient measured with "
            f"{DEPTHS[0]} layers, the first layer's gradient falls below Adam's epsilon between {first} and {second}."
        )
    cosines = expected_cosine(measured)
    edges = {precision: crossing(cosines[precision], HALF) for precision in ROUNDED}
    if signal := [f"between {edge.kept} and {edge.lost} layers in {one}" for one, edge in edges.items() if edge]:
        text.append(f"The signal falls into rounding {', '.join(signal)}.")
    return " ".join([*text, *_stop(found, measured)])


def _stop(found: BySuite, measured: Untrained) -> list[str]:
    """Whether the runs that there are stop where the gradient is lost, and whether where the signal is."""
    margins, cosines = gradient_margin(measured), told_apart(measured)
    runs = {(depth, precision): runs_of(found, kind, depth) for precision, kind in RUNS.items() for depth in DEPTHS}
    runs = {place: group for place, group in runs.items() if group}
    kept = {place: group for place, group in runs.items() if margins[place[0]] > 1}
    lost = {place: group for place, group in runs.items() if place not in kept}
    if not kept or not lost:
        return []
    some = sorted({depth for (depth, _), group in lost.items() if learning(group)})
    text = [
        f"With Adam's usual epsilon, of the runs whose gradient was kept {_share(kept)} learn, "
        f"of the others {_share(lost)}"
    ]
    text[0] += f", all with {listed(some)} layers." if some else "."
    deaf = [
        f"VGG{depth:02d} in {precision} (a cosine of {cosines.loc[depth, precision]:.2g})"
        for (depth, precision), group in runs.items()
        if cosines.loc[depth, precision] < HALF and learning(group) == len(group)
    ]
    if deaf:
        learns = "keep no signal, and learn" if len(deaf) > 1 else "keeps no signal, and learns"
        text.append(f"Rounding alone does not stop them: {' and '.join(deaf)} {learns}.")
    edge = crossing(expected_margin(measured), 1.0)
    whole = all(learning(group) == len(group) for group in kept.values())
    if edge and whole and (not some or some == [edge.lost]):
        text.append(
            "So they stop where theory has the gradient lost. Whether that is the cause, or what else is lost by then, "
            "the next section asks."
        )
    return text


def _share(runs: dict[tuple[int, str], Sequence[Run]]) -> str:
    return f"{sum(map(learning, runs.values()))} of {sum(map(len, runs.values()))}"


def figure(measured: Untrained) -> Figure:
    """What plain networks keep before training, by depth, measured and by theory: gradient, and signal."""
    margins, cosines = gradient_margin(measured).loc[list(DEPTHS)], told_apart(measured)
    with drawing(PANEL, PANEL, height=3.6) as (gradient, signal):
        for ax in (gradient, signal):
            ax.set(xlabel="depth (layers)", xticks=list(DEPTHS), xlim=(DEPTHS[0] - 1, DEPTHS[-1] + 1))
        gradient.set(ylabel="gradient of the first layer / epsilon", yscale="log")
        gradient.axhline(1, color="#808080", linestyle=":", linewidth=1)
        _beside(gradient, {"plain": (margins, expected_margin(measured), KINDS[PLAIN].look)})
        signal.set(ylabel="cosine with float64", ylim=(-0.05, 1.05))
        expected = expected_cosine(measured)
        _beside(signal, {one: (cosines[one], expected[one], KINDS[kind].look) for one, kind in RUNS.items()})
        caption = (
            "What plain networks keep before training, by their depth: marks are measured, lines are theory's. First, "
            "the mean gradient of the first layer's weights in units of Adam's epsilon, which the dotted line marks. "
            "Second, the cosine between what differs between images at the linear layer in each precision and the same "
            f"in float64. <i>[{measured.images} images, {measured.seeds()} seeds]</i>"
        )
        return finish((gradient, signal), caption, f"Line charts by depth. {caption.partition(' <i>')[0]}")


def _beside(ax: Axes, drawn: dict[str, tuple[pd.Series, pd.Series, tuple[int, str, str]]]) -> None:
    """Of each name what is measured, as marks, and theory's line."""
    named = []
    for name, (values, expected, (colour, marker, style)) in drawn.items():
        look: dict[str, Any] = {"color": COLOURS[colour]}
        ax.plot(values.index, values, marker=marker, markersize=5, linestyle="none", label=f"{name}, measured", **look)
        (line,) = ax.plot(expected.index, expected, linestyle=style, linewidth=1.4, **look)
        named.append((name, line))
    direct_labels(ax, named)
