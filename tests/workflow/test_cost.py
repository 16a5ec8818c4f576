"""What is said of a run before it is trained, beside what runs took; and the large study on paper."""

import itertools
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from tests.shared import ROOT, Call
from vggkit.bench import cost, scale
from vggkit.bench.speeds import GPUS
from vggkit.config import ConfigError, RunConfig
from vggkit.runs.files import ArtifactError, RunPaths
from vggkit.runs.store import find_runs
from vggkit.study import asked, shown_suites
from vggkit.training.order import order

BENCH = ROOT / "results/bench/cpu.json"


@pytest.fixture(scope="module")
def speeds() -> cost.Speeds:
    return cost.Speeds.read(BENCH, ROOT / "results")


def test_expected_sizes_are_those_of_the_committed_runs() -> None:
    for run in find_runs(ROOT / "results"):
        assert len(run.gradients) == len(run.metrics) * cost.gradient_rows(run.config)
        files = list(RunPaths.of(ROOT / "results", run.config).folder.iterdir())
        weights = 0 if any(file.suffix == ".safetensors" for file in files) else 4 * run.config.parameters
        signal = 0 if run.signal is not None else cost.SHARE_BYTES * len(run.metrics) * (run.config.depth + 1)
        size = sum(file.stat().st_size for file in files) + weights + signal
        assert cost.run_bytes(run.config) == pytest.approx(size, rel=0.15), run.config


def test_expected_size_of_a_checkpoint_is_that_of_one(tiny: RunConfig, tmp_path: Path) -> None:
    from vggkit.training.runner import train

    sizes = []

    def note(epoch: int, images: int, metrics: object) -> None:
        if metrics:
            sizes.append(RunPaths.of(tmp_path, tiny).checkpoint.stat().st_size)

    train(tiny, results=tmp_path, progress=note)
    assert cost.checkpoint_bytes(tiny) == pytest.approx(sizes[-1], rel=0.15)


def test_expected_hours_are_those_of_the_benchs_machine_within_a_factor_of_two(speeds: cost.Speeds) -> None:
    # What a run took on another processor, or in a precision that is emulated there, says nothing of this one.
    machine = speeds.machine.split(",")[0]
    runs = [run for run in find_runs(ROOT / "results") if run.summary["device"] == machine]
    assert len(runs) > 10
    # By the bench alone, of some seconds on an idle machine, before what finished runs say of it is taken in.
    idle = replace(speeds, ratios=())
    assert 0.7 < median(run.summary["wall_seconds"] / idle.seconds(run.config) for run in runs) < 3
    ratios = {run.config: run.summary["wall_seconds"] / speeds.seconds(run.config) for run in runs}
    assert 0.7 < median(ratios.values()) < 1.4
    for config, ratio in ratios.items():
        assert 0.5 < ratio < 2, config


def test_runs_of_a_gpu_which_they_share_do_not_change_what_is_expected(speeds: cost.Speeds, tmp_path: Path) -> None:
    found = 0
    for suite in shown_suites():
        for run in find_runs(ROOT / "results", suite):
            if GPUS.search(run.summary["device"]):
                found += 1
            else:
                place = RunPaths.of(tmp_path, run.config).folder
                shutil.copytree(RunPaths.of(ROOT / "results", run.config).folder, place)
    assert found
    assert cost.Speeds.read(BENCH, tmp_path) == speeds


def test_runs_of_every_setting_are_compared_and_those_that_diverged_left_out(
    speeds: cost.Speeds, tmp_path: Path
) -> None:
    def copied(changed: dict[str, object], summarised: dict[str, object]) -> None:
        """The shown runs, and one of them with other settings that only some of its kin may have."""
        for suite in shown_suites():
            for run in find_runs(ROOT / "results", suite):
                shutil.copytree(
                    RunPaths.of(ROOT / "results", run.config).folder,
                    RunPaths.of(tmp_path, run.config).folder,
                    dirs_exist_ok=True,
                )
        kept = next(run for run in find_runs(ROOT / "results", "table1") if run.config.name == "vgg38")
        place = RunPaths.of(tmp_path, kept.config).folder.with_name("seed-77")
        shutil.copytree(RunPaths.of(ROOT / "results", kept.config).folder, place, dirs_exist_ok=True)
        for name, change in (("config.json", changed), ("summary.json", summarised)):
            content = json.loads((place / name).read_text())
            (place / name).write_text(json.dumps(content | change))

    copied({"seed": 77, "residual": True, "skip_init": True}, {})
    assert cost.Speeds.read(BENCH, tmp_path).networks == speeds.networks
    copied({"seed": 77, "learning_rate": 5.0, "minimum_learning_rate": 2.0}, {})
    assert cost.Speeds.read(BENCH, tmp_path).networks == speeds.networks
    copied({"seed": 77}, {"diverged": True})
    assert cost.Speeds.read(BENCH, tmp_path) == speeds


def test_expected_seconds_meet_the_bench_at_its_networks_and_grow_with_depth_and_epochs(speeds: cost.Speeds) -> None:
    rates = {
        row["model"]: row["images_per_second"]
        for row in json.loads(BENCH.read_text())["rows"]
        if row["way"]["precision"] == "bfloat16" and row["way"]["fuse"]
    }
    idle = cost.Speeds(speeds.machine, speeds.points, {})
    for name, rate in rates.items():
        config = RunConfig.named(name, precision="bfloat16", epochs=1)
        images = 47_500 + (2_500 + 10_000) / 3
        assert idle.seconds(config) == pytest.approx(images / rate)
    deeper = [speeds.seconds(RunConfig(precision="bfloat16", depth=depth)) for depth in (8, 14, 20, 38, 56)]
    assert deeper == sorted(deeper)
    with pytest.raises(ConfigError, match="precision: 'tf32' is not in the bench; allowed: float32, bfloat16"):
        speeds.seconds(RunConfig(precision="tf32"))


def test_plan_counts_what_is_there_and_adds_up(call: Call) -> None:
    results = ("--results", str(ROOT / "results"))
    status, output, _ = call("plan", "table1", "vgg08", "vgg38", "--seeds", "0-3", "--json", *results)
    assert status == 0
    found = json.loads(output)
    vgg08, whole = found["configurations"]["vgg08"], found["all"]
    there = len(find_runs(ROOT / "results", "table1"))
    assert 0 < vgg08["states"]["finished"] <= there and sum(vgg08["states"].values()) == 4
    for key in ("hours", "left", "bytes"):
        assert whole[key] == pytest.approx(sum(row[key] for row in found["configurations"].values()))
    assert vgg08["left"] == pytest.approx(vgg08["hours"] * (4 - vgg08["states"]["finished"]) / 4)
    status, output, _ = call("plan", "table1", "vgg08", *results)
    assert status == 0 and "In bfloat16" in output and "hours of one machine" in output


def test_plan_of_a_suite_has_the_runs_that_a_sweep_of_it_trains(call: Call, tmp_path: Path) -> None:
    status, output, _ = call("plan", "depth", "--seeds", "0,1", "--json", "--results", str(tmp_path))
    groups = order(asked("depth"), [0, 1], 2, suite="depth")
    assert status == 0
    assert list(json.loads(output)["configurations"]) == [group[0].name for group in groups]


@pytest.mark.parametrize(
    ("arguments", "told"), [(["depth"], False), (["mine"], True), (["mine", "vgg08"], False), (["table1"], False)]
)
def test_plan_says_of_which_configurations_it_is_where_nobody_named_them(
    call: Call, tmp_path: Path, arguments: list[str], told: bool
) -> None:
    output = " ".join(call("plan", *arguments, "--results", str(tmp_path))[1].split())
    said = "The study knows no suite mine, so these are Table 1's configurations with the defaults, or what --set says."
    assert (said in output) == told
    assert ("vgg38_bn_rc_lr1e-2" in output) == (told or arguments == ["table1"])
    assert (" 1 run: 0 finished" in output) == ("vgg08" in arguments)
    assert "Hours are those of batches of" not in output
    given = ("--set", "batch_size=1", "--results", str(tmp_path))
    output = " ".join(call("plan", *arguments, *given)[1].split())
    assert "Hours are those of batches of 100, as the bench has; smaller ones take longer." in output


@pytest.mark.parametrize(
    ("suite", "told"),
    [
        ("vgg20_bn", "; it names a run, was that meant as NAME?"),
        ("further", None),
        ("mine", None),
    ],
)
def test_suite_named_as_a_run_is_doubted(call: Call, suite: str, told: str | None) -> None:
    status, _, errors = call("plan", suite, "--results", str(ROOT / "results"))
    new = f"vggkit: suite: {suite!r} is a new one, with no settings of its own{told}\n"
    assert (status, errors) == (0, new if told else "")


@pytest.mark.parametrize(
    "command",
    [("train", "vgg08", "--suite"), ("sweep", "vgg08", "--suite"), ("evaluate", "vgg08", "--suite"), ("plan",)],
)
def test_new_suite_named_nearly_as_one_of_the_study_needs_a_folder(
    call: Call, tmp_path: Path, command: tuple[str, ...]
) -> None:
    status, output, error = call(*command, "Furthr", "--results", str(tmp_path))
    assert (status, output) == (2, "") and error.count("\n") == 1
    assert error.startswith("vggkit: unknown suite 'Furthr': did you mean further? allowed: table1, short,")
    assert error.rstrip().endswith(f"made a folder, {tmp_path / 'Furthr'}")
    assert not any(tmp_path.iterdir())
    (tmp_path / "Furthr").mkdir()
    status, _, error = call("plan", "Furthr", "--results", str(tmp_path))
    assert (status, error) == (0, "")


def test_plan_counts_every_seed_of_runs_that_are_trained_alone(call: Call, tmp_path: Path) -> None:
    given = ("--seeds", "0-2", "--json", "--results", str(tmp_path))
    status, output, _ = call("plan", "mine", "vgg08", "--set", "dropout=0.5", *given)
    assert status == 0
    assert json.loads(output)["all"]["states"] == {"finished": 0, "begun": 0, "new": 3}
    status, output, _ = call("plan", "further", *given)
    runs = list(itertools.chain(*order(asked("further"), [0, 1, 2], 1, suite="further")))
    found = {name: sum(row["states"].values()) for name, row in json.loads(output)["configurations"].items()}
    assert found == dict(Counter(run.name for run in runs)) and set(found.values()) == {3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mine", "vgg09"), "unknown configuration 'vgg09': did you mean vgg08?"),
        (("mine", "--set", "epochs"), "set: 'epochs' is not allowed; allowed: FIELD=VALUE"),
        (("mine", "--set", "seed=1"), "--seeds gives it"),
        (("mine", "--seeds", "x"), "seeds: 'x' is not allowed"),
        (("mine", "--bench", "nowhere.json"), "bench: nowhere.json cannot be read (No such file or directory); make"),
        (("mine", "--results", __file__), "test_cost.py; name one that exists by --results"),
    ],
)
def test_mistake_in_a_plan_is_one_line(call: Call, arguments: tuple[str, ...], message: str) -> None:
    status, _, errors = call("plan", "--results", str(ROOT / "results"), *arguments)
    assert status == 2 and message in errors and errors.count("\n") == 1


@pytest.mark.parametrize("change", [{"ratios": "x"}, {"reading": [{"runs": 1}]}, {"rows": 1}, {"planning": None}])
def test_damaged_simulation_is_one_line(change: dict[str, object], tmp_path: Path) -> None:
    file = tmp_path / "scale.json"
    file.write_text(json.dumps(scale.read(ROOT / "results/bench/scale.json") | change))
    with pytest.raises(
        ArtifactError, match=r"scale\.json cannot be read \([^\n]*\); make it anew: workflow/simulate\.py$"
    ):
        scale.read(file)


NOTHING, SERVER = scale.Start(0, 0, 0.0), scale.Server()


def test_makespan_of_small_cases_is_what_counting_gives() -> None:
    for durations, workers in itertools.product(itertools.product((1, 2, 5), repeat=4), (1, 2, 3, 9)):
        left, clock, waiting = [0] * workers, 0, list(durations)
        while waiting or any(left):
            left = [one or (waiting.pop(0) if waiting else 0) for one in left]
            left, clock = [max(0, one - 1) for one in left], clock + 1
        last, idle = scale.makespan(durations, workers, NOTHING, SERVER)
        assert last == clock
        assert idle == pytest.approx(1 - sum(durations) / (workers * clock))


def test_jobs_wait_for_the_file_server_one_after_the_other() -> None:
    start, server = scale.Start(files=200, bytes=10, seconds=3.0), scale.Server(operations=100, bandwidth=10)
    assert scale.makespan([7.0] * 5, 5, start, server)[0] == 5 * 2 + 3 + 7
    assert server.seconds(0, 50) == 5


def test_simulation_keeps_to_what_is_possible(speeds: cost.Speeds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "DRAWS", 2)
    found = scale.simulate(speeds, NOTHING, SERVER)
    # Depth decides between vgg08 and vgg38, and the learning rate is another: 6 of 7 configurations differ.
    assert (found["asked"], found["runs"]) == (7 * 3 * 6 * 10, 6 * 3 * 6 * 10)
    for row in found["rows"]:
        assert row["hours"] >= row["least"] * (1 - 1e-9) and 0 <= row["idle"] < 1
    alone = next(row for row in found["rows"] if row["workers"] == 1)
    assert alone["hours"] == pytest.approx(found["hours"]) and alone["idle"] == pytest.approx(0)
    by_order = {row["order"]: row["hours"] for row in found["rows"] if row["workers"] == 512}
    assert by_order[scale.LONGEST] <= by_order[scale.LISTED]
