"""A run of the course's framework is read as it is, kept apart from ours, and refused where it says something else."""

import csv
import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vggkit.config import ConfigError
from vggkit.report import figures, tables
from vggkit.runs import imported
from vggkit.runs.files import ArtifactError, sha256
from vggkit.runs.imported import find_imported, import_summary, read_imported
from vggkit.runs.imported_summary import parse_summary
from vggkit.runs.select import fullest_runs
from vggkit.runs.store import ArtifactWarning, find_runs

RESULTS = Path(__file__).parents[2] / "results"
HEADER = ["train_acc", "train_loss", "val_acc", "val_loss"]
EPOCHS = [(0.01 * i, 4.6 - 0.3 * i, 0.009 * i, 4.7 - 0.2 * i) for i in range(1, 6)]


def written(*lines: Sequence[object], end: str = "\r\n") -> bytes:
    """The lines as Python's csv.writer, which the framework uses, writes them."""
    text = io.StringIO()
    csv.writer(text, lineterminator=end).writerows(lines)
    return text.getvalue().encode()


SUMMARY = written(HEADER, *EPOCHS)


@pytest.fixture
def summary(tmp_path: Path) -> Callable[..., Path]:
    def write(content: bytes = SUMMARY) -> Path:
        (tmp_path / "summary.csv").write_bytes(content)
        return tmp_path / "summary.csv"

    return write


def columns(rows: Sequence[dict[str, float | None]]) -> list[tuple[float | None, ...]]:
    """The rows in the framework's order of columns."""
    return [
        (r["train_accuracy"], r["train_loss"], r["validation_accuracy"], r["validation_loss"]) for r in rows
    ]  # fmt: skip


# What is read


def test_every_number_is_that_of_its_column_to_the_last_digit() -> None:
    rng = np.random.default_rng(0)
    values = [(a, np.float32(b), c, np.float32(d)) for a, b, c, d in rng.random((50, 4))]
    rows, repeated, notes = parse_summary(written(HEADER, *values))
    assert columns(rows) == [tuple(float(str(value)) for value in row) for row in values]
    assert (repeated, notes) == ([], [])


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_columns_come_in_any_order(order: tuple[int, ...]) -> None:
    lines = [[line[i] for i in order] for line in (HEADER, *EPOCHS)]
    assert columns(parse_summary(written(*lines))[0]) == EPOCHS


@pytest.mark.parametrize(
    "content",
    [
        SUMMARY.replace(b"\r\n", b"\n"),
        b"\xef\xbb\xbf" + SUMMARY,
        SUMMARY.rstrip(),
        b"\n" + SUMMARY.replace(b",", b" , ") + b"\n\n",
    ],
    ids=["LF", "BOM", "no end of line", "spaces and empty lines"],
)
def test_text_is_read_as_programs_write_it(content: bytes) -> None:
    assert columns(parse_summary(content)[0]) == EPOCHS


def test_repeated_header_gives_the_order_of_what_follows() -> None:
    turned = [line[::-1] for line in (HEADER, *EPOCHS[2:])]
    rows, _, notes = parse_summary(written(HEADER, *EPOCHS[:2], *turned))
    assert columns(rows) == EPOCHS
    assert notes == ["header repeated in line 4: the rows below it are counted on"]


def test_epoch_trained_again_after_a_resume_is_the_later_one() -> None:
    """The framework, resumed after epochs 2 and 4, trains these again and tells it nowhere; its user can."""
    again = [(0.5, 1.0, 0.5, 1.0), (0.6, 0.9, 0.6, 0.9)]
    lines = [*EPOCHS[:2], again[0], *EPOCHS[2:4], again[1], EPOCHS[4]]
    rows, repeated, notes = parse_summary(written(HEADER, *lines), repeated=[4, 2], epochs=5)
    assert columns(rows) == [EPOCHS[0], again[0], EPOCHS[2], again[1], EPOCHS[4]]
    assert (repeated, notes) == ([2, 4], ["told twice: epoch 2, 4; the later row counts"])
    with pytest.raises(ValueError, match=r"rows of 7 epochs, and 5 were told.*--repeated"):
        parse_summary(written(HEADER, *lines), epochs=5)
    with pytest.raises(ValueError, match="epoch 7 has no second row; the file ends with epoch 7"):
        parse_summary(written(HEADER, *lines), repeated=[7])
    with pytest.raises(ValueError, match="repeated: 0 is no epoch"):
        parse_summary(written(HEADER, *lines), repeated=[0])


@pytest.mark.parametrize(("column", "first"), [("curr_epoch", 0), ("curr_epoch", 1), ("epoch", 1), ("epoch", 0)])
def test_own_column_of_the_epoch_tells_what_was_trained_again(column: str, first: int) -> None:
    lines = [(first + i, *EPOCHS[i]) for i in (0, 1, 2, 3, 2, 3, 4)]
    lines[2] = (first + 2, 0.9, 0.1, 0.9, 0.1)
    rows, repeated, notes = parse_summary(written([column, *HEADER], *lines))
    assert columns(rows) == EPOCHS
    assert (repeated, notes) == ([3, 4], ["told twice: epoch 3, 4; the later row counts"])
    with pytest.raises(ValueError, match=f"no row for epoch {first + 2};"):
        parse_summary(written([column, *HEADER], *lines[:2], lines[-1]))
    with pytest.raises(ValueError, match="are not to be named"):
        parse_summary(written([column, *HEADER], *lines), repeated=[3])


def test_unfinished_run_says_so() -> None:
    assert parse_summary(SUMMARY, epochs=100)[2] == ["unfinished: 5 of 100 epochs"]


def test_diverged_run_keeps_its_epochs() -> None:
    lost = [(0.01, "nan", 0.01, "inf")] * 2
    rows, _, notes = parse_summary(written(HEADER, *EPOCHS, *lost))
    assert columns(rows) == [*EPOCHS, *[(0.01, None, 0.01, None)] * 2]
    assert notes == ["diverged: from epoch 6 on some loss is not finite"]


# Shares and per cent


def test_per_cent_is_told_from_shares() -> None:
    percent = [(100 * a, b, 100 * c, d) for a, b, c, d in EPOCHS]
    rows, _, notes = parse_summary(written(HEADER, *percent))
    assert np.array(columns(rows)) == pytest.approx(np.array(EPOCHS), rel=1e-15)
    assert notes == ["accuracies are per cent in the file"]


def test_network_that_never_learns_is_not_taken_for_a_perfect_one() -> None:
    """At 1 % the two cannot be told apart: where one column says so, the user is asked, and believed."""
    content = written(HEADER, (0.92, 4.6, 0.8, 4.6), (1.04, 4.6, 0.9, 4.6))
    with pytest.raises(ValueError, match="val_acc is never above 1, the other accuracy is; tell by --accuracies"):
        parse_summary(content)
    assert columns(parse_summary(content, "percent")[0])[1] == pytest.approx((0.0104, 4.6, 0.009, 4.6))
    with pytest.raises(ValueError, match=r"train_acc in line 3 is 1.04; allowed: 0 to 1$"):
        parse_summary(content, "share")


# What is refused


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\r\n\n", "it has no epoch"),
        (written(HEADER), "it has no epoch"),
        (written(*EPOCHS), "its header, has no train_acc, train_loss, val_acc, val_loss"),
        (written(HEADER[:3], EPOCHS[0][:3]), "its header, has no val_loss; allowed: train_acc, train_loss, "),
        (written([*HEADER, "lr"], [*EPOCHS[0], 1]), "line 1, its header, has a column 'lr'; allowed: train_acc"),
        (written(["", *HEADER], [0, *EPOCHS[0]]), "has a column ''"),
        (written([*HEADER, "val_acc"], [*EPOCHS[0], 1]), "has a column twice"),
        (written(["epoch", "curr_epoch", *HEADER], [1, 0, *EPOCHS[0]]), "has a column twice"),
        (SUMMARY.replace(b",", b";"), "its columns are separated by ';'; allowed: train_acc, "),
        (SUMMARY.replace(b",", b"\t"), r"its columns are separated by '\t'; allowed"),
        (written(HEADER, EPOCHS[0], EPOCHS[1][:3]), "line 3 has 3 values; allowed: 4"),
        (written(HEADER, EPOCHS[0], ["epoch", *HEADER], [1, *EPOCHS[0]]), "line 3 has other columns than the first"),
        (written(HEADER, (0.1, "tensor(0.1)", 0.1, 1)), "train_loss in line 2 is 'tensor(0.1)'; allowed: a number"),
        (written(HEADER, (0.1, "1_0", 0.1, 1)), "'1_0'; allowed: a number"),
        (written(HEADER, (0.1, "", 0.1, 1)), "train_loss in line 2 is ''; allowed: a number"),
        (written(HEADER, ("nan", 1, 0.1, 1)), "train_acc in line 2 is nan; allowed: 0 to 1"),
        (written(HEADER, (0.1, 1, -0.1, 1)), "val_acc in line 2 is -0.1; allowed: 0 to 1"),
        (written(HEADER, (99, 1, 101, 1)), "val_acc in line 2 is 101; allowed: 0 to 100"),
        (written(HEADER, ("inf", 1, 50, 1)), "train_acc in line 2 is inf; allowed: 0 to 100"),
        (written(HEADER, (0.1, -1, 0.1, 1)), "train_loss in line 2 is -1; allowed: a number of at least 0"),
        (written(["epoch", *HEADER], ["1.5", *EPOCHS[0]]), "epoch in line 2 is '1.5'; allowed: an integer"),
        (written(["epoch", *HEADER], ["1e300", *EPOCHS[0]]), "epoch in line 2 is '1e300'; allowed: an integer"),
        (SUMMARY.decode().encode("utf-16"), "it is no text of values separated by commas"),
        (b'train_acc,"train_loss\n1,2', "it is no text of values separated by commas"),
        (b"PK\x03\x04" + bytes(range(256)), "it is no text of values separated by commas"),
    ],
)  # fmt: skip
def test_what_is_no_summary_is_one_line(
    content: bytes, told: str, summary: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="cannot be taken for the framework's summary: ") as error:
        import_summary(summary(content), name="a", results=tmp_path / "results")
    assert told in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "results").exists()


def test_what_is_no_file_of_its_size_is_one_line(
    summary: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imported, "LARGEST_FILE", 1000)
    os.mkfifo(tmp_path / "pipe")  # which would be waited for
    for path, told in (
        (tmp_path, "is no file"),
        (tmp_path / "pipe", "is no file"),
        (tmp_path / "no.csv", "there is no"),
        (summary(b""), "is empty"),
    ):
        with pytest.raises(ArtifactError, match=told):
            import_summary(path, name="a", results=tmp_path)
    with pytest.raises(ArtifactError, match="too large; allowed: at most 1,000 bytes"):
        import_summary(summary(SUMMARY * 10), name="a", results=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"name": "../x"}, "name: '../x' is not allowed"),
        ({"name": ""}, "name: '' is not allowed"),
        ({"name": "a" * 65}, "at most 64"),
        ({"suite": "a/b"}, "suite: 'a/b' is not allowed"),
        ({"configuration": "vgg38_bm"}, "did you mean vgg38_bn"),
        ({"accuracies": "percents"}, "did you mean percent"),
        ({"settings": {"epochs": 0}}, "epochs: 0 is not allowed"),
        ({"settings": {"learning_rat": 1.0}}, "did you mean learning_rate"),
        ({"configuration": "vgg38", "settings": {"depth": 20}}, "depth: told already"),
        ({"settings": {"suite": "b"}}, "suite: told already"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_read(arguments: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        import_summary(tmp_path / "not there", **{"name": "a", "results": tmp_path, **arguments})
    assert told in str(error.value)


# What is kept


def test_kept_run_is_read_back_with_its_origin(summary: Callable[..., Path], tmp_path: Path) -> None:
    told: dict[str, Any] = {"configuration": "vgg38_bn", "settings": {"epochs": 5, "learning_rate": 0.1}}
    run, _ = import_summary(summary(), name="alice", results=tmp_path / "results", **told)
    assert find_imported(tmp_path / "results") == [run] == find_imported(tmp_path / "results", "course")
    assert find_imported(tmp_path / "results", "other") == []
    assert run.source_sha256 == hashlib.sha256(SUMMARY).hexdigest()
    assert (run.label, run.model) == ("alice (imported)", "VGG38 BN, learning_rate 0.1")
    assert run.metrics["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert [tuple(row[1:]) for row in run.metrics.itertuples(index=False)] == EPOCHS
    # The same once more changes nothing; anything else of this name is refused.
    again, _ = import_summary(summary(), name="alice", results=tmp_path / "results", **told)
    assert again == run
    for content, other in ((SUMMARY, {}), (written(HEADER, *EPOCHS[:4]), told)):
        with pytest.raises(ArtifactError, match="is of another file or other settings; choose another --name"):
            import_summary(summary(content), name="alice", results=tmp_path / "results", **other)
    assert find_imported(tmp_path / "results") == [run]


def test_diverged_run_is_kept_and_read_back(summary: Callable[..., Path], tmp_path: Path) -> None:
    run, _ = import_summary(summary(written(HEADER, *EPOCHS, (0.01, "nan", 0.01, "nan"))), name="a", results=tmp_path)
    assert run.diverged and find_imported(tmp_path) == [run]
    assert math.isnan(run.metrics["train_loss"].iloc[-1])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda record: record["metrics"][0].update(train_loss=0.5), "its checksum differs"),
        (lambda record: record.pop("suite"), "it knows no suite"),
        (lambda record: record.update(configuration="vgg9"), "allowed: one of the configurations, or null"),
        (lambda record: record.update(imported=2), "is of format 2, this vggkit knows 1"),
        (lambda record: record.update(metrics=[]), "allowed: a list of at least one"),
    ],
)
def test_changed_file_is_refused(change: Callable[[Any], Any], told: str, summary: Callable[..., Path]) -> None:
    results = summary().parent
    import_summary(summary(), name="a", results=results)
    file = results / "imported/course/a.json"
    record = json.loads(file.read_bytes())
    change(record)
    file.write_text(json.dumps(record))
    with pytest.raises(ArtifactError) as error:
        find_imported(results)
    assert told in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b'{"imported": NaN}', b"[" * 100_000])
def test_damaged_file_is_one_line(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"damaged .*; move it aside to .*, and import the run anew"):
        read_imported(file)


def test_possible_values_alone_are_read(summary: Callable[..., Path]) -> None:
    """Whoever changes a file can write the checksum anew: the values are checked for themselves."""
    results = summary().parent
    import_summary(summary(), name="a", results=results)
    file = results / "imported/course/a.json"
    record = json.loads(file.read_bytes())
    record["metrics"][0]["train_accuracy"] = 1.5
    record["sha256"] = sha256(imported._content(record))
    file.write_text(json.dumps(record))
    with pytest.raises(ArtifactError, match=r"train_accuracy of an epoch is 1\.5; allowed: a number from 0 to 1"):
        find_imported(results)


def test_copy_is_left_out(summary: Callable[..., Path]) -> None:
    results = summary().parent
    run, _ = import_summary(summary(), name="a", results=results)
    shutil.copy(results / "imported/course/a.json", results / "imported/course/b.json")
    with pytest.warns(ArtifactWarning, match="b.json is left out: it holds course/a"):
        assert find_imported(results) == [run]


# Beside ours, and never among ours


@pytest.fixture
def both(tmp_path: Path, summary: Callable[..., Path]) -> Path:
    """Results of ours with three imported runs beside them, one of which takes every name that ours have."""
    results = tmp_path / "results"
    for place in ("preview/vgg08", "preview/vgg38_rc"):
        shutil.copytree(RESULTS / place, results / place)
    perfect = written(HEADER, *[(1.0, 0.0, 1.0, 0.0)] * 5)
    for suite, name in (("preview", "vgg08"), ("preview", "seed-0"), ("course", "vgg38_rc")):
        import_summary(summary(perfect), name=name, suite=suite, configuration="vgg38_rc", results=results)
    return results


def test_imported_runs_change_nothing_of_ours(both: Path, recwarn: pytest.WarningsRecorder) -> None:
    mixed = [run.summary for run in find_runs(both)], tables.table1(fullest_runs(both))
    shutil.rmtree(both / "imported")
    assert mixed[0] == [run.summary for run in find_runs(both)]
    assert mixed[1].equals(tables.table1(fullest_runs(both)))
    assert not [warning for warning in recwarn if issubclass(warning.category, ArtifactWarning)]


def test_table_shows_them_beside_the_report_and_ours(both: Path) -> None:
    frame = tables.imported_table(find_imported(both, "course"), fullest_runs(both)).set_index("metric")
    ours = tables.table1(fullest_runs(both)).set_index("name").loc["vgg38_rc"]
    assert frame["imported"].to_dict() == {"train loss": 0, "train acc %": 100, "val loss": 0, "val acc %": 100}
    for metric in frame.index:
        assert frame["report"][metric] == ours[f"{metric} (report)"]
        assert frame["ours"][metric] == ours[f"{metric} (ours)"]
    assert set(frame["our runs"]) == {"preview"} and frame["reduced"].all()


def test_run_of_nothing_told_has_nothing_beside_it(summary: Callable[..., Path], tmp_path: Path) -> None:
    run, _ = import_summary(summary(), name="a", results=tmp_path)
    frame = tables.imported_table([run], {})
    assert frame[["report", "ours", "our runs"]].isna().all(axis=None) and set(frame["model"]) == {"not told"}


def test_curves_draw_them_dashed_and_call_them_imported(both: Path) -> None:
    ours, beside = fullest_runs(both)["vgg38_rc"][:1], find_imported(both)
    figure = figures.curves(ours, [run for run in beside if run.suite == "course"])
    lines = 4  # loss and accuracy, of training and validation; those that end before ours have no stroke at their names
    assert figure.svg.count("stroke-dasharray:") == lines
    for split in ("train", "validation"):
        assert figure.svg.count(f">vgg38_rc (imported), {split}<") == 2
        assert figure.svg.count(f">VGG38 RC*, {split}<") == 2
    assert "vgg38_rc (imported), made elsewhere in 5 epochs" in figure.caption and "imported" in figure.description
    with pytest.raises(ConfigError, match="imported: 6 runs; allowed: at most 3"):
        figures.curves(ours, beside * 2)
