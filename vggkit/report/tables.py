"""Table 1 and the report's claims, beside what our runs say. Reads finished runs; trains nothing."""

import html
import os
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd

from vggkit.config import CONFIGURATIONS
from vggkit.runs.store import Run, find_runs

REPORT: dict[str, Any] = tomllib.loads(resources.files("vggkit").joinpath("report.toml").read_text())
FULL = "table1"
SHOWN = (FULL, "short", "preview")  # suites that the book shows, the fullest first
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
OURS = METRICS | {"test_accuracy": "test acc %"}
DIFFERENCE = "difference (points)"
NEWLINE = "\n"
LATEX = str.maketrans({"%": r"\%", "±": r"$\pm$", "–": "--", "†": r"$\dagger$", "−": "$-$"})
CHANCE = 0.01  # accuracy of guessing one of 100 balanced classes
MISSING = "–"
REDUCED_MARK = "†"
NOTE = f"{REDUCED_MARK} not a full run of Table 1: no measure of the report's value"

Runs = Mapping[str, Run | Sequence[Run]]
"""Runs by configuration: one, or several of different seeds and suites."""


def all_runs(results: str | os.PathLike[str]) -> dict[str, list[Run]]:
    """For each configuration its finished runs of every suite of `SHOWN`, fullest suite first, by seed."""
    found = [run for suite in SHOWN for run in find_runs(results, suite)]
    runs = {name: [run for run in found if run.config.name == name] for name in CONFIGURATIONS}
    return {
        name: sorted(runs[name], key=lambda run: (SHOWN.index(run.config.suite), run.config.seed))
        for name in CONFIGURATIONS
        if runs[name]
    }


def seeds(runs: Runs) -> dict[str, list[Run]]:
    """For each configuration the runs of its fullest suite alone, one for each seed."""
    fullest = {name: min((run.config.suite for run in group), key=_rank) for name, group in _listed(runs).items()}
    return {name: of_suite(runs, suite)[name] for name, suite in fullest.items()}


def of_suite(runs: Runs, suite: str) -> dict[str, list[Run]]:
    """For each configuration that has any, its runs of one suite: all of one length, on the same images."""
    groups = {name: [run for run in group if run.config.suite == suite] for name, group in _listed(runs).items()}
    return {name: group for name, group in groups.items() if group}


def _listed(runs: Runs) -> dict[str, list[Run]]:
    return {name: [run] if isinstance(run, Run) else list(run) for name, run in runs.items() if run}


def runs_by_seed(results: str | os.PathLike[str]) -> dict[str, list[Run]]:
    """For each configuration all runs of its fullest suite: over the full data, else shorter, else reduced."""
    return seeds(all_runs(results))


def representative_runs(results: str | os.PathLike[str], seed: int = 0) -> dict[str, Run]:
    """For each configuration the run of one seed in the fullest suite that has it."""
    firsts = {name: [r for r in group if r.config.seed == seed] for name, group in all_runs(results).items()}
    return {name: group[0] for name, group in firsts.items() if group}


def one_suite(runs: Runs, names: Sequence[str] = tuple(CONFIGURATIONS), seed: int = 0) -> dict[str, Run]:
    """The runs of one seed that may be compared: those of the suite that has most of the configurations `names`.

    Of suites that have equally many, the fullest. All runs of a suite have one length and the same images.
    """
    suites = sorted({run.config.suite for group in _listed(runs).values() for run in group}, key=_rank)
    chosen = [
        {n: run for n in names for run in of_suite(runs, suite).get(n, []) if run.config.seed == seed}
        for suite in suites
    ]
    return max(chosen, key=len, default={})  # the first among equals


def is_full(run: Run) -> bool:
    """Whether the run is one of Table 1's: its suite, and a configuration with no setting changed."""
    return run.config.suite == FULL and run.config.name in CONFIGURATIONS


def _rank(suite: str) -> int:
    return SHOWN.index(suite) if suite in SHOWN else len(SHOWN)


def run_settings(run: Run) -> str:
    """In words: epochs, images, precision and seed."""
    config = run.config
    return f"{config.epochs} epochs, {run.summary['train_images']:,} images, {config.precision}, seed {config.seed}"


def finals(runs: Sequence[Run], metric: str) -> pd.Series:
    """A metric after the last epoch, for each seed that did not diverge; accuracies in per cent.

    A diverged run has no loss, while what it answers still has an accuracy: to leave out both keeps all
    means of a row over the same seeds.
    """
    values = pd.Series([run.summary["final"][metric] for run in runs if not run.summary["diverged"]], dtype=float)
    return values if "loss" in metric else 100 * values


def table1(runs: Runs) -> pd.DataFrame:
    """A row for each configuration: the report's four values, ours, our test accuracy, and from which suite.

    Ours are means over the seeds of the fullest suite that did not diverge, "sd" their sample standard
    deviation (missing with one seed); "seeds" counts all, "diverged" those left out. Accuracies are per
    cent, the difference ours - report is in percentage points of validation accuracy and given for full
    runs only; what a configuration has no run for is missing.
    """
    chosen = seeds(runs)
    rows = []
    for name, report in REPORT["rows"].items():
        group = chosen.get(name, [])
        row: dict[str, Any] = {"model": TITLES[name], "parameters": group[0].summary["parameters"] if group else None}
        for metric, title in OURS.items():
            values = finals(group, metric)
            if metric in METRICS:
                row[f"{title} (report)"] = report[metric]
            row[f"{title} (ours)"], row[f"{title} (sd)"] = values.mean(), values.std(ddof=1)
        full = bool(group) and all(map(is_full, group))
        row[DIFFERENCE] = row["val acc % (ours)"] - report["validation_accuracy"] if full else None
        row["seeds"], row["diverged"] = len(group), sum(run.summary["diverged"] for run in group)
        row["our runs"] = _origin(group)
        rows.append(row)
    return pd.DataFrame(rows)


def _origin(group: Sequence[Run]) -> str:
    if not group:
        return "none yet"
    diverged = sum(run.summary["diverged"] for run in group)
    count = "1 seed" if len(group) == 1 else f"{len(group)} seeds"
    return f"{group[0].config.suite}, {count}" + (f" ({diverged} diverged)" if diverged else "")


def _reduced(frame: pd.DataFrame) -> pd.Series:
    """Which rows stand for reduced runs."""
    return (frame["seeds"] > 0) & (frame["our runs"].str.split(",").str[0] != FULL)


def formatted(frame: pd.DataFrame) -> pd.DataFrame:
    """`table1` as text, two decimals, mean ± standard deviation; reduced runs are marked."""

    def cell(value: float, sign: str = "") -> str:
        return MISSING if pd.isna(value) else f"{value:{sign}.2f}".replace("-", "−")

    text = pd.DataFrame({"model": frame["model"] + _reduced(frame).map({True: f" {REDUCED_MARK}", False: ""})})
    text["parameters"] = frame["parameters"].map(lambda count: MISSING if pd.isna(count) else f"{int(count):,}")
    for metric, title in OURS.items():
        if metric in METRICS:
            text[f"{title} (report)"] = frame[f"{title} (report)"].map(cell)
        spread = frame[f"{title} (sd)"].map(lambda sd: "" if pd.isna(sd) else f" ± {cell(sd)}")
        text[f"{title} (ours)"] = frame[f"{title} (ours)"].map(cell) + spread
    text[DIFFERENCE] = frame[DIFFERENCE].map(lambda value: cell(value, "+"))
    text["our runs"] = frame["our runs"]
    return text


def as_text(frame: pd.DataFrame, format: str) -> str:
    """`table1` as markdown, csv or latex."""
    if format == "csv":
        return frame.to_csv(index=False, float_format="%.6g").rstrip()
    text = formatted(frame)
    count, marked = len(text.columns), bool(_reduced(frame).any())
    if format == "latex":
        lines = [" & ".join(row) + r" \\" for row in (text.columns, *text.itertuples(index=False))]
        note = [rf"\multicolumn{{{count}}}{{l}}{{{NOTE}}} \\"] if marked else []
        lines = [r"\hline", lines[0], r"\hline", *lines[1:], r"\hline", *note]
        body = "\n".join(lines).translate(LATEX)
        return f"\\begin{{tabular}}{{l{'r' * (count - 2)}l}}\n{body}\n\\end{{tabular}}"
    rows = [list(text.columns), ["---", *["---:"] * (count - 2), "---"], *text.itertuples(index=False)]
    return "\n".join(["| " + " | ".join(row) + " |" for row in rows] + (["", NOTE] if marked else []))


def stacked(frame: pd.DataFrame) -> pd.DataFrame:
    """`table1` as text for narrow places: in each cell the report's value, ours and its spread, a line each."""
    text = formatted(frame)
    columns = {"model": text["model"] + "\n" + text["parameters"] + " parameters"}
    for title in OURS.values():
        report = text.get(f"{title} (report)", "")
        columns[title.replace(" ", "\n", 1)] = report + "\n" + text[f"{title} (ours)"].str.replace(" ±", "\n±")
    columns |= {"ours −\nreport": "\n" + text[DIFFERENCE], "runs": text["our runs"].str.replace(", ", "\n")}
    return pd.DataFrame(columns)


def table1_html(runs: Runs) -> str:
    """`table1` as a table that can be read on a narrow screen: ours under the report's value.

    The caption stands outside the box that scrolls.
    """
    frame = stacked(table1(runs))
    left, narrow = (f" style='padding:0.25em 0.2em;text-align:{side};white-space:nowrap'" for side in ("left", "right"))
    sides = [left, *[narrow] * (len(frame.columns) - 2), left]
    titles = zip(frame, sides, strict=True)
    head = "".join(f"<th scope='col'{side}>{title.replace(NEWLINE, '<br>')}</th>" for title, side in titles)
    body = []
    for row, (model, *cells, ours) in zip(REPORT["rows"], frame.itertuples(index=False), strict=True):
        name, parameters = model.replace(" †", "&nbsp;†").removesuffix(" parameters").split("\n")
        mark = " (*)" if "printed" in REPORT["rows"][row] else ""
        numbers = "".join(f"<td{narrow}>{_emphasised(cell)}</td>" for cell in cells)
        last = f"<td{left}>{ours.replace(NEWLINE, '<br>')}</td>"
        faded = " style='opacity:0.75;font-style:italic'" if REDUCED_MARK in model else ""
        body.append(
            f"<tr{faded}><th scope='row' style='padding:0.25em 0.2em;text-align:left'>{name}{mark}<br>"
            f"<span style='font-weight:normal'>{parameters}</span></th>{numbers}{last}</tr>"
        )
    caption = (
        "The report's value above, <b>ours below in bold</b>: after the last epoch, mean ± sample standard deviation "
        "where there are several seeds; runs that diverged are counted and left out. “ours − report” is in "
        "percentage points of validation accuracy. Under "
        f"each model its number of parameters. {html.escape(NOTE)}."
    )
    return (
        "<div class='vggkit-table'><table style='font-size:0.8em' aria-label='Table 1'>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        f"<p style='font-size:0.9em'>{caption}</p>"
    )


def _emphasised(cell: str) -> str:
    report, _, ours = cell.partition("\n")
    return f"{report}<br><b>{ours}</b>".replace("\n± ", "<br>±").replace("\n", "<br>")


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


def _last_gradients(run: Run) -> tuple[pd.Series, float]:
    """Mean |gradient| of the convolutions, input first, and of the linear layer, over the last epoch's batches."""
    gradients = run.gradients.query("over == 'mean' and kind != 'bn'")
    layers = gradients[gradients["epoch"] == gradients["epoch"].max()].sort_values("layer")
    last = layers[layers["kind"] == "linear"]["mean_abs"]
    return layers[layers["kind"] == "conv"]["mean_abs"], float(last.iloc[-1]) if len(last) else float("nan")


def vanishing_ratio(run: Run) -> float:
    """Mean |gradient| in the last epoch: median over the first half of the convolutions, over the last layer's."""
    convolutions, last = _last_gradients(run)
    return float(convolutions.iloc[: len(convolutions) // 2].median()) / last if last else float("nan")


def weakest_ratio(run: Run) -> float:
    """Mean |gradient| in the last epoch: that of the convolution with the smallest, over the last layer's."""
    convolutions, last = _last_gradients(run)
    return float(convolutions.min(skipna=False)) / last if last else float("nan")


def spans(epochs: Sequence[int]) -> str:
    """Whole numbers in words, neighbours taken together: 42, 51 to 56."""
    spans: list[list[int]] = []
    for epoch in epochs:
        if spans and epoch == spans[-1][-1] + 1:
            spans[-1].append(epoch)
        else:
            spans.append([epoch])
    return ", ".join(f"{span[0]} to {span[-1]}" if len(span) > 1 else str(span[0]) for span in spans)


def turning_epoch(run: Run) -> int | None:
    """The epoch with the lowest validation loss; None where none is finite."""
    losses = run.metrics.set_index("epoch")["validation_loss"]
    finite = losses[np.isfinite(losses)]
    return None if finite.empty else int(finite.idxmin())


def status(runs: Runs) -> str:
    """In a sentence, as Markdown: which configurations are shown by full runs, which by reduced ones."""
    text = "**Which results these are.**"
    chosen = seeds(runs)
    for suite in SHOWN:
        groups = {TITLES[name]: group for name, group in chosen.items() if group[0].config.suite == suite}
        if not groups and suite != FULL:
            continue
        counted = any(len(group) > 1 for group in groups.values())
        names = "; ".join(title + (f" ({len(group)} seeds)" if counted else "") for title, group in groups.items())
        names = names.replace("(1 seeds)", "(1 seed)")
        if suite == FULL:
            text += f" Full runs (`{suite}`): {names or 'none'}."
        else:
            first = next(iter(groups.values()))[0]
            text += f" Reduced runs (`{suite}`: {_lengths(first)}), not comparable with the report's values: {names}."
    return text


def _lengths(run: Run) -> str:
    return f"{run.config.epochs} epochs, {run.summary['train_images']:,} images"


def how_made(runs: Runs) -> str:
    """In words, as Markdown: on which machines and in which precision the runs were made, and how they end."""
    chosen = [run for group in seeds(runs).values() for run in group]
    places = Counter(f"{run.summary['device']}, {run.config.precision}" for run in chosen)
    listed = "; ".join(f"{count} on {place}" for place, count in sorted(places.items()))
    rates = {run.config.learning_rate: run.metrics["learning_rate"].iloc[-1] for run in chosen if is_full(run)}
    last = " and ".join(f"{end:.3g} for {start:g}" for start, end in sorted(rates.items()))
    return f"The runs in this book: {listed}." + (
        f" Learning rate of the last epoch of the full runs: {last}." * bool(last)
    )
