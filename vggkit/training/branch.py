"""Branches from one checkpoint: the same epochs trained in several precisions on the same batches.

Two whole runs that differ in their arithmetic end apart by chance alone, since training magnifies the
first rounding error until the two are as different as two seeds. A bias of the arithmetic would hide in
that spread. Branches have far less of it: both start from one state (weights, Adam's moments, schedule)
and see the same batches, so the difference of their training losses says what the arithmetic adds in
these epochs. Each order of batches, drawn anew, is one independent repetition.

    results/precision/<suite>/<name>/seed-<s>-epoch-<n>.json    the branches from the state after epoch n of a run
"""

import copy
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vggkit.config import ConfigError, RunConfig
from vggkit.data import load
from vggkit.folders import Given, exists, results_folder
from vggkit.runs import provenance
from vggkit.runs.checkpoints import check_history, unpack
from vggkit.runs.files import WORKING, ArtifactError, check_format, hold, keep_file, make_folder, reason, sha256
from vggkit.training.compute import Compute, choose_device, warn_of_emulation, worth_fusing
from vggkit.training.evaluation import evaluate
from vggkit.training.graph import one_step
from vggkit.training.step import Trainer, train_epoch

SUITE = "precision"
CHECKPOINTS = "allowed: the checkpoint.pt of a run under way, in .checkpoints/ of a results folder"
# Seeds of the orders start here, far from those that runs are given, so that no order is the run's own.
FIRST_ORDER = 1_000_000


@dataclass(frozen=True)
class State:
    """A run under way after a finished epoch.

    Attributes:
        config: the run's configuration.
        epoch: the last finished epoch.
        content: what the checkpoint holds, see `runs.checkpoints`.
        sha256: checksum of the checkpoint's file.
    """

    config: RunConfig
    epoch: int
    content: dict[str, Any]
    sha256: str


def read_state(checkpoint: Path) -> State:
    """Read the checkpoint of a run.

    Raises:
        ArtifactError: there is no such file, or it is no checkpoint of a run under way.
    """
    try:
        written = checkpoint.read_bytes()
        content = unpack(written)
        check_format(content, checkpoint, "checkpoint")
        config = RunConfig.from_dict(content["config"])
        check_history(content, config)
        epoch = len(content["metrics"])
    except FileNotFoundError:
        raise ArtifactError(f"checkpoint: no file {checkpoint}; {CHECKPOINTS}") from None
    except ArtifactError:
        raise
    except Exception as error:  # whatever a file of another kind leads to
        raise ArtifactError(f"checkpoint: {checkpoint} is none of a run ({reason(error)}); {CHECKPOINTS}") from error
    if epoch == config.epochs:
        raise ArtifactError(f"checkpoint: {checkpoint} holds a run without an epoch to come")
    return State(config, epoch, content, sha256(written))


def place(state: State, results: Given = None) -> Path:
    """The file of the branches from `state`."""
    config = state.config
    name = f"seed-{config.seed}-epoch-{state.epoch}.json"
    return results_folder(results) / SUITE / config.suite / config.name / name


def branch(
    state: State,
    *,
    orders: Sequence[int],
    epochs: int = 1,
    precisions: Sequence[str] = ("float32", "bfloat16"),
    results: Given = None,
    data: Given = None,
    device: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Train `epochs` epochs from `state` for each order and precision; yield each branch as it is kept.

    What the file at `place` holds already is not trained again, so that the same call goes on after an
    interruption. The file is written anew, in one step, after each branch; one process at a time adds to it.
    A branch whose loss is not finite is kept with None in its place.

    Args:
        state: where the branches begin.
        orders: numbers of the orders of batches, each a draw of its own, the same in every precision.
        epochs: how many epochs a branch has.
        precisions: arithmetic of the branches, see `RunConfig.precision`.
        results: folder of results.
        data: folder of the data set.
        device: where to train, by default a CUDA GPU where there is one.

    Yields:
        Of each branch: order, precision, a row of metrics for each epoch, and the loss of each full batch.

    Raises:
        ConfigError, data.DataError, files.ArtifactError: before any work is done.
        files.InUseError: another process is training branches from this state.
    """
    left = state.config.epochs - state.epoch
    if not 1 <= epochs <= left:
        raise ConfigError(f"epochs: {epochs!r} is not allowed; allowed: 1 to {left}, what the run has left")
    if not orders or len(set(orders)) != len(orders) or min(orders) < 0:
        raise ConfigError(f"orders: {list(orders)!r} is not allowed; allowed: whole numbers of at least 0, each once")
    computes = {precision: Compute.resolve(precision, device) for precision in precisions}
    chosen = choose_device(device)
    configs = {
        (order, precision): replace(state.config, seed=FIRST_ORDER + order, precision=precision)
        for order in orders
        for precision in precisions
    }
    file = place(state, results)
    lock = results_folder(results) / WORKING / file.relative_to(results_folder(results)).with_suffix(".lock")
    with hold(lock, file):
        kept = _read_or_begin(file, state, epochs)
        images = load(state.config, data).to(chosen)
        for compute in computes.values():
            warn_of_emulation(compute)
        fuse = worth_fusing(state.config, chosen)
        done = {(one["order"], one["precision"]) for one in kept["branches"]}
        for (order, precision), config in configs.items():
            if (order, precision) in done:
                continue
            compute = replace(computes[precision], fused=fuse)
            with compute.process_settings():
                trainer = Trainer(config, images, compute)
                try:
                    trainer.load_state_dict(copy.deepcopy(state.content))  # Adam takes over its moments without a copy
                except Exception as error:  # torch documents none for a state of another network or optimiser
                    raise ArtifactError(f"checkpoint: it holds no state of its run ({reason(error)})") from error
                rows, losses = _train(trainer, range(state.epoch + 1, state.epoch + 1 + epochs))
                made = {key: value for key, value in trainer.machine.items() if key != "versions"}
            one = {"order": order, "precision": precision, "epochs": rows, "losses": losses}
            one["made"] = made | {"torch": trainer.machine["versions"]["torch"], "fused": fuse}
            kept["branches"].append(one)
            _write(file, kept)
            yield one


def _train(trainer: Trainer, epochs: range) -> tuple[list[dict[str, Any]], list[float | None]]:
    """Metrics of each epoch, and the mean loss of each full batch, rounded to what can be seen in a difference."""
    rows: list[dict[str, Any]] = []
    losses: list[float | None] = []
    steps = one_step([trainer])
    for epoch in epochs:
        batch_losses: list[torch.Tensor] = []

        def step(batch_losses: list[torch.Tensor] = batch_losses) -> None:
            before = trainer.loss_sum.clone()
            steps()
            batch_losses.append((trainer.loss_sum - before) / trainer.config.batch_size)

        row, _ = train_epoch([trainer], epoch, step, lambda images: None)[0]
        loss, accuracy = evaluate(trainer.model, trainer.data.validation, trainer.compute)
        numbers = {"epoch": epoch} | row | {"validation_loss": loss, "validation_accuracy": accuracy}
        rows.append({name: value if math.isfinite(value) else None for name, value in numbers.items()})  # type: ignore[arg-type]
        losses += [round(value, 6) if math.isfinite(value) else None for value in torch.stack(batch_losses).tolist()]
    return rows, losses


def _read_or_begin(file: Path, state: State, epochs: int) -> dict[str, Any]:
    begun: dict[str, Any] = {
        "config": state.config.to_dict(),
        "epoch": state.epoch,
        "epochs": epochs,
        "checkpoint_sha256": state.sha256,
        "commit": provenance.commit(),
        "branches": [],
    }
    if not exists("results", file):
        return begun
    kept = read_branches(file)
    # An earlier version wrote fewer settings; read as a configuration, the others have their defaults.
    kept["config"] = RunConfig.from_dict(kept["config"]).to_dict()
    words = {
        "config": "configuration",
        "epoch": "epoch",
        "epochs": "number of epochs",
        "checkpoint_sha256": "checkpoint",
    }
    for name, what in words.items():
        if kept[name] != begun[name]:
            raise ArtifactError(f"results: {file} holds branches of another {what}; choose another results folder")
    return kept


def read_branches(file: Path) -> dict[str, Any]:
    """What `branch` wrote.

    Raises:
        ArtifactError: the file cannot be read, or holds no branches.
    """
    try:
        kept: dict[str, Any] = json.loads(file.read_text())
        RunConfig.from_dict(kept["config"])
        for one in kept["branches"]:
            if len(one["epochs"]) != kept["epochs"]:
                raise ValueError("a branch is not complete")
            float(one["epochs"][0]["train_loss"] or 0), str(one["precision"]), int(one["order"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ArtifactError(f"results: {file} cannot be read as branches; restore it") from error
    return kept


def find_branches(results: Given = None) -> list[dict[str, Any]]:
    """The branches of every state under a results folder, by name and epoch."""
    files = (results_folder(results) / SUITE).glob("*/*/seed-*-epoch-*.json")
    found = [read_branches(file) for file in files]
    return sorted(found, key=lambda kept: (RunConfig.from_dict(kept["config"]).name, kept["epoch"]))


def _write(file: Path, kept: dict[str, Any]) -> None:
    make_folder("results", file.parent)
    keep_file(file, (json.dumps(kept, allow_nan=False) + "\n").encode())
