"""The report's network family: VGG with optional batch normalisation and residual connections.

    name             depth  BN  RC  parameters  convolutions
    vgg08                8                59,716             7
    vgg38               38               336,196            37
    vgg38_bn            38   x           338,500            37
    vgg38_rc            38       x       336,196            37
    vgg38_bn_rc         38   x   x       338,500            37

Modules are registered in the order of the forward pass, so `named_parameters()` lists the layers
from input to output.
"""

import os
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vggkit.config import (
    NEGATIVE_SLOPE,
    NUM_CLASSES,
    NUM_FILTERS,
    NUM_STAGES,
    RunConfig,
)
from vggkit.networks import fused, lsuv
from vggkit.runs.store import load_weights


def conv3x3(in_channels: int, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(in_channels, NUM_FILTERS, kernel_size=3, padding=1, bias=bias)


def norm2d(batch_norm: bool) -> nn.Module:
    return nn.BatchNorm2d(NUM_FILTERS) if batch_norm else nn.Identity()


class Block(nn.Module):
    """What every block ends its convolutions with: act([BN](x) [+ shortcut])."""

    fused = False  # see `VGG.fuse`

    def norm_act(self, x: Tensor, norm: nn.Module, shortcut: Tensor | None = None, *, pool: bool = False) -> Tensor:
        if self.fused and self.training:
            if isinstance(norm, nn.BatchNorm2d):
                if norm.training:  # it may be frozen by itself
                    return fused.norm_act(x, norm, shortcut, pool=pool)
            elif pool or x.is_cuda or x.dtype == torch.bfloat16:  # else, on a CPU, the lines below are faster
                return fused.act(x, shortcut, pool=pool)
        # In place: neither convolution, BN nor addition needs its own output in the backward pass.
        out = norm(x)
        out = out if shortcut is None else out.add_(shortcut)
        out = F.leaky_relu(out, NEGATIVE_SLOPE, inplace=True)
        return F.avg_pool2d(out, 2) if pool else out


class EntryBlock(Block):
    """act(BN(conv(x))); its BN is there in every variant, the plain ones too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv3x3(3, bias=False)
        self.bn = norm2d(True)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm_act(self.conv(x), self.bn)


class ProcessingBlock(Block):
    """act([x +] f(x)), f = conv, [BN], act, conv, [BN]; He et al. (2016), Figure 2.

    With SkipInit f is multiplied by a learned number that begins as 0; De and Smith (2020).
    """

    def __init__(self, batch_norm: bool, residual: bool, skip_init: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.conv1 = conv3x3(NUM_FILTERS, bias=False)
        self.bn1 = norm2d(batch_norm)
        self.conv2 = conv3x3(NUM_FILTERS, bias=False)
        self.bn2 = norm2d(batch_norm)
        self.factor = nn.Parameter(torch.zeros(())) if skip_init else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm_act(self.conv1(x), self.bn1)
        out = self.conv2(out)
        out = out if self.factor is None else self.factor * out
        return self.norm_act(out, self.bn2, shortcut=x if self.residual else None)


class ReductionBlock(Block):
    """act([pool(x) +] f(x)), f = conv, [BN], act, pool, conv, [BN]; halves height and width.

    A shortcut is the pooled input, which has the right shape without weights of its own.
    """

    def __init__(self, batch_norm: bool, shortcut: bool = False) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.conv1 = conv3x3(NUM_FILTERS, bias=True)
        self.bn1 = norm2d(batch_norm)
        self.conv2 = conv3x3(NUM_FILTERS, bias=True)
        self.bn2 = norm2d(batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm_act(self.conv1(x), self.bn1, pool=True)
        return self.norm_act(self.conv2(out), self.bn2, shortcut=F.avg_pool2d(x, 2) if self.shortcut else None)


class VGG(nn.Module):
    """Images (N, 3, 32, 32) to logits (N, 100).

    Args:
        depth: layers with weights, 8 + 6 x blocks per stage. Depth 8 has no processing block, so
            `residual` changes nothing there.
        batch_norm: BN after every convolution (the entry has it always); Ioffe & Szegedy (2015).
        residual: identity shortcut around every processing block; He et al. (2016), eq. 1.
        dropout: probability of zeroing a feature before the linear layer, in [0, 1).
        initialisation: "default" is PyTorch's (uniform, variance 1 / (3 fan_in)); "he" draws
            convolutions from a normal distribution of variance 2 / ((1 + slope^2) fan_in), their
            biases zero (He et al. 2015, eq. 15); "lsuv" draws orthogonal matrices, biases zero, which
            `lsuv.scale` then scales by a batch of images (Mishkin & Matas 2016).
        skip_init: what each processing block adds to its shortcut is multiplied by a number of its own, which
            begins as 0 and is learned (De & Smith 2020); with `residual` and without `batch_norm`.
        reduction_shortcut: a shortcut around every reduction block as well; with `residual`.

    Raises:
        ConfigError: a setting of the wrong type, or no network of this depth, dropout, initialisation, SkipInit or
            shortcuts.
    """

    def __init__(
        self,
        depth: int = 38,
        batch_norm: bool = True,
        residual: bool = True,
        dropout: float = 0.0,
        initialisation: str = "default",
        skip_init: bool = False,
        reduction_shortcut: bool = False,
    ) -> None:
        super().__init__()
        config = RunConfig(  # which checks them
            depth=depth,
            batch_norm=batch_norm,
            residual=residual,
            dropout=dropout,
            initialisation=initialisation,
            skip_init=skip_init,
            reduction_shortcut=reduction_shortcut,
        )
        self.entry = EntryBlock()
        self.stages = nn.Sequential()
        for stage in range(1, NUM_STAGES + 1):
            blocks: OrderedDict[str, nn.Module] = OrderedDict(
                (f"block{i}", ProcessingBlock(batch_norm, residual, skip_init))
                for i in range(1, config.blocks_per_stage + 1)
            )
            blocks["reduction"] = ReductionBlock(batch_norm, reduction_shortcut)
            self.stages.add_module(f"stage{stage}", nn.Sequential(blocks))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(NUM_FILTERS, NUM_CLASSES)
        if initialisation != "default":
            self.apply(_initialise_he if initialisation == "he" else lsuv.draw)

    @classmethod
    def from_config(cls, config: RunConfig) -> "VGG":
        return cls(
            config.depth,
            config.batch_norm,
            config.residual,
            config.dropout,
            config.initialisation,
            config.skip_init,
            config.reduction_shortcut,
        )

    @classmethod
    def from_run(cls, place: str | os.PathLike[str]) -> "VGG":
        """The network after the last epoch of a finished run, in evaluation mode.

        Args:
            place: the run's folder, or a weights file alone, which then says itself which network it is of.

        Raises:
            ArtifactError: there are no weights, they are damaged, or they are of another network.
        """
        config, weights = load_weights(place)
        model = cls.from_config(config)
        model.load_state_dict(weights)
        return model.eval()

    def fuse(self, fused: bool = True) -> "VGG":
        """Compute BN, shortcut and activation of a block as one compiled function in training, or not; see `fused`."""
        for module in self.modules():
            if isinstance(module, Block):
                module.fused = fused
        return self

    def forward(self, images: Tensor) -> Tensor:
        features = self.stages(self.entry(images))
        pooled = features.mean(dim=(2, 3))  # global average pooling, (N, 32)
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


def _initialise_he(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, a=NEGATIVE_SLOPE, nonlinearity="leaky_relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def count_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
