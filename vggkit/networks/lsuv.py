"""Layer-sequential unit variance: an initialisation that looks at a batch of images (Mishkin and Matas 2016).

Weights are drawn as orthogonal matrices; then, from input to output, each layer's are divided by the standard
deviation of what the layer makes of the batch, all images, channels and positions taken together.
"""

from typing import Any

import torch
from torch import Tensor, nn

from vggkit.config import ConfigError


def draw(module: nn.Module) -> None:
    """Draw a layer's weights as an orthogonal matrix, its biases zero; for `nn.Module.apply`."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.orthogonal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@torch.no_grad()
def scale(model: nn.Module, images: Tensor) -> None:
    """Scale the weights of each convolution and of the linear layer so that its output has variance 1 on `images`.

    The paper repeats the scaling of a layer until it is near enough. Without biases, as `draw` leaves the layers, an
    output is in proportion to the weights, and one pass through the network scales all of them exactly. BN keeps
    the statistics that it had, and nothing is drawn at random.

    Args:
        model: network in training mode, as `draw` left it.
        images: (N, 3, 32, 32).

    Raises:
        ConfigError: a layer gives the same everywhere, as for images of one colour, or no finite numbers; the layers
            before it are scaled.
        ValueError: the network is not in training mode, in which BN would take other statistics.
    """
    if not model.training:
        raise ValueError("lsuv.scale: the network has to be in training mode")
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    droppings = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]

    def divide(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        deviation = output.std()
        if not 0 < deviation < torch.inf:
            what = "is the same everywhere" if deviation == 0 else "is not finite"
            raise ConfigError(f"initialisation: 'lsuv' cannot scale a layer whose output {what}; allowed: default, he")
        layer.weight.div_(deviation)  # type: ignore[operator]
        return output / deviation

    hooks = [layer.register_forward_hook(divide) for layer in layers]
    for module in droppings:
        module.eval()
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
        for module in droppings:
            module.train()
        for buffer, before in kept:
            buffer.copy_(before)
