"""Does bfloat16 bias training? What the branches of `branch` say, by a rule that could find a bias.

A difference is the mean training loss of a branch in bfloat16 minus that of its twin in float32. Each
order of batches is one independent repetition. Orders of one state share the state, so the verdict is on
this state; several states, early and in the middle of several runs, stand beside each other.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, stats

from vggkit.config import RunConfig
from vggkit.report import render
from vggkit.report.canvas import PANEL, Figure, drawing, finish
from vggkit.report.markup import Html, as_html
from vggkit.runs.records import Run, segments
from vggkit.study import title

LEVEL = 0.95
POWER = 0.8

RULE = f"""\
From one state of a run, epochs are trained in both precisions on the same batches, for several orders of
batches drawn anew. The difference is the mean training loss of an epoch in bfloat16 minus that in float32,
averaged over the epochs of a branch. A state's interval is Student's t over its orders, simultaneous over
all states shown (Bonferroni, together {100 * LEVEL:.0f} %). A bias is found where an interval leaves out zero. Beside
it stands the smallest bias that this number of orders, with this spread, would have found in {100 * POWER:.0f} % of
cases."""


@dataclass(frozen=True)
class Difference:
    """bfloat16 minus float32 of one state: mean over orders with its simultaneous interval.

    Attributes:
        name: the run's name.
        epoch: the state's epoch.
        begun: how many orders of batches there are.
        orders: of how many of these both branches were trained, on one machine, with a loss that stayed finite.
        mean: mean difference of the training loss (cross-entropy).
        half: half the interval's width; infinite with one order.
        detectable: smallest bias found with a probability of `POWER`.
        loss: mean training loss in float32, for scale.
    """

    name: str
    epoch: int
    begun: int
    orders: int
    mean: float
    half: float
    detectable: float
    loss: float

    @property
    def biased(self) -> bool:
        return abs(self.mean) > self.half


def paired_losses(branches: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Mean training loss of each order (rows) in each precision (columns), of those trained to their end in both.

    Both of a pair are of one kind of machine and one version of torch, and fused both or neither: else the difference
    would be theirs as well.
    """
    losses = {
        (one["order"], one["precision"], _alike(one)): [row["train_loss"] for row in one["epochs"]] for one in branches
    }
    means = {key: float(np.mean(found)) for key, found in losses.items() if None not in found}
    frame = pd.Series(means, dtype=float).unstack(1) if means else pd.DataFrame()
    frame = frame.reindex(columns=["float32", "bfloat16"]).dropna().sort_index()
    return frame.droplevel(1) if len(frame) else frame


def _alike(branch: dict[str, Any]) -> str:
    """What two branches must have in common to differ in their precision alone; unknown of old ones."""
    return str([branch.get("made", {}).get(name) for name in ("device", "threads", "torch", "fused")])


def differences(states: Sequence[dict[str, Any]]) -> list[Difference]:
    """One `Difference` for each state that has an order in both precisions."""
    paired = [(kept, paired_losses(kept["branches"])) for kept in states]
    paired = [(kept, losses) for kept, losses in paired if len(losses)]
    return [
        Difference(
            RunConfig.from_dict(kept["config"]).name,
            kept["epoch"],
            len({one["order"] for one in kept["branches"]}),
            len(losses),
            *interval((losses["bfloat16"] - losses["float32"]).to_numpy(), family=len(paired)),
            float(losses["float32"].mean()),
        )
        for kept, losses in paired
    ]


def interval(values: np.ndarray, family: int = 1) -> tuple[float, float, float]:
    """Mean, half the width of its t interval, and the smallest mean found with a probability of `POWER`.

    Args:
        values: the differences, one for each order.
        family: number of such intervals that together shall hold at `LEVEL`.

    Returns:
        The three; the last two are infinite with fewer than two values.
    """
    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return mean, math.inf, math.inf
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    reach = float(stats.t.ppf(1 - (1 - LEVEL) / (2 * family), count - 1))
    return mean, reach * error, error * _detectable(reach, count - 1)


@functools.cache
def _detectable(reach: float, freedom: int) -> float:
    """The mean, in standard errors, whose t statistic leaves ±`reach` with a probability of `POWER`.

    The probability is averaged over quantiles of the spread's distribution (chi-square): SciPy's own
    noncentral t gives no number for some of the shifts that are looked at here.
    """
    quantiles = (np.arange(2000) + 0.5) / 2000
    bounds = reach * np.sqrt(stats.chi2.ppf(quantiles, freedom) / freedom)

    def excess(shift: float) -> float:
        found = stats.norm.sf(bounds - shift) + stats.norm.cdf(-bounds - shift)
        return float(found.mean()) - POWER

    return float(optimize.brentq(excess, 0, 10 * reach + 10))


def html(states: Sequence[dict[str, Any]]) -> Html:
    """A row for each state: the difference, its interval, what would have been found, and the verdict, for a page."""
    shown = pd.DataFrame(
        [
            {
                "run": title(one.name),
                "after epoch": str(one.epoch),
                "orders": str(one.orders) + f" of {one.begun}" * (one.orders < one.begun),
                "loss in float32": f"{one.loss:.3f}",
                "bfloat16 − float32": _interval_text(one),
                "smallest that would be found": f"{one.detectable:.4f}" if math.isfinite(one.detectable) else "–",
                "bias": verdict(one),
            }
            for one in differences(states)
        ]
    )
    return render.html(shown, "Training loss in bfloat16 beside float32", text=("run", "bias"))


def verdict(one: Difference) -> str:
    return "cannot be told" if math.isinf(one.half) else "found" if one.biased else "not found"


def _interval_text(one: Difference) -> str:
    half = f" ± {one.half:.4f}" if math.isfinite(one.half) else ""
    return f"{one.mean:+z.4f}{half}".replace("-", "−")


def figure(states: Sequence[dict[str, Any]]) -> Figure:
    """A row for each state: each order's difference, and the mean with its simultaneous interval."""
    found = differences(states)
    paired = [losses for losses in (paired_losses(kept["branches"]) for kept in states) if len(losses)]
    with drawing(1.1 * PANEL, height=1.2 + 0.55 * len(found)) as axes:
        for place, (one, losses) in enumerate(zip(found, paired, strict=True)):
            values = losses["bfloat16"] - losses["float32"]
            axes[0].plot(values, np.full(len(values), -place), "o", color="#8c8c8c", markersize=5, alpha=0.8)
            half = one.half if math.isfinite(one.half) else 0.0
            axes[0].errorbar(one.mean, -place - 0.18, xerr=half, fmt="D", color="#2b6cb0", capsize=4, markersize=5)
        axes[0].axvline(0, color="#8c8c8c", linewidth=1)
        names = [f"{title(one.name)}, epoch {one.epoch}" for one in found]
        axes[0].set_yticks(-np.arange(len(found)), names)
        axes[0].set(ylim=(-len(found) + 0.4, 0.6), xlabel="loss, bfloat16 − float32")
        caption = (
            f"{told(states)} Each point is one order of batches, trained in both precisions from one state; below it "
            "stand the mean of the orders and its interval. "
            f'<small class="vggkit-origin">[{as_html("; ".join(sorted(machines(states))))}]</small>'
        )
        return finish(axes, caption, f"Dots and intervals of {len(found)} states around zero. {told(states)}")


def machines(states: Sequence[dict[str, Any]]) -> set[str]:
    """What trained the branches: another machine's bfloat16 sums in another order."""
    return {one["made"]["device"] for kept in states for one in kept["branches"] if "made" in one}


def told(states: Sequence[dict[str, Any]]) -> str:
    """What the branches found, in a sentence or two."""
    found = differences(states)
    biased = [one for one in found if one.biased]
    if not found:
        return "No state has been trained on in both precisions yet."
    if biased:
        listed = " and ".join(f"{title(one.name)} after epoch {one.epoch}" for one in biased)
        return f"bfloat16 changes the training loss of {listed}: the interval leaves out zero."
    known = [one.detectable for one in found if math.isfinite(one.detectable)]
    if not known:
        return "From one order of batches alone nothing can be told."
    return (
        f"In none of the {len(found)} states tried does bfloat16 shift the training loss by more than chance; a shift "
        f"of {max(known):.4f} would have been found in each with a probability of {100 * POWER:.0f} % at least. Each "
        f"state was trained on for {_lengths(states)}: what may add up over more than that, these branches do not tell."
    )


def _lengths(states: Sequence[dict[str, Any]]) -> str:
    """For how many epochs the branches were trained, in words."""
    lengths = sorted({len(branch["epochs"]) for state in states for branch in state["branches"]})
    return f"{' or '.join(map(str, lengths))} epoch{'s' * (lengths != [1])}"


def untried(runs: Sequence[Run], states: Sequence[dict[str, Any]]) -> str:
    """On which machines runs computed in bfloat16 without a state of theirs having been tried, in a sentence, or ""."""
    made = {part["device"] for run in runs for part in segments(run) if part["precision"] == "bfloat16"}
    others = sorted(filter(None, made - machines(states)))
    return f"No state was tried on {' and '.join(others)}, where runs were trained in bfloat16 too." if others else ""
