"""How far steps of Adam with one epsilon or another move the weights: the artefact that `training.epsilon` measures.

results/epsilon/seed-<n>.json
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from vggkit.config import INITIALISATIONS, check_depth
from vggkit.runs.by_seed import BySeed, checked_header, header_of

FOLDER = "epsilon"
COUNTS = ("steps", "batch")


class Arm(NamedTuple):
    """A plain network and the epsilon of its Adam."""

    depth: int
    initialisation: str
    epsilon: float


@dataclass(frozen=True)
class Movement:
    """What the steps did to one network; everything in float64.

    Attributes:
        moved: of the weights of each layer from input to output, L2 norm of their change over that of what they were.
        losses: mean cross-entropy of each step's batch, before the step.
        share_before: of the input of each layer, and of the logits, the share that differs between the first batch's
            images: its standard deviation over images over its root mean square.
        share_after: the same after the steps.
    """

    moved: tuple[float, ...]
    losses: tuple[float, ...]
    share_before: tuple[float, ...]
    share_after: tuple[float, ...]


@dataclass(frozen=True)
class Travel:
    """The movements of several networks of one seed on the same batches.

    Attributes:
        seed: of the initial weights, of the order of the images and of their augmentation.
        steps: how many.
        batch: images of each.
        data_sha256: checksum of the data set, see `data.Splits`.
        machine: what measured it, see `runs.provenance.describe`.
        arms: by network and epsilon.
    """

    seed: int
    steps: int
    batch: int
    data_sha256: str
    machine: Mapping[str, Any]
    arms: Mapping[Arm, Movement]


def _pack(travel: Travel) -> bytes:
    """The file's content; of its numbers six digits."""
    arms = [
        arm._asdict() | {name: [float(f"{value:.6g}") for value in values] for name, values in asdict(found).items()}
        for arm, found in travel.arms.items()
    ]
    return (json.dumps(header_of(travel, *COUNTS) | {"arms": arms}, allow_nan=False) + "\n").encode()


def _unpack(content: bytes) -> Travel:
    found = json.loads(content)
    header = checked_header("it", found, *COUNTS)
    arms = dict(_arm(arm, header["steps"]) for arm in found["arms"])
    if not arms:
        raise ValueError("it knows no network")
    return Travel(**header, arms=arms)


def _arm(found: Mapping[str, Any], steps: int) -> tuple[Arm, Movement]:
    arm = Arm(int(found["depth"]), str(found["initialisation"]), float(found["epsilon"]))
    check_depth(arm.depth)
    if arm.initialisation not in INITIALISATIONS or not 0 < arm.epsilon < 1:
        raise ValueError(f"it knows a network of initialisation {arm.initialisation!r} and epsilon {arm.epsilon!r}")
    lengths = {"moved": arm.depth, "losses": steps, "share_before": arm.depth + 1, "share_after": arm.depth + 1}
    values = {name: tuple(map(float, found[name])) for name in lengths}
    for name, count in lengths.items():
        if len(values[name]) != count or not all(math.isfinite(value) and value >= 0 for value in values[name]):
            raise ValueError(f"{name} must be {count} finite numbers of at least 0")
    return arm, Movement(**values)


FILES = BySeed[Travel](
    FOLDER,
    "json",
    "vggkit propagation --seeds",
    pack=_pack,
    unpack=_unpack,
    settings=lambda travel: (travel.steps, travel.batch, travel.data_sha256),
)
place, write, read, read_all = FILES.place, FILES.write, FILES.read, FILES.read_all
