"""The page on performance shows the measured numbers, refuses what is no measurement, and its interval covers 95 %."""

import copy
import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.shared import ROOT, at, part_of_summary, places
from vggkit.bench import speeds
from vggkit.config import RunConfig
from vggkit.runs.store import ArtifactError, Run


def made_up(losses: np.ndarray) -> Run:
    return Run(RunConfig(), pd.DataFrame({"train_loss": losses}), pd.DataFrame(), part_of_summary())


def test_runs_that_differ_by_noise_alone_lie_within_it_as_often_as_stated() -> None:
    rng = np.random.default_rng(0)
    fast = [made_up(losses) for losses in rng.normal(size=(3, 20_000))]
    share = speeds.within_noise(fast, made_up(rng.normal(size=20_000)), "train_loss")
    assert share == pytest.approx(0.95, abs=0.005)
    assert speeds.within_noise(fast, made_up(np.full(20_000, 1e3)), "train_loss") < 0.01


def test_page_shows_what_was_measured() -> None:
    measured = speeds.read_bench(ROOT / "results/bench/cpu.json")
    page = speeds.bench_html(measured)
    for row in json.loads((ROOT / "results/bench/cpu.json").read_text())["rows"]:
        assert re.search(rf">{row['images_per_second']:,.0f}</td>\s*<td[^>]*>{row['ratio']:.2f}</td>", page)
    assert measured["machine"] in speeds.bench_method(measured)


def test_precision_is_compared_for_two_configurations() -> None:
    table = speeds.precision_table(ROOT / "results")
    assert len(set(table["model"])) >= 2
    run = pd.read_csv(ROOT / "results/preview-float32/vgg08/seed-0/metrics.csv")
    row = table[(table["model"] == "VGG08") & (table["metric"] == "train loss")].iloc[0]
    assert row["float32, one seed"] == f"{run['train_loss'].iloc[-1]:.2f}"


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
