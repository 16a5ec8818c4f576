"""How fast training is: beside the loop that one would write first, and beside what the machine allows.

Every way is timed in a process of its own, in rounds, one after another within each round, so that
none inherits another's memory or thread settings and a machine's drift meets all of them. Ratios are
taken within a round; medians over the rounds are shown. What is multiplied and copied for the floor is as
large as a time budget allows, and a process that has not answered by its deadline is killed.
"""

import functools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from vggkit.bench.process import ProcessError, in_own_process
from vggkit.compat import transforms
from vggkit.config import IMAGE_SIZE, RunConfig
from vggkit.data import MEAN, PADDING, STD, Images, load
from vggkit.folders import expanded
from vggkit.networks import fused
from vggkit.networks.vgg import VGG
from vggkit.runs import provenance
from vggkit.runs.files import keep_file
from vggkit.training import compute
from vggkit.training.compute import Compute
from vggkit.training.graph import capture
from vggkit.training.step import Trainer

MODELS = ("vgg08", "vgg38_bn_rc")
WARM_UP_STEPS = 5
MATRIX = 4096  # a square product of this size runs at the machine's rate; the largest that is tried
SMALLEST_MATRIX = 128
COPY_BYTES = 2**28  # large beside every cache
RATE_SECONDS = 2.0  # for finding one rate of the floor
REPEATS = 10
DEADLINE = 180.0  # seconds for starting a process, compiling and warming up, on the slowest machine


@dataclass(frozen=True)
class Way:
    """One way to train: the plain loop, or ours with what it can switch off; `runs` at once on a GPU."""

    model: str
    precision: str = "float32"
    plain: bool = False
    fuse: bool = False
    graph: bool = False
    runs: int = 1
    emulated: bool = False

    @property
    def title(self) -> str:
        if self.plain:
            return "plain loop, float32"
        extras = (
            [" (emulated)"] * self.emulated
            + [", fused"] * self.fuse
            + [", graph"] * self.graph
            + [f", {self.runs} runs at once"] * (self.runs > 1)
        )
        return f"vggkit, {self.precision}{''.join(extras)}"


def ways(device: torch.device, *, emulated: bool = False) -> list[Way]:
    """What is compared on this device, the plain loop of each model first; what it emulates only if `emulated`."""
    on_gpu = device.type == "cuda"
    fuse = (False, True) if fused.available(device) else (False,)
    slow = compute.emulates_bfloat16(device)
    precisions = {"float32": False} | ({"tf32": False} if on_gpu else {})
    if emulated or not slow:
        precisions["bfloat16"] = slow
    chosen = []
    for model in MODELS:
        chosen.append(Way(model, plain=True))
        for precision, mark in precisions.items():
            chosen += [Way(model, precision, fuse=f, emulated=mark) for f in fuse]
            if on_gpu:
                chosen += [Way(model, precision, fuse=f, graph=True, emulated=mark) for f in fuse]
                several = [Way(model, precision, fuse=fuse[-1], graph=True, runs=r, emulated=mark) for r in (2, 5)]
                chosen += several
    return chosen


def measure(
    device: torch.device,
    seconds: float,
    rounds: int,
    tell: Callable[[str], None] = lambda line: None,
    *,
    emulated: bool = False,
) -> dict[str, Any]:
    """Images/s of each way, in each of `rounds`, timed for `seconds`; with the share of the floor. Tells of each.

    A way that does not answer by the deadline is left out, and told. Precisions that this device emulates are
    measured only where `emulated` asks for it, and marked.

    Raises:
        ProcessError: a plain loop or a floor, which the others are compared with, could not be measured.
    """
    chosen = ways(device, emulated=emulated)
    if not emulated and compute.emulates_bfloat16(device):
        tell("bfloat16 is emulated on this machine, and left out: --emulated measures it too")
    rates: dict[Way, list[float]] = {way: [] for way in chosen}
    left_out: dict[Way, str] = {}
    for _ in range(rounds):
        for way in chosen:
            if way in left_out:
                continue
            title = f"{way.model}, {way.title}"
            try:
                rates[way].append(in_own_process(_time, way, str(device), seconds, limit=DEADLINE + 3 * seconds))
                tell(f"{title}: {rates[way][-1]:,.0f} images/s")
            except ProcessError as error:
                if way.plain:
                    raise ProcessError(f"bench: {title}: {error}") from error
                left_out[way] = str(error)
                tell(f"{title}: left out: {error}")
    kept = [way for way in chosen if way not in left_out]
    floors = {}
    for key in dict.fromkeys((way.model, way.precision) for way in kept):
        try:
            floors[key] = in_own_process(floor_seconds, *key, str(device), limit=DEADLINE)
        except ProcessError as error:
            raise ProcessError(f"bench: the floor of {key[0]} in {key[1]}: {error}") from error
    rows = []
    for way in kept:
        plain = next(p for p in kept if p.plain and p.model == way.model)
        ratio = statistics.median(rate / base for rate, base in zip(rates[way], rates[plain], strict=True))
        rate = statistics.median(rates[way])
        floor = floors[way.model, way.precision]
        rows.append(
            {"model": way.model, "loop": way.title, "images_per_second": rate, "ratio": ratio, "rounds": rates[way]}
            | {"floor_share": rate * floor["seconds"], "floor": floor, "way": asdict(way)}
        )
    reasons = [{"model": way.model, "loop": way.title, "reason": reason} for way, reason in left_out.items()]
    settings = {"batch_size": RunConfig().batch_size, "seconds": seconds}
    return settings | _machine(device) | {"rows": rows, "left_out": reasons}


class PlainDataset(Dataset[Any]):
    """Images one by one through torchvision's transforms, as most training scripts do it."""

    def __init__(self, images: Images) -> None:
        self.images = images
        steps = [transforms.RandomCrop(IMAGE_SIZE, padding=PADDING), transforms.RandomHorizontalFlip()]
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
    trainers = [Trainer(config, data, Compute(device, way.precision, way.fuse)) for config in seeds]
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
    with Compute(device, way.precision).process_settings():
        return _rate(own_steps(way, device), device, seconds)


def _rate(steps: Iterator[int], device: torch.device, seconds: float) -> float:
    start = time.perf_counter()
    for step in range(WARM_UP_STEPS):
        next(steps)
        if step and time.perf_counter() - start > seconds:  # the first may compile; after it, a slow machine is warm
            break
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
    with Compute(device, precision).process_settings():
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
    images = torch.zeros(2, 3, IMAGE_SIZE, IMAGE_SIZE)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(images), torch.zeros(2, dtype=torch.int64)).backward()
    return int(counter.get_total_flops()) // 2


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
    model(torch.zeros(2, 3, IMAGE_SIZE, IMAGE_SIZE))
    return moved // 2


def _matrix_rate(precision: str, device: torch.device) -> float:
    """Operations per second of a square product, of the largest size up to MATRIX that the budget allows."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    largest = MATRIX if device.type == "cuda" else MATRIX // 2
    size, end = SMALLEST_MATRIX, time.perf_counter() + RATE_SECONDS
    while True:
        a = torch.randn(size, size, device=device, dtype=dtype)
        product = functools.partial(torch.mm, a, a)
        seconds = _seconds(product, device)
        left = end - time.perf_counter()
        if size < largest and 8 * 2 * seconds < left:  # twice the size is eight times the work
            size *= 2
            continue
        repeats = max(0, min(REPEATS, int(left / seconds)))
        return 2 * size**3 / min([seconds, *(_seconds(product, device) for _ in range(repeats))])


def _copy_rate(device: torch.device) -> float:
    source = torch.ones(COPY_BYTES, device=device, dtype=torch.uint8)
    target = torch.ones_like(source)
    end = time.perf_counter() + RATE_SECONDS
    times: list[float] = []
    while len(times) < 2 or (len(times) < REPEATS and time.perf_counter() < end):
        times.append(_seconds(functools.partial(target.copy_, source), device))
    return 2 * COPY_BYTES / min(times)


def _seconds(call: Callable[[], Any], device: torch.device) -> float:
    """Time of one call, finished on the device."""
    wait: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - start


def _machine(device: torch.device) -> dict[str, Any]:
    described = provenance.describe(device)
    title = f"{described['device']}, {described['threads']} threads, torch {described['versions']['torch']}"
    return {"machine": title, "versions": described["versions"], "commit": described["commit"]}


def write(path: Path, measured: dict[str, Any]) -> None:
    """Write what `measure` returned as JSON, in one step.

    Raises:
        ArtifactError: it cannot be written.
    """
    path = expanded("json", path)
    keep_file(path, (json.dumps(measured, indent=2) + "\n").encode(), field="json")
