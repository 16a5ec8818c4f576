"""The machine, the versions and the commit that a run or a measurement was made with."""

import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from vggkit.runs.records import Machine
from vggkit.runs.schema import PLAIN

if TYPE_CHECKING:
    import torch


def describe(device: "torch.device") -> Machine:
    """Device, threads, versions and commit, for a summary; names no host, user or path."""
    import torch  # here, as a page that cites its commit has no other use for it

    names = ("torch", "torchvision", "numpy")
    versions = {"python": platform.python_version()} | {name: metadata.version(name) for name in names}
    return {"device": device_name(device), "threads": torch.get_num_threads(), "versions": versions, "commit": commit()}


def device_name(device: "torch.device") -> str:
    """The processor's or GPU's name, of those characters alone that an artefact may hold."""
    return clean(_full_name(device))


def clean(text: str) -> str:
    """`text` without what `schema.TEXT` does not allow; "unknown" where nothing is left."""
    known = text.replace("\N{REGISTERED SIGN}", "(R)").replace("\N{TRADE MARK SIGN}", "(TM)")
    return " ".join(re.sub(f"[^{PLAIN}]", " ", known).split())[:200] or "unknown"


def _full_name(device: "torch.device") -> str:
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of this code, with "+changes" where it was changed since; None where it is in no repository."""
    here = Path(__file__).parent.parent  # the whole library, not this room alone

    def git(*arguments: str) -> str:
        call = ["git", "-C", str(here), *arguments]
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # else it is another project's commit
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
