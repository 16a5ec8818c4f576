"""Images come from the files whose sums were checked, and what is kept of a run is on the disk, not in a buffer."""

import hashlib
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vggkit.compat import CIFAR100
from vggkit.config import RunConfig
from vggkit.data import DataError, Splits, load
from vggkit.runs import store
from vggkit.runs.store import RunPaths
from vggkit.training.runner import train

PER_CLASS = {"train": 27, "test": 2}


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes small files in CIFAR-100's format whose MD5 sums are the expected ones, and names their folder.

    Before the sums are taken, `change` is given the content of each file by its name.
    """

    def write(change: Callable[[str, dict[str, Any]], None] = lambda name, content: None) -> Path:
        files = tmp_path / CIFAR100.base_folder
        files.mkdir(exist_ok=True)
        names = [f"class{number:02d}" for number in range(100)]
        contents: dict[str, dict[str, Any]] = {"meta": {"fine_label_names": names}}
        for seed, (name, per_class) in enumerate(PER_CLASS.items()):
            pixels = np.random.default_rng(seed).integers(0, 256, (100 * per_class, 3072), dtype=np.uint8)
            contents[name] = {"data": pixels, "fine_labels": list(range(100)) * per_class}
        sums = {}
        for name, content in contents.items():
            change(name, content)
            (files / name).write_bytes(pickle.dumps(content))
            sums[name] = hashlib.md5((files / name).read_bytes()).hexdigest()
        monkeypatch.setattr(CIFAR100, "train_list", [["train", sums["train"]]])
        monkeypatch.setattr(CIFAR100, "test_list", [["test", sums["test"]]])
        monkeypatch.setattr(CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names", "md5": sums["meta"]})
        return tmp_path

    return write


def loaded(folder: Path) -> Splits:
    return load(RunConfig(train_images_per_class=2), folder)


def test_each_part_comes_from_its_own_file_with_its_own_labels(cifar: Callable[..., Path]) -> None:
    splits = loaded(cifar())
    for name, parts in (("train", (splits.train, splits.validation)), ("test", (splits.test,))):
        rng = np.random.default_rng(["train", "test"].index(name))
        stored = rng.integers(0, 256, (100 * PER_CLASS[name], 3, 32, 32), dtype=np.uint8).transpose(0, 2, 3, 1)
        places = {image.tobytes(): place for place, image in enumerate(stored)}
        for part in parts:
            found = [places[image.tobytes()] for image in part.pixels.numpy()]
            assert [place % 100 for place in found] == part.labels.tolist()
            assert found == sorted(set(found))  # each image once, in the order of the file
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [200, 2500, 200]


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_one_changed_byte_of_any_file_is_refused(name: str, cifar: Callable[..., Path]) -> None:
    folder = cifar()
    file = folder / CIFAR100.base_folder / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=f"{name} is damaged"):
        loaded(folder)


def change_pixel(name: str, content: dict[str, Any]) -> None:
    if name == "test":
        content["data"][0, 0] ^= 1


def change_all_train_pixels(name: str, content: dict[str, Any]) -> None:
    if name == "train":
        content["data"] ^= 1


def exchange_labels(name: str, content: dict[str, Any]) -> None:
    if name == "test":
        content["fine_labels"][:2] = reversed(content["fine_labels"][:2])


@pytest.mark.parametrize("change", [change_pixel, change_all_train_pixels, exchange_labels])
def test_checksum_tells_other_pixels_and_labels_apart(
    change: Callable[[str, dict[str, Any]], None], cifar: Callable[..., Path]
) -> None:
    before = loaded(cifar()).checksum
    assert loaded(cifar()).checksum == before
    assert loaded(cifar(change)).checksum != before


def test_checksum_is_the_sha256_of_pixels_and_labels_of_each_part(tiny: RunConfig) -> None:
    splits = load(tiny)
    expected = hashlib.sha256()
    for part in (splits.train, splits.validation, splits.test):
        expected.update(part.pixels.numpy().tobytes() + part.labels.numpy().tobytes())
    assert splits.checksum == expected.hexdigest()


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    """The inodes of all files that have been brought to the disk."""
    inodes: set[int] = set()
    real = os.fsync

    def fsync(file: int) -> None:
        real(file)
        inodes.add(os.fstat(file).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    yield inodes


def test_every_file_of_a_run_is_on_the_disk_before_the_run_is_there(
    tiny: RunConfig, tmp_path: Path, synced: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = RunPaths.of(tmp_path, tiny)
    before: list[set[int]] = []
    real = os.rename

    def rename(source: Any, target: Any, **more: Any) -> None:
        if Path(target) == paths.folder:
            before.append(set(synced))
        real(source, target, **more)

    monkeypatch.setattr(os, "rename", rename)
    train(tiny, results=tmp_path)
    assert len(before) == 1
    assert {file.stat().st_ino for file in paths.folder.iterdir()} <= before[0]


def test_checkpoint_is_on_the_disk(tiny: RunConfig, tmp_path: Path, synced: set[int]) -> None:
    paths = RunPaths.of(tmp_path, tiny)
    with store.claim(paths):
        store.write_checkpoint(paths, {"config": tiny.to_dict(), "weight": torch.rand(3)})
    assert paths.checkpoint.stat().st_ino in synced


@pytest.mark.parametrize("bit", [0, 6])
def test_one_changed_bit_of_a_weight_is_refused(bit: int, tiny: RunConfig, trained: Path, tmp_path: Path) -> None:
    paths = RunPaths.of(tmp_path, tiny)
    shutil.copytree(RunPaths.of(trained, tiny).folder, paths.folder)
    file = paths.folder / store.WEIGHTS
    content = bytearray(file.read_bytes())
    content[-1] ^= 1 << bit  # a bit of a weight: file and shapes stay valid
    file.write_bytes(content)
    with pytest.raises(store.ArtifactError, match="damaged"):
        store.read_weights(paths)
