"""The built book as a reader meets it, in a browser: menu, search, links, widths, weight, and access without a mouse.

`make test-pages` runs them. They want the book built, Chromium, and axe-core from `make playground-tools`.
"""

import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
HTML = ROOT / "book/_build/html"
AXE = ROOT / ".cache/playground/node_modules/axe-core/axe.min.js"
PAGES = sorted(path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html") if "_static" not in path.parts)
# The pages of single runs come from one notebook: two stand for all, without BN's weight tensors and with them.
OF_RUNS = ("runs/vgg38.html", "runs/vgg38_bn_rc.html")
VISITED = [page for page in PAGES if not page.startswith("runs/vgg") or page in OF_RUNS]
FIRST_PAGE, WHOLE_SITE = 1_000_000, 12_000_000  # bytes
SMALLEST = 9.5  # pixels of the letters in a figure
RULES: dict[str, Any] = {"resultTypes": ["violations"], "preload": False}
# Of axe's rules those on contrast, half of its time, depend on the mode; the others are checked in one of the two.
RULES_OF = {"light": RULES, "dark": RULES | {"runOnly": ["color-contrast", "link-in-text-block"]}}
SIZES = """[...document.querySelectorAll('.vggkit-figure svg')].flatMap(svg => [...svg.querySelectorAll('text')].map(
    text => parseFloat(getComputedStyle(text).fontSize) * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width
    ))"""


class Anchors(HTMLParser):
    """What a page points to, and what can be pointed to in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.ids |= {found[key] or "" for key in ("id", "name") if key in found}
        self.links += [found[key] or "" for key in ("href", "src") if key in found]


def test_every_internal_link_leads_somewhere(site: str) -> None:
    pages = {page: Anchors(HTML / page) for page in PAGES}
    lost = []
    for page, anchors in pages.items():
        for link in anchors.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                assert not link.startswith("//") and parts.scheme in ("http", "https", "data", "mailto"), link
                continue
            target = (HTML / page).parent / unquote(parts.path) if parts.path else HTML / page
            name = target.resolve().relative_to(HTML.resolve()).as_posix() if target.exists() else ""
            anchor = parts.fragment if "=" not in parts.fragment else ""  # else settings of the playground
            if not name or (name in pages and anchor and anchor not in pages[name].ids):
                lost.append((page, link))
    assert lost == []


NOT_PROSE = "script, style, code, pre, annotation, .sig, .spoken"  # the last is for ears


@pytest.mark.usefixtures("site")
def test_numbers_in_prose_have_powers_of_ten_and_nothing_is_shown_as_an_object() -> None:
    beautiful = pytest.importorskip("bs4", reason="needs the extra `book`")
    found = {}
    for page in PAGES:
        text = beautiful.BeautifulSoup((HTML / page).read_text(encoding="utf-8"), "html.parser").select_one("article")
        if text is not None:
            objects = re.findall(r"<(?:IPython|vggkit)[\w.]* object", text.get_text())  # an output is a `pre`
            for other in text.select(NOT_PROSE):
                other.decompose()
            found[page] = objects + re.findall(r".{0,30}\d\.\d+e[-+]?\d+", text.get_text(" "))
    assert found and not any(found.values()), found


@pytest.fixture
def visit(open_page: Callable[..., Any], site: str) -> Callable[..., Iterator[tuple[str, Any]]]:
    """`visit(**options)` opens the pages `VISITED` in one tab, one after the other, and yields its name and the tab."""

    def each(**options: Any) -> Iterator[tuple[str, Any]]:
        page = open_page(f"{site}/{VISITED[0]}", **options)
        for name in VISITED:
            page.requests.clear()
            page.errors.clear()
            page.goto(f"{site}/{name}")
            yield name, page

    return each


@pytest.mark.parametrize(("width", "mode"), [(390, "light"), (1280, "dark")])
def test_every_page_is_as_wide_as_the_screen_quiet_and_within_everyones_reach(
    width: int, mode: str, visit: Callable[..., Iterator[tuple[str, Any]]], site: str
) -> None:
    if not AXE.exists():
        pytest.skip("needs `make playground-tools`")
    faults: dict[str, list[Any]] = {}
    for name, page in visit(width=width, color_scheme=mode):
        found: list[Any] = [
            *page.errors,
            *(url for url in page.requests if not url.startswith((site, "blob:", "data:"))),
        ]
        assert page.evaluate("document.documentElement.dataset.theme") == mode
        if (wide := page.evaluate("document.documentElement.scrollWidth")) > width:
            found.append(f"{wide} px wide")
        found += [f"letters of {size:.1f} px" for size in page.evaluate(SIZES) if size < SMALLEST][:1]
        page.add_script_tag(path=AXE)
        for rule in page.evaluate(f"axe.run(document, {json.dumps(RULES_OF[mode])})")["violations"]:
            if rule["impact"] in ("serious", "critical"):
                found.append((rule["id"], [node["html"][:160] for node in rule["nodes"]][:4], len(rule["nodes"])))
        if found:
            faults[name] = found
    assert faults == {}


@pytest.mark.parametrize("width", [390, 768])
def test_menu_and_contents_open_on_a_phone_and_a_tablet(width: int, open_page: Callable[..., Any], site: str) -> None:
    page = open_page(f"{site}/results.html", width=width)
    page.click(".bd-header-article .secondary-toggle")
    page.click("#pst-secondary-sidebar-modal a[href='#table-1']")
    page.wait_for_function("location.hash === '#table-1'")
    page.click(".bd-header-article .primary-toggle")
    page.click("#pst-primary-sidebar-modal a[href='conclusion.html']")
    page.wait_for_url("**/conclusion.html")
    assert page.inner_text("h1").startswith("Conclusion")
    assert page.errors == []


def found_by_search(page: Any, words: str) -> list[str]:
    page.click(".search-button__button:visible")
    page.fill("#pst-search-dialog input", words)
    page.keyboard.press("Enter")
    page.wait_for_function("/found|did not match/.test(document.querySelector('#search-results')?.innerText ?? '')")
    links = page.locator("#search-results ul.search li > a")
    return [link.get_attribute("href").split("?")[0].split("#")[0] for link in links.all()]


@pytest.mark.parametrize("opened", ["served", "as a file"])
def test_search_finds_numbers_and_ranks_the_report_before_the_runs(
    opened: str, open_page: Callable[..., Any], site: str
) -> None:
    first = f"{site}/index.html" if opened == "served" else (HTML / "index.html").as_uri()
    page = open_page(first)
    assert "results.html" in found_by_search(page, "61.44")
    for number in ("338,500", "338500"):
        page.goto(first)
        assert "exercises.html" in found_by_search(page, number)
    page.goto(first)
    found = found_by_search(page, "gradient")
    runs = [place for place, name in enumerate(found) if "runs/" in name]
    assert runs and runs == list(range(len(found) - len(runs), len(found)))
    assert page.errors == []


def test_first_page_and_site_are_light(open_page: Callable[..., Any], site: str) -> None:
    sizes: list[int] = []
    page = open_page(f"{site}/references.html")  # opened first, as a context of its own cannot count what it began with
    page.context.clear_cookies()
    page.on("response", lambda response: sizes.append(len(response.body())))
    page.goto(f"{site}/index.html", wait_until="networkidle")
    assert 0 < sum(sizes) < FIRST_PAGE
    own = [
        path for path in HTML.rglob("*") if path.is_file() and path.suffix != ".safetensors"
    ]  # loaded when asked for
    assert sum(path.stat().st_size for path in own) < WHOLE_SITE


def test_equations_are_drawn_by_the_browser_itself(open_page: Callable[..., Any], site: str) -> None:
    page = open_page(f"{site}/solution.html")
    assert page.locator(".vggkit-equation math[display=block]").count() == page.locator(".eqno").count() == 8
    page.wait_for_function("document.fonts.status === 'loaded' && document.fonts.check('16px \"Book Math\"')")
    heights = page.evaluate("[...document.querySelectorAll('.vggkit-equation math')].map(e => e.clientHeight)")
    assert min(heights) > 10


def test_paper_is_light_and_without_bars(open_page: Callable[..., Any], site: str) -> None:
    page = open_page(f"{site}/runs/vgg38.html", color_scheme="dark", width=1280)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert page.evaluate("getComputedStyle(document.querySelector('.bd-article p')).color") == "rgb(34, 40, 50)"
    for selector in (".cell_input", ".bd-header-article", ".bd-sidebar-primary", "#jb-print-docs-body"):
        assert not any(element.is_visible() for element in page.locator(selector).all())
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
