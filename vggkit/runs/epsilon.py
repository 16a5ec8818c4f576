"""How far steps of Adam with one epsilon or another move the weights: the artefact that `training.epsilon` measures.

results/epsilon/seed-<n>.json
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vggkit.config import INITIALISATIONS, check_depth
from vggkit.folders import Given, exists, results_folder
from vggkit.runs import schema
from vggkit.runs.files import ArtifactError, cannot_write, reason, replace_file

FOLDER = "epsilon"
FORMAT = 1


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


def place(results: Given, seed: int) -> Path:
    """The file of the measurement with this seed."""
    return results_folder(results) / FOLDER / f"seed-{seed}.json"


def write(travel: Travel, results: Given = None) -> Path:
    """Write the measurement, in one step, in place of an earlier one; of its numbers six digits.

    Raises:
        ArtifactError: it cannot be written.
    """
    content = {"format": FORMAT} | {name: getattr(travel, name) for name in HEADER if name != "format"}
    content["arms"] = [
        arm._asdict() | {name: [float(f"{value:.6g}") for value in values] for name, values in asdict(found).items()}
        for arm, found in travel.arms.items()
    ]
    file = place(results, travel.seed)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, (json.dumps(content, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise cannot_write(file, error) from error
    return file


HEADER = {
    "format": schema.COUNT,
    "seed": schema.Rule("an integer of at least 0", lambda value: isinstance(value, int) and value >= 0),
    "steps": schema.COUNT,
    "batch": schema.COUNT,
    "data_sha256": schema.SHA256,
    "machine": schema.RECORD,
}


def read(results: Given = None, seed: int = 0) -> Travel:
    """The measurement with this seed.

    Raises:
        ArtifactError: there is none, or it is damaged; one line that says how to make it.
    """
    file = place(results, seed)
    remedy = f"measure it: vggkit propagation --seeds {seed}"
    if not exists("results", file):
        raise ArtifactError(f"results: there is no {file}; {remedy}")
    try:
        content = json.loads(file.read_bytes())
        schema.check_record("it", content, HEADER)
        if content["format"] > FORMAT:
            newer = f"of format {content['format']}, this vggkit knows {FORMAT}; use the version that wrote it"
            raise ArtifactError(f"results: {file} is {newer}")
        if content["seed"] != seed:
            raise ValueError(f"it is of seed {content['seed']}")
        arms = dict(_arm(found, content["steps"]) for found in content["arms"])
        if not arms:
            raise ValueError("it knows no network")
    except ArtifactError:
        raise
    except (OSError, MemoryError) as error:
        raise ArtifactError(f"results: {file} cannot be read ({reason(error)}); mend it and call again") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"results: {file} is damaged ({reason(error)}); {remedy}") from error
    return Travel(**{name: content[name] for name in HEADER if name != "format"}, arms=arms)


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


def read_all(results: Given = None) -> list[Travel]:
    """The measurements of all seeds that are there, at least one, in the order of their seeds.

    Raises:
        ArtifactError: there is none, one is damaged, or they are of different images or steps.
    """
    folder = place(results, 0).parent
    names = [file.stem.removeprefix("seed-") for file in folder.glob("seed-*.json")]
    seeds = sorted(int(name) for name in names if name.isdecimal())
    found = [read(results, seed) for seed in seeds or [0]]
    if len({(one.steps, one.batch, one.data_sha256) for one in found}) > 1:
        raise ArtifactError(f"results: {folder} holds measurements of different steps or images; remove some")
    return found
