"""The machine and the versions that a measurement was made with, and which precisions it computes fast."""

import functools
import platform
import re
import subprocess
import time
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from vggkit.config import NUM_FILTERS
from vggkit.runs.schema import PLAIN

# A convolution of so many images of so many pixels a side; each needs about four times the one before.
SIZES = ((1, 16), (1, 32), (4, 32), (16, 32))
PASSES = 3  # the fastest counts: the first also makes the kernel
RATIO_SECONDS = 0.06  # of processor time, that finding out how fast a precision is may take
# Set between what one processor gave, busy with other work: 1.55 to 1.8 as it is (AVX512_BF16), and with
# instructions hidden by ONEDNN_MAX_CPU_ISA 0.45 to 0.67 (AVX512_CORE) and 0.11 to 0.15 (AVX2).
EMULATED_BELOW = 0.85


class PrecisionWarning(UserWarning):
    """The chosen precision is emulated on this machine, and so slower than float32."""


def describe(device: torch.device) -> dict[str, Any]:
    """Device, threads, versions and commit, for a summary; names no host, user or path."""
    names = ("torch", "torchvision", "numpy")
    versions = {"python": platform.python_version()} | {name: metadata.version(name) for name in names}
    return {"device": device_name(device), "threads": torch.get_num_threads(), "versions": versions, "commit": commit()}


def device_name(device: torch.device) -> str:
    """The processor's or GPU's name, of those characters alone that an artefact may hold."""
    return clean(_full_name(device))


def clean(text: str) -> str:
    """`text` without what `schema.TEXT` does not allow; "unknown" where nothing is left."""
    known = text.replace("\N{REGISTERED SIGN}", "(R)").replace("\N{TRADE MARK SIGN}", "(TM)")
    return " ".join(re.sub(f"[^{PLAIN}]", " ", known).split())[:200] or "unknown"


def _full_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of this code, with "+changes" where the library was changed since; None outside git."""
    here = Path(__file__).parent.parent  # the whole library, not this room alone

    def git(*arguments: str) -> str:
        call = ["git", "-C", str(here), *arguments]
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


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
            start = time.thread_time()
            both = [[_pass_seconds(images, side, bfloat16=fast) for fast in (False, True)] for _ in range(PASSES)]
            slow, fast = map(min, zip(*both, strict=True))
            ratio = slow / fast
            last = time.thread_time() - start
            spent += last
            if spent + 4 * last > RATIO_SECONDS:
                break
    finally:
        torch.set_num_threads(threads)
    return ratio


def _pass_seconds(images: int, side: int, *, bfloat16: bool) -> float:
    """Processor time of a convolution of ones, forward and backward: a random generator is left alone."""
    x = torch.ones(images, NUM_FILTERS, side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.ones(NUM_FILTERS, NUM_FILTERS, 3, 3, requires_grad=True)
    start = time.thread_time()
    with torch.enable_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        F.conv2d(x, weight, padding=1).sum().backward()
    return time.thread_time() - start


def emulates_bfloat16(device: torch.device) -> bool:
    """Whether this device has no instructions for bfloat16 and emulates it, slower than float32."""
    if device.type == "cuda":
        return not torch.cuda.is_bf16_supported(including_emulation=False)
    return bfloat16_ratio() < EMULATED_BELOW


def warn_of_emulation(precision: str, device: torch.device) -> None:
    """Warn with PrecisionWarning, in one line, where `precision` is emulated on this device."""
    if precision == "bfloat16" and emulates_bfloat16(device):
        speed = f"{bfloat16_ratio():.2f} times the speed of" if device.type == "cpu" else "less than the speed of"
        message = f"precision: bfloat16 is emulated on {device_name(device)}; a convolution runs at {speed} float32"
        warnings.warn(message, PrecisionWarning, stacklevel=3)
