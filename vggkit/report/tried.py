"""Runs whose settings are not those of Table 1, found by their names, and what they reached.

Runs of suites with the same settings are taken together.
"""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from vggkit.config import NUM_CLASSES, RunConfig
from vggkit.folders import Given
from vggkit.report.measures import finals
from vggkit.report.prose import spans
from vggkit.report.render import MISSING, NO_RUN
from vggkit.report.turning import lowest_epochs, turning_epoch
from vggkit.report.verdicts import learns
from vggkit.runs.records import Run
from vggkit.runs.store import find_runs
from vggkit.study import SUITES, Asked

SHORT = "short"
FAR = 2.0  # a network that guesses has a loss of ln 100; one at twice that answers wrongly, and is sure of it

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


def accuracy(runs: Sequence[Run]) -> pd.Series:
    """Test accuracy after the last epoch in per cent, of each seed that did not diverge."""
    return finals(runs, "test_accuracy")


def learning(runs: Sequence[Run]) -> int:
    """How many of them have learned, see `verdicts.learns`."""
    return sum(map(learns, runs))


def seeds_told(runs: Sequence[Run]) -> str:
    """How many runs there are, and of these how many diverged or learned where only some did."""
    diverged, learned = sum(run.summary["diverged"] for run in runs), learning(runs)
    some = f", {diverged} diverged" * (0 < diverged < len(runs)) + f", {learned} learning" * (0 < learned < len(runs))
    return f"{len(runs)} seed{'s' * (len(runs) > 1)}{some}"


def reached(runs: Sequence[Run]) -> str:
    """What runs reached: mean and spread, or each seed's accuracy where only some have learned."""
    found = accuracy(runs)
    if found.empty:
        return f"diverged ({seeds_told(runs)})"
    if 0 < learning(runs) < len(found):
        return f"{', '.join(f'{value:.2f}' for value in sorted(found))} % ({seeds_told(runs)})"
    spread = f" ± {found.std(ddof=1):.2f}" if len(found) > 1 else ""
    return f"{found.mean():.2f}{spread} % ({seeds_told(runs)})"


def exploded(runs: Sequence[Run]) -> float | None:
    """The mean training loss of runs that end far above guessing, and not in infinity; None of others."""
    losses = finals(runs, "train_loss")
    return float(losses.mean()) if len(losses) and losses.min() > FAR * math.log(NUM_CLASSES) else None


def outcome(runs: Sequence[Run]) -> str:
    """What runs reached, and whether that is guessing or worse, in words."""
    if not runs:
        return NO_RUN
    if loss := exploded(runs):
        return f"{reached(runs)}: exploded, training loss {loss:,.0f}"
    return reached(runs) + ": guessing" * (not learning(runs) and not accuracy(runs).empty)


def gap(runs: Sequence[Run]) -> float:
    """Training minus validation accuracy after the last epoch, in percentage points; NaN without runs."""
    return float((finals(runs, "train_accuracy") - finals(runs, "validation_accuracy")).mean())


def turn(runs: Sequence[Run]) -> str:
    """The epoch of the lowest validation loss of each seed, and where the smoothed loss is as low."""
    kept = [run for run in runs if not run.summary["diverged"]]
    if not kept:
        return MISSING if runs else NO_RUN
    told = [
        f"{turning_epoch(run)} (smoothed: {spans(lowest_epochs(run.metrics['validation_loss'].to_numpy()))})"
        for run in kept
    ]
    return f"{'; '.join(told)} of {kept[0].config.epochs}"
