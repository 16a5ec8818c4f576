"""Table 1, and what it and the verdicts are made of: which runs, and of which suite."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tests.shared import ROOT, part_of_summary
from vggkit.config import RunConfig
from vggkit.report import claims, judgements, measures, prose, render, tables
from vggkit.report.verdicts import OPEN
from vggkit.runs import select
from vggkit.runs.records import Run
from vggkit.runs.store import find_runs
from vggkit.study import CONFIGURATIONS, asked
from vggkit.training.runner import train


def test_reduced_runs_decide_no_claim() -> None:
    runs = select.fullest_runs(ROOT / "results")
    frame = judgements.table(runs).set_index("claim")
    assert len(frame) == len(claims.CLAIMS)
    for claim in claims.CLAIMS:
        if not all(select.is_full(runs[name][0]) for name in claim.needs):
            assert frame.loc[claim.text, "verdict"][0].startswith(OPEN)
            assert judgements.judge(claim.key, runs).verdict == OPEN


def test_committed_runs_are_whole_and_of_the_stated_settings() -> None:
    runs = find_runs(ROOT / "results")
    assert {run.config.name for run in runs} >= set(CONFIGURATIONS)
    for run in runs:
        suite = run.config.suite
        assert run.config.name in {
            RunConfig.named(one.configuration, suite=suite, **one.settings).name for one in asked(suite)
        }
        assert len(run.metrics) == run.config.epochs or run.summary["diverged"]
        assert run.summary["final"]["validation_accuracy"] == run.metrics["validation_accuracy"].iloc[-1]


def with_final(name: str, seed: int, value: float | None, suite: str = "table1") -> Run:
    final = dict.fromkeys(tables.OURS, value)
    if value is None:  # a diverged run: training writes the accuracy of guessing and no loss
        final = {metric: None if "loss" in metric else 0.01 for metric in tables.OURS}
    summary = part_of_summary(final=final, diverged=value is None, parameters=59716, train_images=47500)
    return Run(RunConfig.named(name, suite=suite, seed=seed), pd.DataFrame(), pd.DataFrame(), summary)


def test_table_has_the_reports_rows_and_ours_from_the_artefacts() -> None:
    frame = tables.table1(select.representative_runs(ROOT / "results")).set_index("model")
    assert frame.loc["VGG38 BN+RC at 1e-2", "val acc % (report)"] == 61.44
    metrics = [pd.read_csv(path) for path in (ROOT / "results/table1/vgg08").glob("seed-*/metrics.csv")]
    first = pd.read_csv(ROOT / "results/table1/vgg08/seed-0/metrics.csv")["validation_accuracy"].iloc[-1]
    assert frame.loc["VGG08", "val acc % (ours)"] == pytest.approx(100 * first)
    frame = tables.table1(select.fullest_runs(ROOT / "results"))
    mean = sum(table["validation_accuracy"].iloc[-1] for table in metrics) / len(metrics)
    row = frame.set_index("model").loc["VGG08"]
    assert row["val acc % (ours)"] == pytest.approx(100 * mean) and row["seeds"] == len(metrics)
    assert row[tables.DIFFERENCE] == pytest.approx(100 * mean - 46.84)
    for format in ("markdown", "csv", "latex"):
        assert "61.44" in render.table1_as(frame, format)


def test_table_gives_mean_and_sample_deviation_of_the_fullest_suite() -> None:
    seeds = [with_final("vgg08", seed, value) for seed, value in enumerate((0.48, 0.50, 0.52, None))]
    assert {seed.summary["final"]["test_accuracy"] for seed in seeds} == {0.48, 0.50, 0.52, 0.01}
    short = [with_final("vgg38_rc", 0, 0.2, "short"), with_final("vgg38_rc", 0, 0.1, "preview")]
    runs = {"vgg08": [*seeds, with_final("vgg08", 0, 0.1, "preview")], "vgg38_rc": short}
    text = render.table1_text(tables.table1(runs)).set_index("model")
    assert text.loc["VGG08", "test acc % (ours)"] == "50.00 ± 2.00"
    assert text.loc["VGG08", tables.DIFFERENCE] == "+3.16"
    assert text.loc["VGG08", "our runs"] == "table1, 4 seeds (1 diverged)"
    assert text.loc["VGG38 RC †", "val acc % (ours)"] == "20.00"
    assert text.loc["VGG38 RC †", tables.DIFFERENCE] == render.MISSING
    assert text.loc["VGG38 RC †", "our runs"] == "short, 1 seed"
    assert text.loc["VGG38", "our runs"] == "no run yet"
    page = render.table1_html(tables.table1(runs))
    assert page.index("</div>") < page.index(
        "The report's value above"
    )  # the note stands below the table, not in the box that scrolls
    for words in ("Full runs (`table1`): VGG08 (4 seeds).", "`short`: 15 epochs, 47,500 images"):
        assert words in prose.status(runs)


def test_diverged_run_is_counted_and_left_out_of_every_mean_of_its_row(tmp_path: Path) -> None:
    base = RunConfig.named("vgg08", dataset="synthetic", train_images_per_class=1, batch_size=50)
    base = replace(base, suite="short", epochs=1)
    good = [train(replace(base, seed=seed), results=tmp_path) for seed in (0, 1)]
    bad = train(replace(base, seed=2, learning_rate=1e30, schedule="constant"), results=tmp_path)
    assert bad.summary["diverged"] and bad.summary["final"]["validation_loss"] is None
    assert bad.summary["final"]["validation_accuracy"] == 0.01
    row = tables.table1({"vgg08": [*good, bad]}).set_index("model").loc["VGG08"]
    for metric, title in tables.OURS.items():
        values = measures.finals(good, metric)
        assert row[f"{title} (ours)"] == pytest.approx(values.mean())
        assert row[f"{title} (sd)"] == pytest.approx(values.std(ddof=1))
    assert (row["seeds"], row["diverged"], row["suite"], row["reduced"]) == (3, 1, "short", True)
    text = render.table1_text(tables.table1({"vgg08": [bad]})).set_index("model").loc["VGG08 †"]
    assert {text[f"{title} (ours)"] for title in tables.OURS.values()} == {render.MISSING}
    assert text["our runs"] == "short, 1 seed (1 diverged)"


def test_runs_that_are_compared_are_of_one_suite() -> None:
    def runs(**suites: str) -> dict[str, list[Run]]:
        return {name: [with_final(name, 0, 0.5, suite) for suite in listed.split()] for name, listed in suites.items()}

    def chosen(runs: select.Runs, *names: str) -> tuple[set[str], list[str]]:
        found = select.one_suite(runs, names or tuple(CONFIGURATIONS))
        return {run.config.suite for run in found.values()}, list(found)

    mixed = runs(vgg08="table1 preview", vgg38="preview", vgg38_bn="short preview", vgg38_rc="table1")
    assert chosen(mixed) == ({"preview"}, ["vgg08", "vgg38", "vgg38_bn"])
    assert chosen(mixed, "vgg08", "vgg38_rc") == ({"table1"}, ["vgg08", "vgg38_rc"])
    assert chosen(mixed | runs(vgg38="table1 preview")) == (
        {"table1"},
        ["vgg08", "vgg38", "vgg38_rc"],
    )  # both suites have three: table1 is preferred
    most = runs(vgg08="table1", vgg38="table1", vgg38_rc="table1", vgg38_bn_rc="table1")
    reduced = {name: [with_final(name, 0, 0.5, "preview")] for name in CONFIGURATIONS}
    both = {name: most.get(name, []) + reduced[name] for name in CONFIGURATIONS}
    assert chosen(both) == ({"table1"}, list(most))  # four of seven are enough for the full ones
    assert chosen({**both, "vgg38_bn_rc": reduced["vgg38_bn_rc"]}) == ({"preview"}, list(CONFIGURATIONS))
    assert chosen({}) == (set(), [])
    assert select.one_suite({"vgg08": [with_final("vgg08", 1, 0.5)]}) == {}


def test_only_an_unchanged_configuration_is_a_full_run() -> None:
    def full(**settings: object) -> bool:
        config = RunConfig.named("vgg08", **settings)
        return select.is_full(Run(config, pd.DataFrame(), pd.DataFrame(), part_of_summary()))

    assert full(suite="table1", precision="bfloat16", seed=3)
    assert not full(suite="table1", dataset="synthetic", epochs=1)
    assert not full(suite="preview")
