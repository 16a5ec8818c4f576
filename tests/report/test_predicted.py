"""Where theory has gradient and signal lost: beside what was measured, and beside runs whose outcome is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.report.test_further import by_suite, made
from vggkit.report import predicted
from vggkit.report.untrained import Untrained
from vggkit.runs import propagation as artefact
from vggkit.runs.records import Run
from vggkit.study import DEPTHS

ROOT = Path(__file__).parents[2]
STOP = "So they stop where theory has the gradient lost."


@pytest.fixture(scope="module")
def measured() -> Untrained:
    return Untrained(artefact.read_all(ROOT / "results"))


def test_theory_starts_from_the_fewest_layers_and_meets_what_is_measured_with_more(measured: Untrained) -> None:
    expected, found = predicted.expected_margin(measured), predicted.gradient_margin(measured)
    assert expected[DEPTHS[0]] == found[DEPTHS[0]]
    assert np.log10(expected).to_numpy() == pytest.approx(np.log10(found.loc[list(DEPTHS)]).to_numpy(), abs=0.5)
    assert predicted.crossing(expected, 1.0) == predicted.crossing(found, 1.0) == (14, 20)
    cosines, kept = predicted.expected_cosine(measured), predicted.told_apart(measured)
    for precision in cosines:  # one rounding of what theory has differ, where the network rounds at every layer
        assert predicted.crossing(cosines[precision], predicted.HALF) == predicted.crossing(kept[precision], 0.5)


def test_a_value_is_lost_between_two_depths_or_nowhere() -> None:
    def lost(*values: float) -> tuple[int, int] | None:
        return predicted.crossing(pd.Series(values, index=DEPTHS[: len(values)]), 1.0)

    assert lost(3.0, 2.0, 0.5, 0.1) == (14, 20)
    assert lost(3.0, 2.0) is lost(0.5, 0.1) is lost(3.0, 0.5, 2.0, 0.1) is lost(3.0, 1.0, np.nan, 2.0) is None


def told(measured: Untrained, *tests: float) -> str:
    """What is told of plain networks in bfloat16 with these accuracies, the shallowest first."""
    runs: list[Run] = [made("vgg38", test, depth=depth) for depth, test in zip(DEPTHS, tests, strict=False)]
    return predicted.told(by_suite(runs), measured)


def test_networks_that_stop_where_the_gradient_is_lost_are_told_to(measured: Untrained) -> None:
    text = told(measured, 0.4, 0.3, 0.2, 0.01, 0.01)
    assert "falls below Adam's epsilon between 14 layers (7.9 times epsilon; measured: 4.7) and 20 layers (0.03" in text
    assert "between 8 and 14 layers in bfloat16" in text and "between 20 and 26 layers in float32" in text
    assert "of the runs whose gradient was kept 2 of 2 learn, of the others 1 of 3, all with 20 layers." in text
    assert "Rounding alone does not stop them: VGG14 in bfloat16 (a cosine of 0.043) and VGG20 in" in text
    assert (
        "keep no signal, and learn." in text
        and "VGG14 in bfloat16 (a cosine of 0.043) keeps no signal, and learns." in (told(measured, 0.4, 0.3, 0.01))
    )
    assert STOP in text


def test_networks_that_stop_elsewhere_are_not_told_to_stop_there(measured: Untrained) -> None:
    sooner, later = told(measured, 0.4, 0.01, 0.01), told(measured, 0.4, 0.3, 0.01, 0.2)
    assert STOP not in sooner and "Rounding alone" not in sooner
    assert STOP not in later and "all with 26 layers" in later
    assert STOP in told(measured, 0.4, 0.3, 0.01) and "Of the runs" not in told(measured) + told(measured, 0.4)


def test_figure_has_what_is_measured_beside_theory(measured: Untrained) -> None:
    gradient, signal = predicted.figure(measured).values["panels"]
    assert [line["name"] for line in gradient["lines"]] == ["plain, measured", "plain"]
    assert [line["name"] for line in signal["lines"]] == [
        "float32, measured", "float32", "bfloat16, measured", "bfloat16"
    ]  # fmt: skip
