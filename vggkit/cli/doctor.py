"""What this machine has for training: versions, processor, precisions, compiler, GPU, data, room for results.

Everything is looked up or measured when asked, within seconds; nothing is written but a file that is gone at once.
"""

import json
import os
import platform
import re
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from vggkit import folders
from vggkit.config import ConfigError
from vggkit.folders import Given, data_folder, results_folder
from vggkit.networks import fused
from vggkit.runs import provenance
from vggkit.training import compute

EXTRA = "book"
COMPILERS = ("g++", "clang++", "c++")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what it is.
        ok: whether it is as good as it can be; False for what costs time or must be mended.
        value: what was found, for a reader.
        details: the same for a program: numbers in the units that their names say.
    """

    name: str
    ok: bool
    value: str
    details: dict[str, Any]


def examine(results: Given = None, data: Given = None) -> list[Finding]:
    """Look at everything; `results` and `data` as in `folders`."""
    cpu = torch.device("cpu")
    return [
        Finding("Python", True, platform.python_version(), {"version": platform.python_version()}),
        Finding("torch", True, torch.__version__, {"version": torch.__version__}),
        Finding("processor", True, provenance.device_name(cpu), {"name": provenance.device_name(cpu)}),
        _threads(),
        _bfloat16(),
        _compiler(cpu),
        _gpu(),
        _data(data_folder(data)),
        *_results(results_folder(results)),
        _book_packages(),
    ]


def _threads() -> Finding:
    threads, cores = torch.get_num_threads(), os.cpu_count()
    return Finding("threads", True, f"{threads}, of {cores} cores", {"threads": threads, "cores": cores})


def _bfloat16() -> Finding:
    ratio = compute.bfloat16_ratio()
    emulated = compute.emulates_bfloat16(torch.device("cpu"))
    kind = "emulated, avoid it" if emulated else "in hardware"
    value = f"float32; bfloat16 {kind} ({ratio:.2f} times the speed of float32 in a convolution, measured now)"
    details = {"float32": "hardware", "bfloat16": "emulated" if emulated else "hardware", "bfloat16_ratio": ratio}
    return Finding("precisions", not emulated, value, details)


def _compiler(device: torch.device) -> Finding:
    compiler = next(filter(None, map(shutil.which, filter(None, (os.environ.get("CXX"), *COMPILERS)))), None)
    start = time.perf_counter()
    works = fused.available(device)
    seconds = time.perf_counter() - start
    found = f"C++ {compiler}" if compiler else "no C++ compiler: install g++"
    compiled = f"works ({seconds:.0f} s)" if works else "does not work: long runs train without it, slower"
    details = {"compiler": compiler, "torch_compile": works}
    return Finding("compiler", works, f"{found}; torch.compile {compiled}", details)


def _gpu() -> Finding:
    if not torch.cuda.is_available():
        return Finding("GPU", True, "none that torch can use: training is on the CPU", {"gpus": []})
    gpus, shown = [], []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        with torch.cuda.device(index):
            has = {"bfloat16": torch.cuda.is_bf16_supported(including_emulation=False), "tf32": properties.major >= 8}
        gpus.append({"name": properties.name, "memory_bytes": properties.total_memory, **has})
        missing = "".join(f", no {precision}" for precision, there in has.items() if not there)
        shown.append(f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB{missing}")
    return Finding("GPU", True, "; ".join(shown), {"gpus": gpus})


def _data(folder: Path) -> Finding:
    from vggkit.compat import CIFAR100
    from vggkit.data import faulty_files

    place = folder / CIFAR100.base_folder
    try:
        there = folders.exists("data", place)
    except ConfigError as error:
        return Finding("data", False, str(error), {"folder": str(folder), "found": False})
    bad = [name for name, _ in faulty_files(place)]
    state = "whole" if not bad else "not there" if not there else f"missing or damaged: {', '.join(bad)}"
    value = f"CIFAR-100 in {place}: {state}"
    return Finding("data", not bad, value, {"folder": str(folder), "found": not bad})


def _results(folder: Path) -> list[Finding]:
    """Whether a run can be left in the folder, which is not made for that, and the room on its disk."""
    around = (folder.absolute(), *folder.absolute().parents)
    try:
        existing = next(path for path in around if folders.exists("results", path))
    except ConfigError as error:
        return [Finding("results", False, str(error), {"folder": str(folder), "writable": False})]
    try:
        with tempfile.TemporaryFile(dir=existing):
            reason = ""
    except OSError as error:
        reason = error.strerror or str(error)
    state = f"cannot be written ({reason})" if reason else "can be written"
    free = shutil.disk_usage(existing).free
    return [
        Finding("results", not reason, f"{folder}: {state}", {"folder": str(folder), "writable": not reason}),
        Finding("free disk", True, f"{free / 2**30:.1f} GiB", {"bytes": free}),
    ]


def _book_packages() -> Finding:
    """The packages of the extra `book`, as this library's metadata names them."""
    wanted = [re.split(r"[^\w.-]", text)[0] for text in metadata.requires("vggkit") or [] if f'"{EXTRA}"' in text]
    versions: dict[str, str | None] = {}
    for name in wanted:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    missing = [name for name, version in versions.items() if version is None]
    value = ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())
    if missing:
        value += f"; pip install 'vggkit[{EXTRA}]'"
    return Finding("book packages", not missing, value, versions)


def lines(findings: list[Finding]) -> list[str]:
    """A line for each finding; "!" stands before what costs time or must be mended."""
    width = max(len(finding.name) for finding in findings)
    return [f"{' ' if finding.ok else '!'} {finding.name:{width}}  {finding.value}" for finding in findings]


def as_json(findings: list[Finding]) -> str:
    """An object with an entry for each finding: its `ok`, `value` and `details`."""
    named = {finding.name.lower().replace(" ", "_"): asdict(finding) for finding in findings}
    return json.dumps({key: {k: v for k, v in entry.items() if k != "name"} for key, entry in named.items()}, indent=2)
