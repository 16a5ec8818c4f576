"""One run's network, optimiser, schedule and gradient log, and the step that moves them.

A step reads and writes nothing but tensors of the training device: which batch is next, the images,
the epoch's random draws, the learning rate, the sums of loss and hits. So a GPU can record it and replay
it, see `graph`, and nothing waits for the device within an epoch.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vggkit.config import RunConfig
from vggkit.data import EpochPlan, Splits, train_batch
from vggkit.networks import lsuv
from vggkit.networks.vgg import VGG
from vggkit.runs import provenance
from vggkit.runs.records import TrainedEpoch
from vggkit.training.compute import Compute
from vggkit.training.gradients import GradientLog


class Trainer:
    """Network, optimiser, schedule and gradient log of one run; see `train_epoch`.

    Args:
        config: the run.
        data: its images, on the device of `compute`.
        compute: with what to train.
    """

    def __init__(self, config: RunConfig, data: Splits, compute: Compute) -> None:
        device = compute.device
        self.config, self.data, self.compute, self.device = config, data, compute, device
        torch.manual_seed(config.seed)
        self.model: VGG = VGG.from_config(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if compute.fused:
            self.model.fuse()
        on_gpu = device.type == "cuda"
        # A graph replays the learning rate's address, not its value: there it is a tensor.
        rate = torch.tensor(config.learning_rate, device=device) if on_gpu else config.learning_rate
        self.optimizer = torch.optim.Adam(
            self.model.parameters(),
            lr=rate,
            eps=config.adam_epsilon,
            weight_decay=config.weight_decay,
            decoupled_weight_decay=config.decoupled_weight_decay,
            fused=True,
            capturable=on_gpu,
        )
        self.scheduler = make_scheduler(self.optimizer, config)
        self.gradient_log = GradientLog(self.model)
        self.machine = provenance.describe(device)  # now: the code on disk may change while the run goes on
        self.plan = EpochPlan.draw(len(data.train), config.seed, 0).to(device)
        self.batch = torch.zeros(1, device=device, dtype=torch.int64)  # number of the next one
        self.loss_sum = torch.zeros((), device=device, dtype=torch.float64)
        self.correct = torch.zeros((), device=device, dtype=torch.int64)
        self.full_batches = len(data.train) // config.batch_size

    def begin_epoch(self, epoch: int) -> float:
        """Draw epoch number `epoch` (from 1); its learning rate at the start.

        Before the first one, weights that look at images are scaled by the first batch; a run that goes on has them.
        """
        torch.manual_seed(self.config.seed * 1_000_003 + epoch)  # dropout, the same after a resume
        self.plan.copy_(EpochPlan.draw(len(self.data.train), self.config.seed, epoch))
        if epoch == 1 and self.config.initialisation == "lsuv":
            first = self.plan.take(torch.arange(self.config.batch_size, device=self.device))
            lsuv.scale(self.model.train(), train_batch(self.data.train, first)[0])
        for total in (self.batch, self.loss_sum, self.correct):
            total.zero_()
        self.model.train()
        return float(self.scheduler.get_last_lr()[0])

    def step(self) -> Tensor:
        """Train on the next full batch of the epoch; its mean loss, on the device."""
        size = self.config.batch_size
        first = self.batch * size
        loss = self.train_step(self.plan.take(first + torch.arange(size, device=self.device)))
        self.batch += 1
        return loss

    def train_step(self, draws: EpochPlan) -> Tensor:
        """One step of Adam on the images that `draws` names; the mean loss, on the device."""
        batch, labels = train_batch(self.data.train, draws)
        self.optimizer.zero_grad()
        with self.compute.autocast():
            logits = self.model(batch).float()
            loss = F.cross_entropy(logits, labels)
            loss.backward()
        self.gradient_log.before_step()
        self.optimizer.step()
        self.gradient_log.after_step()
        self.loss_sum += loss.detach() * len(labels)
        self.correct += (logits.argmax(dim=1) == labels).sum()
        return loss.detach()

    def after_batch(self) -> None:
        if self.config.schedule == "cosine-per-batch":
            self.scheduler.step()

    def end_epoch(self, learning_rate: float) -> tuple[TrainedEpoch, Tensor]:
        """Train on what full batches left over; the epoch's metrics and its gradient statistics."""
        images, size = len(self.data.train), self.config.batch_size
        batches = math.ceil(images / size)
        if batches > self.full_batches:
            rest = torch.arange(self.full_batches * size, images, device=self.device)
            self.train_step(self.plan.take(rest))
            self.after_batch()
        if self.config.schedule != "cosine-per-batch":
            self.scheduler.step()
        values, (norm_last, norm_mean) = self.gradient_log.end_epoch(batches)
        metrics: TrainedEpoch = {
            "learning_rate": learning_rate,
            "train_loss": self.loss_sum.item() / images,
            "train_accuracy": self.correct.item() / images,
            "gradient_norm_last": norm_last,
            "gradient_norm_mean": norm_mean,
        }
        return metrics, values

    def state_dict(self) -> dict[str, Any]:
        parts: dict[str, Any] = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        return {name: part.state_dict() for name, part in parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        on_gpu = self.device.type == "cuda"
        for group in self.optimizer.param_groups:  # Adam moves its state to the weights' device, but not these
            group["capturable"] = on_gpu
            group["lr"] = torch.tensor(float(group["lr"]), device=self.device) if on_gpu else float(group["lr"])
        self.scheduler.load_state_dict(state["scheduler"])

    def tensors(self) -> list[Tensor]:
        """All that a step changes, for putting it back after a warm-up."""
        adam = [t for state in self.optimizer.state.values() for t in state.values()]
        log = [self.gradient_log.values, self.gradient_log.norms]
        counts = [self.batch, self.loss_sum, self.correct]
        return [*self.model.parameters(), *self.model.buffers(), *adam, *log, *counts]


def train_epoch(
    trainers: Sequence[Trainer], epoch: int, steps: Callable[[], Any], progress: Callable[[int], None]
) -> list[tuple[TrainedEpoch, Tensor]]:
    """Train all `trainers`, whose batches are of one size, for an epoch; each one's metrics and gradient statistics.

    Args:
        trainers: at least one.
        epoch: number of the epoch, from 1.
        steps: one step of all, as `graph.one_step` returns it.
        progress: told after each batch of the images that each has seen.
    """
    rates = [trainer.begin_epoch(epoch) for trainer in trainers]
    first = trainers[0]
    for batch in range(first.full_batches):
        steps()
        for trainer in trainers:
            trainer.after_batch()
        progress((batch + 1) * first.config.batch_size)
    return [trainer.end_epoch(rate) for trainer, rate in zip(trainers, rates, strict=True)]


def make_scheduler(optimizer: torch.optim.Optimizer, config: RunConfig) -> torch.optim.lr_scheduler.LRScheduler:
    """Cosine annealing (Loshchilov & Hutter 2017, eq. 5, without restarts) or a constant rate.

    The period is counted in epochs. `cosine` steps once per epoch and so ends at the minimum;
    `cosine-per-batch` steps after every batch and so cycles, 2 x epochs batches a cycle. The formula
    is used directly: PyTorch's own class multiplies its last value, which adds up rounding where the
    rate is a float32 tensor.
    """
    lowest = config.minimum_learning_rate / config.learning_rate

    def factor(step: int) -> float:
        if config.schedule == "constant":
            return 1.0
        return lowest + (1 - lowest) * (1 + math.cos(math.pi * step / config.epochs)) / 2

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
