"""The network against counts from the report and an independent forward pass written out here."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vggkit.config import ConfigError, RunConfig
from vggkit.networks.vgg import VGG, ProcessingBlock, ReductionBlock, count_parameters

VARIANTS = [(False, False), (True, False), (False, True), (True, True)]


@pytest.mark.parametrize(
    ("depth", "batch_norm", "residual", "parameters"),
    [
        (8, False, False, 59_716),
        (38, False, False, 336_196),
        (38, True, False, 338_500),
        (38, False, True, 336_196),
        (38, True, True, 338_500),
    ],
)
def test_parameter_counts_are_the_reports(depth: int, batch_norm: bool, residual: bool, parameters: int) -> None:
    assert count_parameters(VGG(depth, batch_norm, residual)) == parameters


@pytest.mark.parametrize("depth", range(8, 69, 6))
@pytest.mark.parametrize("batch_norm", [False, True])
def test_parameters_that_a_configuration_tells_are_those_of_its_network(depth: int, batch_norm: bool) -> None:
    config = RunConfig(depth=depth, batch_norm=batch_norm)
    with torch.device("meta"):
        assert config.parameters == count_parameters(VGG.from_config(config))
        if not batch_norm:
            config = RunConfig(depth=depth, batch_norm=False, skip_init=True)
            assert config.parameters == count_parameters(VGG.from_config(config))


@pytest.mark.parametrize(("depth", "convolutions"), [(8, 7), (14, 13), (38, 37)])
def test_depth_counts_convolutions_and_the_linear_layer(depth: int, convolutions: int) -> None:
    kinds = [type(m) for m in VGG(depth).modules()]
    assert kinds.count(nn.Conv2d) == convolutions
    assert kinds.count(nn.Linear) == 1


def leaf_calls(model: VGG) -> list[str]:
    calls: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
            module.register_forward_hook(lambda m, i, o, name=name: calls.append(name))
    model(torch.zeros(2, 3, 32, 32))
    return calls


def test_batch_norm_follows_every_convolution_only_where_asked() -> None:
    with_bn = leaf_calls(VGG(14, True, True))
    convolutions = [i for i, name in enumerate(with_bn) if ".conv" in name]
    assert all(".bn" in with_bn[i + 1] for i in convolutions)
    assert [name for name in leaf_calls(VGG(14, False, True)) if "bn" in name] == ["entry.bn"]


@pytest.mark.parametrize(("batch_norm", "residual"), VARIANTS)
def test_weights_are_listed_in_the_order_of_the_forward_pass(batch_norm: bool, residual: bool) -> None:
    model = VGG(14, batch_norm, residual)
    listed = [name.removesuffix(".weight") for name, _ in model.named_parameters() if name.endswith("weight")]
    assert leaf_calls(model) == listed


@pytest.mark.parametrize("residual", [True, False])
def test_shortcut_carries_the_input_past_a_dead_block(residual: bool) -> None:
    block = ProcessingBlock(batch_norm=False, residual=residual)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(2, 32, 8, 8)
    expected = torch.where(x > 0, x, 0.01 * x) if residual else torch.zeros_like(x)
    torch.testing.assert_close(block(x), expected)


def written_out(
    state: dict[str, Tensor], x: Tensor, blocks: int, batch_norm: bool, residual: bool, reduction_shortcut: bool
) -> Tensor:
    def act(x: Tensor) -> Tensor:
        return torch.maximum(x, 0.01 * x)

    def pool(x: Tensor) -> Tensor:
        return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4

    def layer(x: Tensor, place: str, number: str, norm: bool) -> Tensor:
        x = F.conv2d(x, state[f"{place}.conv{number}.weight"], state.get(f"{place}.conv{number}.bias"), padding=1)
        if norm:
            mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
            gamma, beta = (state[f"{place}.bn{number}.{p}"].view(1, -1, 1, 1) for p in ("weight", "bias"))
            x = gamma * (x - mean) / (variance + 1e-5).sqrt() + beta
        return x

    x = act(layer(x, "entry", "", True))
    for stage in (1, 2, 3):
        for block in range(1, blocks + 1):
            place = f"stages.stage{stage}.block{block}"
            out = layer(act(layer(x, place, "1", batch_norm)), place, "2", batch_norm)
            x = act(out + x if residual else out)
        place = f"stages.stage{stage}.reduction"
        out = layer(pool(act(layer(x, place, "1", batch_norm))), place, "2", batch_norm)
        x = act(out + pool(x) if reduction_shortcut else out)
    return x.mean((2, 3)) @ state["classifier.weight"].T + state["classifier.bias"]


@pytest.mark.parametrize(
    ("batch_norm", "residual", "reduction_shortcut"),
    [*((*variant, False) for variant in VARIANTS), (False, True, True), (True, True, True)],
)
def test_logits_equal_the_equations_written_out(batch_norm: bool, residual: bool, reduction_shortcut: bool) -> None:
    torch.manual_seed(0)
    model = VGG(14, batch_norm, residual, reduction_shortcut=reduction_shortcut).double()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    logits = model(images)
    assert logits.shape == (4, 100)
    expected = written_out(model.state_dict(), images, 1, batch_norm, residual, reduction_shortcut)
    torch.testing.assert_close(logits, expected)


def test_configuration_places_the_shortcuts() -> None:
    images, models = torch.randn(2, 3, 32, 32), []
    for suite in ("table1", "placement"):
        torch.manual_seed(0)
        models.append(VGG.from_config(RunConfig.named("vgg38_rc", suite=suite, depth=14)))
    torch.manual_seed(0)
    both = VGG(14, False, True, reduction_shortcut=True)
    assert torch.equal(models[1](images), both(images))
    assert not torch.allclose(models[0](images), both(images))


@pytest.mark.parametrize(
    "block", [*(ProcessingBlock(x, x) for x in (True, False)), ReductionBlock(True), ReductionBlock(False, True)]
)
def test_gradients_equal_numerical_ones(block: nn.Module) -> None:
    torch.manual_seed(0)
    block = block.double()
    x = torch.randn(2, 32, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: block(x.clone()), (x,), fast_mode=True)


def test_default_initialisation_is_uniform_within_one_over_the_root_of_fan_in() -> None:
    torch.manual_seed(0)
    weight = VGG(38).get_parameter("stages.stage1.block1.conv1.weight")
    bound = (32 * 9) ** -0.5  # PyTorch's documentation of Conv2d, "Variables"
    assert 0.99 * bound < weight.abs().max().item() <= bound
    assert weight.var().item() == pytest.approx(bound**2 / 3, rel=0.05)


def test_he_initialisation_has_the_variance_of_equation_15() -> None:
    torch.manual_seed(0)
    weight = VGG(38, initialisation="he").get_parameter("stages.stage1.block1.conv1.weight")
    assert weight.var().item() == pytest.approx(2 / ((1 + 0.01**2) * 32 * 9), rel=0.05)


def test_dropout_acts_in_training_alone() -> None:
    model = VGG(8, dropout=0.5)
    images = torch.randn(2, 3, 32, 32)
    model.eval()
    assert torch.equal(model(images), model(images))
    model.train()
    assert not torch.equal(model(images), model(images))


@pytest.mark.parametrize(
    "settings",
    [
        {"depth": 9},
        {"dropout": 1.0},
        {"initialisation": "zero"},
        {"skip_init": True},
        {"reduction_shortcut": True, "residual": False},
        {"depth": "38"},
        {"depth": 8.0},
        {"dropout": None},
        {"batch_norm": "false"},
    ],
)
def test_impossible_networks_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        VGG(**settings)


def test_he_initialisation_leaves_no_biases_in_convolutions_and_the_linear_layer_as_it_was() -> None:
    torch.manual_seed(0)
    model = VGG(8, initialisation="he")
    biases = {name: bias for name, bias in model.named_parameters() if ".conv" in name and name.endswith("bias")}
    assert len(biases) == 6
    assert not any(bias.any() for bias in biases.values())
    bound = 32**-0.5  # PyTorch's documentation of Linear, "Variables"
    assert 0.9 * bound < model.classifier.weight.abs().max().item() <= bound
