"""What depth does to a network whose gradient reaches every layer, and what of Table 1's differences is BN's alone."""

import math

from vggkit.config import RunConfig
from vggkit.report.depth import runs_of
from vggkit.report.intervals import IMAGES
from vggkit.report.naming import network
from vggkit.report.tried import SHORT, Found, accuracy, config
from vggkit.report.verdicts import ACCURACY, learns
from vggkit.study import DEPTHS, SUITES, Asked, title

WITH_BN = (Asked("vgg08"), Asked("vgg08", {"batch_norm": True}), Asked("vgg38_bn_rc"))
"""The shallow network without and with BN, and the deep one."""

DEEPER = ("vgg38_bn", "vgg38_rc", "vgg38_bn_rc")
"""The deep networks that are set beside the shallow one with BN."""


def alone_told(short: Found, full: Found) -> str:
    """What BN brings without depth, and what depth and RC add to it, by runs of either length, as Markdown."""
    lengths = []
    for found, epochs in ((full, RunConfig().epochs), (short, SUITES[SHORT].settings["epochs"])):
        ends = {network(one): accuracy(found.get(one.name, ())).mean() for one in map(config, WITH_BN)}
        if not any(map(math.isnan, ends.values())):
            listed = ", ".join(f"{name} {value:.1f} %" for name, value in ends.items())
            lengths.append(f"after {epochs} epochs {listed}")
    if not lengths:
        return ""
    return (
        "Table 1 sets deep networks with BN and RC beside a shallow one that has neither. Which part of the difference "
        f"is BN's, VGG08 with BN shows: {'; '.join(lengths)}. The step from the first to the second is BN's alone; "
        f"from the second to the third, what depth and RC add to it. {degradation(short, full)}".rstrip()
    )


def degradation(short: Found, full: Found) -> str:
    """What depth does to a network with BN, and what RC do about it, as Markdown; empty where nothing is known."""
    shallow = config(WITH_BN[1]).name
    learned = {name: runs for name, runs in full.items() if runs and all(map(learns, runs))}
    group = {name: learned[name] for name in (shallow, *DEEPER) if name in learned}
    effects = ACCURACY.differences(learned, [(name, shallow) for name in group if name != shallow])
    if not effects or shallow not in group:
        return ""
    beside = ", ".join(f"{title(name)} {effect}" for (name, _), effect in effects.items())
    seeds = ", ".join(f"{network(runs[0].config)} {len(runs)}" for runs in group.values())
    text = (
        f"Beside VGG08 BN after {RunConfig().epochs} epochs (points of test accuracy, with simultaneous 95 % "
        f"intervals; seeds: {seeds}): {beside}."
    )
    alone = effects.get(("vgg38_bn", shallow))
    if not alone or alone.high >= 0 or alone.method == IMAGES:
        return text
    by_layers = {depth: accuracy(runs_of({SHORT: short}, "BN", depth)) for depth in DEPTHS}
    by_depth = [f"{values.mean():.0f} % with {depth}" for depth, values in by_layers.items() if len(values)]
    text += " So with BN alone the deeper network is the worse one"
    return text + f" (after {SUITES[SHORT].settings['epochs']} epochs {', '.join(by_depth)} layers)." * bool(by_depth)
