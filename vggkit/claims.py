"""The report's claims, each beside what our runs say, by rules that a test pins and the book prints.

Claims are judged by full runs alone; where these are not there yet, runs of one reduced suite give
a direction. Intervals are two-sided, at 95 %; a comparison whose interval holds its bound (zero, or
the margin of "close") cannot be told.
"""

import html
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from vggkit import tables
from vggkit.artifacts import Run
from vggkit.tables import CHANCE, FULL, METRICS, REPORT, SHOWN, TITLES, Runs, is_full, of_suite

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"
TEST_IMAGES = 10_000
LEVEL = 0.95
CLOSE = 0.02  # two accuracies are "close" within two percentage points
LEARNS = 0.01  # a network is trainable that gets more than one point above chance
LATEST_TURN, OVERFIT = 0.9, 0.05  # "overfits": turns before 90 % of the epochs, ends more than 5 % above
ABOUT = 0.1  # "about epoch 50": within ten epochs of a hundred
VANISHED = 1e-2  # "vanish": below a hundredth of the last layer's

RULES = f"""\
- *Trainable*: test accuracy more than {100 * LEARNS:.0f} point above chance ({100 * CHANCE:.0f} %). The claim says also
  that plain VGG38 is not.
- *More*, *best*: the difference of test accuracies is above zero, against each of the others.
- *Close*: the difference lies within ±{100 * CLOSE:.0f} points. The claim holds where the whole interval does, and does
  not hold where the whole interval lies outside.
- *Overfits*: the validation loss is lowest before {100 * LATEST_TURN:.0f} % of the epochs ("turns") and ends more than
  {100 * OVERFIT:.0f} % above its lowest, in every seed. *About epoch 50*: it is lowest within
  {100 * ABOUT:.0f} % of the epochs around the middle of the run.
- *Vanish*: after the last epoch the median mean |gradient| of the first half of the convolutions is below
  {100 * VANISHED:.0f} % of the last layer's, in every seed.
- A claim of several parts holds where each of them does and does not hold where one of them does not. Where an
  interval holds the bound, the claim cannot be told. A run that diverged counts as chance
  where accuracies are compared, and decides nothing elsewhere."""

METHODS = """\
- *Newcombe*: hybrid score interval of the difference of two proportions (Newcombe 1998), and *Wilson* the interval of
  one, on 10,000 test images; with one seed on a side. They cover the draw of test images, not that of the seed.
- *Permutation*: the exact interval of all differences that the permutation test of two groups of seeds does not
  reject; from 40 arrangements on, that is, four seeds on each side or three and five. *Welch*: Welch's t interval
  over two seeds or more where there are fewer arrangements, and *t* its form for one configuration. They cover the
  draw of seeds, for these test images."""


@dataclass(frozen=True)
class Effect:
    """A difference with its interval, as fractions, and the method's name."""

    value: float
    low: float
    high: float
    method: str

    def above(self, bound: float = 0.0) -> str:
        """Verdict on "the difference is above `bound`"."""
        return HOLDS if self.low > bound else FAILS if self.high < bound else OPEN

    def within(self, margin: float) -> str:
        """Verdict on "the difference is at most `margin` either way"."""
        if -margin <= self.low and self.high <= margin:
            return HOLDS
        return FAILS if self.low > margin or self.high < -margin else OPEN

    def __str__(self) -> str:
        value, low, high = (f"{100 * number:+.2f}".replace("-", "−") for number in (self.value, self.low, self.high))
        return f"{value}\N{NO-BREAK SPACE}[{low},\N{NO-BREAK SPACE}{high}]"  # kept on one line


def wilson_interval(accuracy: float, images: int = TEST_IMAGES) -> tuple[float, float]:
    """95 % interval of a proportion measured on `images` (Wilson 1927)."""
    found = stats.binomtest(round(accuracy * images), images).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def newcombe_interval(first: float, second: float, images: int = TEST_IMAGES) -> tuple[float, float]:
    """95 % interval of the difference of two proportions, each on `images` (Newcombe 1998, method 10).

    It takes the two as independent. Two networks tend to fail on the same images, so it is rather too wide.
    """
    (low, high), (other_low, other_high) = wilson_interval(first, images), wilson_interval(second, images)
    below = math.hypot(first - low, other_high - second)
    return first - second - below, first - second + math.hypot(high - first, second - other_low)


def permutation_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float] | None:
    """Exact 95 % interval of a shift between two groups: what the permutation test does not reject (Pitman 1937).

    The test shuffles all values between the groups and counts arrangements whose difference of means
    is at least as extreme. An arrangement that swaps equally large parts A of `first` and B of
    `second` is as extreme as the observed one at the shift mean(A) - mean(B); the interval lies
    between order statistics of these. None where there are too few arrangements for p < 0.05.

    Why this one, with three to five seeds: an exact paired test (flipping signs) has 2^5 = 32
    arrangements at most, so its two-sided p is never below 0.06, and pairs share no more than the
    order and the augmentation of the images. Unpaired, four seeds on a side give 70 arrangements and
    five 252. The percentile bootstrap is too narrow at this size: of normal values its 95 % interval
    holds the true difference in 79 %, 85 % and 87 % of cases with three, four and five seeds a side.
    Where no arrangement is rare enough, as with three on each side, Welch's t interval assumes normal values.
    """
    sizes = range(1, min(len(first), len(second)) + 1)
    shifts = sorted(
        round(float(np.mean(a) - np.mean(b)), 12)  # zero stays zero
        for size in sizes
        for a in itertools.combinations(first, size)
        for b in itertools.combinations(second, size)
    )
    rejected = math.floor((1 - LEVEL) / 2 * (len(shifts) + 1) + 1e-9)  # arrangements, the observed one included
    return (shifts[rejected - 1], shifts[-rejected]) if rejected else None


def difference(first: Sequence[float], second: Sequence[float]) -> Effect:
    """The difference of two configurations' accuracies, a value for each seed, by the method for their number."""
    value = float(np.mean(first) - np.mean(second))
    several = min(len(first), len(second)) >= 2
    if several and (interval := permutation_interval(first, second)):
        return Effect(value, *interval, "permutation")
    if several and (len(set(first)) > 1 or len(set(second)) > 1):
        welch = stats.ttest_ind(first, second, equal_var=False).confidence_interval(LEVEL)
        return Effect(value, float(welch.low), float(welch.high), "Welch")
    return Effect(value, *newcombe_interval(float(np.mean(first)), float(np.mean(second))), "Newcombe")


def over_chance(accuracies: Sequence[float]) -> Effect:
    """How far one configuration's accuracy lies above chance."""
    mean = float(np.mean(accuracies))
    if len(set(accuracies)) > 1:
        low, high = stats.ttest_1samp(accuracies, 0).confidence_interval(LEVEL)
        return Effect(mean - CHANCE, float(low) - CHANCE, float(high) - CHANCE, "t")
    low, high = wilson_interval(mean)
    return Effect(mean - CHANCE, low - CHANCE, high - CHANCE, "Wilson")


def all_of(verdicts: Sequence[str]) -> str:
    """A claim with several parts fails with one of them and holds with all."""
    return FAILS if FAILS in verdicts else HOLDS if set(verdicts) == {HOLDS} else OPEN


def each_seed(facts: Sequence[bool]) -> str:
    """A rule on single runs holds where it holds in every seed, and fails where in none."""
    return HOLDS if all(facts) else OPEN if any(facts) else FAILS


NEEDED = {
    "trainable": ["vgg38_bn", "vgg38_rc", "vgg38"],
    "residual_over_bn": ["vgg38_rc", "vgg38_bn"],
    "both_best": ["vgg38_bn_rc", "vgg38_rc", "vgg38_bn", "vgg38"],
    "learning_rate_bn": ["vgg38_bn", "vgg38_bn_lr1e-2"],
    "best_of_all": ["vgg38_bn_rc_lr1e-2", "vgg38_bn_rc", "vgg38_rc", "vgg38_bn", "vgg38_bn_lr1e-2", "vgg08", "vgg38"],
    "overfits": ["vgg38_bn_rc_lr1e-2"],
    "turns": ["vgg38_bn_rc_lr1e-2"],
    "vanishing": ["vgg38"],
}

Part = tuple[str, str]
"""A part's verdict, and in words the effect, its interval, the method and the number of seeds."""


def parts(claim: str, runs: Mapping[str, Sequence[Run]]) -> list[Part]:
    """The parts of a claim of report.toml, judged by `runs`, which hold all that the claim needs."""
    first, *others = NEEDED[claim]
    if claim in ("overfits", "turns"):
        return [_overfits(runs[first], claim)]
    if claim == "vanishing":
        return [_vanishes(runs[first])]
    accuracies = {name: _accuracies(runs[name]) for name in NEEDED[claim]}
    found = []
    for name in NEEDED[claim] if claim == "trainable" else others:
        if claim == "trainable":
            effect, against, count = over_chance(accuracies[name]), f"{TITLES[name]} − chance", _count(runs[name])
            verdict = effect.above(LEARNS)
            if name == "vgg38":  # the claim: without BN and RC it is not
                verdict = {HOLDS: FAILS, FAILS: HOLDS, OPEN: OPEN}[verdict]
        else:
            effect, against = difference(accuracies[first], accuracies[name]), f"{TITLES[first]} − {TITLES[name]}"
            count = _count(runs[first], runs[name])
            verdict = effect.within(CLOSE) if claim == "learning_rate_bn" else effect.above()
        found.append((verdict, f"{against}: {effect} ({effect.method}, {count})"))
    return found


def _accuracies(runs: Sequence[Run]) -> list[float]:
    values = [None if run.summary.get("diverged") else run.summary["final"]["test_accuracy"] for run in runs]
    return [CHANCE if value is None else value for value in values]


def _count(*groups: Sequence[object]) -> str:
    numbers = " + ".join(str(len(group)) for group in groups)
    return f"{numbers} seed{'' if numbers == '1' else 's'}"


def _overfits(runs: Sequence[Run], claim: str) -> Part:
    turns, words, title = [], [], TITLES[runs[0].config.name]
    for run in runs:
        losses, epoch = run.metrics["validation_loss"], tables.turning_epoch(run)
        if epoch is None or not math.isfinite(losses.iloc[-1]):
            return OPEN, f"{title}, seed {run.config.seed}: diverged"
        excess = losses.iloc[-1] / losses[np.isfinite(losses)].min() - 1
        share = epoch / run.config.epochs
        early, about_half = share < LATEST_TURN and excess > OVERFIT, abs(share - 0.5) <= ABOUT
        turns.append(early if claim == "overfits" else about_half)
        words.append(f"is lowest in epoch {epoch} of {run.config.epochs} and ends {100 * excess:.1f} % above it")
    return each_seed(turns), f"{title}: validation loss {'; '.join(words)} (rule on each seed, {_count(runs)})"


def _vanishes(runs: Sequence[Run]) -> Part:
    ratios = [tables.vanishing_ratio(run) for run in runs]
    title, words = TITLES[runs[0].config.name], ", ".join(f"{ratio:.1e} times" for ratio in ratios)
    if not all(map(math.isfinite, ratios)):
        return OPEN, f"{title}: no finite gradients in the last epoch"
    facts = [ratio < VANISHED for ratio in ratios]
    return each_seed(facts), f"{title}: {words} the last layer's mean |gradient| (rule on each seed, {_count(runs)})"


def judge(claim: str, runs: Runs) -> tuple[str, list[str]]:
    """The verdict on a claim of report.toml by full runs alone, and the configurations it needs."""
    needed, full = NEEDED[claim], of_suite(runs, FULL)
    verdict = all_of([verdict for verdict, _ in parts(claim, full)]) if set(needed) <= set(full) else OPEN
    return verdict, needed


def table(runs: Runs) -> pd.DataFrame:
    """A row for each claim: the verdict by full runs, or the direction of one reduced suite, and the parts."""
    rows = []
    for claim, text in REPORT["claims"].items():
        needed = set(NEEDED[claim])
        suite = next((suite for suite in SHOWN if needed <= set(of_suite(runs, suite))), None)
        if suite is None:
            reason = "these runs differ in length" if needed <= set(runs) else "runs are missing"
            rows.append({"claim": text, "verdict": f"{OPEN} yet", "our runs": reason})
            continue
        group = of_suite(runs, suite)
        found = parts(claim, group)
        verdict = all_of([verdict for verdict, _ in found])
        if suite != FULL:
            epochs = group[NEEDED[claim][0]][0].config.epochs
            verdict = f"{OPEN} yet\n({suite}, {epochs} epochs: {verdict})"
        rows.append({"claim": text, "verdict": verdict, "our runs": "\n".join(words for _, words in found)})
    return pd.DataFrame(rows)


def table_html(runs: Runs) -> str:
    """`table` for a page, its caption outside the box that scrolls."""
    cells = [[html.escape(cell).split("\n") for cell in row] for row in table(runs).itertuples(index=False)]
    body = "".join("<tr>" + "".join(f"<td>{_lines(cell)}</td>" for cell in row) + "</tr>" for row in cells)
    return (
        "<div class='vggkit-table claims'><table style='font-size:0.9em' aria-label='Claims'><thead><tr>"
        "<th scope='col'>claim</th><th scope='col'>verdict</th><th scope='col'>our runs</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div><p style='font-size:0.9em'>Differences of official test accuracies after "
        "the last epoch, in percentage points, with their 95 % intervals in brackets. In parentheses: "
        "the direction of reduced runs.</p>"
    )


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"<div style='margin-bottom:0.3em'>{line}</div>" for line in lines)


def against_report(runs: Runs) -> pd.DataFrame:
    """Values of our full runs beside the report's, and how far the two may lie apart if only the seed differs.

    "allowed" is the half-width of the 95 % prediction interval of one further run about the mean of
    our n seeds, t s sqrt(1 + 1/n). The spread s is pooled over all configurations with two full seeds
    or more, also for those with one; without such, it is missing.
    """
    full = {name: group for name, group in tables.seeds(runs).items() if all(map(is_full, group))}
    rows = []
    for metric, title in METRICS.items():
        values = {name: tables.finals(group, metric).dropna() for name, group in full.items()}
        freedom = sum(max(0, len(group) - 1) for group in values.values())
        squares = sum(float(((group - group.mean()) ** 2).sum()) for group in values.values())
        spread = math.sqrt(squares / freedom) if freedom else math.nan
        for name, group in values.items():
            if len(group):
                allowed = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * spread * math.sqrt(1 + 1 / len(group))
                report = REPORT["rows"][name][metric]
                rows.append({"name": name, "metric": title, "report": report, "ours": group.mean(), "allowed": allowed})
    return pd.DataFrame(rows, columns=["name", "metric", "report", "ours", "allowed"])


def against_report_text(runs: Runs) -> str:
    """`against_report` in words, as Markdown: which values differ by more than the seed explains."""
    frame = against_report(runs)
    several = [f"{TITLES[n]} ({len(g)})" for n, g in tables.seeds(runs).items() if len(g) > 1 and all(map(is_full, g))]
    if not several:
        return "No configuration has two full runs yet: how much the seed alone changes cannot be told."
    beyond = frame[(frame["ours"] - frame["report"]).abs() > frame["allowed"]]
    lines = [
        f"- {TITLES[name]}: "
        + ", ".join(f"{r.metric} {r.ours:.2f} against {r.report:.2f} (±{r.allowed:.2f})" for r in group.itertuples())
        for name, group in beyond.groupby("name", sort=False)
    ]
    text = (
        f"The spread over seeds is pooled over the configurations with several full runs: {', '.join(several)}. "
        f"Of {len(frame)} values of full runs, {len(beyond)} lie further from the report's than it explains (ours "
        "against the report's; in brackets how far apart two would lie in 95 % of cases if only the seed differed):"
    )
    return "\n".join([text, "", *lines]) if lines else text.partition(" (ours")[0] + "."
