"""What a run records of its machine."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.shared import CPU
from vggkit.config import RunConfig
from vggkit.runs import provenance, store
from vggkit.runs.files import RunPaths
from vggkit.runs.store import read_run


@pytest.mark.parametrize("name", ["AMD Ryzen™ 7 <b>5800X</b> & more\t® `x` [y](z)", "", "®™", "é" * 500, "x" * 500])
def test_device_name_is_one_that_can_be_read_back(
    name: str, tiny: RunConfig, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = read_run(RunPaths.of(trained, tiny).folder)
    monkeypatch.setattr(provenance, "_full_name", lambda device: name)
    device = provenance.describe(CPU)["device"]
    segment = run.summary["segments"][0] | {"device": device}
    paths = RunPaths.of(tmp_path, tiny)
    store.write_run(paths, replace(run, summary=run.summary | {"device": device, "segments": [segment]}))
    assert read_run(paths.folder).summary["device"] == device != ""
    assert "Ryzen(TM) 7 b 5800X" in device or "Ryzen" not in name


def test_commit_is_that_of_the_library_and_tells_of_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = tmp_path / "vggkit" / "runs"
    room.mkdir(parents=True)
    library = room.parent / "__init__.py"
    library.touch()
    monkeypatch.setattr(provenance, "__file__", str(room / "provenance.py"))

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        call = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "other").touch()
    git("add", "other")
    git("commit", "-q", "-m", "another project's")
    assert provenance.commit() is None
    git("add", ".")
    git("commit", "-q", "-m", "the library")
    assert provenance.commit() == git("rev-parse", "HEAD")
    (tmp_path / "other").write_text("changed")  # beside the library
    assert provenance.commit() == git("rev-parse", "HEAD")
    library.write_text("changed = True")
    assert provenance.commit() == git("rev-parse", "HEAD") + "+changes"
