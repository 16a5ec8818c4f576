"""The report's further experiments, and the depth at which plain networks stop: what runs say of each.

Runs of suites with the same settings are taken together, by name; what has no run is shown as such, with the command
that makes it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vggkit.config import ADAM_EPSILON, RunConfig
from vggkit.folders import Given
from vggkit.report.canvas import PANEL, Figure, direct_labels, drawing, finish, widen
from vggkit.report.figures import COLOURS, LEAST_SPAN
from vggkit.report.intervals import LEVEL, newcombe_interval
from vggkit.report.markup import Html, as_html
from vggkit.report.measures import CHANCE, finals, turning_epoch
from vggkit.report.render import NO_RUN, html, number
from vggkit.report.untrained import Untrained
from vggkit.report.verdicts import LEARNS, TEST_IMAGES
from vggkit.runs.records import Run
from vggkit.runs.store import find_runs
from vggkit.study import BEST, DEPTHS, FULL, RATES, REGULARISED, SUITES, Asked

SHORT = "short"

Found = Mapping[str, Sequence[Run]]
"""Runs by name, of one length on the same images."""


def read(results: Given = None, suite: str = SHORT) -> dict[str, list[Run]]:
    """By name: the runs of all suites with the settings of this one, a seed never twice.

    Raises:
        ArtifactError: a run is damaged.
    """
    alike = [name for name, other in SUITES.items() if other.settings == SUITES[suite].settings]
    found: dict[str, dict[int, Run]] = {}
    for name in alike:
        for run in find_runs(results, name):
            found.setdefault(run.config.name, {}).setdefault(run.config.seed, run)
    return {name: [runs[seed] for seed in sorted(runs)] for name, runs in found.items()}


def config(asked: Asked, suite: str = SHORT) -> RunConfig:
    return RunConfig.named(asked.configuration, suite=suite, **asked.settings)


def command(asked: Asked, suite: str) -> str:
    """The command that trains it, in the precision of this book's runs."""
    settings = {**asked.settings, "precision": "bfloat16"}
    options = "".join(f" --{name.replace('_', '-')} {_option(value)}" for name, value in settings.items())
    return f"vggkit train {asked.configuration} --suite {suite}{options}"


def _option(value: object) -> str:
    return (
        str(value).lower() if isinstance(value, bool) else exponent(value) if isinstance(value, float) else str(value)
    )


def exponent(value: float) -> str:
    """A number as the report writes it, 1e-4, with as many digits as it has."""
    return f"{value:g}" if value >= 0.1 else re.sub(r"\.?0*e-0?", "e-", f"{value:.15e}")


def accuracy(runs: Sequence[Run]) -> pd.Series:
    """Test accuracy after the last epoch in per cent, of each seed that did not diverge."""
    return finals(runs, "test_accuracy")


def learning(runs: Sequence[Run]) -> int:
    """How many of them have learned: their test accuracy is above that of guessing by `verdicts.LEARNS`."""
    return int((accuracy(runs) > 100 * (CHANCE + LEARNS)).sum())


def seeds_told(runs: Sequence[Run]) -> str:
    """How many runs there are, and of these how many diverged, and how many learned where only some did."""
    diverged, learned = sum(run.summary["diverged"] for run in runs), learning(runs)
    some = f", {learned} learning" * (0 < learned < len(runs))
    return f"{len(runs)} seed{'s' * (len(runs) > 1)}" + f", {diverged} diverged" * bool(diverged) + some


def outcome(runs: Sequence[Run], baseline: Sequence[Run] = ()) -> str:
    """What runs reached, beside those of a baseline, in words."""
    if not runs:
        return NO_RUN
    found, base = accuracy(runs), accuracy(baseline)
    if found.empty:
        return f"diverged ({seeds_told(runs)})"
    spread = f" ± {found.std(ddof=1):.2f}" if len(found) > 1 else ""
    text = f"{found.mean():.2f}{spread} % ({seeds_told(runs)})"
    if not learning(runs):
        return f"{text}: guessing"
    if base.empty:
        return text
    low, high = (100 * end for end in newcombe_interval(found.mean() / 100, base.mean() / 100, TEST_IMAGES))
    difference = number(found.mean() - base.mean(), "+")
    return f"{text}, {difference} [{number(low, '+')},\N{NO-BREAK SPACE}{number(high, '+')}]"


def turn(runs: Sequence[Run]) -> str:
    """The epoch of the lowest validation loss, and how far training runs ahead of validation in the end."""
    kept = [run for run in runs if not run.summary["diverged"]]
    epochs = sorted(epoch for run in kept if (epoch := turning_epoch(run)) is not None)
    if not epochs:
        return NO_RUN if not runs else "–"
    gap = (finals(kept, "train_accuracy") - finals(kept, "validation_accuracy")).mean()
    return f"epoch {', '.join(map(str, epochs))} of {kept[0].config.epochs}; gap {number(gap)}"


class Question(NamedTuple):
    """An experiment: what is asked, what is trained for it in which suite, and beside what it is set."""

    words: str
    asked: tuple[Asked, ...]
    suite: str
    baseline: str | None = None


def _but(start: str, **settings: object) -> Asked:
    return Asked(start, settings)


QUESTIONS = (
    Question("Does weight decay close the gap of the best run?", REGULARISED[:3], "further", BEST),
    Question("Does weight decay apart from the gradient (AdamW)?", REGULARISED[3:6], "further", BEST),
    Question("Does dropout?", REGULARISED[6:], "further", BEST),
    Question("Does BN help a network that learns anyway?", (_but("vgg38_bn", depth=8),), "depth", "vgg08"),
    Question("Do RC? VGG08 has no block to shortcut; depth 14 is the first", (_but("vgg38_rc", depth=14),), "depth",
             "vgg14"),
    Question("Do both?", (_but("vgg38_bn_rc", depth=14),), "depth", "vgg14"),
    Question("Do RC alone bear a larger rate?", RATES[:1], "further", "vgg38_rc"),
    Question("Where does the learning rate become too large?", RATES[1:], "further"),
    Question("How deep can it get?", tuple(_but("vgg38_bn_rc", depth=depth) for depth in (56, 74, 110)), SHORT,
             "vgg38_bn_rc"),
    Question("What if the schedule were stepped after every batch, so that the rate cycles and never anneals?",
             (_but("vgg38_bn_rc", schedule="cosine-per-batch"),), SHORT, "vgg38_bn_rc"),
    Question("What if the initial weights were those of He et al. (2015)?",
             (_but("vgg38_bn_rc", initialisation="he"),), SHORT, "vgg38_bn_rc"),
)  # fmt: skip


def table_html(found: Found) -> Html:
    """What was found for each of `QUESTIONS`, a row for each of its runs."""
    rows = []
    for question in QUESTIONS:
        base = found.get(question.baseline or "", ())
        for place, asked in enumerate(question.asked):
            runs = found.get(config(asked).name, ())
            rows.append(
                {
                    "question": as_html(question.words) if place == 0 else "",
                    "test accuracy": as_html(outcome(runs, base)),
                    "validation loss turns": as_html(turn(runs)),
                    "command": f"<code>{as_html(command(asked, question.suite))}</code>",
                }
            )
    caption = (
        f"All images, {SUITES[SHORT].settings['epochs']} epochs. Official test accuracy after the last epoch, mean ± "
        f"standard deviation over seeds (guessing: at most {100 * (CHANCE + LEARNS):g} %), and the "
        "difference from the network without the change in percentage points, "
        f"with its {100 * LEVEL:g} % interval for the draw of the test images alone, not for that of seeds. The "
        "validation loss is lowest in the epoch named; the gap is training minus validation accuracy in points "
        "at the end."
    )
    return html(pd.DataFrame(rows), "Further experiments", caption, markup=True)


def turns_html(found: Found) -> Html:
    """Which regulariser moves the turn of the validation loss, by runs as long as Table 1's."""
    rows = [_turning(BEST, found.get(BEST, ()), command(Asked(BEST), FULL))]
    for asked in REGULARISED:
        name = config(asked, "beside").name
        rows.append(_turning(name, found.get(name, ()), command(asked, "beside")))
    caption = (
        f"BN+RC at the learning rate 1e-2 for {RunConfig().epochs} epochs: epoch of the lowest validation loss of each "
        "seed; gap: training minus validation accuracy in points at the end."
    )
    return html(pd.DataFrame(rows), "Overfitting of the best run", caption, markup=True)


def _turning(name: str, runs: Sequence[Run], how: str) -> dict[str, str]:
    cells = {
        "run": f"<code>{as_html(name)}</code>",
        "test accuracy": outcome(runs),
        "validation loss turns": turn(runs),
    }
    return cells | {"command": f"<code>{as_html(how)}</code>"}


KINDS = {
    "plain": ("vgg38", {}, 0, "s", "-"),
    "BN": ("vgg38_bn", {}, 1, "^", "-"),
    "RC": ("vgg38_rc", {}, 2, "D", "-"),
    "BN+RC": ("vgg38_bn_rc", {}, 3, "v", "-"),
    "plain, He": ("vgg38", {"initialisation": "he"}, 0, "o", "-."),
}
"""Of the networks of `DEPTHS`: configuration, settings, colour, marker, line."""


def by_depth(found: Found) -> pd.DataFrame:
    """Mean test accuracy in per cent, depths by kinds; missing where there is no run, or all diverged."""
    table = pd.DataFrame(index=list(DEPTHS), columns=list(KINDS), dtype="float64")
    for kind, (name, settings, *_) in KINDS.items():
        for depth in DEPTHS:
            # At depth 8 there is no shortcut: with and without RC it is one network.
            wanted = replace(config(Asked(name, settings)), depth=depth)
            wanted = replace(wanted, residual=wanted.residual and depth > DEPTHS[0])
            table.loc[depth, kind] = accuracy(found.get(wanted.name, ())).mean()
    return table


def predicted(measured: Untrained) -> dict[str, int | None]:
    """The first depth at which theory's two losses are complete in the untrained plain network, by what is lost.

    `gradient`: that of the first layer's weights is below Adam's epsilon. `signal`: what differs between images at the
    linear layer is below the smallest difference that float32 can hold.
    """
    share = measured.by_depth("plain", "share")["mean"]
    first = measured.rows("plain").query("layer == 1").groupby("depth")["weight_gradient"]
    gradient = np.exp(first.apply(lambda found: np.log(found).mean()))
    return {
        "gradient": _first(gradient.index[gradient < ADAM_EPSILON]),
        "signal": _first(share.index[share < float(np.finfo(np.float32).eps)]),
    }


def _first(depths: Iterable[int]) -> int | None:
    return min((int(depth) for depth in depths), default=None)


def stops(table: pd.DataFrame) -> tuple[list[int], list[int]]:
    """The depths at which plain networks learn, and those at which they guess, of those that have runs."""
    plain = table["plain"].dropna()
    learn = plain > 100 * (CHANCE + LEARNS)
    return [int(depth) for depth in plain.index[learn]], [int(depth) for depth in plain.index[~learn]]


def depth_told(table: pd.DataFrame, measured: Untrained) -> str:
    """At which depth plain networks stop, and whether theory says so, as Markdown."""
    expected = predicted(measured)
    text = (
        "Before training the first layer's gradient is below Adam's epsilon "
        f"{_from(expected['gradient'])}, and what differs between images at the linear layer below float32's step "
        f"{_from(expected['signal'])}."
    )
    learn, guess = stops(table)
    if not learn and not guess:
        return f"{text} At which depth they do is not known: there is no run yet."
    found = " ".join(
        [f"Plain networks of {_listed(learn)} layers learn." if learn else "", f"Those of {_listed(guess)} guess."
         if guess else ""]
    ).strip()  # fmt: skip
    if learn and guess and max(learn) < min(guess):
        lost = [what for what, depth in expected.items() if depth and max(learn) < depth <= min(guess)]
        where = f"where the {' and the '.join(lost)} {'is' if len(lost) == 1 else 'are'} lost before training"
        found += f" They stop {where if lost else 'at another depth than either of these says'}."
    missing = [depth for depth in DEPTHS if depth not in (*learn, *guess)]
    found += f" Of {_listed(missing)} layers there is no run yet." if missing else ""
    ends = table.loc[[DEPTHS[0], DEPTHS[-1]], [kind for kind in KINDS if kind != "plain"]].dropna(axis="columns")
    others = "; ".join(f"{kind} {first:.0f} and {last:.0f} %" for kind, (first, last) in ends.items())
    return f"{text} {found}" + f" With {DEPTHS[0]} and {DEPTHS[-1]} layers: {others}." * bool(others)


def _from(depth: int | None) -> str:
    return "at no depth that was measured" if depth is None else f"from {depth} layers on"


def _listed(depths: Sequence[int]) -> str:
    return ", ".join(map(str, depths))


def depth_figure(table: pd.DataFrame, measured: Untrained) -> Figure:
    """Test accuracy after the short runs against the depth; dotted where theory has the plain network's losses."""
    missing = int(table.isna().to_numpy().sum())
    with drawing(1.1 * PANEL, height=4.0) as (ax,):
        ax.set(xlabel="depth (layers)", ylabel="test accuracy (%)", xticks=list(DEPTHS))
        ax.set_xlim(DEPTHS[0] - 1, DEPTHS[-1] + 1)
        ax.axhline(100 * CHANCE, color="#808080", linestyle=":", linewidth=1)
        named = []
        for kind, (*_, colour, marker, style) in KINDS.items():
            shown = table[kind].dropna()
            if len(shown):
                look: dict[str, Any] = {"color": COLOURS[colour], "marker": marker, "linestyle": style, "markersize": 5}
                (line,) = ax.plot(shown.index, shown, linewidth=1.6, **look)
                named.append((kind, line))
        for words, depth in predicted(measured).items():
            if depth is not None and depth <= DEPTHS[-1]:
                ax.axvline(depth, color="#808080", linestyle="--", linewidth=1)
                ax.annotate(words, (depth, 1), xycoords=("data", "axes fraction"), xytext=(3, -12),
                            textcoords="offset points", fontsize=10)  # fmt: skip
        widen(ax, LEAST_SPAN["accuracy"])
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + 0.08 * (high - low))  # room for the words
        direct_labels(ax, named)
        finding = depth_told(table, measured)
        first = f"{missing} of {table.size} points have no run yet. " if missing else ""
        caption = (
            f"{first}{finding} Official test accuracy after {SUITES[SHORT].settings['epochs']} epochs on all images, "
            "mean over the seeds that there are; dashed: the first depths at which, before training, the first layer's "
            "gradient is below Adam's epsilon, and the signal below float32's step; dotted: guessing."
        )
        return finish((ax,), caption, f"Line chart of accuracy by depth. {finding}")
