"""The report as one PDF, as `make pdf` prints it from the built book."""

import re
import shutil
import unicodedata
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from tests.shared import ROOT

pypdf = pytest.importorskip("pypdf", reason="needs pypdf")
paper = pytest.importorskip("vggkit.site.paper", reason="needs the extra `book`")
pytestmark = pytest.mark.slow

BOOK = ROOT / "book"


@pytest.fixture(scope="module")
def pdf() -> Path:
    pytest.importorskip("playwright", reason="needs playwright")
    if not shutil.which("chromium") or not (BOOK / "_build/html/index.html").exists():
        pytest.skip("needs chromium, and the book: make book")
    return Path(paper.make(BOOK))


def plain(text: str) -> str:
    """Text without what depends on how it is set: spaces, and letters joined to one sign."""
    return re.sub(r"\s", "", unicodedata.normalize("NFKC", text))


def test_report_is_whole_on_paper(pdf: Path) -> None:
    pages = pypdf.PdfReader(pdf).pages
    texts = [plain(page.extract_text()) for page in pages]
    assert all(len(text) > len(str(number)) + 20 for number, text in enumerate(texts, 1)), "a page is blank"

    # The contents name every chapter, with the page on which it begins.
    html = BOOK / "_build/html"
    for page in (page for _, listed in paper.chapters(BOOK) for page, _ in listed):
        text = BeautifulSoup((html / f"{page}.html").read_text(), "html.parser").select_one("article.bd-article")
        assert text is not None
        for link in text.select(".headerlink"):
            link.decompose()
        heading = text.find("h1")
        assert heading is not None
        title = plain(heading.get_text())
        entry = re.search(re.escape(title) + r"(\d+)", "".join(texts[1:3]))
        assert entry, title
        starts = [number for number, found in enumerate(texts, 1) if found.lstrip(str(number)).startswith(title)]
        assert any(entry[1].startswith(str(number)) for number in starts), title

        # Every figure is on one page with its whole caption.
        for caption in text.select("figcaption"):
            number = caption.select_one(".vggkit-number")
            if number:
                name, small = plain(number.get_text()), caption.select_one("small, i")
                last = plain(small.get_text()) if small else ""
                assert any(name in found and last in found for found in texts), name
    # Line charts are drawn in lines: no picture takes their place.
    charts = [page for page, found in zip(pages, texts, strict=True) if "Figure1." in found]
    assert charts and not any(len(page.images) for page in charts)


def test_every_link_within_the_report_leads_to_a_place_in_it(pdf: Path) -> None:
    reader = pypdf.PdfReader(pdf)
    places = {name.lstrip("/") for name in reader.named_destinations}
    document = BeautifulSoup((pdf.parent / "report.html").read_text(), "html.parser")
    ids = {str(element["id"]) for element in document.select("[id]")}
    links = {str(link["href"])[1:] for link in document.select("a[href^='#']")}
    assert len(links) > 50 and links <= ids
    assert links <= places
