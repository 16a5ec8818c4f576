"""Text from outside, such as a processor's name in a file, on its way into a page: the one place that escapes it."""

import html
import re


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
