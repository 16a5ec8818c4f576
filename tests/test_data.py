"""Images against torchvision's own transforms, and damaged files that must never be unpickled."""

import pickle
from pathlib import Path

import pytest
import torch

from vggkit import data
from vggkit.compat import transforms
from vggkit.config import RunConfig
from vggkit.data import DataError, EpochPlan, augment, load, normalise, split, train_batch


def test_crops_and_flips_equal_torchvisions_for_the_same_draws() -> None:
    plan = EpochPlan.draw(64, seed=0, epoch=1)
    pixels = torch.randint(0, 256, (64, 32, 32, 3), dtype=torch.uint8)
    ours = augment(pixels, plan.top, plan.left, plan.flip)
    for i in range(64):
        padded = transforms.functional.pad(pixels[i].permute(2, 0, 1), 4)
        expected = transforms.functional.crop(padded, int(plan.top[i]), int(plan.left[i]), 32, 32)
        expected = transforms.functional.hflip(expected) if plan.flip[i] else expected
        assert torch.equal(ours[i].permute(2, 0, 1), expected)


def test_offsets_and_flips_are_uniform() -> None:
    plan = EpochPlan.draw(90_000, seed=0, epoch=1)
    for offsets in (plan.top, plan.left):
        counts = torch.bincount(offsets, minlength=9).double()
        assert len(counts) == 9
        assert ((counts - 10_000) ** 2 / 10_000).sum() < 26.1  # chi-square, 8 degrees, p = 0.001
    assert abs(plan.flip.double().mean() - 0.5) < 0.006  # 3.3 standard deviations and more


def test_normalisation_equals_torchvisions_and_is_channels_last() -> None:
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize(data.MEAN, data.STD)])
    batch = normalise(pixels)
    torch.testing.assert_close(batch, torch.stack([steps(image.numpy()) for image in pixels]))
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_every_image_is_seen_once_in_an_epoch_and_in_a_new_order_in_the_next(tiny: RunConfig) -> None:
    images = load(tiny).train
    numbered = data.Images(images.pixels, torch.arange(len(images)))
    orders = []
    for epoch in (1, 2):
        plan = EpochPlan.draw(len(images), 0, epoch)
        batches = torch.arange(len(images)).split(64)
        orders.append(torch.cat([train_batch(numbered, plan.take(places))[1] for places in batches]))
        assert sorted(orders[-1].tolist()) == list(range(len(images)))
    assert not torch.equal(*orders)


def test_split_has_exact_counts_of_each_class_and_fewer_images_are_a_subset() -> None:
    labels = torch.arange(100).repeat(500)[torch.randperm(50_000)]
    kept, held_out = split(labels, 0, 25, 475)
    assert torch.equal(torch.bincount(labels[kept]), torch.full((100,), 475))
    assert torch.equal(torch.bincount(labels[held_out]), torch.full((100,), 25))
    assert len(set(kept.tolist()) | set(held_out.tolist())) == 50_000
    fewer, same = split(labels, 0, 25, 158)
    assert torch.equal(same, held_out)
    assert set(fewer.tolist()) < set(kept.tolist())
    assert not torch.equal(split(labels, 1, 25, 475)[1], held_out)


def test_synthetic_images_are_the_same_each_time_and_balanced(tiny: RunConfig) -> None:
    first, second = load(tiny), load(tiny)
    assert first.checksum == second.checksum
    assert torch.equal(torch.bincount(first.train.labels), torch.full((100,), 2))
    assert torch.equal(torch.bincount(first.test.labels), torch.full((100,), 10))


class Trap:
    """A pickle that leaves a trace when somebody reads it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return Path.touch, (self.trace,)


def test_changed_files_are_refused_before_they_are_unpickled(tmp_path: Path) -> None:
    files = tmp_path / "cifar-100-python"
    files.mkdir()
    for name in ("train", "test", "meta"):
        (files / name).write_bytes(pickle.dumps(Trap(tmp_path / "trace")))
    with pytest.raises(DataError, match="is damaged") as error:
        load(RunConfig(), tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "trace").exists()


def test_missing_and_empty_folders_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .* VGGKIT_DATA"):
        load(RunConfig(), tmp_path / "nowhere")
    with pytest.raises(DataError, match="is missing"):
        load(RunConfig(), tmp_path)


def test_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **settings: object) -> None:
        raise OSError("no network")

    refuse.base_folder = "cifar-100-python"  # type: ignore[attr-defined]
    monkeypatch.setattr(data, "CIFAR100", refuse)
    monkeypatch.delenv("VGGKIT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"could not be downloaded .*no network.*synthetic"):
        load(RunConfig())


def test_real_images_have_the_stated_counts(cifar100_folder: Path) -> None:
    splits = load(RunConfig(), cifar100_folder)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [47_500, 2_500, 10_000]
    assert torch.equal(torch.bincount(splits.validation.labels), torch.full((100,), 25))
    pixels = splits.train.pixels.double() / 255
    torch.testing.assert_close(pixels.mean((0, 1, 2)), torch.tensor([0.507, 0.487, 0.441]).double(), atol=2e-3, rtol=0)


def test_truncated_real_file_is_refused(cifar100_folder: Path, tmp_path: Path) -> None:
    files = tmp_path / "cifar-100-python"
    files.mkdir()
    for name in ("train", "test", "meta"):
        content = (cifar100_folder / "cifar-100-python" / name).read_bytes()
        (files / name).write_bytes(content[:-1] if name == "test" else content)
    with pytest.raises(DataError, match="test is damaged"):
        load(RunConfig(), tmp_path)
