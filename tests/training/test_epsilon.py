"""Steps of Adam with one epsilon and another, against its equations written out."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from vggkit.config import RunConfig
from vggkit.data import EpochPlan, load, train_batch
from vggkit.networks.vgg import VGG
from vggkit.runs import epsilon as artefact
from vggkit.runs.epsilon import Arm
from vggkit.training import epsilon

SYNTHETIC = RunConfig(dataset="synthetic", train_images_per_class=1)


@pytest.mark.parametrize("value", [1e-8, 1e-2, 1e-30])
def test_first_step_is_adams(value: float) -> None:
    splits = load(SYNTHETIC)
    found = epsilon.travel(Arm(8, "he", value), splits, seed=4, steps=1, batch_size=3)
    torch.manual_seed(4)
    model = VGG(8, batch_norm=False, residual=False, initialisation="he").double()
    plan = EpochPlan.draw(len(splits.train), 4, 1)
    images, labels = train_batch(splits.train, plan.take(torch.arange(3)))
    loss = F.cross_entropy(model(images.double()), labels)
    loss.backward()
    weights = [weight for weight in model.parameters() if weight.dim() > 1]
    # In the first step both running means are the gradient itself, once their bias is corrected (Kingma and Ba 2015).
    steps = [1e-3 * w.grad / (w.grad.abs() + value) for w in weights if w.grad is not None]
    expected = [float(step.norm() / w.detach().norm()) for step, w in zip(steps, weights, strict=True)]
    assert found.moved == pytest.approx(expected, rel=1e-6)
    assert found.losses == pytest.approx([loss.item()])
    assert len(found.share_before) == len(found.share_after) == 9
    assert found.share_before[0] == found.share_after[0]  # the images themselves
    assert found.share_before[-1] != found.share_after[-1]


def test_a_tiny_epsilon_moves_the_first_layers_of_the_deep_plain_network_as_far_as_the_last() -> None:
    splits = load(SYNTHETIC)
    usual, tiny = (epsilon.travel(Arm(38, "default", value), splits, 0, 1, 2).moved for value in (1e-8, 1e-30))
    assert max(usual[:10]) < 1e-8 < 1e-3 < min(tiny[:10])
    assert usual[-1] == pytest.approx(tiny[-1], rel=0.02)


def test_measurement_is_kept_and_read_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epsilon, "load", lambda config, data: load(replace(config, dataset="synthetic"), data))
    monkeypatch.setattr(epsilon, "ARMS", (Arm(8, "default", 1e-8),))
    (first,) = epsilon.measure([1], 2, results=tmp_path)
    written = artefact.place(tmp_path, 1).read_bytes()
    monkeypatch.setattr(epsilon, "travel", None)  # not called again
    (again,) = epsilon.measure([1], 2, results=tmp_path)
    assert artefact.place(tmp_path, 1).read_bytes() == written
    assert again.arms[Arm(8, "default", 1e-8)].moved == pytest.approx(
        first.arms[Arm(8, "default", 1e-8)].moved, rel=1e-5
    )
    with pytest.raises(TypeError):
        next(epsilon.measure([1], 3, results=tmp_path))  # of more steps: measured anew
