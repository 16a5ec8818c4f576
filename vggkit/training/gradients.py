"""Gradient flow: what is logged of every weight tensor, at every step, on the training device.

The statistics are the rows of `study.STATISTICS`, each for the last batch of an epoch and averaged over
its batches; beside them the L2 norm of the whole gradient, biases included. Weight tensors alone have
rows, as in the report's figures. Nothing here waits for the device before the epoch ends.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from vggkit.runs.schema import kind_of
from vggkit.study import STATISTICS, Step

OVER = ("last", "mean")  # the epoch's last batch; the mean over its batches


class GradientLog:
    """Collects statistics around each optimiser step; call `before_step`, step, `after_step`.

    Norms are computed in float64: the squares of vanishing gradients underflow in float32.
    `torch._foreach_norm`, which torch's own gradient clipping uses, takes all tensors in one call.
    """

    def __init__(self, model: nn.Module) -> None:
        named = list(model.named_parameters())
        self.names = weight_names(model)
        self._statistics = list(STATISTICS.values())
        self._parameters: list[Any] = [p for _, p in named]
        self._weights: list[Any] = [p for name, p in named if name in self.names]
        device = self._weights[0].device
        is_weight = [i for i, (name, _) in enumerate(named) if name in self.names]
        self._is_weight = torch.tensor(is_weight, device=device)
        self._elements = torch.tensor([w.numel() for w in self._weights], device=device, dtype=torch.float64)
        self._before = [torch.empty_like(w) for w in self._weights]
        shape = len(OVER), len(self._statistics), len(self.names)
        self.values = torch.zeros(shape, device=device, dtype=torch.float64)
        self.norms = torch.zeros(len(OVER), device=device, dtype=torch.float64)

    @torch.no_grad()
    def before_step(self) -> None:
        """Keep the weights, and the norms of their gradients, which the step may change."""
        gradients = [p.grad for p in self._parameters]
        l2 = _norms(gradients, 2)
        self._gradient_l1, self._gradient_l2 = _norms([w.grad for w in self._weights], 1), l2[self._is_weight]
        self.norms[0] = torch.linalg.vector_norm(l2)
        self.norms[1] += self.norms[0]
        torch._foreach_copy_(self._before, self._weights)

    @torch.no_grad()
    def after_step(self) -> None:
        """Compute the statistics of the step and add them to the epoch's."""
        weight_l2 = _norms(self._before, 2)
        torch._foreach_sub_(self._before, self._weights)
        step = Step(
            self._weights, self._before, self._elements, self._gradient_l1, self._gradient_l2, weight_l2,
            _norms(self._before, 2),
        )  # fmt: skip
        last, total = self.values
        for place, statistic in enumerate(self._statistics):
            last[place] = statistic.compute(step)
        total += last

    def end_epoch(self, batches: int) -> tuple[Tensor, tuple[float, float]]:
        """Values (2 of OVER, statistics, tensors), and the whole gradient's norm for each of OVER."""
        values, norms = self.values.cpu().clone(), self.norms.cpu().clone()
        values[1] /= batches
        norms[1] /= batches
        self.values.zero_()
        self.norms.zero_()
        return values, (norms[0].item(), norms[1].item())


def _norms(tensors: list[Any], order: int) -> Tensor:
    return torch.stack(torch._foreach_norm(tensors, order, dtype=torch.float64))


def weight_names(model: nn.Module) -> list[str]:
    """Names of all weight tensors in the order of the forward pass."""
    return [name for name, _ in model.named_parameters() if name.endswith("weight")]


def to_frame(names: Sequence[str], history: Tensor) -> pd.DataFrame:
    """The epochs' values (epochs, 2 of OVER, statistics, tensors) as rows: one for each epoch, tensor and average.

    Columns: epoch (from 1), layer (place of the tensor in the forward pass, from 0), parameter,
    kind (conv, bn or linear), over (last or mean), then the statistics.
    """
    epochs, _, _, tensors = history.shape
    index = pd.MultiIndex.from_product([range(1, epochs + 1), OVER, range(tensors)], names=["epoch", "over", "layer"])
    values = history.permute(0, 1, 3, 2).reshape(-1, len(STATISTICS)).numpy()
    frame = pd.DataFrame(values, index=index, columns=list(STATISTICS), dtype="float32").reset_index()
    frame["parameter"] = frame["layer"].map(dict(enumerate(names))).astype("category")
    frame["kind"] = frame["parameter"].map(kind_of).astype("category")
    frame["over"] = frame["over"].astype("category")
    frame = frame.astype({"epoch": "int32", "layer": "int32"})
    return frame[["epoch", "layer", "parameter", "kind", "over", *STATISTICS]]
