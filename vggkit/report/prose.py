"""Sentences made of runs, as Markdown: which results are shown, and how they were made."""

from collections import Counter
from collections.abc import Sequence

from vggkit.runs.select import Runs, fullest, is_full
from vggkit.runs.store import Run
from vggkit.study import FULL, STATISTICS, SUITES, shown_suites, title


def run_settings(run: Run) -> str:
    """In words: epochs, images, precision and seed."""
    config = run.config
    return f"{config.epochs} epochs, {run.summary['train_images']:,} images, {config.precision}, seed {config.seed}"


def spans(epochs: Sequence[int]) -> str:
    """Whole numbers in words, neighbours taken together.

    >>> spans([42, 51, 52, 53])
    '42, 51 to 53'
    """
    spans: list[list[int]] = []
    for epoch in epochs:
        if spans and epoch == spans[-1][-1] + 1:
            spans[-1].append(epoch)
        else:
            spans.append([epoch])
    return ", ".join(f"{span[0]} to {span[-1]}" if len(span) > 1 else str(span[0]) for span in spans)


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


def how_made(runs: Runs) -> str:
    """In words, as Markdown: on which machines and in which precision the runs were made, and how they end."""
    chosen = [run for group in fullest(runs).values() for run in group]
    places = Counter(f"{run.summary['device']}, {run.config.precision}" for run in chosen)
    listed = "; ".join(f"{count} on {place}" for place, count in sorted(places.items()))
    rates = {run.config.learning_rate: run.metrics["learning_rate"].iloc[-1] for run in chosen if is_full(run)}
    last = " and ".join(f"{end:.3g} for {start:g}" for start, end in sorted(rates.items()))
    return f"The runs in this book: {listed}." + (
        f" Learning rate of the last epoch of the full runs: {last}." * bool(last)
    )
