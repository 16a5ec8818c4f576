"""What the explorer of measured gradients shows: finished runs, packed so small that its page holds them all.

The page works from a file too, which can read no other file, so the values stand in it. Each value is kept as its
common logarithm in whole steps of `STEP`, and written as the difference to what its neighbours let expect: one
character where that is small, as it nearly always is, so that the server's compression has little left to store.
"""

import math
import os
import string
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.colors import to_hex

from vggkit.report.canvas import NO_COLOUR
from vggkit.report.figures import colour
from vggkit.report.markup import Html, as_script
from vggkit.report.prose import run_settings
from vggkit.runs.records import Run
from vggkit.runs.select import all_runs, is_full
from vggkit.study import STATISTICS, title

STEP = 0.0025
"""Of the common logarithm; values are rounded to the nearest step."""
LARGEST_ERROR = 10 ** (STEP / 2) - 1
"""The most by which rounding changes a value, as a share of it."""
ZERO, MISSING, FAR = "!", "#", "~"
UNUSED = "\"'\\<>&" + ZERO + MISSING + FAR  # of a meaning of their own, some of them in HTML and in JSON
DIGITS = [c for c in string.digits + string.ascii_letters + string.punctuation if c not in UNUSED]
"""One for each difference from -HALF to HALF."""
HALF = len(DIGITS) // 2
PLACES = 4  # digits of a larger difference: enough for any that float64 can have
PAIR = ("vgg38", "vgg38_bn_rc")  # shown first: the report's finding
KINDS = {"layers": "weights of the layers", "bn": "BN scales"}
SHADES = 17  # of the colour map, between which the page interpolates

Values = npt.NDArray[np.float64]


def page_data(results: str | os.PathLike[str], seed: int = 0) -> Html:
    """All that the explorer shows, as a script element of JSON; see `data`.

    Raises:
        ArtifactError: a run is damaged.
    """
    return as_script(data(results, seed), 'id="vggkit-explorer-data"')


def data(results: str | os.PathLike[str], seed: int = 0) -> dict[str, Any]:
    """The runs of one seed in every suite that the book shows, the fullest first, and how to read their values.

    Raises:
        ArtifactError: a run is damaged.
    """
    runs = [run for group in all_runs(results).values() for run in group if run.config.seed == seed]
    return {
        "step": STEP, "zero": ZERO, "missing": MISSING, "far": FAR, "digits": "".join(DIGITS), "places": PLACES,
        "error": LARGEST_ERROR,
        "statistics": {name: {"label": row.label, "unit": row.unit} for name, row in STATISTICS.items()},
        "kinds": KINDS,
        "titles": {run.config.name: title(run.config.name) for run in runs},
        "inks": {run.config.name: colour(run.config.name) for run in runs},
        "pair": [name for name in PAIR if any(run.config.name == name for run in runs)],
        "colours": [to_hex(colour) for colour in mpl.colormaps["viridis"](np.linspace(0, 1, SHADES))],
        "grey": NO_COLOUR,
        "runs": [packed_run(run) for run in runs],
    }  # fmt: skip


def packed_run(run: Run) -> dict[str, Any]:
    """A run's statistics averaged over the batches of each epoch, apart for BN's tensors, with what it is in words.

    `values` has a text for each kind of tensor and each statistic that the run logged, see `packed`.
    """
    rows = run.gradients[run.gradients["over"] == "mean"]
    kinds = {"layers": rows[rows["kind"] != "bn"], "bn": rows[rows["kind"] == "bn"]}
    kinds = {kind: chosen for kind, chosen in kinds.items() if len(chosen)}
    accuracy = run.metrics["validation_accuracy"]
    return {
        "name": run.config.name,
        "suite": run.config.suite,
        "settings": run_settings(run),
        "full": is_full(run),
        "diverged": run.summary["diverged"],
        "epochs": len(run.metrics),
        "accuracy": [round(100 * value, 1) for value in accuracy],
        "tensors": {kind: _names(chosen) for kind, chosen in kinds.items()},
        "values": {
            kind: {name: packed(_by_tensor(chosen, name)) for name in STATISTICS if name in chosen}
            for kind, chosen in kinds.items()
        },
    }


def _names(rows: pd.DataFrame) -> list[str]:
    return [str(name) for name in rows.drop_duplicates("layer").sort_values("layer")["parameter"]]


def _by_tensor(rows: pd.DataFrame, statistic: str) -> Values:
    table = rows.pivot(index="layer", columns="epoch", values=statistic)
    values: Values = table.sort_index().sort_index(axis="columns").to_numpy(dtype=float)
    return values


def packed(values: Values) -> str:
    """Values of at least 0, (tensors, epochs), as text, each within `LARGEST_ERROR` of itself.

    It goes through all epochs of the first tensor, then through those of the next. 0 is `ZERO`, and what is not finite
    is `MISSING`. Any other value is a level, its log10 in whole steps. Expected is the level of the epoch before,
    changed as that of the tensor before was; where there is none before, 0 stands for it, and a value without a
    logarithm counts as the level expected. The difference is written as one of `DIGITS`, or after `FAR` as `PLACES` of
    them, a number to their base; 0 is in the middle of both.

    >>> packed(np.array([[1.0, 1.0], [0.0, 10**0.0025]]))
    'GG!H'
    """
    levels = np.zeros((len(values) + 1, values.shape[1] + 1), dtype=int)  # with a row and a column before the first
    text = []
    for tensor, row in enumerate(values, 1):
        for epoch, value in enumerate(row, 1):
            expected = levels[tensor - 1, epoch] + levels[tensor, epoch - 1] - levels[tensor - 1, epoch - 1]
            known = value > 0 and math.isfinite(value)
            levels[tensor, epoch] = round(math.log10(value) / STEP) if known else expected
            text.append(
                _difference(int(levels[tensor, epoch] - expected)) if known else ZERO if value == 0 else MISSING
            )
    return "".join(text)


def _difference(steps: int) -> str:
    if abs(steps) <= HALF:
        return DIGITS[steps + HALF]
    base = len(DIGITS)
    number = steps + base**PLACES // 2
    return FAR + "".join(DIGITS[number // base**place % base] for place in reversed(range(PLACES)))
