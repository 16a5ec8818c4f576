"""What plain networks lost before training and got back during it, or had for a while: signal and gradient by epoch."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.typing import LineStyleType

from vggkit.config import ADAM_EPSILON
from vggkit.report.alive import FAINT, SHARE, by_epoch, logs_signal
from vggkit.report.canvas import Figure
from vggkit.report.cures import Look, signal_by_epoch, since
from vggkit.report.depth import BySuite
from vggkit.report.naming import exponent, network
from vggkit.report.prose import spans
from vggkit.report.separated import LOOKS, cases
from vggkit.report.untrained import Untrained
from vggkit.report.verdicts import learns
from vggkit.runs.records import Run
from vggkit.study import LARGER, NEGLIGIBLE

DASH_DOT_DOT = (0, (5, 1, 1, 1, 1, 1))
LINES: dict[float, LineStyleType] = {NEGLIGIBLE: "--", ADAM_EPSILON: "-", LARGER[0]: DASH_DOT_DOT, LARGER[1]: "-."}
"""The line of a network, by Adam's epsilon."""


def told(found: BySuite, measured: Untrained) -> str:
    """Which networks without a signal got one in training, and which without a gradient came alive and fell back.

    As Markdown; empty where there are none.
    """
    every = cases(found, measured)
    without = [run for case in every for run in case.runs if not case.signal]
    deaf = list(filter(logs_signal, without))
    back = [(run, epoch) for run in deaf if learns(run) and (epoch := since(by_epoch(run, SHARE).iloc[-1] > FAINT))]
    lost = [run for case in every for run in case.runs if not case.gradient]
    fallen = list(filter(_fell_back, lost))
    text = []
    if back:
        text.append(
            f"Of the runs that had no signal before training, {len(back)} of {len(deaf)} got one and learn. (Followed "
            f"in training is not the cosine, but what differs between images of the linear layer's input: more than "
            f"{100 * FAINT:g} % to the end.) They are {_seeds(back)}."
        )
        if unlogged := [(run, None) for run in without if not logs_signal(run)]:
            text.append(f"It was not followed in {_seeds(unlogged)}.")
    if fallen:
        text.append(
            f"Of those whose first layer had no gradient before training, {len(fallen)} of {len(lost)} had one in some "
            f"epoch, lost it again and do not learn: {_seeds([(run, None) for run in fallen])}."
        )
        if again := [(run, None) for run in fallen if _gradient(run).iloc[-1] > run.config.adam_epsilon]:
            text.append(
                f"In the last epoch it is above epsilon again in {_seeds(again)}: a longer run might tell more."
            )
        text.append("Whether rounding, epsilon or chance made a gradient fall, so few seeds cannot tell.")
    return " ".join(["What is lost before training need not stay lost.", *text]) if text else ""


def _seeds(found: Sequence[tuple[Run, int | None]]) -> str:
    """Each network of which there are runs, their seeds, and the epoch from which on something is so, where given."""
    by_name: dict[tuple[str, int | None], list[int]] = {}
    for run, epoch in found:
        by_name.setdefault((f"{network(run.config)} in {run.config.precision}", epoch), []).append(run.config.seed)
    return "; ".join(
        f"{name} (seed{'s' * (len(seeds) > 1)} {spans(seeds)})" + f" from epoch {epoch} on" * (epoch is not None)
        for (name, epoch), seeds in by_name.items()
    )


def _gradient(run: Run) -> pd.Series:
    """The mean gradient of the first layer's weights, by epoch."""
    return by_epoch(run, "mean_abs").iloc[0]


def _fell_back(run: Run) -> bool:
    """Whether a run had a gradient in some epoch, lost it again, and does not learn."""
    if learns(run) or run.summary["diverged"]:
        return False
    first = _gradient(run)
    return bool(first.max() > run.config.adam_epsilon > first.loc[first.idxmax() :].min())


def figure(found: BySuite, measured: Untrained) -> Figure | None:
    """The signal at the linear layer epoch by epoch, of plain networks of the depths of `LOOKS` in float32, and in
    bfloat16 where float32 has runs; None where no run has logged it.

    Where some seeds learn and others do not, it is the lowest seed of each.
    """
    panels: dict[str, list[tuple[str, Look, Run]]] = {}
    every = cases(found, measured)
    depths = {case.config.depth for case in every if case.precision == "float32" and case.runs} & LOOKS.keys()
    for case in every:
        if case.config.depth not in depths:
            continue
        logged = list(filter(logs_signal, case.runs))
        firsts = [next((run for run in logged if learns(run) == learned), None) for learned in (False, True)]
        look = LOOKS[case.config.depth]._replace(line=LINES[case.config.adam_epsilon])
        epsilon = case.config.adam_epsilon
        named = f" ε {exponent(epsilon)}" if epsilon != ADAM_EPSILON else ""  # Adam's, short beside a line
        for run in sorted(filter(None, firsts), key=lambda run: run.config.seed):
            seed = f", seed {run.config.seed}" * all(firsts)
            panels.setdefault(case.precision, []).append((f"VGG{case.config.depth:02d}{named}{seed}", look, run))
    return signal_by_epoch(dict(sorted(panels.items()))).titled("The signal by precision") if panels else None
