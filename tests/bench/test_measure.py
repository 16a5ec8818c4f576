"""Measuring speeds: the operations and bytes behind the floor counted by hand, what is measured, and when it ends."""

import json
import multiprocessing
import os
import pickle
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vggkit.bench import measure
from vggkit.bench.process import ProcessError, in_own_process
from vggkit.config import RunConfig
from vggkit.networks import fused
from vggkit.training import compute

CPU = torch.device("cpu")

# The convolutions of VGG08, each as (input channels, pixels of an image); all have 32 filters of 3x3.
CONVOLUTIONS = [(3, 1024), (32, 1024), (32, 256), (32, 256), (32, 64), (32, 64), (32, 16)]


def test_operations_are_those_counted_by_hand() -> None:
    forward = sum(2 * 9 * channels * 32 * pixels for channels, pixels in CONVOLUTIONS)
    backward = 2 * forward - 2 * 9 * 3 * 32 * 1024  # the first convolution needs no gradient of its input, the images
    linear = 3 * 2 * 32 * 100
    assert measure.count_operations(RunConfig.named("vgg08")) == forward + backward + linear


def test_activations_are_those_counted_by_hand() -> None:
    moved = sum(
        pixels * (2 * channels + 2 * 32) for channels, pixels in CONVOLUTIONS
    )  # read, written; read again twice
    moved += sum(pixels * channels for channels, pixels in CONVOLUTIONS[1:])  # gradients of the inputs
    assert measure.count_activations(RunConfig.named("vgg08")) == moved


@pytest.mark.parametrize("emulated", [False, True])
def test_measurement_names_the_machine_and_compares_with_the_plain_loop(
    emulated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "MODELS", ("vgg08",))
    monkeypatch.setattr(fused, "available", lambda device: False)
    monkeypatch.setattr(compute, "bfloat16_ratio", lambda: 0.1 if emulated else 2.0)
    told: list[str] = []
    if emulated:  # a processor that has no instructions for bfloat16: it is not measured there
        expected = ["vggkit, float32"]
        monkeypatch.setattr(measure, "in_own_process", in_this_process)
    else:
        expected = ["vggkit, float32", "vggkit, bfloat16"]
        monkeypatch.setattr(measure, "in_own_process", made_up)
    measure.write(tmp_path / "bench.json", measure.measure(CPU, seconds=0.2, rounds=1, tell=told.append))
    measured = json.loads((tmp_path / "bench.json").read_text())
    plain, *ours = measured["rows"]
    assert plain["ratio"] == 1
    assert [row["loop"] for row in ours] == expected
    for row in ours:
        assert row["ratio"] == row["images_per_second"] / plain["images_per_second"]
        assert 0 < row["floor_share"] < 1
    assert "torch 2." in measured["machine"]
    assert measured["left_out"] == []
    assert any("--emulated" in line for line in told) == emulated


def in_this_process(function: Callable[..., Any], *arguments: Any, limit: float) -> Any:
    """Stands in for `in_own_process`, which would import torch anew; what is passed must survive pickling, as there."""
    function, arguments = pickle.loads(pickle.dumps((function, arguments)))
    return function(*arguments)


def made_up(function: Callable[..., Any], *arguments: Any, limit: float) -> Any:
    """Stands in for `in_own_process`: made-up speeds, and a made-up floor."""
    return 100.0 + arguments[0].fuse if function is measure._time else {"seconds": 0.001}


def test_emulated_precision_is_measured_on_request_and_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "available", lambda device: True)
    monkeypatch.setattr(compute, "bfloat16_ratio", lambda: 0.1)
    assert {way.precision for way in measure.ways(CPU)} == {"float32"}
    marked = [way for way in measure.ways(CPU, emulated=True) if way.precision == "bfloat16"]
    assert {way.title for way in marked} == {
        "vggkit, bfloat16 (emulated)",
        "vggkit, bfloat16 (emulated), fused",
    }


def test_way_without_an_answer_is_left_out_and_a_plain_loop_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "available", lambda device: False)
    monkeypatch.setattr(compute, "bfloat16_ratio", lambda: 2.0)

    def fails_where(wrong: Callable[[measure.Way], bool]) -> Callable[..., Any]:
        def call(function: Callable[..., Any], *arguments: Any, limit: float) -> Any:
            if function is measure._time and wrong(arguments[0]):
                raise ProcessError("no answer in 9 seconds")
            return made_up(function, *arguments, limit=limit)

        return call

    monkeypatch.setattr(measure, "in_own_process", fails_where(lambda way: way.precision == "bfloat16"))
    told: list[str] = []
    measured = measure.measure(CPU, 1.0, 2, told.append)
    assert {row["way"]["precision"] for row in measured["rows"]} == {"float32"}
    assert [item["model"] for item in measured["left_out"]] == list(
        measure.MODELS
    )  # told once, although there are two rounds
    assert "vgg08, vggkit, bfloat16: left out: no answer in 9 seconds" in told
    monkeypatch.setattr(measure, "in_own_process", fails_where(lambda way: way.plain))
    with pytest.raises(ProcessError, match=r"bench: vgg08, plain loop, float32: no answer in 9 seconds$"):
        measure.measure(CPU, 1.0, 1)


def test_process_that_does_not_answer_is_killed() -> None:
    with pytest.raises(ProcessError, match="no answer in 0 seconds"):
        in_own_process(time.sleep, 3600, limit=0)
    assert multiprocessing.active_children() == []


def test_process_answers_fails_or_dies() -> None:
    assert in_own_process(pow, 2, 5, limit=60) == 32
    with pytest.raises(ProcessError, match=r"^ValueError: invalid literal"):
        in_own_process(int, "x", limit=60)
    with pytest.raises(ProcessError, match="exit code 3"):
        in_own_process(os._exit, 3, limit=60)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(("seconds_of_smallest", "largest"), [(60.0, 128), (0.1, 256), (1e-9, 2048)])
def test_matrix_is_as_large_as_the_time_allows(
    seconds_of_smallest: float, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def clocked(call: Any, device: torch.device) -> float:
        sizes.append(len(call.args[0]))
        now[0] += seconds_of_smallest * (sizes[-1] / 128) ** 3
        return seconds_of_smallest * (sizes[-1] / 128) ** 3

    now = [0.0]
    monkeypatch.setattr(measure, "_seconds", clocked)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    rate = measure._matrix_rate("bfloat16", CPU)
    assert max(sizes) == largest
    assert rate == pytest.approx(2 * 128**3 / seconds_of_smallest)
    assert now[0] <= max(2 * measure.RATE_SECONDS, seconds_of_smallest)


def test_slow_machine_warms_up_for_as_long_as_it_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    now, steps = [0.0], 0

    def slow() -> Iterator[int]:
        nonlocal steps
        while True:
            now[0] += 30.0
            steps += 1
            yield 100

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    assert measure._rate(slow(), CPU, seconds=5.0) == pytest.approx(100 / 30)
    assert steps == 3  # two steps warm up, the third is timed


def test_hidden_instructions_are_found_missing_and_bench_leaves_bfloat16_out() -> None:
    # oneDNN has no bfloat16 in hardware below AVX512_CORE_BF16, whatever the processor has.
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("the variables hide instructions of x86 processors")
    hidden = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    code = (
        "import time, torch\nfrom vggkit.training import compute\nstart = time.thread_time()\n"
        "print(compute.emulates_bfloat16(torch.device('cpu')), time.thread_time() - start < 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=hidden, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
