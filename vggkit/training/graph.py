"""A step of several trainers as one call: on a GPU recorded as a CUDA graph and replayed.

A step at batch size 100 is about a thousand kernels, too small for Python to launch them as fast as they run.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from vggkit.training.step import Trainer

WARM_UP_STEPS = 3  # before a capture, as PyTorch's notes on CUDA graphs ask; their effect is undone


def one_step(trainers: Sequence[Trainer]) -> Callable[[], Any]:
    """A function that moves all `trainers` by one full batch: on a GPU the replay of a graph, else plain calls.

    In the graph the trainers are parallel branches: at batch size 100 one network leaves most of a
    GPU idle, so several of them run side by side.
    """
    if trainers[0].device.type != "cuda" or not trainers[0].full_batches:
        return lambda: [trainer.step() for trainer in trainers]
    return capture(trainers).replay


def capture(trainers: Sequence[Trainer]) -> "torch.cuda.CUDAGraph":
    """Record one step of all `trainers`, which are on one GPU, and leave their state as it was."""
    with torch.cuda.device(trainers[0].device):
        return _capture(trainers)


def _capture(trainers: Sequence[Trainer]) -> "torch.cuda.CUDAGraph":
    before = copies(trainers)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP_STEPS):
            for trainer in trainers:
                trainer.model.train()
                trainer.batch.zero_()
                trainer.step()
    torch.cuda.current_stream().wait_stream(side)
    restore(trainers, before)
    graph = torch.cuda.CUDAGraph()
    streams = [torch.cuda.Stream() for _ in trainers]
    with torch.cuda.graph(graph):
        main = torch.cuda.current_stream()
        for trainer, stream in zip(trainers, streams, strict=True):
            stream.wait_stream(main)
            with torch.cuda.stream(stream):
                trainer.step()
        for stream in streams:
            main.wait_stream(stream)
    return graph


def copies(trainers: Sequence[Trainer]) -> dict[int, Tensor]:
    """By each tensor's id, its value now."""
    return {id(tensor): tensor.detach().clone() for trainer in trainers for tensor in trainer.tensors()}


@torch.no_grad()
def restore(trainers: Sequence[Trainer], before: dict[int, Tensor]) -> None:
    """Put the values back in place, addresses kept; what did not exist before, Adam's state, becomes zero."""
    for trainer in trainers:
        for tensor in trainer.tensors():
            if id(tensor) in before:
                tensor.copy_(before[id(tensor)])
            else:
                tensor.zero_()
