"""What training changed, against weights drawn and read without the library, and shares known beforehand."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.runs.made import a_run
from tests.shared import Call
from vggkit.config import RunConfig
from vggkit.data import MEAN, STD, load
from vggkit.networks.vgg import VGG
from vggkit.runs import store
from vggkit.runs.files import RunPaths, claim
from vggkit.runs.store import read_run, write_run
from vggkit.training import change, propagation
from vggkit.training.runner import train


@pytest.fixture
def results(tiny: RunConfig, trained: Path, tmp_path: Path) -> Path:
    """A results folder with a run of Table 1, seed 3: its weights are those of a short one."""
    short = dataclasses.replace(tiny, suite="table1", epochs=1, seed=3)
    train(short, results=tmp_path / "short")
    config = RunConfig.named("vgg08", suite="table1", seed=3)
    paths = RunPaths.of(tmp_path, config)
    with claim(paths):
        write_run(paths, a_run(config), store.read_weights(RunPaths.of(tmp_path / "short", short)))
    return tmp_path


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


def test_where_nothing_can_be_measured_it_is_said_and_nothing_is_kept(results: Path, trained: Path, call: Call) -> None:
    for folder, seed in ((results, 1), (trained, 0)):  # another seed; another suite
        status, out, error = call("change", "--seed", str(seed), "--results", str(folder))
        assert (status, out) == (2, "") and error.count("\n") == 1
        assert error.startswith(
            f"vggkit: seed: no run of Table 1 with seed {seed} left its weights in {folder}; train them: vggkit sweep"
        )
        assert not (folder / "change").exists()


def test_what_is_known_of_weights_that_are_gone_is_kept(results: Path, call: Call) -> None:
    command = "change", "--seed", "3", "--results", str(results)
    assert call(*command)[1].startswith("vgg08: kept in ")
    file = results / "change/seed-3.json"
    before = file.read_bytes()
    (results / "table1/vgg08/seed-3/weights.safetensors").unlink()
    status, out, _ = call(*command)
    assert status == 0 and "nothing has changed" in out and file.read_bytes() == before


def test_verify_names_a_measurement_of_other_weights_and_files_that_are_none(results: Path, call: Call) -> None:
    call("change", "--seed", "3", "--results", str(results))
    (results / "short").rename(results / ".short")
    assert call("verify", "--results", str(results))[0] == 0
    file = results / "change/seed-3.json"
    content = json.loads(file.read_text())
    for name in ("seed-03.json", "seed-3.txt", "old/seed-3.json"):
        stray = file.parent / name
        stray.parent.mkdir(exist_ok=True)
        stray.write_text(file.read_text())
        status, _, error = call("verify", "--results", str(results))
        assert status == 2 and f"{stray} is named as no measurement is; allowed: seed-0.json" in error
        stray.unlink()
    content["networks"]["vgg08"]["weights_sha256"] = "ab" * 32
    file.write_text(json.dumps(content))
    status, _, error = call("verify", "--results", str(results))
    assert status == 2 and "was measured on other weights of vgg08; measure it anew: vggkit change --seed 3" in error


def test_share_is_the_deviation_between_images_over_the_size() -> None:
    torch.manual_seed(0)
    model = VGG(8, False, False)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.fill_(1.0)
    images = load(RunConfig(dataset="synthetic")).train
    found = propagation.watched(model, images, 4).shares()
    assert len(found) == 9
    assert found[8] == 0  # logits that are the same for all images
    seen = (images.pixels[:4].double() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    assert found[0] == pytest.approx(
        (seen.std(0).square().mean().sqrt() / seen.square().mean().sqrt()).item(), rel=1e-5
    )
    assert 1e-3 < found[7] < found[0] <= 1.2
    assert propagation.Pass(model, torch.zeros(2, 3, 32, 32), torch.zeros(2, dtype=torch.int64)).shares()[0] == 0


def test_watching_leaves_out_dropout_and_compiled_passes_and_leaves_the_network_as_it_was() -> None:
    torch.manual_seed(0)
    images, model = load(RunConfig(dataset="synthetic")).train, VGG(8)
    dropped = VGG(8, dropout=0.9)
    dropped.load_state_dict(model.state_dict())
    dropped.eval().fuse()
    found, state = propagation.watched(dropped, images).shares(), torch.get_rng_state()
    assert found == propagation.watched(model, images).shares()
    assert torch.equal(torch.get_rng_state(), state) and not dropped.training and dropped.entry.fused
    assert all(torch.equal(dropped.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
