"""What passes through untrained networks: the artefact that `training.signal` measures and figures draw.

results/signal/seed-<n>.json
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vggkit.config import OneLineError
from vggkit.folders import Given, exists, results_folder
from vggkit.runs.files import ArtifactError, cannot_write, reason, replace_file
from vggkit.study import CONFIGURATIONS

FOLDER = "signal"


@dataclass(frozen=True)
class Propagation:
    """What passes through one network, of every convolution in forward order.

    Attributes:
        deviation: standard deviation of its output over images (root mean square over channels and positions).
        error: L2 norm of the gradient of the mean cross-entropy with respect to the same output.
        spread: the largest range of a logit over the images, relative to the largest logit.
    """

    deviation: tuple[float, ...]
    error: tuple[float, ...]
    spread: float


@dataclass(frozen=True)
class Signal:
    """A measurement of several untrained networks on the same images.

    Attributes:
        seed: of the initial weights.
        images: how many synthetic images the networks saw, in training mode and float64.
        networks: by configuration.
        machine: what measured it, see `runs.provenance.describe`.
    """

    seed: int
    images: int
    networks: Mapping[str, Propagation]
    machine: Mapping[str, Any]


def place(results: Given, seed: int) -> Path:
    """The file of the measurement with this seed."""
    return results_folder(results) / FOLDER / f"seed-{seed}.json"


def write(signal: Signal, results: Given = None) -> Path:
    """Write the measurement, in one step, in place of an earlier one.

    Raises:
        ArtifactError: it cannot be written.
    """
    file = place(results, signal.seed)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, (json.dumps(asdict(signal), indent=1, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise cannot_write(file, error) from error
    return file


def read(results: Given = None, seed: int = 0) -> Signal:
    """The measurement with this seed.

    Raises:
        ArtifactError: there is none, or it is damaged; one line that says how to make it.
    """
    file = place(results, seed)
    remedy = f"measure it, which takes seconds: vggkit signal --seed {seed}"
    if not exists("results", file):
        raise ArtifactError(f"results: there is no {file}; {remedy}")
    try:
        content = json.loads(file.read_bytes())
        networks = {str(name): _propagation(values) for name, values in content["networks"].items()}
        signal = Signal(int(content["seed"]), int(content["images"]), networks, dict(content["machine"]))
        if missing := {"vgg08", "vgg38", "vgg38_bn", "vgg38_bn_rc"} - set(networks):
            raise ValueError(f"it knows no {', '.join(sorted(missing))}")
        if unknown := set(networks) - set(CONFIGURATIONS):
            raise ValueError(f"it knows {', '.join(sorted(unknown))}, which the study does not")
        if signal.seed != seed:
            raise ValueError(f"it is of seed {signal.seed}")
    except OneLineError:
        raise
    except (OSError, MemoryError) as error:
        raise ArtifactError(f"results: {file} cannot be read ({reason(error)}); mend it and call again") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"results: {file} is damaged ({reason(error)}); {remedy}") from error
    return signal


def _propagation(values: Any) -> Propagation:
    found = Propagation(
        tuple(map(float, values["deviation"])), tuple(map(float, values["error"])), float(values["spread"])
    )
    numbers = [*found.deviation, *found.error, found.spread]
    if not found.deviation or len(found.deviation) != len(found.error):
        raise ValueError("a network must have a deviation and an error for each convolution")
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise ValueError("its numbers must be finite and at least 0")
    return found
