"""The pipeline on a real SLURM: what is cancelled or killed is finished by the next call. See `make test-slurm`."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from vggkit.config import RunConfig
from vggkit.runs.files import RunPaths
from vggkit.runs.store import read_run

pytest.importorskip("snakemake_executor_plugin_slurm", reason="needs the extra `pipeline`")
from tests.workflow import calls

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("whole_synthetic_set"), pytest.mark.timeout(3600)]
TINY = {"dataset": "synthetic", "train_images_per_class": 6, "batch_size": 50, "epochs": 12}
RATES = (0.001, 0.002, 0.003)  # undisturbed, cancelled, killed
WITHOUT_ACCOUNTS = ("--slurm-no-account", "--slurm-status-command", "squeue")
SOON = ("--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "10", "--retries", "0")


def squeue() -> dict[str, str]:
    """Jobs by the rule that they run."""
    listed = subprocess.run(["squeue", "-h", "-o", "%i %k"], capture_output=True, text=True, check=True).stdout
    return {comment.removeprefix("rule_").partition("_wildcards")[0]: number
            for number, _, comment in (line.partition(" ") for line in listed.splitlines())}  # fmt: skip


def test_cancelled_and_killed_jobs_are_finished_by_the_next_call(tmp_path: Path) -> None:
    if shutil.which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True).returncode:
        pytest.skip("no SLURM answers; workflow/slurm/one-node.sh start brings one up")
    calls.PATIENCE = 900
    clone = calls.Clone(tmp_path / "clone")
    results = clone.folder / "results"
    clone.study(
        suite="trial", configurations=["vgg08"], seeds=0, settings=TINY, grid={"learning_rate": list(RATES)},
        pages=False, memory=1000,
    )  # fmt: skip
    configs = [RunConfig.named("vgg08", suite="trial", learning_rate=rate, **TINY) for rate in RATES]
    whole, cancelled, killed = configs
    slurm = ("--workflow-profile", str(clone.folder / "workflow/profiles/slurm"), *WITHOUT_ACCOUNTS, *SOON)

    process = clone.start(*slurm)
    waiting = [cancelled, killed]  # each is disturbed after its first epoch, in the order in which SLURM starts them
    while waiting:
        config, trainer = calls.eventually(
            lambda: next(((c, t) for c in waiting if (t := clone.trainer(c.name))), None)
        )
        if config == killed:
            trainer.send_signal(signal.SIGKILL)
        else:
            subprocess.run(["scancel", squeue()[f"train_{config.name}"]], check=True)
        waiting.remove(config)
    output, _ = process.communicate(timeout=calls.PATIENCE)
    assert process.returncode != 0
    assert read_run(RunPaths.of(results, whole).folder).config == whole, output
    for config in (cancelled, killed):
        paths = RunPaths.of(results, config)
        assert paths.checkpoint.is_file() and not paths.folder.exists(), output

    status, output = clone.call(*slurm)
    assert status == 0, output
    trained = {rule for rule in calls.planned(output) if rule.startswith("train")}
    assert trained == {f"train_{config.name}" for config in (cancelled, killed)}
    calls.assert_like_uninterrupted(results, configs, tmp_path / "reference")
