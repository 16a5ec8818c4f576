"""Table 1 and the report's claims, beside what our runs say. Reads finished runs; trains nothing."""

import os
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

import pandas as pd

from vggkit.artifacts import Run, find_runs
from vggkit.config import CONFIGURATIONS

REPORT: dict[str, Any] = tomllib.loads(resources.files("vggkit").joinpath("report.toml").read_text())
FULL, REDUCED = "table1", "preview"
TITLES = {
    "vgg08": "VGG08",
    "vgg38": "VGG38",
    "vgg38_bn": "VGG38 BN",
    "vgg38_rc": "VGG38 RC",
    "vgg38_bn_rc": "VGG38 BN+RC",
    "vgg38_bn_lr1e-2": "VGG38 BN, 1e-2",
    "vgg38_bn_rc_lr1e-2": "VGG38 BN+RC, 1e-2",
}
METRICS = {
    "train_loss": "train loss",
    "train_accuracy": "train acc %",
    "validation_loss": "val loss",
    "validation_accuracy": "val acc %",
}
CHANCE = 0.01  # accuracy of guessing one of 100 balanced classes
MISSING = "–"


def representative_runs(results: str | os.PathLike[str], seed: int = 0) -> dict[str, Run]:
    """For each configuration its run over the full data, else its reduced one; none is left out."""
    runs: dict[str, Run] = {}
    for suite in (REDUCED, FULL):
        for run in find_runs(results, suite):
            if run.config.seed == seed and run.config.name in CONFIGURATIONS:
                runs[run.config.name] = run
    return {name: runs[name] for name in CONFIGURATIONS if name in runs}


def is_full(run: Run) -> bool:
    """Whether the run is of Table 1's own suite: all images, 100 epochs."""
    return run.config.suite == FULL


def run_settings(run: Run) -> str:
    """In words: epochs, images, precision and seed."""
    config = run.config
    return f"{config.epochs} epochs, {run.summary['train_images']:,} images, {config.precision}, seed {config.seed}"


def table1(runs: Mapping[str, Run]) -> pd.DataFrame:
    """A row for each configuration: the report's four values, ours, our test accuracy, and from which suite.

    Accuracies are per cent; values of a configuration without a run are missing.
    """
    rows = []
    for name, report in REPORT["rows"].items():
        run = runs.get(name)
        row: dict[str, Any] = {"model": TITLES[name], "parameters": run.summary["parameters"] if run else None}
        final = run.summary["final"] if run else {}
        for metric, title in METRICS.items():
            ours = final.get(metric)
            row[f"{title} (report)"] = report[metric]
            row[f"{title} (ours)"] = ours if ours is None or "loss" in metric else 100 * ours
        test = final.get("test_accuracy")
        row["test acc % (ours)"] = None if test is None else 100 * test
        row["our runs"] = "none yet" if run is None else f"{run.config.suite}, {run.config.epochs} epochs"
        rows.append(row)
    return pd.DataFrame(rows)


def formatted(frame: pd.DataFrame) -> pd.DataFrame:
    """`table1` as text, two decimals."""

    def cell(value: Any) -> str:
        if pd.isna(value):
            return MISSING
        return value if isinstance(value, str) else f"{value:.2f}"

    text = frame.drop(columns="parameters").map(cell)
    parameters = frame["parameters"].map(lambda count: MISSING if pd.isna(count) else f"{int(count):,}")
    text.insert(1, "parameters", parameters)
    return text


def as_text(frame: pd.DataFrame, format: str) -> str:
    """`table1` as markdown, csv or latex."""
    if format == "csv":
        return frame.to_csv(index=False).rstrip()
    text = formatted(frame)
    if format == "latex":
        header = [title.replace("%", r"\%") for title in text.columns]
        body = [" & ".join(row) + r" \\" for row in text.itertuples(index=False)]
        columns = "l" + "r" * (len(header) - 2) + "l"
        lines = [rf"\begin{{tabular}}{{{columns}}}", r"\hline", " & ".join(header) + r" \\", r"\hline"]
        return "\n".join([*lines, *body, r"\hline", r"\end{tabular}"])
    rows = [list(text.columns), ["---", *["---:"] * (len(text.columns) - 2), "---"], *text.itertuples(index=False)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def stacked(frame: pd.DataFrame) -> pd.DataFrame:
    """`table1` as text for narrow places: in each cell the report's value over ours, parted by a newline."""
    text = formatted(frame)
    pairs = {title: text[f"{title} (report)"] + "\n" + text[f"{title} (ours)"] for title in METRICS.values()}
    pairs["test acc %"] = "\n" + text["test acc % (ours)"]
    return pd.DataFrame({"model": text["model"], "parameters": text["parameters"], **pairs, "ours": text["our runs"]})


def table1_html(runs: Mapping[str, Run]) -> str:
    """`table1` as a table that can be read on a narrow screen: ours under the report's value."""
    frame = stacked(table1(runs))
    head = "".join(f"<th scope='col'>{title}</th>" for title in frame.columns[1:])
    body = []
    for row, (model, *cells) in zip(REPORT["rows"], frame.itertuples(index=False), strict=True):
        mark = " (*)" if "printed" in REPORT["rows"][row] else ""
        joined = "".join(f"<td>{_emphasised(cell)}</td>" for cell in cells)
        body.append(f"<tr><th scope='row'>{model}{mark}</th>{joined}</tr>")
    return (
        "<div class='vggkit-table'><table><caption>The report's value above, <b>ours below in bold</b>. "
        "Final epoch, seed 0. “preview” is a reduced run and no measure of the report's value.</caption>"
        f"<thead><tr><th scope='col'>model</th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _emphasised(cell: str) -> str:
    report, newline, ours = cell.partition("\n")
    return f"{report}<br><b>{ours}</b>" if newline else cell


def run_table(run: Run) -> pd.DataFrame:
    """Final metrics of one run beside the report's row, where Table 1 has one with its settings."""
    report = REPORT["rows"].get(run.config.name, {})
    rows = []
    for metric, title in METRICS.items():
        ours = run.summary["final"][metric]
        scale = 1 if "loss" in metric or ours is None else 100
        theirs = f"{report[metric]:.2f}" if metric in report else MISSING
        rows.append({"": title, "report": theirs, "this run": MISSING if ours is None else f"{scale * ours:.2f}"})
    for metric, title in (("test_loss", "test loss"), ("test_accuracy", "test acc %")):
        ours = run.summary["final"][metric]
        scale = 1 if "loss" in metric or ours is None else 100
        rows.append({"": title, "report": MISSING, "this run": MISSING if ours is None else f"{scale * ours:.2f}"})
    return pd.DataFrame(rows).set_index("")


def vanishing_ratio(run: Run) -> float:
    """Median over the convolutions of the first half of mean |gradient|, over that of the last layer; last epoch."""
    gradients = run.gradients.query("over == 'last' and kind != 'bn'")
    layers = gradients[gradients["epoch"] == gradients["epoch"].max()].sort_values("layer")["mean_abs"].to_numpy()
    half = pd.Series(layers[: len(layers) // 2])
    return float(half.median() / layers[-1])


def turning_epoch(run: Run) -> int:
    """The epoch with the lowest validation loss."""
    return int(run.metrics.loc[run.metrics["validation_loss"].idxmin(), "epoch"])


def status(runs: Mapping[str, Run]) -> str:
    """In a sentence, as Markdown: which configurations are shown by full runs, which by reduced ones."""
    full = [TITLES[name] for name, run in runs.items() if is_full(run)]
    reduced = {TITLES[name]: run for name, run in runs.items() if not is_full(run)}
    text = f"**Which results these are.** Full runs (`{FULL}`): {'; '.join(full) or 'none'}."
    if reduced:
        settings = run_settings(next(iter(reduced.values())))
        text += (
            f" Reduced runs (`{REDUCED}`: {settings}), not comparable with the report's values: {'; '.join(reduced)}."
        )
    return text
