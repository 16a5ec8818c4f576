"""Is it the small gradient that stops plain networks? Pairs of runs in float32 that differ in Adam's epsilon alone."""

from collections.abc import Sequence

from vggkit.config import RunConfig
from vggkit.report.alive import logs_signal
from vggkit.report.canvas import Figure
from vggkit.report.cures import Look, signal_by_epoch
from vggkit.report.depth import listed
from vggkit.report.naming import exponent, network
from vggkit.report.tried import Found, config, learning, reached
from vggkit.runs.records import Run
from vggkit.study import FLOAT32, IN_FLOAT32, LOST, NEGLIGIBLE, SUITES, Asked

LOOKS = dict(zip(LOST, (Look(4, "P"), Look(1, "^"), Look(2, "D"), Look(0, "s")), strict=True))
"""Of networks by their depth; dashed where the usual epsilon drops their gradient."""
OUTCOMES = {
    (True, True): "whichever epsilon they have",
    (False, True): "where the epsilon lets every gradient count, and not with the usual one",
    (True, False): "with the usual epsilon, and not where it lets every gradient count",
    (False, False): "with neither epsilon",
}
"""By whether networks learn with the usual epsilon, and with one that lets every gradient count."""


def _runs(found: Found, depth: int, **epsilon: float) -> Sequence[Run]:
    return found.get(config(Asked("vgg38", {"depth": depth} | epsilon), FLOAT32).name, ())


def told(found: Found) -> str:
    """What became of each network, as Markdown."""
    known: list[str] = []
    missing: list[str] = []
    for one in (config(asked, FLOAT32) for asked in IN_FLOAT32):
        runs = found.get(one.name, ())
        (known if runs else missing).append(network(one) + (f" {reached(runs)}" if runs else ""))
    text = f"Test accuracy after {SUITES[FLOAT32].settings['epochs']} epochs: {'; '.join(known)}." if known else ""
    return " ".join(filter(None, [text, f"No run yet: {'; '.join(missing)}." if missing else ""]))


def answer(found: Found) -> str:
    """Whether it is the gradient's size that keeps networks from learning, as Markdown; empty without pairs of runs."""
    depths: dict[tuple[bool, bool], list[int]] = {}
    for depth in LOST:
        usual, counting = _runs(found, depth), _runs(found, depth, adam_epsilon=NEGLIGIBLE)
        if usual and counting:
            depths.setdefault((learning(usual) > 0, learning(counting) > 0), []).append(depth)
    told = [f"with {listed(same)} layers {OUTCOMES[learned]}" for learned, same in depths.items()]
    return f"In float32 plain networks learn {'; '.join(told)}." if told else ""


def question() -> str:
    """What the runs are to tell, as Markdown."""
    return (
        f"Adam's epsilon decides which gradients count. With {exponent(NEGLIGIBLE)} in place of "
        f"{exponent(RunConfig().adam_epsilon)} it is below the mean gradient of every layer before training, so that "
        "weights move by about the learning rate at each step; the signal is as lost as before. Where two networks of "
        "one depth both learn, the small gradient is no hindrance. Where only the one with the small epsilon does, it "
        "is the gradient that is wanting. Where neither does, that may be the signal, or steps too large for weights "
        "so small. These runs are in float32, so that it is not bfloat16 that loses the signal."
    )


def figure(found: Found) -> Figure | None:
    """The signal at the linear layer epoch by epoch; None where no run has logged it."""
    lines = []
    for asked in IN_FLOAT32:
        one = config(asked, FLOAT32)
        look = LOOKS[one.depth] if "adam_epsilon" in asked.settings else LOOKS[one.depth]._replace(line="--")
        lines += [(network(one), look, run) for run in filter(logs_signal, found.get(one.name, ()))][:1]
    return signal_by_epoch(lines).titled("The signal in float32") if lines else None
