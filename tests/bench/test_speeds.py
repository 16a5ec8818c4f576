"""The page on performance shows the measured numbers, and refuses what is no measurement."""

import contextlib
import copy
import dataclasses
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.shared import ROOT, at, places
from vggkit.bench import cost, speeds
from vggkit.runs.files import ArtifactError
from vggkit.runs.records import Run
from vggkit.runs.store import find_runs


def test_page_shows_what_was_measured() -> None:
    measured = speeds.read_bench(ROOT / "results/bench/cpu.json")
    page = speeds.bench_html(measured)
    for row in json.loads((ROOT / "results/bench/cpu.json").read_text())["rows"]:
        assert re.search(rf">{row['images_per_second']:,.0f}</td>\s*<td[^>]*>{row['ratio']:.2f}</td>", page)
    assert measured["machine"] in speeds.bench_method(measured)


def test_any_wrong_value_is_one_line_or_does_not_reach_the_page(tmp_path: Path) -> None:
    whole = json.loads((ROOT / "results/bench/cpu.json").read_text())
    whole["rows"] = whole["rows"][:2]
    file, refused = tmp_path / "bench.json", 0
    values: list[Any] = [None, "<b>x</b>", "`*x*`", -1, True, [], {}, [None], float("nan"), "1\n2"]
    for path in places(whole):
        for value in values:
            changed = copy.deepcopy(whole)
            at(changed, path[:-1])[path[-1]] = value
            file.write_text(json.dumps(changed))
            try:
                measured = speeds.read_bench(file)
            except ArtifactError as error:
                assert "\n" not in str(error) and "vggkit bench --json" in str(error)
                refused += 1
            else:
                page = speeds.bench_html(measured)
                assert "<b>x" not in page and "<b>x" not in speeds.bench_method(measured).replace("\\<", "")
                assert "nan" not in page
                with contextlib.suppress(ArtifactError):  # what the plan needs besides
                    cost.Speeds.read(file, tmp_path)
        changed = copy.deepcopy(whole)
        del at(changed, path[:-1])[path[-1]]
        file.write_text(json.dumps(changed))
        with contextlib.suppress(ArtifactError):
            cost.Speeds.read(file, tmp_path)
    assert refused > 300


def test_names_from_a_measurement_are_shown_and_do_nothing(tmp_path: Path) -> None:
    markdown = pytest.importorskip("markdown_it", reason="needs the extra `book`").MarkdownIt()
    whole = json.loads((ROOT / "results/bench/cpu.json").read_text())
    name = "<img src=x onerror=alert(1)> *a* _b_ `c` [d](e) {f}`g` $h$ | &amp; \\ # ![i](j)"
    whole["machine"] = whole["rows"][0]["loop"] = name
    (tmp_path / "bench.json").write_text(json.dumps(whole))
    measured = speeds.read_bench(tmp_path / "bench.json")
    page = speeds.bench_html(measured)
    assert "<img" not in page and html.escape(name) in page
    shown = markdown.render(speeds.bench_method(measured))
    assert "<img" not in shown and html.escape(name, quote=False) in shown


def test_missing_or_damaged_measurement_is_one_line(tmp_path: Path) -> None:
    whole = json.loads((ROOT / "results/bench/cpu.json").read_text())
    damaged = ['{"rows"', "[]", "null", '{"rows": []}', json.dumps(whole | {"rows": [1]})]
    damaged += [json.dumps({k: v for k, v in whole.items() if k != "machine"})]
    for text in (None, *damaged):
        if text is not None:
            (tmp_path / "bench.json").write_text(text)
        with pytest.raises(ArtifactError, match="vggkit bench --json") as error:
            speeds.read_bench(tmp_path / "bench.json")
        assert "\n" not in str(error.value)


def test_runs_of_a_gpu_are_told_apart_with_their_time_and_speed() -> None:
    run = next(run for run in find_runs(ROOT / "results", "table1") if run.config.name == "vgg38_bn_rc")
    bfloat16 = dataclasses.replace(run, config=dataclasses.replace(run.config, precision="bfloat16"))

    def on(device: str, seconds: float) -> Run:
        summary = bfloat16.summary | {"device": device, "wall_seconds": seconds}
        return dataclasses.replace(bfloat16, summary=summary)

    told = speeds.gpu_told([on("NVIDIA H200", 60), on("NVIDIA H200", 40), on("AMD Ryzen 7 with Radeon Graphics", 3000)])
    assert "2 of the 3 runs" in told and "9,500,000 images" in told and "in 1.7 minutes" in told
    assert "95,000 images/s" in told
    assert speeds.gpu_told([on("A processor", 300)]) == "No run behind this book was trained on a GPU."
