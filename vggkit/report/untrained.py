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
from vggkit.runs.propagation import COSINES, Measurement, networks

VARIANTS = {"plain": (False, False), "BN": (True, False), "RC": (False, True), "BN+RC": (True, True)}
"""Name in figures: has it BN, has it RC."""
ARITHMETIC = ("effective_rank", *COSINES)
DEEP = 38
STEP32, STEP64 = (float(np.finfo(kind).eps) for kind in (np.float32, np.float64))
STEPS = {"float32": STEP32, "bfloat16": 2.0**-7}
"""Of each precision of training, between 1 and the next larger number."""
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

    def known(self, variant: str, value: str, depth: int = DEEP) -> int:
        """How many seeds have this value."""
        return int(self.rows(variant, depth=depth).dropna(subset=value)["seed"].nunique())

    def by_layer(self, variant: str, value: str, initialisation: str = "default", depth: int = DEEP) -> pd.DataFrame:
        """Mean and interval for each layer, those where there is nothing to measure left out."""
        rows = self.rows(variant, initialisation, depth).dropna(subset=value)
        return intervals(rows.set_index("layer")[value], arithmetic=value in ARITHMETIC)

    def by_depth(self, variant: str, value: str, initialisation: str = "default") -> pd.DataFrame:
        """Mean and interval for each depth of `share` or `growth`, see `ends`."""
        return intervals(self.ends(variant, initialisation)[value].droplevel("seed"))

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


def interval(values: Any) -> pd.Series:
    """As `intervals`, of one group's values; of their logarithms."""
    return intervals(pd.Series(np.asarray(values, dtype=float), index=[0] * len(values))).iloc[0]


def intervals(values: pd.Series, *, arithmetic: bool = False) -> pd.DataFrame:
    """Mean, low and high for each label of the index, whose values are those of several seeds.

    By Student's t at `LEVEL`, of logarithms unless `arithmetic`. With fewer than three seeds there is no interval;
    where a value is 0, which has no logarithm, all three are 0.
    """
    positive = values.where(values > 0)
    groups = (values if arithmetic else np.log(positive)).groupby(level=0)
    count, mean = groups.count(), groups.mean()
    reach = stats.t.ppf((1 + LEVEL) / 2, (count - 1).where(count > 2)) * groups.sem()
    found = pd.DataFrame({"mean": mean, "low": mean - reach, "high": mean + reach})
    if arithmetic:
        return found
    return np.exp(found).where(values.groupby(level=0).min() > 0, 0.0)


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
        found = [pd.Series(getattr(travel.arms[arm], value)) for travel in self.travels]
        return intervals(pd.concat(found)).rename(index=lambda place: place + 1)
