"""Our full runs beside the report's values: how far they lie apart, and how far the seed alone may move them."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd
from scipy import stats

from vggkit.report import measures
from vggkit.report.intervals import LEVEL
from vggkit.report.tables import METRICS
from vggkit.report.verdicts import Outcome
from vggkit.runs.records import Run
from vggkit.runs.select import Runs, fullest, is_full, of_suite
from vggkit.study import REPORT, shown_suites, title


def against_report(runs: Runs) -> pd.DataFrame:
    """Values of our full runs beside the report's, and how far the two may lie apart if only the seed differs.

    "allowed" is the half-width of the prediction interval of one further run about the mean of our n
    seeds, t s sqrt(1 + 1/n), of all rows together at 95 % (Bonferroni). The spread s ("df" degrees of freedom) is
    that of networks of the same depth and learning rate, see `Outcome.spread`; where it is unknown, it is missing. Runs
    that diverged are left out.
    """
    full = _full(runs)
    groups = [full, *(_finite(of_suite(runs, suite)) for suite in shown_suites()[1:])]
    names = [name for name in full if name in REPORT["rows"]]
    rows = []
    for metric, words in METRICS.items():
        outcome = Outcome(partial(_final, metric), learned=True)
        for name in names:
            ours = measures.finals(full[name], metric)
            spread, _ = outcome.spread(groups, {outcome.kind(run) for run in full[name]})
            reach = math.nan
            if spread.freedom:
                bound = stats.t.ppf(1 - (1 - LEVEL) / (2 * len(names) * len(METRICS)), spread.freedom)
                reach = float(bound) * spread.deviation * math.sqrt(1 + 1 / len(ours))
            row = {"name": name, "metric": words, "report": REPORT["rows"][name][metric], "ours": ours.mean()}
            rows.append(row | {"allowed": reach, "df": spread.freedom})
    return pd.DataFrame(rows, columns=["name", "metric", "report", "ours", "allowed", "df"])


def _final(metric: str, run: Run) -> float:
    return float(measures.finals([run], metric).iloc[0])


def _full(runs: Runs) -> dict[str, list[Run]]:
    return {name: group for name, group in _finite(fullest(runs)).items() if all(map(is_full, group))}


def _finite(runs: Mapping[str, Sequence[Run]]) -> dict[str, list[Run]]:
    """Without the runs that diverged."""
    kept = {name: [run for run in group if not run.summary["diverged"]] for name, group in runs.items()}
    return {name: group for name, group in kept.items() if group}


def against_report_text(runs: Runs) -> str:
    """`against_report` in words, as Markdown: which values differ by more than the seed explains."""
    frame = against_report(runs).dropna()
    if frame.empty:
        return "No configuration has two full runs yet: how much the seed alone changes cannot be told."
    beyond = frame[(frame["ours"] - frame["report"]).abs() > frame["allowed"]]
    listed = [
        f"- {title(name)}: "
        + ", ".join(f"{r.metric} {r.ours:.2f} against {r.report:.2f} (±{r.allowed:.2f})" for r in group.itertuples())
        for name, group in beyond.groupby("name", sort=False)
    ]
    text = (
        "The spread over seeds is that of networks of the same depth and learning rate: of full runs, or where none of "
        f"these has several, of the shorter ones below. Of {len(frame)} values, {len(beyond)} differ from the report's "
        f"by more than that explains; if only the seed differed, none of the {len(frame)} would in {100 * LEVEL:.0f} % "
        "of cases"
    )
    text += " (ours against the report's; in brackets how far apart the two may lie):" if listed else "."
    widest = frame.groupby("metric", sort=False)["allowed"].agg(["min", "max"])
    reach = ", ".join(f"{metric} {row['min']:.2f} to {row['max']:.2f}" for metric, row in widest.iterrows())
    weak = (
        f"The others are not confirmed by that: with so few seeds two values may lie far apart before it is told "
        f"({reach}, by network)."
    )
    return "\n".join([text, "", *listed, "", weak]) if listed else f"{text} {weak}"


def spreads_text(runs: Runs) -> str:
    """How far the seeds of each configuration lie apart, as Markdown: whether the pooled spread can stand for all."""
    listed = []
    for suite in shown_suites():
        several = {name: group for name, group in _finite(of_suite(runs, suite)).items() if len(group) > 1}
        told = [
            f"{title(name)} {measures.finals(group, 'test_accuracy').std(ddof=1):.2f} ({len(group)} seeds)"
            for name, group in several.items()
        ]
        listed += [f"- `{suite}`: {', '.join(told)}"] * bool(told)
    if not listed:
        return "No configuration has several seeds yet."
    return "\n".join(["Standard deviations of the test accuracy over seeds, in percentage points:", "", *listed])


def report_gaps() -> str:
    """The gaps between training and validation accuracy in the report's own table, in words."""
    gaps = {name: row["train_accuracy"] - row["validation_accuracy"] for name, row in REPORT["rows"].items()}
    listed = ", ".join(f"{gap:.2f} for {title(name)}" for name, gap in gaps.items())
    wider = [title(name) for name, gap in gaps.items() if name not in ("vgg08", "vgg38") and gap > gaps["vgg08"]]
    return (
        "It says that BN and RC regularise. By its own table the gap between training and validation accuracy, in "
        f"points, is {listed}: wider than VGG08's for {len(wider)} of the {len(gaps) - 2} networks with a remedy."
    )
