"""The book's Sphinx extension that shows a term's definition where the pointer rests on it.

Sphinx makes links of terms. The definition goes into the link's title, which browsers show by themselves, without a
script; on a touch screen the link leads to the glossary.
"""

import textwrap
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

LONGEST = 300  # characters of a definition that are shown


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx, which finds the extension in the book's _config.yml."""
    app.connect("doctree-resolved", _show_definitions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def definitions(document: nodes.document) -> dict[str, str]:
    """The definition of each term of a page's glossary, by the id to which links lead."""
    found = {}
    for item in document.findall(nodes.definition_list_item):
        told = " ".join(part.astext().replace("\n", " ") for part in item.findall(nodes.definition))
        for term in item.findall(nodes.term):
            found.update(dict.fromkeys(term["ids"], textwrap.shorten(told, LONGEST, placeholder=" …")))
    return found


def _show_definitions(app: Sphinx, doctree: nodes.document, page: str) -> None:
    terms = app.env.get_domain("std").objects  # type: ignore[attr-defined]
    pages = {target: home for (kind, _), (home, target) in terms.items() if kind == "term"}
    told: dict[str, dict[str, str]] = {}
    for link in doctree.findall(nodes.reference):
        target = str(link.get("refid") or str(link.get("refuri", "")).partition("#")[2])
        if target in pages and any("std-term" in inner["classes"] for inner in link.findall(nodes.inline)):
            home = pages[target]
            if home not in told:
                told[home] = definitions(app.env.get_doctree(home))
            link["reftitle"] = told[home].get(target, "")
