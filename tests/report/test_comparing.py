"""Two sides beside each other: settings that differ, and differences with intervals by an independent formula."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.shared import Call, part_of_summary
from vggkit.config import ConfigError, RunConfig
from vggkit.report import comparing
from vggkit.runs.records import Run
from vggkit.training.runner import train


def ended(name: str, seed: int, loss: float, accuracy: float, **settings: Any) -> Run:
    """A run of which only its end is known."""
    final: dict[str, float] = {}
    for split in ("train", "validation", "test"):
        final |= {f"{split}_loss": loss, f"{split}_accuracy": accuracy}
    summary = part_of_summary(diverged=False, final=final)
    return Run(RunConfig.named(name, seed=seed, **settings), pd.DataFrame(), pd.DataFrame(), summary)


def test_interval_of_a_loss_is_that_of_the_two_sample_t_test() -> None:
    ours, theirs = [1.0, 1.2, 1.1], [1.4, 1.7]
    first = [ended("vgg38_bn", seed, loss, 0.5) for seed, loss in enumerate(ours)]
    second = [ended("vgg38_rc", seed, loss, 0.5) for seed, loss in enumerate(theirs)]
    frame = comparing._differences([(first, second)]).set_index("metric").loc["test loss"]
    expected = stats.ttest_ind(theirs, ours).confidence_interval(0.95)
    assert frame["difference"] == pytest.approx(np.mean(theirs) - np.mean(ours))
    assert (frame["low"], frame["high"]) == pytest.approx((expected.low, expected.high), rel=1e-3)


def seeds(name: str, losses: list[float], accuracies: list[float]) -> list[Run]:
    return [ended(name, seed, *both) for seed, both in enumerate(zip(losses, accuracies, strict=True))]


def test_spread_of_networks_that_guess_says_nothing_of_one_that_learns() -> None:
    guessing = seeds("vgg38", [4.6052, 4.6053, 4.6051], [0.01, 0.01, 0.01])
    frame = comparing._differences([(guessing, seeds("vgg38_rc", [2.0], [0.4]))]).set_index("metric")
    assert frame.loc["test loss", "method"] == "no interval" and np.isnan(frame.loc["test loss", "low"])
    assert frame.loc["test acc %", "method"] == "images alone"
    assert frame.loc["test acc %", "high"] - frame.loc["test acc %", "low"] > 1
    both = comparing._differences([(guessing, seeds("vgg38", [4.6052, 4.6050], [0.01, 0.01]))]).set_index("metric")
    assert both.loc["test loss", "method"] == "no interval"
    # No seed moves the one that guesses: beside it the spread of the other alone counts.
    shallow = comparing._differences([(guessing, seeds("vgg08", [2.0, 2.1], [0.4, 0.41]))]).set_index("metric")
    assert shallow.loc["test acc %", "method"] == "pooled t"


def test_spread_is_of_networks_of_the_same_depth_the_others_have_images_alone() -> None:
    learning = [seeds("vgg38_rc", [2.0, 2.1, 2.2], [0.40, 0.42, 0.44]), seeds("vgg38_bn", [1.8, 1.9], [0.50, 0.52])]
    one, other = seeds("vgg08", [2.0], [0.45]), [ended("vgg08", 0, 1.9, 0.46, learning_rate=0.01)]
    frame = comparing._differences([(learning[0], learning[1]), (one, other)])
    methods = frame[frame["metric"] == "test acc %"]["method"].tolist()
    assert methods == ["pooled t", "images alone"]
    alone = comparing._differences([(learning[0], learning[1])])
    first = frame[frame["metric"] == "test loss"].iloc[0]
    assert (first["low"], first["high"]) == pytest.approx(
        tuple(alone[alone["metric"] == "test loss"].iloc[0][["low", "high"]])
    )


def test_side_of_which_some_seeds_learned_has_no_interval() -> None:
    mixed = seeds("vgg38", [4.605, 2.0, 4.605], [0.01, 0.40, 0.01])
    frame = comparing._differences([(seeds("vgg38_rc", [2.0, 2.1], [0.4, 0.41]), mixed)])
    assert set(frame["method"]) == {"no interval"} and frame[["low", "high"]].isna().all(axis=None)
    assert frame.set_index("metric").loc["test acc %", "difference"] == pytest.approx(14 - 40.5)


def test_one_seed_each_has_the_interval_of_the_images_alone() -> None:
    first, second = [ended("vgg08", 0, 1.0, 0.40)], [ended("vgg38_rc", 0, 1.5, 0.50)]
    frame = comparing._differences([(first, second)]).set_index("metric")
    accuracy = frame.loc["test acc %"]
    half = 100 * stats.norm.ppf(0.975) * np.sqrt((0.4 * 0.6 + 0.5 * 0.5) / 10_000)  # of two shares of 10,000 images
    assert accuracy["difference"] == pytest.approx(10)
    assert (accuracy["low"], accuracy["high"]) == pytest.approx((10 - half, 10 + half), rel=1e-2)
    loss = frame.loc["test loss"]
    assert loss["difference"] == pytest.approx(0.5) and loss["method"] == "no interval"
    assert loss[["low", "high"]].isna().all()
    shown = comparing.as_text(frame.reset_index()).set_index("metric")["second − first"]
    assert shown["test loss"] == "+0.50" and shown["test acc %"].startswith("+10.00 [+8.6")


def test_one_seed_each_borrows_the_spread_of_shorter_runs_of_the_same_depth() -> None:
    first, second = [ended("vgg38_bn", 0, 1.0, 0.40)], [ended("vgg38_rc", 0, 1.5, 0.50)]
    accuracies, losses = [0.30, 0.32, 0.37], [2.0, 2.2, 2.7]
    shorter = [{"vgg38_bn_rc": seeds("vgg38_bn_rc", losses, accuracies)}]
    frame = comparing._differences([(first, second)], shorter).set_index("metric").loc["test loss"]
    half = stats.t.ppf(0.975, 2) * np.std(losses, ddof=1) * np.sqrt(2)
    assert (frame["low"], frame["high"]) == pytest.approx((0.5 - half, 0.5 + half), rel=1e-3)
    assert frame["method"] == "pooled t of shorter runs"
    other_depth = [{"vgg08": seeds("vgg08", losses, accuracies)}]
    assert comparing._differences([(first, second)], other_depth).set_index("metric").loc["test loss", "method"] == (
        "no interval"
    )


def test_validation_has_fewer_images_and_so_a_wider_interval() -> None:
    first, second = [ended("vgg08", 0, 1.0, 0.40)], [ended("vgg38_rc", 0, 1.5, 0.50)]
    frame = comparing._differences([(first, second)]).set_index("metric")
    width = frame["high"] - frame["low"]
    assert width["val acc %"] == pytest.approx(2 * width["test acc %"], rel=0.02)  # 2,500 images beside 10,000


def test_a_side_that_diverged_has_no_difference() -> None:
    bad = ended("vgg38_rc", 0, 1.0, 0.5)
    bad.summary["diverged"] = True
    frame = comparing._differences([([ended("vgg08", 0, 1.0, 0.4)], [bad])])
    assert frame["difference"].isna().all() and set(frame["method"]) == {"–"}
    assert "nan" not in comparing.as_text(frame).to_string()


def test_settings_that_differ_are_told_with_both_values() -> None:
    first = [ended("vgg08", seed, 1.0, 0.5) for seed in (0, 1)]
    second = [ended("vgg08", 0, 1.0, 0.5, learning_rate=0.01)]
    rows = comparing._settings([(first, second)]).to_numpy().tolist()
    assert rows == [["all", "learning_rate", "0.001", "0.01"], ["all", "seed", "0, 1", "0"]]


def test_settings_that_differ_in_some_pairs_name_their_configurations() -> None:
    pairs = [
        ([ended("vgg08", 0, 1.0, 0.5, suite="a")], [ended("vgg08", 0, 1.0, 0.5, suite="b")]),
        ([ended("vgg38", 0, 1.0, 0.5, suite="a")], [ended("vgg38", 0, 1.0, 0.5, suite="b", epochs=7)]),
    ]
    frame = comparing._settings(pairs)
    assert frame.to_numpy().tolist() == [["all", "suite", "a", "b"], ["vgg38", "epochs", "100", "7"]]
    assert list(comparing.as_text(frame).columns) == ["runs", "setting", "first", "second"]
    assert "runs" not in comparing.as_text(comparing._settings(pairs[:1]))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    settings = {"dataset": "synthetic", "train_images_per_class": 1, "batch_size": 50, "epochs": 1}
    for suite, dropout in (("one", 0.0), ("two", 0.0), ("two", 0.5)):
        train(RunConfig.named("vgg08", suite=suite, dropout=dropout, **settings), results=folder)
    return folder


def test_suites_are_paired_by_configuration_and_single_runs_as_they_are(results: Path) -> None:
    whole = comparing.compare(results, "one", "two")
    assert [(one[0].config.suite, other[0].config.suite) for one, other in whole.pairs] == [("one", "two")]
    other = next(path.name for path in (results / "two").iterdir() if "dropout" in path.name)
    across = comparing.compare(results, "one", f"two/{other}/seed-0")
    assert list(across.settings["setting"]) == ["suite", "dropout"]
    drawn = comparing.figure(across)
    assert drawn.svg.count("<svg") == 2 and "dashed" in drawn.caption


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("nix", "unknown suite 'nix': allowed: one, two"),
        ("twoo/vgg08", "unknown suite 'twoo': did you mean two? allowed: one, two"),
        ("", "unknown suite '': allowed: one, two"),
        ("..", "unknown suite '..': allowed: one, two"),
        ("one/{run}1", "unknown run of one '{run}1': did you mean {run}? allowed: {run}"),
        ("one/../two", "unknown run of one '..': allowed: {run}"),
        ("one/{run}/seed-3", "unknown seed of one/{run} 'seed-3': did you mean seed-0? allowed: seed-0"),
    ],
)
def test_a_place_without_runs_is_one_line(results: Path, place: str, told: str) -> None:
    (run,) = (path.name for path in (results / "one").iterdir())
    place, told = place.format(run=run), told.format(run=run)
    for sides in ((place, "two"), ("two", place)):
        with pytest.raises(ConfigError) as error:
            comparing.compare(results, *sides)
        assert str(error.value) == told


def test_nothing_can_be_compared_where_no_run_is_finished(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^unknown suite 'one': allowed: none yet$"):
        comparing.compare(tmp_path, "one", "two")


@pytest.mark.parametrize(("first", "second"), [("one", "one"), ("two", "two/vgg08/seed-0")])
def test_a_run_on_both_sides_is_one_line(results: Path, first: str, second: str) -> None:
    name = next(path.name for path in (results / first).iterdir())
    with pytest.raises(ConfigError, match=rf"^second: {first}/.*/seed-0 is on both sides; allowed: runs that {first} "):
        comparing.compare(results, first, second.replace("vgg08", name))


def test_book_shows_its_first_configurations_unless_a_side_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {name: [ended(name, 0, 1.0, 0.5, suite=suite)] for name, suite in (("vgg08", "short"), ("vgg38", "table1"))}
    shown: dict[str, list[Run]] = {}
    monkeypatch.setattr(comparing, "fullest_runs", lambda results: shown)
    monkeypatch.setattr(comparing, "compare", lambda results, *sides: sides)

    def sides(*named: str | None) -> Any:
        return comparing.of_book(Path("nowhere"), *named)

    assert sides() is None
    shown["vgg08"] = runs["vgg08"]
    assert sides() is None
    shown["vgg38"] = runs["vgg38"]
    assert sides() == ("short/vgg08", "table1/vgg38")
    assert sides(None, "short/vgg08") == ("table1/vgg38", "short/vgg08")
    assert sides("mine") == ("mine", "short/vgg08")


def test_tables_of_the_page_hold_what_the_frames_do(results: Path) -> None:
    found = comparing.compare(results, "one", "two")
    assert "suite" in comparing.as_html(found.settings) and "images alone" in comparing.as_html(found.differences)


def test_command_prints_in_every_format_and_draws(results: Path, call: Call, tmp_path: Path) -> None:
    for format in ("terminal", "markdown", "csv"):
        drawing = tmp_path / f"{format}.png"
        given = ["--format", format, "--figure", str(drawing), "--results", str(results)]
        status, out, error = call("compare", "one", "two", *given)
        assert (status, error) == (0, "") and "test acc %" in out
        assert drawing.read_bytes().startswith(b"\x89PNG")
    status, _, error = call("compare", "one", "two", "--figure", "no/such/a.png", "--results", str(results))
    assert status == 2 and error.startswith("vggkit: figure: cannot write") and error.count("\n") == 1
    status, out, error = call("compare", "one", "two", "--figure", ".", "--results", str(results))
    assert (status, out) == (2, "") and "figure: '.' is not allowed; allowed: a name that ends in .png" in error
