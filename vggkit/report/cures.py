"""A third cure: what became of VGG38 begun with weights of another scale, beside BN and RC."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.typing import LineStyleType

from vggkit.config import RunConfig
from vggkit.report.alive import FAINT, SHARE, Trained, by_epoch, logs_signal
from vggkit.report.canvas import PANEL, Figure, drawing, finish
from vggkit.report.figures import COLOURS
from vggkit.report.labels import direct_labels
from vggkit.report.maps import RANGES, TITLES, heatmaps
from vggkit.report.markup import Html, as_html
from vggkit.report.measures import CHANCE
from vggkit.report.naming import command, commands_html, exponent, machines, network
from vggkit.report.prose import origin
from vggkit.report.render import html, power
from vggkit.report.tried import SHORT, Found, accuracy, config, learning, outcome, reached
from vggkit.report.verdicts import LEARNS, learns
from vggkit.runs.records import Run
from vggkit.runs.schema import SIGNAL_IMAGES
from vggkit.study import CONFIGURATIONS, CURES, FULL, SCALES, SKIP_INIT, SMALL, SUITES, Asked


class Look(NamedTuple):
    """How a network's line is drawn: place in the palette, matplotlib's marker and line style."""

    colour: int
    marker: str
    line: LineStyleType = "-"


MOST_LISTED = 9  # lines whose ends a caption tells; those of more, the description and the file have
CURED = (
    (Asked("vgg38"), SHORT),
    *((asked, "cure") for asked in CURES),
    *((Asked(name), SHORT) for name in ("vgg38_bn", "vgg38_rc", "vgg38_bn_rc")),
)
"""VGG38 without a cure, and each that was tried, with the suite that trains it."""
TRIED = [asked for asked, _ in CURED if asked.configuration in ("vgg38", "vgg38_bn_rc") or asked.settings]
"""Those whose signal is drawn: the cures, and between which two they stand."""
LOOKS: dict[tuple[str, object], Look] = {
    ("initialisation", "he"): Look(4, "P"), ("initialisation", "lsuv"): Look(5, "X"), ("skip_init", True): Look(6, "*"),
}  # fmt: skip
"""By setting and value."""
MAPPED = [asked for asked in TRIED if asked.configuration != "vgg38_bn_rc"]
"""Those whose layers are drawn epoch by epoch; BN and RC have their place among Table 1's."""


def table_html(short: Found, full: Found) -> Html:
    """VGG38 without BN after other initialisations, beside BN and RC."""
    rows = [
        {
            "network": network(config(asked)),
            f"{SUITES[SHORT].settings['epochs']} epochs": outcome(short.get(config(asked).name, ())),
            f"{RunConfig().epochs} epochs": outcome(full.get(config(asked).name, ())),
        }
        for asked, _ in CURED
    ]
    caption = (
        "Official test accuracy after the last epoch of VGG38, all images, mean ± standard deviation over seeds. He: "
        "He et al. (2015); LSUV: layer-sequential unit variance, Mishkin and Matas (2016); SkipInit: De and Smith "
        f"(2020); at {exponent(SMALL)}: at this learning rate in place of {exponent(RunConfig().learning_rate)}."
        f"{_machines([run for asked, _ in CURED for run in short.get(config(asked).name, ())])}"
    )
    return html(pd.DataFrame(rows), "A third cure", caption)


def _machines(runs: Iterable[Run]) -> str:
    """Which seeds were trained on which processor: where the two go together, a spread over seeds is one over both."""
    found: dict[int, list[Run]] = {}
    for run in runs:
        found.setdefault(run.config.seed, []).append(run)
    told = "; ".join(f"seed {seed} on {machines(made)}" for seed, made in sorted(found.items()))
    return f" Short runs: {told}." * bool(told)


def commands() -> Html:
    """The commands behind `table_html`."""
    long = [(asked, FULL if suite == SHORT else "beside") for asked, suite in CURED]
    return commands_html("The command that trains each of them", [command(*one) for one in (*CURED, *long)])


def look(asked: Asked) -> Look:
    """How its line is drawn: as in Table 1's figures, or by what was changed; dashed at the small learning rate."""
    row = CONFIGURATIONS[asked.configuration]
    changes = (LOOKS[change] for change in asked.settings.items() if change in LOOKS)
    found = next(changes, Look(row.colour, row.marker))
    return found._replace(line="--") if "learning_rate" in asked.settings else found


def watched(short: Found, of: Iterable[Asked] = TRIED) -> list[tuple[Asked, Run]]:
    """Of each network that has one: the run of the lowest seed that logged the signal.

    Where some seeds learn and others do not, it is one of each.
    """
    found = []
    for asked in of:
        runs = list(filter(logs_signal, short.get(config(asked).name, ())))
        firsts = [next((run for run in runs if learns(run) == learned), None) for learned in (False, True)]
        found += [(asked, run) for run in sorted(filter(None, firsts), key=lambda run: run.config.seed)]
    return found


def _named(watched: Sequence[tuple[Asked, Run]]) -> list[tuple[str, Asked, Run]]:
    """With what each is called: its network, and the seed where another one of it stands beside it."""
    names = [network(config(asked)) for asked, _ in watched]
    counts = Counter(names)
    return [
        (name + f" (seed {run.config.seed})" * (counts[name] > 1), asked, run)
        for name, (asked, run) in zip(names, watched, strict=True)
    ]


def figures(short: Found) -> list[Figure]:
    """The signal of all cures epoch by epoch, and for those of `MAPPED` every statistic, layers by epochs."""
    lines = [(name, look(asked), run) for name, asked, run in _named(watched(short))]
    mapped = [(name, Trained(run, None)) for name, _, run in _named(watched(short, MAPPED))]
    drawn = [signal_by_epoch({"": lines}).titled("The signal, epoch by epoch")] if lines else []
    maps = [heatmaps(statistic, mapped).titled(f"{TITLES[statistic]}, cures") for statistic in RANGES]
    return drawn + maps if mapped else drawn


def signal_by_epoch(panels: Mapping[str, Sequence[tuple[str, Look, Run]]]) -> Figure:
    """What differs between images in the linear layer's input after each epoch, a line for each run.

    Args:
        panels: by the panel's title, at least one name, look and run; all runs log the signal.
    """
    ends, named = [], []
    with drawing(*[1.1 * PANEL] * len(panels), height=4.0) as axes:
        for ax, (title, lines) in zip(axes, panels.items(), strict=True):
            ax.set(xlabel="epoch", ylabel="share that differs between images", yscale="log", title=title)
            for name, shape, run in lines:
                share = by_epoch(run, SHARE).iloc[-1]
                style: dict[str, Any] = {"color": COLOURS[shape.colour], "linestyle": shape.line}
                (line,) = ax.plot(
                    share.index, share.where(share > 0), linewidth=1.6, markersize=4, marker=shape.marker, **style
                )
                short = name.removeprefix("VGG38 ")
                named.append((ax, name if short.startswith("at ") else short, line))
                ends.append(
                    f"{as_html(name)}{f' in {title}' * bool(title)} {power(share.iloc[0])} and {power(share.iloc[-1])}"
                )
        limits = np.array([ax.get_ylim() for ax in axes])
        for ax in axes:
            # The same for all, and so wide that small changes of what is whole do not look large.
            ax.set_ylim(min(limits[:, 0].min(), 1e-4), max(limits[:, 1].max(), 1.5))
            direct_labels(ax, [(name, line) for where, name, line in named if where is ax])
        what = "What differs between images at the linear layer, as a share of its size"
        finding = f"{what}, after the first epoch and the last: {'; '.join(ends)}"
        listed = finding if len(ends) <= MOST_LISTED else f"{_kept(panels)} {what}, after each epoch"
        caption = (
            f"{listed}. Standard deviation over {SIGNAL_IMAGES} training images over the root mean square, in "
            f"training mode and float64, in which a share below {power(float(np.finfo(np.float64).eps), 1)} is "
            f"rounding. {origin([run for lines in panels.values() for *_, run in lines])}"
        )
        return finish(axes, caption, f"Line chart over the epochs. {finding}.")


def _kept(panels: Mapping[str, Sequence[tuple[str, Look, Run]]]) -> str:
    """In which runs much differs between images after the last epoch, and how much at most in the others."""
    ends = {
        title: {name: float(by_epoch(run, SHARE).iloc[-1, -1]) for name, _, run in lines}
        for title, lines in panels.items()
    }
    told = []
    for title, shares in ends.items():
        whole = [as_html(name) for name, share in shares.items() if share > FAINT]
        told.append(f"in {title} with " * bool(title) + ("; ".join(whole) or "none"))
    faint = [share for shares in ends.values() for share in shares.values() if share <= FAINT]
    rest = f" In the others it is {power(max(faint))} at most." if faint else ""
    return f"After the last epoch more than {100 * FAINT:g} % differs {', and '.join(told)}.{rest}"


def returns_told(short: Found) -> str:
    """Whether training brings back a signal that its first epoch ends without, and what becomes of the accuracy then.

    As Markdown. It is back where it is there to the last epoch; where it was there in between, that is told.
    """
    back, lost = [], []
    for name, _, run in _named(watched(short, MAPPED)):
        share = by_epoch(run, SHARE).iloc[-1]
        accuracy = run.metrics.set_index("epoch")["train_accuracy"]
        heard, learned = since(share > FAINT), since(accuracy > CHANCE + LEARNS)
        if share.iloc[0] > FAINT:
            continue
        if heard and learned:
            back.append(
                f"{name}, where {power(share.iloc[0])} of the linear layer's input differs between images after the "
                f"first epoch: the share is above {100 * FAINT:g} % from epoch {heard} on, and the training "
                f"accuracy a point above guessing from epoch {learned} on"
            )
        elif not heard:
            lost.append(name + ", where it fell again" * bool((share > FAINT).any()))
    text = [f"A signal that the first epoch ends without comes back in {'; and in '.join(back)}."] if back else []
    text += [f"In {SUITES[SHORT].settings['epochs']} epochs none comes back in {'; '.join(lost)}."] if lost else []
    return " ".join(text)


def since(holds: pd.Series) -> int | None:
    """The epoch from which on something holds to the last one; None where it does not hold in the last.

    >>> since(pd.Series([True, False, True, True], index=[1, 2, 3, 4]))
    3
    """
    wrong = holds.index[~holds]
    if not len(wrong):
        return int(holds.index[0])
    after = holds.index[holds.index > wrong[-1]]
    return int(after[0]) if len(after) else None


def told(short: Found, full: Found) -> str:
    """Whether BN or RC are needed, or only the scale, by short runs; how far that carries, by long ones; Markdown."""
    learn, guess = _tried(short)
    long_learn, long_guess = _tried(full)
    longer = [*long_learn, *(f"{words}, which is not learning" for words in long_guess)]
    if not learn and not guess and not longer:
        return "Whether BN or RC are needed, or only the scale of the weights, is not known: there is no run yet."
    epochs = f"after {SUITES[SHORT].settings['epochs']} epochs"
    text = []
    if learn:
        text.append("Neither BN nor RC is needed for VGG38 to begin to learn: test accuracy "
                    f"{epochs} {'; '.join(learn)}{_beside(short)}.")  # fmt: skip
    if guess:
        text.append(f"Not enough {epochs}: {'; '.join(guess)}.")
    if longer:
        text.append(f"After {RunConfig().epochs}: {'; '.join(longer)}{_beside(full)}.")
    return " ".join(filter(None, [*text, _skipped(short)]))


def _skipped(short: Found) -> str:
    """What SkipInit does to RC, in a sentence; empty without a run of it."""
    skipped, alone = short.get(config(SKIP_INIT).name, ()), short.get("vgg38_rc", ())
    if not skipped:
        return ""
    more = accuracy(skipped).mean() > accuracy(alone).mean()
    without = f", {'RC without it' if more else 'no more than RC without it'} ({reached(alone)})" * bool(alone)
    return (
        f"RC with SkipInit in place of BN reach {reached(skipped)} after {SUITES[SHORT].settings['epochs']} epochs"
        f"{without}{_beside(short)}."
    )


def answer(short: Found, full: Found) -> str:
    """The best of the other scales beside BN and RC, and SkipInit, after runs of either length, as Markdown."""
    known = [config(asked) for asked in SCALES if learning(short.get(config(asked).name, ()))]
    if not known:
        return told(short, full)
    best = max(known, key=lambda one: accuracy(short[one.name]).mean())
    names = best.name, "vgg38_bn_rc"
    lengths = ((short, SUITES[SHORT].settings["epochs"]), (full, RunConfig().epochs))
    reached = [(found, epochs) for found, epochs in lengths if all(len(accuracy(found.get(n, ()))) for n in names)]
    if not reached:
        return told(short, full)
    ours, both = (
        " and ".join(f"{accuracy(found[name]).mean():.0f} % after {epochs} epochs" for found, epochs in reached)
        for name in names
    )
    scales = [config(asked).name for asked in SCALES]
    behind = all(
        accuracy(found[name]).mean() < accuracy(found[names[1]]).mean()
        for found, _ in reached
        for name in scales
        if learning(found.get(name, ()))
    )
    fails = [one for one in map(config, SCALES) if (runs := short.get(one.name, ())) and learning(runs) < len(runs)]
    not_all = f" Not every other scale or rate is enough: {_failing(fails, short)}." * bool(fails)
    return (
        "Weights of another scale, at a suitable learning rate, are enough for VGG38 to begin to learn: the best of "
        f"those tried, {network(best)}, reaches {ours}.{not_all} "
        f"{'None gets as far as BN and RC:' if behind else 'With BN and RC it is'} {both}. {_skipped(short)}".strip()
    )


def _failing(configs: Sequence[RunConfig], found: Found) -> str:
    """In how many of its seeds each network learns."""
    return "; ".join(
        f"{network(one)} learns in {learning(found[one.name])} of {len(found[one.name])} runs" for one in configs
    )


def _tried(found: Found) -> tuple[list[str], list[str]]:
    """What networks of other scales reached: those of which a seed learns, and the others."""
    learn: list[str] = []
    others: list[str] = []
    for asked in SCALES:
        if runs := found.get(config(asked).name, ()):
            (learn if learning(runs) else others).append(f"{network(config(asked))} {reached(runs)}")
    return learn, others


def _beside(found: Found) -> str:
    both = accuracy(found.get("vgg38_bn_rc", ()))
    return f"; with BN and RC {both.mean():.2f} %" if len(both) else ""
