"""Building the book: when a chapter is executed anew, from which folder it can be built, how its pages hold figures."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.shared import ROOT
from vggkit.report import canvas

book = pytest.importorskip("vggkit.site.executed", reason="needs the extra `book`")
RUN = "results/table1/vgg08/seed-0"


def tree(root: Path) -> Path:
    for name in ("config.json", "metrics.csv", "summary.json", "weights.safetensors"):
        path = root / RUN / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / "results/bench").mkdir()
    (root / "results/bench/cpu.json").write_text("{}")
    return root


@pytest.mark.parametrize(
    ("change", "matters"),
    [
        (lambda root: (root / RUN / "metrics.csv").write_text("other"), True),
        (lambda root: (root / "results/bench/cpu.json").write_text("[]"), True),
        (lambda root: (root / RUN / "metrics.csv").unlink(), True),
        (lambda root: shutil.rmtree(root / RUN), True),
        (lambda root: shutil.copytree(root / RUN, root / "results/table1/vgg08/seed-1"), True),
        (lambda root: (root / RUN).rename(root / "results/table1/vgg08/seed-3"), True),
        (lambda root: os.utime(root / RUN / "metrics.csv", (0, 0)), False),
        (lambda root: (root / RUN / "weights.safetensors").unlink(), False),
        (lambda root: shutil.copytree(root / RUN, root / "results/.checkpoints/table1"), False),
        (lambda root: shutil.copytree(root / RUN, root / "results/__pycache__"), False),
    ],
)
def test_fingerprint_tells_contents_apart_and_nothing_else(
    change: Callable[[Path], object], matters: bool, tmp_path: Path
) -> None:
    results = tree(tmp_path) / "results"
    before = book.fingerprint(results)
    change(tmp_path)
    assert (book.fingerprint(results) != before) == matters
    assert book.fingerprint(results, results) != book.fingerprint(results)


def test_executed_chapters_alone_are_outdated_when_what_they_show_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VGGKIT_RESULTS", str(tree(tmp_path) / "results"))
    executed = {"index": {"exec_data": {"succeeded": True}}, "results": {"exec_data": {"succeeded": True}}, "plain": {}}
    app, env = SimpleNamespace(srcdir=tmp_path), SimpleNamespace(nb_metadata=executed)

    def outdated() -> set[str]:
        return set(book.outdated(app, env, set(), set(), set()))

    assert outdated() == {"index", "results"}
    assert outdated() == set()
    shutil.rmtree(tmp_path / RUN)
    assert outdated() == {"index", "results"}
    assert outdated() == set()
    other = tmp_path / "other/site"  # a library of its own: what lies above it is other tests', pipes among it
    other.mkdir(parents=True)
    monkeypatch.setattr(book, "__file__", str(other / "book.py"))  # as if the library had changed
    assert outdated() == {"index", "results"}
    executed["results"]["exec_data"]["succeeded"] = False
    assert outdated() == {"results"}
    assert book.outdated(app, SimpleNamespace(), set(), set(), set()) == set()  # no chapter was executed yet


CHAPTER = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
# Counts

```{code-cell} python3
from vggkit.folders import results_folder
print("finished:", len(list(results_folder().glob("*/*/*/summary.json"))))
```
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book of one executed chapter about one run, in a project laid out as this one is."""
    monkeypatch.delenv("VGGKIT_RESULTS", raising=False)
    root = tree(tmp_path)
    for mark in ("pyproject.toml", "vggkit"):
        (root / mark).touch()
    (root / "book").mkdir()
    (root / "book/index.md").write_text(CHAPTER)
    (root / "book/_toc.yml").write_text("format: jb-book\nroot: index\n")
    for name in ("_toc.yml", "_config.yml"):
        (root / name).symlink_to(f"book/{name}")
    return root


def build(root: Path, mode: str, place: str = "book/") -> tuple[str, str]:
    """Build the book by the command that README gives; return what it printed and the HTML of the page."""
    extension = "sphinx: {extra_extensions: [vggkit.site.executed]}"
    config = f"title: T\nonly_build_toc_files: true\nexecute: {{execute_notebooks: {mode}}}\n{extension}\n"
    if not (root / "book/_config.yml").is_file():
        (root / "book/_config.yml").write_text(config)
    call = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", place]
    done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, (root / place / "_build/html/index.html").read_text()


MODES = ("auto", pytest.param("cache", marks=pytest.mark.slow), pytest.param("force", marks=pytest.mark.slow))


@pytest.mark.parametrize("mode", MODES)
def test_plain_build_shows_results_as_they_are_in_every_mode_of_execution(mode: str, project: Path) -> None:
    assert "finished: 1" in build(project, mode)[1]
    said, page = build(project, mode)
    assert "0 added, 0 changed, 0 removed" in said and "finished: 1" in page
    shutil.rmtree(project / RUN)
    said, page = build(project, mode)
    assert "0 added, 1 changed, 0 removed" in said and "finished: 0" in page


def test_top_of_the_project_builds_the_same_book(project: Path) -> None:
    assert "finished: 1" in build(project, "auto", ".")[1]
    assert not (project / "book/_build").exists()


def test_the_books_own_build_uses_the_extension_and_the_links_lead_to_it() -> None:
    assert "vggkit.site.executed" in (ROOT / "book/_config.yml").read_text()
    for name in ("_toc.yml", "_config.yml"):
        assert (ROOT / name).resolve() == ROOT / "book" / name


def test_build_tells_of_pages_that_show_other_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tree(tmp_path) / "results"
    monkeypatch.setenv("VGGKIT_RESULTS", str(results))
    said: list[str] = []
    monkeypatch.setattr(book.logger, "info", said.append)
    (tmp_path / "runs").mkdir()
    for page in ("vgg08", "comparison"):
        shown = {"metadata": {book.METADATA: {"runs": book.shown_runs(results, page)}}}
        (tmp_path / f"runs/{page}.ipynb").write_text(json.dumps(shown))
    app = SimpleNamespace(srcdir=tmp_path)
    book._tell_of_stale_pages(app, None)
    assert said == []
    shutil.copytree(tmp_path / RUN, results / "table1/vgg08/seed-1")
    book._tell_of_stale_pages(app, None)
    assert "holds: runs/comparison; execute them: make notebooks" in said.pop() and said == []
    (tmp_path / RUN / "summary.json").write_text("trained anew")
    book._tell_of_stale_pages(app, None)
    assert "holds: runs/comparison, runs/vgg08; execute" in said.pop() and said == []


@pytest.mark.parametrize("page", sorted(path.stem for path in (ROOT / "book/runs").glob("*.ipynb")))
def test_the_projects_own_run_pages_show_the_runs_that_it_has(page: str) -> None:
    metadata = json.loads((ROOT / f"book/runs/{page}.ipynb").read_text(encoding="utf-8"))["metadata"]
    assert metadata[book.METADATA]["runs"] == book.shown_runs(ROOT / "results", page), "execute it: make notebooks"


@pytest.mark.parametrize("change", ["nothing", "deleted", "older", "failed"])
@pytest.mark.posix
def test_make_book_builds_all_anew_after_any_change(change: str, tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    tree(tmp_path)
    (tmp_path / "vggkit").mkdir()
    (tmp_path / "book/_build").mkdir(parents=True)
    program = tmp_path / ".venv/bin/jupyter-book"
    program.parent.mkdir(parents=True)
    # Wait until the file system's clock has moved on.
    later = 'until test -n "$(find probe -cnewer book/_build/.complete*)"; do touch probe; done'
    program.write_text(f'#!/bin/sh\necho "$@" >> calls\ntouch probe\n{later}\ntest ! -e fail\n')
    program.chmod(0o755)
    (tmp_path / ".venv/ready").touch()

    def make() -> str:
        done = subprocess.run(["make", "book"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) != (tmp_path / "fail").exists(), done.stderr
        return (tmp_path / "calls").read_text().splitlines()[-1]

    if change == "failed":
        (tmp_path / "fail").touch()
    assert "--all" in make()
    if change == "deleted":
        (tmp_path / RUN / "metrics.csv").unlink()
    if change == "older":
        (tmp_path / "other").write_text("other")
        os.utime(tmp_path / "other", (0, 0))
        (tmp_path / "other").replace(tmp_path / RUN / "metrics.csv")
    (tmp_path / "fail").unlink(missing_ok=True)
    assert ("--all" in make()) == (change != "nothing")
    assert "--all" not in make()


def figure() -> canvas.Figure:
    with canvas.drawing(canvas.PANEL, canvas.PANEL) as axes:
        for ax in axes:
            ax.plot([1, 2, 3], [1.0, 4.0, 9.0])
        return canvas.finish(axes, "It <b>grows</b>: 1 &lt; 9 in <code>a</code>.", "A line chart.")


def test_a_figure_is_svg_for_html_a_picture_for_others_and_a_sentence_as_text() -> None:
    from IPython.core.formatters import DisplayFormatter
    from PIL import Image

    drawn = figure().titled("Figure 1")
    formats, _ = DisplayFormatter().format(drawn)
    assert set(formats) == {"text/html", "image/png", "text/plain"}
    assert formats["text/html"].count("<svg") == 2
    assert formats["text/plain"] == repr(drawn) == "[Figure: A line chart. Figure 1. It grows: 1 < 9 in a.]"
    picture = Image.open(io.BytesIO(base64.b64decode(formats["image/png"])))
    assert picture.width == pytest.approx(2 * canvas.PANEL * canvas.DOTS_PER_INCH, abs=2)
    grey, middle = np.asarray(picture.convert("L")), picture.width // 2
    assert all(half.min() < 80 and half.max() == 255 for half in (grey[:, :middle], grey[:, middle:]))
    assert figure().png == figure().png


def test_executed_pages_hold_each_figure_once_as_svg_and_name_no_object() -> None:
    for page in sorted((ROOT / "book/runs").glob("*.ipynb")):
        drawn = 0
        for cell in json.loads(page.read_text())["cells"]:
            for output in cell.get("outputs", []):
                forms = {kind: "".join(text) for kind, text in output.get("data", {}).items()}
                assert not re.search(r"<svg|Figure object|0x[0-9a-f]{6}", forms.get("text/plain", ""))
                assert ("<svg" in forms.get("text/html", "")) == ("image/png" in forms)
                drawn += "image/png" in forms
        assert drawn
