"""Whole runs: what their numbers are, and that a killed, stopped or diverged run loses nothing."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from tests.shared import CPU, FEW_IMAGES, ROOT, best_of, part_of_summary, stop_in
from vggkit import data
from vggkit.config import ConfigError, RunConfig
from vggkit.data import DataError, Images, evaluation_batches, load
from vggkit.networks import fused, lsuv
from vggkit.networks.vgg import VGG
from vggkit.report import pages
from vggkit.runs import checkpoints, provenance, store
from vggkit.runs.files import ArtifactError, RunPaths
from vggkit.runs.records import Run, metric_of, segments
from vggkit.runs.store import ArtifactWarning, find_runs, read_run
from vggkit.training import runner
from vggkit.training.compute import Compute
from vggkit.training.evaluation import evaluate
from vggkit.training.runner import train, train_together


@pytest.fixture
def constant(tiny: RunConfig) -> RunConfig:
    """`tiny` with a constant learning rate: the first epoch is then the same however many follow."""
    return replace(tiny, schedule="constant")


class Scripted:
    """Stands in for `evaluate`: returns given validation results, and as test loss a number that tells the weights."""

    def __init__(self, losses: list[float], accuracies: list[float]) -> None:
        self.script = list(zip(losses, accuracies, strict=True))
        self.seen: list[float] = []

    def __call__(self, model: VGG, images: Images, *rest: Any) -> tuple[float, float]:
        fingerprint = model.classifier.weight.detach().double().abs().sum().item()
        if len(images) == 100 * FEW_IMAGES.test:
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


def test_signal_is_what_differs_between_images_in_what_each_layer_is_given(tiny: RunConfig, trained: Path) -> None:
    folder = RunPaths.of(trained, tiny).folder
    given: list[Tensor] = []
    found, model = read_run(folder).signal, VGG.from_run(folder).double()
    assert found is not None and list(found["epoch"]) == [1] * 9 + [2] * 9 + [3] * 9
    for part in model.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            part.register_forward_pre_hook(lambda part, inputs: given.append(inputs[0].detach().clone()))
    images, _ = next(evaluation_batches(load(tiny).train, 10))
    given.append(model.train()(images.double()).detach())
    expected = [(x.var(dim=0).mean() / x.square().mean()).sqrt().item() for x in given]
    assert found["share"][-9:].tolist() == pytest.approx(expected, rel=1e-6)


def test_speed_is_the_median_epochs_and_the_time_all_epochs(tiny: RunConfig, trained: Path) -> None:
    run = store.read_run(RunPaths.of(trained, tiny).folder)
    middle = sorted(run.metrics["train_seconds"])[1]
    assert run.summary["images_per_second"] == pytest.approx(100 / middle)
    assert run.summary["wall_seconds"] == pytest.approx(sum(run.metrics["seconds"]))
    assert (run.metrics["train_seconds"] < run.metrics["seconds"]).all()


def same(first: Run, second: Run) -> bool:
    """Whether all numbers but the times are equal, bit for bit."""
    metrics, others = (run.metrics.drop(columns=["train_seconds", "seconds"]) for run in (first, second))
    ends, other_ends = ([run.summary[name] for name in ("final", "best")] for run in (first, second))
    assert first.signal is not None and second.signal is not None
    frames = [(metrics, others), (first.gradients, second.gradients), (first.signal, second.signal)]
    return all(frame.equals(other) for frame, other in frames) and ends == other_ends


def test_seeds_trained_together_equal_those_trained_alone(tiny: RunConfig, tmp_path: Path) -> None:
    configs = [replace(tiny, seed=seed) for seed in (0, 1)]
    with pytest.raises(KeyboardInterrupt):  # so that seed 1 is an epoch ahead of seed 0
        train(configs[1], results=tmp_path / "together", progress=stop_in(2))
    together = train_together(configs, results=tmp_path / "together")
    alone = [train(config, results=tmp_path / "alone") for config in configs]
    assert all(same(first, second) for first, second in zip(together, alone, strict=True))
    assert not same(*alone)
    dropped = [replace(config, dropout=0.5) for config in configs]
    with pytest.raises(ConfigError, match="dropout"):
        train_together(dropped, results=tmp_path)
    for unlike in (tiny, replace(tiny, seed=1, batch_size=50), replace(tiny, split_seed=1)):
        with pytest.raises(ConfigError, match="trained together"):
            train_together([tiny, unlike], results=tmp_path)


def test_different_networks_trained_together_equal_those_trained_alone(tiny: RunConfig, tmp_path: Path) -> None:
    """Depth, BN, initialisation, learning rate, decay and number of epochs may differ."""
    others: dict[str, Any] = {"depth": 14, "batch_norm": False, "initialisation": "lsuv", "learning_rate": 1e-4}
    configs = [tiny, replace(tiny, **others, epochs=2), replace(tiny, weight_decay=1e-3, epochs=1)]
    seen = []
    together = train_together(
        configs, results=tmp_path / "together", progress=lambda epoch, images, row: seen.append(row and row["name"])
    )
    alone = [train(config, results=tmp_path / "alone") for config in configs]
    assert all(same(first, second) for first, second in zip(together, alone, strict=True))
    first, second = (run.metrics["train_seconds"][0] for run in together[:2])
    assert first / second == pytest.approx(configs[0].depth / configs[1].depth)
    assert [seen.count(config.name) for config in configs] == [config.epochs for config in configs]
    parts = [[(part["last_epoch"], part["together"]) for part in run.summary["segments"]] for run in together]
    assert parts == [[(config.epochs, 3)] for config in configs]
    assert ", beside 2 other networks" in pages.provenance(together[0])
    assert "beside" not in pages.provenance(alone[0])


KILLED = """
import json, os, signal, sys
from tests.shared import FEW_IMAGES
from vggkit.config import DATASETS, RunConfig
from vggkit.training.runner import train
DATASETS["synthetic"] = FEW_IMAGES
def progress(epoch, images, metrics):
    if epoch == 2 and images >= 100 and metrics is None:
        os.kill(os.getpid(), signal.SIGKILL)
train(RunConfig.from_dict(json.loads(sys.argv[1])), results=sys.argv[2], progress=progress)
"""


@pytest.mark.posix
def test_killed_and_resumed_run_equals_an_uninterrupted_one(tiny: RunConfig, tmp_path: Path) -> None:
    config = replace(tiny, dropout=0.3, batch_norm=True)
    call = [sys.executable, "-c", KILLED, json.dumps(config.to_dict()), str(tmp_path / "killed")]
    assert subprocess.run(call, check=False, cwd=ROOT).returncode == -signal.SIGKILL
    assert find_runs(tmp_path / "killed") == []
    assert RunPaths.of(tmp_path / "killed", config).checkpoint.exists()
    epochs: list[int] = []
    resumed = train(config, results=tmp_path / "killed", progress=lambda epoch, *_: epochs.append(epoch))
    assert min(epochs) == 2
    assert same(resumed, train(config, results=tmp_path / "whole"))
    assert resumed.summary["fused"] is False


def test_stopped_and_resumed_fused_run_equals_an_uninterrupted_one(tiny: RunConfig, tmp_path: Path) -> None:
    if not fused.available(CPU):
        pytest.skip("torch.compile does not work here: no C++ compiler")
    config = replace(tiny, epochs=2, dropout=0.3, batch_norm=True)
    stopped(config, tmp_path / "stopped", 2, fuse=True)
    resumed = train(config, results=tmp_path / "stopped")
    assert same(resumed, train(config, results=tmp_path / "whole", fuse=True))
    assert resumed.summary["fused"] is True


def test_stopped_run_of_every_newer_setting_equals_an_uninterrupted_one(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"initialisation": "lsuv", "skip_init": True, "decoupled_weight_decay": True}
    settings |= {"depth": 14, "residual": True, "weight_decay": 0.1, "epochs": 2, "train_images_per_class": 1}
    config = replace(tiny, **settings)
    monkeypatch.setattr(runner, "evaluate", lambda *given: (1.0, 0.5))  # it takes most of the time, and changes nothing
    whole = train(config, results=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(config, results=tmp_path / "stopped", progress=stop_in(2))
    monkeypatch.setattr(lsuv, "scale", None)  # would fail if it were called again
    stopped = train(config, results=tmp_path / "stopped")
    assert same(stopped, whole)
    assert (
        VGG.from_run(RunPaths.of(tmp_path / "whole", config).folder).get_parameter("stages.stage1.block1.factor") != 0
    )


def test_interrupted_run_goes_on_and_a_finished_one_is_loaded(tiny: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tiny, results=tmp_path, progress=stop_in(3))
    first = train(tiny, results=tmp_path)

    def fail(*report: object) -> None:
        raise AssertionError("trained again")

    assert same(first, train(tiny, results=tmp_path, progress=fail))


def stopped(config: RunConfig, results: Path, epoch: int, **how: Any) -> dict[str, Any]:
    """Stop a run in this epoch; return the checkpoint that it left."""
    with pytest.raises(KeyboardInterrupt):
        train(config, results=results, progress=stop_in(epoch), **how)
    state = checkpoints.read_checkpoint(RunPaths.of(results, config), config, CPU)
    assert state is not None
    return state


def test_every_segment_of_a_run_tells_where_it_was_trained(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(tiny, epochs=6)
    for place, (commit, device, threads, version, last) in enumerate(
        [("a" * 40, "AMD EPYC", 2, "2.11.0", 2), ("b" * 40, "Intel(R) Xeon(R)", 4, "2.13.0+cpu", 3)]
    ):
        told = {"commit": commit, "device": device, "threads": threads, "versions": {"torch": version}}
        monkeypatch.setattr(provenance, "describe", lambda device, told=told: told)
        state = stopped(config, tmp_path, last + 1)
        assert [(part["first_epoch"], part["last_epoch"]) for part in state["segments"]] == [(1, 2), (3, 3)][
            : place + 1
        ]
    monkeypatch.undo()
    train(config, results=tmp_path)
    run = read_run(RunPaths.of(tmp_path, config).folder)
    here = provenance.describe(CPU)
    common = {"precision": "float32", "fused": False, "together": 1}
    first = {"commit": "a" * 40, "device": "AMD EPYC", "threads": 2, "torch": "2.11.0"}
    second = {"commit": "b" * 40, "device": "Intel(R) Xeon(R)", "threads": 4, "torch": "2.13.0+cpu"}
    third = {name: here[name] for name in ("commit", "device", "threads")} | {"torch": here["versions"]["torch"]}
    expected = [
        {"first_epoch": start, "last_epoch": end, **common, **where}
        for start, end, where in ((1, 2, first), (3, 3, second), (4, 6, third))
    ]
    assert run.summary["segments"] == expected == segments(run)
    shown = pages.provenance(run)
    for text in ("Trained in 3 segments", "epochs 1 to 2: commit `aaaaaaaaaaaa` on AMD EPYC, 2 threads, torch 2.11.0",
                 "epochs 3 to 3: commit `bbbbbbbbbbbb` on Intel(R) Xeon(R), 4 threads", "epochs 4 to 6: "):  # fmt: skip
        assert text in shown


def test_run_without_segments_is_shown_as_one(tiny: RunConfig, trained: Path) -> None:
    run = read_run(RunPaths.of(trained, tiny).folder)
    assert len(run.summary["segments"]) == 1
    old = {name: value for name, value in run.summary.items() if name != "segments"}
    older = {name: value for name, value in old.items() if name != "fused"}
    for summary in (old, older):
        before = replace(run, summary=part_of_summary(**summary))
        known = {name: value for name, value in run.summary["segments"][0].items() if name != "together"}
        assert segments(before) == [known | {"fused": summary.get("fused")}]
        assert pages.provenance(before) == pages.provenance(run)
        assert "segments" not in pages.provenance(run)


def test_checkpoint_of_an_older_version_is_gone_on_with(tiny: RunConfig, trained: Path, tmp_path: Path) -> None:
    paths, whole = RunPaths.of(tmp_path / "old", tiny), read_run(RunPaths.of(trained, tiny).folder)
    state = stopped(tiny, tmp_path / "old", 3)
    old = ("config", "metrics", "gradients", "best", "model", "optimizer", "scheduler")
    checkpoints.write_checkpoint(paths, {name: state[name] for name in old})
    run = train(tiny, results=tmp_path / "old")
    assert whole.signal is not None
    assert same(run, replace(whole, signal=whole.signal[-9:].reset_index(drop=True)))
    assert same(read_run(paths.folder), run)
    first, second = read_run(paths.folder).summary["segments"]
    nothing = dict.fromkeys(("commit", "device", "threads", "torch", "fused"))
    assert first == {"first_epoch": 1, "last_epoch": 2, "precision": "float32", **nothing}
    assert (second["first_epoch"], second["last_epoch"], second["fused"]) == (3, 3, False)
    assert "an unknown machine" in pages.provenance(run)


@pytest.mark.parametrize("begun", [False, True])
def test_run_keeps_the_fusing_it_was_begun_with(
    begun: bool, tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "available", lambda device: True)
    monkeypatch.setattr(VGG, "fuse", lambda model, fused=True: model)  # nothing is compiled: only the choice is tested
    assert stopped(tiny, tmp_path, 2, fuse=begun)["fused"] is begun
    monkeypatch.setattr(runner, "worth_fusing", lambda config, device: not begun)
    with pytest.raises(ConfigError, match=f"^fuse: {not begun} is not allowed.*begun with {begun}") as error:
        train(tiny, results=tmp_path, fuse=not begun)
    assert "\n" not in str(error.value)
    run = train(tiny, results=tmp_path)
    assert [part["fused"] for part in run.summary["segments"]] == [begun, begun]
    assert run.summary["fused"] is begun


def test_run_begun_fused_goes_on_where_nothing_can_be_compiled(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VGG, "fuse", lambda model, fused=True: model)
    stopped(tiny, tmp_path, 2, fuse=True)
    monkeypatch.setattr(fused, "available", lambda device: False)
    with pytest.warns(ArtifactWarning, match="begun with fused passes") as told:
        run = train(tiny, results=tmp_path)
    assert "\n" not in str(told[0].message)
    assert [part["fused"] for part in run.summary["segments"]] == [True, False]


def test_checkpoint_that_cannot_be_removed_does_not_spoil_the_run(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name == "checkpoint.pt":
            raise PermissionError(1, "Operation not permitted")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.warns(ArtifactWarning, match=r"checkpoint\.pt is no longer needed.*Operation not permitted") as told:
        run = train(tiny, results=tmp_path)
    assert len(told) == 1 and "\n" not in str(told[0].message)
    assert same(run, train(tiny, results=tmp_path))


def test_folders_with_a_tilde_and_by_variable(tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    config = replace(tiny, epochs=1)
    train(config, results="~/given")
    monkeypatch.setenv("VGGKIT_RESULTS", "~/named")
    train(config)
    for name in ("given", "named"):
        assert [run.config for run in find_runs(tmp_path / name)] == [config]
    assert not (tmp_path / "~").exists()
    with pytest.raises(DataError, match=f"{tmp_path}/nothing"):
        load(RunConfig(), "~/nothing")


@pytest.mark.parametrize(
    ("rate", "changes"),
    [(1e4, {}), (1e10, {}), (1e20, {}), (1e38, {}), (1e20, {"batch_norm": True}), (1e20, {"precision": "bfloat16"})],
)
def test_run_that_goes_wrong_can_be_read_back(
    rate: float, changes: dict[str, Any], tiny: RunConfig, tmp_path: Path
) -> None:
    config = replace(tiny, learning_rate=rate, **changes)
    run = train(config, results=tmp_path)
    assert same(read_run(RunPaths.of(tmp_path, config).folder), run)


def test_run_is_read_back_and_names_no_path(tiny: RunConfig, tmp_path: Path) -> None:
    run = train(tiny, results=tmp_path)
    paths = RunPaths.of(tmp_path, tiny)
    assert same(read_run(paths.folder), run)
    assert str(tmp_path) not in (paths.folder / "summary.json").read_text()
    model = VGG.from_run(paths.folder)
    assert evaluate(model, load(tiny).test, Compute(CPU))[1] == run.summary["final"]["test_accuracy"]


def test_run_of_another_configuration_is_not_overwritten(tiny: RunConfig, trained: Path) -> None:
    other = replace(tiny, precision="bfloat16")
    with pytest.raises(ArtifactError, match="precision 'float32', not 'bfloat16'"):
        train(other, results=trained)


def test_second_process_is_refused(tiny: RunConfig, tmp_path: Path) -> None:
    code = "import json, sys\nfrom vggkit.config import RunConfig\nfrom vggkit.runs.files import RunPaths, claim\n"
    code += "with claim(RunPaths.of(sys.argv[2], RunConfig.from_dict(json.loads(sys.argv[1])))):\n"
    code += "    print('claimed', flush=True)\n    sys.stdin.read()"
    call = [sys.executable, "-c", code, json.dumps(tiny.to_dict()), str(tmp_path)]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout and first.stdout.readline() == "claimed\n"
        with pytest.raises(ArtifactError, match="another process is training"):
            train(tiny, results=tmp_path)
        first.communicate()


def test_crash_while_writing_leaves_no_run(tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*arguments: object, **settings: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", crash)
        with pytest.raises(ArtifactError, match="disk full"):
            train(tiny, results=tmp_path)
    assert RunPaths.of(tmp_path, tiny).checkpoint.exists()
    assert find_runs(tmp_path) == []
    assert len(train(tiny, results=tmp_path).metrics) == 3


def test_diverged_run_stops_and_keeps_its_curve(tiny: RunConfig, tmp_path: Path) -> None:
    config = replace(tiny, learning_rate=1e30)
    run = read_run(RunPaths.of(tmp_path, train(config, results=tmp_path).config).folder)
    assert run.summary["diverged"]
    assert 1 <= len(run.metrics) < 3


def test_bfloat16_learns_and_impossible_devices_are_refused(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "evaluate", lambda *given: (1.0, 0.5))  # emulated, it takes most of the time
    config = replace(tiny, precision="bfloat16", learning_rate=1e-2)
    metrics = train(config, results=tmp_path).metrics
    assert metrics["train_loss"].iloc[-1] < metrics["train_loss"].iloc[0]
    with pytest.raises(ConfigError, match="precision"):
        train(replace(tiny, precision="tf32"), results=tmp_path, device="cpu")
    with pytest.raises(ConfigError, match="device"):
        train(tiny, results=tmp_path, device="nonsense")


def test_training_leaves_the_process_as_it_was(tiny: RunConfig, tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(tiny, results=tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
@pytest.mark.usefixtures("whole_synthetic_set")
def test_synthetic_images_can_be_learned(tmp_path: Path) -> None:
    config = RunConfig.named("vgg08", dataset="synthetic", epochs=16, learning_rate=1e-2)
    assert train(config, results=tmp_path).summary["final"]["test_accuracy"] > 0.1
