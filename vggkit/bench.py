"""How fast training is: beside the loop that one would write first, and beside what the machine allows.

Every way is timed in a process of its own, in rounds, one after another within each round, so that
none inherits another's memory or thread settings and a machine's drift meets all of them. Ratios are
taken within a round; medians over the rounds are shown.
"""

import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from vggkit import fused, machine
from vggkit.artifacts import ArtifactError
from vggkit.compat import transforms
from vggkit.config import RunConfig
from vggkit.data import MEAN, PADDING, SIZE, STD, Images, load
from vggkit.folders import expanded
from vggkit.models import VGG
from vggkit.trainer import Trainer, capture, process_settings

MODELS = ("vgg08", "vgg38_bn_rc")
WARM_UP_STEPS = 5
MATRIX = 4096  # a square product of this size runs at the machine's rate
COPY_BYTES = 2**28  # large beside every cache


@dataclass(frozen=True)
class Way:
    """One way to train: the plain loop, or ours with what it can switch off; `runs` at once on a GPU."""

    model: str
    precision: str = "float32"
    plain: bool = False
    fuse: bool = False
    graph: bool = False
    runs: int = 1

    @property
    def title(self) -> str:
        if self.plain:
            return "plain loop, float32"
        extras = [", fused"] * self.fuse + [", graph"] * self.graph + [f", {self.runs} runs at once"] * (self.runs > 1)
        return f"vggkit, {self.precision}{''.join(extras)}"


def ways(device: torch.device) -> list[Way]:
    """What is compared on this device, the plain loop of each model first."""
    on_gpu = device.type == "cuda"
    fuse = (False, True) if fused.available(device) else (False,)
    chosen = []
    for model in MODELS:
        chosen.append(Way(model, plain=True))
        for precision in ("float32", *(["tf32"] if on_gpu else []), "bfloat16"):
            chosen += [Way(model, precision, fuse=f) for f in fuse]
            if on_gpu:
                chosen += [Way(model, precision, fuse=f, graph=True) for f in fuse]
                chosen += [Way(model, precision, fuse=fuse[-1], graph=True, runs=runs) for runs in (2, 5)]
    return chosen


def measure(
    device: torch.device, seconds: float, rounds: int, tell: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Images/s of each way, in each of `rounds`, timed for `seconds`; with the share of the floor. Tells of each."""
    chosen = ways(device)
    rates: dict[Way, list[float]] = {way: [] for way in chosen}
    for _ in range(rounds):
        for way in chosen:
            rates[way].append(_in_own_process(_time, way, str(device), seconds))
            tell(f"{way.model}, {way.title}: {rates[way][-1]:,.0f} images/s")
    floors = {
        key: _in_own_process(floor_seconds, *key, str(device))
        for key in dict.fromkeys((way.model, way.precision) for way in chosen)
    }
    rows = []
    for way in chosen:
        plain = next(p for p in chosen if p.plain and p.model == way.model)
        ratio = statistics.median(rate / base for rate, base in zip(rates[way], rates[plain], strict=True))
        rate = statistics.median(rates[way])
        floor = floors[way.model, way.precision]
        rows.append(
            {"model": way.model, "loop": way.title, "images_per_second": rate, "ratio": ratio, "rounds": rates[way]}
            | {"floor_share": rate * floor["seconds"], "floor": floor, "way": asdict(way)}
        )
    return {"batch_size": RunConfig().batch_size, "seconds": seconds, **_machine(device), "rows": rows}


def _in_own_process(function: Any, *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


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


def plain_steps(config: RunConfig, device: torch.device) -> Iterator[int]:
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
            yield config.batch_size


def own_steps(way: Way, device: torch.device) -> Iterator[int]:
    """The steps of `Trainer`, augmentation, gradient log and Adam included; yields the images of each."""
    config = RunConfig.named(way.model, dataset="synthetic", precision=way.precision)
    data = load(config).to(device)
    seeds = [RunConfig.from_dict(config.to_dict() | {"seed": seed}) for seed in range(way.runs)]
    trainers = [Trainer(config, data, device, fuse=way.fuse) for config in seeds]
    for trainer in trainers:
        trainer.begin_epoch(1)
    steps = capture(trainers).replay if way.graph else lambda: [trainer.step() for trainer in trainers]
    epoch = 0
    while True:
        epoch += 1
        for trainer in trainers:
            trainer.begin_epoch(epoch)
        for _ in range(trainers[0].full_batches):
            steps()
            yield way.runs * config.batch_size


def _time(way: Way, device_name: str, seconds: float) -> float:
    """Images/s of one way: the median step on a CPU; on a GPU, which is not to be waited for, all steps."""
    device = torch.device(device_name)
    config = RunConfig.named(way.model, dataset="synthetic", precision=way.precision)
    if way.plain:
        return _rate(plain_steps(config, device), device, seconds)
    with process_settings(config, device):
        return _rate(own_steps(way, device), device, seconds)


def _rate(steps: Iterator[int], device: torch.device, seconds: float) -> float:
    for _ in range(WARM_UP_STEPS):
        next(steps)
    if device.type == "cuda":
        torch.cuda.synchronize()
    start, images = time.perf_counter(), 0
    times: list[float] = []
    while time.perf_counter() - start < seconds or not times:
        begun = time.perf_counter()
        images += next(steps)
        times.append(time.perf_counter() - begun)
    if device.type == "cuda":
        torch.cuda.synchronize()
        return images / (time.perf_counter() - start)
    return images / len(times) / statistics.median(times)


def floor_seconds(model: str, precision: str, device_name: str) -> dict[str, float]:
    """The least time that one image of a training step can take here, from two counts and two measured rates.

    Operations: those of convolutions and the linear layer, forward and backward, over the rate of a
    large matrix product. Bytes: each convolution's input read and output written in the forward pass,
    its output gradient and input read and its input gradient written in the backward pass, as if all
    that lies between two convolutions were fused into them, over the rate of a large copy.
    """
    device = torch.device(device_name)
    config = RunConfig.named(model, dataset="synthetic", precision=precision)
    with process_settings(config, device):
        flops, size = count_operations(config), 2 if precision == "bfloat16" else 4
        moved = count_activations(config) * size
        flops_rate, bytes_rate = _matrix_rate(precision, device), _copy_rate(device)
    arithmetic, memory = flops / flops_rate, moved / bytes_rate
    return {
        "operations": flops, "bytes": moved, "operations_per_second": flops_rate, "bytes_per_second": bytes_rate,
        "seconds": max(arithmetic, memory),
    }  # fmt: skip


def count_operations(config: RunConfig) -> int:
    """Floating-point operations of one image in a training step, two for each multiply-add."""
    model = VGG.from_config(config)
    images = torch.zeros(2, 3, SIZE, SIZE)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(images), torch.zeros(2, dtype=torch.int64)).backward()
    return counter.get_total_flops() // 2


def count_activations(config: RunConfig) -> int:
    """Numbers that the convolutions of one image must move, see `floor_seconds`."""
    model, moved = VGG.from_config(config), 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        x = inputs[0]
        moved += x.numel() + output.numel()  # forward
        moved += output.numel() + x.numel() + (x.numel() if x.requires_grad else 0)  # backward; images need none

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    model(torch.zeros(2, 3, SIZE, SIZE))
    return moved // 2


def _matrix_rate(precision: str, device: torch.device) -> float:
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    size = MATRIX if device.type == "cuda" else MATRIX // 2
    a = torch.randn(size, size, device=device, dtype=dtype)
    return 2 * size**3 / _best(lambda: a @ a, device)


def _copy_rate(device: torch.device) -> float:
    source = torch.ones(COPY_BYTES, device=device, dtype=torch.uint8)
    target = torch.ones_like(source)
    return 2 * COPY_BYTES / _best(lambda: target.copy_(source), device)


def _best(call: Any, device: torch.device, repeats: int = 10) -> float:
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    times = []
    for _ in range(repeats + 2):
        wait()
        start = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - start)
    return min(times[2:])


def _machine(device: torch.device) -> dict[str, Any]:
    described = machine.describe(device)
    title = f"{described['device']}, {described['threads']} threads, torch {described['versions']['torch']}"
    return {"machine": title, "versions": described["versions"], "commit": described["commit"]}


def write(path: Path, measured: dict[str, Any]) -> None:
    """Write what `measure` returned as JSON, in one step."""
    path = expanded(path)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(measured, indent=2) + "\n")
    partial.replace(path)


def check_writable(path: Path) -> None:
    """Raise ArtifactError unless a file can be written at `path`."""
    path = expanded(path)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.is_dir():
            raise IsADirectoryError(21, "Is a directory")
    except OSError as error:
        raise ArtifactError(
            f"json: cannot write {path} ({error.strerror}); name a file in a folder that is there"
        ) from error
