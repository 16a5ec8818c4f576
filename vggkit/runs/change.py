"""What training changed in a network: the artefact that `training.change` measures and the page on the cause draws.

results/change/seed-<n>.json    the runs of Table 1 with this seed that left their weights
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vggkit.config import RunConfig
from vggkit.folders import Given, exists
from vggkit.runs import schema
from vggkit.runs.by_seed import BySeed, checked_header, header_of
from vggkit.runs.files import ArtifactError
from vggkit.runs.records import Run
from vggkit.runs.select import is_full
from vggkit.runs.store import WEIGHTS, find_runs
from vggkit.study import CONFIGURATIONS, FULL

FOLDER = "change"


@dataclass(frozen=True)
class Change:
    """What training changed in one network, layer by layer from input to output.

    Attributes:
        images: how many synthetic images the network saw, in one batch, in training mode and float64.
        weights_sha256: checksum of the run's weights file: another one belongs to another run.
        displacement: L2 norm of the change of each layer's weights, from before the first step to after the last, over
            their norm before.
        before: of each layer's input, and of the logits, the standard deviation over images over the root mean square,
            in the network as its seed draws it.
        after: the same in the trained network.
    """

    images: int
    weights_sha256: str
    displacement: tuple[float, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]


@dataclass(frozen=True)
class Changes:
    """A measurement of the runs of one seed.

    Attributes:
        seed: of the runs.
        data_sha256: checksum of the synthetic data set, see `data.Splits`.
        networks: by the configuration's name.
        machine: what measured it, see `runs.provenance.describe`.
    """

    seed: int
    data_sha256: str
    networks: Mapping[str, Change]
    machine: Mapping[str, Any]


def _pack(measured: Changes) -> bytes:
    networks = {name: asdict(change) for name, change in measured.networks.items()}
    content = header_of(measured) | {"networks": networks}
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def _unpack(content: bytes) -> Changes:
    found = json.loads(content)
    header = checked_header("the file", found)
    schema.check_record("the file", found, {"networks": schema.RECORD})
    if unknown := set(found["networks"]) - set(CONFIGURATIONS):
        raise ValueError(f"it knows {', '.join(sorted(unknown))}, which the study does not")
    return Changes(**header, networks={name: _change(name, values) for name, values in found["networks"].items()})


def _change(name: str, values: Any) -> Change:
    rules = {"images": schema.COUNT, "weights_sha256": schema.SHA256}
    schema.check_record(name, values, rules | dict.fromkeys(("displacement", "before", "after"), schema.LIST))
    depth = RunConfig.named(name).depth
    parts = [tuple(map(float, values[name])) for name in ("displacement", "before", "after")]
    if [len(part) for part in parts] != [depth, depth + 1, depth + 1]:
        raise ValueError(f"{name} must have {depth} displacements, and shares for as many layers and for the logits")
    if not all(math.isfinite(number) and number >= 0 for part in parts for number in part):
        raise ValueError("its numbers must be finite and at least 0")
    return Change(values["images"], values["weights_sha256"], *parts)


FILES = BySeed[Changes](
    FOLDER,
    "json",
    "vggkit change --seed",
    pack=_pack,
    unpack=_unpack,
    settings=lambda measured: measured.data_sha256,
)
place, write, read = FILES.place, FILES.write, FILES.read


def of_run(run: Run, results: Given = None) -> Change | None:
    """What training changed in the network of a run of Table 1; None where nobody has measured it.

    Raises:
        ArtifactError: what is kept is damaged, or was measured on other weights than the run's.
    """
    seed, weights = run.config.seed, run.summary["files"].get(WEIGHTS)
    if weights is None or not exists("results", place(results, seed)):
        return None
    change = read(results, seed).networks.get(run.config.name)
    if change and change.weights_sha256 != weights:
        raise ArtifactError(
            f"results: {place(results, seed)} was measured on other weights of {run.config.name}; "
            f"measure it anew: {FILES.command} {seed}"
        )
    return change


def check_runs(results: Given, seed: int) -> None:
    """Raise ArtifactError if a network was measured on other weights than those of its run, where that is there."""
    for run in find_runs(results, FULL):
        if run.config.seed == seed and is_full(run):
            of_run(run, results)
