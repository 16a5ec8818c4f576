"""LSUV and SkipInit: what a network is before its first step."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vggkit.config import ConfigError
from vggkit.networks import lsuv
from vggkit.networks.vgg import VGG


def scaled(batch_norm: bool = False, residual: bool = False, dropout: float = 0.0) -> tuple[VGG, torch.Tensor]:
    torch.manual_seed(0)
    model = VGG(14, batch_norm, residual, dropout, "lsuv")
    images = torch.randn(20, 3, 32, 32)
    lsuv.scale(model, images)
    return model, images


def test_output_of_every_layer_has_variance_one_in_a_pass_written_out() -> None:
    model, images = scaled(dropout=0.5)
    weights = [p.double() for name, p in model.named_parameters() if ".conv" in name and name.endswith("weight")]
    variances = []

    def layer(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        out = F.conv2d(x, weight, padding=1)
        variances.append(((out - out.mean()) ** 2).mean().item())
        return out

    out = layer(images.double(), weights.pop(0))
    mean, variance = out.mean((0, 2, 3), keepdim=True), out.var((0, 2, 3), unbiased=False, keepdim=True)
    x = F.leaky_relu((out - mean) / (variance + 1e-5).sqrt(), 0.01)
    for place, weight in enumerate(weights):
        x = F.leaky_relu(layer(x, weight), 0.01)
        if place % 4 == 2:  # the first convolution of each reduction block, after the two of the processing block
            x = F.avg_pool2d(x, 2)
    logits = x.mean((2, 3)) @ model.classifier.weight.double().T
    variances.append(((logits - logits.mean()) ** 2).mean().item())
    assert len(variances) == 14
    assert variances == pytest.approx([1.0] * 14, abs=1e-3)


@pytest.mark.parametrize(("batch_norm", "residual"), [(True, True), (False, True)])
def test_scaling_changes_weights_by_a_factor_and_nothing_else(batch_norm: bool, residual: bool) -> None:
    torch.manual_seed(0)
    before = VGG(14, batch_norm, residual, 0.0, "lsuv").state_dict()
    model, _ = scaled(batch_norm, residual)
    after = model.state_dict()
    layers = {f"{name}.weight" for name, part in model.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}
    assert all(torch.equal(after[name], before[name]) for name in after if name not in layers)
    for name in layers:
        torch.testing.assert_close(
            F.normalize(after[name].flatten(), dim=0), F.normalize(before[name].flatten(), dim=0)
        )


def test_scaling_draws_nothing_and_leaves_the_mode_of_the_network() -> None:
    model, images = scaled(dropout=0.5)
    before = torch.get_rng_state()
    lsuv.scale(model, images)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training and model.dropout.training


@pytest.mark.parametrize(("colour", "told"), [(0.0, "is the same everywhere"), (torch.nan, "is not finite")])
def test_what_cannot_be_scaled_is_refused_and_leaves_the_network_as_it_was_set(colour: float, told: str) -> None:
    model = VGG(8, False, False, dropout=0.5, initialisation="lsuv").train()
    buffers = [buffer.clone() for buffer in model.buffers()]
    with pytest.raises(ConfigError, match=f"'lsuv' cannot scale a layer whose output {told}"):
        lsuv.scale(model, torch.full((2, 3, 32, 32), colour))
    assert model.dropout.training and not any(module._forward_hooks for module in model.modules())
    assert all(map(torch.equal, buffers, model.buffers()))


def test_a_network_in_evaluation_mode_is_not_scaled() -> None:
    with pytest.raises(ValueError, match="training mode"):
        lsuv.scale(VGG(8, initialisation="lsuv").eval(), torch.randn(2, 3, 32, 32))


def test_weights_are_drawn_as_orthogonal_matrices() -> None:
    torch.manual_seed(0)
    rows = VGG(14, initialisation="lsuv").get_parameter("stages.stage1.block1.conv1.weight").flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(32))


def test_with_skip_init_a_network_begins_as_the_one_without_residual_branches() -> None:
    torch.manual_seed(0)
    model = VGG(20, False, True, skip_init=True)
    without = copy.deepcopy(model)
    for stage in without.stages:
        for name in ("block1", "block2"):
            setattr(stage, name, nn.LeakyReLU(0.01))
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(model(images), without(images))


def test_skip_init_is_learned() -> None:
    torch.manual_seed(0)
    model = VGG(14, False, True, skip_init=True)
    F.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.arange(4)).backward()
    factors = [p for name, p in model.named_parameters() if name.endswith("factor")]
    assert len(factors) == 3 and all(p.grad is not None and p.grad.abs() > 0 for p in factors)
