"""Table 1, and one run beside the report: frames with typed columns. How they are shown is in `render`."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from vggkit.config import RunConfig
from vggkit.report.measures import finals
from vggkit.runs.imported import ImportedRun
from vggkit.runs.records import Run, metric_of
from vggkit.runs.select import Runs, fullest, is_full
from vggkit.study import CONFIGURATIONS, REPORT, title

METRICS = {
    "train_loss": "train loss",
    "train_accuracy": "train acc %",
    "validation_loss": "val loss",
    "validation_accuracy": "val acc %",
}
"""What the report tells of each network, by the column of a run's metrics."""
TEST = {"test_loss": "test loss", "test_accuracy": "test acc %"}
OURS = METRICS | {"test_accuracy": TEST["test_accuracy"]}
DIFFERENCE = "difference (points)"


def table1(runs: Runs) -> pd.DataFrame:
    """A row for each configuration: the report's four values, ours, our test accuracy, and from which suite.

    Ours are means over the seeds of the fullest suite that did not diverge, "sd" their sample standard
    deviation (missing with one seed); "seeds" counts all, "diverged" those left out. Accuracies are per
    cent, the difference ours - report is in percentage points of validation accuracy and given for full
    runs only. What a configuration has no run for is missing, and so is what the report does not tell.
    """
    chosen = fullest(runs)
    rows = []
    for name in CONFIGURATIONS:
        report, group = REPORT["rows"].get(name, {}), chosen.get(name, [])
        row: dict[str, Any] = {"name": name, "model": title(name), "parameters": RunConfig.named(name).parameters}
        for metric, column in OURS.items():
            values = finals(group, metric)
            if metric in METRICS:
                row[f"{column} (report)"] = report.get(metric)
            row[f"{column} (ours)"], row[f"{column} (sd)"] = values.mean(), values.std(ddof=1)
        compared = bool(group and report) and all(map(is_full, group))
        row[DIFFERENCE] = row["val acc % (ours)"] - report["validation_accuracy"] if compared else None
        row["suite"] = group[0].config.suite if group else None
        row["seeds"], row["diverged"] = len(group), _diverged(group)
        row["reduced"] = bool(group) and not all(map(is_full, group))
        rows.append(row)
    numbers = [column for column in rows[0] if column.endswith((" (report)", " (ours)", " (sd)", DIFFERENCE))]
    return pd.DataFrame(rows).astype(dict.fromkeys(numbers, "float64"))


def _diverged(group: Sequence[Run]) -> int:
    return sum(run.summary["diverged"] for run in group)


def run_table(run: Run) -> pd.DataFrame:
    """Final metrics of one run beside the report's row, where Table 1 has one with its settings; accuracies per cent.

    Columns: metric, report, this run; what is not told or not finite is missing.
    """
    report = REPORT["rows"].get(run.config.name, {})
    rows = []
    for metric, column in (METRICS | TEST).items():
        ours = metric_of(run.summary["final"], metric)
        scale = 1 if "loss" in metric or ours is None else 100
        rows.append((column, report.get(metric), None if ours is None else scale * ours))
    return pd.DataFrame(rows, columns=["metric", "report", "this run"]).astype(
        {"report": "float64", "this run": "float64"}
    )


def imported_table(imported: Sequence[ImportedRun], runs: Runs) -> pd.DataFrame:
    """Runs made elsewhere beside the report's values and ours: four rows for each, after its last epoch.

    Columns: run, model, epochs, metric, report, ours, imported, our runs; accuracies per cent. Ours are the means of
    Table 1, in which no imported run takes part. What is not told, not finite or not there is missing.
    """
    own = table1(runs).set_index("name")
    rows: list[dict[str, Any]] = []
    for run in imported:
        known = own.loc[run.configuration] if run.configuration else None
        for metric, column in METRICS.items():
            value = run.final[metric]
            row = {"run": f"{run.suite}/{run.name}", "model": run.model, "epochs": len(run.rows), "metric": column}
            for whose in ("report", "ours"):
                row[whose] = None if known is None else known[f"{column} ({whose})"]
            row["imported"] = None if value is None else value * (1 if "loss" in metric else 100)
            row["our runs"] = None if known is None or not known["seeds"] else known["suite"]
            row["reduced"] = known is not None and bool(known["reduced"])
            rows.append(row)
    columns = ["run", "model", "epochs", "metric", "report", "ours", "imported", "our runs", "reduced"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(("report", "ours", "imported"), "float64"))
