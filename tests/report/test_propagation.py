"""The chapter on the cause: its numbers are those of the measurements, and theory meets them."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.shared import number_in
from vggkit.networks import theory
from vggkit.report import cause, propagation, untrained
from vggkit.report.untrained import Moved, Untrained
from vggkit.runs import epsilon as steps
from vggkit.runs import propagation as artefact

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def measured() -> Untrained:
    return Untrained(artefact.read_all(ROOT / "results"))


@pytest.fixture(scope="module")
def moved() -> Moved:
    return Moved(steps.read_all(ROOT / "results"))


@pytest.fixture(scope="module")
def plain() -> pd.DataFrame:
    """The layers of plain VGG38 with the default initialisation, read without the library."""
    files = sorted((ROOT / "results" / "propagation").glob("seed-*.parquet"))
    frame = pd.concat([pd.read_parquet(file).assign(file=file.name) for file in files])
    return frame.query("depth == 38 and not batch_norm and not residual and initialisation == 'default'")


def test_interval_is_that_of_students_t_of_logarithms() -> None:
    values = [1e-3, 2e-3, 8e-3]
    logs = np.log(values)
    low, high = stats.t.interval(0.95, 2, logs.mean(), stats.sem(logs))
    assert untrained.interval(values).tolist() == pytest.approx(np.exp([logs.mean(), low, high]).tolist())
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    plain = untrained.intervals(pd.Series([*values, 5.0], index=[7, 7, 7, 8]), arithmetic=True)
    assert plain.loc[7].tolist() == pytest.approx([np.mean(values), low, high])
    assert plain.loc[8, "mean"] == 5 and plain.loc[8].isna().sum() == 2
    assert untrained.interval([1.0, 0.0]).tolist() == [0, 0, 0]
    assert untrained.interval([3.0])["mean"] == pytest.approx(3) and np.isnan(untrained.interval([3.0])["low"])
    assert propagation.ranged(untrained.interval([3.0])) == "3"


def test_what_is_drawn_is_what_was_measured(measured: Untrained, plain: pd.DataFrame) -> None:
    share = plain["between_images"] / plain["size"]
    expected = np.exp(np.log(share).groupby(plain["layer"]).mean())
    assert measured.by_layer("plain", "share")["mean"].tolist() == pytest.approx(expected.tolist())
    ends = plain.set_index(["file", "layer"])["error"].unstack()
    growth = np.exp(np.log(ends[2] / ends[38]).mean())
    assert measured.by_depth("plain", "growth")["mean"][38] == pytest.approx(growth)


def test_theory_meets_the_plain_network(measured: Untrained) -> None:
    """Without a fitted number, over more than ten powers of ten."""
    share = measured.by_layer("plain", "share")["mean"].loc[2:36]
    expected = untrained.expected_share(measured).loc[2:36]
    assert share.iloc[-1] < 1e-6
    assert np.abs(np.log10(share / expected)).max() < 0.7
    error = measured.by_layer("plain", "error")["mean"].loc[2:38]
    assert error.iloc[0] < 1e-10
    assert np.abs(np.log10(error / untrained.expected_error(measured))).max() < 0.7
    for value in ("share", "growth"):
        found = measured.factor("plain", value)["mean"]
        assert found == pytest.approx(untrained.expected_factor(measured, "plain", value), abs=0.03)
    assert untrained.expected_factor(measured, "BN", "growth") == theory.batch_norm_gain() ** 0.5


def test_factor_is_the_slope_of_known_powers(measured: Untrained) -> None:
    rows = measured.frame
    known = Untrained.__new__(Untrained)
    known.frame = rows.assign(error=0.7 ** (rows["depth"] - rows["layer"]).astype(float))
    # From the linear layer back to the second one there are depth - 2 layers.
    assert known.factor("plain", "growth").tolist() == pytest.approx([0.7] * 3)


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text.replace("\u00a0", "~"))
    assert match is not None, text
    return match[1].replace("~", "\u00a0")


def test_figures_say_what_they_draw(measured: Untrained, moved: Moved, plain: pd.DataFrame) -> None:
    for figure in (
        propagation.forward(measured),
        propagation.backward(measured),
        propagation.depth(measured),
        propagation.rounded(measured),
        propagation.epsilon(moved),
    ):
        ET.fromstring(figure.svg)
        assert not re.search(r"\b(nan|inf|None)\b", figure.caption + re.sub(r'"data:[^"]*"', "", figure.svg))
    caption = propagation.backward(measured).caption
    first = np.exp(np.log(plain.query("layer == 1")["weight_gradient"]).mean())
    assert number_in(found(r"(\S+) in the first one", caption)) == pytest.approx(first, rel=0.05)
    assert f"{plain['file'].nunique()} seeds" in caption


def test_sentences_and_table_are_of_the_measurements(measured: Untrained, moved: Moved, plain: pd.DataFrame) -> None:
    said = cause.sentences(measured, moved)
    assert f"There are {plain['file'].nunique()} seeds" in said["settings"]
    gap = np.exp(np.log(plain.query("layer == 38")["correlation_gap"]).mean())
    assert number_in(found(r"a correlation of 1 − (\S+?)\.?$", said["forward"])) == pytest.approx(gap, rel=0.05)
    shallow = steps.Arm(8, "default", 1e-8)
    loss = np.mean([travel.arms[shallow].losses[-cause.LAST :] for travel in moved.travels])
    assert ("teach VGG08 nothing" in said["returns"]) == (loss > np.log(100) - 0.05)
    text = " ".join(said.values())
    assert not re.search(r"\b(nan|inf|None)\b", text)
    table = cause.table_html(measured)
    assert table.count("<tr>") == 9 and "nan" not in table


def test_the_smaller_epsilon_moves_the_first_layers(moved: Moved) -> None:
    usual, tiny = (moved.by_layer(steps.Arm(38, "default", value), "moved")["mean"] for value in (1e-8, 1e-30))
    assert usual[1] < 1e-6 < 1e-2 < tiny[1]
    found = [travel.arms[steps.Arm(38, "default", 1e-30)].moved[0] for travel in moved.travels]
    assert tiny[1] == pytest.approx(float(np.exp(np.mean(np.log(found)))))
