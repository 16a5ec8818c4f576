"""Loss and accuracy of a network on a split, against the same computed by hand."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.shared import CPU, Call, convolutions_in_tf32
from vggkit.config import RunConfig
from vggkit.data import load
from vggkit.networks.vgg import VGG
from vggkit.runs import store
from vggkit.runs.files import RunPaths
from vggkit.runs.records import metric_of
from vggkit.training import evaluation
from vggkit.training.compute import Compute
from vggkit.training.evaluation import evaluate


def test_evaluate_measures_each_split_on_its_own_images(
    tiny: RunConfig, trained: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = store.read_run(RunPaths.of(trained, tiny).folder).summary["final"]
    monkeypatch.setattr(evaluation, "evaluate", lambda model, images, *rest: (float(len(images)), 0.5))
    settings = {"dataset": "synthetic", "train-images-per-class": 1, "batch-size": 25, "epochs": 3, "results": trained}
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    monkeypatch.setenv("COLUMNS", "200")
    _, shown, _ = call("evaluate", "vgg08", *words)
    for split, images in (("validation", 100), ("test", 200)):
        (row,) = [line for line in shown.splitlines() if f" {split} " in line]
        assert f"{images}.0000" in row
        assert f"{metric_of(final, f'{split}_loss'):.4f}" in row


def test_evaluate_computes_in_the_settings_that_training_has(
    trained: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"dataset": "synthetic", "train-images-per-class": 1, "batch-size": 25, "epochs": 3, "results": trained}
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    found: list[str] = []

    def measured(*given: object) -> tuple[float, float]:
        found.append(precision())
        return 1.0, 0.5

    with convolutions_in_tf32() as precision:
        monkeypatch.setattr(evaluation, "evaluate", measured)
        assert call("evaluate", "vgg08", *words)[0] == 0
    assert found == ["ieee", "ieee"]


def test_evaluation_equals_a_direct_one(tiny: RunConfig) -> None:
    images = load(replace(tiny, train_images_per_class=8)).train[torch.arange(730)]  # the last batch is smaller
    model = VGG.from_config(tiny)
    loss, accuracy = evaluate(model, images, Compute(CPU))
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2023, 0.1994, 0.2010])
    with torch.no_grad():
        logits = model.eval()(((images.pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2))
    assert loss == pytest.approx(F.cross_entropy(logits, images.labels).item(), rel=1e-4)
    assert accuracy == pytest.approx((logits.argmax(1) == images.labels).double().mean().item(), abs=2e-3)
