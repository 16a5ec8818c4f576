"""Verdicts under another choice: what changes is named, and what does not is not."""

from tests.report.test_claims import made_up
from vggkit.report import judgements, sensitivity
from vggkit.report.verdicts import HOLDS, OPEN
from vggkit.runs.records import Run
from vggkit.study import BEST


def runs_of(wide: float) -> dict[str, list[Run]]:
    """Networks of two rates with a small difference each; at the higher rate seeds lie `wide` apart."""
    found = {
        "vgg08": [made_up("vgg08", 0.500, seed=seed) for seed in range(2)],
        "vgg38_rc": [made_up("vgg38_rc", 0.54 + 0.001 * seed, seed=seed) for seed in range(2)],
        "vgg38_bn_rc": [made_up("vgg38_bn_rc", 0.58 + 0.001 * seed, seed=seed) for seed in range(2)],
        BEST: [made_up(BEST, 0.60 + wide * seed, seed=seed) for seed in range(2)],
    }
    found["vgg08"][1] = made_up("vgg08", 0.501, seed=1)
    return found


def test_a_comparison_that_the_rate_decides_is_named_with_both_verdicts() -> None:
    runs = runs_of(0.08)
    assert judgements.judge("deeper", runs).verdict == OPEN
    told = sensitivity.rates_told(runs)
    assert "VGG38 RC − VGG08 +" in told and "open (holds)" in told
    assert all(run.config.learning_rate == 1e-3 for group in sensitivity.of_one_rate(runs).values() for run in group)
    assert runs[BEST][0].config.learning_rate == 1e-2  # those that were given are as they were


def test_where_the_rate_decides_nothing_it_is_said() -> None:
    alike = runs_of(0.001)  # at the higher rate seeds lie as far apart as at the lower one
    assert judgements.judge("deeper", alike).verdict == HOLDS
    assert sensitivity.rates_told(alike) == "Taken together, they would give the same verdicts."
