"""The explorer's data: what its page reads from them is what the runs measured, within the rounding that it states."""

import gzip
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shared import ROOT
from vggkit.report import explorer
from vggkit.runs.store import read_run
from vggkit.study import CONFIGURATIONS, STATISTICS, shown_suites

RESULTS = ROOT / "results"
LIMIT = 100_000  # bytes, compressed


def read(text: str, epochs: int, told: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The values of a packed text by what the page is told alone: signs, digits, how many of them, and the step."""
    digits, base = told["digits"], len(told["digits"])
    signs, levels = iter(text), np.zeros((len(text) // epochs + 1, epochs), dtype=int)
    values: list[float] = []
    for sign in signs:
        tensor, epoch = divmod(len(values), epochs)
        before = levels[tensor - 1] if tensor else np.zeros(epochs, dtype=int)
        levels[tensor, epoch] = levels[tensor, epoch - 1] + before[epoch] - before[epoch - 1] if epoch else before[0]
        if sign in (told["zero"], told["missing"]):
            values.append(0.0 if sign == told["zero"] else math.nan)
            continue
        written = [next(signs) for _ in range(told["places"])] if sign == told["far"] else [sign]
        number = sum(digits.index(digit) * base**place for place, digit in enumerate(reversed(written)))
        levels[tensor, epoch] += number - base ** len(written) // 2
        values.append(10 ** (levels[tensor, epoch] * told["step"]))
    return np.array(values).reshape(-1, epochs)


@pytest.fixture(scope="module")
def page() -> str:
    return explorer.page_data(RESULTS)


@pytest.fixture(scope="module")
def told(page: str) -> dict[str, Any]:
    found = re.fullmatch(r'<script type="application/json" id="vggkit-explorer-data">([^<]*)</script>', page)
    assert found
    return dict(json.loads(found[1]))


def test_all_shown_runs_of_the_seed_are_there_the_fullest_of_a_configuration_first(told: dict[str, Any]) -> None:
    places = {
        (suite, name)
        for suite in shown_suites()
        for name in CONFIGURATIONS
        if (RESULTS / suite / name / "seed-0" / "summary.json").exists()
    }
    assert {(run["suite"], run["name"]) for run in told["runs"]} == places
    for name in told["titles"]:
        ranks = [shown_suites().index(run["suite"]) for run in told["runs"] if run["name"] == name]
        assert ranks == sorted(ranks)


def test_decoded_values_are_the_artefacts_within_the_stated_rounding(told: dict[str, Any]) -> None:
    assert told["error"] < 0.003
    for run in told["runs"]:
        file = RESULTS / run["suite"] / run["name"] / "seed-0" / "gradients.parquet"
        rows = pd.read_parquet(file).query("over == 'mean'")
        bn = rows[rows["kind"] == "bn"]
        assert ("bn" in run["values"]) == (len(bn) > 0)
        for kind, part in {"layers": rows.drop(bn.index), "bn": bn}.items():
            if not len(part):
                continue
            part = part.sort_values(["layer", "epoch"])
            assert run["tensors"][kind] == list(part["parameter"].unique())
            assert list(part["epoch"].unique()) == list(range(1, run["epochs"] + 1))
            for name in STATISTICS:
                values = read(run["values"][kind][name], run["epochs"], told)
                np.testing.assert_allclose(values.ravel(), part[name], rtol=told["error"] * (1 + 1e-6), atol=0)


def test_accuracies_are_the_runs_in_per_cent(told: dict[str, Any]) -> None:
    for run in told["runs"]:
        metrics = pd.read_csv(RESULTS / run["suite"] / run["name"] / "seed-0" / "metrics.csv")
        assert run["accuracy"] == pytest.approx(list(100 * metrics["validation_accuracy"]), abs=0.05 + 1e-9)


def test_page_is_small_and_stays_so_with_full_runs_of_all_configurations(page: str, told: dict[str, Any]) -> None:
    size = len(gzip.compress(page.encode()))
    values = sum(len(names) * run["epochs"] for run in told["runs"] for names in run["tensors"].values())
    full = {run["name"] for run in told["runs"] if run["full"]}
    missing = {
        run["name"]: 100 * sum(map(len, run["tensors"].values())) for run in told["runs"] if run["name"] not in full
    }
    assert size < LIMIT
    assert size * (values + sum(missing.values())) / values < LIMIT


ANY = st.floats(0, 1e300) | st.sampled_from([0.0, math.nan, math.inf])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(ANY, min_size=3, max_size=3), min_size=1, max_size=4))
def test_any_values_come_back_within_the_rounding(values: list[list[float]]) -> None:
    told = {
        "digits": "".join(explorer.DIGITS), "places": explorer.PLACES, "step": explorer.STEP,
        "zero": explorer.ZERO, "missing": explorer.MISSING, "far": explorer.FAR,
    }  # fmt: skip
    given_values = np.array(values)
    found = read(explorer.packed(given_values), 3, told)
    expected = np.where(np.isfinite(given_values), given_values, np.nan)
    short = (expected > 0) & (expected < 1e-300)  # have fewer digits themselves
    np.testing.assert_allclose(found[~short], expected[~short], rtol=explorer.LARGEST_ERROR * (1 + 1e-6))
    assert (found[short] > 0).all()


def test_a_statistic_that_a_run_did_not_log_and_a_diverged_epoch_are_left_open() -> None:
    run = read_run(RESULTS / "preview/vgg08/seed-0")
    gradients = run.gradients.drop(columns="update_ratio")
    last = (gradients["epoch"] == len(run.metrics)) & (gradients["layer"] == gradients["layer"].max())
    gradients.loc[last, "mean_abs"] = math.inf
    found = explorer.packed_run(replace(run, gradients=gradients))
    assert set(found["values"]["layers"]) == {"mean_abs", "l2_norm"}
    assert found["values"]["layers"]["mean_abs"].count(explorer.MISSING) == 1
    assert not found["full"] and found["epochs"] == len(run.metrics)


def test_without_runs_there_is_nothing_to_choose(tmp_path: Path) -> None:
    told = explorer.data(tmp_path)
    assert told["runs"] == told["pair"] == [] and told["titles"] == {}
