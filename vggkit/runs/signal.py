"""What passes through untrained networks: the artefact that `training.signal` measures and figures draw.

results/signal/seed-<n>.json
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vggkit.runs import schema
from vggkit.runs.by_seed import SEED, BySeed, check_newest
from vggkit.study import CONFIGURATIONS

FOLDER = "signal"
HEADER = {"seed": SEED, "images": schema.COUNT, "machine": schema.MACHINE}


@dataclass(frozen=True)
class NetworkSignal:
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
    networks: Mapping[str, NetworkSignal]
    machine: Mapping[str, Any]


def _unpack(content: bytes) -> Signal:
    found = json.loads(content)
    check_newest(found)
    networks = {str(name): _network(values) for name, values in found["networks"].items()}
    if missing := {"vgg08", "vgg38", "vgg38_bn", "vgg38_bn_rc"} - set(networks):
        raise ValueError(f"it knows no {', '.join(sorted(missing))}")
    if unknown := set(networks) - set(CONFIGURATIONS):
        raise ValueError(f"it knows {', '.join(sorted(unknown))}, which the study does not")
    schema.check_record("the file", found, HEADER)
    return Signal(found["seed"], found["images"], networks, found["machine"])


def _network(values: Any) -> NetworkSignal:
    found = NetworkSignal(
        tuple(map(float, values["deviation"])), tuple(map(float, values["error"])), float(values["spread"])
    )
    numbers = [*found.deviation, *found.error, found.spread]
    if not found.deviation or len(found.deviation) != len(found.error):
        raise ValueError("a network must have a deviation and an error for each convolution")
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise ValueError("its numbers must be finite and at least 0")
    return found


FILES = BySeed[Signal](
    FOLDER,
    "json",
    "vggkit signal --seed",
    pack=lambda signal: (json.dumps(asdict(signal), indent=1, allow_nan=False) + "\n").encode(),
    unpack=_unpack,
    settings=lambda signal: signal.images,
)
place, write, read = FILES.place, FILES.write, FILES.read
