"""How a comparison of runs becomes a verdict: from a number of each run, through an interval, to one of three words."""

import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from vggkit.config import DATASETS, NUM_CLASSES
from vggkit.report import measures, turning
from vggkit.report.intervals import (
    IMAGES,
    NONE,
    POOLED,
    Contrast,
    Effect,
    Sample,
    Spread,
    intervals_by_spread,
    pooled_spread,
)
from vggkit.report.measures import CHANCE
from vggkit.report.render import power
from vggkit.runs.records import Run
from vggkit.study import title

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"
LEARNS = 0.01  # a network is trainable that gets more than one point above chance
VANISHED = 1e-2  # "vanish": below a hundredth of the last layer's
TEST_IMAGES = DATASETS["cifar100"].test * NUM_CLASSES
VALIDATION_IMAGES = DATASETS["cifar100"].validation * NUM_CLASSES

Group = Mapping[str, Sequence[Run]]
"""By configuration, the runs of one suite, which all have one length."""

Rule = Callable[[Effect], str]
"""From a difference with its interval to a verdict."""


class Part(NamedTuple):
    """One of the comparisons that a claim consists of.

    `verdict` is None where the runs show something and no interval says how far it carries; `tendency`
    is the verdict that they would give if they were all there ever could be. `compared` is what is compared, `found`
    the difference with its interval.
    """

    verdict: str | None
    tendency: str
    words: str
    compared: str = ""
    found: str = ""


class Pair(NamedTuple):
    """A configuration beside another, or beside a known number; how both are called, and what is claimed of them."""

    first: str
    second: str | float
    words: str
    rule: Rule


def depth_and_rate(run: Run) -> tuple[int, float]:
    """By which networks of one kind are told from others: their spreads over seeds need not be alike."""
    return run.config.depth, run.config.learning_rate


@dataclass(frozen=True)
class Outcome:
    """A number that each run gives, and how it is told.

    `value` is None where the run has none, as after divergence. `share` is the accuracy, or the error
    rate, on `images` images that the number rises with; `learned` says that the number depends on
    whether the network learns at all. `kind` tells apart runs whose spreads over seeds need not be alike:
    a run's spread stands for those of its own kind alone. By default it is depth and learning rate: deep networks,
    which learn with more trouble, and networks that take large steps may well depend more on the seed.
    """

    value: Callable[[Run], float | None]
    tell: Callable[[Effect], str] = str
    images: int = 0
    share: Callable[[Run], float] = field(default=lambda run: math.nan)
    learned: bool = False
    kind: Callable[[Run], Hashable] = field(default=depth_and_rate)

    def samples(self, group: Group) -> dict[str, Sample | None]:
        """For each configuration its values; None where a run has none."""
        found: dict[str, Sample | None] = {}
        for name, runs in group.items():
            values = [value for run in runs if (value := self.value(run)) is not None]
            steady = self.learned and not any(map(learns, runs))
            share = float(np.mean([self.share(run) for run in runs]))
            whole = len(values) == len(runs)
            found[name] = Sample(name, tuple(values), self.images, share, steady) if whole else None
        return found

    def comparable(self, runs: Sequence[Run]) -> bool:
        """Whether these seeds are of one kind: all learned or none did, so that mean and spread describe them."""
        return not self.learned or len(set(map(learns, runs))) == 1

    def parts(self, groups: Sequence[Group], pairs: Sequence[Pair]) -> list[Part]:
        """Judge `pairs` of the first group's runs together, by simultaneous intervals.

        The spread over seeds of each comes from all of that group, see `spread`.
        """
        group, samples = groups[0], self.samples(groups[0])
        contrasts: dict[Pair, Contrast] = {}
        spreads: dict[Pair, tuple[Spread, bool]] = {}
        for pair in pairs:
            first, second = samples[pair.first], samples[pair.second] if isinstance(pair.second, str) else pair.second
            if first is not None and second is not None:
                contrasts[pair] = Contrast(first, second)
                spreads[pair] = self._spread_of(contrasts[pair], groups, samples)
        effects = intervals_by_spread([(contrast, spreads[pair][0]) for pair, contrast in contrasts.items()])
        found = dict(zip(contrasts, effects, strict=True))
        parts = []
        for pair in pairs:
            spread, borrowed = spreads.get(pair, (Spread(math.nan, 0), False))
            known = spread.freedom > 0 or pair not in contrasts or not contrasts[pair].weights
            told = f", {spread.freedom} df" + " of shorter runs" * borrowed
            parts.append(self._part(pair, found.get(pair), group, known, told))
        return parts

    def differences(self, group: Group, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Effect]:
        """The values of each pair's first minus those of its second, where both have runs that give one.

        The intervals hold all at once, for the draw of the seed, whose spread is that of the group's runs of both kinds
        (see `spread`), and for that of the images if the value depends on these; where the spread is unknown, for the
        images alone.
        """
        samples = self.samples(group)
        judged = {}
        for pair in pairs:
            first, second = map(samples.get, pair)
            if first and second:
                contrast = Contrast(first, second)
                judged[pair] = contrast, self._spread_of(contrast, [group], samples)[0]
        return dict(zip(judged, intervals_by_spread([*judged.values()]), strict=True))

    def _spread_of(
        self, contrast: Contrast, groups: Sequence[Group], samples: Mapping[str, Sample | None]
    ) -> tuple[Spread, bool]:
        """The spread over seeds that a contrast of the first group's samples is judged by, as `spread` gives it.

        Runs of two kinds are of neither, and stand for none; their own spread counts for themselves.
        """
        group, moved = groups[0], contrast.weights or contrast.sizes
        found = self.spread(groups, {self.kind(run) for name in moved for run in group[name]})
        mixed = [name for name in moved if len({self.kind(run) for run in group[name]}) > 1]
        own = pooled_spread(sample.values for name in mixed if (sample := samples[name]))
        return (own, False) if own.freedom and not (found[0].freedom and own.reach < found[0].reach) else found

    def spread(self, groups: Sequence[Group], kinds: set[Hashable]) -> tuple[Spread, bool]:
        """The spread over seeds of runs of these kinds, and whether it is of shorter runs; of several the widest.

        The widest is that which reaches furthest with its degrees of freedom.

        Each kind's is that of the first group's runs; where none of these has several seeds, that of all runs of the
        kind in the other groups, which are shorter; where there are none either, it is unknown.
        """
        found = []
        for kind in kinds:
            own = pooled_spread(self._of_kind(groups[0], kind))
            shorter = pooled_spread(itertools.chain(*(self._of_kind(group, kind) for group in groups[1:])))
            found.append((own, False) if own.freedom else (shorter, shorter.freedom > 0))
        return max(found, key=lambda one: one[0].reach)

    def _of_kind(self, group: Group, kind: Hashable) -> list[tuple[float, ...]]:
        """The values of each configuration of a kind whose seeds are comparable."""
        return [
            sample.values
            for name, sample in self.samples(group).items()
            if sample
            and not sample.steady
            and self.comparable(group[name])
            and {self.kind(run) for run in group[name]} == {kind}
        ]

    def _part(self, pair: Pair, effect: Effect | None, group: Group, known: bool, freedom: str) -> Part:
        names = [name for name in (pair.first, pair.second) if isinstance(name, str)]
        seeds = count_seeds(*(group[name] for name in names))
        if effect is None:
            return Part(OPEN, OPEN, f"{pair.words}: a run diverged ({seeds})")
        if mixed := [name for name in names if not self.comparable(group[name])]:
            learned = (f"{title(n)} learned in {sum(map(learns, group[n]))} of {len(group[n])} seeds" for n in mixed)
            return Part(OPEN, OPEN, f"{pair.words}: {'; '.join(learned)}")
        method = effect.method + freedom * (effect.method == POOLED)
        answers = {self.value(run) for run in group[pair.first]}
        if effect.method == IMAGES and pair.second == CHANCE and answers == {CHANCE}:
            method = (
                "exactly: one class for all images"  # as many of which are of each class: no draw of them changes that
            )
            effect = Effect(effect.value, effect.value, effect.value, NONE)
        tendency = pair.rule(Effect(effect.value, effect.value, effect.value, effect.method))
        verdict = pair.rule(effect) if known else None
        found = self.tell(effect)
        return Part(verdict, tendency, f"{pair.words}: {found} ({method}, {seeds})", pair.words, found)


def above(bound: float = 0.0) -> Rule:
    """Verdict on "the difference is above `bound`"."""
    return lambda effect: HOLDS if effect.low > bound else FAILS if effect.high < bound else OPEN


def below(bound: float = 0.0) -> Rule:
    """Verdict on "the difference is below `bound`"."""
    return lambda effect: HOLDS if effect.high < bound else FAILS if effect.low > bound else OPEN


def within(margin: float) -> Rule:
    """Verdict on "the difference is at most `margin` either way"."""

    def verdict(effect: Effect) -> str:
        if -margin <= effect.low and effect.high <= margin:
            return HOLDS
        return FAILS if effect.low > margin or effect.high < -margin else OPEN

    return verdict


def _accuracy(run: Run) -> float:
    return CHANCE if run.summary["diverged"] else float(run.summary["final"]["test_accuracy"])


def learns(run: Run) -> bool:
    """Whether the run's test accuracy lies more than `LEARNS` above chance."""
    return _accuracy(run) > CHANCE + LEARNS


def _gap(run: Run) -> float | None:
    final = run.summary["final"]
    return None if run.summary["diverged"] else final["train_accuracy"] - final["validation_accuracy"]


def _validation_error(run: Run) -> float:
    return 1 - float(run.summary["final"]["validation_accuracy"])


def _passage(ratio: Callable[[Run], float]) -> Callable[[Run], Hashable]:
    """How many layers a gradient passes, and whether it vanishes: a product of more factors spreads more."""
    return lambda run: (run.config.depth, ratio(run) < VANISHED)


def _magnitude(ratio: float) -> float | None:
    """Decimal logarithm; float32 has no smaller number than 1e-45 to tell from zero."""
    return math.log10(max(ratio, 1e-45)) if math.isfinite(ratio) else None


def _times(effect: Effect) -> str:
    value, low, high = (power(10**number) for number in (effect.value, effect.low, effect.high))
    interval = f" [{low}, {high}]" if effect.method != NONE else ""
    return f"{value}{interval} times the last layer's"


def count_seeds(*groups: Sequence[object]) -> str:
    numbers = " + ".join(str(len(group)) for group in groups)
    return f"{numbers} seed{'' if numbers == '1' else 's'}"


ACCURACY = Outcome(_accuracy, images=TEST_IMAGES, share=_accuracy, learned=True)
GAP = Outcome(_gap, images=VALIDATION_IMAGES, share=_validation_error, learned=True)
EXCESS = Outcome(turning.excess, kind=turning.turned)
VANISHING = Outcome(
    lambda run: _magnitude(measures.vanishing_ratio(run)), _times, kind=_passage(measures.vanishing_ratio)
)
WEAKEST = Outcome(lambda run: _magnitude(measures.weakest_ratio(run)), _times, kind=_passage(measures.weakest_ratio))
