"""The weights of a finished run, and whose they say they are."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from tests.runs.made import a_run, seal, weights_of
from tests.shared import ROOT
from vggkit.config import RunConfig
from vggkit.networks.vgg import VGG
from vggkit.runs import store, weights
from vggkit.runs.files import ArtifactError, RunPaths
from vggkit.runs.store import read_finished, read_weights


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_damaged_weights_stop_only_who_wants_them(keep: float, paths: RunPaths, tiny: RunConfig) -> None:
    file = paths.folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    assert read_finished(paths, tiny) is not None
    with pytest.raises(
        ArtifactError, match=rf"weights: {file} is damaged.*move it aside to .*the run's numbers stand without it"
    ) as error:
        read_weights(paths)
    assert "\n" not in str(error.value)


def test_weights_alone_may_be_missing(paths: RunPaths, tiny: RunConfig) -> None:
    (paths.folder / "weights.safetensors").unlink()
    assert read_finished(paths, tiny) is not None
    with pytest.raises(ArtifactError, match=r"^weights: "):
        read_weights(paths)


def test_weights_say_whose_they_are(paths: RunPaths, tiny: RunConfig, tmp_path: Path) -> None:
    with safe_open(paths.folder / "weights.safetensors", "pt") as file:
        card = json.loads(file.metadata()["vggkit"])
    assert RunConfig.from_dict(card["config"]) == tiny
    assert (card["name"], card["dataset"], card["test_accuracy"]) == (tiny.name, "synthetic", 0.125)
    assert card["commit"].startswith("b24ba16")
    alone = shutil.copy(paths.folder / "weights.safetensors", tmp_path / "alone.safetensors")
    for place in (alone, paths.folder, str(paths.folder)):
        model = VGG.from_run(place)
        assert not model.training
        state = model.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in weights_of(tiny).items())


def test_weights_files_are_the_same_bytes_each_time(paths: RunPaths, tiny: RunConfig) -> None:
    packed = {weights.pack(tiny, a_run(tiny).summary, weights_of(tiny)) for _ in range(5)}
    assert packed == {(paths.folder / "weights.safetensors").read_bytes()}


def reseal(folder: Path) -> None:
    """Compute all checksums of a run anew, as somebody would who changes files on purpose."""
    file = folder / "summary.json"
    summary = json.loads(file.read_text())
    summary["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in summary["files"]}
    seal(summary)
    file.write_text(json.dumps(summary))


@pytest.mark.parametrize("change", [{"batch_norm": True}, {"residual": True}, {"depth": 14}, {"seed": 1}])
@pytest.mark.parametrize("with_card", [True, False])
def test_weights_of_another_network_are_refused_in_one_line(
    with_card: bool, change: dict[str, Any], paths: RunPaths, tiny: RunConfig
) -> None:
    other = RunConfig.from_dict(tiny.to_dict() | change)
    tensors = weights_of(other)
    content = weights.pack(other, a_run(other).summary, tensors) if with_card else save(tensors)
    (paths.folder / "weights.safetensors").write_bytes(content)
    reseal(paths.folder)
    if not with_card and set(tensors) == set(weights_of(tiny)):
        VGG.from_run(paths.folder)  # without a card, only shapes can tell networks apart
        return
    for load in (lambda: VGG.from_run(paths.folder), lambda: read_weights(paths)):
        with pytest.raises(ArtifactError, match="another") as error:
            load()
        assert "\n" not in str(error.value)


def test_a_tensor_of_another_shape_is_named(paths: RunPaths, tiny: RunConfig) -> None:
    tensors = weights_of(tiny)
    tensors["classifier.weight"] = tensors["classifier.weight"][:10].clone()
    (paths.folder / "weights.safetensors").write_bytes(save(tensors))
    reseal(paths.folder)
    with pytest.raises(
        ArtifactError, match=r"'classifier.weight' is \(10, 32\) in the file, \(100, 32\) in the network"
    ):
        read_weights(paths)


def test_old_weights_without_a_card_load_through_their_run(paths: RunPaths, tiny: RunConfig, tmp_path: Path) -> None:
    (paths.folder / "weights.safetensors").write_bytes(save(weights_of(tiny)))
    reseal(paths.folder)
    assert torch.equal(VGG.from_run(paths.folder).classifier.bias, weights_of(tiny)["classifier.bias"])
    alone = shutil.copy(paths.folder / "weights.safetensors", tmp_path / "alone.safetensors")
    with pytest.raises(ArtifactError, match="does not say which network"):
        VGG.from_run(alone)


def test_readme_names_the_committed_weights_and_loads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text()
    snippet = next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "from_run" in block)
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    exec(snippet, names)
    assert names["model"](torch.zeros(2, 3, 32, 32)).shape == (2, 100)
    sentence = re.search(r"[^.]*weights[^.]* lie beside [^.]*\.", text, re.S)
    assert sentence
    named = set(re.findall(r"`(vgg\w+(?:-\w+)?)`", sentence[0]))
    assert named == {file.parts[-3] for file in ROOT.glob("results/table1/*/seed-0/weights.safetensors")}


@pytest.mark.parametrize("bit", [0, 6])
def test_one_changed_bit_of_a_weight_is_refused(bit: int, tiny: RunConfig, trained: Path, tmp_path: Path) -> None:
    paths = RunPaths.of(tmp_path, tiny)
    shutil.copytree(RunPaths.of(trained, tiny).folder, paths.folder)
    file = paths.folder / store.WEIGHTS
    content = bytearray(file.read_bytes())
    content[-1] ^= 1 << bit  # a bit of a weight: file and shapes stay valid
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match="damaged"):
        store.read_weights(paths)


def test_one_changed_bit_of_a_weights_file_alone_is_refused(paths: RunPaths, tmp_path: Path) -> None:
    alone = Path(shutil.copy(paths.folder / "weights.safetensors", tmp_path / "alone.safetensors"))
    content = bytearray(alone.read_bytes())
    content[-1] ^= 1
    alone.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"alone\.safetensors is damaged \(the checksum of its numbers differs\)"):
        store.load_weights(alone)
