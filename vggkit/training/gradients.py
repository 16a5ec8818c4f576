"""Gradient flow: what is logged of every weight tensor, at every step, on the training device.

For each weight tensor W with gradient G (biases left out, as in the report's figures):

    mean_abs      mean of |G| over the tensor's elements
    l2_norm       ||G||_2
    update_ratio  ||W_after - W_before||_2 / ||W_before||_2 of the optimiser's step

each for the last batch of an epoch and averaged over its batches; and the L2 norm of the whole
gradient, biases included. Nothing here waits for the device before the epoch ends.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

STATISTICS = ("mean_abs", "l2_norm", "update_ratio")
OVER = ("last", "mean")  # the epoch's last batch; the mean over its batches


class GradientLog:
    """Collects statistics around each optimiser step; call `before_step`, step, `after_step`.

    Norms are computed in float64: the squares of vanishing gradients underflow in float32.
    `torch._foreach_norm`, which torch's own gradient clipping uses, takes all tensors in one call.
    """

    def __init__(self, model: nn.Module) -> None:
        named = list(model.named_parameters())
        self.names = weight_names(model)
        self._parameters: list[Any] = [p for _, p in named]
        self._weights: list[Any] = [p for name, p in named if name in self.names]
        device = self._weights[0].device
        is_weight = [i for i, (name, _) in enumerate(named) if name in self.names]
        self._is_weight = torch.tensor(is_weight, device=device)
        self._elements = torch.tensor([w.numel() for w in self._weights], device=device, dtype=torch.float64)
        self._before = [torch.empty_like(w) for w in self._weights]
        self.values = torch.zeros(len(OVER), len(STATISTICS), len(self.names), device=device, dtype=torch.float64)
        self.norms = torch.zeros(len(OVER), device=device, dtype=torch.float64)

    @torch.no_grad()
    def before_step(self) -> None:
        gradients = [p.grad for p in self._parameters]
        l2 = torch.stack(torch._foreach_norm(gradients, 2, dtype=torch.float64))
        l1 = torch.stack(torch._foreach_norm([w.grad for w in self._weights], 1, dtype=torch.float64))
        last, total = self.values
        last[0] = l1 / self._elements
        last[1] = l2[self._is_weight]
        total[:2] += last[:2]
        self.norms[0] = torch.linalg.vector_norm(l2)
        self.norms[1] += self.norms[0]
        torch._foreach_copy_(self._before, self._weights)

    @torch.no_grad()
    def after_step(self) -> None:
        size = torch.stack(torch._foreach_norm(self._before, 2, dtype=torch.float64))
        torch._foreach_sub_(self._before, self._weights)
        change = torch.stack(torch._foreach_norm(self._before, 2, dtype=torch.float64))
        last, total = self.values
        last[2] = change / size
        total[2] += last[2]

    def end_epoch(self, batches: int) -> tuple[Tensor, tuple[float, float]]:
        """Values (2 of OVER, 3 of STATISTICS, tensors), and the whole gradient's norm for each of OVER."""
        values, norms = self.values.cpu().clone(), self.norms.cpu().clone()
        values[1] /= batches
        norms[1] /= batches
        self.values.zero_()
        self.norms.zero_()
        return values, (norms[0].item(), norms[1].item())


def weight_names(model: nn.Module) -> list[str]:
    """Names of all weight tensors in the order of the forward pass."""
    return [name for name, _ in model.named_parameters() if name.endswith("weight")]


def to_frame(names: Sequence[str], history: Tensor) -> pd.DataFrame:
    """The epochs' values (epochs, 2, 3, tensors) as one row for each epoch, tensor and kind of average.

    Columns: epoch (from 1), layer (place of the tensor in the forward pass, from 0), parameter,
    kind (conv, bn or linear), over (last or mean), then the three STATISTICS.
    """
    epochs, _, _, tensors = history.shape
    index = pd.MultiIndex.from_product([range(1, epochs + 1), OVER, range(tensors)], names=["epoch", "over", "layer"])
    values = history.permute(0, 1, 3, 2).reshape(-1, len(STATISTICS)).numpy()
    frame = pd.DataFrame(values, index=index, columns=list(STATISTICS), dtype="float32").reset_index()
    frame["parameter"] = frame["layer"].map(dict(enumerate(names))).astype("category")
    frame["kind"] = frame["parameter"].map(_kind).astype("category")
    frame["over"] = frame["over"].astype("category")
    frame = frame.astype({"epoch": "int32", "layer": "int32"})
    return frame[["epoch", "layer", "parameter", "kind", "over", *STATISTICS]]


def propagation(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[list[float], list[float], float]:
    """Of every convolution's output: its deviation between images, and the norm of the error's gradient.

    Args:
        model: network in training mode.
        images: (N, 3, 32, 32).
        labels: (N,).

    Returns:
        For each convolution in forward order, the standard deviation over images (root mean square
        over channels and positions); likewise the L2 norm of the gradient of the mean cross-entropy;
        and the largest range of a logit over the images, relative to the largest logit.
    """
    variation: list[float] = []
    error: dict[int, float] = {}

    def watch(module: nn.Module, inputs: Any, output: Tensor) -> None:
        place = len(variation)
        variation.append(output.detach().std(dim=0).square().mean().sqrt().item())
        # Before the activation changes it in place: the hook gets the gradient for the value as it is now.
        output.register_hook(lambda gradient: error.update({place: gradient.norm().item()}))

    hooks = [part.register_forward_hook(watch) for part in model.modules() if isinstance(part, nn.Conv2d)]
    logits = model(images)
    for hook in hooks:
        hook.remove()
    F.cross_entropy(logits, labels).backward()
    spread = (logits.amax(0) - logits.amin(0)).max() / logits.abs().max()
    return variation, [error[place] for place in range(len(variation))], spread.item()


def _kind(parameter: str) -> str:
    if parameter.startswith("classifier"):
        return "linear"
    return "bn" if ".bn" in parameter else "conv"
