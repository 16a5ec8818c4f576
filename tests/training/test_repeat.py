"""A first epoch trained again: equal on this machine, and told apart from what it is not."""

from dataclasses import replace
from pathlib import Path

import pytest

from vggkit.config import RunConfig
from vggkit.networks import fused
from vggkit.networks.vgg import VGG
from vggkit.runs.files import ArtifactError
from vggkit.runs.records import Run
from vggkit.runs.store import ArtifactWarning
from vggkit.training.repeat import first_epoch
from vggkit.training.runner import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = RunConfig.named("vgg08", dataset="synthetic", train_images_per_class=1, batch_size=25, epochs=2)
    return train(config, results=tmp_path_factory.mktemp("results"))


def test_on_this_machine_every_number_is_equal(trained: Run) -> None:
    found = first_epoch(trained)
    assert found.equal and found.agrees
    assert {one.name for one in found.metrics} == set(trained.metrics) - {"epoch", "train_seconds", "seconds"}
    assert set(found.gradients) == {"mean_abs", "l2_norm", "update_ratio"}


def test_another_seed_is_not_equal(trained: Run) -> None:
    assert not first_epoch(replace(trained, config=replace(trained.config, seed=1))).equal


@pytest.mark.parametrize(("factor", "agrees"), [(0.995, True), (1.02, False)])
def test_the_loss_agrees_within_one_per_cent(trained: Run, factor: float, agrees: bool) -> None:
    metrics = trained.metrics.copy()
    metrics.loc[0, "train_loss"] *= factor
    found = first_epoch(replace(trained, metrics=metrics))
    assert not found.equal and found.agrees is agrees


def test_one_gradient_changed_is_not_equal(trained: Run) -> None:
    gradients = trained.gradients.copy()
    gradients.loc[3, "l2_norm"] *= 1.5
    found = first_epoch(replace(trained, gradients=gradients))
    assert not found.equal and found.gradients["l2_norm"] == pytest.approx(1 / 3)
    assert found.gradients["mean_abs"] == 0


def test_fused_run_is_repeated_where_nothing_can_be_compiled(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = trained.summary.copy()
    summary["segments"] = [{**part, "fused": True} for part in summary["segments"]]
    monkeypatch.setattr(fused, "available", lambda device: False)
    monkeypatch.setattr(VGG, "fuse", None)  # would fail if it were called
    with pytest.warns(ArtifactWarning, match="^fuse: the run was begun with fused passes, but torch.compile does not"):
        found = first_epoch(replace(trained, summary=summary))
    assert found.equal  # as it was not fused in truth


def test_other_images_are_refused(trained: Run, tmp_path: Path) -> None:
    summary = trained.summary.copy()
    summary["data_sha256"] = "0" * 64
    with pytest.raises(ArtifactError, match="these images are not those"):
        first_epoch(replace(trained, summary=summary))
