"""What vggkit uses of torchvision, whose import fails beside a CPU-only torch unless helped.

torchvision's ordinary wheel is built against CUDA. Beside a CPU-only torch its compiled operators
do not load, which torchvision tolerates, but it then registers shape functions for two of them,
and registering for an operator that nobody has defined is an error:

    RuntimeError: operator torchvision::nms does not exist

Defining the two names first, without any implementation, is all that is missing. Where the
compiled operators do load, they define the names themselves, and a second definition would be the
error; so this is tried only after a plain import has failed. vggkit uses torchvision's data sets
and transforms alone and never calls these operators.
"""

import importlib
import sys
from typing import Any

import torch

_MISSING_OPERATORS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def import_torchvision() -> None:
    """Import torchvision, defining the operators that its wheel could not load."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # what the failed import left half made
        for name, signature in _MISSING_OPERATORS.items():
            torch.library.define(f"torchvision::{name}", signature)
        importlib.import_module("torchvision")


_OF = {
    "transforms": "torchvision.transforms",
    "CIFAR100": "torchvision.datasets",
    "check_integrity": "torchvision.datasets.utils",
    "download_and_extract_archive": "torchvision.datasets.utils",
}
"""What this module offers, by where torchvision has it."""


def __getattr__(name: str) -> Any:
    """Import torchvision when something of it is first used: with all its models that takes as long as torch itself."""
    if name not in _OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_torchvision()
    module = importlib.import_module(_OF[name])
    return module if name == "transforms" else getattr(module, name)
