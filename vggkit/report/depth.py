"""At which depth plain networks stop learning: what short runs say, beside what theory says of untrained networks."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vggkit.config import ADAM_EPSILON, RunConfig
from vggkit.report.canvas import PANEL, Figure, direct_labels, drawing, finish, widen
from vggkit.report.figures import COLOURS, LEAST_SPAN
from vggkit.report.measures import CHANCE
from vggkit.report.naming import network
from vggkit.report.prose import origin
from vggkit.report.render import power
from vggkit.report.tried import SHORT, Found, accuracy, config, learning
from vggkit.report.untrained import Untrained
from vggkit.runs.records import Run
from vggkit.study import DEPTHS, SUITES, Asked

KINDS = {
    "plain": ("vgg38", {}, 0, "s", "-"),
    "BN": ("vgg38_bn", {}, 1, "^", "-"),
    "RC": ("vgg38_rc", {}, 2, "D", "-"),
    "BN+RC": ("vgg38_bn_rc", {}, 3, "v", "-"),
    "plain, He": ("vgg38", {"initialisation": "he"}, 0, "o", "-."),
}
"""Of the networks of `DEPTHS`: configuration, settings, colour, marker, line."""


BFLOAT16 = 2.0**-7  # between 1 and the next larger number
WITH_BN = (Asked("vgg08"), Asked("vgg08", {"batch_norm": True}), Asked("vgg38_bn_rc"))
"""The shallow network without and with BN, and the deep one."""


def runs_of(found: Found, kind: str, depth: int) -> Sequence[Run]:
    """The runs of a kind of network of this depth. Of RC there are none at `DEPTHS[0]`, which has no place for them."""
    name, settings, *_ = KINDS[kind]
    return found.get(replace(config(Asked(name, settings)), depth=depth).name, ())


def by_depth(found: Found) -> pd.DataFrame:
    """Mean test accuracy in per cent, depths by kinds; missing where there is no run, or all diverged."""
    table = {kind: [accuracy(runs_of(found, kind, depth)).mean() for depth in DEPTHS] for kind in KINDS}
    return pd.DataFrame(table, index=list(DEPTHS), dtype="float64")


def margins(measured: Untrained) -> dict[str, pd.Series]:
    """What training would need of the untrained plain network, by depth, as a multiple of the least that is of use.

    `gradient`: that of the first layer's weights, of Adam's epsilon. `signal`: what differs between images at the
    linear layer, of the smallest difference that float32 can hold.
    """
    first = measured.rows("plain").query("layer == 1").groupby("depth")["weight_gradient"]
    return {
        "gradient": np.exp(first.apply(lambda found: np.log(found).mean())) / ADAM_EPSILON,
        "signal": measured.by_depth("plain", "share")["mean"] / float(np.finfo(np.float32).eps),
    }


def predicted(measured: Untrained) -> dict[str, int | None]:
    """The first depth at which each of `margins` is below 1: where, by theory, training has nothing to go by."""
    return {what: _first(margin.index[margin < 1]) for what, margin in margins(measured).items()}


def _first(depths: Iterable[int]) -> int | None:
    return min((int(depth) for depth in depths), default=None)


class Stops(NamedTuple):
    """The depths at which networks of a kind learn, with each seed or with some, and those at which they do not."""

    learn: list[int]
    mixed: list[int]
    fail: list[int]
    untried: list[int]


def stops(found: Found, kind: str) -> Stops:
    result = Stops([], [], [], [])
    for depth in DEPTHS:
        runs = runs_of(found, kind, depth)
        learned = learning(runs)
        if not runs:
            result.untried.append(depth)
        elif learned == len(runs):
            result.learn.append(depth)
        else:
            (result.mixed if learned else result.fail).append(depth)
    return result


def told(found: Found, measured: Untrained) -> str:
    """At which depth plain networks stop, and whether theory says so, as Markdown."""
    expected, margin = predicted(measured), margins(measured)
    text = (
        "Before training the first layer's gradient in plain networks is below Adam's epsilon "
        f"{_from(margin['gradient'])}, and what differs between images at the linear layer below float32's step "
        f"{_from(margin['signal'])}."
    )
    plain = stops(found, "plain")
    if len(plain.untried) == len(DEPTHS):
        return f"{text} At which depth they stop learning is not known: there is no run yet."
    text += f" After {SUITES[SHORT].settings['epochs']} epochs plain networks {_outcomes(plain)}."
    if plain.learn and plain.fail and not plain.mixed and max(plain.learn) < min(plain.fail):
        lost = [what for what, depth in expected.items() if depth and max(plain.learn) < depth <= min(plain.fail)]
        where = f"where the {' and the '.join(lost)} {'is' if len(lost) == 1 else 'are'} lost before training"
        text += f" They stop {where if lost else 'at another depth than either of these says'}."
        deepest = max(plain.learn)
        kept = margin["signal"].get(deepest, math.nan) * float(np.finfo(np.float32).eps)
        if kept < BFLOAT16 and "bfloat16" in {run.config.precision for run in runs_of(found, "plain", deepest)}:
            text += (
                f" The runs compute in bfloat16, whose step is {power(BFLOAT16, 1)}: with {deepest} layers the signal "
                f"is {power(kept, 1)} before training, far below that step, and they learn all the same."
            )
    he = stops(found, "plain, He")
    text += f" With the scale of He they {_outcomes(he)}." * (len(he.untried) < len(DEPTHS))
    table = by_depth(found)
    ends = {kind: table[kind].dropna() for kind in ("BN", "RC", "BN+RC")}
    others = [
        f"with {kind} {known.iloc[0]:.0f} % at {known.index[0]} layers and {known.iloc[-1]:.0f} % at {known.index[-1]}"
        for kind, known in ends.items()
        if len(known) > 1
    ]
    return text + f" Test accuracies {'; '.join(others)}." * bool(others)


def answer(found: Found, measured: Untrained) -> str:
    """At which depth plain networks stop and what that goes with, in a sentence or two, as Markdown."""
    plain, expected = stops(found, "plain"), predicted(measured)
    if len(plain.untried) == len(DEPTHS):
        return told(found, measured)
    first = f"After {SUITES[SHORT].settings['epochs']} epochs plain networks {_outcomes(plain)}."
    lost = [f"the {what} from {depth} on" for what, depth in expected.items() if depth]
    return f"{first} Before training they have lost {' and '.join(lost)}." if lost else first


def alone_told(short: Found, full: Found) -> str:
    """What BN brings without depth, and what depth and RC add to it, by runs of either length, as Markdown."""
    lengths = []
    for found, epochs in ((full, RunConfig().epochs), (short, SUITES[SHORT].settings["epochs"])):
        reached = {network(one): accuracy(found.get(one.name, ())).mean() for one in map(config, WITH_BN)}
        if not any(map(math.isnan, reached.values())):
            listed = ", ".join(f"{name} {value:.1f} %" for name, value in reached.items())
            lengths.append(f"after {epochs} epochs {listed}")
    if not lengths:
        return ""
    return (
        "Table 1 sets deep networks with BN and RC beside a shallow one that has neither. Which part of the difference "
        f"is depth's, VGG08 with BN shows: {'; '.join(lengths)}. The step from the first to the second is BN's alone; "
        "from the second to the third, what depth and RC add to it."
    )


def _outcomes(found: Stops) -> str:
    learn = [f"with {_listed(found.learn)} layers"] * bool(found.learn)
    learn += [f"in some seeds with {_listed(found.mixed)}"] * bool(found.mixed)
    fail = f"with {_listed(found.fail)}"
    words = f"learn {', '.join(learn)}" + f", not {fail}" * bool(found.fail) if learn else f"do not learn {fail} layers"
    return words + f"; with {_listed(found.untried)} there is no run yet" * bool(found.untried)


def _from(margin: pd.Series) -> str:
    """From which depth on it is below 1, and by how much it was not at the depth before."""
    depth = _first(margin.index[margin < 1])
    if depth is None:
        return "at no depth that was measured"
    before = margin.loc[: depth - 1].tail(1)
    last = "".join(f" (with {at} it is still {value:.2g} times that)" for at, value in before.items())
    return f"from {depth} layers on{last}"


def _listed(depths: Sequence[int]) -> str:
    return (" and " if len(depths) == 2 else ", ").join(map(str, depths))


def figure(found: Found, measured: Untrained) -> Figure:
    """Test accuracy after the short runs against the depth; dotted where theory has the plain network's losses."""
    table = by_depth(found)
    points = [(kind, depth) for kind in KINDS for depth in DEPTHS if depth > DEPTHS[0] or "RC" not in kind]
    missing = sum(not runs_of(found, *point) for point in points)
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
        for (words, depth), side in zip(predicted(measured).items(), ("right", "left"), strict=True):
            if depth is not None and depth <= DEPTHS[-1]:
                ax.axvline(depth, color="#808080", linestyle="--", linewidth=1)
                ax.annotate(words, (depth, 1), xycoords=("data", "axes fraction"), ha=side, fontsize=10,
                            xytext=(-3 if side == "right" else 3, -12), textcoords="offset points")  # fmt: skip
        widen(ax, LEAST_SPAN["accuracy"])
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + 0.08 * (high - low))  # room for the words
        direct_labels(ax, named)
        finding = told(found, measured)
        first = f"{missing} of {len(points)} points have no run yet. " if missing else ""
        caption = (
            f"{first}{finding} Official test accuracy after {SUITES[SHORT].settings['epochs']} epochs on all images, "
            "mean over the seeds that there are; dashed: the first depths at which, before training, the first layer's "
            "gradient is below Adam's epsilon, and the signal below float32's step; dotted: guessing. "
            f"{origin([run for point in points for run in runs_of(found, *point)])}"
        )
        return finish((ax,), caption, f"Line chart of accuracy by depth. {finding}")
