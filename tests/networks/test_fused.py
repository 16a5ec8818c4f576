"""The compiled pass of BN, shortcut, LeakyReLU and pooling against PyTorch's operations and numerical gradients."""

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.shared import gradient_of
from vggkit.networks import fused
from vggkit.networks.vgg import VGG, Block, EntryBlock, ProcessingBlock, ReductionBlock

COMPILERS = ("c++", "g++", "clang++", "cl")
# The library falls back on PyTorch's operations where torch.compile fails. Here it must not: with a C++ compiler it has
# to work, so only the compiler is looked for.
pytestmark = pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="there is no C++ compiler here")


def images(*shape: int, mean: float = 0.0, dtype: torch.dtype = torch.float64) -> Tensor:
    x = torch.randn(*shape, dtype=torch.float64) + mean
    return x.to(dtype, memory_format=torch.channels_last).requires_grad_()


def own(bn: nn.BatchNorm2d | None, x: Tensor, shortcut: Tensor | None, pool: bool) -> Tensor:
    return fused.act(x, shortcut, pool=pool) if bn is None else fused.norm_act(x, bn, shortcut, pool=pool)


def pytorchs(bn: nn.BatchNorm2d | None, x: Tensor, shortcut: Tensor | None, pool: bool) -> Tensor:
    y = x if bn is None else bn(x)
    y = F.leaky_relu(y if shortcut is None else y + shortcut, 0.01)
    return F.avg_pool2d(y, 2) if pool else y


@pytest.mark.parametrize(("residual", "pool"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_values_gradients_and_running_statistics_equal_pytorchs(batch_norm: bool, residual: bool, pool: bool) -> None:
    torch.manual_seed(0)
    results = []
    for function in (own, pytorchs):
        torch.manual_seed(1)
        bn = nn.BatchNorm2d(4).double() if batch_norm else None
        if bn:
            nn.init.normal_(bn.weight)
            nn.init.normal_(bn.bias)
        x, shortcut = images(3, 4, 6, 6, mean=2.0), images(3, 4, 6, 6) if residual else None
        for _ in range(2):  # the second time the running statistics are no longer 0 and 1
            y = function(bn, x, shortcut, pool)
            (y * torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y)).sum().backward()
        tensors = [x, *([] if shortcut is None else [shortcut]), *(bn.parameters() if bn else [])]
        results.append([y, *map(gradient_of, tensors), *(bn.buffers() if bn else [])])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(("residual", "pool"), [(False, False), (True, False), (False, True)])
def test_gradients_equal_numerical_ones(residual: bool, pool: bool) -> None:
    torch.manual_seed(0)
    bn = nn.BatchNorm2d(4).double()
    inputs = [
        images(3, 4, 6, 6) for _ in range(1 + residual)
    ]  # as in the test above, whose compiled kernels are used again
    assert torch.autograd.gradcheck(lambda x, *s: fused.norm_act(x, bn, *s, pool=pool), inputs, fast_mode=True)
    assert torch.autograd.gradcheck(lambda x, *s: fused.act(x, *s, pool=pool), inputs, fast_mode=True)


def test_variance_survives_a_mean_that_dwarfs_it() -> None:
    # E[x^2] - E[x]^2 in float32 would be pure rounding at a mean of 1,000 standard deviations.
    torch.manual_seed(0)
    bn, x = nn.BatchNorm2d(4), images(8, 4, 8, 8, mean=1000.0, dtype=torch.float32)
    for _ in range(50):  # the running mean, by which the values are shifted, comes near their mean
        y = fused.norm_act(x, bn)
    exact = F.leaky_relu(F.batch_norm(x.double(), None, None, training=True), 0.01)
    torch.testing.assert_close(y, exact.float(), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_blocks_in_bfloat16_are_as_close_to_float64_as_pytorchs_own(batch_norm: bool) -> None:
    # A block of each kind, so that everything that is compiled is there once: each size is compiled for seconds.
    torch.manual_seed(0)
    blocks = EntryBlock(), ProcessingBlock(batch_norm, residual=True), ReductionBlock(batch_norm, shortcut=True)
    eager = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 100))
    eager.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's own types lack it
    batch = images(16, 3, 16, 16, dtype=torch.float32).detach()
    exact, own = copy.deepcopy(eager).double(), copy.deepcopy(eager)
    for block in own.modules():
        if isinstance(block, Block):
            block.fused = True
    labels = torch.arange(16)

    def logits_and_gradients(model: nn.Module, batch: Tensor) -> list[Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=batch.dtype == torch.float32):
            logits = model(batch)
        F.cross_entropy(logits.to(batch.dtype), labels).backward()
        return [logits.detach().double(), torch.cat([gradient_of(p).flatten() for p in model.parameters()]).double()]

    truth = logits_and_gradients(exact, batch.double())
    errors = [
        [(mine - true).norm() / true.norm() for mine, true in zip(logits_and_gradients(m, batch), truth, strict=True)]
        for m in (eager, own)
    ]
    for theirs, ours, most in zip(*errors, (0.1, 0.5), strict=True):  # gradients through BN lose more digits
        assert ours < 1.1 * theirs < most


ACT = """
import torch
from vggkit.networks import fused
x = torch.randn(4, 64, 8, 8, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
expected = torch.nn.functional.leaky_relu(x, 0.01)
torch.testing.assert_close(fused.act(x), expected)
"""


@pytest.mark.slow
def test_code_kept_on_disk_is_not_taken_up_by_a_processor_with_other_instructions(tmp_path: Path) -> None:
    # For a single kernel, precompiled headers and extra processes for compiling cost more time than they save.
    settings = {"TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    for capability in ("", "avx2"):  # first what this processor has, then less
        chosen = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "ATEN_CPU_CAPABILITY": capability}
        environment = os.environ | settings | chosen
        subprocess.run([sys.executable, "-c", ACT], env=environment, check=True)


def test_frozen_bn_uses_its_running_statistics_in_training() -> None:
    torch.manual_seed(0)
    model = VGG(8)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    batch = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(copy.deepcopy(model).fuse()(batch), model(batch))


def test_evaluation_uses_the_running_statistics() -> None:
    torch.manual_seed(0)
    model = VGG(8).fuse().eval()
    batch = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(
        model(batch)[:1], model(batch[:1])
    )  # an image's logits do not depend on the others in its batch
