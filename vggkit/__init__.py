"""Very deep plain networks, batch normalisation and residual connections: models, training, gradient flow.

What is used most is here, and is loaded when it is first used: torch alone takes seconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vggkit.config import RunConfig
    from vggkit.networks.vgg import VGG
    from vggkit.runs.store import find_runs, read_run
    from vggkit.training.runner import train

__version__ = "0.2.0"
__all__ = ["VGG", "RunConfig", "__version__", "find_runs", "read_run", "train"]

_HOMES = {
    "RunConfig": "vggkit.config",
    "VGG": "vggkit.networks.vgg",
    "find_runs": "vggkit.runs.store",
    "read_run": "vggkit.runs.store",
    "train": "vggkit.training.runner",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
