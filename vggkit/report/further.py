"""The report's further experiments: what runs say of each.

Runs of suites with the same settings are taken together, by name; what has no run is shown as such, with the command
that makes it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from vggkit.config import RunConfig
from vggkit.folders import Given
from vggkit.report.intervals import LEVEL, newcombe_interval
from vggkit.report.markup import Html, as_html
from vggkit.report.measures import CHANCE, finals, turning_epoch
from vggkit.report.render import NO_RUN, html, number
from vggkit.report.verdicts import LEARNS, TEST_IMAGES
from vggkit.runs.records import Run
from vggkit.runs.store import find_runs
from vggkit.study import BEST, FULL, RATES, REGULARISED, SUITES, Asked

SHORT = "short"

Found = Mapping[str, Sequence[Run]]
"""Runs by name, of one length on the same images."""


def read(results: Given = None, suite: str = SHORT) -> dict[str, list[Run]]:
    """By name: the runs of all suites with the settings of this one, a seed never twice.

    Raises:
        ArtifactError: a run is damaged.
    """
    alike = [name for name, other in SUITES.items() if other.settings == SUITES[suite].settings]
    found: dict[str, dict[int, Run]] = {}
    for name in alike:
        for run in find_runs(results, name):
            found.setdefault(run.config.name, {}).setdefault(run.config.seed, run)
    return {name: [runs[seed] for seed in sorted(runs)] for name, runs in found.items()}


def config(asked: Asked, suite: str = SHORT) -> RunConfig:
    return RunConfig.named(asked.configuration, suite=suite, **asked.settings)


def command(asked: Asked, suite: str) -> str:
    """The command that trains it, in the precision of this book's runs."""
    settings = {**asked.settings, "precision": "bfloat16"}
    options = "".join(f" --{name.replace('_', '-')} {_option(value)}" for name, value in settings.items())
    return f"vggkit train {asked.configuration} --suite {suite}{options}"


def _option(value: object) -> str:
    return (
        str(value).lower() if isinstance(value, bool) else exponent(value) if isinstance(value, float) else str(value)
    )


def exponent(value: float) -> str:
    """A number as the report writes it, 1e-4, with as many digits as it has."""
    return f"{value:g}" if value >= 0.1 else re.sub(r"\.?0*e-0?", "e-", f"{value:.15e}")


def accuracy(runs: Sequence[Run]) -> pd.Series:
    """Test accuracy after the last epoch in per cent, of each seed that did not diverge."""
    return finals(runs, "test_accuracy")


def learning(runs: Sequence[Run]) -> int:
    """How many of them have learned: their test accuracy is above that of guessing by `verdicts.LEARNS`."""
    return int((accuracy(runs) > 100 * (CHANCE + LEARNS)).sum())


def seeds_told(runs: Sequence[Run]) -> str:
    """How many runs there are, and of these how many diverged, and how many learned where only some did."""
    diverged, learned = sum(run.summary["diverged"] for run in runs), learning(runs)
    some = f", {learned} learning" * (0 < learned < len(runs))
    return f"{len(runs)} seed{'s' * (len(runs) > 1)}" + f", {diverged} diverged" * bool(diverged) + some


def outcome(runs: Sequence[Run], baseline: Sequence[Run] = ()) -> str:
    """What runs reached, beside those of a baseline, in words."""
    if not runs:
        return NO_RUN
    found, base = accuracy(runs), accuracy(baseline)
    if found.empty:
        return f"diverged ({seeds_told(runs)})"
    spread = f" ± {found.std(ddof=1):.2f}" if len(found) > 1 else ""
    text = f"{found.mean():.2f}{spread} % ({seeds_told(runs)})"
    if not learning(runs):
        return f"{text}: guessing"
    if base.empty:
        return text
    low, high = (100 * end for end in newcombe_interval(found.mean() / 100, base.mean() / 100, TEST_IMAGES))
    difference = number(found.mean() - base.mean(), "+")
    return f"{text}, {difference} [{number(low, '+')},\N{NO-BREAK SPACE}{number(high, '+')}]"


def turn(runs: Sequence[Run]) -> str:
    """The epoch of the lowest validation loss, and how far training runs ahead of validation in the end."""
    kept = [run for run in runs if not run.summary["diverged"]]
    epochs = sorted(epoch for run in kept if (epoch := turning_epoch(run)) is not None)
    if not epochs:
        return NO_RUN if not runs else "–"
    gap = (finals(kept, "train_accuracy") - finals(kept, "validation_accuracy")).mean()
    return f"epoch {', '.join(map(str, epochs))} of {kept[0].config.epochs}; gap {number(gap)}"


class Question(NamedTuple):
    """An experiment: what is asked, what is trained for it in which suite, and beside what it is set."""

    words: str
    asked: tuple[Asked, ...]
    suite: str
    baseline: str | None = None


def _but(start: str, **settings: object) -> Asked:
    return Asked(start, settings)


QUESTIONS = (
    Question("Does weight decay close the gap of the best run?", REGULARISED[:3], "further", BEST),
    Question("Does weight decay apart from the gradient (AdamW)?", REGULARISED[3:6], "further", BEST),
    Question("Does dropout?", REGULARISED[6:], "further", BEST),
    Question("Does BN help a network that learns anyway?", (_but("vgg38_bn", depth=8),), "depth", "vgg08"),
    Question("Do RC? VGG08 has no block to shortcut; depth 14 is the first", (_but("vgg38_rc", depth=14),), "depth",
             "vgg14"),
    Question("Do both?", (_but("vgg38_bn_rc", depth=14),), "depth", "vgg14"),
    Question("Do RC alone bear a larger rate?", RATES[:1], "further", "vgg38_rc"),
    Question("Where does the learning rate become too large?", RATES[1:], "further"),
    Question("How deep can it get?", tuple(_but("vgg38_bn_rc", depth=depth) for depth in (56, 74, 110)), SHORT,
             "vgg38_bn_rc"),
    Question("What if the schedule were stepped after every batch, so that the rate cycles and never anneals?",
             (_but("vgg38_bn_rc", schedule="cosine-per-batch"),), SHORT, "vgg38_bn_rc"),
    Question("What if the initial weights were those of He et al. (2015)?",
             (_but("vgg38_bn_rc", initialisation="he"),), SHORT, "vgg38_bn_rc"),
)  # fmt: skip


def table_html(found: Found) -> Html:
    """What was found for each of `QUESTIONS`, a row for each of its runs."""
    rows = []
    for question in QUESTIONS:
        base = found.get(question.baseline or "", ())
        for place, asked in enumerate(question.asked):
            runs = found.get(config(asked).name, ())
            rows.append(
                {
                    "question": as_html(question.words) if place == 0 else "",
                    "test accuracy": as_html(outcome(runs, base)),
                    "validation loss turns": as_html(turn(runs)),
                    "command": f"<code>{as_html(command(asked, question.suite))}</code>",
                }
            )
    caption = (
        f"All images, {SUITES[SHORT].settings['epochs']} epochs. Official test accuracy after the last epoch, mean ± "
        f"standard deviation over seeds (guessing: at most {100 * (CHANCE + LEARNS):g} %), and the "
        "difference from the network without the change in percentage points, "
        f"with its {100 * LEVEL:g} % interval for the draw of the test images alone, not for that of seeds. The "
        "validation loss is lowest in the epoch named; the gap is training minus validation accuracy in points "
        "at the end."
    )
    return html(pd.DataFrame(rows), "Further experiments", caption, markup=True)


def turns_html(found: Found) -> Html:
    """Which regulariser moves the turn of the validation loss, by runs as long as Table 1's."""
    rows = [_turning(BEST, found.get(BEST, ()), command(Asked(BEST), FULL))]
    for asked in REGULARISED:
        name = config(asked, "beside").name
        rows.append(_turning(name, found.get(name, ()), command(asked, "beside")))
    caption = (
        f"BN+RC at the learning rate 1e-2 for {RunConfig().epochs} epochs: epoch of the lowest validation loss of each "
        "seed; gap: training minus validation accuracy in points at the end."
    )
    return html(pd.DataFrame(rows), "Overfitting of the best run", caption, markup=True)


def _turning(name: str, runs: Sequence[Run], how: str) -> dict[str, str]:
    cells = {
        "run": f"<code>{as_html(name)}</code>",
        "test accuracy": outcome(runs),
        "validation loss turns": turn(runs),
    }
    return cells | {"command": f"<code>{as_html(how)}</code>"}
