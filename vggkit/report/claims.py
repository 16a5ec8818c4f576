"""The report's claims as data, each with its rule. A claim is one `Claim` in `CLAIMS`; nothing else lists them.

What our runs say of them is in `judgements`, how a comparison becomes a verdict in `verdicts`, the statistics are in
`intervals`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vggkit.report import prose
from vggkit.report.intervals import LEVEL
from vggkit.report.measures import CHANCE
from vggkit.report.turning import WINDOWS, lowest_epochs
from vggkit.report.verdicts import (
    ACCURACY,
    EXCESS,
    FAILS,
    GAP,
    HOLDS,
    LEARNS,
    OPEN,
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
from vggkit.study import BEST, title

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
    `words` the same in words. `yes` and `no` are clauses for the book's sentences (see `judgements.told`): what is so
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
