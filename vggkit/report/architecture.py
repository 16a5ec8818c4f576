"""How the library is built, read off its own imports: the rooms, and the way of the data between them."""

import ast
import importlib.util
from collections import Counter
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pandas as pd

from vggkit.report.canvas import PANEL, Figure, drawing, finish
from vggkit.report.markup import Html
from vggkit.report.render import html

ROOMS = (
    "study", "config", "folders", "compat", "data", "runs", "networks", "training", "report", "bench", "site", "cli",
)  # fmt: skip
"""From what is asked to who asks. Imports go from a room to those before it, and to no other."""


def modules() -> dict[str, Path]:
    """The library's modules by name without `vggkit.`, such as runs.store."""
    found = importlib.util.find_spec("vggkit")
    assert found is not None and found.origin is not None
    root = Path(found.origin).parent
    names = {".".join(file.relative_to(root).with_suffix("").parts): file for file in sorted(root.rglob("*.py"))}
    return {name.removesuffix(".__init__"): file for name, file in names.items() if name.split(".")[0] in ROOMS}


def arrows() -> Counter[tuple[str, str]]:
    """How many modules of the first room import something of the second one, wherever in the module."""
    found: Counter[tuple[str, str]] = Counter()
    for name, file in modules().items():
        room = name.split(".")[0]
        found.update(
            {(room, other) for other in set(_imported(ast.parse(file.read_text(encoding="utf-8")))) if other != room}
        )
    return found


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "vggkit":
            yield from (alias.name for alias in node.names if alias.name in ROOMS)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vggkit."):
            yield str(node.module).split(".")[1]


def circle() -> list[str]:
    """Modules that import each other in a circle, the first repeated at the end; empty where there is none."""
    known = modules()
    imports = {name: {other for other in _named(file, known) if other != name} for name, file in known.items()}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def _named(file: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """The library's modules that a module imports, at its head or within a function."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "vggkit":
            place = str(node.module).removeprefix("vggkit").removeprefix(".")
            names = {f"{place}.{alias.name}".removeprefix(".") for alias in node.names} | {place}
            yield from names & set(known)


def upward(found: Mapping[tuple[str, str], int]) -> list[tuple[str, str]]:
    """The arrows that go against the way of the data."""
    return [(one, other) for one, other in found if ROOMS.index(one) < ROOMS.index(other)]


def rooms_html() -> Html:
    """A row for each room: its modules, its lines, and the question it answers, for a page."""
    rows = []
    for room in ROOMS:
        own = {name: file for name, file in modules().items() if name.split(".")[0] == room}
        told = ast.get_docstring(ast.parse(own[room].read_text(encoding="utf-8"))) or ""
        inner = ", ".join(name.partition(".")[2] for name in own if "." in name)
        lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in own.values())
        rows.append({"room": room, "what it is for": told.partition("\n")[0], "modules": inner, "lines": f"{lines:,}"})
    return html(pd.DataFrame(rows), "Rooms of the library", text=("room", "what it is for", "modules"))


def drawn() -> Figure:
    """The rooms from top to bottom, and an arc from each to those that it imports from."""
    found = arrows()
    with drawing(PANEL + 1.0, height=5.2) as axes:
        ax = axes[0]
        for place, room in enumerate(ROOMS):
            box = {"boxstyle": "round,pad=0.35", "facecolor": "none", "edgecolor": "#888888"}
            ax.text(0.0, -place, room, ha="right", va="center", bbox=box)
        for (one, other), count in sorted(found.items()):
            start, end = ROOMS.index(one), ROOMS.index(other)
            style: dict[str, Any] = {"arrowstyle": "-|>", "color": "#3f7fd0" if start > end else "#d9822b"}
            style |= {"connectionstyle": "arc3,rad=0.45", "linewidth": 0.6 + 0.12 * count, "shrinkA": 2, "shrinkB": 2}
            ax.annotate("", xy=(0.12, -end), xytext=(0.12, -start), arrowprops=style)
        ax.set(xlim=(-1.2, 3.2), ylim=(-len(ROOMS), 1))
        ax.axis("off")
        against = len(upward(found))
        caption = (
            f"{len(ROOMS)} rooms of {len(modules())} modules, {sum(found.values())} imports between rooms, by module; "
            f"an arrow points to what is imported, and is the wider the more modules do. {against or 'None'} "
            f"{'goes' if against < 2 else 'go'} against the way of the data."
        )
        return finish(axes, caption, f"Diagram of imports between the rooms {', '.join(ROOMS)}. {caption}")
