"""Measures what a large study asks of its surroundings, simulates it, and writes both to results/bench/scale.json.

    python workflow/simulate.py              # minutes; processor time is measured, so others may use the machine
    python workflow/simulate.py 1000 5000    # how many finished runs are made up and read

`vggkit.bench.scale` holds the simulation, and reads the file for the book.
"""

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from vggkit.bench import cost, scale
from vggkit.config import SCHEDULES
from vggkit.runs import provenance
from vggkit.runs.files import RunPaths, replace_file
from vggkit.runs.store import find_runs, read_run
from vggkit.study import CONFIGURATIONS
from vggkit.training.compute import choose_device

PROJECT = Path(__file__).parents[1]
COUNTS = (1_000, 5_000)  # of finished runs that are read
TEMPLATE = "table1/vgg38_bn_rc_lr1e-2/seed-0"  # a run as large as any
# What a job does before its first step; told are the files that are open or were imported, and their bytes.
STARTING = """
import sys, pathlib
import vggkit.training.sweep, vggkit.cli.main
maps = pathlib.Path("/proc/self/maps").read_text().split()
cached = [getattr(module, "__cached__", None) for module in list(sys.modules.values())]
files = {f for f in maps if f.startswith("/")} | {f for f in cached if isinstance(f, str)}
found = [pathlib.Path(f) for f in files if pathlib.Path(f).is_file()]
print(len(found), sum(f.stat().st_size for f in found))
"""


def main(counts: Sequence[int]) -> None:
    results = PROJECT / "results"
    speeds = cost.Speeds.read(results / "bench/cpu.json", results)
    start = starting()
    found = scale.simulate(speeds, start, scale.Server())
    described = provenance.describe(choose_device("cpu"))
    found |= {"machine": described["device"], "commit": described["commit"], "planning": planning()}
    with tempfile.TemporaryDirectory() as folder:
        found["reading"] = [reading(results / TEMPLATE, count, Path(folder, str(count))) for count in counts]
        found["looking"] = looking(Path(folder, str(counts[0])))
    replace_file(results / "bench/scale.json", (json.dumps(found, indent=2) + "\n").encode())
    print(results / "bench/scale.json")


def starting() -> scale.Start:
    """What one job reads and computes before it trains."""
    before = _children()
    files, size = subprocess.run(
        [sys.executable, "-c", STARTING], check=True, capture_output=True, text=True
    ).stdout.split()
    return scale.Start(int(files), int(size), _children() - before)


def reading(original: Path, count: int, results: Path) -> dict[str, float]:
    """Seconds of the processor for reading and checking `count` finished runs, made up of one that there is."""
    run = read_run(original)
    for seed in range(count):
        config = replace(run.config, suite="made-up", seed=seed)
        folder = RunPaths.of(results, config).folder
        folder.mkdir(parents=True)
        for name in ("metrics.csv", "gradients.parquet"):  # the same for all, and large
            (folder / name).symlink_to(original / name)
        content = json.dumps(config.to_dict()).encode()
        (folder / "config.json").write_bytes(content)
        files = run.summary["files"] | {"config.json": hashlib.sha256(content).hexdigest()}
        summary = {name: value for name, value in run.summary.items() if name != "summary_sha256"} | {"files": files}
        own = hashlib.sha256(json.dumps(summary, sort_keys=True).encode()).hexdigest()  # as runs/store.py has it
        (folder / "summary.json").write_text(json.dumps(summary | {"summary_sha256": own}))
    return {"runs": count, "seconds": _seconds(lambda: _expect(len(find_runs(results)), count))}


def looking(results: Path) -> dict[str, float]:
    """Seconds of the processor for telling which of the runs are finished."""
    runs = [run.config for run in find_runs(results)]
    return {
        "runs": len(runs),
        "seconds": _seconds(lambda: _expect({cost.state(results, config) for config in runs}, {cost.FINISHED})),
    }


def planning() -> dict[str, float]:
    """Jobs of the study, and seconds of the processor for a dry run of them."""
    study = {
        "suite": "made-up",
        "configurations": list(CONFIGURATIONS),
        "seeds": f"0-{scale.SEEDS - 1}",
        "settings": {"precision": "bfloat16"},
        "grid": {"schedule": list(SCHEDULES), "depth": list(scale.DEPTHS)},
        "bench": str(PROJECT / "results/bench/cpu.json"),
    }
    with tempfile.TemporaryDirectory() as folder:
        study |= {"results": f"{folder}/results", "output": f"{folder}/output"}
        Path(folder, "study.json").write_text(json.dumps(study))
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT / "workflow/Snakefile")]
        before = _children()
        call = subprocess.run(
            [*command, "--configfile", f"{folder}/study.json", "--dry-run", "--quiet", "rules", "--directory", folder],
            capture_output=True, text=True,
        )  # fmt: skip
        if call.returncode:
            raise SystemExit(call.stdout + call.stderr)
        text = call.stdout + call.stderr
        total = next(line.split()[-1] for line in text.splitlines() if line.startswith("total"))
        return {"jobs": int(total), "seconds": _children() - before}


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def _expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise SystemExit(f"found {found}, not {wanted}")


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]] or COUNTS)
