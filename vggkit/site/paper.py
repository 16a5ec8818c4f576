"""The whole report as one PDF: the built book's pages in one document, which a browser prints.

`python -m vggkit.site.paper` takes book/_build/html and writes book/_build/pdf/report.pdf. The document is printed
twice: the first print tells on which page each chapter begins, which the contents of the second one say.
"""

import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from bs4 import BeautifulSoup, Tag

from vggkit.folders import project_folder
from vggkit.report.markup import as_html
from vggkit.runs import provenance
from vggkit.runs.files import ArtifactError, make_folder
from vggkit.site import citation

STYLES = ("html/_static/pygments.css", "html/_static/vggkit.css", "../paper.css")  # seen from the folder of the PDF
LEFT_OUT = (
    "script, noscript, link, .headerlink, .vggkit-downloads, .copybtn, details.hide, .cell_input, "
    "#vggkit-explorer, .vggkit-sketch > input, .vggkit-sketch > label"
)
"""What a page has for its reader on a screen alone."""


def chapters(book: Path) -> Iterator[tuple[str, list[tuple[str, bool]]]]:
    """The book's parts by caption, with their pages in the order of _toc.yml, and whether a page is below another."""
    toc = yaml.safe_load((book / "_toc.yml").read_text(encoding="utf-8"))
    yield "", [(toc["root"], False)]
    for part in toc["parts"]:
        pages = []
        for chapter in part["chapters"]:
            pages += [(chapter["file"], False), *((section["file"], True) for section in chapter.get("sections", []))]
        yield part["caption"], pages


def anchor(page: str, name: str = "") -> str:
    """An id that is the only one of its kind in the document."""
    return re.sub(r"[^\w-]", "-", f"{page}--{name}" if name else page)


def chapter(html: Path, page: str, known: set[str]) -> Tag:
    """A page's text alone, its ids and its links those of the document; a link to what is not in it loses its target.

    Raises:
        ArtifactError: the book has no such page.
    """
    file = html / f"{page}.html"
    if not file.is_file():
        raise ArtifactError(f"book: {file} is missing; build it first: make book")
    text = BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser").select_one("article.bd-article")
    assert text is not None  # the theme's
    for useless in text.select(LEFT_OUT):
        useless.decompose()
    for folded in text.select("details"):
        folded["open"] = ""
    for element in text.select("[id]"):
        element["id"] = anchor(page, str(element["id"]))
    for reference in text.select("[aria-labelledby], [for]"):
        del reference["aria-labelledby"], reference["for"]
    for svg_link in text.find_all(True, {"xlink:href": re.compile("^#")}):
        svg_link["xlink:href"] = f"#{anchor(page, str(svg_link['xlink:href'])[1:])}"
    for clipped in text.select("[clip-path]"):
        clipped["clip-path"] = re.sub(
            r"#([^)]+)", lambda found: f"#{anchor(page, found[1])}", str(clipped["clip-path"])
        )
    for link in text.select("a[href]"):
        parts = urlsplit(str(link["href"]))
        if parts.scheme or parts.netloc:
            continue
        target = (file.parent / parts.path).resolve() if parts.path else file.resolve()
        name = (
            target.relative_to(html.resolve()).with_suffix("").as_posix()
            if target.is_relative_to(html.resolve())
            else ""
        )
        if name in known and "=" not in parts.fragment:
            link["href"] = f"#{anchor(name, parts.fragment)}"
        else:
            del link["href"]
    text.name = "section"
    text.attrs = {"class": "chapter", "id": anchor(page)}
    return text


def document(book: Path, pages: Mapping[str, int]) -> str:
    """The report as one HTML document; `pages` are the chapters' page numbers, by their anchors, where known."""
    html = book / "_build/html"
    parts = list(chapters(book))
    known = {page for _, listed in parts for page, _ in listed}
    fields = citation.read(book.parent / citation.FILE)
    title = str(fields["title"]).partition(":")[2].strip() or str(fields["title"])
    authors = ", ".join(map(citation.person, fields["authors"]))
    contents, texts = [], []
    for caption, listed in parts:
        contents.append(f"<h2>{as_html(caption)}</h2>" * bool(caption))
        for page, below in listed:
            text = chapter(html, page, known)
            heading = text.find("h1")
            assert heading is not None  # every page has one
            number = pages.get(anchor(page), "")
            contents.append(
                f'<a href="#{anchor(page)}"{" class=section" * below}>{as_html(heading.get_text())}<i></i>{number}</a>'
            )
            texts.append(str(text))
    sheets = "".join(f'<link rel="stylesheet" href="../{name}">' for name in STYLES)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{as_html(title)}</title>{sheets}'
        "</head><body>"
        f'<div class="cover"><h1>{as_html(title)}</h1><p>{as_html(authors)}</p>'
        f"{citation.foot(fields, provenance.commit())}</div>"
        f'<nav class="contents"><h1>Contents</h1>{"".join(contents)}</nav>{"".join(texts)}</body></html>'
    )


def begins(pdf: Path) -> dict[str, int]:
    """The page, from 1, at which each place that the document links to lies."""
    from pypdf import PdfReader

    reader = PdfReader(pdf)
    found = {}
    for name, target in reader.named_destinations.items():
        number = reader.get_destination_page_number(target)
        if number is not None:
            found[name.lstrip("/")] = number + 1
    return found


def make(book: Path) -> Path:
    """Print the built book; return the PDF.

    Raises:
        ArtifactError: the book is not built, or there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if not chromium:
        raise ArtifactError("chromium: not found; allowed: a Chromium on the path, as Debian's package gives it")
    folder = book / "_build/pdf"
    make_folder("pdf", folder)
    source, pdf = folder / "report.html", folder / "report.pdf"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_context(java_script_enabled=False, color_scheme="light").new_page()
        page.set_default_timeout(300_000)
        pages: dict[str, int] = {}
        for _ in range(2):
            source.write_text(document(book, pages), encoding="utf-8")
            page.goto(source.resolve().as_uri())
            page.pdf(path=pdf, prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
            pages = begins(pdf)
        browser.close()
    return pdf


if __name__ == "__main__":
    try:
        print(f"The report is printed: open {make(project_folder() / 'book')}")
    except ArtifactError as error:
        sys.exit(str(error))
