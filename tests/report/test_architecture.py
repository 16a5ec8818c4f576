"""Imports between the folders of the library go one way only, and the page draws them as they are."""

from pathlib import Path

import pytest

from vggkit.report import architecture


def test_imports_go_one_way() -> None:
    assert architecture.upward(architecture.arrows()) == []


def test_no_modules_import_each_other_in_a_circle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert architecture.circle() == []
    made = {"data": "from vggkit.runs import store", "runs.store": "def f():\n    from vggkit.data import load"}
    for name, text in made.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(architecture, "modules", lambda: {name: tmp_path / name for name in made})
    assert sorted(set(architecture.circle())) == ["data", "runs.store"]


def test_every_module_is_in_a_room() -> None:
    package = Path(architecture.__file__).parents[1]
    files = {file.relative_to(package).parts[0] for file in package.rglob("*.py")}
    assert (
        files == {*(f"{r}.py" for r in architecture.ROOMS), *architecture.ROOMS, "__init__.py", "__main__.py"} & files
    )
    assert len(architecture.modules()) > 40


def test_page_names_every_room_with_what_it_is_for() -> None:
    page = architecture.rooms_html()
    assert all(f">{room}</td>" in page for room in architecture.ROOMS)
    assert "None go against" in architecture.drawn().caption or "None goes" in architecture.drawn().caption
