"""Sentences made of runs, as Markdown: which results are shown, and how they were made."""

import math
import sys
from collections import Counter
from collections.abc import Container, Sequence

import pandas as pd

from vggkit.config import DATASETS, NUM_CLASSES, NUM_STAGES, RunConfig
from vggkit.report import measures
from vggkit.report.naming import network
from vggkit.report.render import power
from vggkit.report.verdicts import LEARNS, VANISHED
from vggkit.runs.records import Run
from vggkit.runs.schema import SIGNAL_IMAGES
from vggkit.runs.select import Runs, fullest, is_full
from vggkit.study import FULL, REPORT, STATISTICS, SUITES, shown_suites, title


def run_settings(run: Run) -> str:
    """In words: epochs, images, precision and seed."""
    return f"{seedless(run)}, seed {run.config.seed}"


def seedless(run: Run) -> str:
    """In words: epochs, images and precision."""
    return f"{run.config.epochs} epochs, {run.summary['train_images']:,} images, {run.config.precision}"


def spans(epochs: Sequence[int]) -> str:
    """Whole numbers in words, three neighbours and more taken together.

    >>> spans([42, 43, 51, 52, 53])
    '42, 43, 51 to 53'
    """
    spans: list[list[int]] = []
    for epoch in epochs:
        if spans and epoch == spans[-1][-1] + 1:
            spans[-1].append(epoch)
        else:
            spans.append([epoch])
    told = (f"{span[0]} to {span[-1]}" if len(span) > 2 else ", ".join(map(str, span)) for span in spans)
    return ", ".join(told)


def origin(runs: Sequence[Run], *, marked: bool = False) -> str:
    """Which results a figure shows; every caption ends with it. `marked` says that it marks reduced runs by a *."""
    groups: dict[str, tuple[set[str], set[int]]] = {}
    for run in runs:
        suites, seeds = groups.setdefault(seedless(run), (set(), set()))
        suites.add(run.config.suite)
        seeds.add(run.config.seed)
    settings = [
        f"{', '.join(sorted(suites))}: {told}, seed{'s' * (len(seeds) > 1)} {spans(sorted(seeds))}"
        for told, (suites, seeds) in sorted(groups.items())
    ]
    reduced = [run for run in runs if not is_full(run)]
    if not reduced:
        note = ""
    elif len(reduced) == len(runs):
        note = "; not a full run of Table 1" if len(runs) == 1 else "; not full runs of Table 1"
    else:
        names = "; ".join(dict.fromkeys(network(run.config) for run in reduced))
        note = f"; not full runs of Table 1{' (marked *)' * marked}: {names}"
    return small(f"{'; '.join(settings)}{note}")


def small(origin: str) -> str:
    """Where a figure comes from, as the caption's last line."""
    return f'<small class="vggkit-origin">[{origin}]</small>'


def status(runs: Runs) -> str:
    """In a sentence, as Markdown: which configurations are shown by full runs, which by reduced ones."""
    text = "**Which results these are.**"
    chosen = fullest(runs)
    for suite in shown_suites():
        groups = {title(name): group for name, group in chosen.items() if group[0].config.suite == suite}
        if not groups and suite != FULL:
            continue
        counted = any(len(group) > 1 for group in groups.values())
        names = "; ".join(name + (f" ({len(group)} seeds)" if counted else "") for name, group in groups.items())
        names = names.replace("(1 seeds)", "(1 seed)")
        if suite == FULL:
            text += f" Full runs (`{suite}`): {names or 'none'}."
        else:
            first = next(iter(groups.values()))[0]
            text += f" Reduced runs (`{suite}`: {_lengths(first)}), not comparable with the report's values: {names}."
    return text


def _lengths(run: Run) -> str:
    return f"{run.config.epochs} epochs, {run.summary['train_images']:,} images"


def suites() -> str:
    """The suites and what they are for, as Markdown; those that the book shows in the order in which it takes them."""
    listed = [f"- `{name}`: {suite.purpose}" for name, suite in SUITES.items()]
    shown = " before ".join(f"`{name}`" for name in shown_suites())
    return "\n".join([*listed, "", f"The book shows a configuration's runs in {shown}."])


def statistics() -> str:
    """What is logged of the gradients, with its unit, as Markdown."""
    return "\n".join(f"- {statistic.label} ({statistic.unit})" for statistic in STATISTICS.values())


def signal() -> str:
    """What is logged of the signal after each epoch, as Markdown."""
    return (
        "After each epoch, of what each layer is given, and of the logits, the share that differs between images: the "
        f"standard deviation over {SIGNAL_IMAGES} training images over the root mean square, in float64 and training "
        "mode."
    )


def how_made(runs: Runs) -> str:
    """In words, as Markdown: on which machines and in which precision the runs were made, and how they end."""
    chosen = [run for group in fullest(runs).values() for run in group]
    places = Counter(f"{run.summary['device']}, {run.config.precision}" for run in chosen)
    listed = "; ".join(f"{count} on {place}" for place, count in sorted(places.items()))
    rates = {run.config.learning_rate: run.metrics["learning_rate"].iloc[-1] for run in chosen if is_full(run)}
    last = " and ".join(f"{power(end, 3)} for {start:g}" for start, end in sorted(rates.items()))
    return f"The runs that stand in Table 1: {listed}." + (
        f" Learning rate of the last epoch of the full runs: {last}." * bool(last)
    )


BOTH = ("vgg38_bn_rc", "vgg38_bn_rc_lr1e-2")
"""BN and RC together at two learning rates, both of which the headline tells."""


def headline(runs: Runs) -> str:
    """The finding in two sentences with numbers, as Markdown, and what they rest on where full runs are missing.

    Accuracies are those of the official test images after the last epoch, means over seeds that did not diverge; how
    far the gradient falls, from the last layer to the weakest convolution, is that of the last epoch. BN and RC
    together are told at both learning rates, or at that which has full runs, since which is the better one is a claim
    of its own. Empty where a network has no run.
    """
    chosen = {
        name: group for name, group in fullest(runs).items() if len(measures.finals(group, "validation_accuracy"))
    }
    both = [name for name in BOTH if name in chosen]
    both = [name for name in both if all(map(is_full, chosen[name]))] or both
    if not both or not {"vgg08", "vgg38"} <= set(chosen):
        return ""
    shallow, deep, *cured = (measures.finals(chosen[n], "test_accuracy").mean() for n in ("vgg08", "vgg38", *both))
    lost, *kept = (max(map(_orders_lost, chosen[name])) for name in ("vgg38", *both))
    vanishes = lost > -math.log10(VANISHED)
    config = chosen["vgg08"][0].config
    where = "On CIFAR-100" if config.dataset == "cifar100" else "On synthetic images"
    first = f"{where}, 8 layers reach {shallow:.0f} % test accuracy in {config.epochs} epochs, 38 layers {deep:.0f} %"
    if deep <= 100 * (measures.CHANCE + LEARNS):
        first += ", which is guessing"
    if vanishes:
        first += f"; in the deep one the gradient falls by up to {lost:.0f} orders of magnitude"
    back = vanishes and max(kept) < -math.log10(VANISHED)
    do = "bring it back and reach" if back else "help, and reach" if max(cured) > deep else "do not help:"
    rates = [f"{RunConfig.named(name).learning_rate:g}" for name in both]
    reached = " and ".join(f"{value:.0f} % (learning rate {rate})" for value, rate in zip(cured, rates, strict=True))
    second = f"Batch normalisation and residual connections together {do} {reached}"
    reduced = [chosen[name][0] for name in ("vgg08", "vgg38", *both) if not all(map(is_full, chosen[name]))]
    rests = "; ".join(f"{title(run.config.name)} in a shorter run of {_lengths(run)}" for run in reduced)
    return f"**{first}. {second}.**" + f" ({rests}, until a full one is there.)" * bool(reduced)


def _orders_lost(run: Run) -> float:
    """By how many powers of ten the weakest convolution's gradient lies below the last layer's; 0 where unknown."""
    ratio = measures.weakest_ratio(run)
    return 0.0 if math.isnan(ratio) else -math.log10(max(ratio, sys.float_info.min))


def discussion(compared: pd.DataFrame, runs: Runs, tried: Container[str] = ()) -> str:
    """What of the report's table reproduces and what could cause the rest, as Markdown; empty where nothing is known.

    Args:
        compared: `reported.against_report` of `runs`.
        runs: as the book shows them.
        tried: suites that have runs; what these tell is told by `ways`, not guessed here.
    """
    compared = compared.dropna()
    if compared.empty:
        return ""
    compared = compared.assign(apart=compared["ours"] - compared["report"])
    differs = compared["apart"].abs() > compared["allowed"]
    loss = compared[compared["metric"] == "train loss"].assign(differs=differs).set_index("name")
    parts = [
        _reproduced(compared, len(compared) - int(differs.sum())),
        _differs(loss),
        _causes(loss, runs, "schedule" in tried),
        "" if "placement" in tried else _shortcut(loss),
        _untold(compared),
    ]
    return "\n\n".join(part for part in parts if part)


def _reproduced(compared: pd.DataFrame, count: int) -> str:
    accuracies = compared[compared["metric"] == "val acc %"].set_index("name")
    order = [list(accuracies.sort_values(column).index) for column in ("ours", "report")]
    ranked = ", ".join(map(title, order[0]))
    same = (
        f"By validation accuracy the networks with full runs come in the report's order: {ranked}."
        if order[0] == order[1]
        else f"By validation accuracy our order is {ranked}; the report's is {', '.join(map(title, order[1]))}."
    )
    return (
        f"**What reproduces.** {same} Of {len(compared)} values, {count} are no further from the report's than a seed "
        "can move them. With so few seeds that is far: such a comparison finds large differences, and confirms nothing."
    )


def _beside(loss: pd.DataFrame) -> str:
    """Training losses of ours and of the report, in words."""
    return ", ".join(f"{title(str(n))} ({row.ours:.2f} against {row.report:.2f})" for n, row in loss.iterrows())


def _sides(loss: pd.DataFrame) -> str:
    """In which direction our training losses lie from the report's."""
    groups = {"lower": loss[loss["apart"] < 0], "higher": loss[loss["apart"] > 0]}
    return ", and ".join(f"{side} for {_beside(group)}" for side, group in groups.items() if len(group))


def _differs(loss: pd.DataFrame) -> str:
    """The training losses that the seed does not explain, then the others; and where the report's rows come from."""
    beyond, within = loss[loss["differs"]], loss[~loss["differs"] & (loss["apart"].abs() >= 0.005)]
    text = "**What does not.** "
    text += f"Our training loss is {_sides(beyond)}" if len(beyond) else "No training loss is beyond the seed's bound"
    text += f"; within the bound it is {_sides(within)}." if len(within) else "."
    rows = {name: REPORT["rows"][name]["origin"] for name in loss.index}
    template = [title(name) for name, origin in rows.items() if origin == "template"]
    own = [title(name) for name, origin in rows.items() if origin != "template"]
    if template and own:
        text += (
            f" The report took {', '.join(template)} from its template and ran {', '.join(own)} itself: the two need "
            "not share their settings, and one cause need not fit both."
        )
    return text


def _causes(loss: pd.DataFrame, runs: Runs, tried: bool) -> str:
    """What the draw of the validation images and the schedule can do to a training loss."""
    size = DATASETS["cifar100"]
    train, drawn = size.train * NUM_CLASSES, size.validation * NUM_CLASSES
    usual = RunConfig()
    cycles = train // usual.batch_size // 2  # of 2 x epochs batches each, in as many epochs
    text = (
        "**Which cause fits.** *The validation draw does not* explain a training loss: that is a mean over "
        f"{train:,} images, of which another draw exchanges {drawn:,} at most. It can only move what is measured "
        "on the validation images. *The schedule can raise one.* The training loss goes on falling as the learning "
        f"rate comes down and stays low. Ours comes down once, over {usual.epochs} epochs. The same cosine stepped "
        f"after every batch has come down after {usual.epochs} batches, rises again, and so on {cycles} times: it "
        f"never stays low for long, which {'leaves' if tried else 'should leave'} a higher training loss."
    )
    if tried:
        return text
    lower = loss[loss["differs"] & (loss["apart"] < 0)]
    passing = (_passing(str(name), told, runs) for name, told in lower["report"].items())
    return " ".join([text, *filter(None, passing)])


def _passing(name: str, loss: float, runs: Runs) -> str:
    """Where the first of our runs that does passes the report's training loss, and what else it has there."""
    row = REPORT["rows"][name]
    reached = [
        (run, run.metrics[run.metrics["train_loss"] <= loss])
        for run in fullest(runs)[name]
        if not run.summary["diverged"]
    ]
    run, epochs = next(((run, epochs) for run, epochs in reached if len(epochs)), (None, None))
    if run is None or epochs is None:
        return ""
    here = epochs.iloc[0]
    return (
        f"Our {title(name)} passes the report's {loss:.2f} in epoch {here['epoch']:.0f} of {run.config.epochs}, with "
        f"{100 * here['validation_accuracy']:.1f} % validation accuracy (the report has "
        f"{row['validation_accuracy']:.1f} %) and a validation loss of {here['validation_loss']:.2f} "
        f"({row['validation_loss']:.2f})."
    )


def _shortcut(loss: pd.DataFrame) -> str:
    """What a shortcut in the reduction blocks would explain, and what it would not; empty where no network has RC."""
    residual = loss[[RunConfig.named(name).residual for name in loss.index]]
    if residual.empty:
        return ""
    text = (
        "*A shortcut in the reduction blocks can*, too, for networks with RC. It would carry signal and error past the "
        f"{NUM_STAGES} places where ours have none, and if it pools it adds no parameter. A network that has it should "
        "fit its training images better than ours."
    )
    residual = residual[residual["differs"]]  # what a seed may do needs no other cause
    fits, against = (list(map(title, residual.index[side])) for side in (residual["apart"] > 0, residual["apart"] < 0))
    if fits:
        text += f" So it is with {', '.join(fits)}."
    if against:
        text += f" It is the other way round with {', '.join(against)}, where it cannot be the only difference."
    return text


def _untold(compared: pd.DataFrame) -> str:
    accuracy = compared[compared["metric"] == "train acc %"].set_index("name")
    apart = (accuracy["ours"] - accuracy["report"]).abs()
    name = str(apart.idxmax())
    return (
        "*The initial weights* concern every row. They, the shortcut's place and the schedule leave the number of "
        "parameters as it is, yet a difference in any of them may well change the training accuracy of BN+RC, and the "
        "report does not say which it used. With equal parameter counts, its training accuracies and "
        f"ours lie up to {apart.max():.1f} points apart ({title(name)}). What each does, only runs that change one of "
        "them at a time can tell."
    )
