"""Weights of the course's framework as those of our network; `imported_summary` tells which framework that is.

Its files train_model_<epoch> hold {"network": state, "best_val_model_idx": ..., "best_val_model_acc": ...,
"model_epoch": ...}. The state is that of its ExperimentBuilder, so that each name begins with `model.`, or with
`model.module.` where it trained on several GPUs.

    layer_dict.input_conv.layer_dict.conv_0, .bn_0                  entry.conv, entry.bn
    layer_dict.block_<s>_<b>.layer_dict.conv_<i>, .bn_<i>           stages.stage<s+1>.block<b+1>.conv<i+1>, .bn<i+1>
    layer_dict.reduction_block_<s>.layer_dict.conv_<i>, .bn_<i>     stages.stage<s+1>.reduction.conv<i+1>, .bn<i+1>
    logit_linear_layer                                              classifier

Both networks compute the same from these: convolutions of 3x3 with biases in the reduction blocks alone, BN and
LeakyReLU of PyTorch's defaults, average pooling between the two convolutions of a reduction block after the activation,
and global average pooling. The framework itself has plain blocks only. Those with BN and shortcuts are its students'
own, and their names do not tell where these stand: `ASSUMED` is what we suppose, and evaluating the network shows
whether it was so.
"""

import io
import re
import warnings
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggkit.config import ConfigError, RunConfig
from vggkit.folders import Given, exists
from vggkit.runs.checkpoints import unpack as unpack_saved
from vggkit.runs.files import ArtifactError, cannot_write, make_folder, reason, replace_file, sha256
from vggkit.runs.imported import file_of, read_imported, read_source, told_config
from vggkit.runs.weights import pack, state_shapes

if TYPE_CHECKING:
    import torch

LARGEST_FILE = 64 * 2**20  # bytes, packed and unpacked; VGG38's state is 1.4 MB
LONGEST_SHOWN = 100  # letters
SUFFIX = ".safetensors"
ASSUMED = (
    "the names in the file do not tell where BN and shortcuts stand; supposed is: convolution, BN, activation, and the "
    "shortcut around both convolutions of a processing block, added before its last activation"
)
BN = re.compile(r"(.+\.layer_dict\.)(?:bn|batch_?norm)_?(\d)\.(\w+)", re.IGNORECASE)
"""How layers of BN are called: bn_0 as in the framework's entry block, else bn0, batch_norm_0, batchnorm1, ..."""

NAME = re.compile(
    r"layer_dict\.(input_conv|block_\d+_\d+|reduction_block_\d+)\.layer_dict\.(conv|bn)_[01]\.\w+|logit_linear_layer\.\w+"
)
"""Names of the framework, its blocks as our configurations have them."""


def import_weights(
    path: str | Path,
    *,
    name: str,
    configuration: str,
    suite: str = "course",
    settings: Mapping[str, Any] | None = None,
    results: Given = None,
) -> Path:
    """Read the framework's weights, and keep them as those of an imported run, for `networks.vgg.VGG.from_run`.

    Args:
        path: a file train_model_<epoch> of the framework, or one of a network's state alone.
        name: of the imported run; that of its summary, where that is imported too.
        configuration: which network it is, one of `study.CONFIGURATIONS`; shortcuts have no weights that would tell.
        suite: where it is kept.
        settings: further fields of `RunConfig`, as far as they are known.
        results: as in `folders`.

    Returns:
        The file of the weights.

    Raises:
        ConfigError: an argument is not allowed.
        ArtifactError: the file holds no such weights, or there are others of this name.
    """
    place = file_of(results, suite, name).with_suffix(SUFFIX)
    config = told_config(suite, configuration, settings or {})
    if config.skip_init:
        raise ConfigError(
            "skip_init: True is not allowed for imported weights; allowed: False, since no framework has it"
        )
    summary = file_of(results, suite, name)
    if exists("results", summary) and (told := read_imported(summary).configuration) not in (None, configuration):
        raise ConfigError(f"configuration: {configuration!r} is not allowed; allowed: {told}, as the summary of {name}")
    content = read_source(path, LARGEST_FILE)
    tensors = map_state(read_state(path, content), config, path)
    origin: dict[str, Any] = {
        "name": name,
        "source_sha256": sha256(content),
        "configuration": configuration,
        "settings": dict(settings or {}),
    }
    packed = pack(config, None, tensors, {"imported": origin})
    try:
        if place.exists() and place.read_bytes() != packed:
            raise ArtifactError(f"results: {place} holds other weights; choose another --name, or remove it first")
        make_folder("results", place.parent)
        replace_file(place, packed)
    except OSError as error:
        raise cannot_write(place, error) from error
    return place


class _Unread:
    """Takes the place of numpy's numbers in a file, such as the best accuracy: nothing of numpy is called."""

    def __init__(self, *content: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


NUMPY = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")


def read_state(path: str | Path, content: bytes) -> dict[str, "torch.Tensor"]:
    """The tensors of the network in a file's content, by the framework's names, without `model.` before them.

    Only tensors and plain values are read; a file that names any other class or function is refused.

    Raises:
        ArtifactError: the content is none of torch.save, holds code, or no network's state.
    """
    import torch

    allowed = "allowed: a file of the framework, or of torch.save(network.state_dict(), FILE)"
    _check_archive(path, content)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([(_Unread, name) for name in NUMPY]):
            warnings.simplefilter("ignore")
            found = unpack_saved(content)
    except (ValueError, MemoryError) as error:
        named = re.search(r"GLOBAL (\S+)", str(error.__cause__))  # in torch's words for what it does not run
        what = f"holds code ({_shown(named[1])}), which is not run" if named else f"is damaged ({reason(error)})"
        raise ArtifactError(f"file: {path} {what}; {allowed}") from error
    state = found.get("network", found) if isinstance(found, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(name, str) for name in state):
        raise ArtifactError(f"file: {path} holds no network's state; {allowed}")
    prefix = next(p for p in ("model.module.", "model.", "module.", "") if all(name.startswith(p) for name in state))
    tensors = {}
    for name, tensor in state.items():
        _check_tensor(path, name, tensor)
        tensors[name.removeprefix(prefix)] = tensor
    return tensors


def _check_archive(path: str | Path, content: bytes) -> None:
    """Refuse an archive that unpacks to more than it may: torch.save packs without compression."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return  # the format before torch 1.6, or nothing of torch's, which it tells itself
    if any(e.compress_type != zipfile.ZIP_STORED for e in entries) or sum(e.file_size for e in entries) > LARGEST_FILE:
        raise ArtifactError(f"file: {path} is packed in another way than torch.save packs, or unpacks to too much")


def _check_tensor(path: str | Path, name: str, tensor: object) -> None:
    import torch

    counts = name.endswith("num_batches_tracked")
    wanted = torch.int64 if counts else torch.float32
    shown = _shown(name)
    if not isinstance(tensor, torch.Tensor):
        raise ArtifactError(f"file: {path}: {shown} is no tensor; allowed: the state of a network alone")
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.dtype != wanted:
        raise ArtifactError(f"file: {path}: {shown} is of type {tensor.dtype}; allowed: a dense tensor of {wanted}")


def map_state(
    state: Mapping[str, "torch.Tensor"], config: RunConfig, path: str | Path = "the file"
) -> dict[str, "torch.Tensor"]:
    """The framework's tensors by our names, each used once and none left over.

    Raises:
        ArtifactError: they are not those of this configuration; the message names one that differs.
    """
    import torch

    given = _plain(state, path)
    _check_kind(given, config, path)
    mapped = {}
    for ours, shape in state_shapes(config).items():
        theirs = framework_name(ours)
        if theirs not in given:
            raise ArtifactError(f"file: {path} has no {theirs}, which {config.model} wants; {_also(given)}")
        tensor = given.pop(theirs)
        if tuple(tensor.shape) != shape:  # before anything is copied: a view may claim any size
            raise ArtifactError(
                f"file: {path}: {theirs} is {tuple(tensor.shape)}; allowed: {shape}, as in our {config.model}"
            )
        if not torch.isfinite(tensor).all():
            raise ArtifactError(f"file: {path}: {theirs} has values that are not finite; allowed: finite ones")
        mapped[ours] = tensor.detach().clone(memory_format=torch.contiguous_format)
    if given:
        raise ArtifactError(
            f"file: {path} has {_shown(next(iter(given)))}, for which {config.model} has no place "
            f"({len(given)} such tensors); allowed: the framework's blocks, whole"
        )
    return mapped


def framework_name(ours: str) -> str:
    """What the framework calls a tensor of our network."""
    parts = ours.split(".")
    if parts[0] == "classifier":
        return f"logit_linear_layer.{parts[1]}"
    if parts[0] == "entry":
        return f"layer_dict.input_conv.layer_dict.{parts[1]}_0.{parts[2]}"
    _, stage, block, layer, tensor = parts
    s, i = int(stage.removeprefix("stage")) - 1, int(layer[-1]) - 1
    place = f"reduction_block_{s}" if block == "reduction" else f"block_{s}_{int(block.removeprefix('block')) - 1}"
    return f"layer_dict.{place}.layer_dict.{layer[:-1]}_{i}.{tensor}"


def _plain(state: Mapping[str, "torch.Tensor"], path: str | Path) -> dict[str, "torch.Tensor"]:
    """The tensors with their block's layers of BN called bn_0 and bn_1, however it calls and counts them."""
    counted: dict[str, set[str]] = defaultdict(set)
    for name in state:
        if found := BN.fullmatch(name):
            counted[found[1]].add(found[2])
    plain = {}
    for name, tensor in state.items():
        if found := BN.fullmatch(name):
            block, number, part = found.groups()
            from_one = counted[block] == {"1", "2"}
            name = f"{block}bn_{int(number) - from_one}.{part}"
        if name in plain:
            raise ArtifactError(f"file: {path} has {_shown(name)} under two names; allowed: each tensor once")
        plain[name] = tensor
    return plain


def _check_kind(given: Mapping[str, object], config: RunConfig, path: str | Path) -> None:
    """Refuse another depth, or BN where there is none and the other way round, before single tensors are named."""
    if not all(NAME.fullmatch(name) for name in given):
        return  # then a name that is strange tells more
    blocks = {m[1] for name in given if (m := re.match(r"layer_dict\.block_(\d+_\d+)\.", name))}
    per_stage = Counter(block.split("_")[0] for block in blocks)
    depth = 8 + 6 * max(per_stage.values(), default=0)
    batch_norm = any(".bn_" in name and ".input_conv." not in name for name in given)
    found, wanted = (depth, batch_norm), (config.depth, config.batch_norm)
    if found != wanted:
        words = [f"{d} layers {'with' if bn else 'without'} BN" for d, bn in (found, wanted)]
        raise ArtifactError(
            f"configuration: {path} is of a network of {words[0]}; {config.model} has {words[1]}; allowed: a "
            "configuration of such a network"
        )


def _also(given: Iterable[str]) -> str:
    """What a missing tensor may be called in the file."""
    strange = [name for name in given if not NAME.fullmatch(name)]
    return f"it has {_shown(strange[0])} instead" if strange else "allowed: the framework's blocks, whole"


def _shown(name: str) -> str:
    """A name from the file, which may be of any length and any characters, for a message."""
    return repr(name if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]}...")
