"""What a run records of its machine."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.shared import CPU
from vggkit.config import RunConfig
from vggkit.runs import provenance, store
from vggkit.runs.store import RunPaths, read_run


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
