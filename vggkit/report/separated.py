"""Do plain networks stop for want of a gradient or of a signal? Runs in float32 that tell."""

from vggkit.config import RunConfig
from vggkit.report.alive import logs_signal
from vggkit.report.canvas import Figure
from vggkit.report.cures import Look, signal_by_epoch
from vggkit.report.naming import exponent, network
from vggkit.report.tried import Found, config, learning, reached
from vggkit.study import NEGLIGIBLE, SEPARATED, SUITES

SUITE = "float32"
LOOKS = {20: Look(4, "P"), 38: Look(0, "s")}
"""Of networks by their depth; dashed where the usual epsilon drops their gradient."""


def told(found: Found, short: Found) -> str:
    """What became of each network with and without a gradient that counts, as Markdown.

    Args:
        found: runs of `SUITE`.
        short: runs of the same length in bfloat16, which stand in for what has no run in float32.
    """
    accuracy = f"Test accuracy after {SUITES[SUITE].settings['epochs']} epochs"
    groups: dict[str, list[str]] = {accuracy: [], "In bfloat16": [], "No run yet": []}
    for one in (config(asked, SUITE) for asked in SEPARATED):
        runs, rounded = found.get(one.name, ()), short.get(one.name, ())
        where = accuracy if runs else "In bfloat16" if rounded else "No run yet"
        groups[where].append(network(one) + (f" {reached(runs or rounded)}" if runs or rounded else ""))
    return " ".join(f"{name}: {'; '.join(items)}." for name, items in groups.items() if items)


def answer(found: Found) -> str:
    """Which networks learn once their gradient counts, in a sentence, as Markdown; empty without runs."""
    counting = [config(asked, SUITE) for asked in SEPARATED if "adam_epsilon" in asked.settings]
    known = {f"{one.depth} layers": learning(runs) > 0 for one in counting if (runs := found.get(one.name, ()))}
    learn, fail = ([name for name, learned in known.items() if learned == side] for side in (True, False))
    parts = [f"plain networks of {' and '.join(learn)} learn"] if learn else []
    parts += [f"one of {' and of '.join(fail)} does not learn" + " all the same" * (not learn)] if fail else []
    if not parts:
        return ""
    return f"Where Adam's epsilon lets every gradient count, {', while '.join(parts)}."


def question() -> str:
    """What the runs are to tell apart, as Markdown."""
    return (
        f"Adam's epsilon decides which gradients count. With {exponent(NEGLIGIBLE)} in place of "
        f"{exponent(RunConfig().adam_epsilon)} it is below the mean gradient of every layer before training, so that "
        "weights move by about the learning rate at each step; the signal is as lost as before. If such a network "
        "learns, it was the gradient that was wanting. If it does not, that may be the signal, or steps too large for "
        "weights so small. These runs are in float32, so that it is not bfloat16 that loses the signal."
    )


def figure(found: Found) -> Figure | None:
    """The signal at the linear layer epoch by epoch; None where no run has logged it."""
    lines = []
    for asked in SEPARATED:
        one = config(asked, SUITE)
        look = LOOKS[one.depth] if "adam_epsilon" in asked.settings else LOOKS[one.depth]._replace(line="--")
        lines += [(network(one), look, run) for run in filter(logs_signal, found.get(one.name, ()))][:1]
    return signal_by_epoch(lines).titled("The signal, with every gradient counted") if lines else None
