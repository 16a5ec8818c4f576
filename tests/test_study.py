"""A configuration, a suite and a statistic of the gradients are one row each: all else follows from it."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.shared import ROOT, Call, gradient_of, part_of_summary
from vggkit import study
from vggkit.config import RunConfig
from vggkit.networks.vgg import VGG, count_parameters
from vggkit.report import claims, figures, judgements, pages, prose, render, reported, tables
from vggkit.runs import checkpoints, schema, select
from vggkit.runs.files import ArtifactError, RunPaths
from vggkit.runs.records import Run
from vggkit.runs.store import find_runs, read_run, write_run
from vggkit.study import Configuration, Statistic, Suite
from vggkit.training.runner import train

TINY: dict[str, Any] = {"dataset": "synthetic", "train_images_per_class": 1, "batch_size": 50, "epochs": 2}


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add one configuration, one suite that the book shows and one statistic to those of the study."""
    added = Configuration(title="VGG14", settings={"depth": 14, "batch_norm": False, "residual": False}, colour=4,
                          marker="P")  # fmt: skip
    monkeypatch.setitem(study.CONFIGURATIONS, "vgg14", added)
    monkeypatch.setitem(study.SUITES, "tiny", Suite(purpose="a test's", settings=TINY, shown=True))
    added_statistic = Statistic(label="largest |gradient|", unit="loss per weight", compute=largest)
    monkeypatch.setitem(study.STATISTICS, "largest", added_statistic)


def largest(step: study.Step) -> torch.Tensor:
    return torch.stack([gradient_of(weight).abs().max().double() for weight in step.weights])


@pytest.mark.usefixtures("rows")
def test_rows_without_runs_are_shown_as_such_and_break_nothing(call: Call) -> None:
    results = str(ROOT / "results")
    every = select.all_runs(results)
    frame = tables.table1(every)
    parameters = count_parameters(VGG(14, batch_norm=False, residual=False))
    assert frame.set_index("name").loc["vgg14", ["model", "seeds", "parameters"]].tolist() == ["VGG14", 0, parameters]
    assert render.table1_text(frame).set_index("model").loc["VGG14", "our runs"] == "no run yet"
    for format in ("terminal", "markdown", "csv", "latex"):
        status, out, _ = call("table", "--results", results, "--format", format)
        assert status == 0 and "VGG14" in out and "no run yet" in out
    assert "VGG14" in render.table1_html(frame)
    assert "vgg14" in call("list", "--results", results)[1]
    assert "of 8 configurations" in figures.comparison(every).caption
    for made in (
        prose.status(every),
        prose.how_made(every),
        judgements.told(every, *claims.BY_KEY),
        judgements.table_html(every),
    ):
        assert made


@pytest.mark.usefixtures("rows")
def test_run_of_added_rows_is_trained_logged_shown_and_drawn_in_its_style(tmp_path: Path) -> None:
    config = RunConfig.named("vgg14", suite="tiny")
    assert (config.epochs, config.name) == (2, "vgg14")
    run = train(config, results=tmp_path)
    assert (run.gradients["largest"] >= run.gradients["mean_abs"]).all()
    every = select.all_runs(tmp_path)
    assert [r.config for r in every["vgg14"]] == [config]
    row = tables.table1(every).set_index("name").loc["vgg14"]
    assert (row["suite"], row["seeds"], bool(row["reduced"])) == ("tiny", 1, True)
    heatmap = figures.gradient_heatmap(run, "largest")
    assert heatmap.caption.startswith("VGG14: largest |gradient| of all")
    assert figures.colour("vgg14") in figures.comparison(every).svg
    assert "VGG14" in pages.heading(run)


@pytest.mark.usefixtures("rows")
def test_full_run_of_a_configuration_that_the_report_lacks_is_compared_with_nothing() -> None:
    run = read_run(ROOT / "results/table1/vgg38_rc/seed-0")
    added = dataclasses.replace(run, config=RunConfig.named("vgg14", suite="table1"))
    every = select.all_runs(ROOT / "results")
    compared = reported.against_report(every)
    pd.testing.assert_frame_equal(reported.against_report(every | {"vgg14": [added]}), compared)
    row = tables.table1(every | {"vgg14": [added]}).set_index("name").loc["vgg14"]
    assert pd.isna(row[tables.DIFFERENCE]) and not row["reduced"]


def test_reports_suite_is_the_first_that_the_book_shows() -> None:
    assert study.shown_suites()[0] == study.FULL


@pytest.mark.usefixtures("rows")
def test_runs_that_lack_a_statistic_are_readable_and_drawn_without_it() -> None:
    run = read_run(ROOT / "results/table1/vgg08/seed-0")
    assert "largest" not in run.gradients
    for figure in (figures.gradient_flow(run, "largest"), figures.gradient_heatmap(run, "largest")):
        assert "was not logged when this run was trained" in figure.caption


def test_checkpoint_that_logs_other_statistics_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig.named("vgg08", **TINY)

    def stop(epoch: int, images: int, metrics: object) -> None:
        if metrics:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, results=tmp_path, progress=stop)
    with monkeypatch.context() as patch:
        added = Statistic(label="largest |gradient|", unit="loss per weight", compute=largest)
        patch.setitem(study.STATISTICS, "largest", added)
        with pytest.raises(ArtifactError, match="go on with the version that began it") as told:
            train(config, results=tmp_path)
        assert "mean_abs, l2_norm, update_ratio of the gradients" in str(told.value) and "\n" not in str(told.value)
    assert len(train(config, results=tmp_path).metrics) == 2  # the checkpoint was not lost


def test_newer_formats_are_refused_and_named_and_older_ones_read(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "results/table1/vgg08/seed-0", folder := tmp_path / "table1/vgg08/seed-0")
    run = read_run(folder)
    assert run.summary.get("format", 1) <= schema.FORMAT
    newer = dataclasses.replace(run, summary=run.summary | {"format": schema.FORMAT + 1})
    (folder / "summary.json").write_text(json.dumps(newer.summary))
    with pytest.raises(ArtifactError, match=f"is of format {schema.FORMAT + 1}, this vggkit knows") as told:
        find_runs(tmp_path)
    assert "damaged" not in str(told.value)
    written = write_run(RunPaths.of(tmp_path / "new", run.config), run)
    assert written.summary["format"] == schema.FORMAT


def test_checkpoint_of_a_newer_format_is_refused(tmp_path: Path, tiny: RunConfig) -> None:
    paths = RunPaths.of(tmp_path, tiny)
    paths.checkpoint.parent.mkdir(parents=True)
    checkpoints.write_checkpoint(paths, {"format": schema.FORMAT + 1, "config": tiny.to_dict()})
    with pytest.raises(ArtifactError, match="is of format"):
        checkpoints.read_checkpoint(paths, tiny, torch.device("cpu"))


@pytest.mark.parametrize("name", study.CONFIGURATIONS)
def test_each_configuration_is_called_as_its_settings_are(name: str) -> None:
    assert RunConfig.named(name).name == name


def test_each_line_of_a_figure_differs_from_every_other_without_colour() -> None:
    looks = [(row.marker, row.line) for row in study.CONFIGURATIONS.values()]
    assert len(set(looks)) == len(looks)


def test_a_run_of_no_configuration_has_a_title() -> None:
    config = RunConfig.named("vgg08", epochs=3)
    assert pages.heading(Run(config, pd.DataFrame(), pd.DataFrame(), part_of_summary(diverged=False, train_images=1)))


@pytest.mark.parametrize(
    ("suite", "different"),  # README, "What is where"
    [
        ("table1", {}),
        ("local", {}),
        ("short", {"epochs": 15}),
        ("schedule", {"schedule": "cosine-per-batch"}),
        ("cure", {"epochs": 15}),
        ("depth", {"epochs": 15}),
        ("further", {"epochs": 15}),
        ("beside", {}),
        ("few", {"train_images_per_class": 25, "batch_size": 25, "precision": "float32"}),
        ("preview", {"epochs": 10, "train_images_per_class": 158}),
    ],
)
def test_suites_change_the_reports_settings_in_what_they_say(suite: str, different: dict[str, Any]) -> None:
    report: dict[str, Any] = {"epochs": 100, "batch_size": 100, "learning_rate": 1e-3, "minimum_learning_rate": 2e-5}
    report |= {"schedule": "cosine", "weight_decay": 0.0, "dropout": 0.0, "train_images_per_class": None}
    report |= {"precision": RunConfig().precision}
    config = RunConfig.named("vgg38_bn", suite=suite)
    assert {name: getattr(config, name) for name in report} == report | different
