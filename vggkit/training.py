"""Training: one function, `train`, from a configuration to a finished run.

It can be stopped at any moment and called again: it goes on after the last finished epoch, and on
the CPU ends with the same numbers, bit for bit, as a run that was never stopped.
"""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from vggkit import artifacts, machine
from vggkit.artifacts import Run, RunPaths
from vggkit.config import ConfigError, RunConfig
from vggkit.data import EpochPlan, Images, Splits, evaluation_batches, load, train_batches
from vggkit.gradients import GradientLog, to_frame
from vggkit.models import VGG, count_parameters

EVALUATION_BATCH_SIZE = 500

Progress = Callable[[int, int, dict[str, Any] | None], None]
"""Called as progress(epoch, images, metrics): after each batch with the images of the epoch so far
and None, and after each epoch with its row of metrics."""


class Trainer:
    """Network, optimiser, schedule and gradient log of one run; trains it epoch by epoch.

    Args:
        config: the run.
        data: its images, on `device`.
        device: where to train.

    Raises:
        ConfigError: this device cannot compute in config.precision.
    """

    def __init__(self, config: RunConfig, data: Splits, device: torch.device) -> None:
        check_precision(config, device)
        self.config, self.data, self.device = config, data, device
        torch.manual_seed(config.seed)
        self.model: VGG = VGG.from_config(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.scheduler = make_scheduler(self.optimizer, config)
        self.gradient_log = GradientLog(self.model)
        self.machine = machine.describe(device)  # now: the code on disk may change while the run goes on

    def train_epoch(self, epoch: int, progress: Callable[[int], None]) -> tuple[dict[str, Any], Tensor]:
        """Train epoch number `epoch` (from 1); its metrics, and its gradient statistics."""
        config, images = self.config, self.data.train
        torch.manual_seed(config.seed * 1_000_003 + epoch)  # dropout, the same after a resume
        plan = EpochPlan.draw(len(images), config.seed, epoch).to(self.device)
        loss_sum = torch.zeros((), device=self.device, dtype=torch.float64)
        correct = torch.zeros((), device=self.device, dtype=torch.int64)
        learning_rate = self.scheduler.get_last_lr()[0]
        self.model.train()
        seen = batches = 0
        for batch, labels in train_batches(images, plan, config.batch_size):
            loss, logits = self.train_step(batch, labels)
            loss_sum += loss * len(labels)
            correct += (logits.argmax(dim=1) == labels).sum()
            if config.schedule == "cosine-per-batch":
                self.scheduler.step()
            seen += len(labels)
            batches += 1
            progress(seen)
        if config.schedule != "cosine-per-batch":
            self.scheduler.step()
        values, (norm_last, norm_mean) = self.gradient_log.end_epoch(batches)
        metrics = {
            "learning_rate": learning_rate,
            "train_loss": loss_sum.item() / seen,
            "train_accuracy": correct.item() / seen,
            "gradient_norm_last": norm_last,
            "gradient_norm_mean": norm_mean,
        }
        return metrics, values

    def train_step(self, batch: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """One step of Adam on (B, 3, 32, 32) and (B,); the mean loss () and the logits (B, 100)."""
        with arithmetic(self.config, self.device):
            logits = self.model(batch).float()
            loss = F.cross_entropy(logits, labels)
            loss.backward()
        self.gradient_log.before_step()
        self.optimizer.step()
        self.gradient_log.after_step()
        self.optimizer.zero_grad()
        return loss.detach(), logits.detach()

    def state_dict(self) -> dict[str, Any]:
        parts: dict[str, Any] = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        return {name: part.state_dict() for name, part in parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])


def train(
    config: RunConfig,
    *,
    results: str | os.PathLike[str] = "results",
    data: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    progress: Progress = lambda epoch, images, metrics: None,
) -> Run:
    """Train `config`, or take up where it stopped, or load it where it is finished.

    Args:
        config: what to train.
        results: folder under which the run is left, see `artifacts`.
        data: folder of the data set, see `data.load`.
        device: where to train; by default a CUDA GPU where there is one, else the CPU.
        progress: told of every batch and epoch.

    Returns:
        The finished run. A run whose loss is not finite stops there and says so in its summary.

    Raises:
        ConfigError, data.DataError, artifacts.ArtifactError: before any work is done.
    """
    device = choose_device(device)
    check_precision(config, device)
    paths = RunPaths.of(results, config)
    if finished := artifacts.read_finished(paths, config):
        return finished
    with artifacts.claim(paths), process_settings(config, device):
        if finished := artifacts.read_finished(paths, config):  # by another process, meanwhile
            return finished
        state = artifacts.read_checkpoint(paths, config, device)
        trainer = Trainer(config, load(config, data).to(device), device)
        run, weights = _train_epochs(trainer, paths, state, progress)
        run = artifacts.write_run(paths, run, weights)
        paths.checkpoint.unlink(missing_ok=True)
        return run


def _train_epochs(
    trainer: Trainer, paths: RunPaths, state: dict[str, Any] | None, progress: Progress
) -> tuple[Run, dict[str, Tensor]]:
    config = trainer.config
    metrics: list[dict[str, Any]] = []
    gradients: list[Tensor] = []
    best: dict[str, Any] = {"epoch": 0, "validation_accuracy": -1.0, "model": None}
    if state:
        trainer.load_state_dict(state)
        metrics, gradients, best = state["metrics"], state["gradients"], state["best"]
    while len(metrics) < config.epochs and not _diverged(metrics):
        epoch = len(metrics) + 1
        start = time.perf_counter()
        row, values = trainer.train_epoch(epoch, lambda images, epoch=epoch: progress(epoch, images, None))  # type: ignore[misc]
        train_seconds = time.perf_counter() - start
        loss, accuracy = evaluate(trainer.model, trainer.data.validation, config, trainer.device)
        row |= {"validation_loss": loss, "validation_accuracy": accuracy}
        row |= {"train_seconds": train_seconds, "seconds": time.perf_counter() - start}
        metrics.append({"epoch": epoch} | row)
        gradients.append(values)
        if not _diverged(metrics) and accuracy > best["validation_accuracy"]:
            weights = {k: v.clone() for k, v in trainer.model.state_dict().items()}
            best = {"epoch": epoch, "validation_accuracy": accuracy, "model": weights}
        history = {"metrics": metrics, "gradients": gradients, "best": best}
        artifacts.write_checkpoint(paths, {"config": config.to_dict(), **history, **trainer.state_dict()})
        progress(epoch, len(trainer.data.train), metrics[-1])
    weights = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    frame = to_frame(trainer.gradient_log.names, torch.stack(gradients))
    return Run(config, pd.DataFrame(metrics), frame, _summary(trainer, metrics, best)), weights


def _diverged(metrics: list[dict[str, Any]]) -> bool:
    last = metrics[-1:]
    return not all(math.isfinite(row["train_loss"]) and math.isfinite(row["validation_loss"]) for row in last)


def _summary(trainer: Trainer, metrics: list[dict[str, Any]], best: dict[str, Any]) -> dict[str, Any]:
    def measured(row: dict[str, Any]) -> dict[str, Any]:
        loss, accuracy = evaluate(trainer.model, trainer.data.test, trainer.config, trainer.device)
        kept = ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
        values = {name: row[name] for name in kept} | {"test_loss": loss, "test_accuracy": accuracy}
        return {name: value if math.isfinite(value) else None for name, value in values.items()}

    final = measured(metrics[-1])
    if best["model"] is not None:
        trainer.model.load_state_dict(best["model"])
    train_seconds = sum(row["train_seconds"] for row in metrics)
    return {
        "diverged": _diverged(metrics),
        "final": final,
        "best": measured(metrics[best["epoch"] - 1]) if best["epoch"] else None,
        "parameters": count_parameters(trainer.model),
        "train_images": len(trainer.data.train),
        "wall_seconds": sum(row["seconds"] for row in metrics),
        "images_per_second": len(metrics) * len(trainer.data.train) / train_seconds,
        "data_sha256": trainer.data.checksum,
        **trainer.machine,
    }


@torch.inference_mode()
def evaluate(model: VGG, images: Images, config: RunConfig, device: torch.device) -> tuple[float, float]:
    """Mean cross-entropy and accuracy, a fraction, on `images`, in the run's precision."""
    model.eval()
    loss_sum = torch.zeros((), device=device, dtype=torch.float64)
    correct = torch.zeros((), device=device, dtype=torch.int64)
    for batch, labels in evaluation_batches(images, EVALUATION_BATCH_SIZE):
        with arithmetic(config, device):
            logits = model(batch).float()
        loss_sum += F.cross_entropy(logits, labels, reduction="sum")
        correct += (logits.argmax(dim=1) == labels).sum()
    return loss_sum.item() / len(images), correct.item() / len(images)


def make_scheduler(optimizer: torch.optim.Optimizer, config: RunConfig) -> torch.optim.lr_scheduler.LRScheduler:
    """Cosine annealing (Loshchilov & Hutter 2017, eq. 5, without restarts) or a constant rate.

    The period is counted in epochs. `cosine` steps once per epoch and so ends at the minimum;
    `cosine-per-batch` steps after every batch and so cycles, 2 x epochs batches a cycle.
    """
    if config.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    return torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, T_max=config.epochs, eta_min=config.minimum_learning_rate
    )


def choose_device(device: str | torch.device | None) -> torch.device:
    """The named device, by default a CUDA GPU where there is one, else the CPU.

    Raises:
        ConfigError: there is no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
        if chosen.type not in ("cpu", "cuda"):
            raise RuntimeError(f"{chosen.type} is not supported")
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device: {device!r} cannot be used; allowed: cpu, or cuda where there is a GPU") from error
    return chosen


def check_precision(config: RunConfig, device: torch.device) -> None:
    """Raise ConfigError where the device cannot compute in the run's precision."""
    if config.precision == "tf32" and device.type != "cuda":
        raise ConfigError("precision: 'tf32' is not allowed on the CPU; allowed: float32, bfloat16")


def arithmetic(config: RunConfig, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16")


@contextlib.contextmanager
def process_settings(config: RunConfig, device: torch.device) -> Iterator[None]:
    """Settings of the whole process while a run trains, as they were before when it ends.

    Denormal numbers, which vanishing gradients and their squares in Adam become, are flushed to
    zero: a CPU computes with them many times slower. (The setting is each thread's own: torch's
    worker threads keep the one they were started with.) TF32 is on for `tf32` alone.
    """
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.set_flush_denormal(True)
        for backend in backends:
            backend.fp32_precision = "tf32" if config.precision == "tf32" else "ieee"
        try:
            yield
        finally:
            torch.set_flush_denormal(False)
            for backend, precision in zip(backends, before, strict=True):
                backend.fp32_precision = precision
