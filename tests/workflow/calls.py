"""A clone's copy to call Snakemake in, and what it leaves."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import torch
import yaml

from vggkit.config import RunConfig
from vggkit.runs.files import RunPaths
from vggkit.runs.store import read_run, read_weights
from vggkit.training.runner import train

ROOT = Path(__file__).parents[2]
PATIENCE = 1200  # seconds for what takes some on an idle machine
OF_TIME = ["train_seconds", "seconds"]


class Clone:
    """The parts of the project that the pipeline needs, in a folder of their own; library and captions are copies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("vggkit", "workflow", "notebooks"):
            shutil.copytree(
                ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("output", "__pyc*")
            )
        shutil.copy(ROOT / "pyproject.toml", folder)
        bench = folder / "results/bench/cpu.json"
        bench.parent.mkdir(parents=True)
        shutil.copy(ROOT / "results/bench/cpu.json", bench)

    def study(self, **keys: Any) -> None:
        (self.folder / "study.yaml").write_text(yaml.safe_dump(keys))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        hidden = ("VGGKIT_RESULTS", "VGGKIT_DATA", "SNAKEMAKE_PROFILE")
        environment = {k: v for k, v in os.environ.items() if k not in hidden} | {"PYTHONPATH": str(self.folder)}
        snakefile = str(self.folder / "workflow/Snakefile")
        command = [sys.executable, "-m", "snakemake", "--snakefile", snakefile]
        return subprocess.Popen(
            [*command, *arguments, "--configfile", "study.yaml"], cwd=self.folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def call(self, *arguments: str) -> tuple[int, str]:
        """Exit status and output."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, output

    def trainer(self, name: str) -> psutil.Process | None:
        """The process that trains the run of this name, once its first checkpoint is there."""
        if not list(self.folder.glob(f"results/.checkpoints/*/{name}/seed-0/checkpoint.pt")):
            return None
        rate = name.rpartition("_lr")[2]
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if words[1:4] == ["-m", "vggkit", "sweep"] and f"learning_rate={float(rate)}" in words:
                with contextlib.suppress(psutil.Error):  # it has just ended
                    if Path(process.cwd()).samefile(self.folder):
                        return process
        return None


def planned(output: str) -> dict[str, int]:
    """The jobs that Snakemake announces, by rule."""
    table = output.partition("Job stats:")[2].partition("total")[0]
    return {name: int(count) for name, count in re.findall(r"^(\S+)\s+(\d+)$", table, re.M)}


def eventually(find: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := find():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def assert_like_uninterrupted(results: Path, configs: Iterable[RunConfig], elsewhere: Path) -> None:
    """Each run's artefacts are those of a run that nobody disturbed, on one thread, but for its times."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        references = [train(config, results=elsewhere) for config in configs]
    finally:
        torch.set_num_threads(threads)
    for reference in references:
        paths = RunPaths.of(results, reference.config)
        run, weights = read_run(paths.folder), read_weights(paths)
        pd.testing.assert_frame_equal(
            run.metrics.drop(columns=OF_TIME), reference.metrics.drop(columns=OF_TIME), check_exact=True
        )
        pd.testing.assert_frame_equal(run.gradients, reference.gradients, check_exact=True)
        others = read_weights(RunPaths.of(elsewhere, reference.config))
        assert weights.keys() == others.keys()
        assert all(torch.equal(weights[name], others[name]) for name in weights)
