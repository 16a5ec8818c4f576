"""On a GPU: steps captured as a CUDA graph equal ordinary ones, and a stopped run goes on there."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.shared import stop_in
from vggkit.config import RunConfig
from vggkit.data import load
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
    fused, eager = losses([0], graph=True, fuse=True), losses([0], graph=False)
    torch.testing.assert_close(fused[:5], eager[:5], rtol=1e-3, atol=0)


def test_resumed_run_equals_an_uninterrupted_one_to_rounding(tiny: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tiny, results=tmp_path / "stopped", device="cuda", progress=stop_in(2))
    resumed = train(tiny, results=tmp_path / "stopped", device="cuda")
    whole = train_together([tiny], results=tmp_path / "whole", device="cuda")[0]
    for column in ("train_loss", "validation_loss", "learning_rate"):
        assert resumed.metrics[column].tolist() == pytest.approx(whole.metrics[column].tolist(), rel=1e-3)
