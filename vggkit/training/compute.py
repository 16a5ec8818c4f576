"""Where and how a run computes: device, precision and fusing, resolved once and passed on."""

import contextlib
import ctypes
import functools
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from vggkit.config import NUM_FILTERS, ConfigError, RunConfig
from vggkit.networks import fused as fused_passes
from vggkit.runs import provenance
from vggkit.runs.store import ArtifactWarning

# Compiling takes some ten seconds on a CPU. A run of at least so many images x layers is that much faster for it.
WORTH_FUSING = 5_000_000
# Batches that precisions are timed on: number of images, and pixels on each side. Each takes about four times as
# long as the one before it.
SIZES = ((1, 16), (1, 32), (4, 32), (16, 32))
PASSES = 3  # of which the fastest counts, since the first also prepares the convolution
RATIO_SECONDS = 0.06  # processor time that may be spent on finding out how fast a precision is
# A precision counts as emulated where its speed, as a share of float32's, is below this. On one processor, measured
# beside other work, the share was 1.55 to 1.8 with its instructions for bfloat16 (AVX512_BF16), and with them hidden
# by ONEDNN_MAX_CPU_ISA 0.45 to 0.67 (AVX512_CORE) and 0.11 to 0.15 (AVX2): the limit lies between.
EMULATED_BELOW = 0.85


class PrecisionWarning(UserWarning):
    """The chosen precision is emulated on this machine, and so slower than float32."""


@dataclass(frozen=True)
class Compute:
    """What a run computes with.

    Attributes:
        device: where the network and the images lie.
        precision: arithmetic of the network, see `RunConfig.precision`.
        fused: whether BN, shortcut and activation are one compiled pass, see `networks.fused`.
    """

    device: torch.device
    precision: str = "float32"
    fused: bool = False

    @classmethod
    def resolve(cls, precision: str, device: str | torch.device | None = None) -> "Compute":
        """`precision` on `device`, by default a CUDA GPU where there is one, else the CPU; not fused.

        Raises:
            ConfigError: there is no such device, or it cannot compute in this precision.
        """
        chosen = choose_device(device)
        check_precision(precision, chosen)
        return cls(chosen, precision)

    def autocast(self) -> torch.autocast:
        """The arithmetic of the network, for a forward and backward pass."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")

    @contextlib.contextmanager
    def process_settings(self) -> Iterator[None]:
        """Settings of the whole process while a run trains; all but `keep_freed_memory` are as before at its end.

        Denormal numbers, which the squares of vanishing gradients in Adam become, are flushed to
        zero: a CPU computes with them many times slower. (The setting is each thread's own: torch's
        worker threads keep the one they were started with.) TF32 is on for `tf32` alone.
        """
        backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
        before, flushed = [backend.fp32_precision for backend in backends], _flushes_denormal()
        keep_freed_memory()
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.set_flush_denormal(True)
            for backend in backends:
                backend.fp32_precision = "tf32" if self.precision == "tf32" else "ieee"
            try:
                yield
            finally:
                torch.set_flush_denormal(flushed)
                for backend, precision in zip(backends, before, strict=True):
                    backend.fp32_precision = precision


def _flushes_denormal() -> bool:
    """Whether this thread takes denormal numbers for zero, of which torch tells nothing."""
    smallest = torch.full((1,), torch.finfo(torch.float32).tiny, dtype=torch.float32, device="cpu")
    return not (smallest * 0.5).item()


def choose_device(device: str | torch.device | None) -> torch.device:
    """The named device, by default a CUDA GPU where there is one, else the CPU.

    Raises:
        ConfigError: there is no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
        if chosen.type not in ("cpu", "cuda"):
            raise RuntimeError(f"{chosen.type} is not supported")
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device: {device!r} cannot be used; allowed: cpu, or cuda where there is a GPU") from error
    return chosen


def check_precision(precision: str, device: torch.device) -> None:
    """Raise ConfigError where the device cannot compute in `precision`."""
    if precision == "tf32" and device.type != "cuda":
        raise ConfigError("precision: 'tf32' is not allowed on the CPU; allowed: float32, bfloat16")


def worth_fusing(config: RunConfig, device: torch.device) -> bool:
    """Whether the run is long enough for compiling to pay, and torch.compile works here."""
    return config.train_images * config.epochs * config.depth >= WORTH_FUSING and fused_passes.available(device)


def fusing_as_begun(begun: bool, device: torch.device) -> bool:
    """Whether a run that was begun with fused passes, or without, can go on so; a warning where it cannot."""
    if begun and not fused_passes.available(device):
        told = "torch.compile does not work here: epochs from now on are not fused, and differ by rounding"
        warnings.warn(f"fuse: the run was begun with fused passes, but {told}", ArtifactWarning, stacklevel=3)
        return False
    return begun


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next tensor, for the rest of the process; elsewhere do nothing.

    By default it hands large blocks back to the system, and every step pays for having some 20,000
    pages of its activations mapped and cleared anew (8 % of a float32 step of VGG38).
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        # M_MMAP_THRESHOLD: take blocks up to 1 GiB from the heap; glibc before 2.35 allows 32 MiB at most.
        if not mallopt(-3, 2**30):
            mallopt(-3, 2**25)
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: shrink the heap only above 2 GiB of free memory


@functools.cache
def bfloat16_ratio() -> float:
    """Speed of a convolution in bfloat16 over that in float32 on the CPU, forward and backward: above 1 is faster.

    Flags of the processor do not say what the libraries make of it, so it is measured, in some tens of
    milliseconds: with images as large as that time allows, on one thread by the thread's own clock, which
    stands still while other processes run.
    """
    threads, spent, ratio = torch.get_num_threads(), 0.0, 1.0
    torch.set_num_threads(1)
    try:
        for images, side in SIZES:
            start = _now()
            both = [[_pass_seconds(images, side, bfloat16=fast) for fast in (False, True)] for _ in range(PASSES)]
            slow, fast = map(min, zip(*both, strict=True))
            ratio = slow / fast
            last = _now() - start
            spent += last
            if spent + 4 * last > RATIO_SECONDS:
                break
    finally:
        torch.set_num_threads(threads)
    return ratio


def _now() -> float:
    """Seconds of the thread's own clock; of the wall's on Windows, where a thread's moves in steps of 1/64 s."""
    return time.perf_counter() if sys.platform == "win32" else time.thread_time()


def _pass_seconds(images: int, side: int, *, bfloat16: bool) -> float:
    """Processor time of a convolution of ones, forward and backward: a random generator is left alone."""
    x = torch.ones(images, NUM_FILTERS, side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.ones(NUM_FILTERS, NUM_FILTERS, 3, 3, requires_grad=True)
    start = _now()
    with torch.enable_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        F.conv2d(x, weight, padding=1).sum().backward()
    return _now() - start


def emulates_bfloat16(device: torch.device) -> bool:
    """Whether this device has no instructions for bfloat16 and emulates it, slower than float32."""
    if device.type == "cuda":
        return not torch.cuda.is_bf16_supported(including_emulation=False)
    return bfloat16_ratio() < EMULATED_BELOW


def warn_of_emulation(compute: Compute) -> None:
    """Warn with PrecisionWarning, in one line, where the precision is emulated on this device."""
    device = compute.device
    if compute.precision == "bfloat16" and emulates_bfloat16(device):
        speed = f"{bfloat16_ratio():.2f} times the speed of" if device.type == "cpu" else "less than the speed of"
        name = provenance.device_name(device)
        message = f"precision: bfloat16 is emulated on {name}; a convolution runs at {speed} float32"
        warnings.warn(message, PrecisionWarning, stacklevel=3)
