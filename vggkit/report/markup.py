"""Text from outside, such as a processor's name in a file, on its way into a page: the one place that escapes it."""

import html
import json
import re
from typing import Any


class Html(str):
    """HTML that notebooks and the book show, with what stands for it where there is no HTML.

    Args:
        shown: the HTML.
        text: the same as plain text.
        latex: the same for LaTeX, by default nothing else than the text.
    """

    text: str
    latex: str

    def __new__(cls, shown: str, text: str = "", latex: str = "") -> "Html":
        made = super().__new__(cls, shown)
        made.text, made.latex = text, latex
        return made

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """All forms at once, so that IPython makes none of its own."""
        latex = {"text/latex": self.latex} if self.latex else {}
        return {"text/html": str(self), **latex, "text/plain": self.text}

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """IPython prefers its own form of any text to the one above."""
        printer.text(self.text)


def as_script(data: Any, attributes: str) -> Html:
    """`data` as an element of JSON that a page holds and does not show."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    return Html(f'<script type="application/json" {attributes}>{text}</script>')


def without_tags(shown: str) -> str:
    """HTML as the text that it shows, in one line.

    >>> without_tags("<b>VGG08</b><br><small>59,716&nbsp;parameters</small>")
    'VGG08 59,716 parameters'
    """
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", shown)).split())


def as_html(text: object) -> str:
    """`text` as HTML that shows it and does nothing else, inside an element or a quoted attribute.

    >>> as_html("a < b")
    'a &lt; b'
    """
    return html.escape(str(text))


def as_markdown(text: object) -> str:
    r"""`text` as part of a line of Markdown that shows it and does nothing else.

    >>> as_markdown("5 * 3_2")
    '5 \\* 3\\_2'
    """
    return re.sub(r"([\\`*_{}\[\]<>&$~|!#^])", r"\\\1", " ".join(str(text).split()))
