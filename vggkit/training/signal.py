"""What passes through the networks of Table 1 before they are trained: what differs between images, and the error.

On synthetic images, in seconds; `propagation` measures networks of many depths on real ones, and more of each layer.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vggkit.config import RunConfig
from vggkit.data import evaluation_batches, load
from vggkit.networks.vgg import VGG
from vggkit.runs import provenance
from vggkit.runs.signal import NetworkSignal, Signal

NETWORKS = ("vgg08", "vgg38", "vgg38_bn", "vgg38_rc", "vgg38_bn_rc")
IMAGES = 10


def measure(seed: int = 0, images: int = IMAGES) -> Signal:
    """Measure the untrained networks of `seed` on synthetic images, in training mode.

    In float64, so that rounding hides nothing; the random generator is left as it was.

    Raises:
        ConfigError: the seed is unusable.
    """
    batch, labels = next(evaluation_batches(load(RunConfig(dataset="synthetic")).train, images))
    measured = {}
    for name in NETWORKS:
        with torch.random.fork_rng(devices=[]):
            config = RunConfig.named(name, seed=seed)
            torch.manual_seed(seed)
            measured[name] = of_network(VGG.from_config(config).double(), batch.double(), labels)
    return Signal(seed, images, measured, provenance.describe(torch.device("cpu")))


def of_network(model: nn.Module, images: Tensor, labels: Tensor) -> NetworkSignal:
    """What passes through a network, see `runs.signal.NetworkSignal`.

    Args:
        model: network in training mode.
        images: (N, 3, 32, 32).
        labels: (N,).
    """
    deviation: list[float] = []
    error: dict[int, float] = {}

    def watch(module: nn.Module, inputs: Any, output: Tensor) -> None:
        place = len(deviation)
        deviation.append(output.detach().std(dim=0).square().mean().sqrt().item())
        # Before the activation changes it in place: the hook gets the gradient for the value as it is now.
        output.register_hook(lambda gradient: error.update({place: gradient.norm().item()}))

    hooks = [part.register_forward_hook(watch) for part in model.modules() if isinstance(part, nn.Conv2d)]
    logits = model(images)
    for hook in hooks:
        hook.remove()
    F.cross_entropy(logits, labels).backward()
    spread = (logits.amax(0) - logits.amin(0)).max() / logits.abs().max()
    return NetworkSignal(tuple(deviation), tuple(error[place] for place in range(len(deviation))), spread.item())
