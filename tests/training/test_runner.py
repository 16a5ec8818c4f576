"""Training against a plain PyTorch loop, and runs that are killed, stopped, resumed or that diverge."""

import contextlib
import copy
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from tests.shared import gradient_of, part_of_summary, stop_in
from vggkit.config import ConfigError, RunConfig
from vggkit.data import DataError, EpochPlan, load, train_batch
from vggkit.networks import fused, lsuv
from vggkit.networks.vgg import VGG
from vggkit.report import pages
from vggkit.runs import provenance, store
from vggkit.runs.records import TrainedEpoch
from vggkit.runs.store import ArtifactError, ArtifactWarning, RunPaths, find_runs, read_run
from vggkit.training import runner
from vggkit.training.compute import Compute
from vggkit.training.evaluation import evaluate
from vggkit.training.graph import capture, copies, one_step, restore
from vggkit.training.runner import train, train_together
from vggkit.training.step import Trainer, make_scheduler, train_epoch

CPU = torch.device("cpu")


def same(first: store.Run, second: store.Run) -> bool:
    """Whether all numbers but the times are equal, bit for bit."""
    metrics, others = (run.metrics.drop(columns=["train_seconds", "seconds"]) for run in (first, second))
    ends, other_ends = ([run.summary[name] for name in ("final", "best")] for run in (first, second))
    return bool(metrics.equals(others) and first.gradients.equals(second.gradients) and ends == other_ends)


def an_epoch(trainer: Trainer, epoch: int) -> tuple[TrainedEpoch, torch.Tensor]:
    return train_epoch([trainer], epoch, one_step([trainer]), lambda images: None)[0]


# At batch size 60 the last batch has 20 images.
@pytest.mark.parametrize(("batch_size", "fuse"), [(50, False), (60, False), (50, True)])
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
    plan = EpochPlan.draw(200, config.seed, 1)
    for places in torch.arange(200).split(batch_size):
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
        losses.append(loss.item() * len(labels) / 200)
    assert metrics["train_loss"] == pytest.approx(sum(losses), rel=1e-4)
    assert metrics["gradient_norm_mean"] == pytest.approx(sum(norms) / len(norms), rel=1e-3)
    expected = torch.stack(statistics)
    torch.testing.assert_close(values[1].T.float(), expected.mean(0).float(), rtol=0.03, atol=1e-9)
    torch.testing.assert_close(values[0].T.float(), expected[-1].float(), rtol=0.03, atol=1e-9)


def test_warm_up_of_a_capture_leaves_no_trace(tiny: RunConfig) -> None:
    # `capture` trains some steps to warm up, then restores what they changed; this part of it needs no GPU.
    config = replace(tiny, depth=14)
    data = load(config)
    for epochs_before in (0, 1):
        touched, untouched = (
            Trainer(config, data, Compute(CPU, config.precision)),
            Trainer(config, data, Compute(CPU, config.precision)),
        )
        for epoch in range(1, epochs_before + 1):
            an_epoch(touched, epoch), an_epoch(untouched, epoch)
        before = copies([touched])
        touched.model.train()
        touched.batch.zero_()
        touched.step()
        assert any(not torch.equal(p, before[id(p)]) for p in touched.model.parameters())
        restore([touched], before)
        (metrics, values), (expected, expected_values) = (an_epoch(t, epochs_before + 1) for t in (touched, untouched))
        assert metrics == expected
        assert torch.equal(values, expected_values)


def test_capture_records_one_step_of_each_trainer_and_undoes_its_warm_up(
    tiny: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stand-ins for CUDA's streams and graph. A real capture only records the step; here it is carried out.
    events: list[str] = []
    recorded = object()

    class Stream:
        def wait_stream(self, other: object) -> None:
            events.append("wait")

    for name, value in {
        "Stream": Stream, "current_stream": Stream, "CUDAGraph": lambda: recorded,
        "device": lambda device: contextlib.nullcontext(),
        "stream": lambda stream: contextlib.nullcontext(), "graph": lambda graph: contextlib.nullcontext(),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    data = load(tiny)
    configs = [replace(tiny, seed=seed) for seed in (0, 1)]
    captured, stepped = (
        [Trainer(config, data, Compute(CPU, config.precision)) for config in configs] for _ in range(2)
    )
    for trainer in (*captured, *stepped):
        trainer.begin_epoch(1)
    assert capture(captured) is recorded
    for trainer in stepped:
        trainer.step()
    for first, second in zip(captured, stepped, strict=True):
        for mine, theirs in zip(first.tensors(), second.tensors(), strict=True):
            assert torch.equal(mine, theirs)
    assert len(events) == 2 + 2 * len(
        captured
    )  # before and after the warm-up, and before and after each trainer's step


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
    with pytest.raises(ConfigError, match="seeds"):
        train_together([tiny, replace(tiny, epochs=4)], results=tmp_path)


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


def test_evaluation_equals_a_direct_one(tiny: RunConfig) -> None:
    test = load(tiny).test[torch.arange(730)]  # the last batch is smaller
    model = VGG.from_config(tiny)
    loss, accuracy = evaluate(model, test, Compute(CPU))
    images = (test.pixels.float() / 255 - torch.tensor([0.4914, 0.4822, 0.4465])) / torch.tensor(
        [0.2023, 0.1994, 0.2010]
    )
    with torch.no_grad():
        logits = model.eval()(images.permute(0, 3, 1, 2))
    assert loss == pytest.approx(F.cross_entropy(logits, test.labels).item(), rel=1e-4)
    assert accuracy == pytest.approx((logits.argmax(1) == test.labels).double().mean().item(), abs=2e-3)


KILLED = """
import json, os, signal, sys
from vggkit.config import RunConfig
from vggkit.training.runner import train
def progress(epoch, images, metrics):
    if epoch == 2 and images >= 100 and metrics is None:
        os.kill(os.getpid(), signal.SIGKILL)
train(RunConfig.from_dict(json.loads(sys.argv[1])), results=sys.argv[2], progress=progress)
"""


@pytest.mark.posix
def test_killed_and_resumed_run_equals_an_uninterrupted_one(tiny: RunConfig, tmp_path: Path) -> None:
    config = replace(tiny, dropout=0.3, batch_norm=True)
    call = [sys.executable, "-c", KILLED, json.dumps(config.to_dict()), str(tmp_path / "killed")]
    assert subprocess.run(call, check=False).returncode == -signal.SIGKILL
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
    state = store.read_checkpoint(RunPaths.of(results, config), config, CPU)
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
    common = {"precision": "float32", "fused": False}
    first = {"commit": "a" * 40, "device": "AMD EPYC", "threads": 2, "torch": "2.11.0"}
    second = {"commit": "b" * 40, "device": "Intel(R) Xeon(R)", "threads": 4, "torch": "2.13.0+cpu"}
    third = {name: here[name] for name in ("commit", "device", "threads")} | {"torch": here["versions"]["torch"]}
    expected = [
        {"first_epoch": start, "last_epoch": end, **common, **where}
        for start, end, where in ((1, 2, first), (3, 3, second), (4, 6, third))
    ]
    assert run.summary["segments"] == expected == store.segments(run)
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
        assert store.segments(before) == [run.summary["segments"][0] | {"fused": summary.get("fused")}]
        assert pages.provenance(before) == pages.provenance(run)
        assert "segments" not in pages.provenance(run)


def test_checkpoint_of_an_older_version_is_gone_on_with(tiny: RunConfig, trained: Path, tmp_path: Path) -> None:
    paths, whole = RunPaths.of(tmp_path / "old", tiny), read_run(RunPaths.of(trained, tiny).folder)
    state = stopped(tiny, tmp_path / "old", 3)
    old = ("config", "metrics", "gradients", "best", "model", "optimizer", "scheduler")
    store.write_checkpoint(paths, {name: state[name] for name in old})
    run = train(tiny, results=tmp_path / "old")
    assert same(run, whole)
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
    monkeypatch.setattr(VGG, "fuse", lambda model: model)  # nothing is compiled: only the choice is tested
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
    monkeypatch.setattr(VGG, "fuse", lambda model: model)
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


@pytest.mark.parametrize("name", ["AMD Ryzen™ 7 <b>5800X</b> & more\t® `x` [y](z)", "", "®™", "é" * 500, "x" * 500])
def test_device_name_is_one_that_can_be_read_back(
    name: str, tiny: RunConfig, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = read_run(RunPaths.of(trained, tiny).folder)
    monkeypatch.setattr(provenance, "_full_name", lambda device: name)
    device = provenance.describe(CPU)["device"]
    segment = run.summary["segments"][0] | {"device": device}
    paths = RunPaths.of(tmp_path, tiny)
    store.write_run(paths, replace(run, summary=run.summary | {"device": device, "segments": [segment]}))
    assert read_run(paths.folder).summary["device"] == device != ""
    assert "Ryzen(TM) 7 b 5800X" in device or "Ryzen" not in name


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
    code = "import json, sys\nfrom vggkit.config import RunConfig\nfrom vggkit.runs.store import RunPaths, claim\n"
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


def test_bfloat16_learns_and_impossible_devices_are_refused(tiny: RunConfig, tmp_path: Path) -> None:
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
def test_synthetic_images_can_be_learned(tmp_path: Path) -> None:
    config = RunConfig.named("vgg08", dataset="synthetic", epochs=8, learning_rate=1e-2)
    assert train(config, results=tmp_path).summary["final"]["test_accuracy"] > 0.1


def test_environment_is_not_needed(monkeypatch: pytest.MonkeyPatch, tiny: RunConfig) -> None:
    monkeypatch.setitem(os.environ, "VGGKIT_DATA", "/nonexistent")
    assert len(load(tiny).train) == 200  # synthetic images need no folder of data
