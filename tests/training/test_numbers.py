"""What decides a run's numbers: each setting does what it says, and each number is what its name says.

Each test here kills a fault that was put into the library on purpose and that no other test saw; the list
of such faults is tests/faults/faults.toml.
"""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.shared import Call, best_of
from vggkit import data
from vggkit.config import RunConfig
from vggkit.data import EpochPlan, Images, Splits, load
from vggkit.networks.vgg import VGG
from vggkit.runs import store
from vggkit.runs.records import metric_of
from vggkit.runs.store import RunPaths
from vggkit.training import evaluation, runner
from vggkit.training.compute import Compute
from vggkit.training.evaluation import evaluate
from vggkit.training.graph import one_step
from vggkit.training.runner import train
from vggkit.training.step import Trainer, train_epoch

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def synthetic() -> Splits:
    return load(RunConfig.named("vgg08", dataset="synthetic", train_images_per_class=2, batch_size=50))


@pytest.fixture
def constant(tiny: RunConfig) -> RunConfig:
    """`tiny` with a constant learning rate: the first epoch is then the same however many follow."""
    return replace(tiny, schedule="constant")


def trainer(config: RunConfig, splits: Splits) -> Trainer:
    return Trainer(config, splits, Compute(CPU, config.precision))


@pytest.mark.parametrize("initialisation", ["default", "he", "lsuv"])
@pytest.mark.parametrize("seed", [0, 1])
def test_initial_weights_are_those_that_pytorch_draws_from_the_seed(
    seed: int, initialisation: str, tiny: RunConfig, synthetic: Splits
) -> None:
    torch.manual_seed(seed)
    expected = VGG(8, False, False, 0.0, initialisation).state_dict()
    found = trainer(replace(tiny, seed=seed, initialisation=initialisation), synthetic).model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_weights_are_scaled_by_the_first_batch_before_the_first_step_and_not_again(
    tiny: RunConfig, synthetic: Splits
) -> None:
    attempt = trainer(replace(tiny, initialisation="lsuv", seed=5), synthetic)
    drawn = attempt.model.classifier.weight.detach().clone()
    attempt.begin_epoch(2)
    assert torch.equal(attempt.model.classifier.weight, drawn)
    attempt.begin_epoch(1)
    images, _ = data.train_batch(synthetic.train, EpochPlan.draw(200, 5, 1).take(torch.arange(50)))
    with torch.no_grad():
        assert attempt.model(images).var().item() == pytest.approx(1, abs=1e-4)


def test_he_initialisation_leaves_no_biases_in_convolutions_and_the_linear_layer_as_it_was() -> None:
    torch.manual_seed(0)
    model = VGG(8, initialisation="he")
    biases = {name: bias for name, bias in model.named_parameters() if ".conv" in name and name.endswith("bias")}
    assert len(biases) == 6
    assert not any(bias.any() for bias in biases.values())
    bound = 32**-0.5  # PyTorch's documentation of Linear, "Variables"
    assert 0.9 * bound < model.classifier.weight.abs().max().item() <= bound


def test_initial_weights_differ_between_seeds(tiny: RunConfig, synthetic: Splits) -> None:
    first, second = (trainer(replace(tiny, seed=seed), synthetic).model for seed in (0, 1))
    assert not torch.equal(first.classifier.weight, second.classifier.weight)


def test_dropout_is_drawn_by_seed_and_epoch_alone(tiny: RunConfig, synthetic: Splits) -> None:
    def mask(seed: int, epoch: int) -> tuple[float, ...]:
        attempt = trainer(replace(tiny, dropout=0.5, seed=seed), synthetic)
        attempt.begin_epoch(epoch)
        return tuple(attempt.model.dropout(torch.ones(64)).tolist())

    assert mask(0, 1) == mask(0, 1)
    assert len({mask(seed, epoch) for seed in (0, 1) for epoch in (1, 2)}) == 4


@pytest.mark.parametrize("drawn", ["order", "top", "left", "flip"])
def test_each_draw_of_an_epochs_plan_follows_seed_and_epoch(drawn: str) -> None:
    def values(seed: int, epoch: int) -> tuple[int, ...]:
        return tuple(getattr(EpochPlan.draw(100, seed, epoch), drawn).tolist())

    assert values(0, 1) == values(0, 1)
    assert len({values(seed, epoch) for seed in (0, 1) for epoch in (1, 2)}) == 4


def test_label_follows_its_image_through_the_epochs_order(tiny: RunConfig) -> None:
    # Each image has one colour, which tells its number. The centre of a crop is never padding.
    numbers = torch.arange(100, dtype=torch.uint8)
    images = Images(numbers[:, None, None, None].expand(100, 32, 32, 3).contiguous(), torch.arange(100))
    batch, labels = data.train_batch(images, EpochPlan.draw(100, 0, 1))
    colours = (batch[:, 0, 16, 16] * data.STD[0] + data.MEAN[0]) * 255
    assert labels.tolist() == colours.round().long().tolist()
    assert labels.tolist() != sorted(labels.tolist())


def test_batchs_crops_and_flips_are_those_of_its_images(synthetic: Splits) -> None:
    draws = EpochPlan.draw(200, 0, 1).take(torch.arange(50))
    batch, _ = data.train_batch(synthetic.train, draws)
    for place, (image, top, left, flip) in enumerate(zip(draws.order, draws.top, draws.left, draws.flip, strict=True)):
        pixels = torch.zeros(3, 40, 40, dtype=torch.uint8)
        pixels[:, 4:36, 4:36] = synthetic.train.pixels[image].permute(2, 0, 1)
        crop = pixels[:, top : top + 32, left : left + 32]
        crop = crop.flip(2) if flip else crop
        mean, std = (torch.tensor(values)[:, None, None] for values in (data.MEAN, data.STD))
        torch.testing.assert_close(batch[place], (crop / 255 - mean) / std)


def test_epochs_plan_of_a_run_is_that_of_its_seed_and_epoch(tiny: RunConfig, synthetic: Splits) -> None:
    attempt = trainer(replace(tiny, seed=3), synthetic)
    attempt.begin_epoch(2)
    expected = EpochPlan.draw(200, 3, 2)
    for drawn in ("order", "top", "left", "flip"):
        assert torch.equal(getattr(attempt.plan, drawn), getattr(expected, drawn))


def test_split_seed_draws_the_validation_images_and_the_seed_does_not(tiny: RunConfig) -> None:
    first, other, same = map(load, (tiny, replace(tiny, split_seed=1), replace(tiny, seed=1)))
    assert not torch.equal(first.validation.pixels, other.validation.pixels)
    assert torch.equal(first.test.pixels, other.test.pixels)
    assert torch.equal(first.validation.pixels, same.validation.pixels)


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_first_step_is_adams_with_the_penalty_in_the_gradient(
    weight_decay: float, tiny: RunConfig, synthetic: Splits
) -> None:
    # Kingma & Ba (2015), algorithm 1: the first step is rate x g / (|g| + epsilon), here with g + weight_decay x w.
    attempt = trainer(replace(tiny, weight_decay=weight_decay), synthetic)
    before = {name: p.detach().clone() for name, p in attempt.model.named_parameters()}
    attempt.begin_epoch(1)
    attempt.step()
    for name, parameter in attempt.model.named_parameters():
        assert parameter.grad is not None
        gradient = parameter.grad.double() + weight_decay * before[name].double()
        expected = before[name].double() - 1e-3 * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(parameter.double(), expected, rtol=1e-4, atol=2e-6)


def test_decoupled_decay_is_that_of_adamw_in_a_plain_loop(tiny: RunConfig, synthetic: Splits) -> None:
    # Adam magnifies rounding: by up to a learning rate for each step where a gradient is next to nothing. The decay
    # is so large that it is most of what a step does.
    settings: dict[str, Any] = {"learning_rate": 1e-5, "weight_decay": 1e3, "batch_size": 10}
    attempt = trainer(replace(tiny, **settings, decoupled_weight_decay=True, minimum_learning_rate=0.0), synthetic)
    model = VGG(8, False, False).double()
    model.load_state_dict(attempt.model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=1e3)
    attempt.begin_epoch(1)
    plan = EpochPlan.draw(200, tiny.seed, 1)
    for places in torch.arange(30).split(10):
        attempt.step()
        images, labels = data.train_batch(synthetic.train, plan.take(places))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images.double().contiguous()), labels).backward()
        optimizer.step()
    for (name, expected), found in zip(model.named_parameters(), attempt.model.parameters(), strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=3e-5, msg=name)


def test_training_accuracy_is_the_share_of_images_that_the_network_got_right(
    tiny: RunConfig, synthetic: Splits
) -> None:
    # The bias makes the network answer class 7 always, and the learning rate is too small to change that: it is right
    # for one image in a hundred.
    attempt = trainer(replace(tiny, batch_size=60, learning_rate=1e-9, minimum_learning_rate=0.0), synthetic)
    with torch.no_grad():
        attempt.model.classifier.bias[7] = 100.0
    ((metrics, _),) = train_epoch([attempt], 1, one_step([attempt]), lambda images: None)
    assert metrics["train_accuracy"] == 0.01
    assert metrics["train_loss"] == pytest.approx(99.0, abs=1)  # 0 for class 7, 100 for every other class


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_network_computes_in_the_precision_that_is_asked_for(
    precision: str, dtype: torch.dtype, tiny: RunConfig, synthetic: Splits
) -> None:
    config = replace(tiny, precision=precision)
    attempt, found = trainer(config, synthetic), []
    attempt.model.entry.conv.register_forward_hook(lambda module, inputs, output: found.append(output.dtype))
    attempt.begin_epoch(1)
    attempt.step()
    evaluate(attempt.model, synthetic.validation, Compute(CPU, config.precision))
    assert set(found) == {dtype}
    assert {p.dtype for p in attempt.model.parameters()} == {torch.float32}


def test_denormal_numbers_are_zero_while_a_run_trains_and_only_then(tiny: RunConfig, tmp_path: Path) -> None:
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot flush denormal numbers")
    smallest = torch.full((1,), float(np.finfo(np.float32).tiny))
    found = []
    train(replace(tiny, epochs=1), results=tmp_path, progress=lambda *report: found.append((smallest * 0.5).item()))
    assert set(found) == {0.0}
    assert (smallest * 0.5).item() > 0


def test_settings_of_the_process_end_with_an_error_too(tiny: RunConfig) -> None:
    smallest = torch.full((1,), float(np.finfo(np.float32).tiny))
    with pytest.raises(KeyError), Compute(CPU).process_settings():
        raise KeyError
    assert (smallest * 0.5).item() > 0


class Scripted:
    """Stands in for `evaluate`: returns given validation results, and as test loss a number that tells the weights."""

    def __init__(self, losses: list[float], accuracies: list[float]) -> None:
        self.script = list(zip(losses, accuracies, strict=True))
        self.seen: list[float] = []

    def __call__(self, model: VGG, images: Images, *rest: Any) -> tuple[float, float]:
        fingerprint = model.classifier.weight.detach().double().abs().sum().item()
        if len(images) == 1000:  # the test images
            return fingerprint, 0.5
        self.seen.append(fingerprint)
        return self.script[len(self.seen) - 1]


@pytest.mark.parametrize(
    ("accuracies", "best"), [([0.3, 0.5, 0.5], 2), ([0.5, 0.3, 0.4], 1), ([0.1, 0.2, 0.3], 3), ([0.0, 0.0, 0.0], 1)]
)
def test_best_is_the_first_epoch_of_highest_validation_accuracy_with_its_own_weights(
    accuracies: list[float], best: int, constant: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Scripted([1.0, 1.0, 1.0], accuracies)
    monkeypatch.setattr(runner, "evaluate", script)
    summary = train(constant, results=tmp_path).summary
    assert len(set(script.seen)) == 3
    assert best_of(summary)["epoch"] == best
    assert best_of(summary)["validation_accuracy"] == accuracies[best - 1]
    assert best_of(summary)["test_loss"] == script.seen[best - 1]
    assert (summary["final"]["epoch"], summary["final"]["test_loss"]) == (3, script.seen[2])


def test_weights_that_are_left_are_those_after_the_last_epoch(
    constant: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Scripted([1.0, 1.0, 1.0], [0.5, 0.3, 0.4])
    monkeypatch.setattr(runner, "evaluate", script)
    train(constant, results=tmp_path)
    weights = store.read_weights(RunPaths.of(tmp_path, constant))
    assert float(weights["classifier.weight"].double().abs().sum()) == script.seen[2]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_run_whose_validation_loss_is_not_finite_stops_there(
    loss: float, constant: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "evaluate", Scripted([1.0, loss, 1.0], [0.1, 0.2, 0.3]))
    run = train(constant, results=tmp_path)
    assert run.summary["diverged"] is True
    assert run.metrics["epoch"].tolist() == [1, 2]
    assert best_of(run.summary)["epoch"] == 1


def test_first_epoch_of_a_longer_run_is_the_shorter_runs(constant: RunConfig, tmp_path: Path) -> None:
    long, short = (train(replace(constant, epochs=epochs), results=tmp_path) for epochs in (3, 1))
    columns = ["mean_abs", "l2_norm", "update_ratio"]
    first, second = (long.gradients.query(f"epoch == {epoch}")[columns].to_numpy() for epoch in (1, 2))
    assert np.array_equal(first, short.gradients[columns].to_numpy())
    assert not np.array_equal(first, second)
    names = ["train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "gradient_norm_mean"]
    assert long.metrics[names].iloc[0].tolist() == short.metrics[names].iloc[0].tolist()


def test_numbers_of_a_run_are_those_of_its_own_splits(tiny: RunConfig, trained: Path) -> None:
    paths = RunPaths.of(trained, tiny)
    run, splits = store.read_run(paths.folder), load(tiny)
    model = VGG.from_config(tiny)
    model.load_state_dict(store.read_weights(paths))
    final = run.summary["final"]
    for split, images in (("validation", splits.validation), ("test", splits.test)):
        pixels = (images.pixels.double() / 255 - torch.tensor(data.MEAN)) / torch.tensor(data.STD)
        with torch.no_grad():
            logits = model.eval()(pixels.float().permute(0, 3, 1, 2))
        loss = torch.nn.functional.cross_entropy(logits.double(), images.labels).item()
        assert metric_of(final, f"{split}_loss") == pytest.approx(loss, rel=1e-5)
    assert final["validation_loss"] != final["test_loss"]
    assert run.metrics["validation_loss"].iloc[-1] == final["validation_loss"]


def test_speed_is_the_median_epochs_and_the_time_all_epochs(tiny: RunConfig, trained: Path) -> None:
    run = store.read_run(RunPaths.of(trained, tiny).folder)
    middle = sorted(run.metrics["train_seconds"])[1]
    assert run.summary["images_per_second"] == pytest.approx(200 / middle)
    assert run.summary["wall_seconds"] == pytest.approx(sum(run.metrics["seconds"]))
    assert (run.metrics["train_seconds"] < run.metrics["seconds"]).all()


def test_evaluate_measures_each_split_on_its_own_images(
    tiny: RunConfig, trained: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = store.read_run(RunPaths.of(trained, tiny).folder).summary["final"]
    monkeypatch.setattr(evaluation, "evaluate", lambda model, images, *rest: (float(len(images)), 0.5))
    settings = {"dataset": "synthetic", "train-images-per-class": 2, "batch-size": 50, "epochs": 3, "results": trained}
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    monkeypatch.setenv("COLUMNS", "200")
    _, shown, _ = call("evaluate", "vgg08", *words)
    for split, images in (("validation", 500), ("test", 1000)):
        (row,) = [line for line in shown.splitlines() if f" {split} " in line]
        assert f"{images}.0000" in row
        assert f"{metric_of(final, f'{split}_loss'):.4f}" in row


@pytest.mark.parametrize("field", [item.name for item in fields(RunConfig)])
def test_name_and_folder_tell_runs_apart_by_every_setting(field: str) -> None:
    """Every setting changes a run's name or folder, except the precision, which is checked when the run is read."""
    other: dict[str, Any] = {
        "suite": "other", "depth": 14, "batch_norm": False, "residual": False, "initialisation": "he",
        "dropout": 0.5, "dataset": "synthetic", "train_images_per_class": 7, "split_seed": 1, "batch_size": 99,
        "epochs": 99, "learning_rate": 2e-3, "minimum_learning_rate": 1e-5, "schedule": "constant",
        "weight_decay": 1e-4, "decoupled_weight_decay": True, "skip_init": True, "seed": 1,
    }  # fmt: skip
    if field == "precision":
        assert RunConfig(precision="bfloat16").name == RunConfig().name
        return
    config = RunConfig(batch_size=50, weight_decay=1e-3, batch_norm=field == "batch_norm")
    change = {field: other[field]}
    changed = replace(config, **change)
    assert RunPaths.of("results", changed).folder != RunPaths.of("results", config).folder
    if field not in ("suite", "seed"):
        assert changed.name != config.name


@pytest.mark.parametrize(
    ("suite", "different"),  # README, "What is where"
    [
        ("table1", {}),
        ("local", {}),
        ("short", {"epochs": 15}),
        ("schedule", {"schedule": "cosine-per-batch"}),
        ("cure", {"epochs": 15}),
        ("depth", {"epochs": 15}),
        ("further", {"epochs": 15}),
        ("beside", {}),
        ("preview", {"epochs": 10, "train_images_per_class": 158}),
        ("preview-float32", {"epochs": 10, "train_images_per_class": 158}),
    ],
)
def test_suites_change_the_reports_settings_in_what_they_say(suite: str, different: dict[str, Any]) -> None:
    report: dict[str, Any] = {"epochs": 100, "batch_size": 100, "learning_rate": 1e-3, "minimum_learning_rate": 2e-5}
    report |= {"schedule": "cosine", "weight_decay": 0.0, "dropout": 0.0, "train_images_per_class": None}
    config = RunConfig.named("vgg38_bn", suite=suite)
    assert {name: getattr(config, name) for name in report} == report | different
