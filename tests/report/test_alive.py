"""When layers come alive and how far they move, from runs whose truth is known or written out here."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vggkit.config import RunConfig
from vggkit.report import alive, cures, maps
from vggkit.report.alive import Trained
from vggkit.report.canvas import GAP
from vggkit.report.cures import Look
from vggkit.runs.change import Change
from vggkit.runs.files import RunPaths
from vggkit.runs.records import Run
from vggkit.runs.store import read_run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tiny: RunConfig, trained: Path) -> Run:
    return read_run(RunPaths.of(trained, tiny).folder)


def with_values(run: Run, statistic: str, layers: list[list[float]]) -> Run:
    """The run with these means in its convolutions and linear layer, a list of epochs for each."""
    gradients = run.gradients.copy()
    chosen = (gradients["over"] == "mean") & (gradients["kind"] != "bn")
    order = gradients[chosen].sort_values(["layer", "epoch"]).index
    gradients.loc[order, statistic] = np.array(layers, dtype="float32").ravel()
    return dataclasses.replace(run, gradients=gradients)


def test_a_layer_is_alive_from_the_first_epoch_above_epsilon(run: Run) -> None:
    made = with_values(
        run, "mean_abs", [[1e-9, 1e-9, 2e-9], [1e-9, 1e-9, 1e-3], [1e-9, 2e-8, 0.0], *[[1.0, 1.0, 1.0]] * 5]
    )
    assert alive.alive_from(made).tolist() == [0, 3, 2, 1, 1, 1, 1, 1]
    told = maps.heatmaps("mean_abs", [("VGG08", Trained(made, None))]).caption
    assert "alive in the first epoch: layers 4 to 8, in the last: layers 2, 4 to 8, in none: layer 1." in told


def test_without_weights_the_length_of_the_way_stands_in(run: Run) -> None:
    made = with_values(run, "update_ratio", [[0.0, 0.0, 0.0], [1e-4, 1e-4, 1e-4], *[[0.1, 0.2, 0.3]] * 6])
    one = Trained(made, None)
    assert alive.moved_by(one).tolist() == pytest.approx([0, 12e-4, *[2.4] * 6], rel=1e-6)  # 4 steps an epoch
    assert alive.still(one) == [1, 2]
    assert maps._moves(one) == (
        "not moved, by the sum of their updates: layers 1, 2, in 3 epochs layer 1 by 0 of its norm at most"
    )


def test_layers_are_told_to_move_only_where_the_weights_are_known(run: Run) -> None:
    def one(learning_rate: float, ways: list[float], displacement: float | None = None) -> Trained:
        made = with_values(run, "update_ratio", [[way] * 3 for way in ways])
        made = dataclasses.replace(made, config=dataclasses.replace(run.config, learning_rate=learning_rate))
        return Trained(made, Change(1, "", (displacement,) * 8, (), ()) if displacement else None)

    stuck, unknown, moving = one(0.1, [0.0] + 7 * [0.1]), one(0.2, 8 * [0.1]), one(0.3, 8 * [0.1], 0.5)
    name, other = stuck.run.config.name, unknown.run.config.name
    first = f"In 3 epochs training leaves some layers where they began: layer 1 of {name}."
    assert alive.told([stuck, moving]) == f"{first} In the others every layer moves."
    way = f"{other}, whose weights after training are missing, only the length of the way is known (†)."
    assert alive.told([stuck, unknown]) == f"{first} Of {way}"
    assert alive.told([stuck, unknown, moving]) == (f"{first} In the others every layer moves; of {way}")
    assert alive.told([moving]) == "In 3 epochs every layer moves."
    assert alive.told([unknown]) == f"Of {way}"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_run_that_diverged_says_so_and_its_last_epoch_counts_for_nothing(value: float, run: Run) -> None:
    made = with_values(run, "mean_abs", [[1.0, 1e-9, value]] * 8)
    made = with_values(made, "update_ratio", [[1e-3, 1e-3, value]] * 8)
    made = dataclasses.replace(made, summary=made.summary | {"diverged": True})
    one = Trained(made, None)
    assert alive.moved_by(one).tolist() == pytest.approx([8e-3] * 8, rel=1e-6)  # 4 steps in each of two epochs
    assert list(alive.by_epoch(made, "mean_abs").columns) == [1, 2]
    assert "diverged in epoch 3" in maps.heatmaps("mean_abs", [("VGG08", one)]).caption


def test_plain_vgg38_does_not_come_alive_and_its_first_layers_do_not_move() -> None:
    found = {one.run.config.name: one for one in alive.read(ROOT / "results")}
    folder = ROOT / "results/table1/vgg38/seed-0"
    rows = pd.read_parquet(folder / "gradients.parquet").query("layer == 0 and over == 'mean'")
    assert rows["mean_abs"].max() < 1e-8
    assert alive.alive_from(found["vgg38"].run)[1] == 0
    assert found["vgg38"].change and alive.moved_by(found["vgg38"])[1] < 1e-6
    assert not alive.still(found["vgg38_rc"])
    table = alive.table_html(list(found.values()))
    assert table.count("<tr>") == 8
    assert "never" in table and "nan" not in table
    assert "no run yet" not in table and "no run yet" in alive.table_html([found["vgg38"]])
    gradient, update, *_ = maps.figures(list(found.values()))
    assert "VGG38 BN; VGG38 RC; VGG38 BN+RC; " in gradient.caption and "in none: layers 1 to 36." in gradient.caption
    assert "VGG38: not moved: layers 1 to " in update.caption and "VGG08: the updates of every" in update.caption
    assert maps.figures([]) == []


def test_of_each_network_a_panel_has_its_values_and_one_key_is_for_all(run: Run) -> None:
    two = [("A & B", Trained(run, None)), ("C", Trained(run, None))]
    figure = maps.heatmaps("update_ratio", two)
    assert figure.svg.count("<svg ") == 3 and figure.caption.startswith(
        "A &amp; B; C: the updates of every layer add up to 1 % of its norm or more."
    )
    first, second, key = figure.values["panels"]
    assert (first["title"], second["title"], key["lines"]) == ("A & B", "C", [])
    assert first["image"] == maps.LABELS["update_ratio"] and len(first["lines"]) == 8
    drawn = figure.values["series"][first["lines"][2]["y"]]
    assert drawn == pytest.approx(alive.by_epoch(run, "update_ratio").loc[3].tolist(), rel=5e-3)
    full_rows = maps.heatmaps("update_ratio", two * 4)  # the key would be alone in a third row of four
    assert [f"gap:{GAP}px;max-width:" in drawing.svg for drawing in (figure, full_rows)] == [False, True]


def test_zero_is_a_value_and_no_gap(run: Run) -> None:
    made = with_values(run, "update_ratio", [[0.0, 1e-3, 1e-3], *[[1e-3, 1e-3, 1e-3]] * 7])
    figure = maps.heatmaps("update_ratio", [("A", Trained(made, None))])
    first = figure.values["panels"][0]["lines"][0]
    assert figure.values["series"][first["y"]] == [0, 0.001, 0.001]


def test_run_that_diverged_in_its_first_epoch_is_told_and_not_drawn(run: Run) -> None:
    first = run.gradients["epoch"] == 1
    gone = dataclasses.replace(
        with_values(run, "mean_abs", [[float("nan")] * 3] * 8),
        summary=run.summary | {"diverged": True},
        metrics=run.metrics[:1],
    )
    gone = dataclasses.replace(gone, gradients=gone.gradients[first])
    row = alive._row("vgg08", Trained(gone, None))
    assert set(row.values()) == {"VGG08", "diverged"}
    figure = maps.heatmaps("mean_abs", [("A", Trained(run, None)), ("B", Trained(gone, None))])
    assert figure.svg.count("<svg ") == 2 and "B: diverged in epoch 1." in figure.caption


def test_layers_that_are_given_little_are_told(run: Run) -> None:
    assert run.signal is not None
    signal = run.signal.copy()
    signal.loc[(signal["epoch"] == 3) & signal["layer"].isin([6, 7, 8]), alive.SHARE] = 0.0099
    faint = dataclasses.replace(run, signal=signal)
    figure = maps.heatmaps(alive.SHARE, [("A", Trained(run, None)), ("B", Trained(faint, None))])
    assert "A: 1 % or more differs in every layer. B: less than 1 % differs in layers 6 to 8." in figure.caption


def test_signal_is_drawn_where_it_was_logged_in_every_epoch(run: Run) -> None:
    assert run.signal is not None and alive.logs_signal(run)
    parts = run.signal[9:].reset_index(drop=True)
    for signal in (None, parts):  # of an older version, and of a run that one began
        older = dataclasses.replace(run, signal=signal)
        assert not alive.logs_signal(older)
        named = [("A", Trained(older, None)), ("B", Trained(run, None))]
        drawn = maps.heatmaps(alive.SHARE, named)
        assert [panel["title"] for panel in drawn.values["panels"]] == ["B", ""]
        assert "No run logged it of A. Share of each" in drawn.caption
    shares = alive.by_epoch(run, alive.SHARE)
    assert shares.shape == (8, 3)
    assert shares.loc[3, 2] == run.signal.query("epoch == 2 and layer == 3")["share"].item()
    figure = cures.signal_by_epoch({"": [("VGG08", Look(0, "o"), run), ("VGG08 & more", Look(1, "s"), run)]})
    first, second = figure.values["panels"][0]["lines"]
    assert (first["name"], second["name"]) == ("VGG08", "VGG08 & more")
    assert figure.values["series"][first["y"]] == pytest.approx(shares.loc[8].tolist(), rel=1e-5)
    assert "VGG08 &amp; more" in figure.caption


def test_more_ends_of_lines_than_a_caption_bears_are_in_the_description(run: Run) -> None:
    assert run.signal is not None
    faint = dataclasses.replace(run, signal=run.signal.assign(share=run.signal["share"] * 1e-6))
    for count, told in ((cures.MOST_LISTED, True), (cures.MOST_LISTED + 1, False)):
        names = [f"network {place}" for place in range(count)]
        panels = {"a": [(name, Look(0, "o"), faint) for name in names[:-1]], "b": [(names[-1], Look(0, "o"), run)]}
        figure = cures.signal_by_epoch(panels)
        assert all((name in figure.caption) == told and name in figure.description for name in names[:-1])
        kept = (
            f"After the last epoch more than 1 % differs in a with none, and in b with {names[-1]}. In the others it is"
        )
        assert (kept in figure.caption) != told


def test_of_the_signal_the_fullest_run_that_logs_it_is_shown_and_told_where_it_is_shorter(run: Run) -> None:
    def of(config: RunConfig, logs: bool = True) -> Run:
        return dataclasses.replace(run, config=config, signal=run.signal if logs else None)

    full, short = (RunConfig.named("vgg08", suite=suite) for suite in ("table1", "short"))
    silent = Trained(of(full, logs=False), None)
    for heard, name in ((of(full), "VGG08"), (of(short), "VGG08 (3 epochs)")):
        *_, signal = maps.figures([silent._replace(heard=heard)])
        assert [panel["title"] for panel in signal.values["panels"]] == [name, ""]
    assert len(maps.figures([silent])) == 2 == len(maps.figures([silent._replace(heard=of(full))])) - 1


def test_signal_of_table_1_is_that_of_runs_that_log_it() -> None:
    found = alive.read(ROOT / "results")
    assert sum(trained.heard is not None for trained in found) > len(found) / 2
    for trained in found:
        assert trained.heard is None or (
            alive.logs_signal(trained.heard) and trained.heard.config.name == trained.run.config.name
        )
