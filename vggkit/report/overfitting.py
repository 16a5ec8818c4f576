"""Overfitting: from which epoch the validation loss rises again, how far, and which regulariser moves that."""

import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from vggkit.config import NUM_CLASSES, RunConfig
from vggkit.report.canvas import PANEL, Figure, drawing, finish, finite
from vggkit.report.figures import COLOURS
from vggkit.report.intervals import IMAGES, NONE, Effect
from vggkit.report.labels import direct_labels
from vggkit.report.markup import Html
from vggkit.report.naming import command, commands_html, network
from vggkit.report.prose import origin
from vggkit.report.render import MISSING, html, number
from vggkit.report.tried import Found, config, gap, learning, outcome, turn
from vggkit.report.turning import TURNED, lowest_smoothed, smoothed, turned
from vggkit.report.verdicts import ACCURACY, EXCESS, Outcome, count_seeds, learns
from vggkit.runs.records import Run
from vggkit.study import BEST, CONFIGURATIONS, FULL, OVERFITTED, REGULARISED, SUITES, Asked

FEW = "few"
BASE = config(Asked(BEST), FEW).name
"""The network as it is, which the others are set beside."""
LONG = tuple((asked, "beside") for asked in (Asked("vgg08", {"batch_norm": True}), *REGULARISED))
"""Runs as long as those of Table 1, beside which their losses are set."""
GAP = (
    "Gap: training minus validation accuracy in points; that of training is measured during the epoch, on augmented "
    "images and with dropout, which by itself makes the gap smaller."
)
TURNS = (
    "epoch of the lowest validation loss of each seed, in brackets those in which the smoothed loss is as low within "
    "its error, which one epoch's lowest may lie outside; by how much the smoothed loss ends above its lowest."
)


TURN = Outcome(lowest_smoothed, kind=turned)  # where the loss hardly rises, any late epoch may be the lowest


def regularised(found: Found) -> dict[str, tuple[str, Sequence[Run]]]:
    """By name, in the order of `OVERFITTED`: what stands against overfitting, and the runs, all of which learn."""
    known: dict[str, tuple[str, Sequence[Run]]] = {}
    for asked in OVERFITTED:
        settings = config(asked, FEW)
        runs = found.get(settings.name, ())
        if runs and all(map(learns, runs)):
            known[settings.name] = network(settings).partition(", ")[2] or "no regulariser", runs
    return known


def moved(found: Found, measure: Outcome) -> dict[str, Effect]:
    """By name: the mean of a regularised network's value minus that of the network as it is."""
    group = {name: runs for name, (_, runs) in regularised(found).items()}
    effects = measure.differences(group, [(name, BASE) for name in group if name != BASE])
    return {name: effect for (name, _), effect in effects.items()}


def told(found: Found) -> str:
    """Where the loss of the network as it is turns, and what each regulariser does to that; empty without runs."""
    known = regularised(found)
    if BASE not in known:
        return ""
    runs = known[BASE][1]
    epochs, above = (_mean(measure.value(run) for run in runs) for measure in (TURN, EXCESS))
    if epochs is None or above is None:
        return ""
    text = [
        f"Without a regulariser the smoothed validation loss is lowest in epoch {epochs:.0f} of "
        f"{runs[0].config.epochs} and ends {100 * above:.0f} % above that ({count_seeds(runs)})."
    ]
    turns, rises = moved(found, TURN), moved(found, EXCESS)
    groups: dict[str, list[str]] = {"later": [], "earlier": [], "untold": [], "alone": []}
    level = [name for name, (_, group) in known.items() if not any(map(turned, group))]
    for name, effect in turns.items():
        if name not in level:
            groups[_side(effect)].append(f"{known[name][0]} (by {effect.shown(1, 0)} epochs)")
    words = {
        "later": "It turns later with {}.",
        "earlier": "It turns earlier with {}.",
        "untold": "Whether it turns earlier or later cannot be told with {}.",
        "alone": "How far a seed moves the turn is unknown, and so no interval is told with {}.",
    }
    text += [sentence.format("; ".join(groups[side])) for side, sentence in words.items() if groups[side]]
    if level and BASE not in level:
        listed = "; ".join(f"{known[name][0]} ({count_seeds(known[name][1])})" for name in level)
        text.append(
            f"It has not turned by the end, which it leaves at most {100 * TURNED:g} % above its lowest, with {listed}."
        )
    if less := [f"{known[name][0]} (points: {effect})" for name, effect in rises.items() if _side(effect) == "earlier"]:
        text.append(f"The loss rises less with {'; '.join(less)}.")
    return " ".join(text)


def answer(found: Found) -> str:
    """`told` with what it is told of, as Markdown; empty without runs."""
    text = told(found)
    return f"Trained on few images ({SUITES[FEW].purpose}), {network(config(Asked(BEST), FEW))}: {text}" * bool(text)


def _side(effect: Effect) -> str:
    if effect.method in (NONE, IMAGES):
        return "alone"
    return "later" if effect.low > 0 else "earlier" if effect.high < 0 else "untold"


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def figure(found: Found) -> Figure | None:
    """Loss of validation and of training by epoch, with each regulariser; None without runs."""
    known = regularised(found)
    if not known:
        return None
    shown = [run for _, runs in known.values() for run in runs]
    with drawing(PANEL, PANEL) as axes:
        for ax, split in zip(axes, ("validation", "train"), strict=True):
            named = []
            for place, (words, runs) in enumerate(known.values()):
                for run in runs:
                    values = finite(run.metrics[f"{split}_loss"])
                    (line,) = ax.plot(run.metrics["epoch"], values, color=COLOURS[place], linewidth=1.2)
                    line.set_label(f"{words}, seed {run.config.seed}" * (run is not runs[0]))
                    named += [(words, line)] * (run is runs[0])
                    epoch = lowest_smoothed(run)
                    if split == "validation" and epoch:
                        ax.plot(epoch, smoothed(values)[0][int(epoch) - 1], "o", color=COLOURS[place], label="_lowest")
            ax.set(xlabel="epoch", ylabel=f"cross-entropy, {'training' if split == 'train' else split}")
            low = min(float(run.metrics[f"{split}_loss"].min()) for run in shown)
            high = max(float(run.metrics[f"{split}_loss"].iloc[-1]) for run in shown)
            # The first epochs, whose losses jump far above that of guessing and say little, may leave the panel.
            ax.set_ylim(max(0.0, low - 0.1), max(math.log(NUM_CLASSES) + 0.1, 1.03 * high))
            direct_labels(ax, named)
        finding = told(found)
        caption = (
            f"{finding} A line for each seed; dots: where the smoothed loss is lowest. "
            f"{'Brackets: simultaneous 95 % intervals for the draw of the seed. ' * ('[' in finding)}"
            f"Training loss with dropout and augmentation. {origin(shown)}"
        )
        return finish(
            axes,
            caption.strip(),
            f"Line charts of loss by epoch, of {len(known)} network{'s' * (len(known) > 1)}. {finding}",
        )


def few_html(found: Found) -> Html:
    """What each regulariser does to the turn of the loss and to the accuracy, on few images."""
    known = regularised(found)
    effects = [moved(found, measure) for measure in (TURN, ACCURACY)]
    rows = []
    for name, (words, runs) in known.items():
        later, better = (effect.get(name) for effect in effects)
        rows.append({
            "network": words,
            "lowest validation loss in epoch": turn(runs),
            "turns later by (epochs)": later.shown(1, 0) if later else MISSING,
            **_overfit(runs),
            "test accuracy": outcome(runs),
            # An interval may go on in the next line: the table has to fit the page.
            "difference": str(better).replace("\N{NO-BREAK SPACE}", " ") if better else MISSING,
        })  # fmt: skip
    if not rows:
        return Html("")
    alone = any(effect.method == IMAGES for effect in effects[1].values())
    draws = "the draw of the test images alone" if alone else "the draws of the seed and of the test images"
    caption = (
        f"{network(config(Asked(BEST), FEW))}, {SUITES[FEW].purpose}. Lowest: {TURNS} Differences from the network "
        f"without a regulariser, with simultaneous 95 % intervals for {draws}. {GAP}"
    )
    text = ("network", "lowest validation loss in epoch", "test accuracy")
    return html(pd.DataFrame(rows), "Overfitting on few images", caption, text=text)


def few_told(found: Found) -> str:
    """Of which of `OVERFITTED` there is no run yet, as Markdown; empty where each has one."""
    return _without(found, [(asked, FEW) for asked in OVERFITTED], "on few images")


def few_commands() -> Html:
    """The commands of the runs on few images."""
    return commands_html("The command that trains each of them", [command(asked, FEW) for asked in OVERFITTED])


def long_told(found: Found) -> str:
    """Of which networks of `LONG` there is no run yet, as Markdown; empty where each has one."""
    return _without(found, LONG, f"of {RunConfig().epochs} epochs")


def _without(found: Found, every: Iterable[tuple[Asked, str]], what: str) -> str:
    missing = [network(config(asked)) for asked, suite in every if not found.get(config(asked, suite).name)]
    return f"Without a run {what} yet: {'; '.join(missing)}." if missing else ""


def long_html(found: Found) -> Html:
    """Which networks overfit, and which regulariser moves the turn of the loss, by runs as long as Table 1's."""
    rows = []
    for asked, suite in (*((Asked(name), FULL) for name in CONFIGURATIONS), *LONG):
        runs = found.get(config(asked, suite).name, ())
        if suite == FULL or runs:
            rows.append({
                "network": network(config(asked)),
                "test accuracy": outcome(runs),
                "lowest validation loss in epoch": turn(runs) if learning(runs) or not runs else MISSING,
                **_overfit(runs if learning(runs) else ()),
            })  # fmt: skip
    caption = f"Runs of {RunConfig().epochs} epochs: {TURNS} {GAP}"
    return html(pd.DataFrame(rows), "Overfitting", caption, text=tuple(rows[0])[:3])


def _overfit(runs: Sequence[Run]) -> Mapping[str, str]:
    excess = _mean(map(EXCESS.value, runs))
    return {
        "loss at the end above the lowest (%)": number(100 * excess) if excess is not None else MISSING,
        "gap": number(gap(runs)),
    }


def long_commands() -> Html:
    """The commands of the long runs that are not in Table 1."""
    return commands_html("The command that trains each of them", [command(asked, suite) for asked, suite in LONG])
