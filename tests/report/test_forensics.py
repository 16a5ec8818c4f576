"""The report's rows under each way to make them, on the committed runs and on such as are made from them."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from scipy import stats

from tests.shared import part_of_summary
from vggkit.report import forensics, ways
from vggkit.report.forensics import HYPOTHESES, POSSIBLE, RULED_OUT, UNTOLD, Row
from vggkit.report.verdicts import ACCURACY
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


def row(name: str, suite: str, chance: float | None, guessing: float = 0.0, at: Sequence[float] = (1.0, 50.0)) -> Row:
    way = next(way for way in HYPOTHESES if way.suite == suite)
    return Row(name, way, np.array([at]), chance, 0.0 if chance else None, guessing)


@pytest.fixture(scope="module")
def made() -> forensics.Made:
    return forensics.read(ROOT / "results")


@pytest.fixture(scope="module")
def rows(made: forensics.Made) -> list[Row]:
    return forensics.judge(made)


def test_rows_of_the_report_are_judged_where_there_are_runs(made: forensics.Made, rows: list[Row]) -> None:
    assert {row.name for row in rows} == set(REPORT["rows"]) - {"vgg38"}
    known = {row.name: row for row in rows if row.hypothesis.suite == "table1" and row.runs}
    losses = [run.summary["final"]["train_loss"] for run in made["table1"]["vgg08"]]
    assert known["vgg08"].ours[0] == pytest.approx(np.mean(losses))  # type: ignore[arg-type]
    assert known["vgg08"].chance and 0 < known["vgg08"].chance < 1
    page, told = forensics.table_html(rows), forensics.told(made, rows)
    assert page.count("<tr>") == 1 + sum(row.runs > 0 for row in rows) and "nan" not in page
    assert "What cannot be known" in told
    untried = [row.hypothesis.words for row in rows if not row.runs]
    assert all((f"{hypothesis.words} (VGG" in told) == (hypothesis.words in untried) for hypothesis in HYPOTHESES)
    assert forensics.told({}, forensics.judge({})).startswith("No configuration that learns has two full runs")
    assert all(hypothesis.suite in SUITES for hypothesis in HYPOTHESES)


def test_hypotheses_are_compared_where_two_have_runs(made: forensics.Made) -> None:
    alone = forensics.table_html(forensics.judge({"table1": made["table1"]}))
    assert "times less likely" not in alone.lower() and "shortcuts" not in alone
    both = forensics.table_html(forensics.judge(made | {"placement": {"vgg38_rc": made["table1"]["vgg38_rc"]}}))
    assert both.count(">shortcuts (") == 1 and "Times less likely" in both


def test_each_hypothesis_is_judged_by_the_runs_of_its_own_suite(made: forensics.Made) -> None:
    alike = {"table1": made["table1"], "placement": {"vgg38_rc": made["table1"]["vgg38_rc"]}}
    rows = {row.hypothesis.suite: row for row in forensics.judge(alike) if row.name == "vgg38_rc"}
    assert rows["placement"].runs == len(alike["placement"]["vgg38_rc"]) and rows["schedule"].runs == 0
    np.testing.assert_array_equal(rows["placement"].ours, rows["table1"].ours)
    assert rows["placement"].chance == rows["table1"].chance


def test_spread_is_that_of_networks_of_one_depth_and_learning_rate(made: forensics.Made) -> None:
    wide = [ended(run, loss=5.0 * run.config.seed) for run in made["table1"]["vgg38_bn_lr1e-2"]]
    other = made | {"table1": made["table1"] | {"vgg38_bn_lr1e-2": wide}}
    for of, moves in (((38, 1e-3), False), ((38, 1e-2), True), ((8, 1e-3), False)):
        before, after = forensics.spread(made, of), forensics.spread(other, of)
        assert before and after
        assert (before.squares[0, 0] != after.squares[0, 0]) == moves
    several = sum(
        len(runs) - 1 for name, runs in made["table1"].items() if name in ("vgg38_bn", "vgg38_rc", "vgg38_bn_rc")
    )
    found = forensics.spread({"table1": made["table1"]}, (38, 1e-3))
    assert found and found.freedom == several


def test_runs_of_another_precision_than_table_1s_are_left_out(tmp_path: Path, made: forensics.Made) -> None:
    for suite in ("table1", "schedule"):
        shutil.copytree(ROOT / "results" / suite / "vgg08", tmp_path / suite / "vgg08")
    assert forensics.read(tmp_path).keys() == {"table1", "schedule"}
    full = {name: [replace(run, config=replace(run.config, precision="float32")) for run in runs]
            for name, runs in made["schedule"].items()}  # fmt: skip
    kept = forensics.of_one_precision({"table1": made["table1"], "schedule": full})
    assert "schedule" not in kept or not kept["schedule"]
    assert kept["table1"] == made["table1"]


def test_a_row_is_ruled_out_only_where_the_number_of_rows_leaves_it_unlikely() -> None:
    two = [row("vgg38_rc", "table1", 0.03), row("vgg38_rc", "schedule", 0.02)]
    assert [forensics.verdict(one, two) for one in two] == [POSSIBLE, RULED_OUT]
    assert forensics.verdict(two[0], two[:1]) == RULED_OUT
    assert forensics.verdict(row("vgg08", "table1", 0.5, guessing=0.03), two) == UNTOLD
    assert forensics.verdict(row("vgg08", "table1", None), two) == UNTOLD
    told = ways.told([two[1], replace(two[1], hypothesis=HYPOTHESES[0])])
    assert "All are ruled out for VGG38 RC" in told
    assert "All are" not in ways.told(two)
    assert "are missing" in ways.told(two[:1]) and "are missing" in ways.told([])


def test_factors_are_those_of_the_likelihoods() -> None:
    near, far = row("vgg38_rc", "table1", 0.5), row("vgg38_rc", "schedule", 0.5)
    text = forensics.table_html([near, replace(far, log_likelihood=-np.log(127.0))]).text
    assert [line.rsplit("|", 2)[1].strip() for line in text.splitlines()[2:]] == ["1", "130"]


def test_intervals_are_those_of_the_pooled_spread_and_hold_at_once(made: forensics.Made) -> None:
    name, by = "vgg38_rc", 0.04
    table = {one: made["table1"][one] for one in ("vgg38_rc", "vgg38_bn_rc")}
    some = {"table1": table, "placement": {name: [ended(table[name][0], test=by)]}}
    effect = ways.moved(some, ACCURACY)["placement", name]
    accuracies = {one: np.array([run.summary["final"]["test_accuracy"] for run in runs]) for one, runs in table.items()}
    assert effect.value == pytest.approx(accuracies[name][0] + by - accuracies[name].mean())
    squares = sum(((values - values.mean()) ** 2).sum() for values in accuracies.values())
    freedom = sum(len(values) - 1 for values in accuracies.values())
    seeds = stats.t.ppf(0.975, freedom) * np.sqrt(squares / freedom * (1 + 1 / len(accuracies[name])))
    p, q = accuracies[name][0] + by, accuracies[name].mean()
    images = 1.96 * np.sqrt((p * (1 - p) + q * (1 - q)) / 10_000)
    assert effect.high - effect.value == pytest.approx(np.hypot(seeds, images), rel=0.02)
    assert effect.value - effect.low == pytest.approx(np.hypot(seeds, images), rel=0.02)


def test_only_what_gains_beyond_the_draws_is_said_to_be_better(made: forensics.Made) -> None:
    full = made["table1"]
    by = {"vgg38_rc": 0.2, "vgg38_bn_rc": 0.003, "vgg38_bn_rc_lr1e-2": -0.2}
    moved = {"table1": full, "placement": {name: [ended(full[name][0], test=more)] for name, more in by.items()}}
    told = ways.gained(moved)
    assert re.findall(r"VGG38 [^;.]*? by [+−]", told) == ["VGG38 RC by +"]
    assert re.search(r"; for VGG38 BN\+RC(?: and .*)? it cannot be told\.$", told)
    assert ways.gained({"table1": full}) == ""


def test_what_moves_is_told_beside_the_report(made: forensics.Made) -> None:
    text = ways.table_html(made).text.splitlines()[2:]
    guessing = {name for name, told in REPORT["rows"].items() if told["validation_accuracy"] <= 1}
    assert len(text) == sum(len(named.keys() - guessing) for suite, named in made.items() if suite != "table1")
    for line in text:
        change, report = (line.split("|")[place].strip() for place in (4, 6))
        assert report in {f"{told['train_loss']:.2f}" for told in REPORT["rows"].values()}
        before, after = map(float, change.split("→"))
        assert after - before == pytest.approx(float(line.split("|")[5].split("[")[0].replace("−", "-")), abs=0.011)
    assert ways.table_html({"table1": made["table1"]}) == ""


def test_each_row_has_a_panel_with_the_report_and_our_runs(made: forensics.Made, rows: list[Row]) -> None:
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


def test_a_row_is_ruled_out_where_its_star_lies_outside_the_ellipse() -> None:
    rows = forensics.judge(forensics.read(ROOT / "results"))
    told = {
        (forensics.verdict(row, rows), Outline(row.region).contains_point((row.report[0], row.report[1])))
        for row in rows
        if row.region is not None and forensics.verdict(row, rows) != UNTOLD
    }
    assert told == {(POSSIBLE, True), (RULED_OUT, False)}
