"""The file of a network's weights: what it holds beside the tensors, and whose they are."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggkit.config import RunConfig
from vggkit.runs.files import ArtifactError, check_format, sha256
from vggkit.runs.records import Summary
from vggkit.runs.schema import FORMAT, parameter_shapes

if TYPE_CHECKING:
    import torch

CARD = "vggkit"  # of the file's metadata: one key alone, since safetensors writes several in random order


def pack(
    config: RunConfig,
    summary: Summary | None,
    tensors: Mapping[str, "torch.Tensor"],
    more: Mapping[str, Any] | None = None,
) -> bytes:
    """A safetensors file of `tensors` with their configuration and a short model card, with `more`, in its metadata.

    Without a summary nothing is known of their training.
    """
    from safetensors.torch import save

    card = {
        "format": FORMAT,
        "config": config.to_dict(),
        "name": config.name,
        "dataset": config.dataset,
        "epoch": summary["final"]["epoch"] if summary else None,
        "test_accuracy": summary["final"]["test_accuracy"] if summary else None,
        "commit": summary["commit"] if summary else None,
        **(more or {}),
    }
    on_cpu = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    card["sha256"] = sha256(_parts(save(on_cpu))[1])
    return save(on_cpu, metadata={CARD: json.dumps(card)})


def unpack(file: Path, content: bytes) -> tuple[RunConfig | None, dict[str, "torch.Tensor"]]:
    """The configuration, which files of older versions do not hold, and the tensors, of a file's content.

    Raises ArtifactError where a newer version wrote it, and whatever safetensors, json and RunConfig raise where the
    content is damaged.
    """
    from safetensors.torch import load

    tensors = load(content)
    header, numbers = _parts(content)
    card = json.loads(json.loads(header).get("__metadata__", {}).get(CARD, "null"))
    check_format(card, file, "weights")
    found = sha256(numbers)
    if card and card.get("sha256", found) != found:  # older files do not tell it
        raise ValueError("the checksum of its numbers differs")
    return (RunConfig.from_dict(card["config"]) if card else None), tensors


def _parts(content: bytes) -> tuple[bytes, bytes]:
    """The header, in JSON, and the numbers of a safetensors file, as its format defines them."""
    start = 8 + int.from_bytes(content[:8], "little")
    return content[8:start], content[start:]


def state_shapes(config: RunConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor of the network's state: its parameters, and what its BN layers keep."""
    expected = parameter_shapes(config)
    for name in list(expected):
        layer, _, part = name.rpartition(".")
        if ".bn" in layer and part == "weight":
            expected |= {f"{layer}.{kept}": expected[name] for kept in ("running_mean", "running_var")}
            expected[f"{layer}.num_batches_tracked"] = ()
    return expected


def check_network(where: object, config: RunConfig, tensors: Mapping[str, "torch.Tensor"]) -> None:
    """Raise ArtifactError, naming a tensor that differs, unless `tensors` are the state of this network."""
    expected = state_shapes(config)
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            one, other = (shapes.get(name, "missing") for shapes in (found, expected))
            raise ArtifactError(
                f"weights: {where} is of another network than {config.name}: {name!r} is {one} in the file, {other} in "
                "the network; give the weights of that network"
            )
