"""At which depth plain networks stop learning: what short runs say, beside what theory says of untrained networks."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from vggkit.config import ADAM_EPSILON
from vggkit.report.canvas import PANEL, Figure, direct_labels, drawing, finish, widen
from vggkit.report.figures import COLOURS, LEAST_SPAN
from vggkit.report.further import SHORT, Found, accuracy, config
from vggkit.report.measures import CHANCE
from vggkit.report.untrained import Untrained
from vggkit.report.verdicts import LEARNS
from vggkit.study import DEPTHS, SUITES, Asked

KINDS = {
    "plain": ("vgg38", {}, 0, "s", "-"),
    "BN": ("vgg38_bn", {}, 1, "^", "-"),
    "RC": ("vgg38_rc", {}, 2, "D", "-"),
    "BN+RC": ("vgg38_bn_rc", {}, 3, "v", "-"),
    "plain, He": ("vgg38", {"initialisation": "he"}, 0, "o", "-."),
}
"""Of the networks of `DEPTHS`: configuration, settings, colour, marker, line."""


def by_depth(found: Found) -> pd.DataFrame:
    """Mean test accuracy in per cent, depths by kinds; missing where there is no run, or all diverged."""
    table = pd.DataFrame(index=list(DEPTHS), columns=list(KINDS), dtype="float64")
    for kind, (name, settings, *_) in KINDS.items():
        for depth in DEPTHS:
            # At depth 8 there is no shortcut: with and without RC it is one network.
            wanted = replace(config(Asked(name, settings)), depth=depth)
            wanted = replace(wanted, residual=wanted.residual and depth > DEPTHS[0])
            table.loc[depth, kind] = accuracy(found.get(wanted.name, ())).mean()
    return table


def predicted(measured: Untrained) -> dict[str, int | None]:
    """The first depth at which theory's two losses are complete in the untrained plain network, by what is lost.

    `gradient`: that of the first layer's weights is below Adam's epsilon. `signal`: what differs between images at the
    linear layer is below the smallest difference that float32 can hold.
    """
    share = measured.by_depth("plain", "share")["mean"]
    first = measured.rows("plain").query("layer == 1").groupby("depth")["weight_gradient"]
    gradient = np.exp(first.apply(lambda found: np.log(found).mean()))
    return {
        "gradient": _first(gradient.index[gradient < ADAM_EPSILON]),
        "signal": _first(share.index[share < float(np.finfo(np.float32).eps)]),
    }


def _first(depths: Iterable[int]) -> int | None:
    return min((int(depth) for depth in depths), default=None)


def stops(table: pd.DataFrame) -> tuple[list[int], list[int]]:
    """The depths at which plain networks learn, and those at which they guess, of those that have runs."""
    plain = table["plain"].dropna()
    learn = plain > 100 * (CHANCE + LEARNS)
    return [int(depth) for depth in plain.index[learn]], [int(depth) for depth in plain.index[~learn]]


def told(table: pd.DataFrame, measured: Untrained) -> str:
    """At which depth plain networks stop, and whether theory says so, as Markdown."""
    expected = predicted(measured)
    text = (
        "Before training the first layer's gradient is below Adam's epsilon "
        f"{_from(expected['gradient'])}, and what differs between images at the linear layer below float32's step "
        f"{_from(expected['signal'])}."
    )
    learn, guess = stops(table)
    if not learn and not guess:
        return f"{text} At which depth they do is not known: there is no run yet."
    found = " ".join(
        [f"Plain networks of {_listed(learn)} layers learn." if learn else "", f"Those of {_listed(guess)} guess."
         if guess else ""]
    ).strip()  # fmt: skip
    if learn and guess and max(learn) < min(guess):
        lost = [what for what, depth in expected.items() if depth and max(learn) < depth <= min(guess)]
        where = f"where the {' and the '.join(lost)} {'is' if len(lost) == 1 else 'are'} lost before training"
        found += f" They stop {where if lost else 'at another depth than either of these says'}."
    missing = [depth for depth in DEPTHS if depth not in (*learn, *guess)]
    found += f" Of {_listed(missing)} layers there is no run yet." if missing else ""
    ends = table.loc[[DEPTHS[0], DEPTHS[-1]], [kind for kind in KINDS if kind != "plain"]].dropna(axis="columns")
    others = "; ".join(f"{kind} {first:.0f} and {last:.0f} %" for kind, (first, last) in ends.items())
    return f"{text} {found}" + f" With {DEPTHS[0]} and {DEPTHS[-1]} layers: {others}." * bool(others)


def _from(depth: int | None) -> str:
    return "at no depth that was measured" if depth is None else f"from {depth} layers on"


def _listed(depths: Sequence[int]) -> str:
    return ", ".join(map(str, depths))


def figure(table: pd.DataFrame, measured: Untrained) -> Figure:
    """Test accuracy after the short runs against the depth; dotted where theory has the plain network's losses."""
    missing = int(table.isna().to_numpy().sum())
    with drawing(1.1 * PANEL, height=4.0) as (ax,):
        ax.set(xlabel="depth (layers)", ylabel="test accuracy (%)", xticks=list(DEPTHS))
        ax.set_xlim(DEPTHS[0] - 1, DEPTHS[-1] + 1)
        ax.axhline(100 * CHANCE, color="#808080", linestyle=":", linewidth=1)
        named = []
        for kind, (*_, colour, marker, style) in KINDS.items():
            shown = table[kind].dropna()
            if len(shown):
                look: dict[str, Any] = {"color": COLOURS[colour], "marker": marker, "linestyle": style, "markersize": 5}
                (line,) = ax.plot(shown.index, shown, linewidth=1.6, **look)
                named.append((kind, line))
        for words, depth in predicted(measured).items():
            if depth is not None and depth <= DEPTHS[-1]:
                ax.axvline(depth, color="#808080", linestyle="--", linewidth=1)
                ax.annotate(words, (depth, 1), xycoords=("data", "axes fraction"), xytext=(3, -12),
                            textcoords="offset points", fontsize=10)  # fmt: skip
        widen(ax, LEAST_SPAN["accuracy"])
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + 0.08 * (high - low))  # room for the words
        direct_labels(ax, named)
        finding = told(table, measured)
        first = f"{missing} of {table.size} points have no run yet. " if missing else ""
        caption = (
            f"{first}{finding} Official test accuracy after {SUITES[SHORT].settings['epochs']} epochs on all images, "
            "mean over the seeds that there are; dashed: the first depths at which, before training, the first layer's "
            "gradient is below Adam's epsilon, and the signal below float32's step; dotted: guessing."
        )
        return finish((ax,), caption, f"Line chart of accuracy by depth. {finding}")
