"""How the book is cited, and what it says of itself at the foot of each page: a Sphinx extension.

All of it comes from CITATION.cff, which software that cites reads too, and from the commit that the book is built of.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from docutils.nodes import make_id
from sphinx.application import Sphinx
from sphinx.config import Config

from vggkit.config import OneLineError
from vggkit.folders import project_folder
from vggkit.report.markup import as_html
from vggkit.runs import provenance

FILE = "CITATION.cff"
LETTERS = 10  # of a commit's name
ESCAPED = {"\\": r"\textbackslash{}"} | {sign: f"\\{sign}" for sign in "{}%&#$_"}


class CitationError(OneLineError):
    """CITATION.cff does not say what a citation needs; the message is one line that names the field."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx, which finds the extension in the book's _config.yml."""
    app.connect("config-inited", _foot)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def read(place: Path | None = None) -> dict[str, Any]:
    """The fields of CITATION.cff, by default of the project around the working directory.

    Raises:
        CitationError: the file is missing, or lacks a field that is used here.
    """
    path = place or project_folder() / FILE
    try:
        found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise CitationError(f"{FILE} cannot be read; allowed: a file in the Citation File Format") from error
    for field in ("title", "authors", "version", "license"):
        if not isinstance(found, dict) or not found.get(field):
            raise CitationError(f"{field} is missing in {FILE}; allowed: a value as the Citation File Format asks for")
    for author in found["authors"] if isinstance(found["authors"], list) else [found["authors"]]:
        if not isinstance(author, dict) or not {"name", "family-names", "given-names"} & set(author):
            allowed = "a list of persons with family-names or given-names and of groups with name"
            raise CitationError(f"authors: {author!r} is not allowed in {FILE}; allowed: {allowed}")
    return found


def bibtex(fields: Mapping[str, Any]) -> str:
    """The citation as an entry for BibTeX. What the file does not tell, such as a date or a DOI, is left out."""
    title = str(fields["title"])
    released = str(fields.get("date-released", ""))
    entry = {
        "author": " and ".join(_author(author) for author in fields["authors"]),
        "title": f"{{{_escaped(title)}}}",
        "version": _escaped(str(fields["version"])),
        "year": released[:4],
        "doi": str(fields.get("doi", "")),
        "url": str(fields.get("repository-code") or fields.get("url") or ""),
        "note": f"Version {_escaped(str(fields['version']))}, licence {_escaped(str(fields['license']))}",
    }
    key = make_id(title.partition(":")[0]) or "report"  # of ASCII letters, which is what BibTeX can read
    lines = [f"  {name} = {{{value}}}," for name, value in entry.items() if value]
    return "\n".join([f"@misc{{{key},", *lines, "}"])


def _author(author: Mapping[str, Any]) -> str:
    """A person as "family, given"; a group's name in braces, so that BibTeX takes it as one."""
    if "name" not in author:
        names = [str(author[part]) for part in ("family-names", "given-names") if part in author]
        return _escaped(", ".join(names))
    return f"{{{_escaped(str(author['name']))}}}"


def person(author: Mapping[str, Any]) -> str:
    """An author as people write the name."""
    return str(author.get("name") or " ".join(author[p] for p in ("given-names", "family-names") if p in author))


def _escaped(text: str) -> str:
    return "".join(ESCAPED.get(letter, letter) for letter in text)


def box() -> str:
    """The entry as a block of Markdown, which the book shows with a button to copy it."""
    return f"```bibtex\n{bibtex(read())}\n```"


def foot(fields: Mapping[str, Any], commit: str | None) -> str:
    """Licence, version and commit as HTML in one line."""
    name = str(fields["title"]).partition(":")[0]
    parts = [f"{name} {fields['version']}", f"licence {fields['license']}"]
    if commit:
        made_of, changes, _ = commit.partition("+")
        parts.append(f"commit {made_of[:LETTERS]}" + " with changes" * bool(changes))
    return f"<p>{as_html(' · '.join(parts))}</p>"


def _foot(app: Sphinx, config: Config) -> None:
    """Hand the line to the theme, whose option for it is of fixed text in _config.yml."""
    line = foot(read(Path(app.srcdir).resolve().parent / FILE), provenance.commit())
    config.html_theme_options = config.html_theme_options | {"extra_footer": line}
