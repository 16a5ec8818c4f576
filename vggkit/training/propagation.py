"""What passes through untrained networks of many depths, for the chapter on the cause: features, errors, precision.

Every network sees one batch of real images, in training mode: BN takes its statistics from them, as in a
step of training. It is measured in float64, and once more in each precision in which networks are trained.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vggkit.config import DRAWN, ConfigError, RunConfig
from vggkit.data import Images, evaluation_batches, load
from vggkit.folders import Given
from vggkit.networks.vgg import VGG
from vggkit.runs import propagation as artefact
from vggkit.runs import provenance
from vggkit.runs.files import ArtifactError
from vggkit.runs.propagation import Measurement, Network
from vggkit.runs.schema import SIGNAL_IMAGES, SIGNAL_TYPES
from vggkit.training.compute import Compute

DEPTHS = (8, 14, 20, 26, 32, 38, 56, 74, 110)
IMAGES = SIGNAL_IMAGES
"""As many as runs log the signal of, so that what training made of it can be set beside what it began with."""
VARIANTS = ((False, False), (True, False), (False, True), (True, True))  # BN, RC


NETWORKS = [
    Network(depth, batch_norm, residual, initialisation)
    for depth in DEPTHS
    for batch_norm, residual in VARIANTS
    if depth > min(DEPTHS) or not residual
    for initialisation in DRAWN
]
"""What is measured with every seed, the shallow ones first; at depth 8 RC change nothing."""


def measure(
    seeds: Sequence[int], images: int = IMAGES, *, data: Given = None, results: Given = None
) -> Iterator[Measurement]:
    """Measure `NETWORKS` of each seed on the first training images; yield each measurement as it is kept.

    What is measured already of a seed is read: the same call goes on. A network is measured anew where `artefact.LATER`
    is missing. The machine that is told is the one that measured last.

    Raises:
        ConfigError: a seed or the number of images is unusable.
        DataError, ArtifactError: the images are missing, or what is kept is damaged or of other images; before any
            work is done.
    """
    for seed in seeds:
        RunConfig(seed=seed)
    if images < 2:
        raise ConfigError(f"images: {images!r} is not allowed; allowed: an integer of at least 2")
    splits = load(RunConfig(), data)
    if images > len(splits.train):
        raise ConfigError(f"images: {images!r} is not allowed; allowed: 2 to {len(splits.train)}")
    batch, labels = next(evaluation_batches(splits.train, images))
    kept = {seed: artefact.read(results, seed) for seed in seeds if artefact.place(results, seed).exists()}
    for seed, before in kept.items():
        if (before.images, before.data_sha256) != (images, splits.checksum):
            file, other = artefact.place(results, seed), f"other images ({before.images} images)"
            raise ArtifactError(f"results: {file} was measured on {other}; choose another results folder")
    for seed in seeds:
        found = kept.get(seed)
        if found is None:
            found = Measurement(seed, images, splits.checksum, {}, artefact.table({}))
        known = [Network(*row) for row in found.layers[[*Network._fields]].itertuples(index=False)]
        whole = {known[row] for row in np.flatnonzero(found.layers[artefact.LATER[0]].notna())}
        if missing := [network for network in NETWORKS if network not in whole]:
            layers = artefact.table({network: of_network(network, seed, batch, labels) for network in missing})
            older = found.layers[[network not in missing for network in known]]
            machine = provenance.describe(torch.device("cpu"))
            found = replace(found, machine=machine, layers=artefact.joined([older, layers]))
            artefact.write(found, results)
        yield found


def of_network(network: Network, seed: int, images: Tensor, labels: Tensor) -> list[dict[str, float]]:
    """What passes through one untrained network: `artefact.LAYER_STATISTICS` of each layer, and of the logits.

    The random generator is left as it was.

    Args:
        network: which one.
        seed: of its initial weights, which are those that training with this seed begins with.
        images: (N, 3, 32, 32) float32, N at least 2.
        labels: (N,).
    """
    cpu = torch.device("cpu")
    with Compute(cpu).process_settings():  # those of training, which leave the random generator as it was
        torch.manual_seed(seed)
        drawn = VGG(network.depth, network.batch_norm, network.residual, initialisation=network.initialisation)
        signs = torch.randint(0, 2, (len(images),)).double() * 2 - 1
        direction = torch.randn(drawn.classifier.out_features).double()
        exact, rounded = Pass(copy.deepcopy(drawn).double(), images.double(), labels), {}
        # Signs that average to 0, so that BN, which takes means over the batch away, does not take this sum away.
        tangents = exact.gradients(((exact.activations[-1] @ direction) * signs).sum())
        exact.backward()
        for precision in artefact.ROUNDED:
            with Compute(cpu, precision).autocast():
                rounded[precision] = Pass(copy.deepcopy(drawn), images, labels)
                rounded[precision].backward()
    rows = []
    for place, x in enumerate(exact.activations):
        row, differs = features(x.detach()), centred(x.detach())
        row["error"] = exact.errors[place].norm().item()
        row["error_correlation"] = mean_correlation(tangents[place].flatten(1) * signs[:, None])
        for precision, one in rounded.items():
            row[f"{precision}_features"] = cosine(centred(one.activations[place].detach().double()), differs)
        if place < len(exact.weights):
            weight = exact.weights[place].grad
            assert weight is not None
            row["weight_gradient"] = weight.abs().mean().item()
            for precision, one in rounded.items():
                gradient = one.weights[place].grad
                assert gradient is not None
                row[f"{precision}_gradient"] = cosine(gradient.double(), weight)
        rows.append(row)
    return rows


class Pass:
    """A pass through a network in training mode, with all that its layers are given.

    Attributes:
        activations: input of each convolution and of the linear layer, and the logits, from input to output.
        errors: gradient of the mean cross-entropy with respect to each of these, after `backward`.
        weights: the weight tensors of the same layers, with their gradients after `backward`.
    """

    def __init__(self, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        self.activations: list[Tensor] = []
        self.errors: list[Tensor] = []
        layers = [part for part in model.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
        self.weights = [layer.weight for layer in layers]

        def watch(module: nn.Module, inputs: Any) -> None:
            self.activations.append(inputs[0])

        hooks = [layer.register_forward_pre_hook(watch) for layer in layers]
        # The images are a tensor of their own, so that the caller's gets no gradient.
        logits = model(images.clone(memory_format=torch.channels_last).requires_grad_())
        for hook in hooks:
            hook.remove()
        self.activations.append(logits)
        self.loss = F.cross_entropy(logits, labels)

    def shares(self) -> tuple[float, ...]:
        """Of each of the activations the share that differs between images: deviation over root mean square.

        It is 0 where all is 0, and not a number where an activation is not finite.
        """
        found = [x.detach() for x in self.activations]
        return tuple((_between_images(x) / _size(x).clamp_min(torch.finfo(x.dtype).tiny)).item() for x in found)

    def gradients(self, scalar: Tensor) -> Sequence[Tensor]:
        """The gradient of `scalar`, made of the logits, by each of the activations."""
        return torch.autograd.grad(scalar, self.activations, retain_graph=True)

    def backward(self) -> None:
        """Fill `errors` and the weights' gradients, once."""
        for x in self.activations:
            x.retain_grad()
        self.loss.backward()
        for x in self.activations:
            assert x.grad is not None
            self.errors.append(x.grad)


def watched(model: VGG, images: Images, count: int = SIGNAL_IMAGES) -> Pass:
    """A pass of the first `count` images through a copy of the network, in float64 and without dropout.

    It is in training mode: BN takes its statistics from these images.
    """
    copied = copy.deepcopy(model).fuse(False).double().train()
    copied.dropout.eval()
    batch, labels = next(evaluation_batches(images, count))
    return Pass(copied, batch.double(), labels)


def signal_frame(history: Tensor, last: int) -> pd.DataFrame:
    """The shares of the epochs up to `last`, (epochs, layers and logits), as a row for each of both.

    Columns: epoch; layer, convolutions and the linear layer from 1 and then the logits; share, see `Pass.shares`.
    """
    epochs, places = history.shape
    index = [range(last - epochs + 1, last + 1), range(1, places + 1)]
    frame = pd.MultiIndex.from_product(index, names=["epoch", "layer"]).to_frame(index=False)
    return frame.assign(share=history.where(history.isfinite(), torch.nan).flatten().numpy()).astype(SIGNAL_TYPES)


def displacement(before: Sequence[Tensor], after: Sequence[Tensor]) -> tuple[float, ...]:
    """For each of a network's weight tensors the L2 norm of its change over its norm before, computed in float64."""
    pairs = [(old.detach().double(), new.detach().double()) for old, new in zip(before, after, strict=True)]
    return tuple(((new - old).norm() / old.norm()).item() for old, new in pairs)


def features(x: Tensor) -> dict[str, float]:
    """How large features are and how much of them differs between images; see `artefact.LAYER_STATISTICS`.

    Args:
        x: (N, C, ...) float64 of N images, at least 2, in C channels.
    """
    return {
        "size": _size(x).item(),
        "between_images": _between_images(x).item(),
        "between_channels": x.std(dim=1).square().mean().sqrt().item(),
        "correlation_gap": correlation_gap(x),
        "effective_rank": effective_rank(x),
    }


def _size(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()


def _between_images(x: Tensor) -> Tensor:
    return x.std(dim=0).square().mean().sqrt()


def centred(x: Tensor) -> Tensor:
    """What is left of x (N, ...) without the mean over the N images."""
    return x - x.mean(dim=0)


def correlation_gap(x: Tensor) -> float:
    """1 - the correlation of two images' features, on average over all pairs of the N images of x (N, ...).

    The correlation is x_a x_b / (|x_a| |x_b|), whose gap is half the squared distance of the two at length 1. The
    mean over the pairs is the variance of those vectors, in which nothing cancels where they are nearly the same.
    """
    unit = F.normalize(x.flatten(1), dim=1, eps=torch.finfo(x.dtype).tiny)
    return centred(unit).square().sum().item() / (len(x) - 1)


def mean_correlation(x: Tensor) -> float:
    """The correlation of two images' vectors, on average over all pairs."""
    return 1 - correlation_gap(x)


def effective_rank(x: Tensor) -> float:
    """In how many directions the N images of x (N, ...) differ: (sum s^2)^2 / sum s^4, of the centred matrix' s.

    The participation ratio of its squared singular values: k where it has k equal ones, at most N - 1; 0 of equal
    images.
    """
    # Large numbers are made of small ones: squares of squares of what differs by 1e-90 would be 0.
    rows = centred(x).flatten(1)
    largest = rows.abs().max().item()
    if largest == 0:
        return 0.0
    gram = (rows / largest) @ (rows / largest).T
    return (gram.trace().square() / gram.square().sum()).item()


def cosine(one: Tensor, other: Tensor) -> float:
    """Cosine of the angle between two tensors as vectors; 0 where one is zero or not finite."""
    lengths = [max(tensor.abs().max().item(), 0.0) for tensor in (one, other)]
    if not all(0 < length < float("inf") for length in lengths):
        return 0.0
    return F.cosine_similarity((one / lengths[0]).flatten(), (other / lengths[1]).flatten(), dim=0).item()
