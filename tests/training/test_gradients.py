"""The gradient log against numbers computed by hand in float64, and the table it is kept in."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.shared import gradient_of
from vggkit.networks.vgg import VGG
from vggkit.training.gradients import GradientLog, to_frame, weight_names


@pytest.fixture
def small() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(), nn.Flatten(), nn.Linear(16, 5))
    return layers.double()


def test_statistics_equal_numbers_by_hand_for_each_of_two_epochs(small: nn.Sequential) -> None:
    log = GradientLog(small)
    optimizer = torch.optim.Adam(small.parameters(), lr=0.05)
    for batches in (4, 3):  # of different lengths, so that what is left of the first epoch would show
        steps, whole = [], []
        for _ in range(batches):
            loss = nn.functional.cross_entropy(small(torch.randn(6, 3, 4, 4).double()), torch.randint(0, 5, (6,)))
            loss.backward()
            gradients = {name: gradient_of(p).numpy().copy() for name, p in small.named_parameters()}
            before = {name: p.detach().numpy().copy() for name, p in small.named_parameters()}
            log.before_step()
            optimizer.step()
            log.after_step()
            optimizer.zero_grad()
            after = {name: p.detach().numpy() for name, p in small.named_parameters()}
            rows = []
            for name in ("0.weight", "1.weight", "4.weight"):
                moved = np.sqrt(((after[name] - before[name]) ** 2).sum()) / np.sqrt((before[name] ** 2).sum())
                rows.append([np.abs(gradients[name]).mean(), np.sqrt((gradients[name] ** 2).sum()), moved])
            steps.append(np.transpose(rows))
            whole.append(np.sqrt(sum((g**2).sum() for g in gradients.values())))
        values, norms = log.end_epoch(batches)
        np.testing.assert_allclose(values[0], steps[-1], rtol=1e-10)
        np.testing.assert_allclose(values[1], np.mean(steps, axis=0), rtol=1e-10)
        assert norms == pytest.approx((whole[-1], np.mean(whole)), rel=1e-10)


@pytest.mark.parametrize(
    ("model", "tensors"),
    [(VGG(8, False, False), 9), (VGG(38, False, False), 39), (VGG(38, True, False), 75), (VGG(38, True, True), 75)],
)
def test_every_weight_tensor_and_no_bias_is_logged(model: VGG, tensors: int) -> None:
    names = weight_names(model)
    assert len(names) == len(set(names)) == tensors
    assert {name.rsplit(".", 1)[1] for name in names} == {"weight"}
    assert (names[0], names[-1]) == ("entry.conv.weight", "classifier.weight")


def test_table_puts_each_value_beside_its_epoch_tensor_and_average() -> None:
    names = ["entry.conv.weight", "entry.bn.weight", "classifier.weight"]
    history = torch.arange(2 * 2 * 3 * 3, dtype=torch.float64).reshape(2, 2, 3, 3)  # each value tells its own place
    table = to_frame(names, history)
    assert len(table) == 2 * 2 * 3
    row = table[(table["epoch"] == 2) & (table["over"] == "mean") & (table["parameter"] == "entry.bn.weight")]
    assert row[["layer", "kind"]].to_numpy().tolist() == [[1, "bn"]]
    assert row[["mean_abs", "l2_norm", "update_ratio"]].to_numpy().tolist() == [[28, 31, 34]]
    kinds = table.drop_duplicates("parameter").set_index("parameter")["kind"].to_dict()
    assert kinds == {"entry.conv.weight": "conv", "entry.bn.weight": "bn", "classifier.weight": "linear"}


def test_norms_of_vanishing_gradients_are_right_beside_large_ones(small: nn.Sequential) -> None:
    small = small.float()
    for name, parameter in small.named_parameters():
        parameter.grad = torch.full_like(parameter, 1e-30 if name == "0.weight" else 1.0)
    log = GradientLog(small)
    log.before_step()
    log.after_step()
    table = to_frame(log.names, log.end_epoch(1)[0][None])
    norms = table[table["over"] == "last"].set_index("parameter")["l2_norm"]
    assert norms["0.weight"] == pytest.approx(1e-30 * np.sqrt(4 * 3 * 9), rel=1e-5, abs=0)  # its square is 0 in float32
    assert norms["4.weight"] == pytest.approx(np.sqrt(5 * 16), rel=1e-5)
