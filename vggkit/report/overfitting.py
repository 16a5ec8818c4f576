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
from vggkit.study import CONFIGURATIONS, OVERFITTED, REGULARISED, Asked

FEW, LONG = "few", "beside"
EVERY = (*OVERFITTED, *(asked for asked in REGULARISED if asked not in OVERFITTED))
"""The network as it is, which overfits, and what may stand against that."""
BASE = config(EVERY[0]).name
FIRST = 5  # epochs in which every loss may jump
SHALLOW = Asked("vgg08", {"batch_norm": True})
"""What is set beside the networks of Table 1."""
GAP = (
    "Gap: training minus validation accuracy in points; that of training is measured during the epoch, on augmented "
    "images and with dropout, which by itself makes the gap smaller."
)
TURNS = (
    "epoch of the lowest validation loss of each seed, in brackets those in which the smoothed loss is as low within "
    "its error, which one epoch's lowest may lie outside; by how much the smoothed loss ends above its lowest."
)


TURN = Outcome(lowest_smoothed, kind=turned)  # where the loss hardly rises, any late epoch may be the lowest


def learned(found: Found) -> dict[str, tuple[str, Sequence[Run]]]:
    """By name, in the order of `EVERY`: what stands against overfitting, and the runs, if all of these learn."""
    known: dict[str, tuple[str, Sequence[Run]]] = {}
    for settings in map(config, EVERY):
        runs = found.get(settings.name, ())
        if runs and all(map(learns, runs)):
            known[settings.name] = _regulariser(settings), runs
    return known


def _regulariser(settings: RunConfig) -> str:
    """In words, what the network has against overfitting: all that is told here is of one network."""
    return network(settings).partition(", ")[2] or "no regulariser"


def moved(found: Found, measure: Outcome) -> dict[str, Effect]:
    """By name: the mean of a regularised network's value minus that of the network as it is.

    Where a loss does not turn, nothing is said of the epoch in which it does.
    """
    known = learned(found)
    level = _level(known) if measure is TURN else ()
    group = {name: runs for name, (_, runs) in known.items() if name not in level}
    if BASE not in group:
        return {}
    effects = measure.differences(group, [(name, BASE) for name in group if name != BASE])
    return {name: effect for (name, _), effect in effects.items()}


def told(found: Found) -> str:
    """Where the loss of the network as it is turns, and what each regulariser does to that and to the test accuracy.

    Empty without runs.
    """
    known = learned(found)
    if BASE not in known:
        return ""
    runs, level, text = known[BASE][1], _level(known), []
    if BASE not in level:
        epochs, above = (
            [value for run in runs if (value := measure.value(run)) is not None] for measure in (TURN, EXCESS)
        )
        text.append(
            f"Without a regulariser ({count_seeds(runs)}) the smoothed validation loss is lowest in epoch "
            f"{_of_seeds(epochs)} of {runs[0].config.epochs} and ends {_of_seeds([100 * one for one in above], ' %')} "
            "above that."
        )
    text += _told_apart(moved(found, TURN), known, " epochs", 1, 0, {
        "above": "The loss turns later with {}.",
        "below": "The loss turns earlier with {}.",
        "untold": "Whether the loss turns earlier or later cannot be told with {}.",
        "alone": "How far a seed moves the turn is unknown, and so no interval is told with {}.",
    })  # fmt: skip
    if level:
        listed = "; ".join(f"{known[name][0]} ({count_seeds(known[name][1])})" for name in level)
        text.append(
            f"The loss has not turned by the last epoch, where it is at most {100 * TURNED:g} % above its lowest, "
            f"with {listed}."
        )
    if BASE not in level:
        text += _told_apart(moved(found, EXCESS), known, " points", 100, 2, {
            "above": "The loss rises further with {}.",
            "below": "The loss rises less far with {}.",
        })  # fmt: skip
    text += _told_apart(moved(found, ACCURACY), known, " points", 100, 2, {
        "above": "Test accuracy is higher with {}.",
        "below": "Test accuracy is lower with {}.",
        "untold": "Whether test accuracy is higher or lower cannot be told with {}.",
    })  # fmt: skip
    return " ".join(text)


def _of_seeds(values: Sequence[float], unit: str = "") -> str:
    """The mean of the seeds' values, and in brackets between which they lie."""
    ends = f" ({min(values):.0f} to {max(values):.0f}{unit} by seed)" * (len(values) > 1)
    return f"{sum(values) / len(values):.0f}{unit}{ends}"


def _level(known: Mapping[str, tuple[str, Sequence[Run]]]) -> list[str]:
    """The networks whose loss turns with no seed: their lowest may lie in any late epoch."""
    return [name for name, (_, runs) in known.items() if not any(map(turned, runs))]


def _told_apart(
    effects: Mapping[str, Effect],
    known: Mapping[str, tuple[str, Sequence[Run]]],
    unit: str,
    factor: float,
    digits: int,
    words: Mapping[str, str],
) -> list[str]:
    """A sentence for each side of zero on which an interval lies, and for those that hold it or say nothing of seeds.

    Args:
        effects: by name, with that of what is told in `known`.
        unit, factor, digits: how a difference is written.
        words: sentence by side; what has no sentence is not told.
    """
    sides: dict[str, list[str]] = {side: [] for side in words}
    for name, effect in effects.items():
        if (side := _side(effect)) in sides:
            sides[side].append(f"{known[name][0]} (by {effect.shown(factor, digits)}{unit})")
    return [words[side].format("; ".join(listed)) for side, listed in sides.items() if listed]


def answer(found: Found) -> str:
    """`told` with what it is told of, as Markdown; empty without runs."""
    return f"{_what(found[BASE])}: {text}" if (text := told(found)) else ""


def _what(runs: Sequence[Run]) -> str:
    """The network as it is and how it and the others were trained, in words."""
    one = runs[0].config
    trained = f"{one.train_images:,} images in batches of {one.batch_size}, {one.epochs} epochs"
    return f"{network(config(EVERY[0]))}, {trained}"


def _side(effect: Effect) -> str:
    if effect.method in (NONE, IMAGES):
        return "alone"
    return "above" if effect.low > 0 else "below" if effect.high < 0 else "untold"


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def figure(found: Found) -> Figure | None:
    """Loss of validation and of training by epoch, with each regulariser; None without runs."""
    known = learned(found)
    if not known:
        return None
    shown = [run for _, runs in known.values() for run in runs]
    with drawing(*[1.1 * PANEL] * 2) as axes:  # room for long names beside the lines
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
            # Losses that jump far above guessing say little, and may leave the panel; the caption names any late one.
            ax.set_ylim(max(0.0, low - 0.1), max(math.log(NUM_CLASSES) + 0.1, 1.03 * high))
            direct_labels(ax, named)
        finding = told(found)
        caption = (
            f"{finding} A line for each seed, not smoothed; dots: the smoothed loss where it is lowest. "
            f"{'Brackets: 95 % intervals, simultaneous for each kind of difference. ' * ('[' in finding)}"
            f"Training loss with dropout and augmentation. {_beyond(known, axes[0].get_ylim()[1])}{origin(shown)}"
        )
        return finish(
            axes,
            caption.strip(),
            f"Line charts of loss by epoch, of {len(known)} network{'s' * (len(known) > 1)}. {finding}",
        )


def _beyond(known: Mapping[str, tuple[str, Sequence[Run]]], top: float) -> str:
    """Which runs have a validation loss above the panel after the first epochs, and the highest one of each."""
    peaks = []
    for words, runs in known.values():
        for run in runs:
            losses = finite(run.metrics.set_index("epoch")["validation_loss"]).loc[FIRST + 1 :]
            if losses.max() > top:
                seed = f", seed {run.config.seed}" * (len(runs) > 1)
                peaks.append(f"{words}{seed}: {losses.max():.1f} in epoch {losses.idxmax()}")
    told = f"After epoch {FIRST} a validation loss lies above the panel, at its highest"
    return f"{told} with {'; '.join(peaks)}. " if peaks else ""


def table_html(found: Found, title: str) -> Html:
    """What each regulariser does to the turn of the loss and to the accuracy."""
    known = learned(found)
    level = _level(known)
    effects = [moved(found, measure) for measure in (TURN, EXCESS, ACCURACY)]
    rows = []
    for name, (words, runs) in known.items():
        later, further, better = (effect.get(name) for effect in effects)
        rows.append({
            "network": words,
            "smoothed loss lowest in epoch": _lowest(runs),
            "turns later by (epochs)": "not turned" if name in level else later.shown(1, 0) if later else MISSING,
            "rise (%)": f"{_rise(runs)} ({_broken(further)})" if further else _rise(runs),
            "gap": number(gap(runs)),
            "test accuracy": outcome(runs),
            "difference": _broken(better),
        })  # fmt: skip
    if not rows:
        return Html("")
    alone = any(effect.method == IMAGES for effect in effects[-1].values())
    draws = "the draw of the test images alone" if alone else "the draws of the seed and of the test images"
    caption = (
        f"{_what(next(iter(known.values()))[1])}. Lowest: the epoch in which the smoothed validation loss of each seed "
        "is lowest. Rise: by how much it ends above that, in brackets the difference. Not turned: with each seed it "
        "ends at most "
        f"{100 * TURNED:g} % above its lowest. Differences from the network without a regulariser, with simultaneous "
        f"95 % intervals for {draws}. {GAP}"
    )
    text = ("network", "smoothed loss lowest in epoch", "test accuracy")
    return html(pd.DataFrame(rows), title, caption, text=text)


def _broken(effect: Effect | None) -> str:
    """A difference in points whose interval may go on in the next line: the table has to fit the page."""
    return str(effect).replace("\N{NO-BREAK SPACE}", " ") if effect else MISSING


def _lowest(runs: Sequence[Run]) -> str:
    """The epoch in which the smoothed loss of each seed is lowest."""
    epochs = (TURN.value(run) for run in runs)
    return f"{'; '.join(MISSING if epoch is None else f'{epoch:.0f}' for epoch in epochs)} of {runs[0].config.epochs}"


def missing(found: Found, asked: Sequence[Asked], what: str) -> str:
    """Which of these have no run yet, or one that does not learn and so is not shown, as Markdown; empty if none.

    `what` says what runs are meant.
    """
    wanted = [*map(config, asked)]
    none = [_regulariser(one) for one in wanted if not found.get(one.name)]
    left_out = [_regulariser(one) for one in wanted if found.get(one.name) and one.name not in learned(found)]
    text = [f"Without a run {what} yet: {'; '.join(none)}."] * bool(none)
    text += [f"Left out, since not every seed learns: {'; '.join(left_out)}."] * bool(left_out)
    return " ".join(text)


def commands(asked: Sequence[Asked], suite: str) -> Html:
    """The commands of these runs."""
    return commands_html("The command that trains each of them", [command(one, suite) for one in asked])


def long_html(found: Found) -> Html:
    """Which networks overfit: those of Table 1 and, where it has a run as long as theirs, `SHALLOW`."""
    rows = []
    for asked in (*map(Asked, CONFIGURATIONS), SHALLOW):
        runs = found.get(config(asked).name, ())
        if asked is not SHALLOW or runs:
            rows.append({
                "network": network(config(asked)),
                "test accuracy": outcome(runs),
                "lowest validation loss in epoch": turn(runs) if learning(runs) or not runs else MISSING,
                "loss at the end above the lowest (%)": _rise(runs if learning(runs) else ()),
                "gap": number(gap(runs if learning(runs) else ())),
            })  # fmt: skip
    caption = f"Runs of {RunConfig().epochs} epochs: {TURNS} {GAP}"
    return html(pd.DataFrame(rows), "Overfitting", caption, text=tuple(rows[0])[:3])


def _rise(runs: Sequence[Run]) -> str:
    """By how much the smoothed loss ends above its lowest, in per cent, as the mean over the seeds."""
    excess = _mean(map(EXCESS.value, runs))
    return number(100 * excess) if excess is not None else MISSING
