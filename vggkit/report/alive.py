"""The cause, during training: when each layer comes alive, and how far it moves, made of finished runs.

A layer is *alive* in an epoch whose mean |gradient| is above Adam's epsilon: what lies below moves a weight by less
than half of what a gradient of ordinary size does. A layer has *moved* if its weights changed by `MOVED` of their norm.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from vggkit.config import RunConfig
from vggkit.data import evaluation_batches, load
from vggkit.folders import Given, results_folder
from vggkit.networks.vgg import VGG
from vggkit.report.canvas import NO_COLOUR, PANEL, Figure, canvas_of, direct_labels, drawing, finish, finite
from vggkit.report.figures import COLOURS
from vggkit.report.markup import Html, as_html
from vggkit.report.prose import run_settings, spans
from vggkit.report.render import html, power
from vggkit.runs.files import ArtifactError, RunPaths
from vggkit.runs.select import fullest_runs, is_full
from vggkit.runs.store import WEIGHTS, Run, read_weights
from vggkit.study import CONFIGURATIONS, STATISTICS, title
from vggkit.training.propagation import Pass, features

EPSILON = 1e-8
"""Adam's, as all runs have it."""
MOVED = 0.01
RANGES = {"mean_abs": (1e-12, 1.0), "update_ratio": (1e-8, 0.1)}
"""Of the colours of a statistic, the same for all networks; what is smaller has the colour of the lowest."""
IMAGES = 10


class Trained(NamedTuple):
    """A run with its weights before and after, where it left them: by layer from input to output."""

    run: Run
    before: VGG | None
    after: VGG | None


def read(results: Given = None) -> list[Trained]:
    """Of each configuration that stands in Table 1 by full runs, the run of the lowest seed.

    Raises:
        ArtifactError: a run is damaged.
    """
    found = []
    for group in fullest_runs(results_folder(results)).values():
        run = min(group, key=lambda run: run.config.seed)
        if is_full(run) and set(RANGES) <= set(run.gradients):
            found.append(Trained(run, *_networks(run, results)))
    return found


def _networks(run: Run, results: Given) -> tuple[VGG | None, VGG | None]:
    """The network before its first step, drawn from the run's seed as training draws it, and after its last one."""
    paths = RunPaths.of(results, run.config)
    if not (paths.folder / WEIGHTS).exists():
        return None, None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.config.seed)
        before = VGG.from_config(run.config)
    after = copy.deepcopy(before)
    after.load_state_dict(read_weights(paths))
    return before, after


def by_epoch(run: Run, statistic: str) -> pd.DataFrame:
    """A statistic, mean over each epoch's batches: convolutions and linear layer, from 1, by epochs."""
    rows = run.gradients[(run.gradients["over"] == "mean") & (run.gradients["kind"] != "bn")]
    table = rows.pivot(index="layer", columns="epoch", values=statistic).sort_index()
    return table.set_axis(range(1, len(table) + 1)).astype("float64")


def alive_from(run: Run) -> pd.Series:
    """For each layer the first epoch in which it is alive; 0 where it never is."""
    above = by_epoch(run, "mean_abs") > EPSILON
    return above.idxmax(axis=1).where(above.any(axis=1), 0).astype(int)


def displacement(trained: Trained) -> pd.Series:
    """For each layer the norm of its weights' change from the first step to the last over what they were.

    Where the weights are not known: the length of the way, the sum of |update| / |weight| over all steps, which the
    change cannot exceed by much, since the weights' norm does not fall much.
    """
    if trained.before and trained.after:
        pairs = zip(_weights(trained.before), _weights(trained.after), strict=True)
        found = [((new - old).norm() / old.norm()).item() for old, new in pairs]
    else:
        config = trained.run.config
        steps = -(-trained.run.summary["train_images"] // config.batch_size)
        found = (by_epoch(trained.run, "update_ratio").sum(axis="columns") * steps).tolist()
    return pd.Series(found, index=range(1, len(found) + 1))


def _weights(model: VGG) -> list[torch.Tensor]:
    layers = [part for part in model.modules() if isinstance(part, torch.nn.Conv2d | torch.nn.Linear)]
    return [layer.weight.detach().double() for layer in layers]


def still(trained: Trained) -> list[int]:
    """The layers that have not moved."""
    found = displacement(trained)
    return [int(place) for place in found.index[found < MOVED]]


def heatmaps(trained: Trained) -> Figure:
    """Layers by epochs: mean |gradient| and |update| / |weight|, in the colours that all networks share."""
    run, name = trained.run, title(trained.run.config.name)
    with drawing(PANEL, PANEL, height=3.6) as axes:
        for ax, statistic in zip(axes, RANGES, strict=True):
            _map(ax, by_epoch(run, statistic), statistic)
        finding = f"{_lives(run)}; {_moves(trained)}"
        low, least = (power(bounds[0], 1) for bounds in RANGES.values())
        caption = (
            f"{name}: {finding}. Mean |gradient| and |update| / |weight| of each convolution and the linear layer, "
            f"averaged over the batches of each epoch, in the same colours for all networks; smaller ones than {low} "
            f"and {least} have the darkest. Grey: exactly zero. "
            f'<small class="vggkit-origin">[{run.config.suite}: {run_settings(run)}]</small>'
        )
        layers = [f"layer {place}" for place in by_epoch(run, "mean_abs").index]
        return finish(axes, caption, f"Two heat maps, layers by epochs. {name}: {finding}.", [layers] * len(RANGES))


def _map(ax: Axes, values: pd.DataFrame, statistic: str) -> None:
    low, high = RANGES[statistic]
    colours = mpl.colormaps["viridis"].with_extremes(bad=NO_COLOUR)
    extent = (0.5, values.shape[1] + 0.5, values.shape[0] + 0.5, 0.5)
    shown = finite(values).where(values > 0).to_numpy()
    image = ax.imshow(
        shown, aspect="auto", interpolation="nearest", cmap=colours, norm=LogNorm(low, high), extent=extent
    )
    ax.set(xlabel="epoch", ylabel="layer, from input to output")
    canvas_of(ax).colorbar(image, ax=ax, label=STATISTICS[statistic].label, extend="min")


def _lives(run: Run) -> str:
    """When its layers come alive, in words."""
    alive = by_epoch(run, "mean_abs") > EPSILON
    if alive.to_numpy().all():
        return "every layer is alive in every epoch"
    parts = {"in the first epoch": alive.iloc[:, 0], "in the last": alive.iloc[:, -1], "in none": ~alive.any(axis=1)}
    told = (f"{when}: {_layers(alive.index[which]) if which.any() else 'no layer'}" for when, which in parts.items())
    return f"alive {', '.join(told)}"


def _moves(trained: Trained) -> str:
    """Which layers do not move, in words."""
    places = still(trained)
    if not places:
        return "every layer moves"
    found = displacement(trained)
    return (
        f"not moved: {_layers(places)}, in {len(trained.run.metrics)} epochs layer {places[0]} by "
        f"{power(found[places[0]])} of its norm"
    )


def _layers(places: Sequence[int] | pd.Index) -> str:
    return f"layer{'s' * (len(places) > 1)} {spans([int(place) for place in places])}"


def table_html(found: Sequence[Trained]) -> Html:
    """When each network comes alive and what of it moves; a row for each configuration of Table 1."""
    runs = {trained.run.config.name: trained for trained in found}
    rows = [_row(name, runs.get(name)) for name in CONFIGURATIONS]
    caption = (
        f"Alive: mean |gradient| above Adam's epsilon, {power(EPSILON)}, averaged over the batches of an epoch. Moved: "
        f"weights changed by {MOVED:.0%} of their norm or more, from before the first step to after the last; † where "
        "the run left no weights: by the length of the way, the sum of |update| / |weight| over all steps, which is "
        "longer. First layer: the convolution next to the images."
    )
    return html(pd.DataFrame(rows), "Layers alive and moved", caption, text=("network",))


def _row(name: str, trained: Trained | None) -> dict[str, str]:
    columns = (
        "gradient, epoch 1", "gradient, last epoch", "first layer alive from", "alive in the last", "layers moved",
        "first layer moved by",
    )  # fmt: skip
    if trained is None:
        return {"network": title(name)} | dict.fromkeys(columns, "no run yet")
    gradient, moved = by_epoch(trained.run, "mean_abs"), displacement(trained)
    first, mark = alive_from(trained.run), "" if trained.after else " †"
    values = (
        power(gradient.iloc[0, 0]),
        power(gradient.iloc[0, -1]),
        f"epoch {first[1]}" if first[1] else "never",
        f"{int((gradient.iloc[:, -1] > EPSILON).sum())} of {len(gradient)}",
        f"{int((moved >= MOVED).sum())} of {len(moved)}{mark}",
        power(moved[1]) + mark,
    )
    return {"network": title(name)} | dict(zip(columns, values, strict=True))


def shares(model: VGG) -> pd.Series:
    """Of each layer's input and of the logits the share that differs between images: deviation over mean square.

    On synthetic images, which need no files, in training mode: BN takes its statistics from them.
    """
    batch, labels = next(evaluation_batches(load(RunConfig(dataset="synthetic")).train, IMAGES))
    inputs = Pass(copy.deepcopy(model).double().train(), batch.double(), labels).activations
    found = [features(x.detach()) for x in inputs]
    return pd.Series([row["between_images"] / row["size"] for row in found], index=range(1, len(found) + 1))


def signal(found: Sequence[Trained]) -> Figure:
    """What differs between images in each layer's input, before training and after it.

    Raises:
        ArtifactError: no run left its weights.
    """
    known = [trained for trained in found if trained.before and trained.after]
    if not known:
        raise ArtifactError("results: no full run left its weights; train one in another results folder")
    ends: dict[str, tuple[float, float]] = {}
    with drawing(1.1 * PANEL, height=4.0) as (ax,):
        named = []
        ax.set(xlabel="layer, from input to output", ylabel="share that differs between images", yscale="log")
        for trained in known:
            assert trained.before and trained.after
            row = CONFIGURATIONS[trained.run.config.name]
            style: dict[str, Any] = {
                "color": COLOURS[row.colour],
                "marker": row.marker,
                "markersize": 4,
                "markevery": 5,
            }
            before, after = (shares(model) for model in (trained.before, trained.after))
            ax.plot(before.index, before.where(before > 0), linestyle="--", linewidth=1.2, **style)
            (line,) = ax.plot(after.index, after.where(after > 0), linewidth=1.6, **style)
            named.append((title(trained.run.config.name).removeprefix("VGG38 "), line))
            last = len(after) - 1  # behind it come the logits
            ends[title(trained.run.config.name)] = (before[last], after[last])
        direct_labels(ax, named)
        told = "; ".join(
            f"{name} {power(after)} (before training {power(before)})" for name, (before, after) in ends.items()
        )
        finding = f"What differs between images at the linear layer, as a share of its size: {told}"
        caption = (
            f"{finding}. After {known[0].run.config.epochs} epochs, and dashed before the first step: of each layer's "
            f"input and of the logits. {IMAGES} synthetic images, which stand in for those of CIFAR-100, in training "
            f"mode and float64, in which a share below {power(float(np.finfo(np.float64).eps), 1)} is rounding. "
            "Training does not log it; runs that left no weights are not shown."
        )
        return finish((ax,), caption, f"Line chart over the layers. {finding}.")


def sentences(found: Sequence[Trained]) -> str:
    """What the runs say together, as Markdown."""
    told = [f"{as_html(title(t.run.config.name))}: {_lives(t.run)}; {_moves(t)}." for t in found]
    missing = [title(name) for name in CONFIGURATIONS if name not in {t.run.config.name for t in found}]
    told += [f"Of {', '.join(missing)} there is no full run yet."] if missing else []
    return " ".join(told)
