"""How often the rule finds a bias of bfloat16 where there is none or one, and what the page says of it."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.shared import part_of_summary
from vggkit.config import RunConfig
from vggkit.report import precision
from vggkit.runs.records import Run, segment


def made_up(generator: np.random.Generator, orders: int) -> dict[str, Any]:
    """Branches whose losses differ much between orders, as in real ones, and little between the precisions."""
    losses, noise = generator.normal(1.5, 0.05, orders), generator.normal(0, 3e-4, (2, orders))
    branches = [
        {"order": order, "precision": name, "epochs": [{"train_loss": losses[order] + noise[side, order]}]}
        for order in range(orders)
        for side, name in enumerate(("float32", "bfloat16"))
    ]
    return {"config": RunConfig().to_dict(), "epoch": 1, "branches": branches}


def share_found(values: np.ndarray, family: int) -> np.ndarray:
    """Whether a bias is found in each row of differences."""
    means, halves, _ = np.array([precision.interval(row, family) for row in values]).T
    return np.asarray(np.abs(means) > halves)


def test_without_a_bias_at_most_five_per_cent_of_the_tables_find_one() -> None:
    tables, states = 1000, 5
    values = np.random.default_rng(0).normal(0, 4e-4, (tables * states, 3))
    wrong = share_found(values, states).reshape(tables, states).any(axis=1).sum()
    assert 0 < wrong <= stats.binom.ppf(0.999, tables, 0.05)


@pytest.mark.parametrize(("states", "orders"), [(1, 3), (1, 6), (5, 3), (5, 6)])
def test_a_bias_of_the_size_named_is_found_in_four_of_five_cases(states: int, orders: int) -> None:
    noise = np.random.default_rng(1).normal(0, 4e-4, (1000, orders))
    reach = stats.t.ppf(1 - 0.05 / (2 * states), orders - 1)
    detectable = precision._detectable(reach, orders - 1) * 4e-4 / np.sqrt(orders)
    assert share_found(noise + detectable, states).mean() == pytest.approx(0.8, abs=0.05)
    assert share_found(noise, states).mean() < 0.07


def test_one_order_tells_nothing_and_half_a_pair_does_not_count() -> None:
    kept = made_up(np.random.default_rng(2), 2)
    kept["branches"] = kept["branches"][:3]
    (one,) = precision.differences([kept])
    assert (one.orders, one.half) == (1, np.inf)
    assert precision.verdict(one) == "cannot be told"
    assert precision.differences([kept | {"branches": kept["branches"][:1]}]) == []


def test_the_interval_is_students() -> None:
    values = np.array([0.1, 0.4, -0.2, 0.3])
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    mean, half, _ = precision.interval(values)
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_page_says_what_the_branches_show() -> None:
    kept = made_up(np.random.default_rng(3), 4)
    (one,) = precision.differences([kept])
    pairs = precision.paired_losses(kept["branches"])
    assert one.mean == pytest.approx((pairs["bfloat16"] - pairs["float32"]).mean())
    assert f"a shift of {one.detectable:.4f} would have been found" in precision.told([kept])
    for branch in kept["branches"]:
        branch["epochs"][0]["train_loss"] += 0.1 * (branch["precision"] == "bfloat16")
    told, page, figure = precision.told([kept]), precision.html([kept]), precision.figure([kept])
    assert told.startswith("bfloat16 changes the training loss of VGG38 BN+RC after epoch 1")
    assert ">found</td>" in page and "+0.10" in page
    assert told in figure.caption and figure.svg.count("<svg") == 1
    assert precision.told([]).startswith("No state")


def test_machines_whose_bfloat16_was_not_tried_are_named() -> None:
    kept = made_up(np.random.default_rng(4), 2)
    for branch in kept["branches"]:
        branch["made"] = {"device": "Processor A"}

    def run(device: str, precision: str) -> Run:
        config = RunConfig(precision=precision)
        part = segment(config, 1, 1, {"device": device, "threads": 1, "versions": {"torch": "2"}, "commit": None})
        return Run(config, pd.DataFrame(), pd.DataFrame(), part_of_summary(segments=[part]))

    tried = [run("Processor A", "bfloat16"), run("Processor B", "float32")]
    assert precision.machines([kept]) == {"Processor A"} and "[Processor A]" in precision.figure([kept]).caption
    assert precision.untried(tried, [kept]) == ""
    assert precision.untried([*tried, run("GPU C", "bfloat16")], [kept]).startswith("No state was tried on GPU C, ")


def test_a_pair_of_two_machines_or_with_a_loss_that_is_not_finite_is_none() -> None:
    kept = made_up(np.random.default_rng(5), 4)
    for branch in kept["branches"]:
        branch["made"] = {"device": "Processor A", "commit": "a" if branch["order"] == 1 else None}
    kept["branches"][2]["made"] = {"device": "GPU C"}
    kept["branches"][5]["epochs"] = [{"train_loss": None}]
    assert list(precision.paired_losses(kept["branches"]).index) == [0, 3]
    assert ">2 of 4</td>" in precision.html([kept])
