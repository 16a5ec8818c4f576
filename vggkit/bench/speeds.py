"""What the page on performance shows: measured speeds, and whether a faster precision changes the curves."""

import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from vggkit.config import PRECISIONS
from vggkit.report.markup import Html, as_markdown
from vggkit.report.render import html
from vggkit.runs.store import ArtifactError, Run, find_runs
from vggkit.study import CONFIGURATIONS, title

PRECISION_SUITES = "preview", "preview-float32"
SPLITS = ("train", "validation")
FLOOR = ("operations", "bytes", "operations_per_second", "bytes_per_second")


def read_bench(path: Path) -> dict[str, Any]:
    """What `vggkit bench --json` wrote.

    Raises:
        ArtifactError: there is no such file, or it cannot be read, or a value has the wrong type.
    """
    try:
        measured: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _check_bench(measured)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error).splitlines()[0] if isinstance(error, OSError | ValueError) else "not as it was written"
        raise ArtifactError(
            f"bench: {path} cannot be read ({reason}); make it anew: vggkit bench --json {path}"
        ) from error
    return measured


def _check_bench(measured: dict[str, Any]) -> None:
    """Raise ValueError (or what looking up in something else raises) unless all that a page shows is of its type."""

    def check(holds: object, what: str) -> None:
        if not holds:
            raise ValueError(what)

    check(isinstance(measured["machine"], str), "machine is no text")
    commit = measured["commit"]
    check(commit is None or re.fullmatch("[0-9a-f]{7,64}", commit), "commit is no checksum")
    check(isinstance(measured["rows"], list) and measured["rows"], "rows is no list of rows")
    numbers = [(name, measured[name]) for name in ("batch_size", "seconds")]
    for row in measured["rows"]:
        check(row["model"] in CONFIGURATIONS, "a row's model is none of Table 1")
        check(isinstance(row["loop"], str), "a row's loop is no text")
        check(row["way"]["precision"] in PRECISIONS, f"a row's precision is none of {', '.join(PRECISIONS)}")
        check(isinstance(row["rounds"], list) and row["rounds"], "a row's rounds is no list of numbers")
        numbers += [("rounds", rate) for rate in row["rounds"]]
        numbers += [(name, row[name]) for name in ("images_per_second", "ratio", "floor_share")]
        numbers += [(name, row["floor"][name]) for name in FLOOR]
    for name, value in numbers:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        check(number and math.isfinite(value) and value > 0, f"{name} is no finite number above 0")


def bench_html(measured: dict[str, Any]) -> Html:
    """Images/s of every way, beside the plain loop and the floor, for a page."""
    rows = [
        {
            "model": title(row["model"]),
            "loop": row["loop"],
            "images/s": f"{row['images_per_second']:,.0f}",
            "× plain loop": f"{row['ratio']:.2f}",
            "of the floor": f"{row['floor_share']:.0%}",
        }
        for row in measured["rows"]
    ]
    return html(pd.DataFrame(rows), "Training speed", text=("model", "loop"))


def bench_method(measured: dict[str, Any]) -> str:
    """In sentences, as Markdown: machine, settings, and the counts and rates behind the floor."""
    rows = measured["rows"]
    rounds = len(rows[0]["rounds"])
    floors = {row["way"]["precision"]: row["floor"] for row in rows}
    counts = {title(row["model"]): row["floor"] for row in rows if row["way"]["precision"] == "float32"}
    rates = "; ".join(
        f"{precision}: {floor['operations_per_second'] / 1e9:,.0f} GFLOP/s" for precision, floor in floors.items()
    )
    needs = "; ".join(
        f"{title}: {floor['operations'] / 1e6:,.0f} MFLOP and {floor['bytes'] / 1e6:,.1f} MB in float32"
        for title, floor in counts.items()
    )
    copy = max(row["floor"]["bytes_per_second"] for row in rows) / 1e9
    commit, machine = (measured["commit"] or "unknown")[:12], as_markdown(measured["machine"])
    return (
        f"Training steps at batch size {measured['batch_size']} on {machine}; medians over {rounds} rounds "
        f"of {measured['seconds']:g} seconds, and of the ratios to the plain loop within a round; commit `{commit}`. "
        f"One image needs, in a step, at least: {needs}. "
        f"Measured rates: matrix product {rates}; copy up to {copy:,.0f} GB/s."
    )


def precision_runs(results: str | os.PathLike[str]) -> dict[str, tuple[list[Run], list[Run]]]:
    """For each configuration that has them: at least two bfloat16 runs, and the float32 runs of equal settings."""
    fast, reference = (find_runs(results, suite) for suite in PRECISION_SUITES)
    pairs = {
        name: (
            [run for run in fast if run.config.name == name and run.config.precision == "bfloat16"],
            [run for run in reference if run.config.name == name],
        )
        for name in CONFIGURATIONS
    }
    return {name: (some, others) for name, (some, others) in pairs.items() if len(some) > 1 and others}


def within_noise(fast: Sequence[Run], reference: Run, metric: str, level: float = 0.95) -> float:
    """Share of the epochs in which the reference lies in the prediction interval of one more run like `fast`.

    The interval is mean ± t s sqrt(1 + 1/n) with n - 1 degrees of freedom; runs that differ by nothing
    but their seed lie in it in a share of `level` of the cases.
    """
    curves = np.array([run.metrics[metric] for run in fast])
    count = len(curves)
    reach = stats.t.ppf((1 + level) / 2, count - 1) * curves.std(axis=0, ddof=1) * np.sqrt(1 + 1 / count)
    return float(np.mean(np.abs(reference.metrics[metric] - curves.mean(axis=0)) <= reach))


def precision_html(results: str | os.PathLike[str]) -> Html:
    """`precision_table` for a page."""
    return html(precision_table(results), "bfloat16 beside float32", text=("model", "metric"))


def precision_table(results: str | os.PathLike[str]) -> pd.DataFrame:
    """A row for each configuration and metric: bfloat16 over seeds, float32, and how often it lies within noise."""
    rows = []
    for name, (fast, (reference, *_)) in precision_runs(results).items():
        for split in SPLITS:
            for kind, scale in (("loss", 1), ("accuracy", 100)):
                metric = f"{split}_{kind}"
                last = scale * np.array([run.metrics[metric].iloc[-1] for run in fast])
                rows.append(
                    {
                        "model": title(name),
                        "metric": f"{split} {kind}" + (" (%)" if kind == "accuracy" else ""),
                        f"bfloat16, {len(fast)} seeds": f"{last.mean():.2f} ± {last.std(ddof=1):.2f}",
                        "float32, one seed": f"{scale * reference.metrics[metric].iloc[-1]:.2f}",
                        "epochs within seed noise": f"{within_noise(fast, reference, metric):.0%}",
                    }
                )
    return pd.DataFrame(rows)
