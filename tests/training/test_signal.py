"""What passes through untrained networks, against a forward and backward pass written out, and as the book tells it."""

import re

import pytest
import torch
import torch.nn.functional as F

from tests.shared import number_in
from vggkit.networks.vgg import VGG
from vggkit.report import figures
from vggkit.training import signal
from vggkit.training.signal import of_network


def test_propagation_equals_a_forward_pass_written_out() -> None:
    torch.manual_seed(3)
    model, images, labels = (
        VGG(8, batch_norm=False).double(),
        torch.randn(6, 3, 32, 32, dtype=torch.float64),
        torch.arange(6),
    )
    found = of_network(model, images, labels)
    outputs = [model.entry.conv(images)]
    x = F.leaky_relu(F.batch_norm(outputs[0], None, None, training=True), 0.01)
    for stage in (1, 2, 3):
        first, second = (model.get_submodule(f"stages.stage{stage}.reduction.conv{place}") for place in (1, 2))
        outputs.append(first(x))
        x = F.avg_pool2d(F.leaky_relu(outputs[-1], 0.01), 2)
        outputs.append(second(x))
        x = F.leaky_relu(outputs[-1], 0.01)
    logits = model.classifier(x.mean((2, 3)))
    gradients = torch.autograd.grad(F.cross_entropy(logits, labels), outputs)
    outputs, logits = [output.detach() for output in outputs], logits.detach()
    assert found.error == pytest.approx([float((g**2).sum() ** 0.5) for g in gradients])
    assert found.deviation == pytest.approx(
        [float(((o - o.mean(0)) ** 2).sum(0).div(5).mean() ** 0.5) for o in outputs]
    )
    assert found.spread == pytest.approx(
        float((logits.max(0).values - logits.min(0).values).max() / logits.abs().max())
    )


def test_signal_vanishes_in_the_plain_deep_network_alone() -> None:
    before = torch.get_rng_state()
    caption = figures.signal_propagation(signal.measure(images=2)).caption
    assert torch.equal(torch.get_rng_state(), before)
    spread = re.search(r"at most (.+?) of their size", caption)
    assert spread and number_in(spread[1]) < 1e-12
    kept = [number_in(found) for found in re.findall(r"VGG38 (?:BN|RC|BN\+RC) (\S+?(?:\s×\s\S+?)?)[,.] ", caption)]
    assert len(kept) == 3 and min(kept) > 1e-5
