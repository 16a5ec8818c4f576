"""The notebooks: parameters as Papermill delivers them, what is loaded, trained or refused, and notebook and text."""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from tests.shared import ROOT, Call, refused
from vggkit import study
from vggkit.config import ConfigError, OneLineError, RunConfig
from vggkit.report import pages
from vggkit.runs.files import ArtifactError
from vggkit.runs.store import find_runs
from vggkit.study import CONFIGURATIONS
from vggkit.training.runner import train

TYPES = get_type_hints(RunConfig)
TEXTS = (
    "true", "True", "false", "False", "none", "None", "null", "~", "", "yes", "0", "1", "2", "8", "007", "1_0", "2024",
    "-1", "0.1", "1.5", "1e-2", "1e2", "1E400", "nan", "inf", "-.inf", "9" * 40, "2024-01-01", "[1, 2]", "{a: 1}", "he",
    "constant", "synthetic", "bfloat16", "table1", "my-suite", "../elsewhere", "a b", "[red]x[/red]", "\u00e9", "vgg38",
)  # fmt: skip
TINY = {"dataset": "synthetic", "train_images_per_class": 1, "batch_size": 25, "epochs": 1}


def test_nothing_to_say_is_shown_as_nothing() -> None:
    pytest.importorskip("IPython", reason="needs the extra `book`")
    assert pages.markdown("*a*").data == "*a*"
    assert pages.markdown("") is None is pages.markdown(None)


def delivered(text: str) -> list[Any]:
    """What the kernel gets for `-p NAME text`, `-r NAME text` and a file of parameters, by Papermill's own code."""
    cli = pytest.importorskip("papermill.cli", reason="needs the extra `book`")
    yaml = pytest.importorskip("yaml")
    from papermill.translators import PythonTranslator

    values = [cli._resolve_type(text), text]
    with contextlib.suppress(yaml.YAMLError):
        values.append(yaml.safe_load(f"name: {text}")["name"])
    kernel: list[Any] = []
    for value in values:
        injected: dict[str, Any] = {}
        exec(PythonTranslator.codify({"value": value}), injected)
        kernel.append(injected["value"])
    return kernel


@pytest.mark.parametrize("text", TEXTS)
def test_every_parameter_in_every_delivery_is_of_its_type_or_one_line(text: str) -> None:
    for value in delivered(text):
        for name in pages.SETTINGS:
            try:
                config = pages.configuration({"configuration": "vgg08", name: value})
            except ConfigError as error:
                assert "\n" not in str(error) and name in str(error)
            else:
                kinds = get_args(TYPES[name]) or (TYPES[name],)
                assert type(getattr(config, name)) in kinds
        for call in (
            lambda value: pages.configuration({"configuration": value}),
            lambda value: pages.results_folder(value),
            lambda value: pages.text("data", value),
            lambda value: pages._flag("train", value),
            lambda value: pages.comparison({"seed": value, "results": "nowhere"}),
            lambda value: pages.comparison({"seed": 0, "results": value}),
        ):
            try:
                call(value)
            except OneLineError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("batch_norm", "true", True),
        ("residual", "False", False),
        ("learning_rate", "1e-2", 1e-2),
        ("weight_decay", "0", 0.0),
        ("epochs", "7", 7),
        ("epochs", "none", 100),
        ("learning_rate", "None", 1e-3),
        ("train_images_per_class", "none", None),
        ("suite", "2024", "2024"),
        ("schedule", "constant", "constant"),
    ],
)
def test_a_parameter_has_one_value_whichever_way_it_is_delivered(name: str, text: str, expected: object) -> None:
    for value in delivered(text):
        assert getattr(pages.configuration({"configuration": "vgg08", name: value}), name) == expected


def test_folders_that_look_like_numbers_are_taken_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in delivered("2024"):
        assert pages.results_folder(value) == Path("2024")
        assert pages.text("data", value) == "2024"
    assert pages.results_folder("~/mine") == tmp_path / "mine"
    with pytest.raises(ConfigError, match="-r results"):
        pages.results_folder(1e3)  # the text may have been 1e3, 1000.0 or 1.0e+3: nobody can tell
    with pytest.raises(ConfigError, match="unknown configuration '8'"):
        pages.configuration({"configuration": 8})


def test_every_setting_is_a_parameter_of_the_notebook() -> None:
    cells = json.loads((ROOT / "notebooks/run.ipynb").read_text())["cells"]
    source = next("".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", []))
    names = [line.split(":")[0] for line in source.splitlines()]
    assert sorted(names) == sorted(pages.PARAMETERS)
    assert {field.name for field in fields(RunConfig)} < set(names)


def test_a_finished_run_is_loaded_in_the_precision_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    variables = {"configuration": "vgg08", "suite": "table1", "results": ROOT / "results"}
    found = pages.run(variables)
    assert found.config.precision == "bfloat16" and len(found.metrics) == 100
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "bfloat16" in said
    assert pages.run(variables | {"precision": "bfloat16"}).config == found.config
    assert capsys.readouterr().out == ""
    with pytest.raises(ArtifactError, match="precision 'bfloat16', not 'float32'"):
        pages.run(variables | {"precision": "float32"})


def test_nothing_is_trained_unasked_where_a_finished_run_is_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[RunConfig] = []
    monkeypatch.setattr("vggkit.training.runner.train", lambda config, **places: asked.append(config))
    for suite in ("table1", "short", "preview", "schedule"):
        variables = {"configuration": "vgg38", "suite": suite, "results": tmp_path}
        for answer in (None, False, "false"):
            with pytest.raises(ArtifactError, match=r"no finished run in .*-p train true") as error:
                pages.run(variables | {"train": answer})
            assert "\n" not in str(error.value) and str(tmp_path / suite) in str(error.value)
        assert asked == []
        pages.run(variables | {"train": "true"})
        assert asked.pop().suite == suite
    pages.run({"configuration": "vgg38", "results": tmp_path})
    assert asked.pop().suite == "local"
    with pytest.raises(ArtifactError, match="no finished run"):
        pages.run({"configuration": "vgg38", "results": tmp_path, "train": False})
    assert list(tmp_path.iterdir()) == []


def test_a_comparison_without_runs_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no finished run with seed 0"):
        pages.comparison({"seed": 0, "results": tmp_path})
    with pytest.raises(ArtifactError, match=r"no finished run with seed 77 .*finished are seeds 0, 1, 2"):
        pages.comparison({"seed": "77", "results": ROOT / "results"})
    with pytest.raises(ConfigError, match="did you mean seed"):
        pages.comparison({"In": ["# Parameters\nsed = 1\n"]})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one finished run, and the notebook up to the cell that loads or trains its run."""
    nbformat = pytest.importorskip("nbformat", reason="needs the extra `book`")
    root = tmp_path_factory.mktemp("project")
    for mark in ("pyproject.toml", "vggkit"):
        (root / mark).touch()
    for folder in ("notebooks", "book/runs"):
        (root / folder).mkdir(parents=True)
    whole = nbformat.read(ROOT / "notebooks/run.ipynb", as_version=4)
    last = next(i for i, cell in enumerate(whole.cells) if "pages.run(" in cell.source)
    whole.cells = whole.cells[: last + 1]
    nbformat.write(whole, root / "notebooks/run.ipynb")
    train(RunConfig.named("vgg08", suite="beside", **TINY), results=root / "results")
    return root


WANTED: dict[str, Any] = {"configuration": "vgg08", "suite": "beside", **TINY}


@pytest.mark.parametrize("place", ["", "notebooks", "book/runs"])
def test_projects_runs_are_found_from_each_of_its_folders(
    place: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VGGKIT_RESULTS", raising=False)
    monkeypatch.chdir(project / place)
    assert pages.run(WANTED).config.suite == "beside"
    with pytest.raises(ArtifactError, match=f"no finished run in {project / 'results/table1/vgg38/seed-0'}") as error:
        pages.run({"configuration": "vgg38", "suite": "table1"})
    assert str(error.value).endswith("-p results FOLDER")


def test_notebook_shows_the_projects_run_and_refuses_an_unknown_parameter(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    papermill = pytest.importorskip("papermill", reason="needs the extra `book`")
    for variable in ("VGGKIT_RESULTS", "VGGKIT_DATA"):
        monkeypatch.delenv(variable, raising=False)
    before = sorted(project.rglob("*"))

    def execute(parameters: dict[str, Any]) -> Any:
        source, place = project / "notebooks/run.ipynb", project / "book/runs"
        return papermill.execute_notebook(source, None, parameters, progress_bar=False, cwd=str(place))

    assert "beside" in str(execute(WANTED).cells[-1].outputs)
    with pytest.raises(papermill.PapermillExecutionError, match="did you mean learning_rate"):
        execute(WANTED | {"learning_rat": 0.1})
    assert sorted(project.rglob("*")) == before


@pytest.mark.slow  # the pipeline's test, which is part of the gate, has notebooks train too
def test_notebook_trains_what_is_new(tmp_path: Path) -> None:
    papermill = pytest.importorskip("papermill", reason="needs the extra `book`")
    parameters = {"results": str(tmp_path), **TINY}
    papermill.execute_notebook(str(ROOT / "notebooks/run.ipynb"), None, parameters, progress_bar=False)
    assert len(find_runs(tmp_path)[0].metrics) == 1


@pytest.mark.parametrize("name", ["run", "comparison"])
def test_notebook_and_its_text_are_equal(name: str) -> None:
    jupytext = pytest.importorskip("jupytext", reason="needs the extra `book`")
    text = jupytext.read(ROOT / "notebooks" / f"{name}.py")
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    assert cells == [(cell.cell_type, cell.source) for cell in text.cells]
    assert not any(cell.get("outputs") for cell in notebook["cells"])


def test_the_command_that_trains_a_run_again_asks_for_its_settings() -> None:
    runs = find_runs(ROOT / "results")
    assert len(runs) > 5
    for run in runs:
        found = re.search(r"vggkit train (\S+) (.*)", pages.again(run))
        assert found
        options = shlex.split(found[2])
        given = {
            name.removeprefix("--").replace("-", "_"): text for name, text in zip(*[iter(options)] * 2, strict=True)
        }
        settings = {name: RunConfig.from_text(name, text) for name, text in given.items()}
        assert RunConfig.named(found[1], **settings) == replace(run.config, suite="again")


def test_executed_pages_show_their_runs_and_no_paths() -> None:
    for name in CONFIGURATIONS:
        text = (ROOT / "book/runs" / f"{name}.ipynb").read_text()
        assert study.title(name) in text
        assert not re.search(r"/(home|root|tmp|usr|work|Users)/", text)
        assert '"stream"' not in text
        tags = [cell["metadata"].get("tags", []) for cell in json.loads(text)["cells"]]
        assert ["injected-parameters"] in tags  # shown: what the page was made with
        assert all("remove-cell" in own for own in tags if "parameters" in own)


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    pytest.importorskip("jupytext", reason="needs the extra `book`")
    for name in ("comparison.py", "comparison.ipynb"):
        shutil.copy(ROOT / "notebooks" / name, tmp_path)
    return tmp_path / "comparison.ipynb"


def edit(path: Path, old: str = "side by side", new: str = "beside each other") -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def without_version(text: bytes) -> bytes:
    """A notebook's text without the version of jupytext that wrote it."""
    return re.sub(rb"jupytext_version: [\d.]+", b"", text)


@pytest.mark.parametrize("edited", ["neither", "text", "notebook", "both alike"])
@pytest.mark.parametrize("newer", [".py", ".ipynb"])
def test_the_file_that_was_edited_decides_whatever_the_times_say(edited: str, newer: str, pair: Path) -> None:
    from vggkit.site.pairing import bring_together

    text = pair.with_suffix(".py")
    before = {path: path.read_bytes() for path in (pair, text)}
    for path in {"neither": [], "text": [text], "notebook": [pair], "both alike": [text, pair]}[edited]:
        edit(path)
    for path in (pair, text):
        os.utime(path, (2e9, 2e9) if path.suffix == newer else (1e9, 1e9))
    bring_together(pair)
    for path in (pair, text):
        assert ("beside each other" in path.read_text()) == (edited != "neither")
    if edited != "neither":
        edit(text, "beside each other", "side by side")  # the next edit is compared with what was written last
        bring_together(pair)
    assert without_version(text.read_bytes()) == without_version(before[text])
    assert json.loads(pair.read_text())["cells"] == json.loads(before[pair])["cells"]


def test_both_edited_stops_in_one_line_and_changes_nothing(pair: Path, call: Call) -> None:
    text = pair.with_suffix(".py")
    edit(text)
    edit(pair, "side by side", "in one place")
    before = {path: path.read_bytes() for path in (pair, text)}
    for name in ("run.py", "run.ipynb"):
        shutil.copy(ROOT / "notebooks" / name, pair.parent)
    assert "both edited" in refused(call, "notebooks", "--source", str(pair.parent), "--output", str(pair.parent))
    assert {path: path.read_bytes() for path in (pair, text)} == before


def test_a_lost_notebook_is_made_from_its_text(pair: Path) -> None:
    from vggkit.site.pairing import bring_together

    before = json.loads(pair.read_text())["cells"]
    pair.unlink()
    bring_together(pair)
    assert json.loads(pair.read_text())["cells"] == before


def test_reading_the_report_needs_no_torch() -> None:
    # Every page of the book has a process of its own, which would import it anew.
    code = (
        "import importlib, pkgutil, sys, vggkit.report as report\n"
        "for one in pkgutil.iter_modules(report.__path__): importlib.import_module(f'vggkit.report.{one.name}')\n"
        "print({'torch', 'torchvision'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
