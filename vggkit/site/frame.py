"""The book's Sphinx extension for what every page has around and besides its text.

Equations become MathML, which browsers draw by themselves; figures are numbered through the book; the search knows
decimal numbers; no line ends within a number; and what the theme and its helpers would put on every page, or into the
site, without any use here, is left out.
"""

import itertools
import re
import textwrap
from pathlib import Path
from typing import Any

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.search.en import SearchEnglish
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

from vggkit.report.canvas import NUMBER
from vggkit.report.markup import as_html

UNUSED = (
    "**/*.map", "scripts/fontawesome.js*", "vendor/**/*.ttf", "webpack-macros.html", "sbt-webpack-macros.html",
    "locales/**/*.po",
)  # fmt: skip
"""Files of the theme that no page asks for, below _static. Browsers take the .woff2 that lies beside each .ttf."""

REPLACED = {
    ' role="doc-biblioentry"': ' role="listitem"',  # deprecated: what a list of references holds are its items
    ' aria-label="Toggle hidden content"': "",  # it would hide what the bar itself says
}
WHOLE = re.compile(
    r"<(pre|code|script|style|svg|select|textarea)\b.*?</\1>|<[^>]*>"  # no running text, left as it is
    r"|(?P<space>(?<=\d) (?=%))|(?P<power>(?<![\w.])\d+(?:\.\d+)?e-\d+\b)",
    re.S,
)
FIGURE = re.compile(f"{NUMBER.removesuffix('</b>')}([^<]*)</b>")
OWN = (
    "playground/",
    "explorer/",
    "interactive/",
)  # what one page alone loads, by itself; jupyter-book would have every page load it
DESCRIPTION = 160  # characters, of which search engines show about as many

logger = logging.getLogger(__name__)
converter = LatexToMathML(annotation=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx, which finds the extension in the book's _config.yml."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    app.add_search_language(SearchWithNumbers)
    app.connect("config-inited", _find_scorer)
    app.connect("env-check-consistency", _count_figures)
    app.connect("html-page-context", _page, priority=900)
    app.connect("build-finished", _leave_out)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _find_scorer(app: Sphinx, config: Any) -> None:
    """Sphinx reads the file from the folder where it was started, which is not always the same."""
    if config.html_search_scorer:
        config.html_search_scorer = str(Path(app.confdir, config.html_search_scorer))


class SearchWithNumbers(SearchEnglish):
    """English, with numbers such as 61.44, 59,716 or 59716 as one word each; the last two are the same word.

    Sphinx takes numbers apart, and its script leaves out of a query each word that matches digits alone: there, a
    whole number is a text whose own `match` finds nothing.
    """

    _word_re = re.compile(r"\d+(?:[.,]\d+)+|\w+")
    js_splitter_code = r"""
        const wholeNumber = (word) => {
          const digits = word.replace(/^\d{1,3}(,\d{3})+$/, (found) => found.replaceAll(",", ""));
          return /^\d+$/.test(digits) ? Object.assign(new String(digits), { match: () => null }) : digits;
        };
        var splitQuery = (query) => (query.match(/\d+(?:[.,]\d+)+|[\p{L}\p{N}_]+/gu) || []).map(wholeNumber);
    """

    def split(self, input: str) -> list[str]:
        words = super().split(input)
        return [word.replace(",", "") if re.fullmatch(r"\d{1,3}(,\d{3})+", word) else word for word in words]


def mathml(latex: str, block: bool, where: nodes.Node | None = None) -> str:
    """An equation as MathML; what cannot be converted is shown as it is, with a warning of the build."""
    try:
        return str(converter.convert_with_local_state(latex, displaystyle=block))
    except LatexError as error:
        logger.warning("the equation cannot be shown: %s", error, location=where)
        return as_html(latex)


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(mathml(node.astext(), False, node))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(writer.starttag(node, "div", CLASS="vggkit-equation"))
    writer.body.append(f'<div class="pst-scrollable-table-container">{mathml(node.astext(), True, node)}</div>')
    if node["number"]:
        writer.body.append(f'<span class="eqno">({get_node_equation_number(writer, node)})')
        writer.add_permalink_ref(node, "Link to this equation")
        writer.body.append("</span>")
    writer.body.append("</div>\n")
    raise nodes.SkipNode


def _page(app: Sphinx, name: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """The page's description, and its scripts and styles without those of another page."""
    unused = OWN if 'class="vggkit-figure"' in context.get("body", "") else (*OWN, "figures/")
    for kind in ("css_files", "script_files"):
        files = context.get(kind, [])
        context[kind] = [
            file for file in files if not any(folder in str(getattr(file, "filename", file)) for folder in unused)
        ]
    if tree := context.get("generate_toctree_html"):
        context["generate_toctree_html"] = lambda *given, **options: str(tree(*given, **options)).replace(
            "<summary>", '<summary aria-label="Pages of this part">'
        )
    context["description"] = describe(doctree) if doctree else app.config.html_title
    body = context.get("body", "")
    for old, new in REPLACED.items():
        body = body.replace(old, new)
    context["body"] = unbroken(numbered(body, getattr(app.env, "vggkit_figures", {}).get(name, 0)))


def _count_figures(app: Sphinx, env: BuildEnvironment) -> None:
    """How many figures stand before each page, in the order of the contents."""
    before, env.vggkit_figures = 0, {}  # type: ignore[attr-defined]
    for name in env.collect_relations():
        env.vggkit_figures[name] = before  # type: ignore[attr-defined]
        outputs = env.get_doctree(name).findall(nodes.raw)
        before += sum(len(FIGURE.findall(output.astext())) for output in outputs)


def numbered(body: str, before: int) -> str:
    """A page's HTML with its figures numbered on from `before`; what else a figure is called follows in brackets."""
    numbers = itertools.count(before + 1)

    def number(found: re.Match[str]) -> str:
        called = found[1].rstrip(".")
        more = f" ({called[0].lower()}{called[1:]})" if called else ""
        return f'<b class="vggkit-number">Figure {next(numbers)}{more}.</b>'

    return FIGURE.sub(number, body)


def unbroken(body: str) -> str:
    """A page's HTML in which no line ends between a number and its per cent sign, or within a number such as 1e-2.

    >>> unbroken("5 % at 1e-2: <code>1 % 2</code>")
    '5\\xa0% at <span class="vggkit-whole">1e-2</span>: <code>1 % 2</code>'
    """

    def kept(found: re.Match[str]) -> str:
        if found["space"]:
            return "\N{NO-BREAK SPACE}"
        return f'<span class="vggkit-whole">{found[0]}</span>' if found["power"] else found[0]

    return WHOLE.sub(kept, body)


def describe(doctree: nodes.document) -> str:
    """The page's first paragraph that is more than a line and has no equation, cut to what search engines show."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = paragraph.astext()
        if len(text) > DESCRIPTION / 2 and not list(paragraph.findall(nodes.math)):
            return textwrap.shorten(text, DESCRIPTION, placeholder=" …")
    return str(next(doctree.findall(nodes.title)).astext())


def _leave_out(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        for pattern in UNUSED:
            for file in Path(app.outdir, "_static").glob(pattern):
                file.unlink()
