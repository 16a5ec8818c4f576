"""A notebook and its text, notebooks/NAME.ipynb and NAME.py, brought to one state without losing an edit.

The text is what is edited. The notebook records what both held when they were last equal, so that it can
be told which of the two has been edited since, whatever the files' times say.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import jupytext
import nbformat

from vggkit.runs.files import ArtifactError, replace_file

METADATA = "vggkit"  # in the notebook; its entry "text" is the checksum of the cells when both were last equal


def bring_together(notebook: Path) -> None:
    """Write the one of the two files that was not edited since both were equal from the one that was.

    Raises:
        ArtifactError: both were edited, or one cannot be read or written; both are left as they are.
    """
    text = notebook.with_suffix(".py")
    if not text.is_file():
        return
    try:
        written, kept = jupytext.read(text), nbformat.read(notebook, as_version=4) if notebook.is_file() else None
        if kept is None:
            return _write(notebook, _fresh(written))
        equal, now, then = kept.metadata.get(METADATA, {}).get("text"), _checksum(written), _checksum(kept)
        if then not in (now, equal):
            if now != equal:
                raise ArtifactError(
                    f"source: {text} and {notebook} were both edited and differ; to keep the text move {notebook} "
                    f"aside, to keep the notebook call jupytext --to py:percent {notebook}"
                )
            written.cells = kept.cells
            _replace(text, jupytext.writes(written, fmt="py:percent"))
        _write(notebook, kept if then == _checksum(written) else _fresh(written))
    except (OSError, ValueError, nbformat.reader.NotJSONError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(f"source: {notebook} and {text} cannot be brought together ({reason})") from error


def _checksum(notebook: nbformat.NotebookNode) -> str:
    """Of what both files hold: kind, source and tags of each cell."""
    cells = [[cell.cell_type, cell.source, cell.metadata.get("tags", [])] for cell in notebook.cells]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def _fresh(text: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook of a text, without outputs, the same for the same text."""
    cells = []
    for index, cell in enumerate(text.cells):
        tags = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        new: Any = nbformat.v4.new_code_cell if cell.cell_type == "code" else nbformat.v4.new_markdown_cell
        cells.append(new(cell.source, metadata=tags, id=f"cell-{index}"))
    metadata = {"jupytext": {"formats": "ipynb,py:percent"}, "kernelspec": text.metadata.get("kernelspec", {})}
    return cast(nbformat.NotebookNode, nbformat.v4.new_notebook(cells=cells, metadata=metadata))


def _write(path: Path, notebook: nbformat.NotebookNode) -> None:
    notebook.metadata[METADATA] = {"text": _checksum(notebook)}
    _replace(path, nbformat.writes(notebook) + "\n")


def _replace(path: Path, content: str) -> None:
    if path.is_file() and path.read_text(encoding="utf-8") == content:
        return
    replace_file(path, content.encode())
