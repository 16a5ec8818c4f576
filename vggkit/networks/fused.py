"""Batch normalisation, shortcut, LeakyReLU and average pooling as one compiled function, by torch.compile.

Eager PyTorch reads and writes the whole activation once for each of them, a large part of a step where
the convolutions are fast. Here each direction is one function of the activation as a matrix
(N x H x W, C), which is what channels_last memory holds; torch.compile makes one kernel of it, C++ on
the CPU and Triton on a GPU, once for each size and number type, in a few seconds together.

Sums are taken in float32 (float64 for float64 inputs). The variance comes from one pass,
E[(x - k)^2] - E[x - k]^2 with k the running mean, which keeps the difference from cancelling. (In the first
steps k is still near 0: a channel whose mean is many times its deviation then loses digits; in the
untrained networks of this report it is at most about three times. Once k is no number, after a batch that is none,
neither is what follows: a run that diverged stays diverged.)
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.compiler.config
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vggkit.config import NEGATIVE_SLOPE

BLOCK = 64  # rows of a partial sum
MOST_KERNELS = 256  # sizes, number types and kinds of block in one process; PyTorch gives up at 8


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _activate(y: Tensor) -> Tensor:
    return torch.where(y > 0, y, NEGATIVE_SLOPE * y)


def _sum(x: Tensor) -> Tensor:
    """Sum over rows, (C,)."""
    if not x.is_cuda:
        # The kernel takes 16 columns at a time: block by block, its cache still holds a block for the next 16.
        x = x.view(-1, math.gcd(len(x), BLOCK), x.shape[1]).sum(1)
    return x.sum(0)


def _pool(y: Tensor, shape: Sequence[int]) -> Tensor:
    """2x2 average pooling of images of `shape` (N, C, H, W), as matrices."""
    n, c, h, w = shape
    y = y.view(n, h // 2, 2, w // 2, 2, c)
    return (0.25 * ((y[:, :, 0, :, 0] + y[:, :, 0, :, 1]) + (y[:, :, 1, :, 0] + y[:, :, 1, :, 1]))).view(-1, c)


def _unpool(gradient: Tensor, shape: Sequence[int]) -> Tensor:
    n, c, h, w = shape
    quarter = (0.25 * gradient).view(n, h // 2, 1, w // 2, 1, c)
    return quarter.expand(n, h // 2, 2, w // 2, 2, c).reshape(-1, c)


def _forward(x: Tensor, shortcut: Tensor | None, pooled: Sequence[int] | None, *norm: Any) -> tuple[Tensor, ...]:
    """The output; with BN also the batch's mean and 1 / deviation, and the running statistics take both in.

    `norm`: weight, bias, running mean, running variance, momentum and eps. The running statistics are brought up to
    date in here because a GPU would start three more kernels for them. They are buffers, which have no gradient, and
    nothing keeps their old values for one: so autograd need not know that they change.
    """
    y = _wide(x)
    statistics: tuple[Tensor, ...] = ()
    if norm:
        weight, bias, running_mean, running_var, momentum, eps = norm
        shifted = y - running_mean
        mean, square = _sum(shifted) / len(x), _sum(shifted * shifted) / len(x)
        variance = (square - mean * mean).clamp_min(0)
        mean, scale = mean + running_mean, (variance + eps).rsqrt()
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * (len(x) / max(len(x) - 1, 1)), momentum)
        statistics = mean, scale
        y = _normalise(x, mean, scale, weight, bias)
    y = _activate(y if shortcut is None else y + _wide(shortcut))
    return (y if pooled is None else _pool(y, pooled)).to(x.dtype), *statistics


def _normalise(x: Tensor, mean: Tensor, scale: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return (_wide(x) - mean) * (scale * weight) + bias


def _backward(
    gradient: Tensor, residual: bool, pooled: Sequence[int] | None, y: Tensor | None, x: Tensor | None, *norm: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of x (without BN also that of the shortcut), with BN of the shortcut, weight and bias as well.

    Where the output y was kept, its sign is that of what was activated; else that is computed again
    from x, which costs less than reading y. `norm`: mean, 1 / deviation, weight and bias.
    Ioffe & Szegedy (2015), section 3, the derivatives gathered into one line for x.
    """
    dtype = gradient.dtype
    gradient = _wide(gradient) if pooled is None else _unpool(_wide(gradient), pooled)
    if y is None:
        assert x is not None
        y = _normalise(x, *norm) if norm else x
    gradient = torch.where(y > 0, gradient, NEGATIVE_SLOPE * gradient)
    if not norm:
        return (gradient.to(dtype),)
    assert x is not None
    mean, scale, weight, _ = norm
    normalised = (_wide(x) - mean) * scale
    bias_gradient, weight_gradient = _sum(gradient), _sum(gradient * normalised)
    share = 1 / len(x)  # a product: the kernel works it out anew for every element
    centred = gradient - bias_gradient * share - normalised * (weight_gradient * share)
    shortcut = (gradient.to(dtype),) if residual else ()
    return (centred * (scale * weight)).to(dtype), *shortcut, weight_gradient, bias_gradient


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    import torch._dynamo  # takes longer to import than the rest of torch, and not every network is fused

    # A kernel for each of the four image sizes: one for all, with the size unknown, took half as long again.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_KERNELS)
    # PyTorch keeps compiled code on disk, and takes code made for wider or narrower registers than this process
    # uses for its own, which then writes past the end of its tensors: so the instructions are part of its name.
    capability = torch.backends.cpu.get_cpu_capability()
    if not torch.compiler.config.cache_key_tag.endswith(capability):
        torch.compiler.config.cache_key_tag += capability
    # By default an expression of more than four tensors is written out in between, in full size.
    return torch.compile(function, dynamic=False, options={"realize_reads_threshold": 16})


@functools.cache
def available(device: torch.device) -> bool:
    """Whether torch.compile works for this device here: on the CPU it needs a C++ compiler, on a GPU Triton."""
    try:
        with torch.enable_grad():
            x = torch.ones(1, 2, 2, 2, device=device, requires_grad=True)
            norm_act(x, nn.BatchNorm2d(2, device=device)).sum().backward()
    except Exception:  # each missing piece has an exception of its own, not all of them public
        return False
    return True


def _matrix(x: Tensor) -> Tensor:
    """(N, C, H, W) as (N x H x W, C): no copy in channels_last layout."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _images(matrix: Tensor, n: int, c: int, h: int, w: int) -> Tensor:
    return matrix.view(n, h, w, c).permute(0, 3, 1, 2)


class _NormActPool(torch.autograd.Function):
    """`norm` as in `_forward`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shortcut: Tensor | None, pool: bool, *norm: Any) -> Tensor:
        n, c, h, w = ctx.shape = tuple(x.shape)
        assert not (pool and shortcut is not None)  # the backward pass would need the shortcut as well
        ctx.residual, ctx.pooled = shortcut is not None, ctx.shape if pool else None
        matrix, more = _matrix(x), None if shortcut is None else _matrix(shortcut)
        y, *statistics = compiled(_forward)(matrix, more, ctx.pooled, *norm)
        # The convolution that follows keeps y too, so keeping it here costs nothing.
        keep_y = not pool and (ctx.residual or not norm)
        ctx.save_for_backward(y if keep_y else None, matrix if norm or not keep_y else None, *statistics, *norm[:2])
        return _images(y, n, c, h >> pool, w >> pool)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients = compiled(_backward)(_matrix(gradient), ctx.residual, ctx.pooled, *ctx.saved_tensors)
        x = _images(gradients[0], *ctx.shape)
        if len(gradients) == 1:
            return x, x if ctx.residual else None, None
        *shortcut, weight, bias = gradients[1:]
        branch = _images(shortcut[0], *ctx.shape) if shortcut else None
        return x, branch, None, weight, bias, None, None, None, None


def _apply(*arguments: Any) -> Tensor:
    return cast(Tensor, _NormActPool.apply(*arguments))  # type: ignore[no-untyped-call]


def act(x: Tensor, shortcut: Tensor | None = None, *, pool: bool = False) -> Tensor:
    """LeakyReLU of x [+ shortcut], (N, C, H, W); or, with `pool`, 2x2 average pooling of that of x, H and W even."""
    return _apply(x, shortcut, pool)


def norm_act(x: Tensor, bn: nn.BatchNorm2d, shortcut: Tensor | None = None, *, pool: bool = False) -> Tensor:
    """LeakyReLU of BN(x) [+ shortcut], (N, C, H, W), in training: by the batch's own statistics; `pool` as in `act`.

    `bn` must have weights and keep running statistics with a momentum, as by default; hooks on it are not called.
    Updates the running statistics of `bn` as its own forward does, the variance by its unbiased estimate.
    """
    assert bn.running_mean is not None and bn.running_var is not None and bn.momentum is not None
    running = bn.running_mean, bn.running_var, bn.momentum
    y = _apply(x, shortcut, pool, bn.weight, bn.bias, *running, bn.eps)
    if bn.num_batches_tracked is not None:
        bn.num_batches_tracked.add_(1)
    return y
