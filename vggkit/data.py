"""Images: CIFAR-100 or a synthetic stand-in, held as uint8 and augmented in whole batches.

Images stay integers, (N, 32, 32, 3), until a batch is used; a batch (B, 3, 32, 32) comes out in
channels_last layout, the one in which convolutions are fastest.
"""

import functools
import hashlib
import os
import tarfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from http.client import HTTPException
from io import StringIO
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import Tensor

from vggkit import compat
from vggkit.config import DATASETS, IMAGE_SIZE, NUM_CLASSES, OneLineError, RunConfig
from vggkit.folders import DATA_VARIABLE, data_folder, data_is_named, exists

# The constants that are common in code for CIFAR, taken over from the report's framework, so that the networks
# see what the report's saw. CIFAR-100's own are about 0.507, 0.487, 0.441 and 0.267, 0.256, 0.276.
MEAN = (0.4914, 0.4822, 0.4465)  # subtracted from the channels red, green and blue, which lie in [0, 1]
STD = (0.2023, 0.1994, 0.2010)
PADDING = 4
SYNTHETIC = "train on --dataset synthetic, which needs no files"


class DataError(OneLineError):
    """The data set cannot be had; the message is one line that says what to do."""


@dataclass(frozen=True)
class Images:
    """Pixels (N, 32, 32, 3) uint8 and labels (N,) int64 of 0 to 99."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> "Images":
        return Images(self.pixels[index], self.labels[index])

    def to(self, device: torch.device) -> "Images":
        return Images(self.pixels.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Splits:
    """A data set's three parts, and a checksum of what is in them."""

    train: Images
    validation: Images
    test: Images
    checksum: str

    def to(self, device: torch.device) -> "Splits":
        return Splits(self.train.to(device), self.validation.to(device), self.test.to(device), self.checksum)


def load(config: RunConfig, folder: str | os.PathLike[str] | None = None) -> Splits:
    """The images a run trains, validates and tests on.

    CIFAR-100 is read from `folder`, else from the folder named by VGGKIT_DATA, else from data/ of the
    project. There alone, where nobody named a folder, it is downloaded where it is missing, and what
    an interrupted download left is completed; a folder that somebody named is only read.

    Raises:
        DataError: the files are missing or damaged, or the download failed.
    """
    if config.dataset == "synthetic":
        train, test = _synthetic()
    else:
        train, test = _cifar100(data_folder(folder), download=not data_is_named(folder))
    per_class = config.train_images_per_class or DATASETS[config.dataset].train
    kept, held_out = split(train.labels, config.split_seed, DATASETS[config.dataset].validation, per_class)
    parts = train[kept], train[held_out], test
    return Splits(*parts, checksum=_checksum(parts))


def split(labels: Tensor, split_seed: int, validation: int, train: int) -> tuple[Tensor, Tensor]:
    """Indices of `train` and `validation` images of each class, drawn by `split_seed`, in file order.

    The validation images do not depend on `train`, and fewer training images are a subset of more.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(split_seed))
    by_class = order[torch.argsort(labels[order], stable=True)].reshape(NUM_CLASSES, -1)
    held_out, kept = by_class[:, :validation], by_class[:, validation : validation + train]
    return kept.flatten().sort().values, held_out.flatten().sort().values


def _cifar100(root: Path, *, download: bool) -> tuple[Images, Images]:
    try:
        if download and _fault(root):
            _download(root)
        # The files are pickles, which run code when they are read: nothing is read before its sum holds.
        if fault := _fault(root):
            raise DataError(f"data: {fault}; {_remedy(root, download=download)}")
        parts = []
        for train in (True, False):
            source = compat.CIFAR100(root, train=train)
            parts.append(Images(torch.from_numpy(source.data), torch.tensor(source.targets)))
    except OSError as error:
        raise DataError(
            f"data: {root} cannot be read ({_reason(error)}); {_remedy(root, download=download)}"
        ) from error
    return parts[0], parts[1]


def _fault(root: Path) -> str | None:
    """What keeps the data set from being read from `root`, or None where it is whole."""
    files = root / compat.CIFAR100.base_folder
    if not (exists("data", files) or root.is_dir()):  # `exists` raises where a folder may not be read
        return f"no folder {root}"
    if not files.is_dir():
        return f"{files} is missing"
    name, fault = next(faulty_files(files), ("", ""))
    return f"{files / name} {fault}" if name else None


def faulty_files(files: Path) -> Iterator[tuple[str, str]]:
    """Each file of CIFAR-100 that is not whole in the folder `files`, by name, and what is the matter with it."""
    known = compat.CIFAR100
    sums = [*known.train_list, *known.test_list, [known.meta["filename"], known.meta["md5"]]]
    for name, md5 in sums:
        if not (files / name).is_file():
            yield name, "is missing"
        elif not compat.check_integrity(str(files / name), md5):
            yield name, f"is damaged (its MD5 is not {md5})"


def _remedy(root: Path, *, download: bool) -> str:
    """What the user can do about a fault, in the order of effort; never what has just been tried."""
    files, archive = root / compat.CIFAR100.base_folder, root / compat.CIFAR100.filename
    if files.exists():
        steps = [f"move {files} aside" + (" and try again" if download else " and put a whole copy in its place")]
    elif archive.is_file():
        steps = [f"unpack {archive} where it lies"]
    else:
        steps = []
    named = f"name a folder that holds {compat.CIFAR100.base_folder}/ by --data or {DATA_VARIABLE}"
    others = [] if download else ["leave both out to have it downloaded to data/ of the project"]
    return ", ".join([*steps, named, *others, f"or {SYNTHETIC}"])


def _download(root: Path) -> None:
    """Complete the data set in `root` from the archive beside it, which is downloaded unless it is there and whole."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".download.lock"), redirect_stdout(StringIO()):
            if _fault(root):  # another process may have completed it meanwhile, and may be reading it
                compat.download_and_extract_archive(
                    compat.CIFAR100.url, str(root), filename=compat.CIFAR100.filename, md5=compat.CIFAR100.tgz_md5
                )  # not compat.CIFAR100(root, download=True), which takes a folder without its file meta for whole
    except (OSError, HTTPException, RuntimeError, EOFError, tarfile.TarError) as error:
        raise DataError(
            f"data: CIFAR-100 could not be downloaded to {root} ({_reason(error)}); try again, put "
            f"{compat.CIFAR100.filename} from elsewhere into {root}, {_remedy(root, download=True)}"
        ) from error


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _synthetic(seed: int = 0) -> tuple[Images, Images]:
    """100 classes of striped images: 10 orientations x 10 colours, phase, contrast and noise drawn per image."""
    size = DATASETS["synthetic"]
    per_class = size.train + size.validation + size.test
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(NUM_CLASSES), per_class)
    angle = labels % 10 * (np.pi / 10)
    colour = labels // 10 * (2 * np.pi / 10)
    y, x = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE].astype(np.float32) / IMAGE_SIZE
    wave = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
    phase = rng.uniform(0, 2 * np.pi, (len(labels), 1, 1))
    stripes = np.sin(2 * np.pi * 4 * wave + phase).astype(np.float32)[..., None]
    tint = np.cos(colour[:, None] + np.array([0, 2, 4]) * np.pi / 3).astype(np.float32)[:, None, None]
    contrast = rng.uniform(20, 50, (len(labels), 1, 1, 1)).astype(np.float32)
    noise = rng.standard_normal((len(labels), IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.float32)
    pixels = (128 + contrast * stripes + 40 * tint + 20 * noise).clip(0, 255).astype(np.uint8)
    images = Images(torch.from_numpy(pixels), torch.from_numpy(labels))
    first_test = NUM_CLASSES * (size.train + size.validation)
    return images[torch.arange(first_test)], images[torch.arange(first_test, len(labels))]


def _checksum(parts: tuple[Images, ...]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.pixels.numpy().tobytes())
        digest.update(part.labels.numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class EpochPlan:
    """One epoch's random draws, each (N,): the order of the images, crop offsets 0 to 8, and flips.

    Drawn on the CPU from (seed, epoch) alone: every device sees the same batches, and a resumed
    run draws what the uninterrupted one would have drawn.
    """

    order: Tensor
    top: Tensor
    left: Tensor
    flip: Tensor

    @classmethod
    def draw(cls, images: int, seed: int, epoch: int) -> "EpochPlan":
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(images, generator=generator)
        top, left = torch.randint(0, 2 * PADDING + 1, (2, images), generator=generator)
        flip = torch.randint(0, 2, (images,), generator=generator).bool()
        return cls(order, top, left, flip)

    def to(self, device: torch.device) -> "EpochPlan":
        return EpochPlan(*(t.to(device) for t in (self.order, self.top, self.left, self.flip)))

    def take(self, places: Tensor) -> "EpochPlan":
        """The draws at `places` (B,) of the order."""
        return EpochPlan(*(t[places] for t in (self.order, self.top, self.left, self.flip)))

    def copy_(self, other: "EpochPlan") -> None:
        """Take over another epoch's draws in place: a CUDA graph reads them where they were."""
        self.order.copy_(other.order)
        self.top.copy_(other.top)
        self.left.copy_(other.left)
        self.flip.copy_(other.flip)


def train_batch(images: Images, draws: EpochPlan) -> tuple[Tensor, Tensor]:
    """Augmented, normalised images (B, 3, 32, 32) with labels (B,), those that `draws` names."""
    pixels = augment(images.pixels[draws.order], draws.top, draws.left, draws.flip)
    return normalise(pixels), images.labels[draws.order]


def evaluation_batches(images: Images, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised batches in file order, without augmentation."""
    for pixels, labels in zip(images.pixels.split(batch_size), images.labels.split(batch_size), strict=True):
        yield normalise(pixels), labels


def augment(pixels: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """Crop (B, 32, 32, 3) at offsets `top`, `left` (B,) of the zero-padded images; mirror where `flip`.

    The same as torchvision's RandomCrop(32, padding=4) and RandomHorizontalFlip for these draws.
    """
    padded = F.pad(pixels, (0, 0, PADDING, PADDING, PADDING, PADDING))
    count, height, width, channels = padded.shape
    steps = torch.arange(IMAGE_SIZE, device=pixels.device)
    image = torch.arange(count, device=pixels.device)
    rows = image[:, None] * height + top[:, None] + steps
    columns = left[:, None] + torch.where(flip[:, None], IMAGE_SIZE - 1 - steps, steps)
    # One list of whole pixels to copy, which is several times faster than indexing by image, row and column.
    places = rows[:, :, None] * width + columns[:, None, :]
    return padded.view(-1, channels)[places.flatten()].view(count, IMAGE_SIZE, IMAGE_SIZE, channels)


def normalise(pixels: Tensor) -> Tensor:
    """(B, 32, 32, 3) uint8 to (B, 3, 32, 32) float32, (x / 255 - mean) / std, channels_last."""
    mean, std = _mean_and_std(pixels.device)
    return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2)


@functools.cache
def _mean_and_std(device: torch.device) -> tuple[Tensor, Tensor]:
    # Made once: a CUDA graph cannot record a copy from the host.
    return torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)
