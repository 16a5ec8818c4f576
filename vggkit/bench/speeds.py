"""What the page on performance shows of measured speeds."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vggkit.config import PRECISIONS
from vggkit.report.markup import Html, as_markdown
from vggkit.report.render import html
from vggkit.runs.files import ArtifactError, reason
from vggkit.runs.records import Run
from vggkit.study import CONFIGURATIONS, title

GPUS = re.compile("NVIDIA|Tesla|GeForce|Quadro|Instinct|Radeon (?!.*Graphics)")  # in their names
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
        why = reason(error) if isinstance(error, OSError | ValueError) else "not as it was written"
        raise ArtifactError(f"bench: {path} cannot be read ({why}); make one: vggkit bench --json FILE") from error
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
        way = row["way"]
        check(way["precision"] in PRECISIONS, f"a row's precision is none of {', '.join(PRECISIONS)}")
        check(isinstance(way["plain"], bool), "a row's way.plain is neither true nor false")
        runs = way.get("runs", 1)
        check(isinstance(runs, int) and runs > 0, "a row's way.runs is no number of runs")
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


def gpu_told(runs: Sequence[Run]) -> str:
    """In sentences, as Markdown: which runs a GPU trained, in how long and at which rate.

    Side by side, networks share the time, so there is one rate for all of them; what another process did on the GPU
    meanwhile no run tells. A run tells its device by name
    alone; those of `GPUS` are GPUs.
    """
    trained = [run for run in runs if GPUS.search(run.summary["device"])]
    if not trained:
        return "No run behind this book was trained on a GPU."
    devices = ", ".join(sorted({f"{r.summary['device']}, torch {r.summary['versions']['torch']}" for r in trained}))
    seconds = sum(run.summary["wall_seconds"] for run in trained)
    images = sum(run.summary["train_images"] * len(run.metrics) for run in trained)
    depths = sorted(run.config.depth for run in trained)
    return (
        f"{len(trained)} of the {len(runs)} runs behind this book were trained on a GPU ({as_markdown(devices)}), "
        f"whose time those side by side share: {images:,} images through networks of {depths[0]} to {depths[-1]} "
        f"layers in {seconds / 60:,.1f} minutes of training and validation, {images / seconds:,.0f} images/s. "
        "Where two processes shared the GPU, which no run tells, each counts the whole time: it was busy for less, "
        "and faster."
    )
