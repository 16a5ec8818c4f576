"""What theory says of the untrained networks: the mean-field equations of this family, in closed form.

Weights are independent and as many as make averages over them exact. Of a layer's input x, its mean
square E[x^2] is followed forwards, with the mean squared difference of two images, and the mean square of
the error's gradient backwards. Each layer multiplies them by a number, its gain; `networks.vgg` has the layers.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter

from vggkit.config import IMAGE_SIZE, NEGATIVE_SLOPE, NUM_FILTERS, NUM_STAGES, check_depth

FAN_IN = 9 * NUM_FILTERS
"""Inputs of a unit of every convolution but the first; its fan_out is the same."""
WEIGHT_VARIANCE = {"default": 1 / (3 * FAN_IN), "he": 2 / ((1 + NEGATIVE_SLOPE**2) * FAN_IN)}
"""Variance of a convolution's initial weights.

PyTorch's default draws them from a uniform distribution within 1 / sqrt(fan_in), whose variance is a third
of its bound's square. He et al. (2015, eq. 15) ask for 2 / ((1 + slope^2) fan_in), Glorot and Bengio (2010, eq. 12),
who have no rectifier, for 2 / (fan_in + fan_out), here 1 / fan_in: by either the default is too small.
"""
BIAS_VARIANCE = {"default": 1 / (3 * FAN_IN), "he": 0.0}
"""Variance of the reduction blocks' initial biases; no other convolution has any."""


class Convolution(NamedTuple):
    """A convolution after the entry: the side of its images in pixels, has it a bias, is it followed by pooling."""

    side: int
    bias: bool
    pool: bool


def convolutions(depth: int) -> Iterator[Convolution]:
    """The convolutions after the entry, from input to output.

    Raises:
        ConfigError: no network has this depth.
    """
    check_depth(depth)
    for stage in range(NUM_STAGES):
        side = IMAGE_SIZE >> stage
        yield from [Convolution(side, False, False)] * (2 * ((depth - 8) // 6))
        yield Convolution(side, True, True)
        yield Convolution(side // 2, True, False)


def activation_gain(slope: float = NEGATIVE_SLOPE) -> float:
    """E[f(z)^2] / E[z^2] of LeakyReLU for a z that is as often positive as negative: (1 + slope^2) / 2.

    It is E[f'(z)^2] as well, and so the gain of what passes backwards, and of a small difference (He et al. 2015).
    """
    return (1 + slope**2) / 2


def gain(initialisation: str) -> float:
    """Gain of the mean square by a convolution without bias and its LeakyReLU, forwards and backwards, far from edges.

    fan_in Var[w] (1 + slope^2) / 2 (He et al. 2015, eq. 15): (1 + slope^2) / 6 by default, 1 after He.
    """
    return FAN_IN * WEIGHT_VARIANCE[initialisation] * activation_gain()


def depth_scale(initialisation: str) -> float:
    """Layers in which a small difference between two images falls to 1/e of its mean square; infinite at a gain of 1.

    Schoenholz et al. (2017): -1 / log(chi), where chi, the gain of a small difference, is `gain` here.
    """
    chi = gain(initialisation)
    return math.inf if abs(chi - 1) < 1e-9 else -1 / math.log(chi)


def separation(correlation_gap: np.ndarray, slope: float = NEGATIVE_SLOPE) -> np.ndarray:
    """1 - correlation of two images after LeakyReLU, from 1 - correlation before it; each at least 0, at most 2.

    The correlation is E[x y] / sqrt(E[x^2] E[y^2]), without taking means away, as it is in Schoenholz et al. (2017).
    For normal z it follows from the arc-cosine kernel of degree 1 (Cho and Saul 2009). Written
    for the difference from 1, so that nothing cancels where two images are nearly alike.
    """
    angle = 2 * np.arcsin(np.sqrt(np.minimum(correlation_gap, 2.0) / 2))
    # sin t - t cos t, by its series where the two terms cancel.
    bend = np.where(angle < 1e-4, angle**3 / 3, np.sin(angle) - angle * np.cos(angle))
    found: np.ndarray = correlation_gap - (1 - slope) ** 2 / (np.pi * (1 + slope**2)) * bend
    return found


def around(squares: np.ndarray) -> np.ndarray:
    """Mean over a kernel's 3x3 taps at each pixel of (side, side) mean squares, zero where a tap is on the padding.

    So edges lose more than the middle, layer after layer.
    """
    found: np.ndarray = uniform_filter(squares, 3, mode="constant")
    return found


def forward(depth: int, initialisation: str, gap: float, square: float = 1.0) -> list[tuple[float, float]]:
    """Of a plain network: E[x^2] of each layer's input and 1 - correlation of two images there, by layer.

    From the input of the second layer, where they are `square` and `gap`, to that of the linear layer. Pooling
    is taken to average pixels that are alike, which it leaves as they are; where they differ it lowers both.

    Raises:
        ConfigError: no network has this depth.
    """
    found = [(square, gap)]
    # Of each pixel: mean square, and half the mean squared difference of two images.
    squares, differences = np.full((IMAGE_SIZE, IMAGE_SIZE), square), np.full((IMAGE_SIZE, IMAGE_SIZE), square * gap)
    for _, bias, pool in convolutions(depth):
        weights = FAN_IN * WEIGHT_VARIANCE[initialisation]
        squares, differences = weights * around(squares), weights * around(differences)
        # A bias is the same for all images: it adds to what they share, and nothing to their difference.
        squares = squares + (BIAS_VARIANCE[initialisation] if bias else 0.0)
        gaps = separation(differences / squares)
        squares = activation_gain() * squares
        differences = squares * gaps
        if pool:
            squares, differences = (
                pixels.reshape(len(pixels) // 2, 2, -1, 2).mean((1, 3)) for pixels in (squares, differences)
            )
        found.append((float(squares.mean()), float(differences.mean() / squares.mean())))
    return found


def backward(depth: int, initialisation: str) -> list[float]:
    """Of a plain network: L2 norm of the error's gradient by each layer's input, over that by the linear layer's.

    From the second layer to the linear one. The gain is that of the way forwards; pooling hands each of 4 pixels a
    quarter of the gradient, and the mean before the linear layer each pixel of the last image its share.

    Raises:
        ConfigError: no network has this depth.
    """
    layers = list(convolutions(depth))
    side = layers[-1].side
    norms, squares = [1.0], np.full((side, side), 1 / side**4)
    for _, _, pool in reversed(layers):
        if pool:
            squares = np.kron(squares, np.ones((2, 2))) / 16
        squares = gain(initialisation) * around(squares)
        norms.append(math.sqrt(squares.sum()))
    return norms[::-1]


def batch_norm_gain(slope: float = NEGATIVE_SLOPE) -> float:
    """Gain of the error's mean square, backwards, by a layer with BN and without a shortcut: pi / (pi - 1) for ReLU.

    Yang et al. (2019), for a large batch: an activation hands back E[f'(z)^2] of the square. BN divides by the
    deviation of its input, which is in proportion to Var[f(z)] of normal z, the mean taken away. The
    weights' variance is in both and cancels, so that no initialisation changes it.
    """
    squared, mean = activation_gain(slope), (1 - slope) / math.sqrt(2 * math.pi)
    return squared / (squared - mean**2)


def rounded_cosine(difference: float, step: float) -> float:
    """The cosine between differences of rounded numbers and of the numbers themselves: sqrt(d / s), at most 1.

    Of two numbers that differ by d, at most the step s to which they are rounded, a boundary lies between them with
    probability d / s where a number's place between two steps is evenly distributed, and they then differ by s: of the
    rounded difference r, E[r d] = d^2 and E[r^2] = d s. It is that of one rounding; above a step it is taken to be 1.

    Args:
        difference: d, as a share of the numbers' size.
        step: s, likewise.
    """
    return min(1.0, math.sqrt(difference / step))
