"""Runs altered by somebody who computed their checksums anew: refused in one line, or shown without harm."""

import copy
import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.shared import ROOT, at, places
from vggkit.cli.results import print_summary
from vggkit.config import RunConfig
from vggkit.networks.vgg import VGG
from vggkit.report import figures, judgements, pages, prose, render, reported, tables
from vggkit.runs import schema, select
from vggkit.runs.files import ArtifactError
from vggkit.runs.store import ArtifactWarning, find_runs, read_run
from vggkit.study import CONFIGURATIONS, STATISTICS
from vggkit.training.propagation import signal_frame

MARKUP = "<b>x</b>"
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 7, 1.5, 10**400, 1e308, "", "x" * 10_000, MARKUP, "`x`", "../x", "a\nb", [], {},
)  # fmt: skip
PLACE = "preview/vgg08/seed-0"
FILES = ("config.json", "metrics.csv", "gradients.parquet", "signal.parquet")
SUMMARY = json.loads((ROOT / "results" / PLACE / "summary.json").read_text())


# Showing an altered run takes seconds. So the fast tests show only some of those that are not refused: of the summary
# one that is altered in all that is free at once. The slow ones show all.
EVERY = pytest.mark.parametrize(
    "every", [False, pytest.param(True, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])]
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a committed run, with the keys in its summary that later versions write too."""
    folder = tmp_path / PLACE
    shutil.copytree(ROOT / "results" / PLACE, folder)
    summary = json.loads((folder / "summary.json").read_text())
    parts = {
        "commit": None,
        "device": "AMD EPYC",
        "threads": 2,
        "torch": "2.13.0",
        "precision": "bfloat16",
        "fused": True,
    }
    summary["segments"] = [{"first_epoch": 1, "last_epoch": 4, **parts}, {"first_epoch": 5, "last_epoch": 10, **parts}]
    summary["fused"] = True
    signal_frame(torch.rand(10, 9), 10).to_parquet(folder / "signal.parquet", index=False)
    write(folder, summary, files_too=True)
    return folder


def write(folder: Path, summary: dict[str, Any], *, files_too: bool = False) -> None:
    """Write summary.json with its checksum; with `files_too`, those of the other files are computed anew as well."""
    if files_too:
        summary["files"] |= {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
    summary = {name: value for name, value in summary.items() if name != "summary_sha256"}
    content = json.dumps(summary, sort_keys=True).encode()
    (folder / "summary.json").write_text(json.dumps(summary | {"summary_sha256": hashlib.sha256(content).hexdigest()}))


def show_everything(results: Path) -> str:
    """All that the book and the command line show of a results folder, as one text."""
    runs, first = select.fullest_runs(results), select.representative_runs(results)
    frame = tables.table1(runs)
    shown = [render.table1_as(frame, kind) for kind in ("markdown", "csv", "latex")]
    shown += [render.table1_html(tables.table1(runs)), prose.status(runs), prose.how_made(runs)]
    shown += [judgements.table_html(runs), reported.against_report_text(runs)]
    for run in first.values():
        shown += [render.run_html(tables.run_table(run)), pages.heading(run), pages.settings_table(run)]
        shown.append(pages.provenance(run))
        print_summary(run, results)
        for figure in (figures.curves([run]), figures.gradient_flow(run), figures.gradient_heatmap(run)):
            shown.append(figure.caption)
    if first:
        shown.append(figures.comparison(first).caption)
    return "\n".join(shown)


def refused_or_shown(folder: Path, blamed: str) -> bool:
    """Whether the altered run is refused, which has to be in one line that blames the altered file."""
    results = folder.parent.parent.parent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ArtifactWarning)  # of a run that is no longer in its place
        try:
            find_runs(results)
        except ArtifactError as error:
            message = str(error)
            assert message.startswith(f"results: {folder / blamed} ") and "\n" not in message and len(message) < 2000
            return True
        assert MARKUP not in show_everything(results)
        return False


def test_unaltered_run_is_shown(folder: Path) -> None:
    assert not refused_or_shown(folder, "")
    assert "epochs 5 to 10" in show_everything(folder.parent.parent.parent)


# Keys whose values no other file of the run repeats, so that an alteration cannot be found.
FREE = {"wall_seconds", "images_per_second", "threads", "device", "python", "torch", "torchvision", "numpy", "fused",
        "commit", "data_sha256", "test_loss", "test_accuracy", "versions", "segments", "signal.parquet"}  # fmt: skip


@pytest.mark.parametrize("key", [*SUMMARY, "segments", "fused"])
@EVERY
def test_altered_summary_is_refused_or_shown(every: bool, key: str, folder: Path) -> None:
    whole = json.loads((folder / "summary.json").read_text())
    shown = []
    for path in [path for path in places(whole) if path[0] == key]:
        original = at(whole, path)
        for value in [*VALUES, "missing", "named otherwise"]:
            if isinstance(original, type(value)) and value == original:
                continue
            summary = copy.deepcopy(whole)
            holder = at(summary, path[:-1])
            if value == "missing":
                del holder[path[-1]]
            elif value == "named otherwise" and isinstance(holder, dict):
                holder[MARKUP] = holder.pop(path[-1])
            else:
                holder[path[-1]] = value
            if key == "summary_sha256":
                (folder / "summary.json").write_text(json.dumps(summary))
            else:
                write(folder, summary)
            # A wrong checksum looks like damage of the file that it belongs to.
            blamed = path[1] if path[0] == "files" and len(path) > 1 and schema.SHA256.holds(value) else "summary.json"
            try:
                read_run(folder)
            except ArtifactError:
                assert refused_or_shown(folder, blamed)
            else:
                assert set(path) & FREE or value == "named otherwise", (path, value)
                shown.append((path, value))
    for path, value in shown if every else ():
        summary = copy.deepcopy(whole)
        if value in ("missing", "named otherwise"):
            at(summary, path[:-1]).pop(path[-1])
        else:
            at(summary, path[:-1])[path[-1]] = value
        write(folder, summary)
        assert not refused_or_shown(folder, "summary.json")


def test_summary_altered_in_all_that_is_free_is_shown(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    altered = 0
    for key in sorted(FREE & summary.keys()):
        for path in [path for path in places(summary) if path[0] == key]:
            before = at(summary, path[:-1])[path[-1]]
            for value in (MARKUP, "x" * 10_000, 7, 1e308, True, None, before):
                at(summary, path[:-1])[path[-1]] = value
                write(folder, summary)
                try:
                    read_run(folder)
                except ArtifactError:
                    continue
                altered += value != before
                break
    assert altered >= 10
    assert not refused_or_shown(folder, "summary.json")


def test_file_names_stay_inside_the_runs_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    summary = json.loads((folder / "summary.json").read_text())
    for name in ("../../../secret", str(tmp_path / "secret"), "..", ".", "", "a/b", "a\\b", ".hidden", "x\n"):
        altered = copy.deepcopy(summary)
        altered["files"][name] = hashlib.sha256(b"x").hexdigest()
        write(folder, altered)
        with pytest.raises(ArtifactError, match=r"summary\.json is damaged .*file's name without a folder"):
            read_run(folder)


@pytest.mark.parametrize("field", RunConfig().to_dict())
@EVERY
def test_altered_configuration_is_refused_or_shown(every: bool, field: str, folder: Path) -> None:
    whole = json.loads((folder / "config.json").read_text())
    summary = json.loads((folder / "summary.json").read_text())
    accepted = []
    for value in [*VALUES, "missing", "named otherwise", "table1", "float32", 14, 1e-2]:
        config = dict(whole)
        if value in ("missing", "named otherwise"):
            config.pop(field, None)  # older files lack what is newer
        if value != "missing":
            config[MARKUP if value == "named otherwise" else field] = value
        if config == whole:
            continue
        (folder / "config.json").write_text(json.dumps(config))
        write(folder, summary, files_too=True)
        try:
            read_run(folder)
        except ArtifactError as error:
            assert "\n" not in str(error) and str(folder) in str(error)
        else:
            accepted.append(config)
    for config in accepted if every else accepted[-1:] if field in ("dropout", "schedule", "suite") else ():
        (folder / "config.json").write_text(json.dumps(config))
        write(folder, summary, files_too=True)
        assert not refused_or_shown(folder, "config.json")


def altered_columns(frame: pd.DataFrame, keys: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """The table with one thing altered, many times, each with a description of what was altered."""
    yield "no rows", frame.iloc[:0]
    yield "one row less", frame.iloc[:-1]
    yield "first row lost", frame.iloc[1:]
    yield "row twice", pd.concat([frame, frame.iloc[-1:]], ignore_index=True)
    yield "rows in another order", frame.iloc[::-1].reset_index(drop=True)
    yield "one more column", frame.assign(more=1)
    yield "columns in another order", frame[frame.columns[::-1]]
    for place, name in enumerate(frame.columns):
        yield f"{name} lost", frame.drop(columns=name)
        yield f"{name} named otherwise", frame.rename(columns={name: MARKUP})
        yield f"{name} twice", frame.assign(**{name: 0}) if place < keys else frame.assign(**{name: MARKUP})
        for value in (MARKUP, -1.0, None):
            column = frame[name].astype(object).copy()
            column.iloc[len(column) // 2] = value
            yield f"{name} holds {value}", frame.assign(**{name: column})
            yield f"{name} is {value} throughout", frame.assign(**{name: value})
        if place >= keys:
            for value in (np.inf, -np.inf, np.nan, 1e300, 0.0, 2.0):
                kept = frame[name].astype("float64").copy()
                kept.iloc[len(kept) // 2] = value
                yield f"{name} holds {value}", frame.assign(**{name: kept.astype(frame[name].dtype)})
                yield f"{name} is {value} throughout", frame.assign(**{name: np.full(len(frame), value)})


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("name", ["metrics.csv", "gradients.parquet", "signal.parquet"])
@EVERY
def test_altered_table_is_refused_or_shown(every: bool, name: str, folder: Path) -> None:
    run = read_run(folder)
    csv = name == "metrics.csv"
    save: Callable[[pd.DataFrame], object] = (
        (lambda frame: frame.to_csv(folder / name, index=False))
        if csv
        else lambda frame: frame.to_parquet(folder / name, index=False)
    )
    refused, shown, accepted = [], [], []
    assert run.signal is not None
    kept = {"metrics.csv": (run.metrics, 1), "gradients.parquet": (run.gradients, 5), "signal.parquet": (run.signal, 2)}
    for what, frame in altered_columns(*kept[name]):
        try:
            save(frame)
        except Exception:  # pyarrow writes no column of mixed types
            continue
        write(folder, dict(run.summary), files_too=True)
        try:
            read_run(folder)
        except ArtifactError as error:
            message = str(error)
            # Rows that are possible by themselves contradict the summary, which is then the file that is named.
            assert any(message.startswith(f"results: {folder / file} ") for file in (name, "summary.json"))
            assert "\n" not in message
            refused.append(what)
        else:
            shown.append(what)
            accepted.append(frame)
    if name == "gradients.parquet":  # of a run that did not diverge
        assert not [what for what in shown if "nan" in what or "inf" in what]
    for frame in accepted if every else accepted[-1:]:
        save(frame)
        write(folder, dict(run.summary), files_too=True)
        assert not refused_or_shown(folder, name)
    assert len(refused) > 35
    possible = ("learning_rate", "train", "gradient_norm", "validation", "seconds", "share", *STATISTICS)
    assert all(what.startswith(possible) for what in shown), shown
    # A statistic may be missing altogether: older versions did not log all of them.
    damaged = [what for what in shown if what not in [f"{statistic} lost" for statistic in STATISTICS]]
    assert not any(word in what for what in damaged for word in ("lost", "otherwise", "-1", "order", "row", MARKUP))


@pytest.mark.parametrize("file", ["summary.json", *FILES])
@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": NaN}', b"PAR1PAR1"]
)
def test_file_of_another_kind_is_blamed_itself(file: str, content: bytes, folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    (folder / file).write_bytes(content)
    if file != "summary.json":
        write(folder, summary, files_too=True)
    assert refused_or_shown(folder, file)


@pytest.mark.parametrize("place", np.linspace(0, 1, 25))
def test_changed_bit_of_the_summary_is_blamed_on_no_other_file(place: float, folder: Path) -> None:
    file = folder / "summary.json"
    content = bytearray(file.read_bytes())
    content[int(place * (len(content) - 1))] ^= 4
    file.write_bytes(content)
    assert refused_or_shown(folder, "summary.json")


@pytest.mark.parametrize("name", [*CONFIGURATIONS, "vgg14"])
def test_shapes_are_those_of_the_network(name: str) -> None:
    config = RunConfig(depth=14, batch_norm=False) if name == "vgg14" else RunConfig.named(name)
    shapes = {name: tuple(p.shape) for name, p in VGG.from_config(config).named_parameters()}
    assert list(schema.parameter_shapes(config).items()) == list(shapes.items())
