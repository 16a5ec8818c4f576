"""The workflows, the container, the citation, the wheel and the book's buttons: what the linters do not check."""

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import yaml
from sphinx.application import Sphinx

from vggkit import __version__
from vggkit.config import ConfigError
from vggkit.site import repository

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
URL = "https://github.com/OWNER/NAME"


def found(pattern: str, text: str) -> re.Match[str]:
    """The first place of `pattern`, whose ^ and $ are a line's, in `text`, which has one."""
    match = re.search(pattern, text, re.MULTILINE)
    assert match is not None, pattern
    return match


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in WORKFLOWS:
        for name, job in yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"].items():
            yield f"{file.stem}/{name}", job


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("no repository around: nothing says which files belong to the project")
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_every_action_is_pinned_by_a_commit_and_its_version_is_told() -> None:
    lines = [line for file in WORKFLOWS for line in file.read_text().splitlines() if re.search(r"\buses:", line)]
    assert len(lines) > 10
    pinned = r"\s*(- )?uses: actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+"
    assert [line for line in lines if not re.fullmatch(pinned, line) and "uses: ./" not in line] == []
    named = {found(r"@(\w+) # (.+)", line)[0].strip() for line in lines if "@" in line}
    assert len(named) == len({line.split("@")[0].split("uses: ")[1] for line in lines if "@" in line})  # one of each


def test_nothing_is_permitted_but_to_the_job_that_needs_it() -> None:
    for file in WORKFLOWS:
        assert yaml.safe_load(file.read_text())["permissions"] == {}, file.name
    writing = {name: {k for k, v in job["permissions"].items() if v == "write"} for name, job in jobs()}
    assert {name: found for name, found in writing.items() if found} == {
        "book/deploy": {"pages", "id-token"},
        "release/publish": {"contents"},
    }
    for name, job in jobs():  # what may write runs nothing that was checked out
        assert not writing[name] or not any("checkout" in step.get("uses", "") for step in job["steps"]), name


def test_each_job_ends_by_itself_and_runs_on_a_system_that_is_named() -> None:
    for name, job in jobs():
        if "uses" in job:
            continue
        assert job["timeout-minutes"] <= 60, name
        systems = job.get("strategy", {}).get("matrix", {}).get("system", [job["runs-on"]])
        assert all(re.fullmatch(r"(ubuntu|macos|windows)-[\d.]+", system) for system in systems), name
        for step in job["steps"]:
            if "actions/checkout@" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False, name


def test_the_matrix_is_every_python_that_the_project_allows() -> None:
    lowest, end = map(int, found(r"^>=3\.(\d+),<3\.(\d+)$", PROJECT["requires-python"]).groups())
    allowed = [f"3.{minor}" for minor in range(lowest, end)]
    matrix = dict(jobs())["test/test"]["strategy"]["matrix"]
    assert matrix["python"] == allowed
    assert {system.split("-")[0] for system in matrix["system"]} == {"ubuntu", "macos", "windows"}
    assert (ROOT / ".binder/runtime.txt").read_text().strip().removeprefix("python-") in allowed
    base = re.search(r"^FROM python:(\d+\.\d+)\.\d+-slim-\w+$", (ROOT / "Dockerfile").read_text(), re.M)
    assert base and base[1] in allowed


def test_the_gate_on_ci_runs_the_commands_of_the_readme() -> None:
    told = "\n".join(step.get("run", "") for _, job in jobs() for step in job.get("steps", []))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    called = {target for call in re.findall(r"^make ([a-z -]+)$", told, re.M) for target in call.split()}
    assert {"book", "test", "lint", "lint-workflows"} <= called <= targets
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in re.findall(r"docker run --rm vggkit (.+)", told):
        assert command.split(" -p ")[0] in readme, command


def test_the_container_builds_with_the_torch_that_make_installs_and_not_as_root() -> None:
    text = (ROOT / "Dockerfile").read_text()
    torch = found(r"^TORCH \?= (.+)$", (ROOT / "Makefile").read_text())[1]
    assert found(r"^ARG TORCH=(.+)$", text)[1] == torch
    assert found(r"^USER (\w+)", text)[1] == "1000"
    kept = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.M)
    assert all((ROOT / name).exists() for name in kept)
    assert {"CITATION.cff", "notebooks", "results"} <= set(kept)  # read by the book beside its own files
    for copied in re.findall(r"^COPY --chown=1000 (.+) \S+$", text, re.M):
        assert all(name == "." or name.split("/")[0] in kept for name in copied.split()), copied


def test_no_file_names_a_repository_of_this_project() -> None:
    """A fork publishes itself: wherever a repository is needed, it is the one that builds."""
    own = re.compile(rb"(github|gitlab)\.(com|io)[/:][\w.-]+/vggkit|[\w-]+\.github\.io", re.I)
    files = [file for file in tracked() if file.suffix not in (".parquet", ".safetensors") and file != Path(__file__)]
    assert len(files) > 100
    assert [str(file.relative_to(ROOT)) for file in files if own.search(file.read_bytes())] == []


def test_the_citation_says_what_the_project_says() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == __version__
    assert citation["license"] == PROJECT["license"]
    assert citation["title"] == f"{PROJECT['name']}: {PROJECT['description']}"
    book = yaml.safe_load((ROOT / "book/_config.yml").read_text(encoding="utf-8"))
    assert [author["name"] for author in citation["authors"]] == [book["author"]]
    assert book["title"] in citation["title"]


def release_script() -> Any:
    spec = util.spec_from_file_location("release", ROOT / ".github/release.py")
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_release_is_of_the_version_that_its_tag_names(tmp_path: Path) -> None:
    changes = release_script().changes
    assert changes(f"v{__version__}").startswith("- ")
    for tag in (__version__, "v0", f"v{__version__}.1", f"v{__version__}\n", ""):
        with pytest.raises(ValueError, match=r"^tag: .* is not allowed; allowed: 'v"):
            changes(tag)
    (tmp_path / "vggkit").mkdir()
    (tmp_path / "vggkit/__init__.py").write_text('__version__ = "1.2.0"\n')
    (tmp_path / "CITATION.cff").write_text("version: 1.2.0\n")
    log = tmp_path / "CHANGELOG.md"
    log.write_text("# Changes\n\n## 1.2.0\n\n- new\n\n## 1.1.0\n\n- old\n")
    assert changes("v1.2.0", tmp_path) == "- new\n"
    for text in ("# Changes\n\n## 1.1.0\n\n- old\n", "## 1.2.0\n\n## 1.1.0\n\n- old\n", "## 1x2.0\n\n- other\n"):
        log.write_text(text)
        with pytest.raises(ValueError, match=r"^CHANGELOG.md: tells nothing of 1\.2\.0"):
            changes("v1.2.0", tmp_path)
    log.write_text("## 1.2.0\n\n- new\n")
    (tmp_path / "CITATION.cff").write_text("version: 1.1.0\n")
    with pytest.raises(ValueError, match=r"^CITATION\.cff"):
        changes("v1.2.0", tmp_path)


@pytest.mark.slow
def test_the_wheel_holds_the_library_alone_and_installs(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    source = tmp_path / "source"
    for file in tracked():
        if file.relative_to(ROOT).parts[0] in ("vggkit", "tests", "pyproject.toml", "README.md", "LICENSE"):
            (source / file.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            (source / file.relative_to(ROOT)).write_bytes(file.read_bytes())
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    library = {str(file.relative_to(ROOT).as_posix()) for file in tracked() if file.is_relative_to(ROOT / "vggkit")}
    assert {"vggkit/report.toml", "vggkit/py.typed"} <= library
    assert {name for name in names if ".dist-info/" not in name} == library
    assert f"vggkit-{__version__}.dist-info/licenses/LICENSE" in names
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "there", wheel], check=True)
    code = "import vggkit, vggkit.study; print(vggkit.__file__, vggkit.__version__, len(vggkit.study.REPORT) > 0)"
    call = [sys.executable, "-c", code]
    told = subprocess.run(call, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "there")}, capture_output=True)
    assert told.stdout.decode().split() == [str(tmp_path / "there/vggkit/__init__.py"), __version__, "True"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (URL, (URL, "main")),
        (f"{URL}/", (URL, "main")),
        (f"{URL}.git", (URL, "main")),
        (f"{URL}/tree/a-branch/of.it", (URL, "a-branch/of.it")),
        ("https://github.com/o-w/n.a_m", ("https://github.com/o-w/n.a_m", "main")),
    ],
)
def test_a_repository_is_named_as_github_names_it(name: str, found: tuple[str, str]) -> None:
    assert repository.parse(name) == found


@pytest.mark.parametrize(
    "name",
    [
        "OWNER/NAME",
        "http://github.com/O/N",
        "https://github.com/O",
        f"{URL}/blob/main/x",
        f'{URL}/tree/a"b',
        f"{URL}\n",
    ],
)
def test_another_name_of_a_repository_is_a_mistake_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^VGGKIT_REPOSITORY: .* allowed: https://github\.com/OWNER/NAME"):
        repository.parse(name)


def built(folder: Path, name: str) -> dict[str, str]:
    """Three pages as the book's theme shows them: a notebook, a text with executed cells, and `rerun`."""
    source = folder / "source"
    source.mkdir(exist_ok=True)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    cells = [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# A run"}]
    (source / "run.ipynb").write_text(
        json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})
    )
    (source / "index.md").write_text(
        "---\nfile_format: mystnb\nkernelspec: {name: python3, display_name: Python 3}\n---\n# Text\n"
        "```{toctree}\nrun\nrerun\n```\n"
    )
    (source / "rerun.md").write_text("# Rerun\n")
    settings = {
        "extensions": ["myst_nb", "vggkit.site.repository"],
        "html_theme": "sphinx_book_theme",
        "nb_execution_mode": "off",
        "vggkit_repository": name,
        "suppress_warnings": ["myst.xref_missing"],  # the page of the runs is not here
    }
    out = folder / "html"
    Sphinx(source, None, out, folder / "doctrees", "html", confoverrides=settings, status=None, warning=None).build()
    return {page: (out / f"{page}.html").read_text(encoding="utf-8") for page in ("run", "index", "rerun")}


def links(page: str) -> set[str]:
    return set(re.findall(r'href="(https?://[^"]*)"', page))


def test_the_books_buttons_lead_to_the_repository_that_is_named_and_else_there_are_none(tmp_path: Path) -> None:
    for page in built(tmp_path, "").values():
        assert not any("github.com" in link or "binder" in link or "colab" in link for link in links(page))
        assert "launch-buttons" not in page and "source-buttons" not in page
    pages = built(tmp_path, f"{URL}/tree/trunk")
    for name, page in pages.items():
        file = f"{name}.ipynb" if name == "run" else f"{name}.md"
        assert {URL, f"{URL}/edit/trunk/book/{file}"} <= links(page)
        assert any(link.startswith(f"{URL}/issues/new") for link in links(page))
        launching = {link for link in links(page) if "binder" in link or "colab" in link}
        assert launching == (  # nothing but a notebook opens on Colab
            {
                "https://mybinder.org/v2/gh/OWNER/NAME/trunk?urlpath=lab/tree/book/run.ipynb",
                "https://colab.research.google.com/github/OWNER/NAME/blob/trunk/book/run.ipynb",
            }
            if name == "run"
            else set()
        )
    assert f"git clone --depth 1 --branch trunk {URL} project" in re.sub("<[^>]+>", "", pages["rerun"])
