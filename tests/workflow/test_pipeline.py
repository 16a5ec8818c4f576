"""The pipeline: what a study asks for, what is done and what not when something changes, and what a kill leaves."""

import copy
import itertools
import os
import shutil
import signal
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from vggkit.config import ConfigError, RunConfig
from vggkit.runs.files import ArtifactError, RunPaths
from vggkit.runs.store import find_runs, read_run

pytest.importorskip("snakemake", reason="needs the extra `pipeline`")
from tests.workflow import calls

TINY = {"dataset": "synthetic", "train_images_per_class": 4, "batch_size": 50}
STUDY: dict[str, Any] = {"suite": "trial", "seeds": 0, "settings": TINY}


def tiny(**settings: Any) -> RunConfig:
    return RunConfig.named("vgg08", suite="trial", **(TINY | settings))


def load(pipeline: ModuleType, folder: Path, **changed: Any) -> Any:
    """The study whose results are to lie in `folder`, with some keys changed."""
    return pipeline.load(copy.deepcopy(STUDY | {"configurations": ["vgg08"], "results": str(folder)} | changed))


def test_grid_gives_every_combination_once_and_equal_networks_once(pipeline: ModuleType, tmp_path: Path) -> None:
    names, grid = ["vgg08", "vgg38", "vgg38_bn"], {"depth": [8, 14], "schedule": ["cosine", "constant"]}
    study = load(pipeline, tmp_path, configurations=names, grid=grid, seeds="0-2")
    wanted = {
        tiny(batch_norm=norm, depth=depth, schedule=schedule, seed=seed)
        for norm, depth, schedule, seed in itertools.product((False, True), (8, 14), ("cosine", "constant"), range(3))
    }
    assert len(study.runs) == len(wanted) and set(study.runs) == wanted
    assert len({variant.name for variant in study.variants}) == len(study.variants)


def test_own_settings_and_seeds_of_a_configuration_come_last(pipeline: ModuleType, tmp_path: Path) -> None:
    own = {"name": "vgg08", "settings": {"learning_rate": "1e-2", "depth": 14}, "seeds": [3, 5]}
    study = load(pipeline, tmp_path, configurations=["vgg08", own], grid={"depth": [8, 20]}, together=2)
    assert [(c.depth, c.learning_rate, c.seed) for c in study.runs] == [
        (8, 1e-3, 0), (20, 1e-3, 0), (14, 1e-2, 3), (14, 1e-2, 5),
    ]  # fmt: skip
    assert [seeds for seeds, _ in study.jobs(study.variants[-1])] == ["3,5"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seedz": 1}, "unknown key 'seedz': did you mean seeds?"),
        ({"configurations": ["vgg39"]}, "unknown configuration 'vgg39': did you mean vgg38?"),
        ({"configurations": []}, r"configurations: \[\] is not allowed; allowed: a list of at least one"),
        (
            {"configurations": [{"settings": {}}]},
            r"configurations.0: .* is not allowed; allowed: a configuration's name",
        ),
        (
            {"configurations": [{"name": "vgg08", "seed": 1}]},
            "unknown key of configurations 'seed': did you mean seeds?",
        ),
        ({"seeds": "0..3"}, "seeds: '0..3' is not allowed; allowed: integers as 0, 0-4"),
        ({"threads": 0}, "threads: 0 is not allowed; allowed: an integer of at least 1"),
        ({"settings": {"learnin_rate": 1}}, "unknown field 'learnin_rate': did you mean learning_rate?"),
        ({"settings": {"seed": 1}}, "^settings.seed: seed is not allowed here; allowed: the study's own seeds"),
        ({"grid": {"depth": [8, 9]}}, r"^grid\.depth\.1: 9 is not allowed; allowed: 8 \+ 6 x blocks"),
        ({"grid": {"learning_rate": ["1e-2", "x"]}}, r"^grid\.learning_rate\.1: 'x' is not allowed; allowed: a finite"),
        (
            {"configurations": ["vgg38", {"name": "vgg08", "settings": {"epochs": 0}}]},
            r"^configurations\.1\.settings\.epochs: 0 is not allowed; allowed: an integer from 1",
        ),
        (
            {"configurations": ["vgg38", {"name": "vgg08", "seeds": "3-1"}]},
            r"^configurations\.1\.seeds: '3-1' is not allowed; allowed: integers as in 0,1,2",
        ),
        ({"grid": {"depth": 8}}, "grid.depth: 8 is not allowed; allowed: a list of at least one value"),
        ({"grid": {1: [8]}}, "grid: 1 is not allowed; allowed: the name of a setting"),
        ({"settings": {"learning_rate": [1]}}, r"settings.learning_rate: \[1\] is not allowed; allowed: one value"),
        ({"grid": {"precision": ["float32", "bfloat16"]}}, "float32 and bfloat16, which share a folder"),
        ({"suite": "a/b"}, "suite: 'a/b' is not allowed; allowed: letters, digits"),
    ],
)
def test_mistake_is_one_line_that_names_place_and_allowed_values(
    pipeline: ModuleType, changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        load(pipeline, tmp_path, **changed)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("field", ["results", "output"])
def test_impossible_folder_is_one_line_before_any_work(field: str, pipeline: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place, told in (
        ("file", "file is no folder; allowed: a folder that can be written, or that can be made"),
        ("file/below", "file is no folder"),
        ("a{b}", r"a\{b\}.*' is not allowed; allowed: a path without { and }"),
        ("x" * 300, "cannot be looked up"),
    ):
        with pytest.raises(ConfigError, match=rf"^{field}: .*{told}[^\n]*$"):
            load(pipeline, tmp_path / "there", **{field: str(tmp_path / place)})
    with pytest.raises(ConfigError, match=f"^{field}: '~nobody-of-this-name' is not allowed"):
        load(pipeline, tmp_path / "there", **{field: "~nobody-of-this-name"})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root writes everywhere")
def test_folder_that_may_not_be_written_is_one_line(pipeline: ModuleType, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match=f"^output: {tmp_path} cannot be written"):
        load(pipeline, tmp_path, output=str(tmp_path / "output"))


def test_own_bench_of_a_study_is_read_and_may_begin_with_a_home_folder(
    pipeline: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(calls.ROOT / "results/bench/cpu.json", tmp_path / "mine.json")
    assert pipeline.speeds({"bench": "~/mine.json"}, tmp_path).points
    with pytest.raises(ArtifactError, match=rf"^bench: {tmp_path}/nix\.json cannot be read"):
        pipeline.speeds({"bench": "~/nix.json"}, calls.ROOT)


def test_study_without_a_suite_says_so(pipeline: ModuleType) -> None:
    with pytest.raises(ConfigError, match=r"^suite: is missing; allowed: letters"):
        pipeline.load({"configurations": ["vgg08"]})


def test_notes_follow_the_runs_and_other_settings_are_refused(pipeline: ModuleType, tmp_path: Path) -> None:
    from vggkit.training.runner import train

    run = train(tiny(epochs=1), results=tmp_path)
    folder = RunPaths.of(tmp_path, run.config).folder
    changed = {"settings": TINY | {"epochs": 1}, "seeds": [0, 1]}
    study = load(pipeline, tmp_path, **changed)
    study.note_what_is_finished()
    first, second = study.done(study.variants[0])
    assert first.read_bytes() == (folder / "summary.json").read_bytes() and not second.exists()
    assert not load(pipeline, tmp_path, **changed, together=2).done(study.variants[0])[0].exists()
    other = load(pipeline, tmp_path, **(changed | {"settings": TINY | {"epochs": 1, "precision": "bfloat16"}}))
    with pytest.raises(ArtifactError, match=r"another configuration \(precision 'float32', not 'bfloat16'\)"):
        other.note_what_is_finished()
    shutil.move(folder, folder.with_name(".aside"))
    study.note_what_is_finished()
    assert not first.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("whole_synthetic_set")
def test_pipeline_trains_what_is_new_and_nothing_else_and_survives_a_kill(tmp_path: Path) -> None:
    clone = calls.Clone(tmp_path / "clone")
    results, made = clone.folder / "results", Path("workflow/output/trial")
    first, second = tiny(epochs=1), tiny(epochs=1, learning_rate=0.01)
    keys = STUDY | {"settings": TINY | {"epochs": 1}, "pages": False}
    clone.study(**keys, configurations=["vgg08", {"name": "vgg08", "settings": {"learning_rate": 0.01}}])
    page = str(made / "pages" / f"{first.name}.ipynb")
    targets = ("all", page, "--cores", "2")  # one page is enough here
    status, output = clone.call(*targets)
    assert status == 0, output
    assert sum(count for rule, count in calls.planned(output).items() if rule.startswith("train")) == 2
    runs = find_runs(results)
    assert [run.config for run in runs] == [first, second]
    table = pd.read_csv(clone.folder / made / "table.csv", index_col="name")
    for run in runs:
        assert table.loc[run.config.name, "test_accuracy_mean"] == pytest.approx(run.summary["final"]["test_accuracy"])

    # A new time alone, as a clone gives it, is no change; another caption makes the page anew, and trains nothing.
    caption = clone.folder / "vggkit/report/figures.py"
    os.utime(caption)
    status, output = clone.call(*targets)
    assert status == 0 and "Nothing to be done" in output, output
    caption.write_text(caption.read_text() + "\n# another caption\n")
    jobs = calls.planned(clone.call(*targets, "--dry-run")[1])
    assert set(jobs) == {"all", f"page_{first.name}"} or set(jobs) == {f"page_{first.name}"}

    # A changed setting is another run; it alone is trained, killed on the way, and goes on from its checkpoint.
    changed = {"name": "vgg08", "settings": {"learning_rate": 0.02, "epochs": 10}}
    clone.study(**keys, configurations=["vgg08", changed])
    process = clone.start("--cores", "2", "--retries", "0")
    new = tiny(learning_rate=0.02, epochs=10)
    calls.eventually(lambda: clone.trainer(new.name)).send_signal(signal.SIGKILL)
    output, _ = process.communicate(timeout=calls.PATIENCE)
    assert process.returncode != 0
    assert [rule for rule in calls.planned(output) if rule.startswith("train")] == [f"train_{new.name}"]
    paths = RunPaths.of(results, new)
    assert paths.checkpoint.is_file() and not paths.folder.exists()
    status, output = clone.call("--cores", "2")
    assert status == 0 and f"{new.name}: 1 begun" in output, output
    calls.assert_like_uninterrupted(results, [new], tmp_path / "reference")
    assert clone.call("--cores", "1", "--delete-all-output")[0] == 0
    for run in runs:  # untouched by all of it
        assert read_run(RunPaths.of(results, run.config).folder).summary == run.summary


def test_mistake_in_the_study_ends_snakemake_before_any_job(tmp_path: Path) -> None:
    clone = calls.Clone(tmp_path / "clone")
    clone.study(suite="trial", configurations=["vgg08"], settings={"epochs": 0})
    status, output = clone.call("--cores", "1")
    assert status != 0 and "epochs: 0 is not allowed; allowed: an integer from 1" in output
    assert "Traceback" not in output and len(output.splitlines()) < 8, output
