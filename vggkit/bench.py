"""How fast training is, beside the loop that one would write first; both timed in the same call."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from vggkit import machine
from vggkit.config import DATASETS, NUM_CLASSES, RunConfig
from vggkit.data import MEAN, PADDING, SIZE, STD, EpochPlan, Images, load, train_batches
from vggkit.models import VGG
from vggkit.training import Trainer, process_settings

MODELS = ("vgg08", "vgg38_bn_rc")
WARM_UP_STEPS = 3


class PlainDataset(Dataset):
    """Images one by one through torchvision's transforms, as most training scripts do it."""

    def __init__(self, images: Images) -> None:
        self.images = images
        steps = [transforms.RandomCrop(SIZE, padding=PADDING), transforms.RandomHorizontalFlip()]
        self.transform = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images.pixels[index].numpy())
        return self.transform(image), int(self.images.labels[index])


def measure(device: torch.device, seconds: float) -> dict[str, Any]:
    """Images/s of each model: the plain loop, then ours in each precision, each for `seconds`."""
    rows = []
    for name in MODELS:
        precisions = ["float32", *(["tf32"] if device.type == "cuda" else []), "bfloat16"]
        base = RunConfig.named(name, dataset="synthetic")
        plain = _rate(plain_steps(base, device), base.batch_size, seconds, device)
        rows.append({"model": name, "loop": "plain loop, float32", "images_per_second": plain, "ratio": 1.0})
        for precision in precisions:
            config = RunConfig.named(name, dataset="synthetic", precision=precision)
            with process_settings(config, device):
                rate = _rate(own_steps(config, device), config.batch_size, seconds, device)
            rows.append(
                {"model": name, "loop": f"vggkit, {precision}", "images_per_second": rate, "ratio": rate / plain}
            )
    return {"batch_size": base.batch_size, "seconds": seconds, **_machine(device), "rows": rows}


def plain_steps(config: RunConfig, device: torch.device) -> Iterator[None]:
    """DataLoader, transforms for each image, NCHW, float32, Adam as it comes, `.item()` at each step."""
    torch.manual_seed(0)
    model = VGG.from_config(config).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    workers = 8 if device.type == "cuda" else 0
    loader = DataLoader(
        PlainDataset(load(config).train), config.batch_size, shuffle=True, num_workers=workers, drop_last=True
    )
    while True:
        for images, labels in loader:
            loss = F.cross_entropy(model(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            yield


def own_steps(config: RunConfig, device: torch.device) -> Iterator[None]:
    """The steps of `Trainer`, gradient log and augmentation included."""
    data = load(config).to(device)
    trainer = Trainer(config, data, device)
    images = DATASETS[config.dataset].train * NUM_CLASSES
    epoch = 0
    while True:
        epoch += 1
        for batch, labels in train_batches(data.train, EpochPlan.draw(images, 0, epoch).to(device), config.batch_size):
            trainer.train_step(batch, labels)
            yield


def _rate(steps: Iterator[None], batch_size: int, seconds: float, device: torch.device) -> float:
    wait: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for _ in range(WARM_UP_STEPS):
        next(steps)
    wait()
    start, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds or not count:
        next(steps)
        wait()
        count += 1
        passed = time.perf_counter() - start
    return count * batch_size / passed


def _machine(device: torch.device) -> dict[str, Any]:
    described = machine.describe(device)
    title = f"{described['device']}, {described['threads']} threads, torch {described['versions']['torch']}"
    return {"machine": title, "versions": described["versions"], "commit": described["commit"]}


def write(path: Path, measured: dict[str, Any]) -> None:
    """Write what `measure` returned as JSON."""
    path.write_text(json.dumps(measured, indent=2) + "\n")
