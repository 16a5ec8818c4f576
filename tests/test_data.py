"""Splits, batches and augmentation, against torchvision and against what a draw determines."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.shared import FEW_IMAGES, ROOT
from vggkit import data
from vggkit.compat import transforms
from vggkit.config import RunConfig
from vggkit.data import EpochPlan, Images, Splits, augment, load, normalise, split, train_batch


def test_checksum_is_the_sha256_of_pixels_and_labels_of_each_part(tiny: RunConfig) -> None:
    splits = load(tiny)
    expected = hashlib.sha256()
    for part in (splits.train, splits.validation, splits.test):
        expected.update(part.pixels.numpy().tobytes() + part.labels.numpy().tobytes())
    assert splits.checksum == expected.hexdigest()


@pytest.mark.parametrize("drawn", ["order", "top", "left", "flip"])
def test_each_draw_of_an_epochs_plan_follows_seed_and_epoch(drawn: str) -> None:
    def values(seed: int, epoch: int) -> tuple[int, ...]:
        return tuple(getattr(EpochPlan.draw(100, seed, epoch), drawn).tolist())

    assert values(0, 1) == values(0, 1)
    assert len({values(seed, epoch) for seed in (0, 1) for epoch in (1, 2)}) == 4


def test_label_follows_its_image_through_the_epochs_order(tiny: RunConfig) -> None:
    # Each image has one colour, which tells its number. The centre of a crop is never padding.
    numbers = torch.arange(100, dtype=torch.uint8)
    images = Images(numbers[:, None, None, None].expand(100, 32, 32, 3).contiguous(), torch.arange(100))
    batch, labels = data.train_batch(images, EpochPlan.draw(100, 0, 1))
    colours = (batch[:, 0, 16, 16] * data.STD[0] + data.MEAN[0]) * 255
    assert labels.tolist() == colours.round().long().tolist()
    assert labels.tolist() != sorted(labels.tolist())


def test_batchs_crops_and_flips_are_those_of_its_images(synthetic: Splits) -> None:
    draws = EpochPlan.draw(100, 0, 1).take(torch.arange(25))
    batch, _ = data.train_batch(synthetic.train, draws)
    for place, (image, top, left, flip) in enumerate(zip(draws.order, draws.top, draws.left, draws.flip, strict=True)):
        pixels = torch.zeros(3, 40, 40, dtype=torch.uint8)
        pixels[:, 4:36, 4:36] = synthetic.train.pixels[image].permute(2, 0, 1)
        crop = pixels[:, top : top + 32, left : left + 32]
        crop = crop.flip(2) if flip else crop
        mean, std = (torch.tensor(values)[:, None, None] for values in (data.MEAN, data.STD))
        torch.testing.assert_close(batch[place], (crop / 255 - mean) / std)


def test_split_seed_draws_the_validation_images_and_the_seed_does_not(tiny: RunConfig) -> None:
    first, other, same = map(load, (tiny, replace(tiny, split_seed=1), replace(tiny, seed=1)))
    assert not torch.equal(first.validation.pixels, other.validation.pixels)
    assert torch.equal(first.test.pixels, other.test.pixels)
    assert torch.equal(first.validation.pixels, same.validation.pixels)


def test_environment_is_not_needed(monkeypatch: pytest.MonkeyPatch, tiny: RunConfig) -> None:
    monkeypatch.setitem(os.environ, "VGGKIT_DATA", "/nonexistent")
    assert len(load(tiny).train) == 100  # synthetic images need no folder of data


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
    assert abs(plan.flip.double().mean() - 0.5) < 0.006  # 3.6 standard deviations of a share of 90,000 fair flips


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


def test_synthetic_images_are_the_same_each_time_and_balanced(
    tiny: RunConfig, make_synthetic_images: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(tiny, train_images_per_class=2)
    first = load(config)
    monkeypatch.setattr(data, "_synthetic", make_synthetic_images)
    second = load(config)
    assert first.train.pixels.data_ptr() != second.train.pixels.data_ptr()
    assert first.checksum == second.checksum
    assert torch.equal(torch.bincount(first.train.labels), torch.full((100,), 2))
    assert torch.equal(torch.bincount(first.test.labels), torch.full((100,), FEW_IMAGES.test))


def test_normalisation_is_called_what_it_is_and_stated_as_it_is_done() -> None:
    page = " ".join((ROOT / "book/experiments.md").read_text().split())
    for constants in (data.MEAN, data.STD):
        assert ", ".join(f"{value:.4f}" for value in constants) in page
    assert "common in code for CIFAR" in page
    assert "mean and standard deviation of each channel" not in page


def test_normalisation_constants_are_not_the_images_own(cifar100_folder: Path) -> None:
    pixels = load(RunConfig(), cifar100_folder).train.pixels
    counts = torch.stack([torch.bincount(pixels[..., channel].flatten(), minlength=256) for channel in range(3)])
    shares, values = counts / counts[0].sum().double(), torch.arange(256).double() / 255
    mean = shares @ values
    std = (shares @ values**2 - mean**2).sqrt()
    torch.testing.assert_close(mean, torch.tensor([0.507, 0.487, 0.441]).double(), atol=2e-3, rtol=0)
    page = " ".join((ROOT / "book/experiments.md").read_text().split())
    for constants, own in ((data.MEAN, mean), (data.STD, std)):
        assert ", ".join(f"{value:.3f}" for value in own) in page
        assert max(abs(own - torch.tensor(constants))) > 0.005


def test_real_images_have_the_stated_counts(cifar100_folder: Path) -> None:
    splits = load(RunConfig(), cifar100_folder)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [47_500, 2_500, 10_000]
    assert torch.equal(torch.bincount(splits.validation.labels), torch.full((100,), 25))
