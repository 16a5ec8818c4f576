"""Numbers of untrained networks, and what theory has them be: means over seeds with their intervals, and slopes.

A mean of several seeds is that of the logarithm, its interval by Student's t, where values span many powers
of ten, as all do that `ARITHMETIC` does not name.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from vggkit.networks import theory
from vggkit.report.intervals import LEVEL
from vggkit.runs.epsilon import Arm, Travel
from vggkit.runs.propagation import Measurement, networks

VARIANTS = {"plain": (False, False), "BN": (True, False), "RC": (False, True), "BN+RC": (True, True)}
"""Name in figures: has it BN, has it RC."""
ARITHMETIC = ("effective_rank", "error_correlation", "float32_features", "float32_gradient")
DEEP = 38
STEP32, STEP64 = (float(np.finfo(kind).eps) for kind in (np.float32, np.float64))
ABOVE_ROUNDING = 100  # times float64's step: what is smaller is not taken for a value when a slope is fitted


class Untrained:
    """The measurements of all seeds, ready to be asked for means and intervals."""

    def __init__(self, measured: Sequence[Measurement]) -> None:
        self.images = measured[0].images
        self.machine = measured[0].machine
        self.frame = networks(measured)
        self.frame["share"] = self.frame["between_images"] / self.frame["size"]
        kinds = {flags: name for name, flags in VARIANTS.items()}
        self.frame["variant"] = [
            kinds[bool(bn), bool(rc)] for bn, rc in zip(self.frame["batch_norm"], self.frame["residual"], strict=True)
        ]

    def rows(self, variant: str, initialisation: str = "default", depth: int | None = None) -> pd.DataFrame:
        """Of one kind of network the rows of all seeds; of one depth, or of all."""
        chosen = (self.frame["variant"] == variant) & (self.frame["initialisation"] == initialisation)
        return self.frame[chosen if depth is None else chosen & (self.frame["depth"] == depth)]

    def seeds(self, depth: int = DEEP, initialisation: str = "default") -> int:
        return int(self.rows("plain", initialisation, depth)["seed"].nunique())

    def by_layer(self, variant: str, value: str, initialisation: str = "default", depth: int = DEEP) -> pd.DataFrame:
        """Mean and interval for each layer, those where there is nothing to measure left out."""
        rows = self.rows(variant, initialisation, depth).dropna(subset=value)
        return _intervals(rows.groupby("layer")[value], value)

    def by_depth(self, variant: str, value: str, initialisation: str = "default") -> pd.DataFrame:
        """Mean and interval for each depth of `end` or `growth`."""
        return _intervals(self.ends(variant, initialisation)[value].groupby("depth"), value)

    def ends(self, variant: str, initialisation: str = "default") -> pd.DataFrame:
        """For each depth and seed the `share` at the linear layer, and by what the `error` grows back to layer 2."""
        rows = self.rows(variant, initialisation).set_index(["depth", "seed"])
        last = rows[rows["layer"] == rows.index.get_level_values("depth")]
        return pd.DataFrame({"share": last["share"], "growth": rows[rows["layer"] == 2]["error"] / last["error"]})

    def at(self, variant: str, value: str, layer: int, initialisation: str = "default") -> pd.Series:
        """Mean, low and high of a value at one layer of the networks of `DEEP` layers."""
        return self.by_layer(variant, value, initialisation).loc[layer]

    def factor(self, variant: str, value: str) -> pd.Series:
        """By what `share` or `growth` changes from one layer more: slope of its logarithm over the depth, by seed."""
        ends = self.ends(variant)[value]
        ends = ends[ends > ABOVE_ROUNDING * STEP64] if value == "share" else ends[ends > 0]
        slopes = [_slope(found.droplevel("seed")) for _, found in ends.groupby("seed")]
        return interval(np.exp(slopes))


def interval(values: Any, *, arithmetic: bool = False) -> pd.Series:
    """Mean over seeds, and its interval at `LEVEL` by Student's t; of logarithms unless `arithmetic`.

    With one seed there is no interval; where a value is 0 the logarithm is, too: the mean is then 0.
    """
    numbers = np.asarray(values, dtype=float)
    if not arithmetic and (numbers <= 0).any():
        return pd.Series({"mean": 0.0, "low": 0.0, "high": 0.0})
    shown = numbers if arithmetic else np.log(numbers)
    reach = np.nan
    if len(shown) > 1:
        reach = stats.t.ppf((1 + LEVEL) / 2, len(shown) - 1) * shown.std(ddof=1) / np.sqrt(len(shown))
    found = pd.Series({"mean": shown.mean(), "low": shown.mean() - reach, "high": shown.mean() + reach})
    return found if arithmetic else np.exp(found)


def _intervals(groups: Any, value: str) -> pd.DataFrame:
    return pd.DataFrame({key: interval(values, arithmetic=value in ARITHMETIC) for key, values in groups}).T


def _slope(values: pd.Series) -> float:
    """Of the logarithm, over the index."""
    return float(np.polyfit(values.index, np.log(values), 1)[0])


def expected_share(measured: Untrained, initialisation: str = "default", depth: int = DEEP) -> pd.Series:
    """By layer, from the second: the share of a plain network's input that theory has differ between images.

    It begins with what is measured there, behind the entry, which has BN; from there on nothing is fitted.
    """
    begin = measured.rows("plain", initialisation, depth).query("layer == 2")
    found = theory.forward(depth, initialisation, begin["correlation_gap"].mean(), (begin["size"] ** 2).mean())
    return pd.Series([gap**0.5 for _, gap in found], index=range(2, depth + 1))


def expected_error(measured: Untrained, initialisation: str = "default") -> pd.Series:
    """By layer, from the second: the norm of a plain network's error gradient; it ends with what is measured."""
    end = measured.at("plain", "error", DEEP, initialisation)["mean"]
    return pd.Series(theory.backward(DEEP, initialisation), index=range(2, DEEP + 1)) * end


def expected_factor(measured: Untrained, variant: str, value: str) -> float:
    """What `Untrained.factor` is by theory, over the same depths."""
    if variant == "BN":
        return math.sqrt(theory.batch_norm_gain())
    depths = sorted(set(measured.ends(variant)[value].index.get_level_values("depth")))
    if value == "growth":
        found = pd.Series({depth: theory.backward(depth, "default")[0] for depth in depths})
    else:
        found = pd.Series({depth: expected_share(measured, depth=depth).iloc[-1] for depth in depths})
        found = found[found > ABOVE_ROUNDING * STEP64]
    return float(np.exp(_slope(found)))


class Moved:
    """The steps of Adam of all seeds."""

    def __init__(self, travels: Sequence[Travel]) -> None:
        self.travels = travels
        self.steps, self.batch = travels[0].steps, travels[0].batch

    def by_layer(self, arm: Arm, value: str) -> pd.DataFrame:
        """Mean and interval for each layer of one of `Movement`'s values."""
        values = np.array([getattr(travel.arms[arm], value) for travel in self.travels])
        return pd.DataFrame({layer: interval(values[:, layer - 1]) for layer in range(1, values.shape[1] + 1)}).T
