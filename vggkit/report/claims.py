"""The report's claims, each beside what our runs say. A claim is one `Claim` in `CLAIMS`; nothing else lists them.

A verdict comes from full runs alone, and only where the spread over seeds is known; else a tendency is
told. How a comparison becomes a verdict is in `verdicts`, the statistics are in `intervals`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from vggkit.report import prose
from vggkit.report.intervals import LEVEL
from vggkit.report.markup import Html, as_html
from vggkit.report.measures import CHANCE
from vggkit.report.render import html as as_table
from vggkit.report.render import lines
from vggkit.report.turning import SMOOTHED, WINDOWS, lowest_epochs
from vggkit.report.verdicts import (
    ACCURACY,
    EXCESS,
    FAILS,
    GAP,
    HOLDS,
    LEARNS,
    OPEN,
    TEST_IMAGES,
    VALIDATION_IMAGES,
    VANISHED,
    VANISHING,
    WEAKEST,
    Group,
    Outcome,
    Pair,
    Part,
    Rule,
    above,
    below,
    count_seeds,
    within,
)
from vggkit.runs.select import Runs, of_suite
from vggkit.study import BEST, FULL, shown_suites, title

MANY = 3  # comparisons that are open: so many are counted, fewer are named
CLOSE = 0.02  # two accuracies are "close" within two percentage points
OVERFIT = 0.05  # "overfits": the loss ends more than 5 % above its lowest
ABOUT = 0.1  # "about epoch 50": within ten epochs of a hundred


Rules = Callable[[Sequence[Group]], list[Part]]
"""From the runs of a suite, and those of the shorter suites behind it, to the parts of a claim."""


def _differences(outcome: Outcome, rule: Rule, *pairs: tuple[str, str]) -> Rules:
    named = [Pair(first, second, f"{title(first)} − {title(second)}", rule) for first, second in pairs]
    return lambda groups: outcome.parts(groups, named)


def _values(outcome: Outcome, rule: Rule, *names: str, words: str = "") -> Rules:
    named = [Pair(name, 0.0, title(name) + words, rule) for name in names]
    return lambda groups: outcome.parts(groups, named)


def _trainable(groups: Sequence[Group]) -> list[Part]:
    rules = {"vgg38": below(LEARNS), "vgg38_bn": above(LEARNS), "vgg38_rc": above(LEARNS)}
    return ACCURACY.parts(groups, [Pair(name, CHANCE, f"{title(name)} − chance", rule) for name, rule in rules.items()])


def _turns(groups: Sequence[Group]) -> list[Part]:
    facts, words, name = [], [], BEST
    for run in groups[0][name]:
        if not np.isfinite(run.metrics["validation_loss"]).all():
            return [Part(OPEN, OPEN, f"{title(name)}, seed {run.config.seed}: diverged")]
        epochs = lowest_epochs(run.metrics["validation_loss"])
        about = [abs(epoch / run.config.epochs - 0.5) <= ABOUT for epoch in epochs]
        facts.append(HOLDS if all(about) else OPEN if any(about) else FAILS)
        words.append(f"in epochs {prose.spans(epochs)} of {run.config.epochs}")
    tendency = facts[0] if len(set(facts)) == 1 else OPEN
    lowest = f"smoothed validation loss within one standard error of its lowest {'; '.join(words)}"
    text = f"{title(name)}: {lowest} (each seed, {count_seeds(groups[0][name])})"
    return [Part(tendency if len(facts) > 1 else None, tendency, text)]


@dataclass(frozen=True)
class Claim:
    """A claim of the report.

    `text` is the claim, `needs` the configurations without which it cannot be judged, `rule` the rule,
    `words` the same in words. `yes` and `no` are clauses for the book's sentences (see `told`): what is so
    where the claim holds, and where it does not; {failed} stands for what does not.
    """

    key: str
    text: str
    needs: tuple[str, ...]
    rule: Rules
    words: str
    yes: str
    no: str


MORE = "the difference of test accuracies is above zero"
OTHERS = ("vgg38_bn_rc", "vgg38_rc", "vgg38_bn", "vgg38_bn_lr1e-2", "vgg08", "vgg38")
REMEDIES = ("vgg38_bn", "vgg38_rc", "vgg38_bn_rc")
DEEP = ("vgg38_rc", "vgg38_bn_rc", BEST)

CLAIMS = (
    Claim(
        "deeper",
        "The deeper network is the better one, once RC (alone or with BN) let it learn.",
        (*DEEP, "vgg08"),
        _differences(ACCURACY, above(), *((name, "vgg08") for name in DEEP)),
        f"{MORE}, for each of the three VGG38 with RC against VGG08.",
        "VGG38 with RC, alone or with BN, is better than VGG08",
        "not every VGG38 with RC is better than VGG08",
    ),
    Claim(
        "trainable",
        "BN and RC each make VGG38 trainable.",
        ("vgg38", "vgg38_bn", "vgg38_rc"),
        _trainable,
        f"test accuracy lies more than {100 * LEARNS:.0f} point above chance ({100 * CHANCE:.0f} %) with BN and with "
        "RC, and not without. Where no seed learns, the rule takes it that no other would.",
        "plain VGG38 stays at chance while BN and RC each make it learn",
        "plain VGG38 learns after all, or BN or RC does not make it learn",
    ),
    Claim(
        "bn_over_vgg08",
        "With BN, VGG38 is better than VGG08.",
        ("vgg38_bn", "vgg08"),
        _differences(ACCURACY, above(), ("vgg38_bn", "vgg08")),
        f"{MORE}.",
        "with BN alone, VGG38 is better than VGG08",
        "with BN alone, VGG38 is worse than VGG08",
    ),
    Claim(
        "residual_over_bn",
        "RC helps more than BN.",
        ("vgg38_rc", "vgg38_bn"),
        _differences(ACCURACY, above(), ("vgg38_rc", "vgg38_bn")),
        f"{MORE}.",
        "RC help VGG38 more than BN does",
        "RC help VGG38 less than BN does",
    ),
    Claim(
        "both_best",
        "Both together are best at the learning rate 1e-3.",
        ("vgg38_bn_rc", "vgg38_rc", "vgg38_bn", "vgg38"),
        _differences(ACCURACY, above(), *(("vgg38_bn_rc", name) for name in ("vgg38_rc", "vgg38_bn", "vgg38"))),
        f"{MORE}, against each of the others.",
        "BN and RC together are better than either at the learning rate 1e-3",
        "BN and RC together are not the best at the learning rate 1e-3",
    ),
    Claim(
        "learning_rate_bn",
        "BN at 1e-2 is close to BN at 1e-3.",
        ("vgg38_bn", "vgg38_bn_lr1e-2"),
        _differences(ACCURACY, within(CLOSE), ("vgg38_bn", "vgg38_bn_lr1e-2")),
        f"the difference of test accuracies lies within ±{100 * CLOSE:.0f} points; the claim holds where the whole "
        "interval does, and does not hold where the whole interval lies outside.",
        f"BN at the learning rate 1e-2 comes within {100 * CLOSE:.0f} points of BN at 1e-3",
        f"BN at the learning rates 1e-2 and 1e-3 lies more than {100 * CLOSE:.0f} points apart",
    ),
    Claim(
        "best_of_all",
        "BN + RC at 1e-2 is best of all.",
        (BEST, *OTHERS),
        _differences(ACCURACY, above(), *((BEST, name) for name in OTHERS)),
        f"{MORE}, against each of the others.",
        "BN and RC at the learning rate 1e-2 are the best of all seven",
        "BN and RC at the learning rate 1e-2 are not the best of all seven",
    ),
    Claim(
        "regularise",
        "The remedies regularise: they narrow the gap between training and validation accuracy.",
        (*REMEDIES, "vgg08"),
        _differences(GAP, below(), *((name, "vgg08") for name in REMEDIES)),
        "training minus validation accuracy is smaller with BN, with RC and with both than for VGG08; plain VGG38, "
        "which learns nothing, has no gap to narrow. So the rule compares networks of two depths: a gap that is wider "
        "may come of the depth.",
        "with BN, with RC and with both, VGG38's gap between training and validation accuracy is narrower than VGG08's",
        "the gap between training and validation accuracy is wider than VGG08's in {failed}, by the remedy or by the "
        "depth, which this comparison does not part",
    ),
    Claim(
        "overfits",
        "BN + RC at 1e-2 overfits: its validation loss turns.",
        (BEST,),
        _values(EXCESS, above(OVERFIT), BEST, words=": rise of the validation loss above its lowest, in %"),
        f"the smoothed validation loss ends more than {100 * OVERFIT:.0f} % above its lowest.",
        f"the validation loss of BN and RC at the learning rate 1e-2 ends more than {100 * OVERFIT:.0f} % above its "
        "lowest",
        "the validation loss of BN and RC at the learning rate 1e-2 does not end more than "
        f"{100 * OVERFIT:.0f} % above its lowest",
    ),
    Claim(
        "turns",
        "It turns after about epoch 50 of 100.",
        (BEST,),
        _turns,
        f"the validation loss is smoothed (over {WINDOWS[0]} to {WINDOWS[-1]} epochs). The epochs are marked in which "
        "it is as low as at its lowest, within one standard error. The claim holds where all of these lie within "
        f"{100 * ABOUT:.0f} % of the run's epochs around its middle, and does not hold where none does; in every seed, "
        "of two at least.",
        "the validation loss of BN and RC at the learning rate 1e-2 turns about half-way through the run",
        "the validation loss of BN and RC at the learning rate 1e-2 does not turn about half-way through the run",
    ),
    Claim(
        "vanishing",
        "VGG38's gradients vanish in all but the last layers.",
        ("vgg38",),
        _values(VANISHING, below(math.log10(VANISHED)), "vgg38"),
        "mean |gradient|, averaged over the batches of the last epoch: the median of the first half of the "
        f"convolutions lies below {100 * VANISHED:.0f} % of the last (linear) layer's. Judged by its logarithm.",
        "the gradients of plain VGG38 vanish on their way to its first half",
        "the gradients of plain VGG38 do not vanish on their way to its first half",
    ),
    Claim(
        "recovers",
        "With BN and RC the gradient recovers in all layers.",
        REMEDIES,
        _values(WEAKEST, above(math.log10(VANISHED)), *REMEDIES, words=", weakest layer"),
        "likewise, with BN, with RC and with both, the convolution with the smallest gradient lies above "
        f"{100 * VANISHED:.0f} % of the last layer's.",
        "with BN, with RC and with both, the gradient reaches every layer of VGG38",
        "with BN, with RC or with both, the gradient still vanishes in some layer of VGG38",
    ),
)
BY_KEY = {claim.key: claim for claim in CLAIMS}

RULES = (
    "\n".join(f"- *{claim.text}* {claim.words[0].upper()}{claim.words[1:]}" for claim in CLAIMS)
    + f"""

A comparison holds where its whole interval lies on the claimed side of the bound, and does not where it
lies on the other; where the interval holds the bound, it cannot be told. A claim of several parts holds
where each of them does and does not hold where one of them does not. Its intervals are simultaneous: with a
probability of {100 * LEVEL:.0f} % all of them cover at once, so that equal networks end in a wrong verdict on a
claim in at most {100 - 100 * LEVEL:.0f} % of cases, however many parts it has. That is for one claim; of all
{len(CLAIMS)}, one verdict may well be wrong. Intervals are two-sided: of that chance, half is in each direction.

Where no configuration has two runs whose spread can stand for others, the spread over seeds is unknown, and
instead of a verdict it says what these runs speak for. A run that diverged counts as chance where test
accuracies are compared, and decides nothing elsewhere; nor does a configuration that learns with some seeds
and not with others."""
)

METHODS = f"""\
An interval covers two draws, and adds them in quadrature: that of the seed, and that of the images on which
the accuracies are measured.

- *Seeds, pooled t*: the standard deviation over seeds is pooled over all configurations of one kind that have several
  seeds ("df" are its degrees of freedom), and stands for all of that kind, so that a configuration with one seed gets
  an interval too. For accuracies and gaps, a kind are the networks of one depth and one learning rate that learn,
  since large steps may well make a run depend more on its seed; for how far a loss rises again, all whose loss rises,
  or all whose does not; for ratios of gradients, the networks of one depth whose gradient vanishes, or whose does
  not. Where no configuration of a kind has several seeds, the kind's shorter runs stand in ("of shorter runs"), which
  takes it that a seed moves them as much. Where two kinds are compared the spread is taken that reaches further;
  where a network's seeds are of two kinds, its own counts too. The bound for several differences at once is
  Dunnett's, for the correlation of differences that share a configuration; where their spreads are not the same, each
  set of one spread has its share of the chance of a miss, by the number of its differences (Bonferroni).
- *Seeds, permutation*: where each side of every part of one spread has so many seeds that its permutation test can
  reject at {100 - 100 * LEVEL:.0f} % divided by the number of parts (four on each side for one part, five for six),
  the interval is all shifts that this test does not reject, without any assumption on the spread.
- *Images*: Newcombe's hybrid score interval of the difference of two proportions, or Wilson's of one, on
  {TEST_IMAGES:,} test images, or for gaps on the {VALIDATION_IMAGES:,} validation images. "Images alone": the spread
  over seeds is unknown, or none of a network's seeds learns, and it is taken that no other would; one that names the
  same class for all images is right for exactly one in a hundred, whichever they are. Ratios and losses have no such
  part.
- *Smoothed*: a mean over {SMOOTHED} epochs (at both ends a straight line through {SMOOTHED}). Its standard error
  comes from the scatter of the loss about it, near the lowest point."""


class Judgement(NamedTuple):
    """What our runs say of a claim.

    `verdict` is HOLDS or FAILS only by full runs whose spread over seeds is known. `tendency` is what the
    runs of `suite` say if they are taken as they are, `settled` whether they give a verdict of their suite.
    """

    verdict: str
    needs: tuple[str, ...]
    tendency: str = OPEN
    suite: str | None = None
    epochs: int = 0
    settled: bool = False
    parts: tuple[Part, ...] = ()


def all_of(verdicts: Sequence[str]) -> str:
    """A claim with several parts fails with one of them and holds with all."""
    return FAILS if FAILS in verdicts else HOLDS if set(verdicts) == {HOLDS} else OPEN


def judge(claim: str, runs: Runs) -> Judgement:
    """The verdict on a claim of `CLAIMS`, by the fullest suite that has all the configurations it needs."""
    found = BY_KEY[claim]
    suite = next((suite for suite in shown_suites() if set(found.needs) <= set(of_suite(runs, suite))), None)
    if suite is None:
        return Judgement(OPEN, found.needs)
    suites = shown_suites()
    group, *shorter = [of_suite(runs, name) for name in suites[suites.index(suite) :]]
    parts = tuple(found.rule([group, *shorter]))
    settled = all(part.verdict is not None for part in parts)
    tendency = all_of([part.verdict if settled else part.tendency for part in parts])  # type: ignore[misc]
    epochs = group[found.needs[0]][0].config.epochs
    return Judgement(
        tendency if settled and suite == FULL else OPEN, found.needs, tendency, suite, epochs, settled, parts
    )


SPEAKS = {HOLDS: "for it", FAILS: "against it", OPEN: "neither way"}


def table(runs: Runs) -> pd.DataFrame:
    """A row for each claim; the verdict by full runs, or the tendency of others, and the parts are lists of lines."""
    rows = []
    for claim in CLAIMS:
        found = judge(claim.key, runs)
        if found.suite is None:
            reason = "these runs differ in length" if set(claim.needs) <= set(runs) else "runs are missing"
            rows.append({"claim": claim.text, "verdict": [f"{OPEN} yet"], "our runs": [reason]})
            continue
        if found.suite == FULL:
            verdict = [found.verdict if found.settled else f"these runs: {SPEAKS[found.tendency]}"]
        else:
            says = found.tendency if found.settled else f"these runs: {SPEAKS[found.tendency]}"
            verdict = [f"{OPEN} yet", f"({found.suite}, {found.epochs} epochs: {says})"]
        rows.append({"claim": claim.text, "verdict": verdict, "our runs": [p.words for p in found.parts]})
    return pd.DataFrame(rows)


def told(runs: Runs, *claims: str) -> str:
    """What our runs say of `claims`, in sentences for the book's text, as Markdown.

    What holds or does not comes first. What the runs only suggest or leave open follows, in one sentence
    for all runs of one kind.
    """
    plain: list[str] = []
    suggested: dict[str, list[str]] = {}
    left_open: dict[str, list[str]] = {}
    for key in claims:
        claim, found = BY_KEY[key], judge(key, runs)
        wrong = [part for part in found.parts if (part.verdict or part.tendency) == FAILS]
        failed = " and ".join(f"{part.compared.partition(' − ')[0]} ({part.found})" for part in wrong)
        clause = claim.no.format(failed=failed) if found.tendency == FAILS else claim.yes
        if found.verdict != OPEN:
            plain.append(f"{clause[0].upper()}{clause[1:]}.")
        else:
            clause += _parts_told(found.parts)
            (left_open if found.tendency == OPEN else suggested).setdefault(_who(found), []).append(clause)
    missing = left_open.pop("", [])
    for who in dict.fromkeys([*suggested, *left_open]):
        says = [f"suggest {_listed('that', suggested[who])}"] if who in suggested else []
        says += [f"leave open {_listed('whether', left_open[who])}"] if who in left_open else []
        plain.append(f"{who} {'; they '.join(says)}.")
    if missing:
        plain.append(f"It is not known yet {_listed('whether', missing)}: runs are missing.")
    return " ".join(plain)


def _parts_told(parts: Sequence[Part]) -> str:
    """Which comparisons of a claim that is left open hold and which are open, in brackets; empty where none is known.

    Where many are open they are counted.
    """
    held, rest = ([part for part in parts if part.verdict == verdict and part.found] for verdict in (HOLDS, OPEN))
    if len(rest) >= MANY:
        return f" (of {len(parts)} comparisons {len(held)} hold{'s' * (len(held) == 1)})" if held else ""
    if len(parts) == 1 and rest:
        return f" ({_named(rest)})"
    told = [f"{word} for {_named(group)}" for word, group in (("settled", held), ("open", rest)) if group]
    return f" ({'; '.join(told)})" if rest else ""


def _named(parts: Sequence[Part]) -> str:
    return " and ".join(f"{part.compared.replace(' − ', ' against ')}, {part.found}" for part in parts)


def _listed(joint: str, clauses: Sequence[str]) -> str:
    *firsts, last = [f"{joint} {clause}" for clause in clauses]
    return "; ".join([*firsts, "and " * bool(firsts) + last])


def _who(found: Judgement) -> str:
    """The runs that do not decide a claim, as a sentence's subject; empty where there are none."""
    if found.suite is None:
        return ""
    if found.suite == FULL:
        return "The full runs" if found.settled else "The full runs, too few for a verdict,"
    return f"Reduced runs (`{found.suite}`, {found.epochs} epochs), which decide nothing,"


def table_html(runs: Runs) -> Html:
    """`table` for a page."""
    frame = table(runs)
    cells = pd.DataFrame(
        {
            "claim": frame["claim"].map(as_html),
            "verdict": frame["verdict"].map(lines),
            "our runs": frame["our runs"].map(lines),
        }
    )
    caption = (
        "Differences of official test accuracies after the last epoch (or of what the rule names), in percentage "
        f"points, in brackets the {100 * LEVEL:.0f} % intervals, simultaneous for the parts of one claim. In "
        "parentheses: how the interval is made (see below), and of how many seeds. The same difference has another "
        "interval where it is one of more parts."
    )
    if any("these runs" in line for cell in frame["verdict"] for line in cell):
        caption += " “These runs” tells what the runs that there are say, where no interval tells how far that carries."
    return as_table(cells, "Claims", caption, markup=True, kind="claims")
