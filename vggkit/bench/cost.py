"""What a run will cost, before it is trained: hours from measured speeds, bytes from what runs leave.

The bench measures two networks, the shallowest plain one and the deepest with BN and RC. A network between them
takes the time between theirs, by its depth, since every layer has the same filters. What BN and RC add is taken
from finished runs that differ in them alone, and how far hours of training stay behind some seconds of the bench from
finished runs on the same machine, where there are such runs.
"""

import contextlib
import itertools
import json
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vggkit.bench.speeds import GPUS, read_bench
from vggkit.config import DATASETS, NUM_CLASSES, ConfigError, RunConfig
from vggkit.folders import Given, results_folder
from vggkit.runs.files import ArtifactError, RunPaths, check_same
from vggkit.runs.schema import check_summary, parameter_shapes
from vggkit.runs.store import read_run
from vggkit.study import STATISTICS, shown_suites

FORWARD = 1 / 3  # of a training step's work, by operations: what an image costs that is evaluated and not trained on
MOST_READ = 50  # runs of a suite, for how the bench compares
UNLIKE = ("batch_norm", "residual", "seed", "learning_rate")
"""Settings in which runs may differ whose times are compared for what BN and RC add."""
STATES = FINISHED, BEGUN, NEW = "finished", "begun", "new"

# Bytes of a finished run and of its checkpoint; tests/workflow/test_cost.py compares them with runs.
ROW_BYTES = 17  # of gradients.parquet, for each row
SHARE_BYTES = 5  # of signal.parquet, for each row
EPOCH_BYTES = 165  # of metrics.csv
RUN_BYTES = 20_000  # of a run's files, whatever its length
NUMBER_BYTES = 4  # of a weight, and of a share in a checkpoint
STATE_COPIES = 4  # of each weight in a checkpoint: the weight, Adam's two averages, and that of the best epoch
HISTORY_BYTES = 8 * len(STATISTICS)  # of a checkpoint, for each row of gradients so far: its statistics in float64


@dataclass(frozen=True)
class Speeds:
    """Measured seconds for an image of a training step, at the two depths that the bench measures.

    Attributes:
        machine: on which the bench was run.
        points: for each precision, depth and seconds of the shallow and of the deep network.
        networks: time of a deep network with (BN, RC) over that with both, in finished runs.
        ratios: time of each finished run on the bench's machine over what the bench gives for it: a bench of some
            seconds on an idle machine is faster than hours of training.
        batch_size: images of a step of the bench; smaller batches take longer for an image.
    """

    machine: str
    points: Mapping[str, tuple[tuple[int, float], tuple[int, float]]]
    networks: Mapping[tuple[bool, bool], float]
    ratios: tuple[float, ...] = ()
    batch_size: int = RunConfig().batch_size

    @property
    def slowdown(self) -> float:
        """The median of `ratios`, 1.0 where there is none."""
        return statistics.median(self.ratios) if self.ratios else 1.0

    @classmethod
    def read(cls, bench: Path, results: Given = None) -> "Speeds":
        """From a file of `vggkit bench --json`, and from the finished runs that the book shows.

        Raises:
            ArtifactError: the file cannot be read, or lacks one of two networks.
        """
        measured = read_bench(bench)
        fastest: dict[tuple[str, str], float] = {}
        for row in measured["rows"]:
            if not row["way"]["plain"] and row["way"].get("runs", 1) == 1:
                key = row["way"]["precision"], row["model"]
                fastest[key] = min(fastest.get(key, math.inf), 1 / row["images_per_second"])
        points = {}
        for precision in dict.fromkeys(precision for precision, _ in fastest):
            named = {RunConfig.named(model).depth: s for (p, model), s in fastest.items() if p == precision}
            if len(named) == 2:
                shallow, deep = sorted(named.items())
                points[precision] = (shallow, deep)
        if not points:
            raise ArtifactError(f"bench: {bench} lacks one of two networks; make one: vggkit bench --json FILE")
        finished = _finished(results)
        idle = cls(measured["machine"], points, _networks(finished), batch_size=measured["batch_size"])
        ratios = tuple(
            summary["wall_seconds"] / idle.seconds(config)
            for config, summary in finished
            if config.precision in points and measured["machine"].startswith(_machine(summary))
        )
        return replace(idle, ratios=ratios)

    def seconds(self, config: RunConfig) -> float:
        """Expected seconds of a whole run, alone on the bench's machine, validation and test included.

        Raises:
            ConfigError: the bench has not measured the precision.
        """
        if config.precision not in self.points:
            allowed = ", ".join(self.points)
            raise ConfigError(f"precision: {config.precision!r} is not in the bench; allowed: {allowed}")
        (shallow, least), (deep, most) = self.points[config.precision]
        most *= self.networks.get((config.batch_norm, config.residual), 1.0)
        each = least + (most - least) * (config.depth - shallow) / (deep - shallow)
        size = DATASETS[config.dataset]
        trained = size.train if config.train_images_per_class is None else config.train_images_per_class
        images = config.epochs * (trained + FORWARD * size.validation) + FORWARD * size.test
        return self.slowdown * NUM_CLASSES * images * each


Finished = list[tuple[RunConfig, dict[str, Any]]]


def _finished(results: Given) -> Finished:
    """Configurations and summaries of finished runs in the suites that the book shows, as far as they can be read.

    They only improve an estimate, so that a damaged run is no error here, and of thousands some are enough. Those of
    a GPU are left out: where several share it, each one's time is a share that tells nothing of its network. So are
    those that diverged, whose time is that of fewer epochs.
    """
    found: Finished = []
    for suite in shown_suites():
        for path in itertools.islice(sorted(results_folder(results).glob(f"{suite}/*/seed-*/summary.json")), MOST_READ):
            with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
                config = RunConfig.from_dict(json.loads(path.with_name("config.json").read_text(encoding="utf-8")))
                summary = json.loads(path.read_text(encoding="utf-8"))
                check_summary(summary)
                if not GPUS.search(summary["device"]) and not summary["diverged"]:
                    found.append((config, summary))
    return found


def _machine(summary: Mapping[str, Any]) -> str:
    return f"{summary['device']}, {summary['threads']} threads, "


def _networks(finished: Finished) -> dict[tuple[bool, bool], float]:
    """How long each kind of network takes beside that with BN and RC, in the median over pairs of comparable runs."""

    def alike(config: RunConfig, summary: Mapping[str, Any]) -> tuple[Any, ...]:
        settings = {name: value for name, value in config.to_dict().items() if name not in UNLIKE}
        return (settings, _machine(summary), summary.get("fused"))

    ratios: dict[tuple[bool, bool], list[float]] = {}
    deep = [(config, summary) for config, summary in finished if config.depth == RunConfig.named("vgg38").depth]
    for config, summary in deep:
        for reference, its in deep:
            if reference.batch_norm and reference.residual and alike(config, summary) == alike(reference, its):
                ratio = its["images_per_second"] / summary["images_per_second"]
                ratios.setdefault((config.batch_norm, config.residual), []).append(ratio)
    return {kind: statistics.median(values) for kind, values in ratios.items()}


def gradient_rows(config: RunConfig) -> int:
    """Rows that an epoch adds to a run's gradients: two averages of each weight tensor."""
    return 2 * sum(name.endswith(".weight") for name in parameter_shapes(config))


def run_bytes(config: RunConfig) -> int:
    """Bytes that a finished run takes on disk, its weights included."""
    rows = gradient_rows(config) * ROW_BYTES + (config.depth + 1) * SHARE_BYTES
    history = config.epochs * (rows + EPOCH_BYTES)
    return RUN_BYTES + NUMBER_BYTES * config.parameters + history


def checkpoint_bytes(config: RunConfig) -> int:
    """Bytes of a run's last checkpoint, which lies on disk while the run is trained."""
    history = config.epochs * (gradient_rows(config) * HISTORY_BYTES + (config.depth + 1) * NUMBER_BYTES)
    return STATE_COPIES * NUMBER_BYTES * config.parameters + history


def state(results: Given, config: RunConfig) -> str:
    """Whether a run is finished, begun (it has a checkpoint) or new, by a look at two small files.

    Raises:
        ArtifactError: the run's folder is damaged, or holds a run of another configuration.
    """
    paths = RunPaths.of(results, config)
    if not paths.folder.is_dir():
        return BEGUN if paths.checkpoint.is_file() else NEW
    try:
        (paths.folder / "summary.json").stat()
        found = RunConfig.from_dict(json.loads((paths.folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError):
        found = read_run(paths.folder).config  # which says in one line what is wrong
    check_same(found, config, paths.folder)
    return FINISHED


def precision_found(results: Given, configs: Iterable[RunConfig]) -> str | None:
    """The precision of the first of these runs that is finished in whatever precision; None where there is none."""
    for config in configs:
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            text = (RunPaths.of(results, config).folder / "config.json").read_text(encoding="utf-8")
            return RunConfig.from_dict(json.loads(text)).precision
    return None


@dataclass(frozen=True)
class Cost:
    """What a group of runs takes: how many there are in each state, hours of one machine, bytes.

    Attributes:
        states: number of runs by state.
        hours: of all of them, as `Speeds.seconds` expects.
        left: hours of those that are not finished, a begun one counted whole.
        bytes: of all of them when finished.
        working: bytes of the largest checkpoint.
    """

    states: Mapping[str, int]
    hours: float
    left: float
    bytes: int
    working: int

    @property
    def runs(self) -> int:
        return sum(self.states.values())

    def __add__(self, other: "Cost") -> "Cost":
        states = {name: number + other.states[name] for name, number in self.states.items()}
        return Cost(
            states,
            self.hours + other.hours,
            self.left + other.left,
            self.bytes + other.bytes,
            max(self.working, other.working),
        )


def cost(configs: Iterable[RunConfig], speeds: Speeds, results: Given = None) -> Cost:
    """The cost of the runs of `configs`.

    Raises:
        ConfigError, ArtifactError: as `Speeds.seconds` and `state`.
    """
    states = dict.fromkeys(STATES, 0)
    hours = left = 0.0
    size = working = 0
    for config in configs:
        found, needed = state(results, config), speeds.seconds(config) / 3600
        states[found] += 1
        hours += needed
        left += 0 if found == FINISHED else needed
        size += run_bytes(config)
        working = max(working, checkpoint_bytes(config))
    return Cost(states, hours, left, size, working)


def told(whole: Cost, speeds: Speeds, here: str = "") -> str:
    """In two sentences: the runs with what is left of them, and where the hours come from.

    Args:
        here: this machine, where it may be another than the bench's.
    """
    counts = ", ".join(f"{number} {name}" for name, number in whole.states.items())
    origin = f"measured on {speeds.machine}"
    if speeds.ratios:
        origin += f", times {speeds.slowdown:.1f}, as {len(speeds.ratios)} finished runs took there"
    if here and not speeds.machine.startswith(here):
        origin += f"; this machine is {here}: vggkit bench --json FILE measures it, --bench FILE takes it"
    return (
        f"{whole.runs} run{'s' * (whole.runs != 1)}: {counts}; "
        f"about {whole.left:,.1f} of {whole.hours:,.1f} hours of one machine left, "
        f"{whole.bytes / 1e6:,.0f} MB when finished, up to {whole.working / 1e6:,.0f} MB for each run under way. "
        f"Hours by the bench ({origin})."
    )


def as_json(rows: Mapping[str, Cost], whole: Cost, speeds: Speeds) -> str:
    """The costs by configuration and of all, with the speeds behind them, for programs."""
    kinds = {RunConfig(batch_norm=bn, residual=rc).model: ratio for (bn, rc), ratio in speeds.networks.items()}
    content = {"configurations": {name: asdict(row) for name, row in rows.items()}, "all": asdict(whole)}
    return json.dumps(content | {"speeds": asdict(speeds) | {"networks": kinds, "slowdown": speeds.slowdown}}, indent=2)
