"""On a GPU: steps captured as a CUDA graph equal ordinary ones, and a stopped run goes on there."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.shared import stop_in
from vggkit.config import RunConfig
from vggkit.data import evaluation_batches, load
from vggkit.networks.vgg import VGG
from vggkit.training.compute import Compute
from vggkit.training.graph import capture
from vggkit.training.runner import train, train_together
from vggkit.training.step import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
STEPS = 50


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """cuDNN's deterministic algorithms; `torch.backends.cudnn.flags` reads an older switch that new ones disable."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


def losses(seeds: list[int], graph: bool, fuse: bool = False) -> torch.Tensor:
    """Training loss of each step and seed, (STEPS, seeds), with cuDNN's deterministic algorithms."""
    device = torch.device("cuda")
    config = RunConfig.named("vgg38_bn_rc", dataset="synthetic")
    with Compute(device, config.precision).process_settings(), deterministic():
        data = load(config).to(device)
        configs = [RunConfig.from_dict(config.to_dict() | {"seed": seed}) for seed in seeds]
        trainers = [Trainer(config, data, Compute(device, config.precision, fuse)) for config in configs]
        for trainer in trainers:
            trainer.begin_epoch(1)
        steps = capture(trainers).replay if graph else lambda: [trainer.step() for trainer in trainers]
        rows, seen = [], [torch.zeros((), device=device, dtype=torch.float64) for _ in trainers]
        for _ in range(STEPS):
            steps()
            sums = [trainer.loss_sum.clone() for trainer in trainers]
            rows.append(torch.stack([now - before for now, before in zip(sums, seen, strict=True)]))
            seen = sums
        return torch.stack(rows).cpu()


def test_graph_equals_eager() -> None:
    torch.testing.assert_close(losses([0], graph=True), losses([0], graph=False), rtol=1e-5, atol=0)


def test_several_at_once_equal_one_at_a_time() -> None:
    together = losses([0, 1, 2], graph=True)
    for seed in (0, 1, 2):
        torch.testing.assert_close(together[:, seed], losses([seed], graph=True)[:, 0], rtol=1e-5, atol=0)


def test_fused_graph_stays_beside_the_eager_one() -> None:
    """Adam's first steps are as large where a gradient is rounding as elsewhere, so the two part from the second on."""
    fused, eager = losses([0], graph=True, fuse=True), losses([0], graph=False)
    torch.testing.assert_close(fused[:1], eager[:1], rtol=1e-5, atol=0)
    torch.testing.assert_close(fused[:3], eager[:3], rtol=5e-3, atol=0)
    assert fused[STEPS // 2 :].mean() == pytest.approx(eager[STEPS // 2 :].mean(), rel=0.02)


def test_fused_gradients_are_those_of_float64() -> None:
    def gradients(dtype: torch.dtype, fuse: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = VGG(38, batch_norm=False, residual=True).to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        logits = model.fuse(fuse)(images.to(dtype))
        F.cross_entropy(logits, labels).backward()
        return [p.grad.double() for p in model.parameters() if p.grad is not None]

    device = torch.device("cuda")
    config = RunConfig.named("vgg38_rc", dataset="synthetic")
    images, labels = next(evaluation_batches(load(config).to(device).train, 100))
    with Compute(device, "float32").process_settings():
        for ours, exact in zip(gradients(torch.float32, True), gradients(torch.float64, False), strict=True):
            assert (ours - exact).norm() < 2e-3 * exact.norm()


def test_resumed_run_equals_an_uninterrupted_one_to_rounding(tiny: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tiny, results=tmp_path / "stopped", device="cuda", progress=stop_in(2))
    resumed = train(tiny, results=tmp_path / "stopped", device="cuda")
    whole = train_together([tiny], results=tmp_path / "whole", device="cuda")[0]
    for column in ("train_loss", "validation_loss", "learning_rate"):
        assert resumed.metrics[column].tolist() == pytest.approx(whole.metrics[column].tolist(), rel=1e-3)
