"""The book's Sphinx extension: executed pages know that they depend on results and library.

Sphinx reads a chapter anew when the chapter's own file is newer than its last build. The numbers of an
executed chapter come from results/ and from this package, though, so a fingerprint of their content is
kept with the build: where it differs, every executed chapter is executed anew. The run pages are executed
by `vggkit notebooks` and only shown here; where they show other runs than results/ holds, the build says so.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.console import bold

from vggkit.folders import DATA_VARIABLE, RESULTS_VARIABLE, results_folder
from vggkit.runs.files import sha256
from vggkit.study import shown_suites

COMPARISON = "comparison"  # the page that shows every run
METADATA = "vggkit"  # in an executed notebook: which runs it shows
CACHE = "vggkit-"  # how the folders of outputs cached for one fingerprint begin

logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx, which finds the extension in the book's _config.yml."""
    _stand_in_the_book(app)
    for variable in (RESULTS_VARIABLE, DATA_VARIABLE):
        if name := os.environ.get(variable):  # chapters are executed in their own folder
            os.environ[variable] = str(Path(name).expanduser().resolve())
    app.connect("env-get-outdated", outdated)
    app.connect("build-finished", _tell_of_stale_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _stand_in_the_book(app: Sphinx) -> None:
    """Let `jupyter-book build .` at the project's top, whose _toc.yml is a link to the book's, build the book."""
    book = Path(app.srcdir, "_toc.yml").resolve().parent
    if book != Path(app.srcdir) and (book / "_config.yml").is_file():
        app.srcdir = app.confdir = type(app.srcdir)(book)


def outdated(app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]) -> set[str]:
    """The chapters to execute anew: all that are executed where what they show has changed, and failed ones."""
    with contextlib.chdir(app.srcdir):  # where the chapters find their results
        now = fingerprint(Path(__file__).parent.parent, results_folder())
    _separate_cache(env, now)
    before, env.vggkit_fingerprint = getattr(env, "vggkit_fingerprint", None), now  # type: ignore[attr-defined]
    executed = {
        name: data["exec_data"] for name, data in getattr(env, "nb_metadata", {}).items() if "exec_data" in data
    }
    return {name for name, data in executed.items() if now != before or not data["succeeded"]}


def fingerprint(*roots: Path) -> str:
    """A checksum of names and contents of all files under `roots`, hidden ones, byte code and weights left out."""
    digest = hashlib.sha256()
    for place, root in enumerate(roots):
        for name, path in sorted((path.relative_to(root).as_posix(), path) for path in _files(root)):
            with contextlib.suppress(OSError):  # a run under way comes and goes
                digest.update(f"{place} {name} {sha256(path.read_bytes())}\n".encode())
    return digest.hexdigest()


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        yield from (Path(folder, name) for name in names if not name.startswith(".") and ".safetensors" not in name)


def _separate_cache(env: BuildEnvironment, now: str) -> None:
    """Keep cached outputs, which are found by a chapter's code alone, apart for each fingerprint."""
    config = getattr(env, "mystnb_config", None)
    if config is not None and config.execution_mode == "cache":
        cache = Path(config.execution_cache_path)
        for old in cache.glob(f"{CACHE}*"):
            if old.name != CACHE + now[:16]:
                shutil.rmtree(old, ignore_errors=True)
        env.mystnb_config = replace(config, execution_cache_path=str(cache / (CACHE + now[:16])))  # type: ignore[attr-defined]


def shown_runs(results: Path, page: str) -> dict[str, str]:
    """The runs that a page of book/runs/ shows, by place, with the checksum of each one's summary."""
    if page == COMPARISON:
        found = [path for suite in shown_suites() for path in sorted(results.glob(f"{suite}/*/seed-*/summary.json"))]
    else:
        found = [results / suite / page / "seed-0" / "summary.json" for suite in shown_suites()]
        found = [path for path in found if path.is_file()][:1]
    return {p.parent.relative_to(results).as_posix(): sha256(p.read_bytes()) for p in found}


def _tell_of_stale_pages(app: Sphinx, exception: Exception | None) -> None:
    with contextlib.chdir(app.srcdir):
        results = results_folder().resolve()
    stale = []
    for page in sorted(Path(app.srcdir).glob("runs/*.ipynb")):
        shown = json.loads(page.read_text(encoding="utf-8"))["metadata"].get(METADATA, {}).get("runs")
        if shown is not None and shown != shown_runs(results, page.stem):
            stale.append(f"runs/{page.stem}")
    if stale and exception is None:
        logger.info(bold(f"pages of other runs than {results} holds: {', '.join(stale)}; execute them: make notebooks"))
