"""The report's claims, each beside what our runs say, by rules that a test pins.

One seed shows no spread over seeds, so two accuracies differ only where the 95 % Wilson intervals
of the test accuracy on 10,000 images (Wilson 1927) do not overlap. A claim about Table 1 is judged
by full runs alone: with a reduced run it cannot be told.
"""

import html
import math
from collections.abc import Mapping

import pandas as pd

from vggkit.artifacts import Run
from vggkit.tables import CHANCE, REPORT, TITLES, is_full, turning_epoch, vanishing_ratio

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"
TEST_IMAGES = 10_000
Z = 1.959964  # two-sided 95 %
CLOSE = 0.02  # "close": within two percentage points
OVERFIT_LOSS = 1.05  # "turns": the final validation loss is 5 % above its lowest
VANISHED = 1e-2  # "vanish": below a hundredth of the last layer's


def wilson_interval(accuracy: float, images: int = TEST_IMAGES) -> tuple[float, float]:
    """95 % interval of a proportion measured on `images` (Wilson 1927)."""
    centre = accuracy + Z**2 / (2 * images)
    half = Z * math.sqrt(accuracy * (1 - accuracy) / images + Z**2 / (4 * images**2))
    return (centre - half) / (1 + Z**2 / images), (centre + half) / (1 + Z**2 / images)


def above(first: float, second: float) -> str:
    """Verdict on "first accuracy is above second"; open where the intervals overlap."""
    if wilson_interval(first)[0] > wilson_interval(second)[1]:
        return HOLDS
    return FAILS if wilson_interval(second)[0] > wilson_interval(first)[1] else OPEN


def all_of(verdicts: list[str]) -> str:
    """A claim with several parts fails with one of them and holds with all."""
    return FAILS if FAILS in verdicts else HOLDS if set(verdicts) == {HOLDS} else OPEN


def judge(claim: str, runs: Mapping[str, Run]) -> tuple[str, list[str]]:
    """The verdict on a claim of report.toml, by the runs' final numbers, and the runs it needs."""
    needed = NEEDED[claim]
    if any(name not in runs for name in needed):
        return OPEN, needed
    test = {name: runs[name].summary["final"]["test_accuracy"] or 0.0 for name in needed}
    if claim == "trainable":
        verdicts = [above(test[name], CHANCE) for name in ("vgg38_bn", "vgg38_rc")]
        plain = HOLDS if above(test["vgg38"], CHANCE) != HOLDS else FAILS
        return all_of([*verdicts, plain]), needed
    if claim == "residual_over_bn":
        return above(test["vgg38_rc"], test["vgg38_bn"]), needed
    if claim in ("both_best", "best_of_all"):
        best, *others = needed
        return all_of([above(test[best], test[name]) for name in others]), needed
    if claim == "learning_rate_bn":
        first, second = (test[name] for name in needed)
        return (HOLDS if abs(first - second) <= CLOSE else FAILS), needed
    run = runs[needed[0]]
    if claim == "overfits":
        losses = run.metrics["validation_loss"]
        early = turning_epoch(run) < 0.9 * run.config.epochs
        return (HOLDS if early and losses.iloc[-1] > OVERFIT_LOSS * losses.min() else FAILS), needed
    return (HOLDS if vanishing_ratio(run) < VANISHED else FAILS), needed


NEEDED = {
    "trainable": ["vgg38", "vgg38_bn", "vgg38_rc"],
    "residual_over_bn": ["vgg38_rc", "vgg38_bn"],
    "both_best": ["vgg38_bn_rc", "vgg38_rc", "vgg38_bn", "vgg38"],
    "learning_rate_bn": ["vgg38_bn", "vgg38_bn_lr1e-2"],
    "best_of_all": ["vgg38_bn_rc_lr1e-2", "vgg38_bn_rc", "vgg38_rc", "vgg38_bn", "vgg38_bn_lr1e-2", "vgg08"],
    "overfits": ["vgg38_bn_rc_lr1e-2"],
    "vanishing": ["vgg38"],
}


def evidence(claim: str, runs: Mapping[str, Run]) -> str:
    """In words: the numbers of our runs that bear on a claim."""
    found = [(TITLES[name], runs[name]) for name in NEEDED[claim] if name in runs]
    if claim == "overfits":
        return "; ".join(
            f"{title}: lowest validation loss {run.metrics['validation_loss'].min():.2f} in epoch {turning_epoch(run)} "
            f"of {run.config.epochs}, {run.metrics['validation_loss'].iloc[-1]:.2f} at the end"
            for title, run in found
        )
    if claim == "vanishing":
        return "; ".join(
            f"{title}: median mean |gradient| of the first half of the convolutions is {vanishing_ratio(run):.1e} "
            "times the last layer's"
            for title, run in found
        )
    return "; ".join(f"{title} {100 * (run.summary['final']['test_accuracy'] or 0):.2f} %" for title, run in found)


def table(runs: Mapping[str, Run]) -> pd.DataFrame:
    """A row for each claim: the verdict by full runs, the direction of the reduced ones, the numbers."""
    rows = []
    for claim, text in REPORT["claims"].items():
        verdict, needed = judge(claim, runs)
        if not all(name in runs and is_full(runs[name]) for name in needed):
            verdict = f"{OPEN} yet (reduced runs: {verdict})"
        rows.append({"claim": text, "verdict": verdict, "our runs": evidence(claim, runs)})
    return pd.DataFrame(rows)


def table_html(runs: Mapping[str, Run]) -> str:
    """`table` for a page."""
    cells = [[html.escape(str(cell)) for cell in row] for row in table(runs).itertuples(index=False)]
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in cells)
    return (
        "<div class='vggkit-table claims'><table><caption>Accuracies are official test accuracies after the last "
        "epoch, one seed.</caption><thead><tr><th scope='col'>claim</th><th scope='col'>verdict</th>"
        f"<th scope='col'>our runs</th></tr></thead><tbody>{body}</tbody></table></div>"
    )
