"""Figures: sound SVG, axes that infinities do not stretch, labels that stay apart, captions of what is drawn."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.offsetbox import AnnotationBbox
from matplotlib.patches import ConnectionPatch
from matplotlib.text import Annotation

from tests.shared import ROOT, Call, number_in
from vggkit import study
from vggkit.config import ConfigError, RunConfig
from vggkit.report import canvas, figures, render
from vggkit.report.labels import direct_labels
from vggkit.runs import select
from vggkit.runs.records import Run
from vggkit.training.runner import train

DIVERGING = {"learning_rate": 1e30, "schedule": "constant"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def diverged(results: Path) -> Run:
    config = RunConfig.named("vgg08", dataset="synthetic", train_images_per_class=2, epochs=3, **DIVERGING)
    run = train(config, results=results)
    assert run.summary["diverged"] and run.summary["final"]["validation_loss"] is None
    return run


def test_figures_are_sound_svg_that_follows_the_pages_colour() -> None:
    runs = select.representative_runs(ROOT / "results")
    run = runs["vgg38"]
    every = select.all_runs(ROOT / "results")
    drawn = [
        figures.curves([run]),
        figures.gradient_flow(run),
        figures.gradient_heatmap(run),
        figures.comparison(every),
    ]
    for figure in drawn:
        page = figure._repr_html_()
        assert 'role="img"' in page
        assert "currentColor" in page
        assert canvas.INK not in page
        ET.fromstring(figure.svg)
        assert figure.caption
        named = re.findall(r'\bid="([^"]+)"', figure.svg)
        referred = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', figure.svg)
        assert len(named) == len(set(named)) and {"".join(found) for found in referred} <= set(named)
        letters = re.findall(r"<text[^>]*>", figure.svg)
        assert figure.svg.count('fill="currentColor"') == figure.svg.count("<svg ")  # letters without one inherit it
        plain = [letter for letter in letters if "font-family" not in letter]
        assert len(plain) > len(letters) / 2 and figure.svg.count('<svg font-family="') == figure.svg.count("<svg ")
    assert figures.curves([run]).svg == drawn[0].svg


def drawn(run: Run) -> list[canvas.Figure]:
    heatmaps = [figures.gradient_heatmap(run, statistic) for statistic in ("mean_abs", "update_ratio")]
    return [figures.curves([run]), figures.gradient_flow(run), *heatmaps, figures.comparison({"vgg08": run})]


def test_diverged_run_is_drawn_and_told(diverged: Run) -> None:
    for figure in drawn(diverged):
        ET.fromstring(figure.svg)
        assert "nan" not in re.sub(r'"data:[^"]*"', "", figure.svg)
    assert "no finite validation loss" in figures.curves([diverged]).caption


def test_infinities_after_good_epochs_do_not_stretch_the_axes() -> None:
    run = select.representative_runs(ROOT / "results")["vgg08"]
    metrics, gradients = run.metrics.copy(), run.gradients.copy()
    last = metrics.index[-1]
    metrics.loc[last, ["train_loss", "validation_loss"]] = np.inf
    gradients.loc[gradients["epoch"] == metrics["epoch"].max(), list(study.STATISTICS)] = np.inf
    broken = replace(run, metrics=metrics, gradients=gradients)
    for figure in drawn(broken):
        ET.fromstring(figure.svg)
        assert "inf<" not in figure.svg
    tensors = gradients["layer"].nunique()
    assert f"not finite in {tensors} of {tensors} tensors" in figures.gradient_heatmap(broken).caption


def test_diverged_run_is_evaluated(diverged: Run, results: Path, call: Call) -> None:
    words = ["evaluate", "vgg08", "--dataset", "synthetic", "--epochs", "3", "--train-images-per-class", "2"]
    words += [part for name, value in DIVERGING.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    status, out, error = call(*words, "--results", str(results))
    assert status == 0, error
    assert re.search(r"validation\W+-\W+1\.00%\W+-\W+1\.00%", out)


def test_figure_compares_runs_of_one_suite_alone() -> None:
    every = select.all_runs(ROOT / "results")
    suites = {run.config.suite for group in every.values() for run in group}
    assert len(suites) > 1  # with one suite alone this test would pass whatever is drawn
    figure = figures.comparison(every)
    chosen = select.one_suite(every)
    assert f"the run of suite <code>{next(iter(chosen.values())).config.suite}</code> with the lowest" in figure.caption
    assert f"{len(chosen)} of 7 configurations" in figure.caption
    settings = figure.caption.rpartition("[")[2]
    assert [suite for suite in suites if f"{suite}:" in settings] == [next(iter(chosen.values())).config.suite]
    for run in chosen.values():
        assert (
            f"{study.title(run.config.name)} {100 * run.summary['final']['validation_accuracy']:.1f} %"
            in figure.caption
        )
    pair = [every["vgg08"][0], replace(every["vgg08"][-1])]
    assert pair[0].config.suite != pair[1].config.suite
    with pytest.raises(ValueError, match="allowed: runs of one suite"):
        figures.curves(pair)
    with pytest.raises(ConfigError, match=r"^runs: 5 runs; allowed: at most 4 in one figure$"):
        figures.curves(pair[:1] * 5)
    with pytest.raises(ValueError, match="no run of seed 77"):
        figures.comparison(every, seed=77)


def test_zero_updates_are_counted_and_no_tensor_called_the_smallest() -> None:
    run = select.representative_runs(ROOT / "results")["vgg38"]
    last = run.gradients.query("over == 'mean' and epoch == epoch.max()")
    zero = sum(value == 0 for value in last["update_ratio"])
    assert zero > 1
    caption = figures.gradient_heatmap(run, "update_ratio").caption
    assert f"exactly zero in {zero} of 39 tensors" in caption
    assert "Grey: exactly zero." in caption
    assert "smallest" not in caption
    assert "smallest in <code>" in figures.gradient_heatmap(run).caption


def test_gradients_of_all_networks_are_drawn_on_one_range() -> None:
    runs = select.representative_runs(ROOT / "results")
    ticks = [
        re.findall(r"10\^\{(-?\d+)\}", figures.gradient_flow(runs[name]).svg)
        for name in ("vgg38", "vgg38_bn_rc_lr1e-2")
    ]
    assert ticks[0] == ticks[1] and len(ticks[0]) > 4


def test_tensors_of_bn_are_drawn_apart_where_there_are_several() -> None:
    runs = select.representative_runs(ROOT / "results")
    for name, panels in (("vgg38_rc", 1), ("vgg38_bn", 2)):
        assert figures.gradient_heatmap(runs[name]).svg.count("<svg") == panels


def test_every_line_is_named_in_both_panels() -> None:
    every = select.all_runs(ROOT / "results")
    for panel in figures.comparison(every).svg.split("</svg>")[:2]:
        for name in select.one_suite(every):
            assert f">{figures._short(name)}</text>" in panel


def test_chance_does_not_look_like_dynamics() -> None:
    ticks = re.findall(r">(\d+)</text>", figures.curves([select.representative_runs(ROOT / "results")["vgg38"]]).svg)
    assert {"0", "1", "5"} <= set(ticks)  # of the axis of accuracy, in per cent


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_labels_stay_apart_and_inside(scale: str) -> None:
    epochs = pd.Series([1, 2, 3])
    for last in (100.0, 98.0, 50.0, 1.0):
        with canvas.drawing(canvas.PANEL) as (ax,):
            lines = [(name, ax.plot(epochs, [2.0, last, np.nan], "--", marker="s")[0]) for name in "abcd"]
            lines.append(("never finite", ax.plot(epochs, [np.nan] * 3)[0]))
            ax.set(ylim=(1, 100), yscale=scale)
            direct_labels(ax, lines)
        labels = [text for text in ax.texts if isinstance(text, Annotation)]
        points = [text.xy for text in labels]
        heights = ax.transAxes.inverted().transform(ax.transData.transform(points))[:, 1]
        assert [text.get_text() for text in labels] == list("abcd")
        assert {x for x, _ in points} == {2}
        assert (np.diff(heights) > 0.06).all()
        assert heights.min() > -1e-6 and heights.max() < 1 + 1e-6


def test_line_that_ends_among_the_others_is_named_without_a_stroke() -> None:
    with canvas.drawing(canvas.PANEL) as (ax,):
        lines = [("long", ax.plot([1, 2, 3], [1, 1, 1])[0]), ("short", ax.plot([1, 2, 3], [2, 2, np.nan])[0])]
        direct_labels(ax, lines)
    strokes = [artist.xy for artist in ax.artists if isinstance(artist, AnnotationBbox)]
    assert strokes == [(3.0, 1.0)] and len(ax.texts) == 2


def test_a_name_that_was_moved_is_joined_to_the_end_of_its_line_and_no_other() -> None:
    with canvas.drawing(canvas.PANEL) as (ax,):
        lines = [(name, ax.plot([1, 2], [0, end])[0]) for name, end in (("low", 1.0), ("same", 1.0), ("high", 8.0))]
        ax.set_ylim(0, 10)
        direct_labels(ax, lines)
    leaders = [patch for patch in ax.patches if isinstance(patch, ConnectionPatch)]
    (leader,) = leaders
    assert tuple(leader.xy1) == (2, 1) and leader.xy2[1] == pytest.approx(1.66)
    assert leader.get_edgecolor() == to_rgba(lines[1][1].get_color())


def test_validation_loss_of_a_network_that_guesses_is_told_as_such() -> None:
    caption = figures.curves([select.representative_runs(ROOT / "results")["vgg38"]]).caption
    assert "Validation loss: that of VGG38 stays about that of guessing, ln 100 = 4.61." in caption


@pytest.mark.parametrize("number", [1.2e-16, 9.96e-5, 0.01, 0.5, 42.0, 99.4, 99.6, 350.0, 0.0, -3e-9])
def test_numbers_have_a_power_of_ten_where_they_need_one(number: float) -> None:
    shown = render.power(number)
    assert number_in(shown) == pytest.approx(number, rel=0.06)
    assert "e" not in shown and ("×" in shown) == (number != 0 and not 0.01 <= abs(number) < 99.5)
