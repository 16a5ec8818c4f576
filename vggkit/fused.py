"""Batch normalisation, shortcut and LeakyReLU in one pass over memory, forward and backward, by torch.compile.

Eager PyTorch reads and writes the whole activation once for each of the three, and these passes, not
the convolutions, take most of a step. Here each direction is one function of the activation as a matrix
(N x H x W, C), which is what channels_last memory holds; torch.compile makes one kernel pair of it, C++ on
the CPU and Triton on a GPU, once for each size and number type, in a few seconds together.

Sums are taken in float32 (float64 for float64 inputs). The variance comes from one pass,
E[(x - k)^2] - E[x - k]^2 with k the running mean, which keeps the difference from cancelling.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vggkit.config import NEGATIVE_SLOPE

MOST_SHAPES = 64  # sizes and number types of one process; PyTorch gives up at 8


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _activate(y: Tensor) -> Tensor:
    return torch.where(y > 0, y, NEGATIVE_SLOPE * y)


def _slope(gradient: Tensor, y: Tensor) -> Tensor:
    return torch.where(y > 0, gradient, NEGATIVE_SLOPE * gradient)  # y has the sign of what was activated


def _act(x: Tensor) -> Tensor:
    return _activate(x)


def _add_act(x: Tensor, shortcut: Tensor) -> Tensor:
    return _activate(_wide(x) + _wide(shortcut)).to(x.dtype)


def _act_backward(gradient: Tensor, y: Tensor) -> Tensor:
    return _slope(gradient, y)


def _normalise(x: Tensor, k: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
    shifted = _wide(x) - k
    mean = shifted.mean(0)
    variance = ((shifted * shifted).mean(0) - mean * mean).clamp_min(0)
    scale = (variance + eps).rsqrt()
    return (shifted - mean) * (scale * weight) + bias, mean + k, variance, scale


def _norm_act(x: Tensor, k: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
    y, *statistics = _normalise(x, k, weight, bias, eps)
    return _activate(y).to(x.dtype), *statistics


def _norm_add_act(
    x: Tensor, k: Tensor, weight: Tensor, bias: Tensor, eps: float, shortcut: Tensor
) -> tuple[Tensor, ...]:
    y, *statistics = _normalise(x, k, weight, bias, eps)
    return _activate(y + _wide(shortcut)).to(x.dtype), *statistics


def _norm_backward(gradient: Tensor, x: Tensor, mean: Tensor, scale: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """Ioffe & Szegedy (2015), section 3, the six derivatives gathered into one line for x."""
    normalised = (_wide(x) - mean) * scale
    bias_gradient = gradient.sum(0)
    weight_gradient = (gradient * normalised).sum(0)
    count = x.shape[0]
    centred = gradient - bias_gradient / count - normalised * (weight_gradient / count)
    return (centred * (scale * weight)).to(x.dtype), weight_gradient, bias_gradient


def _norm_act_backward(gradient: Tensor, y: Tensor, *saved: Tensor) -> tuple[Tensor, ...]:
    return _norm_backward(_slope(_wide(gradient), y), *saved)


def _norm_add_act_backward(gradient: Tensor, y: Tensor, *saved: Tensor) -> tuple[Tensor, ...]:
    inner = _slope(_wide(gradient), y)
    return *_norm_backward(inner, *saved), inner.to(gradient.dtype)


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    # A kernel for each of the four image sizes: one for all, with the size unknown, took half as long again.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_SHAPES)
    return torch.compile(function, dynamic=False)


@functools.cache
def available(device: torch.device) -> bool:
    """Whether torch.compile works for this device here: on the CPU it needs a C++ compiler, on a GPU Triton."""
    try:
        compiled(_act)(torch.zeros(2, 2, device=device))
    except Exception:  # each missing piece has an exception of its own, not all of them public
        return False
    return True


def _matrix(x: Tensor) -> Tensor:
    """(N, C, H, W) as (N x H x W, C): no copy in channels_last layout."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _images(matrix: Tensor, like: Tensor) -> Tensor:
    n, c, h, w = like.shape
    return matrix.view(n, h, w, c).permute(0, 3, 1, 2)


class _Act(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shortcut: Tensor | None) -> Tensor:
        inputs = [_matrix(t) for t in (x, shortcut) if t is not None]
        y = compiled(_act if shortcut is None else _add_act)(*inputs)
        ctx.residual = shortcut is not None
        ctx.save_for_backward(y)
        return _images(y, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:  # type: ignore[override]
        inner = compiled(_act_backward)(_matrix(gradient), *ctx.saved_tensors)
        inner = _images(inner, gradient)
        return inner, inner if ctx.residual else None


class _NormAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, k: Tensor, eps: float, shortcut: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        matrix, more = _matrix(x), [] if shortcut is None else [_matrix(shortcut)]
        function = compiled(_norm_add_act if more else _norm_act)
        y, mean, variance, scale = function(matrix, k, weight, bias, eps, *more)
        ctx.residual = bool(more)
        ctx.save_for_backward(y, matrix, mean, scale, weight)
        ctx.mark_non_differentiable(mean, variance)
        return _images(y, x), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        function = compiled(_norm_add_act_backward if ctx.residual else _norm_act_backward)
        x, weight, bias, *shortcut = function(_matrix(gradient), *ctx.saved_tensors)
        first, *rest = (_images(t, gradient) for t in (x, *shortcut))
        return first, weight, bias, None, None, rest[0] if rest else None


class _AveragePool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        n, c, h, w = gradient.shape
        quarter = (gradient * 0.25).permute(0, 2, 3, 1)[:, :, None, :, None, :]
        return quarter.expand(n, h, 2, w, 2, c).reshape(n, 2 * h, 2 * w, c).permute(0, 3, 1, 2)


def average_pool(x: Tensor) -> Tensor:
    """2x2 average pooling; PyTorch's backward clears its result twice before it adds to it."""
    return _AveragePool.apply(x)


def act(x: Tensor, shortcut: Tensor | None = None) -> Tensor:
    """LeakyReLU of x [+ shortcut], (N, C, H, W)."""
    return _Act.apply(x, shortcut)


def norm_act(x: Tensor, bn: nn.BatchNorm2d, shortcut: Tensor | None = None) -> Tensor:
    """LeakyReLU of BN(x) [+ shortcut], (N, C, H, W), in training: by the batch's own statistics.

    Updates the running statistics of `bn` as its own forward does, the variance by its unbiased estimate.
    """
    assert bn.running_mean is not None and bn.running_var is not None and bn.momentum is not None
    y, mean, variance = _NormAct.apply(x, bn.weight, bn.bias, bn.running_mean, bn.eps, shortcut)
    with torch.no_grad():
        count = x.numel() // x.shape[1]
        bn.running_mean.lerp_(mean, bn.momentum)
        bn.running_var.lerp_(variance * (count / max(count - 1, 1)), bn.momentum)
        if bn.num_batches_tracked is not None:
            bn.num_batches_tracked.add_(1)
    return y
