"""What other systems do otherwise, made to happen here."""

import itertools
import types
from pathlib import Path
from typing import Any

import pytest

from vggkit.report import architecture
from vggkit.training import compute


def test_sources_are_read_as_utf8_where_the_systems_own_encoding_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows reads text in a code page of the country, in which some bytes of UTF-8 stand for nothing."""
    page, real = architecture.rooms_html(), Path.read_text

    def read(self: Path, encoding: str = "cp1252", *more: Any, **named: Any) -> str:
        return real(self, encoding, *more, **named)

    monkeypatch.setattr(Path, "read_text", read)
    assert architecture.rooms_html() == page
    assert architecture.upward(architecture.arrows()) == []


def test_precisions_are_measured_where_a_threads_clock_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows counts a thread's time in steps of 1/64 s, in which a small convolution takes none."""
    wall = itertools.count(step=0.001)
    clocks = types.SimpleNamespace(thread_time=lambda: 0.0, perf_counter=lambda: next(wall))
    monkeypatch.setattr(compute, "time", clocks)
    monkeypatch.setattr(compute, "sys", types.SimpleNamespace(platform="win32"))
    assert compute.bfloat16_ratio.__wrapped__() == pytest.approx(1)  # each pass took one tick
