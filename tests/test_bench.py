"""The counts behind the floor, by hand, and what a measurement holds."""

import json
from pathlib import Path

import torch

from vggkit import bench
from vggkit.config import RunConfig

# VGG08: convolutions as (input channels, pixels of input and output); all have 32 filters of 3x3.
CONVOLUTIONS = [(3, 1024), (32, 1024), (32, 256), (32, 256), (32, 64), (32, 64), (32, 16)]


def test_operations_are_those_counted_by_hand() -> None:
    forward = sum(2 * 9 * channels * 32 * pixels for channels, pixels in CONVOLUTIONS)
    backward = 2 * forward - 2 * 9 * 3 * 32 * 1024  # the images need no gradient
    linear = 3 * 2 * 32 * 100
    assert bench.count_operations(RunConfig.named("vgg08")) == forward + backward + linear


def test_activations_are_those_counted_by_hand() -> None:
    moved = sum(
        pixels * (2 * channels + 2 * 32) for channels, pixels in CONVOLUTIONS
    )  # read, written; read again twice
    moved += sum(pixels * channels for channels, pixels in CONVOLUTIONS[1:])  # gradients of the inputs
    assert bench.count_activations(RunConfig.named("vgg08")) == moved


def test_measurement_names_the_machine_and_compares_with_the_plain_loop(tmp_path: Path, monkeypatch) -> None:  # noqa: ANN001
    monkeypatch.setattr(bench, "MODELS", ("vgg08",))
    monkeypatch.setattr(bench.fused, "available", lambda device: False)
    bench.write(tmp_path / "bench.json", bench.measure(torch.device("cpu"), seconds=0.2, rounds=1))
    measured = json.loads((tmp_path / "bench.json").read_text())
    plain, *ours = measured["rows"]
    assert plain["ratio"] == 1
    assert [row["loop"] for row in ours] == ["vggkit, float32", "vggkit, bfloat16"]
    for row in ours:
        assert row["ratio"] == row["images_per_second"] / plain["images_per_second"]
        assert 0 < row["floor_share"] < 1
    assert "torch 2." in measured["machine"]
