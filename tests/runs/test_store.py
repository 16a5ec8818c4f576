"""What is written is read back exactly, and nothing half-written or damaged passes for a run."""

import ast
import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.runs.made import a_run, seal, weights_of
from tests.shared import CPU, ROOT, Call
from vggkit.config import ConfigError, RunConfig
from vggkit.networks.vgg import VGG
from vggkit.runs import store
from vggkit.runs.checkpoints import read_checkpoint, write_checkpoint
from vggkit.runs.files import ArtifactError, RunPaths, claim
from vggkit.runs.records import Run
from vggkit.runs.store import ArtifactWarning, find_runs, read_finished, read_run, read_weights, write_run


def test_run_is_read_back_exactly(tiny: RunConfig, tmp_path: Path) -> None:
    config = replace(tiny, epochs=1000)
    paths, written, weights = RunPaths.of(tmp_path, config), a_run(config), weights_of(config)
    with claim(paths):
        write_run(paths, written, weights)
    read = read_run(paths.folder)
    assert read.config == config
    pd.testing.assert_frame_equal(read.metrics, written.metrics, check_exact=True)
    pd.testing.assert_frame_equal(read.gradients, written.gradients, check_exact=True)
    assert read.signal is not None and read.signal.equals(written.signal)
    found = read_weights(paths)
    assert set(found) == set(weights) and all(torch.equal(found[name], weights[name]) for name in weights)


@pytest.mark.parametrize(
    "file", sorted(ROOT.glob("results/*/*/seed-*/metrics.csv")), ids=lambda f: "-".join(f.parts[-4:-1])
)
def test_committed_numbers_are_read_as_python_reads_them(file: Path) -> None:
    # Python's own float() is exact; the parser of pandas is not by default in all versions.
    with file.open(newline="") as text:
        header, *rows = csv.reader(text)
    metrics = read_run(file.parent).metrics
    assert list(metrics.columns) == header
    numbers = [[float(value or "nan") for value in row] for row in rows]  # of a run that diverged some are missing
    np.testing.assert_array_equal(metrics.astype(float).to_numpy(), np.array(numbers))


@pytest.mark.parametrize("place", [0, 0.3, 0.7, 1])
@pytest.mark.parametrize("name", ["config.json", "metrics.csv", "gradients.parquet", "signal.parquet"])
def test_one_changed_bit_anywhere_is_refused(name: str, place: float, paths: RunPaths, tiny: RunConfig) -> None:
    content = bytearray((paths.folder / name).read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    (paths.folder / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name} is damaged") as error:
        read_finished(paths, tiny)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "metrics.csv", "gradients.parquet", "signal.parquet", "summary.json"])
def test_missing_file_is_refused_in_one_line(name: str, paths: RunPaths, tiny: RunConfig) -> None:
    (paths.folder / name).unlink()
    with pytest.raises(ArtifactError, match=name) as error:
        read_finished(paths, tiny)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0, 0.5, 0.9])
def test_truncated_summary_is_refused_in_one_line(keep: float, paths: RunPaths, tiny: RunConfig) -> None:
    content = (paths.folder / "summary.json").read_bytes()
    (paths.folder / "summary.json").write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ArtifactError, match=r"summary\.json is damaged") as error:
        read_finished(paths, tiny)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "sealed"),
    [
        (("parameters",), 59717, True),
        (("diverged",), True, True),
        (("final", "test_accuracy"), 0.126, True),
        # With a new checksum, too: here the change contradicts metrics.csv.
        (("final", "validation_loss"), 1.5, False),
        (("final", "epoch"), 999, False),
        (("best",), {}, False),
        (("best", "epoch"), 1, False),
        (("diverged",), True, False),
        (("parameters",), 59717, False),
        (("train_images",), 47500, False),
    ],
)
def test_changed_summary_is_refused_in_one_line(
    path: tuple[str, ...], value: Any, sealed: bool, paths: RunPaths, tiny: RunConfig
) -> None:
    file = paths.folder / "summary.json"
    summary = json.loads(file.read_text())
    assert read_finished(paths, tiny) is not None
    *outer, last = path
    (summary[outer[0]] if outer else summary)[last] = value
    if not sealed:
        seal(summary)
    file.write_text(json.dumps(summary))
    with pytest.raises(ArtifactError, match=r"summary\.json") as error:
        read_finished(paths, tiny)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", [("diverged",), ("data_sha256",), ("files", "metrics.csv"), ("final", "test_loss")])
def test_summary_without_a_key_is_refused_by_its_name(path: tuple[str, ...], paths: RunPaths, tiny: RunConfig) -> None:
    summary = json.loads((paths.folder / "summary.json").read_text())
    *outer, last = path
    del (summary[outer[0]] if outer else summary)[last]
    seal(summary)
    (paths.folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(ArtifactError, match=rf"summary\.json is damaged \(it knows no {last}") as error:
        read_finished(paths, tiny)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("field", "value"), [("seed", 1), ("precision", "bfloat16"), ("epochs", 9)])
def test_run_of_another_configuration_is_refused_by_field(field: str, value: Any, paths: RunPaths) -> None:
    config = read_run(paths.folder).config
    other = RunConfig.from_dict(config.to_dict() | {field: value})
    with pytest.raises(ArtifactError, match=f"{field} {getattr(config, field)!r}, not {value!r}") as error:
        read_finished(paths, other)
    assert "\n" not in str(error.value)


def test_runs_are_found_by_suite_and_seed_but_not_unfinished_ones(paths: RunPaths, tmp_path: Path) -> None:
    config = read_run(paths.folder).config
    for changes in ({"seed": 1}, {"suite": "other"}):
        more = RunConfig.from_dict(config.to_dict() | changes)
        with claim(RunPaths.of(tmp_path, more)):
            write_run(RunPaths.of(tmp_path, more), a_run(more))
    # Neither what a process leaves that is killed before it renames the folder of a run, nor a folder among the
    # checkpoints, is a finished run.
    shutil.copytree(paths.folder, paths.folder.parent / ".partial-killed")
    shutil.copytree(paths.folder, paths.checkpoint.parent, dirs_exist_ok=True)
    found = [(run.config.suite, run.config.seed) for run in find_runs(tmp_path)]
    assert found == [("local", 0), ("local", 1), ("other", 0)]
    assert [run.config.suite for run in find_runs(tmp_path, "other")] == ["other"]


def test_run_that_lost_its_summary_is_not_passed_over(paths: RunPaths, tmp_path: Path) -> None:
    (paths.folder.parent / "seed-9").write_text("a file beside the runs")
    with pytest.warns(ArtifactWarning, match="seed-9"):
        assert len(find_runs(tmp_path)) == 1
    (paths.folder / "summary.json").unlink()
    with pytest.raises(ArtifactError, match=r"seed-0/summary\.json is missing"):
        find_runs(tmp_path)


@pytest.mark.parametrize("command", ["list", "table"])
def test_command_shows_an_empty_folder_and_refuses_what_is_none(command: str, call: Call, tmp_path: Path) -> None:
    assert call(command, "--results", str(tmp_path))[0] == 0
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "missing", tmp_path / "file"):
        told = f"vggkit: results: no folder {wrong}; name one that exists by --results\n"
        assert call(command, "--results", str(wrong)) == (2, "", told)


def test_refused_training_prints_one_line_alone_and_names_the_options(call: Call, tmp_path: Path) -> None:
    words = ["train", "vgg08", "--results", str(tmp_path), "--data", str(tmp_path)]
    for wrong, told in (([], "cifar-100-python"), (["--lr", "1"], "--learning-rate"), (["--epoch", "1"], "--epochs")):
        status, out, error = call(*words, *wrong)
        assert (status, out, error.count("\n")) == (2, "", 1)
        assert told in error


def test_summary_is_standard_json_and_refuses_nan(paths: RunPaths, tiny: RunConfig, tmp_path: Path) -> None:
    run = a_run(tiny)
    bad = Run(run.config, run.metrics, run.gradients, run.summary | {"wall_seconds": float("nan")})
    other = RunPaths.of(tmp_path / "elsewhere", tiny)
    with claim(other), pytest.raises(ValueError, match="JSON"):
        write_run(other, bad)
    assert read_finished(other, tiny) is None
    assert set(json.loads((paths.folder / "summary.json").read_text())["files"]) == {
        path.name for path in paths.folder.iterdir()
    } - {"summary.json"}


@pytest.mark.parametrize("given", [str, Path])
def test_home_folder_is_expanded_where_a_path_enters(
    given: type, tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    paths = RunPaths.of(given("~/results"), tiny)
    with claim(paths):
        write_run(paths, a_run(tiny), weights_of(tiny))
    assert [run.config for run in find_runs(given("~/results"))] == [tiny]
    folder = given(f"~/{paths.folder.relative_to(tmp_path / 'home')}")
    assert read_run(folder).config == tiny
    VGG.from_run(folder)
    assert not (tmp_path / "~").exists()
    with pytest.raises(ConfigError, match="home folder") as error:
        find_runs("~nobody-of-this-name/results")
    assert "\n" not in str(error.value)


def test_copies_and_strangers_are_named_and_left_out(paths: RunPaths, tiny: RunConfig, tmp_path: Path) -> None:
    for copy in ("seed-0.bak", "seed-1", "seed-2", "seed-00", "seed-0 (copy)", "old"):
        shutil.copytree(paths.folder, paths.folder.parent / copy)
    other = RunPaths.of(tmp_path, replace(tiny, suite="table1")).folder
    shutil.copytree(paths.folder, other)
    (paths.folder.parent / "seed-3.bak").mkdir()  # an empty folder is passed over in silence
    with pytest.warns(ArtifactWarning) as told:
        runs = find_runs(tmp_path)
    assert [run.config for run in runs] == [tiny]
    messages = [str(warning.message) for warning in told]
    assert len(messages) == 7 and not any("\n" in message for message in messages)
    for folder in (other, paths.folder.parent / "seed-0.bak", paths.folder.parent / "seed-1"):
        assert sum(message.startswith(f"results: {folder} is left out: ") for message in messages) == 1
    with pytest.warns(ArtifactWarning):
        assert find_runs(tmp_path, "table1") == []


def test_table_passes_over_copies_without_a_traceback(call: Call, tmp_path: Path) -> None:
    results = tmp_path / "results"
    for suite in ("table1", "preview"):
        shutil.copytree(ROOT / f"results/{suite}/vgg08/seed-0", results / suite / "vgg08/seed-0")
    for seed in range(1, 5):
        shutil.copytree(ROOT / "results/table1/vgg08/seed-0", results / f"table1/vgg08/seed-{seed}")
    shutil.copytree(ROOT / "results/preview/vgg38/seed-0", results / "table1/vgg38/seed-0")
    status, out, error = call("table", "--format", "csv", "--results", str(results))
    assert status == 0 and "Traceback" not in error
    assert "table1, 1 seed" in out.replace('"', "") and "5 seeds" not in out


@pytest.mark.parametrize(
    "call",
    ["from vggkit.runs import checkpoints, files, schema, store",
     "from vggkit.runs.store import find_runs; assert find_runs('results')"],
)  # fmt: skip
def test_artifacts_need_no_torch(call: str) -> None:
    code = (
        f"import sys\n{call}\nprint([m for m in ('torch', 'scipy', 'matplotlib', 'safetensors') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


def test_clone_that_converts_line_ends_has_all_runs_whole(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a clone")
    clone = tmp_path / "clone"
    settings = ["-c", "core.autocrlf=true", "-c", "core.eol=crlf"]  # as Git for Windows has them
    subprocess.run(["git", "clone", "-q", *settings, str(ROOT), str(clone)], check=True, capture_output=True)
    assert b"\r\n" in (clone / "README.md").read_bytes()  # the settings have an effect
    listed = ["git", "ls-files", "results/*/summary.json"]
    committed = subprocess.run(listed, cwd=clone, capture_output=True, text=True, check=True).stdout.split()
    assert len(find_runs(clone / "results")) == len(committed) > 0


def messages() -> list[str]:
    """Every string in the library's source but docstrings; in an f-string {} stands for each value."""
    found = []
    for file in sorted((ROOT / "vggkit").rglob("*.py")):
        tree = ast.parse(file.read_text())
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
        docs = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented)
                and node.body and isinstance(node.body[0], ast.Expr)}  # fmt: skip
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | inside:
                found.append(node.value)
    return found


def test_no_message_advises_to_delete_what_was_trained() -> None:
    told = messages()
    assert len(told) > 500 and any("restore it from version control" in message for message in told)
    for message in told:
        if re.search(r"\b(delet|eras|discard|wip|rm -)", message, re.I):
            # Images can be downloaded again; results cannot.
            assert message.startswith("data: ") or ("{}" in message and "data" in message), message


def test_damage_is_answered_with_a_place_to_restore_from_and_a_place_to_move_to(
    paths: RunPaths, tiny: RunConfig, tmp_path: Path
) -> None:
    with claim(paths):
        write_checkpoint(paths, {"config": tiny.to_dict()})
    files = ["summary.json", "config.json", "metrics.csv", "gradients.parquet", "signal.parquet", "weights.safetensors"]
    for file in [*(paths.folder / name for name in files), paths.checkpoint]:
        content = file.read_bytes()
        file.write_bytes(content[:-20])
        with pytest.raises(ArtifactError, match=rf"{re.escape(str(file))} is damaged") as error:
            if file.name == "weights.safetensors":
                read_weights(paths)
            elif file == paths.checkpoint:
                read_checkpoint(paths, tiny, CPU)
            else:
                read_finished(paths, tiny)
        message = str(error.value)
        place = re.search(r"restore it from .*backup, or move (?:it|\S+) aside to ([^\s:]+)", message)
        assert place and "\n" not in message
        file.write_bytes(content)
    # A folder that is moved to the place that the message names is not looked at any more.
    paths.folder.rename(place_aside := paths.folder.parent / ".aside-seed-0")
    assert find_runs(tmp_path) == [] and read_finished(paths, tiny) is None  # without a warning
    assert place_aside.exists()


def test_what_cannot_be_read_is_told_and_not_passed_over(paths: RunPaths, tmp_path: Path) -> None:
    # Root may read every folder, so a failing system call stands in for missing permission.
    read = Path.iterdir
    for locked in (tmp_path, paths.folder.parent.parent, paths.folder.parent):
        with pytest.MonkeyPatch.context() as patch:

            def refuse(folder: Path, locked: Path = locked) -> Any:
                if folder == locked:
                    raise PermissionError(13, "Permission denied")
                return read(folder)

            patch.setattr(Path, "iterdir", refuse)
            with pytest.raises(ArtifactError, match=f"results: {locked} cannot be read .*Permission denied") as error:
                find_runs(tmp_path)
            assert "\n" not in str(error.value)


def test_file_or_dangling_link_in_a_runs_place_is_named(paths: RunPaths, tmp_path: Path) -> None:
    (paths.folder.parent / "seed-7").write_text("no folder")
    (paths.folder.parent / "seed-8").symlink_to(tmp_path / "nowhere")
    with pytest.warns(ArtifactWarning) as told:
        assert [run.config.seed for run in find_runs(tmp_path)] == [0]
    assert sorted(Path(str(one.message).split()[1]).name for one in told) == ["seed-7", "seed-8"]


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(36, "File name too long")])
def test_path_that_cannot_be_looked_up_is_one_line(
    error: OSError, paths: RunPaths, tiny: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **settings: Any) -> Any:
        raise error

    monkeypatch.setattr(Path, "stat", refuse)
    for look in (
        lambda: read_finished(paths, tiny),
        lambda: read_checkpoint(paths, tiny, CPU),
        lambda: store.load_weights(paths.folder),
    ):
        with pytest.raises(ConfigError, match=f"cannot be looked up .{error.strerror}") as told:
            look()
        assert "\n" not in str(told.value)
