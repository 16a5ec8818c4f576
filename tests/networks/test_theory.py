"""The equations of the untrained networks, against random layers and against integrals."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vggkit.config import NUM_FILTERS, ConfigError
from vggkit.networks import theory
from vggkit.networks.vgg import VGG, _initialise_he
from vggkit.training.propagation import Pass

SLOPE = 0.01


def layers(count: int, initialisation: str, bias: bool = False) -> list[nn.Conv2d]:
    torch.manual_seed(0)
    made = [nn.Conv2d(NUM_FILTERS, NUM_FILTERS, 3, padding=1, bias=bias).double() for _ in range(count)]
    if initialisation == "he":
        for layer in made:
            _initialise_he(layer)
    return made


@pytest.mark.parametrize("initialisation", ["default", "he"])
def test_gain_is_that_of_random_layers_forwards_and_backwards(initialisation: str) -> None:
    side, images = 8, 4
    forwards, backwards = [], []
    for layer in layers(60, initialisation):
        x = torch.randn(images, NUM_FILTERS, side, side, dtype=torch.float64, requires_grad=True)
        y = F.leaky_relu(layer(x), SLOPE)
        error = torch.randn_like(y)
        (gradient,) = torch.autograd.grad(y, x, error)
        forwards.append(float(y.detach().square().mean() / x.detach().square().mean()))
        backwards.append(float(gradient.square().mean() / error.square().mean()))
    expected = theory.gain(initialisation) * ((3 * side - 2) / (3 * side)) ** 2  # taps on the padding
    for found in (forwards, backwards):
        assert np.mean(found) == pytest.approx(expected, abs=float(4 * np.std(found) / math.sqrt(len(found))))
        assert np.std(found) / math.sqrt(len(found)) < 0.03 * expected
    assert theory.gain(initialisation) == pytest.approx({"default": (1 + SLOPE**2) / 6, "he": 1.0}[initialisation])


def test_taps_on_the_padding_add_nothing() -> None:
    squares = np.random.default_rng(0).random((5, 5))
    kernel = torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64)
    expected = F.conv2d(torch.from_numpy(squares)[None, None], kernel, padding=1)[0, 0].numpy()
    assert theory.around(squares) == pytest.approx(expected)


@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.5, 0.99, 1.0])
def test_separation_is_that_of_two_normal_numbers(correlation: float) -> None:
    # Two numbers of this correlation are a normal vector's parts along two directions at this angle: its length
    # is apart from its direction, over which the mean is taken here, point by point.
    direction = (np.arange(200_000) + 0.5) * (2 * np.pi / 200_000)
    parts = np.cos(direction), np.cos(direction - math.acos(correlation))
    one, other = (np.where(part > 0, part, SLOPE * part) for part in parts)
    expected = np.mean(one * other) / np.mean(one**2)
    assert 1 - float(theory.separation(np.array(1 - correlation))) == pytest.approx(expected, abs=1e-8)


def test_separation_keeps_what_is_nearly_the_same_apart() -> None:
    for gap in (1e-30, 1e-12, 1e-7, 2e-9, 5e-9):  # around where the series takes over, too
        assert float(theory.separation(np.array(gap))) == pytest.approx(gap, rel=1e-3)
        assert float(theory.separation(np.array(gap))) <= gap
    around = [float(theory.separation(np.array(gap))) / gap for gap in (4.9e-9, 5.1e-9)]  # an angle of 1e-4
    assert around[0] == pytest.approx(around[1], abs=1e-6)
    assert theory.separation(np.array(0.0)) == 0


def test_layers_are_those_of_the_network() -> None:
    model = VGG(20, batch_norm=False, residual=False)
    found: list[tuple[int, bool]] = []
    hooks = [
        part.register_forward_hook(lambda part, x, y: found.append((x[0].shape[-1], part.bias is not None)))
        for part in model.modules()
        if isinstance(part, nn.Conv2d)
    ]
    model(torch.zeros(1, 3, 32, 32))
    assert len(hooks) == 19
    expected = list(theory.convolutions(20))
    assert found[1:] == [(layer.side, layer.bias) for layer in expected]
    sides = [layer.side for layer in expected] + [4]
    assert [layer.pool for layer in expected] == [after < before for before, after in itertools.pairwise(sides)]
    with pytest.raises(ConfigError, match="depth: 9"):
        list(theory.convolutions(9))


def test_a_layer_with_a_bias_that_all_images_share_does_what_the_way_forwards_takes_it_to_do() -> None:
    features, draws, bias = 400, 40, 0.25
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x = normal(2, features)
    x /= x.square().mean(dim=1, keepdim=True).sqrt()
    z = x @ normal(draws, features, features) / math.sqrt(3 * features) + bias**0.5 * normal(draws, 1, features)
    y = F.leaky_relu(z, SLOPE)
    gap = 1 - float(F.cosine_similarity(x[0], x[1], dim=0))
    share = (1 / 3) / (1 / 3 + bias)
    assert float(y.square().mean()) == pytest.approx(theory.activation_gain() / 3 / share, rel=0.03)
    found = 1 - float((y[:, 0] * y[:, 1]).mean() / y.square().mean())
    assert found == pytest.approx(float(theory.separation(np.array(gap * share))), rel=0.03)


@pytest.mark.parametrize("initialisation", ["default", "he"])
def test_ways_through_a_network_are_those_of_many_drawn_ones(initialisation: str) -> None:
    """Images that are flat, so that pooling changes nothing, behind the entry of networks of 14 layers."""
    images = torch.zeros(2, NUM_FILTERS, 32, 32, dtype=torch.float64)
    images[0, :24], images[1, 8:] = 1.0, 1.0
    square, gap = 0.75, 1 / 3
    sizes, gaps, errors = [], [], []
    for seed in range(8):
        torch.manual_seed(seed)
        model = VGG(14, batch_norm=False, residual=False, initialisation=initialisation).double()
        x = images.clone().requires_grad_()
        pooled = model.stages(x).mean((2, 3))
        direction = torch.randn_like(pooled)
        (error,) = torch.autograd.grad(pooled, x, direction)
        sizes.append(float(pooled.detach().square().mean()))
        gaps.append(1 - float(F.cosine_similarity(pooled[0].detach(), pooled[1].detach(), dim=0)))
        errors.append(float(error.norm() / direction.norm()))
    found = theory.forward(14, initialisation, gap, square)
    assert len(found) == len(theory.backward(14, initialisation)) == 13
    assert np.mean(sizes) == pytest.approx(found[-1][0], rel=0.6)
    # Pooling lowers a difference where pixels are not alike: at most by 4, three times, and by 16 at the end.
    assert found[-1][1] / (4**3 * 16) < np.exp(np.mean(np.log(gaps))) < 1.6 * found[-1][1]
    assert np.exp(np.mean(np.log(errors))) == pytest.approx(theory.backward(14, initialisation)[0], rel=0.6)


def test_error_is_handed_back_by_means_as_their_derivative_is() -> None:
    """Without a gain by weights the norm changes by pooling and edges alone, as that of a linear chain's derivative."""
    x = torch.ones(1, 1, 32, 32, dtype=torch.float64, requires_grad=True)
    pooled = x
    for _ in range(3):
        pooled = F.avg_pool2d(pooled, 2)
    (derivative,) = torch.autograd.grad(pooled.mean(), x)
    edges = theory.backward(8, "he")[0] / float(derivative.norm())
    assert 0.3 < edges**2 < 1  # six kernels lose some of their taps to the padding, and nothing else
    assert theory.backward(8, "default")[0] / theory.backward(8, "he")[0] == pytest.approx(theory.gain("default") ** 3)


def test_depth_scale_is_where_a_small_difference_has_fallen_to_its_eth_part() -> None:
    gap, scale = 1e-20, theory.depth_scale("default")
    difference = gap
    for _ in range(20):
        difference = theory.gain("default") * float(theory.separation(np.array(difference)))
    assert difference / gap == pytest.approx(math.exp(-20 / scale), rel=1e-3)
    assert theory.depth_scale("he") == math.inf


def test_batch_norm_gain_is_that_of_random_layers() -> None:
    torch.manual_seed(0)
    width, images, found = 256, 1024, []
    for _ in range(4):
        z = torch.randn(images, width, dtype=torch.float64, requires_grad=True)
        y = F.leaky_relu(F.batch_norm(z, None, None, training=True), SLOPE)
        after = F.batch_norm(y @ torch.randn(width, width, dtype=torch.float64), None, None, training=True)
        error = torch.randn_like(after)
        found.append(float(torch.autograd.grad(after, z, error)[0].square().mean() / error.square().mean()))
    assert np.mean(found) == pytest.approx(theory.batch_norm_gain(), rel=0.03)
    assert theory.batch_norm_gain(0.0) == pytest.approx(math.pi / (math.pi - 1))


def test_batch_norm_gain_is_that_of_the_network_where_values_are_independent_and_nothing_has_edges() -> None:
    """Which the equation takes for granted: noise instead of images, and padding with the other side of them."""
    depth, gains = 20, []
    inner = (depth - 8) // 3  # convolutions of a stage's processing blocks
    for seed in range(3):
        torch.manual_seed(seed)
        model = VGG(depth, batch_norm=True, residual=False).double()
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.padding_mode = "circular"
        measured = Pass(model, torch.randn(10, 3, 32, 32, dtype=torch.float64), torch.arange(10))
        measured.backward()
        squares = [float(error.square().sum()) for error in measured.errors]
        firsts = range(1, depth - 2, inner + 2)  # places of the inputs of the stages
        gains += [(squares[place] / squares[place + inner]) ** (1 / inner) for place in firsts]
    assert np.exp(np.mean(np.log(gains))) == pytest.approx(theory.batch_norm_gain(), rel=0.015)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("parts", [0.1, 0.01, 0.001])
def test_rounding_leaves_of_a_small_difference_what_theory_says(dtype: torch.dtype, parts: float) -> None:
    step = torch.finfo(dtype).eps
    numbers = 2 ** torch.rand(4_000_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    signs = torch.randint(0, 2, numbers.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    differences = parts * step * signs
    rounded = (numbers + differences).to(dtype).double() - numbers.to(dtype).double()
    cosine = torch.nn.functional.cosine_similarity(rounded, differences, dim=0).item()
    # Between 1 and 2 all steps have one size; below 1 they are smaller, which no sign can make up for.
    assert cosine == pytest.approx(theory.rounded_cosine(parts * step, step), rel=0.05)


def test_what_is_larger_than_a_step_is_kept() -> None:
    assert theory.rounded_cosine(1.0, 1e-7) == 1 and theory.rounded_cosine(0.0, 1e-7) == 0


@pytest.mark.parametrize("initialisation", ["default", "he"])
def test_variances_are_those_of_the_networks_weights_and_biases(initialisation: str) -> None:
    torch.manual_seed(0)
    convolutions = [module for module in VGG(110, False, False, initialisation=initialisation).stages.modules()
                    if isinstance(module, nn.Conv2d)]  # fmt: skip
    weights = torch.cat([module.weight.flatten() for module in convolutions])
    biases = torch.cat([module.bias.flatten() for module in convolutions if module.bias is not None])
    assert weights.square().mean().item() == pytest.approx(theory.WEIGHT_VARIANCE[initialisation], rel=0.01)
    # 192 biases: their mean square is within a fifth of the variance all but surely, and of He's exactly.
    assert biases.square().mean().item() == pytest.approx(theory.BIAS_VARIANCE[initialisation], rel=0.2)
