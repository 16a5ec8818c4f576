"""A step that is recorded and played again: the recording leaves no trace."""

import contextlib
from dataclasses import replace

import pytest
import torch

from tests.shared import CPU, an_epoch
from vggkit.config import RunConfig
from vggkit.data import load
from vggkit.training.compute import Compute
from vggkit.training.graph import capture, copies, restore
from vggkit.training.step import Trainer


def test_warm_up_of_a_capture_leaves_no_trace(tiny: RunConfig) -> None:
    # `capture` trains some steps to warm up, then restores what they changed; this part of it needs no GPU.
    config = replace(tiny, depth=14)
    data = load(config)
    for epochs_before in (0, 1):
        touched, untouched = (
            Trainer(config, data, Compute(CPU, config.precision)),
            Trainer(config, data, Compute(CPU, config.precision)),
        )
        for epoch in range(1, epochs_before + 1):
            an_epoch(touched, epoch), an_epoch(untouched, epoch)
        before = copies([touched])
        touched.model.train()
        touched.batch.zero_()
        touched.step()
        assert any(not torch.equal(p, before[id(p)]) for p in touched.model.parameters())
        restore([touched], before)
        (metrics, values), (expected, expected_values) = (an_epoch(t, epochs_before + 1) for t in (touched, untouched))
        assert metrics == expected
        assert torch.equal(values, expected_values)


def test_capture_records_one_step_of_each_trainer_and_undoes_its_warm_up(
    tiny: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stand-ins for CUDA's streams and graph. A real capture only records the step; here it is carried out.
    events: list[str] = []
    recorded = object()

    class Stream:
        def wait_stream(self, other: object) -> None:
            events.append("wait")

    for name, value in {
        "Stream": Stream, "current_stream": Stream, "CUDAGraph": lambda: recorded,
        "device": lambda device: contextlib.nullcontext(),
        "stream": lambda stream: contextlib.nullcontext(), "graph": lambda graph: contextlib.nullcontext(),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    data = load(tiny)
    configs = [replace(tiny, seed=seed) for seed in (0, 1)]
    captured, stepped = (
        [Trainer(config, data, Compute(CPU, config.precision)) for config in configs] for _ in range(2)
    )
    for trainer in (*captured, *stepped):
        trainer.begin_epoch(1)
    assert capture(captured) is recorded
    for trainer in stepped:
        trainer.step()
    for first, second in zip(captured, stepped, strict=True):
        for mine, theirs in zip(first.tensors(), second.tensors(), strict=True):
            assert torch.equal(mine, theirs)
    assert len(events) == 2 + 2 * len(
        captured
    )  # before and after the warm-up, and before and after each trainer's step
