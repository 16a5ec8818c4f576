"""What passes through untrained networks: each number against what is known, or a forward pass written out."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vggkit.config import ConfigError, RunConfig
from vggkit.data import load
from vggkit.networks.vgg import VGG
from vggkit.runs import propagation as artefact
from vggkit.runs.files import ArtifactError
from vggkit.runs.propagation import Network
from vggkit.training import propagation as measurement
from vggkit.training.propagation import cosine, effective_rank, features, mean_correlation, of_network

IMAGES, LABELS = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(5)), torch.tensor([7, 8, 7])


def test_equal_images_differ_in_nothing() -> None:
    x = torch.rand(1, 4, 5, 5, dtype=torch.float64).expand(4, -1, -1, -1)  # a mean of 4 is exact
    found = features(x)
    assert found["between_images"] == found["effective_rank"] == 0
    assert found["correlation_gap"] == pytest.approx(0, abs=1e-30)
    assert found["size"] == pytest.approx(float(x.square().mean().sqrt()))
    assert mean_correlation(x) == pytest.approx(1)


def test_correlation_is_the_mean_over_all_pairs() -> None:
    x = torch.randn(5, 2, 3, 3, dtype=torch.float64)
    rows = x.flatten(1).numpy()
    pairs = [rows[a] @ rows[b] / np.linalg.norm(rows[a]) / np.linalg.norm(rows[b]) for a in range(5) for b in range(a)]
    assert mean_correlation(x) == pytest.approx(np.mean(pairs))
    opposite = torch.tensor([[1.0, 0.0], [-2.0, 0.0]], dtype=torch.float64)
    assert mean_correlation(opposite) == pytest.approx(-1)


def test_gap_of_nearly_equal_images_is_not_rounded_away() -> None:
    distance = 1e-12
    x = torch.tensor([[1.0, 0.0], [1.0, distance]], dtype=torch.float64)
    assert features(x)["correlation_gap"] == pytest.approx(distance**2 / 2, rel=1e-6)


def test_deviations_are_over_images_and_over_channels() -> None:
    x = torch.zeros(2, 2, 1, 1, dtype=torch.float64)
    x[0, 0], x[0, 1], x[1, 0], x[1, 1] = 1.0, 3.0, 5.0, 7.0
    found = features(x)
    assert found["between_images"] == pytest.approx(4 / math.sqrt(2))
    assert found["between_channels"] == pytest.approx(2 / math.sqrt(2))


@pytest.mark.parametrize("scale", [1.0, 1e-150])
@pytest.mark.parametrize("rank", [1, 3, 6])
def test_effective_rank_of_equal_singular_values_is_their_number(rank: int, scale: float) -> None:
    corners = torch.eye(rank + 1, dtype=torch.float64) * scale  # a regular simplex, which is as wide in all directions
    assert effective_rank(corners) == pytest.approx(rank)
    assert effective_rank(corners + 5 * scale) == pytest.approx(rank)  # what all share is not a direction


def test_cosine_bears_small_numbers_and_nothing() -> None:
    one, other = torch.tensor([[1e-200, 0.0], [3e-200, 3e-200]], dtype=torch.float64)
    assert cosine(one, other) == pytest.approx(math.sqrt(0.5))
    assert cosine(one, -one) == pytest.approx(-1)
    assert cosine(one, torch.zeros(2)) == 0


@pytest.mark.parametrize("initialisation", ["default", "he"])
def test_rows_are_those_of_a_forward_pass_written_out(initialisation: str) -> None:
    network = Network(14, False, True, initialisation)
    before = torch.get_rng_state()
    found = of_network(network, 3, IMAGES, LABELS)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    model = VGG.from_config(
        RunConfig(depth=14, batch_norm=False, residual=True, initialisation=initialisation)
    ).double()

    def act(x: Tensor) -> Tensor:
        return F.leaky_relu(x, 0.01)

    given = [IMAGES.double().requires_grad_()]
    given.append(act(F.batch_norm(model.entry.conv(given[-1]), None, None, training=True)))
    for stage in model.stages:
        block, reduction = (cast(Any, stage.get_submodule(name)) for name in ("block1", "reduction"))
        given.append(act(block.conv1(given[-1])))
        given.append(act(block.conv2(given[-1]) + given[-2]))
        given.append(F.avg_pool2d(act(reduction.conv1(given[-1])), 2))
        given.append(act(reduction.conv2(given[-1])))
    given[-1] = given[-1].mean((2, 3))
    given.append(model.classifier(given[-1]))
    weights = [w for name, w in model.named_parameters() if w.dim() > 1]
    gradients = torch.autograd.grad(F.cross_entropy(given[-1], LABELS), [*given, *weights])
    assert len(found) == len(given) == 15 and len(weights) == 14
    for row, x, error in zip(found, given, gradients, strict=False):
        assert row["size"] == pytest.approx(float(x.detach().pow(2).mean().sqrt()))
        assert row["between_images"] == pytest.approx(float(x.detach().var(0).mean().sqrt()))
        assert row["error"] == pytest.approx(float(error.norm()))
    for row, gradient in zip(found, gradients[len(given) :], strict=False):
        assert row["weight_gradient"] == pytest.approx(float(gradient.abs().mean()))
        assert row["float32_features"] > 0.999 and row["float32_gradient"] > 0.999
        assert row["bfloat16_gradient"] > 0.9


def test_images_that_are_alike_have_one_error_and_differ_by_nothing() -> None:
    network = Network(8, False, False, "default")
    found = of_network(network, 0, IMAGES[:1].expand(3, -1, -1, -1), LABELS)
    # Behind the entry, whose BN hands an error back that depends on the whole batch.
    assert [row["error_correlation"] for row in found[1:]] == pytest.approx([1] * 8)
    assert max(row["between_images"] for row in found) < 1e-15
    assert of_network(network, 0, IMAGES, LABELS)[1]["error_correlation"] < 0.9


def test_float32_loses_the_images_of_the_deep_plain_network_and_keeps_its_gradient() -> None:
    found = of_network(Network(38, False, False, "default"), 0, IMAGES[:2], LABELS[:2])
    assert found[5]["float32_features"] > 0.999
    assert abs(found[37]["float32_features"]) < 0.5
    assert min(row["float32_gradient"] for row in found[:-1]) > 0.99


def test_bfloat16_loses_the_images_of_a_plain_network_that_float32_still_tells_apart() -> None:
    found = of_network(Network(20, False, False, "default"), 0, IMAGES, LABELS)
    assert found[19]["float32_features"] > 0.5
    assert abs(found[19]["bfloat16_features"]) < 0.3
    # They are lost on the way: half the layers further up the same arithmetic still has them.
    assert found[9]["bfloat16_features"] > 0.9
    assert min(row["bfloat16_gradient"] for row in found[:-1]) > 0.9


def test_measurement_is_kept_and_read_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = [Network(8, False, False, "default"), Network(8, True, False, "he")]
    monkeypatch.setattr(measurement, "load", lambda config, data: load(replace(config, dataset="synthetic"), data))
    monkeypatch.setattr(measurement, "NETWORKS", networks[:1])
    (only,) = measurement.measure([2], 3, results=tmp_path)
    monkeypatch.setattr(measurement, "NETWORKS", networks)  # as a newer version may, or one with deeper networks
    (first,) = measurement.measure([2], 3, results=tmp_path)
    kept = first.layers[: len(only.layers)][["size", "error"]].to_numpy()
    assert kept == pytest.approx(only.layers[["size", "error"]].to_numpy(), rel=1e-4)
    assert len(first.layers) == 2 * len(only.layers) == 18
    older = first.layers.copy()  # measured before there were these values
    older.loc[older["batch_norm"], [*artefact.LATER]] = math.nan
    artefact.write(replace(first, layers=older), tmp_path)
    assert artefact.read(tmp_path, 2).layers[[*artefact.LATER]].isna().any(axis=None)
    (again,) = measurement.measure([2], 3, results=tmp_path)
    pd.testing.assert_frame_equal(again.layers, first.layers, rtol=1e-3)
    list(measurement.measure([3], 3, results=tmp_path))
    artefact.write(replace(first, layers=older), tmp_path)
    with monkeypatch.context() as patch:
        asked: list[int] = []

        def counted(network: Network, seed: int, *images: Any) -> Any:
            asked.append(seed)
            return of_network(network, seed, *images)

        patch.setattr(measurement, "of_network", counted)
        list(measurement.measure([2, 3], 3, results=tmp_path))
    assert asked == [2]  # the second seed lacks nothing
    written = artefact.place(tmp_path, 2).read_bytes()
    monkeypatch.setattr(measurement, "of_network", None)  # not called again
    (again,) = measurement.measure([2], 3, results=tmp_path)
    assert artefact.place(tmp_path, 2).read_bytes() == written
    assert again.layers["size"].to_numpy() == pytest.approx(first.layers["size"].to_numpy(), rel=1e-4)
    with pytest.raises(ArtifactError, match=r"seed-2.parquet was measured on other images \(3 images\)"):
        next(measurement.measure([1, 2], 4, results=tmp_path))
    assert artefact.place(tmp_path, 2).read_bytes() == written and not artefact.place(tmp_path, 1).exists()
    with pytest.raises(ConfigError, match="images: 1 is not allowed; allowed: an integer of at least 2"):
        next(measurement.measure([2], 1, results=tmp_path))


def test_every_kind_of_network_is_measured_once() -> None:
    found = measurement.NETWORKS
    assert len(set(found)) == len(found) == 2 * (2 + 8 * 4)
    assert max(network.depth for network in found) == 110
    assert {network[1:] for network in found if network.depth == 8} == {
        (batch_norm, False, initialisation) for batch_norm in (False, True) for initialisation in ("default", "he")
    }
