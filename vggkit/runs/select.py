"""Which finished runs stand for a configuration: of which suite, and of which seeds. Nothing heavy is imported."""

from collections.abc import Iterable, Mapping, Sequence

from vggkit.folders import Given
from vggkit.runs.records import Run
from vggkit.runs.store import find_runs
from vggkit.study import CONFIGURATIONS, FULL, shown_suites

Runs = Mapping[str, Run | Sequence[Run]]
"""Runs by configuration: one, or several of different seeds and suites."""


def all_runs(results: Given) -> dict[str, list[Run]]:
    """For each configuration its finished runs of every suite that the book shows, fullest suite first, by seed."""
    found = [run for suite in shown_suites() for run in find_runs(results, suite)]
    runs = {name: [run for run in found if run.config.name == name] for name in CONFIGURATIONS}
    return {
        name: sorted(group, key=lambda run: (_rank(run.config.suite), run.config.seed))
        for name, group in runs.items()
        if group
    }


def fullest(runs: Runs) -> dict[str, list[Run]]:
    """For each configuration the runs of its fullest suite alone, one for each seed."""
    suites = {name: min((run.config.suite for run in group), key=_rank) for name, group in _listed(runs).items()}
    return {name: of_suite(runs, suite)[name] for name, suite in suites.items()}


def of_suite(runs: Runs, suite: str) -> dict[str, list[Run]]:
    """For each configuration that has any, its runs of one suite: all of one length, on the same images."""
    groups = {name: [run for run in group if run.config.suite == suite] for name, group in _listed(runs).items()}
    return {name: group for name, group in groups.items() if group}


def _listed(runs: Runs) -> dict[str, list[Run]]:
    return {name: [run] if isinstance(run, Run) else list(run) for name, run in runs.items() if run}


def fullest_runs(results: Given) -> dict[str, list[Run]]:
    """For each configuration all runs of its fullest suite: over the full data, else shorter, else reduced."""
    return fullest(all_runs(results))


def representative_runs(results: Given, seed: int = 0) -> dict[str, Run]:
    """For each configuration the run of one seed in the fullest suite that has it."""
    firsts = {name: [r for r in group if r.config.seed == seed] for name, group in all_runs(results).items()}
    return {name: group[0] for name, group in firsts.items() if group}


def one_suite(runs: Runs, names: Iterable[str] | None = None, seed: int = 0) -> dict[str, Run]:
    """The runs of one seed that may be compared: those of one suite, which all have one length and the same images.

    It is the fullest suite that has more than half of the configurations `names`, which are all unless given. Where
    none has, it is the suite that has most of them, of several the fullest.
    """
    names = list(CONFIGURATIONS if names is None else names)
    suites = sorted({run.config.suite for group in _listed(runs).values() for run in group}, key=_rank)
    chosen = [
        {n: run for n in names for run in of_suite(runs, suite).get(n, []) if run.config.seed == seed}
        for suite in suites
    ]
    enough = [found for found in chosen if 2 * len(found) > len(names)]
    return enough[0] if enough else max(chosen, key=len, default={})  # the first among equals


def is_full(run: Run) -> bool:
    """Whether the run is one of Table 1's: its suite, and a configuration with no setting changed."""
    return run.config.suite == FULL and run.config.name in CONFIGURATIONS


def _rank(suite: str) -> int:
    shown = shown_suites()
    return shown.index(suite) if suite in shown else len(shown)
