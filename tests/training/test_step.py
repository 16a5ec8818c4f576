"""One step of training against a plain PyTorch loop: what each setting does to it, and what it measures."""

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.shared import CPU, an_epoch, gradient_of
from vggkit.config import RunConfig
from vggkit.data import EpochPlan, Splits, load, train_batch
from vggkit.networks import fused
from vggkit.networks.vgg import VGG
from vggkit.training.compute import Compute
from vggkit.training.evaluation import evaluate
from vggkit.training.graph import one_step
from vggkit.training.step import Trainer, make_scheduler, train_epoch


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
    images, _ = train_batch(synthetic.train, EpochPlan.draw(100, 5, 1).take(torch.arange(25)))
    with torch.no_grad():
        assert attempt.model(images).var().item() == pytest.approx(1, abs=1e-4)


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


def test_epochs_plan_of_a_run_is_that_of_its_seed_and_epoch(tiny: RunConfig, synthetic: Splits) -> None:
    attempt = trainer(replace(tiny, seed=3), synthetic)
    attempt.begin_epoch(2)
    expected = EpochPlan.draw(100, 3, 2)
    for drawn in ("order", "top", "left", "flip"):
        assert torch.equal(getattr(attempt.plan, drawn), getattr(expected, drawn))


@pytest.mark.parametrize(("weight_decay", "epsilon"), [(0.0, 1e-8), (0.5, 1e-8), (0.0, 1e-3)])
def test_first_step_is_adams_with_the_penalty_in_the_gradient(
    weight_decay: float, epsilon: float, tiny: RunConfig, synthetic: Splits
) -> None:
    # Kingma & Ba (2015), algorithm 1: the first step is rate x g / (|g| + epsilon), here with g + weight_decay x w.
    attempt = trainer(replace(tiny, weight_decay=weight_decay, adam_epsilon=epsilon), synthetic)
    before = {name: p.detach().clone() for name, p in attempt.model.named_parameters()}
    attempt.begin_epoch(1)
    attempt.step()
    for name, parameter in attempt.model.named_parameters():
        assert parameter.grad is not None
        gradient = parameter.grad.double() + weight_decay * before[name].double()
        expected = before[name].double() - 1e-3 * gradient / (gradient.abs() + epsilon)
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
    plan = EpochPlan.draw(100, tiny.seed, 1)
    for places in torch.arange(30).split(10):
        attempt.step()
        images, labels = train_batch(synthetic.train, plan.take(places))
        optimizer.zero_grad()
        F.cross_entropy(model(images.double().contiguous()), labels).backward()
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


# At batch size 60 the last batch has 20 images.
@pytest.mark.parametrize(("batch_size", "fuse"), [(25, False), (30, False), (25, True)])
def test_steps_and_statistics_equal_a_plain_loop(batch_size: int, fuse: bool, tiny: RunConfig) -> None:
    # Adam divides by the gradient's size, which magnifies rounding. With a small learning rate the weights in float32
    # and in float64 stay close for the four steps.
    if fuse and not fused.available(CPU):
        pytest.skip("torch.compile does not work here: no C++ compiler")
    config = replace(
        tiny, depth=14, batch_norm=True, residual=True, batch_size=batch_size, learning_rate=1e-5,
        minimum_learning_rate=0.0,
    )  # fmt: skip
    data = load(config)
    trainer = Trainer(config, data, Compute(CPU, config.precision, fuse))
    model = VGG(14).double()
    model.load_state_dict(trainer.model.state_dict())
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    metrics, values = an_epoch(trainer, 1)
    losses, statistics, norms = [], [], []
    plan = EpochPlan.draw(100, config.seed, 1)
    for places in torch.arange(100).split(batch_size):
        images, labels = train_batch(data.train, plan.take(places))
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images.double().contiguous()), labels)
        loss.backward()
        named = list(model.named_parameters())
        before = [p.detach().clone() for _, p in named]
        optimizer.step()
        rows = [
            (gradient_of(p).abs().mean(), gradient_of(p).norm(), (p.detach() - old).norm() / old.norm())
            for (name, p), old in zip(named, before, strict=True)
            if name.endswith("weight")
        ]
        statistics.append(torch.tensor(rows))
        norms.append(math.sqrt(sum(float((gradient_of(p) ** 2).sum()) for _, p in named)))
        losses.append(loss.item() * len(labels) / 100)
    assert metrics["train_loss"] == pytest.approx(sum(losses), rel=1e-4)
    assert metrics["gradient_norm_mean"] == pytest.approx(sum(norms) / len(norms), rel=1e-3)
    expected = torch.stack(statistics)
    torch.testing.assert_close(values[1].T.float(), expected.mean(0).float(), rtol=0.03, atol=1e-9)
    torch.testing.assert_close(values[0].T.float(), expected[-1].float(), rtol=0.03, atol=1e-9)


def test_a_step_copies_nothing_from_the_host(tiny: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(tiny, load(tiny), Compute(CPU, tiny.precision))
    trainer.begin_epoch(1)
    trainer.step()  # tensors that are made once and kept are made by the first step

    def refuse(*arguments: object, **settings: object) -> None:
        raise AssertionError("a CUDA graph cannot record this")

    for name in ("tensor", "as_tensor", "from_numpy"):
        monkeypatch.setattr(torch, name, refuse)
    for name in ("item", "cpu", "tolist", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    trainer.step()


def test_checkpoint_of_a_gpu_is_taken_up_on_a_cpu(tiny: RunConfig) -> None:
    trainer, data = Trainer(tiny, load(tiny), Compute(CPU, tiny.precision)), load(tiny)
    an_epoch(trainer, 1)
    state = copy.deepcopy(trainer.state_dict())
    for group in state["optimizer"]["param_groups"]:  # as the optimizer's state is on a GPU
        group |= {"capturable": True, "lr": torch.tensor(group["lr"])}
    resumed = Trainer(tiny, data, Compute(CPU, tiny.precision))
    resumed.load_state_dict(state)
    assert [type(group["lr"]) for group in resumed.optimizer.param_groups] == [float]
    (metrics, _), (expected, _) = an_epoch(resumed, 2), an_epoch(trainer, 2)
    assert metrics["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-6)


def test_vanishing_gradients_do_not_underflow(tiny: RunConfig) -> None:
    trainer = Trainer(tiny, load(tiny), Compute(CPU, tiny.precision))
    for parameter in trainer.model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-30)
    trainer.gradient_log.before_step()
    trainer.gradient_log.after_step()
    values, _ = trainer.gradient_log.end_epoch(1)
    torch.testing.assert_close(values[0, 0], torch.full_like(values[0, 0], 1e-30), rtol=1e-5, atol=0)
    assert (values[0, 1] > 0).all()


@pytest.mark.parametrize(("schedule", "cycle"), [("cosine", False), ("cosine-per-batch", True), ("constant", False)])
def test_learning_rate_follows_the_formula(schedule: str, cycle: bool) -> None:
    config = RunConfig(schedule=schedule, epochs=10, learning_rate=1e-2)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=config.learning_rate)
    scheduler = make_scheduler(optimizer, config)
    for step in range(25 if cycle else 11):
        cosine = 2e-5 + (1e-2 - 2e-5) * (1 + math.cos(math.pi * step / 10)) / 2
        expected = 1e-2 if schedule == "constant" else cosine
        assert scheduler.get_last_lr()[0] == pytest.approx(expected, rel=1e-6)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("schedule", ["cosine", "cosine-per-batch", "constant"])
def test_trainer_steps_the_schedule_by_epoch_or_by_batch(schedule: str, tiny: RunConfig) -> None:
    config = replace(tiny, schedule=schedule)
    trainer = Trainer(config, load(config), Compute(CPU, config.precision))
    rates = [an_epoch(trainer, epoch)[0]["learning_rate"] for epoch in (1, 2, 3)]
    steps = {"cosine": (0, 1, 2), "cosine-per-batch": (0, 4, 8), "constant": (0, 0, 0)}[schedule]  # 4 batches an epoch
    assert rates == pytest.approx([2e-5 + (1e-3 - 2e-5) * (1 + math.cos(math.pi * step / 3)) / 2 for step in steps])
