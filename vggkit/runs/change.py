"""What training changed in a network: the artefact that `training.change` measures and the page on the cause draws.

results/change/seed-<n>.json    the runs of Table 1 with this seed that left their weights
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vggkit.folders import Given
from vggkit.runs import schema
from vggkit.runs.by_seed import BySeed, checked_header, header_of
from vggkit.runs.files import ArtifactError
from vggkit.runs.records import Run
from vggkit.runs.store import WEIGHTS

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
    networks = {str(name): _change(values) for name, values in found["networks"].items()}
    return Changes(**checked_header("the file", found), networks=networks)


def _change(values: Mapping[str, Any]) -> Change:
    schema.check_record("a network", values, {"images": schema.COUNT, "weights_sha256": schema.SHA256})
    parts = [tuple(map(float, values[name])) for name in ("displacement", "before", "after")]
    if not parts[0] or len({len(parts[0]) + 1, *map(len, parts[1:])}) > 1:
        raise ValueError("a network must have a displacement for each layer, and a share for each and for the logits")
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
    seed, weights = run.config.seed, run.summary.get("files", {}).get(WEIGHTS)
    if weights is None or not place(results, seed).exists():
        return None
    change = read(results, seed).networks.get(run.config.name)
    if change and change.weights_sha256 != weights:
        raise ArtifactError(
            f"results: {place(results, seed)} was measured on other weights of {run.config.name}; "
            f"measure it anew: {FILES.command} {seed}"
        )
    return change
