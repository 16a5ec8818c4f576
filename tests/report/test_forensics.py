"""The report's rows under each way to make them, on the committed runs and on such as are made from them."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.shared import part_of_summary
from vggkit.report import forensics, ways
from vggkit.report.forensics import HYPOTHESES, Row
from vggkit.report.likelihood import Fit
from vggkit.runs.records import Run
from vggkit.study import REPORT, SUITES

ROOT = Path(__file__).parents[2]


def ended(run: Run, *, loss: float = 0.0, test: float = 0.0, seed: int | None = None) -> Run:
    """The run with another training loss and test accuracy at its end, by so much."""
    final = run.summary["final"]
    assert final["train_loss"] is not None
    changed = {**final, "train_loss": final["train_loss"] + loss, "test_accuracy": final["test_accuracy"] + test}
    config = run.config if seed is None else replace(run.config, seed=seed)
    return replace(run, config=config, summary=part_of_summary(**run.summary | {"final": changed}))


def row(name: str, suite: str, chance: float, values: Sequence[Sequence[float]] = ((1.0, 50.0),)) -> Row:
    way = next(way for way in HYPOTHESES if way.suite == suite)
    return Row(name, way, np.array(values), Fit(chance, 0.0), Fit(chance, 0.0))


def test_rows_of_the_report_are_judged_where_there_are_runs() -> None:
    found = forensics.read(ROOT / "results")
    rows = forensics.judge(found)
    assert {row.name for row in rows} == set(REPORT["rows"]) - {"vgg38"}
    known = {row.name: row for row in rows if row.hypothesis.suite == "table1" and row.runs}
    losses = [run.summary["final"]["train_loss"] for run in found["table1"]["vgg08"]]
    assert known["vgg08"].ours[0] == pytest.approx(sum(losses) / len(losses))  # type: ignore[arg-type]
    assert known["vgg08"].fit and 0 < known["vgg08"].fit.chance < 1
    page, told = forensics.table_html(rows), forensics.told(found, rows)
    assert page.count("<tr>") == 1 + sum(row.runs > 0 for row in rows) and "nan" not in page
    assert "What cannot be known" in told
    untried = [row.hypothesis.words for row in rows if not row.runs]
    assert all((f"{hypothesis.words} (VGG" in told) == (hypothesis.words in untried) for hypothesis in HYPOTHESES)
    assert forensics.told({}, forensics.judge({})).startswith("No configuration that learns has two full runs")
    assert all(hypothesis.suite in SUITES for hypothesis in HYPOTHESES)


def test_hypotheses_are_compared_where_two_have_runs() -> None:
    found = forensics.read(ROOT / "results")
    alone = forensics.table_html(forensics.judge({"table1": found["table1"]}))
    assert "times less likely" not in alone.lower() and "shortcuts" not in alone
    both = forensics.table_html(forensics.judge(found | {"placement": {"vgg38_rc": found["table1"]["vgg38_rc"]}}))
    assert both.count(">shortcuts<") == 1 and "Times less likely" in both


def test_each_hypothesis_is_judged_by_the_runs_of_its_own_suite() -> None:
    runs = {"table1": forensics.read(ROOT / "results")["table1"]}
    alike = {"vgg38_rc": runs["table1"]["vgg38_rc"]}
    rows = {row.hypothesis.suite: row for row in forensics.judge(runs | {"placement": alike}) if row.name == "vgg38_rc"}
    assert rows["placement"].runs == len(alike["vgg38_rc"]) and rows["schedule"].runs == 0
    np.testing.assert_array_equal(rows["placement"].ours, rows["table1"].ours)
    assert rows["placement"].fit == pytest.approx(rows["table1"].fit)


def test_factors_are_those_of_the_likelihoods_and_smaller_where_a_seed_moves_values_more() -> None:
    rows = [row for row in forensics.judge(forensics.read(ROOT / "results")) if row.name == "vgg08"]
    fits, wider = ([getattr(row, which) for row in rows] for which in ("fit", "wider"))
    factors = [np.exp(max(f.log_likelihood for f in found) - found[0].log_likelihood) for found in (fits, wider)]
    assert 1 < factors[1] < factors[0]
    text = re.sub(r"<[^>]+>", " ", str(forensics.table_html(rows)))
    assert all(f" {float(f'{factor:.2g}'):g} " in text for factor in factors)
    assert all(broad.chance > narrow.chance for broad, narrow in zip(wider, fits, strict=True))  # it rules less out


def test_a_way_that_brings_the_loss_nearer_is_told_from_one_that_does_not() -> None:
    report = REPORT["rows"]["vgg38_rc"]["train_loss"]
    usual = row("vgg38_rc", "table1", 0.001, [[report - 0.5, 50], [report - 0.3, 50]])
    near, far = (
        row("vgg38_rc", suite, 0.2, [[report + by, 50]]) for suite, by in (("schedule", 0.1), ("placement", -1))
    )
    told = ways.told({}, [usual, near, far])
    assert re.search(rf"every batch\* .* nearer to .*\({report - 0.4:.2f} to {report + 0.1:.2f}, report", told)
    assert re.search(rf"shortcuts .*\* .* further from .*\({report - 0.4:.2f} to {report - 1:.2f}, report", told)
    assert "once per epoch, 0 of 1;" in told and "every batch, 1 of 1 (VGG38 RC)" in told
    assert "fits none" not in told
    assert "are missing" in ways.told({}, [usual]) and "are missing" in ways.told({}, [])


def test_a_row_is_ruled_out_only_where_the_number_of_comparisons_leaves_it_unlikely() -> None:
    known = [row("vgg38_rc", "table1", 0.03), row("vgg38_rc", "schedule", 0.01)]
    assert "fits none" not in ways.told({}, known)  # 0.03 is above a half of 0.05
    low = [one._replace(fit=Fit(0.02, 0.0)) for one in known]
    assert "With all 2 comparisons taken into account, VGG38 RC fits none of them" in ways.told({}, low)


def test_only_what_gains_beyond_the_draws_is_said_to_be_better() -> None:
    full = forensics.read(ROOT / "results")["table1"]
    by = {"vgg38_rc": 0.2, "vgg38_bn_rc": 0.0, "vgg38_bn_rc_lr1e-2": -0.2}
    made = {"table1": full, "placement": {name: [ended(full[name][0], test=more)] for name, more in by.items()}}
    effects = ways.accuracies(made)
    for name, more in by.items():
        ours = np.mean([run.summary["final"]["test_accuracy"] for run in full[name]])
        moved = full[name][0].summary["final"]["test_accuracy"] + more - ours
        assert effects["placement", name].value == pytest.approx(moved)
    assert re.findall(r"VGG38 [^;.]*? [+−]", ways.gained(made)) == ["VGG38 RC +"]
    assert ways.gained({"table1": full}) == ""


def test_each_row_has_a_panel_with_the_report_and_our_runs() -> None:
    made = forensics.read(ROOT / "results")
    rows = forensics.judge(made)
    figure = ways.figure(rows)
    assert figure
    panels = figure.values["panels"]
    known = [row for row in rows if row.runs]
    assert len(panels) == len({row.name for row in known})
    assert sum(len(panel["lines"]) for panel in panels) == len(known) + len(panels)
    series = figure.values["series"]
    marked = sum(len(series[line["x"]]) for panel in panels for line in panel["lines"] if line["name"] != "the report")
    assert marked == sum(len(runs) for suite in made.values() for name, runs in suite.items() if name != "vgg38")
    assert all(way.suite in figure.caption for way in HYPOTHESES if any(row.hypothesis == way for row in known))
    assert ways.figure([]) is None
