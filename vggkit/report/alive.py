"""The cause, during training: when each layer comes alive, and how far it moves, made of finished runs.

A layer is *alive* in an epoch whose mean |gradient| is above Adam's epsilon: what lies below moves a weight by less
than half of what a gradient of ordinary size does. A layer has *moved* if its weights changed by `MOVED` of their norm.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vggkit.config import ADAM_EPSILON
from vggkit.folders import Given, results_folder
from vggkit.report.canvas import (
    PANEL,
    Figure,
    drawing,
    finish,
)
from vggkit.report.figures import COLOURS
from vggkit.report.labels import direct_labels
from vggkit.report.markup import Html
from vggkit.report.prose import spans
from vggkit.report.render import html, power
from vggkit.runs.change import Change, of_run
from vggkit.runs.files import ArtifactError
from vggkit.runs.records import Run
from vggkit.runs.select import all_runs, fullest, is_full
from vggkit.study import CONFIGURATIONS, title

MOVED = 0.01
SHARE = "share"
"""Column of what of each layer's input differs between images, see `training.propagation.signal_frame`."""
FAINT = 0.01
"""Share that differs between images below which a layer is told to be given little."""


class Trained(NamedTuple):
    """A run, what training changed in its network, where that was measured, and a run like it that logs the signal."""

    run: Run
    change: Change | None
    heard: Run | None = None


def read(results: Given = None) -> list[Trained]:
    """Of each configuration that stands in Table 1 by full runs, the run of the lowest seed that did not diverge.

    Where all did, it is the lowest of these.

    Raises:
        ArtifactError: a run is damaged.
    """
    root = results_folder(results)
    found = []
    every = all_runs(root)
    for name, group in fullest(every).items():
        run = min(group, key=lambda run: (run.summary["diverged"], run.config.seed))
        if is_full(run) and "update_ratio" in run.gradients:
            heard = next(filter(logs_signal, every[name]), None)  # of the fullest suite that has one
            found.append(Trained(run, of_run(run, root), heard))
    return found


def by_epoch(run: Run, statistic: str) -> pd.DataFrame:
    """A statistic, mean over each epoch's batches, `SHARE` after it: convolutions and linear layer, from 1, by epochs.

    Epochs in which a run diverged, whose numbers are not finite, are left out.
    """
    if statistic == SHARE:
        assert run.signal is not None
        rows = run.signal[run.signal["layer"] <= run.config.depth]  # behind them come the logits
    else:
        rows = run.gradients[(run.gradients["over"] == "mean") & (run.gradients["kind"] != "bn")]
    table = rows.pivot(index="layer", columns="epoch", values=statistic).sort_index()
    table = table.set_axis(range(1, len(table) + 1)).astype("float64")
    return table.loc[:, np.isfinite(table).all()]


def logs_signal(run: Run) -> bool:
    """Whether all its epochs were trained by a version that logs the signal, and to their end."""
    if run.signal is None or run.summary["diverged"]:
        return False
    return len(run.signal) == len(run.metrics) * (run.config.depth + 1)


def alive_from(run: Run) -> pd.Series:
    """For each layer the first epoch in which it is alive; 0 where it never is."""
    above = by_epoch(run, "mean_abs") > run.config.adam_epsilon
    return above.idxmax(axis=1).where(above.any(axis=1), 0).astype(int)


def moved_by(trained: Trained) -> pd.Series:
    """For each layer the norm of its weights' change from the first step to the last over what they were.

    Where the weights are not known: the length of the way, the sum of |update| / |weight| over all steps, which the
    change cannot exceed by much, since the weights' norm does not fall much.
    """
    if trained.change:
        found = list(trained.change.displacement)
    else:
        config = trained.run.config
        steps = -(-trained.run.summary["train_images"] // config.batch_size)
        found = (by_epoch(trained.run, "update_ratio").sum(axis="columns") * steps).tolist()
    return pd.Series(found, index=range(1, len(found) + 1))


def still(trained: Trained) -> list[int]:
    """The layers that have not moved."""
    found = moved_by(trained)
    return [int(place) for place in found.index[found < MOVED]]


def layers_told(places: Sequence[int] | pd.Index) -> str:
    """Layers in words."""
    return f"layer{'s' * (len(places) > 1)} {spans([int(place) for place in places])}"


def told(found: Sequence[Trained]) -> str:
    """Which networks training leaves in part where they began, in a sentence, as Markdown; empty without runs."""
    kept = [one for one in found if not one.run.summary["diverged"]]
    if not kept:
        return ""
    stuck = {title(one.run.config.name): places for one in kept if (places := still(one))}
    rest = {title(one.run.config.name): one for one in kept if title(one.run.config.name) not in stuck}
    epochs = max(len(one.run.metrics) for one in kept)
    told = []
    if stuck:
        listed = "; ".join(f"{layers_told(places)} of {name}" for name, places in stuck.items())
        told.append(f"In {epochs} epochs training leaves some layers where they began: {listed}.")
    unknown = [name for name, one in rest.items() if not one.change]
    if len(rest) > len(unknown):
        told.append("In the others every layer moves" if stuck else f"In {epochs} epochs every layer moves")
        told[-1] += f"; of {_way(unknown)}" if unknown else "."
    elif unknown:
        told.append(f"Of {_way(unknown)}")
    return " ".join(told)


def _way(names: Sequence[str]) -> str:
    """Networks without their weights after training, and what is known of them instead."""
    return f"{', '.join(names)}, whose weights after training are missing, only the length of the way is known (†)."


def table_html(found: Sequence[Trained]) -> Html:
    """When each network comes alive and what of it moves; a row for each configuration of Table 1."""
    runs = {trained.run.config.name: trained for trained in found}
    rows = [_row(name, runs.get(name)) for name in CONFIGURATIONS]
    caption = (
        f"Alive: mean |gradient| above Adam's epsilon, {power(ADAM_EPSILON)}, averaged over the batches of an epoch. "
        f"Moved: weights changed by {100 * MOVED:g} % of their norm or more, from before the first step to after the "
        "last; † where the run left no weights: by the length of the way, the sum of |update| / |weight| over all "
        "steps, which is longer. First layer: the convolution next to the images."
    )
    return html(pd.DataFrame(rows), "Layers alive and moved", caption, text=("network",))


def _row(name: str, trained: Trained | None) -> dict[str, str]:
    columns = (
        "gradient, epoch 1", "gradient, last epoch", "first layer alive from", "alive in the last", "layers moved",
        "first layer moved by",
    )  # fmt: skip
    if trained is None:
        return {"network": title(name)} | dict.fromkeys(columns, "no run yet")
    gradient, moved = by_epoch(trained.run, "mean_abs"), moved_by(trained)
    if gradient.empty:
        return {"network": title(name)} | dict.fromkeys(columns, "diverged")
    first, mark = alive_from(trained.run), "" if trained.change else " †"
    values = (
        power(gradient.iloc[0, 0]),
        power(gradient.iloc[0, -1]),
        f"epoch {first[1]}" if first[1] else "never",
        f"{int((gradient.iloc[:, -1] > trained.run.config.adam_epsilon).sum())} of {len(gradient)}",
        f"{int((moved >= MOVED).sum())} of {len(moved)}{mark}",
        power(moved[1]) + mark,
    )
    return {"network": title(name)} | dict(zip(columns, values, strict=True))


def trained_signal(found: Sequence[Trained]) -> Figure:
    """What differs between images in each layer's input, before training and after it.

    Raises:
        ArtifactError: none was measured.
    """
    known = [(trained.run.config, trained.change) for trained in found if trained.change]
    if not known:
        raise ArtifactError("results: no full run with weights was measured; measure those of a seed: vggkit change")
    ends: dict[str, tuple[float, float]] = {}
    with drawing(1.1 * PANEL, height=4.0) as (ax,):
        named = []
        ax.set(xlabel="layer, from input to output", ylabel="share that differs between images", yscale="log")
        for config, change in known:
            row = CONFIGURATIONS[config.name]
            style: dict[str, Any] = {
                "color": COLOURS[row.colour],
                "marker": row.marker,
                "markersize": 4,
                "markevery": 5,
                "markerfacecolor": "none" if row.line != "-" else COLOURS[row.colour],
            }
            before, after = (pd.Series(part, index=range(1, len(part) + 1)) for part in (change.before, change.after))
            ax.plot(before.index, before.where(before > 0), linestyle="--", linewidth=1.2, **style)
            (line,) = ax.plot(after.index, after.where(after > 0), linewidth=1.6, **style)
            named.append((title(config.name).removeprefix("VGG38 "), line))
            last = len(after) - 1  # behind it come the logits
            ends[title(config.name)] = (before[last], after[last])
        direct_labels(ax, named)
        told = "; ".join(
            f"{name} {power(after)} (before training {power(before)})" for name, (before, after) in ends.items()
        )
        finding = f"What differs between images at the linear layer, as a share of its size: {told}"
        caption = (
            f"{finding}. After {known[0][0].epochs} epochs, and dashed before the first step: of each layer's "
            f"input and of the logits. {known[0][1].images} synthetic images, on which no network was trained, "
            f"in training mode and float64, in which a share below {power(float(np.finfo(np.float64).eps), 1)} is "
            "rounding. Runs that left no weights are not shown."
        )
        return finish((ax,), caption, f"Line chart over the layers. {finding}.")
