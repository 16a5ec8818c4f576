"""Training: one function, `train`, from a configuration to a finished run; `train_together` for several runs.

It can be stopped at any moment and called again: it goes on after the last finished epoch. On the CPU it
ends with the same numbers, bit for bit, as a run that was never stopped, where all its epochs are trained on
one kind of processor, with the same number of threads and the same versions of this library and of torch.
(The checkpoint sees to it that all are fused, or none.) Elsewhere the numbers differ by rounding; the
summary's `segments` tell which epochs were trained where.
"""

import contextlib
import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from vggkit.config import ConfigError, RunConfig
from vggkit.data import load
from vggkit.folders import Given
from vggkit.networks.vgg import count_parameters
from vggkit.runs import checkpoints, store
from vggkit.runs.files import RunPaths, claim
from vggkit.runs.records import Best, Epoch, Measured, Run, SeedEpoch, Segment, Summary, has_diverged, segment
from vggkit.runs.schema import FORMAT
from vggkit.runs.store import ArtifactWarning
from vggkit.study import STATISTICS
from vggkit.training.compute import Compute, fusing_as_begun, warn_of_emulation, worth_fusing
from vggkit.training.evaluation import evaluate
from vggkit.training.gradients import to_frame
from vggkit.training.graph import one_step
from vggkit.training.order import check_together
from vggkit.training.propagation import signal_frame, watched
from vggkit.training.step import Trainer, train_epoch

Progress = Callable[[int, int, SeedEpoch | None], None]
"""Called as progress(epoch, images, metrics): after each batch with the images of the epoch so far
and None, and after each epoch with its row of metrics."""


def train(
    config: RunConfig,
    *,
    results: Given = None,
    data: Given = None,
    device: str | torch.device | None = None,
    fuse: bool | None = None,
    progress: Progress = lambda epoch, images, metrics: None,
) -> Run:
    """Train `config`, or take up where it stopped, or load it where it is finished.

    Args:
        config: what to train.
        results: folder under which the run is left, see `runs.store`; by default as `folders.results_folder`.
        data: folder of the data set, see `data.load`.
        device: where to train; by default a CUDA GPU where there is one, else the CPU.
        fuse: compile BN, shortcut and activation into one pass, see `networks.fused`; the numbers differ by
            rounding. By default where torch.compile works and the run is long enough to gain by it. A run
            that goes on keeps what it was begun with.
        progress: told of every batch and epoch.

    Returns:
        The finished run. A run whose loss is not finite stops there and says so in its summary.

    Raises:
        ConfigError, data.DataError, files.ArtifactError: before any work is done; ArtifactError
            also where a checkpoint or the run cannot be written (the last checkpoint stays).
    """
    return train_together([config], results=results, data=data, device=device, fuse=fuse, progress=progress)[0]


def train_together(
    configs: Sequence[RunConfig],
    *,
    results: Given = None,
    data: Given = None,
    device: str | torch.device | None = None,
    fuse: bool | None = None,
    progress: Progress = lambda epoch, images, metrics: None,
) -> list[Run]:
    """`train` several runs side by side, which on a GPU takes less time than in turn.

    Each run is the one that `train` would make, but for rounding on a GPU. `progress` is told of each batch
    of the first, and of each run's epochs, with `name` and `seed` in the row. The time of an epoch is shared out
    by the networks' layers.

    Raises:
        ConfigError: the runs cannot be trained together, see `order.check_together`; and as `train`.
    """
    check_together(configs)
    compute = Compute.resolve(configs[0].precision, device)
    finished: dict[RunConfig, Run] = {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(compute.process_settings())
        for config in configs:
            paths = RunPaths.of(results, config)
            if (run := store.read_finished(paths, config)) is None:
                stack.enter_context(claim(paths))
                run = store.read_finished(paths, config)  # by another process, meanwhile
            if run:
                finished[config] = run
        waiting = [config for config in configs if config not in finished]
        if waiting:
            states = [checkpoints.read_checkpoint(RunPaths.of(results, c), c, torch.device("cpu")) for c in waiting]
            splits = load(configs[0], data).to(compute.device)
            warn_of_emulation(compute)
            begun = [_fusing(state, fuse, compute.device) for state in states]
            under_way = []
            for config, choice in zip(waiting, begun, strict=True):
                if choice is None:
                    # Finding out may take seconds, so it comes after the checks.
                    choice = worth_fusing(config, compute.device) if fuse is None else fuse
                trainer = Trainer(config, splits, replace(compute, fused=choice))
                under_way.append(Attempt(trainer, RunPaths.of(results, config)))
            for attempt, state in zip(under_way, states, strict=True):
                attempt.load(state)
            finished |= _train_epochs(under_way, progress)
    return [finished[config] for config in configs]


def _fusing(state: dict[str, Any] | None, asked: bool | None, device: torch.device) -> bool | None:
    """Whether a run that goes on is to be fused: as it was begun, which old checkpoints do not tell (None)."""
    begun: bool | None = None if state is None else state.get("fused")
    if begun is None:
        return None
    if asked is not None and asked != begun:
        raise ConfigError(f"fuse: {asked} is not allowed for a run begun with {begun}; allowed: {begun}, or None")
    return fusing_as_begun(begun, device)


@dataclass
class Attempt:
    """A run under way: its trainer, where it is kept, and its history."""

    trainer: Trainer
    paths: RunPaths
    metrics: list[Epoch] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    signal: list[Tensor] = field(default_factory=list)
    best: Best = field(default_factory=lambda: Best(epoch=0, validation_accuracy=-1.0, model=None))
    segments: list[Segment] = field(default_factory=list)
    own: Segment | None = None  # this process's segment, once it has finished an epoch

    @property
    def over(self) -> bool:
        return len(self.metrics) >= self.trainer.config.epochs or _diverged(self.metrics)

    def load(self, state: dict[str, Any] | None) -> None:
        """Go on from a checkpoint, where there is one.

        Raises:
            ArtifactError: it holds no state of this run.
        """
        if state:
            try:
                checkpoints.check_history(state, self.trainer.config)
                self.trainer.load_state_dict(state)
                self.metrics, self.gradients, self.best = state["metrics"], state["gradients"], state["best"]
                self.signal = state.get("signal", [])
            except Exception as error:  # torch documents none for a state of another network or optimiser
                raise checkpoints.damaged(self.paths.checkpoint, error) from error
            self.segments = state.get("segments") or [segment(self.trainer.config, 1, len(self.metrics))]

    def record(self, row: Epoch, values: Tensor, together: int) -> None:
        """Take an epoch's metrics, gradient statistics and signal into the history and write the checkpoint.

        Args:
            row: the epoch's metrics.
            values: the epoch's gradient statistics.
            together: how many networks were trained side by side in this epoch.
        """
        self.metrics.append(row)
        self.gradients.append(values)
        with torch.no_grad():
            self.signal.append(torch.tensor(watched(self.trainer.model, self.trainer.data.train).shares()))
        if not _diverged(self.metrics) and row["validation_accuracy"] > self.best["validation_accuracy"]:
            weights = {k: v.clone() for k, v in self.trainer.model.state_dict().items()}
            self.best = {"epoch": row["epoch"], "validation_accuracy": row["validation_accuracy"], "model": weights}
        if self.own is None:
            trainer, first = self.trainer, row["epoch"]
            self.own = segment(trainer.config, first, first, trainer.machine, trainer.compute.fused)
            self.segments.append(self.own)
        self.own["last_epoch"] = row["epoch"]
        self.own["together"] = max(together, self.own.get("together", 1))
        history = {name: getattr(self, name) for name in ("metrics", "gradients", "signal", "best", "segments")}
        state = {"format": FORMAT, "statistics": list(STATISTICS), "config": self.trainer.config.to_dict()}
        state |= {"fused": self.trainer.compute.fused, **history, **self.trainer.state_dict()}
        checkpoints.write_checkpoint(self.paths, state)

    def finish(self) -> Run:
        """Measure on the test images and write the run."""
        trainer = self.trainer
        weights = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
        frame = to_frame(trainer.gradient_log.names, torch.stack(self.gradients))
        summary = _summary(trainer, self.metrics, self.best, self.segments)
        signal = signal_frame(torch.stack(self.signal), len(self.metrics)) if self.signal else None
        run = Run(trainer.config, pd.DataFrame(self.metrics), frame, summary, signal)
        run = store.write_run(self.paths, run, weights)
        try:
            self.paths.checkpoint.unlink(missing_ok=True)
        except OSError as error:  # the run is finished all the same
            what = f"{self.paths.checkpoint} is no longer needed, but cannot be removed ({error.strerror or error})"
            warnings.warn(f"checkpoint: {what}", ArtifactWarning, stacklevel=2)
        return run


def _train_epochs(attempts: list[Attempt], progress: Progress) -> dict[RunConfig, Run]:
    finished: dict[RunConfig, Run] = {}
    trainers: list[Trainer] = []
    steps: Callable[[], Any] = list
    while True:
        for attempt in [a for a in attempts if a.over]:
            finished[attempt.trainer.config] = attempt.finish()
            attempts.remove(attempt)
        if not attempts:
            return finished
        # Those furthest behind go first, until all stand at the same epoch.
        epoch = 1 + min(len(attempt.metrics) for attempt in attempts)
        group = [attempt for attempt in attempts if len(attempt.metrics) == epoch - 1]
        if [attempt.trainer for attempt in group] != trainers:
            trainers = [attempt.trainer for attempt in group]
            steps = one_step(trainers)
        start = time.perf_counter()
        trained = train_epoch(trainers, epoch, steps, lambda images, epoch=epoch: progress(epoch, images, None))  # type: ignore[misc]
        train_seconds = time.perf_counter() - start
        for attempt, (row, values) in zip(group, trained, strict=True):
            trainer, start = attempt.trainer, time.perf_counter()
            loss, accuracy = evaluate(trainer.model, trainer.data.validation, trainer.compute)
            share = trainer.config.depth / sum(one.config.depth for one in trainers)
            seconds = train_seconds * share
            metrics: Epoch = {
                "epoch": epoch,
                **row,
                "validation_loss": loss,
                "validation_accuracy": accuracy,
                "train_seconds": seconds,
                "seconds": seconds + time.perf_counter() - start,
            }
            attempt.record(metrics, values, len(group))
            config = trainer.config
            progress(epoch, len(trainer.data.train), {"name": config.name, "seed": config.seed, **metrics})


def _diverged(metrics: list[Epoch]) -> bool:
    return any(has_diverged(row["train_loss"], row["validation_loss"]) for row in metrics[-1:])


def _summary(trainer: Trainer, metrics: list[Epoch], best: Best, segments: list[Segment]) -> Summary:
    def measured(row: Epoch) -> Measured:
        loss, accuracy = evaluate(trainer.model, trainer.data.test, trainer.compute)
        return {
            "epoch": row["epoch"],
            "train_loss": _finite(row["train_loss"]),
            "train_accuracy": row["train_accuracy"],
            "validation_loss": _finite(row["validation_loss"]),
            "validation_accuracy": row["validation_accuracy"],
            "test_loss": _finite(loss),
            "test_accuracy": accuracy,
        }

    final = measured(metrics[-1])
    if best["model"] is not None:
        trainer.model.load_state_dict(best["model"])
    # The median epoch's: a run may share its machine for a while, or be put to sleep.
    machine = trainer.machine
    train_seconds = statistics.median(row["train_seconds"] for row in metrics)
    return {
        "diverged": _diverged(metrics),
        "final": final,
        "best": measured(metrics[best["epoch"] - 1]) if best["epoch"] else None,
        "parameters": count_parameters(trainer.model),
        "train_images": len(trainer.data.train),
        "wall_seconds": sum(row["seconds"] for row in metrics),
        "images_per_second": len(trainer.data.train) / train_seconds,
        "fused": trainer.compute.fused,
        "data_sha256": trainer.data.checksum,
        "segments": segments,
        "device": machine["device"],
        "threads": machine["threads"],
        "versions": machine["versions"],
        "commit": machine["commit"],
    }


def _finite(loss: float) -> float | None:
    return loss if math.isfinite(loss) else None
