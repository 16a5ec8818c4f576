"""What the book offers for download: values are those of the run, tables stand by themselves."""

import csv
import io
import json
import re
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter

from tests.shared import ROOT
from vggkit.report import figures, render, tables
from vggkit.runs import select
from vggkit.runs.records import Run

downloads = pytest.importorskip("vggkit.site.downloads", reason="needs the extra `book`")


@pytest.fixture(scope="module")
def run() -> Run:
    return select.representative_runs(ROOT / "results")["vgg38"]


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_values_of_curves_are_those_of_the_run(run: Run) -> None:
    rows = read(downloads.values_csv(figures.curves([run]).values))
    assert [(row["axis"], int(row["position"])) for row in rows] == [("epoch", at) for at in run.metrics["epoch"]]
    for quantity, scale, metric in (("cross-entropy", 1, "loss"), ("accuracy (%)", 100, "accuracy")):
        for split in ("train", "validation"):
            expected = scale * run.metrics[f"{split}_{metric}"]
            found = [float(row[f"{quantity}: {split}"]) for row in rows]
            assert found == pytest.approx(list(expected), rel=1e-5)


def test_values_of_gradients_are_those_of_the_run_and_stand_there_once(run: Run) -> None:
    flow = figures.gradient_flow(run)
    measured = run.gradients.query("over == 'last' and kind != 'bn'")
    rows = read(downloads.values_csv(flow.values))
    assert len(rows) * (len(rows[0]) - 2) == len(measured)  # though two panels draw them
    last = measured[measured["epoch"] == measured["epoch"].max()].sort_values("layer")
    found = [float(row[f"mean |gradient|: epoch {measured['epoch'].max()}"]) for row in rows]
    assert found == pytest.approx(list(last["mean_abs"]), rel=1e-5, abs=0)


def test_values_of_a_heat_map_are_those_of_each_tensor_zeros_included(run: Run) -> None:
    rows = read(downloads.values_csv(figures.gradient_heatmap(run, "update_ratio").values))
    measured = run.gradients.query("over == 'mean'")
    names = list(measured["parameter"].unique())
    assert len(rows[0]) == 2 + len(names)
    for name in (names[0], names[-1]):
        expected = measured[measured["parameter"] == name].sort_values("epoch")["update_ratio"]
        found = [float(row[f"|update| / |weight|: {name}"]) for row in rows]
        assert found == pytest.approx(list(expected), rel=5e-3, abs=0)
    zeros = sum(value == "0" for row in rows for value in list(row.values())[2:])
    assert zeros == int((measured["update_ratio"] == 0).sum()) > 0


def test_lines_of_one_name_stand_there_once_where_they_are_alike_and_counted_where_not() -> None:
    axis = {"label": "epoch"}
    lines = [{"name": "VGG08", "x": 0, "y": place} for place in (1, 2, 1)]
    panel = {"title": "", "x": axis, "y": {"label": "loss"}, "lines": lines}
    rows = read(downloads.values_csv({"panels": [panel, panel], "series": [[1, 2], [3, None], [4, 5]]}))
    assert [list(row.values()) for row in rows] == [["epoch", "1", "3", "4"], ["epoch", "2", "", "5"]]
    assert list(rows[0])[2:] == ["loss: VGG08", "loss: VGG08 (2)"]


def test_page_offers_each_figure_and_table_and_keeps_no_hidden_table(
    run: Run, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = tables.table1({"vgg38": [run]})
    figure = figures.curves([run])._repr_html_().replace('number"></b>', 'number">Figure 3.</b>')
    body = figure + render.table1_html(frame) + "<code>results/table1/vgg38/seed-0/metrics.csv</code>"
    (tmp_path / "picture.png").write_bytes(b"a picture")
    env = SimpleNamespace(vggkit_pictures={"results": ["picture.png"]})
    config = SimpleNamespace(vggkit_repository="")
    app = SimpleNamespace(outdir=tmp_path, srcdir=tmp_path, env=env, config=config)
    context = {"body": body}
    downloads._offer(app, "results", "", context, SimpleNamespace())
    links = dict(re.findall(r'<a download="([^"]+)" href="([^"]+)">', context["body"]))
    assert list(links) == ["figure-3.png", "figure-3.csv", "table-1.csv", "table-1.tex", "table-1.md"]
    assert all((tmp_path / link).stat().st_size for link in links.values())
    assert render.FILES not in context["body"] and "vggkit-values" in context["body"]
    assert (tmp_path / links["table-1.csv"]).read_text() == render.table1_as(frame, "csv")
    # A long CSV is packed, and is the same inside.
    monkeypatch.setattr(downloads, "LONGEST", 10)
    long = {"body": figure}
    downloads._offer(app, "results", "", long, SimpleNamespace())
    packed = dict(re.findall(r'<a download="([^"]+)" href="([^"]+)">', long["body"]))["figure-3.csv.zip"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / packed), pd.read_csv(tmp_path / links["figure-3.csv"]))
    assert downloads.zipped("a", "b") == downloads.zipped("a", "b")
    # The same table on another page is the same file.
    again = {"body": str(render.table1_html(frame))}
    downloads._offer(app, "runs/comparison", "", again, SimpleNamespace())
    assert f'href="../{links["table-1.csv"]}"' in again["body"]
    # What no page leads to any more is removed.
    app.builder = SimpleNamespace(format="html")
    (tmp_path / "results.html").write_text(again["body"].replace("../", ""))
    (tmp_path / "downloads/results/x").mkdir(parents=True)
    (tmp_path / "downloads/results/x/old.csv").touch()
    downloads._tidy(app, None)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("downloads/**/*") if path.is_file()}
    assert left == {links[f"table-1.{ending}"] for ending in ("csv", "tex", "md")}


def test_tables_are_text_where_there_is_no_html() -> None:
    frame = pd.DataFrame({"what": ["a_b & c", "<d>"], "value": ["−1.00", "5 %"], "note": ["1.2 × 10⁻⁶", "–"]})
    formats, _ = DisplayFormatter().format(render.html(frame, "A table"))
    assert set(formats) == {"text/html", "text/latex", "text/plain"}
    assert r"a\_b \& c" in formats["text/latex"] and r"$<$d$>$" in formats["text/latex"]
    assert "10\\textsuperscript{-}\\textsuperscript{6}" in formats["text/latex"]
    assert "| a_b & c | −1.00 |" in formats["text/plain"]
    told = re.search(rf'class="{render.FILES}">(.*?)</script>', formats["text/html"])
    assert told
    assert read(json.loads(told[1])["files"]["csv"])[0]["value"] == "-1.00"
