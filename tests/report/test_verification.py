"""Verification names what is damaged, what was changed with its checksums, and which derived numbers moved."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.shared import Call, refused
from vggkit.config import RunConfig
from vggkit.report import verification
from vggkit.runs.files import ArtifactError, RunPaths
from vggkit.runs.store import read_run, read_weights, write_run


@pytest.fixture(scope="module")
def made(trained: Path, tiny: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with two finished runs of suite local, which differ in nothing but the seed that they tell."""
    results = shutil.copytree(trained, tmp_path_factory.mktemp("made") / "results")
    first, second = (RunPaths.of(results, replace(tiny, seed=seed)) for seed in (0, 1))
    write_run(second, replace(read_run(first.folder), config=replace(tiny, seed=1)), read_weights(first))
    return results


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "results")


def folder(results: Path) -> Path:
    return next(results.glob("local/*/seed-0"))


def test_what_is_whole_has_nothing_wrong(results: Path) -> None:
    found, wrong = verification.examine(results)
    assert wrong == []
    assert (len(found.runs), found.files, found.weights) == (2, 12, 2)
    assert set(found.verdicts) and set(found.table1) >= {"vgg08", "vgg38_bn_rc"}


@pytest.mark.parametrize(
    "name", ["config.json", "metrics.csv", "gradients.parquet", "summary.json", "weights.safetensors"]
)
def test_a_changed_byte_is_named_by_its_file(results: Path, name: str) -> None:
    file = folder(results) / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    _, wrong = verification.examine(results)
    assert len(wrong) == 1 and str(file) in wrong[0]


@pytest.mark.parametrize("name", ["config.json", "metrics.csv", "gradients.parquet", "summary.json"])
def test_a_lost_file_is_named(results: Path, name: str) -> None:
    (folder(results) / name).unlink()
    _, wrong = verification.examine(results)
    assert len(wrong) == 1 and f"{name} is missing" in wrong[0] and "damaged" not in wrong[0]
    assert ("without which no run is finished" in wrong[0]) == (name == "summary.json")


def test_weights_may_be_kept_elsewhere(results: Path) -> None:
    (folder(results) / "weights.safetensors").unlink()
    found, wrong = verification.examine(results)
    assert wrong == [] and (found.files, found.weights) == (11, 1)
    before = replace(found, weights=2)
    assert verification.changes(before, found) == [f"weights of 2 networks were there on {found.date}, of 1 are now"]


def test_strange_files_and_misplaced_runs_are_named(results: Path) -> None:
    (folder(results) / "notes.txt").write_text("?")
    shutil.copytree(folder(results), folder(results).with_name("seed-7"))
    _, wrong = verification.examine(results)
    assert sum("notes.txt is not in the run's summary" in line for line in wrong) == 2
    assert any("seed-7" in line and "move it to its place" in line for line in wrong)


def test_a_number_changed_with_its_checksums_is_found_in_the_record(results: Path) -> None:
    before, _ = verification.examine(results)
    run = read_run(folder(results))
    paths = RunPaths.of(results, run.config)
    summary = run.summary.copy()
    assert summary["best"] is not None
    summary["final"] = {**summary["final"], "test_accuracy": 0.99}
    summary["best"] = {**summary["best"], "test_accuracy": 0.99}
    weights = read_weights(paths)
    shutil.rmtree(paths.folder)
    write_run(paths, replace(run, summary=summary), weights)
    now, wrong = verification.examine(results)
    assert wrong == []
    place = paths.folder.relative_to(results).as_posix()
    assert verification.changes(before, now) == [f"{place} has changed since {before.date}"]


def test_new_and_lost_runs_and_moved_numbers_are_told(results: Path) -> None:
    before, _ = verification.examine(results)
    shutil.rmtree(folder(results))
    now, _ = verification.examine(results)
    table1 = {**now.table1, "vgg08": {**now.table1["vgg08"], "val acc % (report)": 1.5}}
    trainable: list[str | None] = ["holds", "holds", "table1"]
    verdicts = {**now.verdicts, "trainable": trainable}
    told = verification.changes(before, replace(now, table1=table1, verdicts=verdicts))
    assert told[0].endswith(f"seed-0 is gone since {before.date}")
    assert any(line.startswith("Table 1, vgg08, val acc % (report):") and "1.5 is derived" in line for line in told)
    assert any(line.startswith("claim trainable:") for line in told) and len(told) == 3


def test_record_is_read_back_as_it_was(results: Path) -> None:
    found, _ = verification.examine(results, commit="abc")
    assert verification.recorded(results) is None
    verification.record(found, results)
    assert verification.recorded(results) == found
    assert found.date in verification.told(results) and "`abc`" in verification.told(results)
    again, wrong = verification.examine(results, commit="abc")
    assert wrong == [] and verification.changes(found, again) == []  # the record is no artefact of its own


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 99}', '{"format": 2, "date": 1}'])
def test_damaged_record_is_one_line(results: Path, content: str) -> None:
    (results / verification.RECORD).write_text(content)
    with pytest.raises(ArtifactError, match=r"verification\.json (is damaged|is of format 99)"):
        verification.recorded(results)


@pytest.mark.parametrize(("key", "value"), [("table1", {"vgg08": 3}), ("repetitions", [{"run": 3}]), ("commit", 5)])
def test_record_with_a_value_of_another_type_is_damaged(results: Path, key: str, value: object) -> None:
    found, _ = verification.examine(results, commit="abc")
    file = verification.record(found, results)
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ArtifactError, match="it is not as it was written"):
        verification.recorded(results)


def test_other_artefacts_are_read_and_remembered(results: Path) -> None:
    (results / "signal").mkdir()
    file = results / "signal" / "seed-0.json"
    file.write_text(json.dumps({"a": 1}))

    def refuse(root: Path, path: Path) -> None:
        raise ArtifactError(f"results: {path} is damaged")

    before, wrong = verification.examine(results)
    assert wrong == [] and list(before.others) == ["signal/seed-0.json"]
    assert verification.examine(results, check=refuse)[1] == [f"results: {file} is damaged"]
    file.write_text(json.dumps({"a": 2}))
    now, _ = verification.examine(results)
    assert verification.changes(before, now) == [f"signal/seed-0.json has changed since {before.date}"]


def test_imported_runs_are_read_and_stay_out_of_the_record(results: Path) -> None:
    file = results / "imported" / "course" / "alice.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    read: list[Path] = []
    found, wrong = verification.examine(results, check=lambda root, path: read.append(path))
    assert (wrong, read, found.others) == ([], [file], {})


def test_command_records_and_tells_what_changed(results: Path, call: Call) -> None:
    given = ["--results", str(results)]
    status, out, error = call("verify", *given)
    assert (status, error) == (0, "") and "12 files of 2 runs" in out and "nothing was recorded" in out
    assert "Table 1 is derived anew: 0 of 12 claims have a verdict, the others cannot be told yet\n" in out
    place = folder(results).relative_to(results).as_posix()
    status, out, _ = call("verify", "--record", "--retrain", place, *given)
    assert status == 0 and "equal bit for bit" in out
    recorded = verification.recorded(results)
    assert recorded is not None and recorded.repetitions[0]["equal"]
    assert call("verify", *given)[0] == 0
    assert call("verify", "--record", *given)[0] == 0  # keeps what was trained again before
    again = verification.recorded(results)
    assert again is not None and again.repetitions == recorded.repetitions
    (results / verification.RECORD).write_text("{}")
    assert call("verify", *given)[0] == 2
    assert call("verify", "--record", *given)[0] == 0  # as the message of the call before says
    stray = results / "stray.txt"
    stray.write_text("?")
    status, _, error = call("verify", *given)
    assert status == 2 and "stray.txt belongs to no run" in error
    stray.unlink()
    shutil.rmtree(folder(results))
    status, _, error = call("verify", *given)
    assert status == 2 and "is gone since" in error and "1 change since" in error
    (next(results.glob("local/*/seed-1")) / "metrics.csv").write_text("")
    status, _, error = call("verify", *given)
    assert status == 2 and "metrics.csv" in error and "1 fault in" in error


def test_command_refuses_an_unknown_run(results: Path, call: Call) -> None:
    for place in ("nix", f"../{results.name}/preview/vgg08/seed-0", str(folder(results)), "x" * 400):
        error = refused(call, "verify", "--retrain", place, "--results", str(results))
        assert error.startswith(f"vggkit: retrain: no finished run '{place.strip('/')}'")
    kept = folder(results).relative_to(results).as_posix()
    assert "device: 'gpu'" in refused(call, "verify", "--retrain", kept, "--device", "gpu", "--results", str(results))
