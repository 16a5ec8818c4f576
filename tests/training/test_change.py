"""What training changed, against weights drawn and read without the library, and shares known beforehand."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vggkit.config import RunConfig
from vggkit.data import load
from vggkit.networks.vgg import VGG
from vggkit.runs.store import read_run
from vggkit.training import change


@pytest.fixture(scope="module")
def results(tiny: RunConfig, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a run of Table 1, which is `tiny`'s but for the suite."""
    from vggkit.training.runner import train

    folder = tmp_path_factory.mktemp("results")
    train(dataclasses.replace(tiny, suite="table1", epochs=1, seed=3), results=folder)
    return folder


def test_displacement_is_that_of_weights_drawn_and_read_without_the_library(results: Path, tiny: RunConfig) -> None:
    state = torch.get_rng_state()
    measured = change.measure(3, results)
    assert torch.equal(torch.get_rng_state(), state)
    (found,) = measured.networks.values()
    (folder,) = results.glob("table1/*/seed-3")
    torch.manual_seed(3)
    before, after = VGG(8, False, False).state_dict(), load_file(folder / "weights.safetensors")
    names = [name for name in before if name.endswith("weight") and ".bn" not in name]
    expected = [((after[n] - before[n]).norm() / before[n].norm()).item() for n in names]
    assert found.displacement == pytest.approx(expected, rel=1e-5)
    assert min(found.displacement) > 0
    assert found.before != found.after
    assert found.weights_sha256 == read_run(folder).summary["files"]["weights.safetensors"]


def test_other_seeds_suites_and_runs_without_weights_are_left_out(results: Path, trained: Path) -> None:
    assert change.measure(1, results).networks == {}
    assert change.measure(0, trained).networks == {}
    next(results.glob("table1/*/seed-3/weights.safetensors")).unlink()
    assert change.measure(3, results).networks == {}


def test_share_is_the_deviation_between_images_over_the_size() -> None:
    torch.manual_seed(0)
    model = VGG(8, False, False)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.fill_(1.0)
    images = load(RunConfig(dataset="synthetic")).train
    found = change.shares(model, images, 4)
    assert len(found) == 9
    assert found[8] == 0  # logits that are the same for all images
    seen = (images.pixels[:4].double() / 255 - torch.tensor((0.5071, 0.4865, 0.4409))) / torch.tensor(
        (0.2673, 0.2564, 0.2762)
    )
    assert found[0] == pytest.approx((seen.std(0).square().mean().sqrt() / seen.square().mean().sqrt()).item(), rel=0.2)
    assert 1e-3 < found[7] < found[0] <= 1.2
