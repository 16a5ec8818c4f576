"""Weights of the course's framework give the same logits in our network, and nothing but weights is read.

The framework's network stands here once more, written from its public structure (see `runs.imported_weights`), as it
is and with the blocks that its users add: an independent way from the same tensors to logits.
"""

import io
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vggkit.config import ConfigError
from vggkit.networks.vgg import VGG
from vggkit.runs import imported_weights
from vggkit.runs.files import ArtifactError
from vggkit.runs.imported_weights import import_weights
from vggkit.runs.store import find_runs, load_weights
from vggkit.study import CONFIGURATIONS

NETWORKS = {
    "vgg08": (0, False, False),
    "vgg38": (5, False, False),
    "vgg38_bn": (5, True, False),
    "vgg38_rc": (5, False, True),
    "vgg38_bn_rc": (5, True, True),
}


class Layers(nn.Module):
    """Holds a block's layers under the names that the framework gives them."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        self.layer_dict = nn.ModuleDict(layers)


class Framework(nn.Module):
    """The framework's ConvolutionalNetwork of three stages with `blocks` processing blocks each."""

    def __init__(self, blocks: int, norm: bool, shortcut: bool, filters: int = 32, norms: str = "bn_0 bn_1") -> None:
        super().__init__()
        self.blocks, self.shortcut, self.norms = blocks, shortcut, norms.split() if norm else []

        def block(bias: bool) -> Layers:
            convolutions = {f"conv_{i}": nn.Conv2d(filters, filters, 3, padding=1, bias=bias) for i in (0, 1)}
            return Layers(**convolutions, **{name: nn.BatchNorm2d(filters) for name in self.norms})

        entry = Layers(conv_0=nn.Conv2d(3, filters, 3, padding=1, bias=False), bn_0=nn.BatchNorm2d(filters))
        self.layer_dict = nn.ModuleDict({"input_conv": entry})
        for stage in range(3):
            for number in range(blocks):
                self.layer_dict[f"block_{stage}_{number}"] = block(bias=False)
            self.layer_dict[f"reduction_block_{stage}"] = block(bias=True)
        self.logit_linear_layer = nn.Linear(filters, 100)

    def layers(self, block: str) -> nn.ModuleDict:
        found = self.layer_dict[block]
        assert isinstance(found, Layers)
        return found.layer_dict

    def convolved(self, block: str, number: int, x: Tensor) -> Tensor:
        layers = self.layers(block)
        x = layers[f"conv_{number}"](x)
        return cast(Tensor, layers[self.norms[number]](x) if self.norms else x)

    def forward(self, x: Tensor) -> Tensor:
        entry = self.layers("input_conv")
        x = F.leaky_relu(entry["bn_0"](entry["conv_0"](x)))
        for stage in range(3):
            for number in range(self.blocks):
                name = f"block_{stage}_{number}"
                out = self.convolved(name, 1, F.leaky_relu(self.convolved(name, 0, x)))
                x = F.leaky_relu(out + x if self.shortcut else out)
            name = f"reduction_block_{stage}"
            x = F.avg_pool2d(F.leaky_relu(self.convolved(name, 0, x)), 2)
            x = F.leaky_relu(self.convolved(name, 1, x))
        return cast(Tensor, self.logit_linear_layer(F.avg_pool2d(x, x.shape[-1]).flatten(1)))


def drawn(blocks: int, norm: bool, shortcut: bool, seed: int = 0, **more: Any) -> Framework:
    """A network whose every tensor is its own, with BN statistics as after training."""
    torch.manual_seed(seed)
    network = Framework(blocks, norm, shortcut, **more)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if "running_mean" in name or name.endswith("bias"):
                tensor.normal_(0, 0.3)
            elif "running_var" in name or tensor.dim() == 1:
                tensor.uniform_(0.5, 1.5)
            elif tensor.dim() == 4:
                nn.init.kaiming_normal_(tensor, a=0.01)
            elif tensor.dim() == 0:
                tensor.fill_(47_500)
    return network.eval()


def checkpoint(state: dict[str, Tensor], prefix: str = "model.") -> dict[str, Any]:
    """What the framework saves after an epoch; its accuracies are numbers of numpy."""
    network = {prefix + name: tensor for name, tensor in state.items()}
    return {"network": network, "best_val_model_idx": 8, "best_val_model_acc": np.mean([0.25, 0.5]), "model_epoch": 9}


def packed(content: object, **how: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


@pytest.fixture
def keep(tmp_path: Path) -> Callable[..., Path]:
    """Imports a file's content, and returns where its weights are kept."""

    def call(content: bytes, configuration: str = "vgg08", **more: Any) -> Path:
        file = tmp_path / "train_model_9"
        file.write_bytes(content)
        return import_weights(file, name="alice", configuration=configuration, results=tmp_path / "results", **more)

    return call


@torch.inference_mode()
def differ(theirs: nn.Module, ours: nn.Module) -> float:
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    logits = theirs(images)
    assert logits.std() > 0.05  # else equality says nothing
    return float((logits - ours(images)).abs().max() / logits.abs().max())


# The same logits


@pytest.mark.parametrize("configuration", NETWORKS)
def test_logits_are_those_of_the_framework(configuration: str, keep: Callable[..., Path]) -> None:
    theirs = drawn(*NETWORKS[configuration])
    ours = VGG.from_run(keep(packed(checkpoint(theirs.state_dict())), configuration))
    assert differ(theirs, ours) < 1e-5
    assert not ours.training


def test_every_tensor_arrives_once(keep: Callable[..., Path]) -> None:
    state = drawn(5, True, True).state_dict()
    config, tensors = load_weights(keep(packed(checkpoint(state)), "vgg38_bn_rc", suite="mine", settings={"seed": 3}))
    assert (config.name, config.suite, config.seed) == ("vgg38_bn_rc", "mine", 3)
    assert len(tensors) == len(state)
    left = list(state.values())
    for name, tensor in tensors.items():
        found = [i for i, other in enumerate(left) if other.shape == tensor.shape and torch.equal(other, tensor)]
        assert found, name
        left.pop(found[0])
    assert left == []


KINDS: dict[str, Callable[[dict[str, Tensor]], bytes]] = {
    "several GPUs": lambda state: packed(checkpoint(state, "model.module.")),
    "a network on several GPUs": lambda state: packed({f"module.{name}": tensor for name, tensor in state.items()}),
    "the state alone": packed,
    "before torch 1.6": lambda state: packed(checkpoint(state), _use_new_zipfile_serialization=False),
    "older numpy": lambda state: KINDS["before torch 1.6"](state).replace(b"numpy._core", b"numpy.core"),
    "parameters": lambda state: packed(
        checkpoint({n: nn.Parameter(t, t.is_floating_point()) for n, t in state.items()})
    ),
}


@pytest.mark.parametrize("content", KINDS.values(), ids=KINDS)
def test_files_of_every_kind_are_read(content: Callable[..., bytes], keep: Callable[..., Path]) -> None:
    theirs = drawn(0, False, False)
    assert differ(theirs, VGG.from_run(keep(content(theirs.state_dict())))) < 1e-5


@pytest.mark.parametrize(
    "norms",
    ["bn0 bn1", "batch_norm_0 batch_norm_1", "batchnorm_0 batchnorm_1", "batch_norm1 batch_norm2", "BN_0 BN_1"],
)
def test_usual_names_of_batch_norm_are_known(norms: str, keep: Callable[..., Path]) -> None:
    theirs = drawn(5, True, False, norms=norms)
    assert differ(theirs, VGG.from_run(keep(packed(checkpoint(theirs.state_dict())), "vgg38_bn"))) < 1e-5


def test_file_says_that_it_was_imported(keep: Callable[..., Path]) -> None:
    import hashlib
    import json

    content = packed(checkpoint(drawn(0, False, False).state_dict()))
    kept = keep(content)
    raw = kept.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    card = json.loads(header["__metadata__"]["vggkit"])
    origin = {"name": "alice", "source_sha256": hashlib.sha256(content).hexdigest()}
    assert card["imported"] == {**origin, "configuration": "vgg08", "settings": {}}
    assert (card["epoch"], card["test_accuracy"], card["commit"]) == (None, None, None)
    assert kept == keep(content)  # once more, with nothing changed
    with pytest.raises(ArtifactError, match="holds other weights; choose another --name"):
        keep(packed(checkpoint(drawn(0, False, False, seed=1).state_dict())))
    assert kept.read_bytes() == raw
    assert find_runs(kept.parents[2]) == []


# What is refused


def saved(blocks: int, norm: bool, **more: Any) -> bytes:
    return packed(checkpoint(drawn(blocks, norm, False, **more).state_dict()))


class Bomb:
    """Runs code where it is unpickled."""

    ran = False

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return exec, ("from tests.runs import bomb",)


def spoilt(change: Callable[[dict[str, Any]], object]) -> Callable[[], bytes]:
    """The content of a VGG08's checkpoint, changed before it is saved."""

    def make() -> bytes:
        state = dict(drawn(0, False, False).state_dict())
        return packed(checkpoint(change(state) or state))  # type: ignore[arg-type]

    return make


def encrypted(content: bytes) -> bytes:
    """An archive whose list of files says that each wants a password."""
    changed = bytearray(content)
    for found in re.finditer(rb"PK\x01\x02", content):
        changed[found.start() + 8] |= 1
    return bytes(changed)


ENTRY = "layer_dict.input_conv.layer_dict.conv_0.weight"
EXTRA = "layer_dict.reduction_block_0.layer_dict.conv_2.weight"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: b"not torch's", "is damaged"),
        (lambda: packed(checkpoint({}))[:200], "is damaged (it is no file that torch.save wrote)"),
        (lambda: pickle.dumps({"network": {}}, protocol=4), "is damaged"),
        (lambda: saved(0, False).replace(b"PK\x01\x02", b"PK\x01\x09"), "is damaged (it is an archive that cannot be"),
        (lambda: encrypted(saved(0, False)), "is damaged (it is an archive that cannot be unpacked)"),
        (lambda: packed({"network": Bomb()}), "holds code ('exec'), which is not run"),
        (lambda: pickle.dumps(Bomb(), protocol=2), "holds code ('exec'), which is not run"),
        (lambda: packed(drawn(0, False, False)), "holds code ('"),
        (lambda: packed({"network": {}}), "holds no network's state"),
        (lambda: packed([1, 2]), "holds no network's state"),
        (lambda: packed({1: torch.ones(1)}), "holds no network's state"),
        (lambda: packed({"weights": {"a": torch.ones(1)}}), "'weights' is no tensor"),
        (spoilt(lambda s: {name: s[name] for name in s if name != ENTRY}), f"has no {ENTRY}, which vgg08 wants"),
        (spoilt(lambda s: s.update({EXTRA: torch.ones(1)})), "for which vgg08 has no place (1 such tensors)"),
        (spoilt(lambda s: s.update({ENTRY: s[ENTRY].double()})), "of type torch.float64; allowed: a dense tensor of"),
        (spoilt(lambda s: s.update({ENTRY: s[ENTRY].to_sparse()})), "allowed: a dense tensor of torch.float32"),
        (spoilt(lambda s: s.update({ENTRY: s[ENTRY].to("meta")})), "allowed: a dense tensor"),
        (spoilt(lambda s: s.update({ENTRY: s[ENTRY] * torch.nan})), f"{ENTRY} has values that are not finite"),
        (spoilt(lambda s: s.update({ENTRY: torch.ones(1).expand(10**6, 10**6)})), "is (1000000, 1000000); allowed: "),
        (spoilt(lambda s: s.update({ENTRY: 1.0})), "is no tensor"),
        (lambda: saved(0, False, filters=16), "is (16, 3, 3, 3); allowed: (32, 3, 3, 3)"),
        (lambda: saved(1, False), "of a network of 14 layers without BN; vgg08 has 8 layers without BN"),
        (lambda: saved(0, True), "of 8 layers with BN; vgg08 has 8 layers without BN"),
    ],
)
def test_anything_else_is_one_line_and_keeps_nothing(
    make: Callable[[], bytes], told: str, keep: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError) as error:
        keep(make())
    assert told in str(error.value) and "\n" not in str(error.value)
    assert "weights_only" not in str(error.value)  # nobody is advised to run the code
    assert not (tmp_path / "results").exists()


def test_network_that_the_framework_does_not_have_is_refused_in_one_line(keep: Callable[..., Path]) -> None:
    with pytest.raises(
        ConfigError, match=r"^skip_init: True is not allowed for imported weights; allowed: False"
    ) as error:
        keep(saved(5, False), configuration="vgg38_rc", settings={"skip_init": True})
    assert "\n" not in str(error.value)


def test_no_code_is_run(keep: Callable[..., Path], tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    class Touch:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return eval, (f"open({str(mark)!r}, 'w').close()",)

    contents = [packed({"network": {"a": Touch()}}), packed(Touch(), _use_new_zipfile_serialization=False)]
    contents += [
        pickle.dumps(Touch()),
        packed(checkpoint(drawn(0, False, False).state_dict()) | {"best_val_model_acc": Touch()}),
    ]
    for content in contents:
        with pytest.raises(ArtifactError):
            keep(content)
    assert not mark.exists()
    pickle.loads(contents[2])
    assert mark.exists()  # so that what was not run would have been seen


def test_archive_that_unpacks_to_more_is_refused(keep: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = packed(checkpoint(drawn(0, False, False).state_dict()))
    squeezed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(plain)) as source, zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    with pytest.raises(ArtifactError, match="is packed in another way"):
        keep(squeezed.getvalue())
    monkeypatch.setattr(imported_weights, "LARGEST_FILE", 100_000)
    with pytest.raises(ArtifactError, match="is too large; allowed: at most 100,000 bytes"):
        keep(plain)


@pytest.mark.parametrize(
    ("norms", "told"),
    [
        ("bn_0 batch_norm_0", "has 'layer_dict.block_0_0.layer_dict.bn_0.weight' under two names"),
        ("norm_a norm_b", "has no layer_dict.block_0_0.layer_dict.bn_0.weight, which vgg38_bn wants; it has '"),
        ("bn_0 bn_2", "has no layer_dict.block_0_0.layer_dict.bn_1.weight, which vgg38_bn wants; it has '"),
    ],
)
def test_names_of_batch_norm_that_say_no_place_are_refused(norms: str, told: str, keep: Callable[..., Path]) -> None:
    with pytest.raises(ArtifactError) as error:
        keep(packed(checkpoint(drawn(5, True, False, norms=norms).state_dict())), "vgg38_bn")
    assert told in str(error.value)


def test_batch_norm_in_processing_blocks_alone_is_refused(keep: Callable[..., Path]) -> None:
    state = drawn(5, True, False).state_dict()
    kept = {name: tensor for name, tensor in state.items() if "reduction" not in name or ".bn_" not in name}
    with pytest.raises(ArtifactError, match=r"has no layer_dict\.reduction_block_0\.layer_dict\.bn_0\.weight"):
        keep(packed(checkpoint(kept)), "vgg38_bn")


@pytest.mark.parametrize("configuration", ["vgg9", "VGG08"])
def test_configuration_must_be_known(configuration: str, keep: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="unknown configuration"):
        keep(b"x", configuration)


def test_networks_here_are_those_of_the_study() -> None:
    for name, (blocks, norm, shortcut) in NETWORKS.items():
        row = CONFIGURATIONS[name].settings
        assert (row["depth"], row["batch_norm"], row["residual"]) == (8 + 6 * blocks, norm, shortcut)
