"""How a figure is drawn: as SVG inside the page, for light and dark pages, wide and narrow ones.

Text and axes are drawn in a placeholder colour that becomes `currentColor`, so they follow the page. A panel is drawn
as wide as a phone shows it, so that its letters are not smaller there than in the page's small print.
"""

import base64
import html
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator
from PIL import Image

from vggkit.report.markup import as_script

INK = "#010203"  # stands for the page's own text colour
NO_COLOUR = "#8c8c8c"  # of what a logarithmic scale cannot show; seen on white and on black
COLOUR_MAP = mpl.colormaps["viridis"].with_extremes(bad=NO_COLOUR)  # of heat maps
DOTS_PER_INCH, PICTURE_COLOURS = 160, 64  # of the image for pages that know no SVG, twice as wide as a page's text
PANEL = 4.2  # width of one of two panels, in inches
SMALL_PANEL = 2.2  # width of one of many, two of which stand side by side on a phone
NARROWEST = 18.0  # width to which a page may shrink a panel of width PANEL, and narrower ones in proportion, in rem
ROW = 660.0  # how much of panels stands side by side where all are in one picture, in points
LARGEST = 1.35  # how many times as large as drawn a panel is shown where there is room
LARGEST_OF_MANY = 0.9
GAP = 8  # between panels, in pixels
TICK = r"stroke: currentColor; stroke-width: 0\.\d"  # how matplotlib draws the marks of an axis
NUMBER = '<b class="vggkit-number"></b>'
"""Where the book's builder writes a figure's number; see `frame`."""
DIGITS = 6  # of a value that a page holds beside its drawing
IMAGE_DIGITS = 3  # of one of the thousands of an image
VALUES = "vggkit-values"
"""Class of the script element that holds a figure's values, for the page's script and for downloads."""


@dataclass(frozen=True, repr=False)
class Figure:
    """An SVG for each panel, with a caption that can be read alone; shown by notebooks and by the book.

    Pages that know HTML show the SVG; others, such as LaTeX's, show `png`; text alone is what the figure says.
    `values` are what is drawn, see `values_of`; in a page they stand beside the drawing.
    """

    svg: str
    caption: str
    description: str
    axes: Sequence[Axes] = field(default=(), compare=False)
    values: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def png(self) -> bytes:
        """All panels on white; drawn when it is asked for, since most pages show the SVG alone."""
        return _image(self.axes)

    def titled(self, label: str) -> "Figure":
        """The same, its caption preceded by `label`, such as "The report's Figure 1"."""
        return replace(self, caption=f"{NUMBER.replace('></b>', f'>{html.escape(label)}.</b>')} {self.caption}")

    def __repr__(self) -> str:
        caption = html.unescape(re.sub(r"<[^>]*>", "", self.caption))
        return f"[Figure: {self.description.rstrip('.')}. {caption}]"

    def _repr_html_(self) -> str:
        drawing = f'<div role="img" aria-label="{html.escape(self.description)}" {self.svg.removeprefix("<div ")}'
        told = self.caption if 'class="vggkit-number"' in self.caption else f"{NUMBER} {self.caption}"
        caption = f'<figcaption style="font-size:0.9em;color:inherit">{told}</figcaption>'
        values = as_script(self.values, f'class="{VALUES}"') if self.values else ""
        return f'<figure class="vggkit-figure" style="margin:1.5em 0">{drawing}{caption}{values}</figure>'

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """All forms at once, so that IPython makes none of its own."""
        image = {"image/png": base64.b64encode(self.png).decode()} if self.axes else {}
        return {"text/html": self._repr_html_(), **image, "text/plain": repr(self)}


def _style() -> AbstractContextManager[None]:
    settings = {"svg.fonttype": "none", "svg.hashsalt": "vggkit", "font.family": "sans-serif", "font.size": 11}
    colours = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    return mpl.rc_context(sns.axes_style("ticks") | settings | colours)


@contextmanager
def drawing(*widths: float, height: float = 3.2) -> Iterator[list[Axes]]:
    """Axes side by side, in inches, each a drawing of its own, so that a narrow page can stack them."""
    with _style():
        yield [Canvas(figsize=(width, height), layout="constrained").subplots() for width in widths]


def finish(
    axes: Sequence[Axes],
    caption: str,
    description: str,
    rows: Sequence[Sequence[str]] | None = None,
    across: int | None = None,
) -> Figure:
    """The figure of all `axes`, drawn.

    Args:
        axes: of one width.
        caption: HTML.
        description: what it shows, for those who cannot see it.
        rows: the names of the rows of each one's image, where it has one.
        across: how many stand side by side at most, by default as many as have room.
    """
    # Two fill a row of a page; a third, alone in the next one, stays as large as they are.
    largest = LARGEST if len(axes) < 3 else LARGEST_OF_MANY
    panels = "".join(_panel(ax, largest) for ax in axes)
    most = f";max-width:{across * (96 * largest * canvas_of(axes[0]).get_figwidth() + GAP):.0f}px" if across else ""
    svg = f'<div style="display:flex;flex-wrap:wrap;align-items:flex-start;gap:{GAP}px{most}">{panels}</div>'
    return Figure(svg, caption, description, axes, values_of(axes, rows))


def values_of(axes: Sequence[Axes], rows: Sequence[Sequence[str]] | None = None) -> dict[str, Any]:
    """What is drawn in each of `axes`, whose layout is made: lines that have a name, and images; empty without.

    "panels" has for each its title, its two axes (label, scale, limits, and between which places of the drawing, in
    its points from the top left) and its lines. A line's "x" and "y" are places in "series", which holds each list of
    numbers once; None is no number. An image's rows, named by `rows`, are lines too: "image" tells what its values
    are, and its y axis counts them from 1.
    """
    series: dict[tuple[float | None, ...], int] = {}

    def place(numbers: Any, digits: int = DIGITS) -> int:
        found = np.ma.getdata(numbers).astype(float)
        kept = tuple(float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in found)
        whole = (int(value) if value is not None and value == int(value) else value for value in kept)
        return series.setdefault(tuple(whole), len(series))

    panels = []
    for number, ax in enumerate(axes):
        width, height = 72 * canvas_of(ax).get_size_inches()
        box = ax.get_position()
        sides = {"x": (box.x0 * width, box.x1 * width), "y": ((1 - box.y0) * height, (1 - box.y1) * height)}
        panel: dict[str, Any] = {"title": ax.get_title()}
        for name, axis in (("x", ax.xaxis), ("y", ax.yaxis)):
            panel[name] = {
                "label": axis.get_label_text(),
                "scale": axis.get_scale(),
                "limits": [float(end) for end in axis.get_view_interval()],
                "from": [round(float(side), 1) for side in sides[name]],
            }
        if ax.images and rows:
            image: Any = ax.images[0]
            values = np.ma.getdata(image.get_array())
            along = place(np.arange(1, values.shape[1] + 1))
            panel["image"] = image.get_label()
            panel["lines"] = [
                {"name": name, "x": along, "y": place(row, IMAGE_DIGITS)}
                for name, row in zip(rows[number], values, strict=True)
            ]
        else:
            panel["lines"] = [
                {"name": str(line.get_label()), "x": place(line.get_xdata()), "y": place(line.get_ydata())}
                for line in ax.get_lines()
                if not str(line.get_label()).startswith("_")
            ]
        panels.append(panel)
    if not any(panel["lines"] for panel in panels):
        return {}
    return {"panels": panels, "series": [list(numbers) for numbers in series]}


def _image(axes: Sequence[Axes]) -> bytes:
    """All panels, in rows of at most `ROW`, as one PNG on white, in few colours: a page holds it beside the SVG."""
    panels: list[tuple[Image.Image, int, int]] = []
    across, down = 0, 0
    for ax in axes:
        buffer = io.BytesIO()
        with _style():
            canvas_of(ax).savefig(
                buffer, format="png", dpi=DOTS_PER_INCH, facecolor="white", pil_kwargs={"compress_level": 0}
            )
        panel = Image.open(buffer).convert("RGB")
        if across and across + panel.width > ROW / 72 * DOTS_PER_INCH:
            across, down = 0, max(top + before.height for before, _, top in panels)
        panels.append((panel, across, down))
        across += panel.width
    size = (max(left + panel.width for panel, left, _ in panels), max(top + panel.height for panel, _, top in panels))
    whole = Image.new("RGB", size, "white")
    for panel, left, top in panels:
        whole.paste(panel, (left, top))
    buffer = io.BytesIO()
    whole.quantize(PICTURE_COLOURS).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _panel(ax: Axes, largest: float) -> str:
    sns.despine(ax=ax)
    if ax.get_xlabel() == "epoch":
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.grid(visible=True, axis="y", color="#808080", alpha=0.25, linewidth=0.7)
    canvas = canvas_of(ax)
    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    canvas.set_layout_engine(None)  # `_image` takes the layout that is made, which is a third of the work of drawing
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    # Coordinates to a tenth of a point; numbers between tags are tick labels and stay.
    svg = re.sub(r'(?<= )(d|x|y|points|transform)="[^"]*"', lambda attribute: _rounded(attribute[0]), svg)
    svg = _once(svg)
    width = canvas.get_figwidth()
    least = NARROWEST * min(1.0, width / PANEL)
    style = f"flex:{width:.1f} 1 {least:.1f}rem;min-width:0;max-width:{96 * largest * width:.0f}px;height:auto"
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', f'style="{style}"', svg, count=1)
    # Ids must differ between figures on one page.
    unique = f"{zlib.crc32(svg.encode()):x}"
    names = {name: f"v{unique}-{place}" for place, name in enumerate(re.findall(r' id="([^"]*)"', svg))}
    svg = re.sub(r'( id="|url\(#|href="#)([^")]*)', lambda found: found[1] + names[found[2]], svg)
    return re.sub(r"\n\s*", "\n", svg)


def _once(svg: str) -> str:
    """The same drawing with nothing said twice.

    The letters' font is named once; groups that only have a name of matplotlib's are left out, and so are turns by
    nothing and the style of a tick, which is that of the mark that it shows.
    """
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    found = 1
    while found:  # the innermost first; nothing refers to the names
        svg, found = re.subn(r"<g>((?:(?!</?g\b).)*)</g>|<g/>", r"\1", svg, flags=re.S)
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
    svg = re.sub(rf'(<use [^>]*) style="fill: currentColor; {TICK}"/>', r"\1/>", svg)
    svg = re.sub(r' style="[^"]*"', lambda style: style[0].replace(": ", ":").replace("; ", ";"), svg)
    svg = re.sub(r'(<text style="[^"]*);fill:currentColor"', r'\1"', svg).replace(
        "<svg ", '<svg fill="currentColor" ', 1
    )
    if fonts := re.search(r"font-family:([^;]*sans-serif);", svg):
        svg = svg.replace(fonts[0], "").replace("<svg ", f'<svg font-family="{fonts[1]}" ', 1)
    return svg


def canvas_of(ax: Axes) -> Canvas:
    return cast(Canvas, ax.figure)


def _rounded(attribute: str) -> str:
    short = re.sub(r"-?\d+\.\d{3,}(?![\de])", lambda number: f"{float(number[0]):.1f}", attribute)
    return re.sub(r'\s*([MLQCz"])\s*', r"\1", short) if attribute.startswith("d=") else short


def finite(values: Any) -> Any:
    """A pandas object without the infinities of a diverged run, which would stretch the axes."""
    return values.where(np.isfinite(values))


def widen(ax: Axes, least: float) -> None:
    """Let the axis span at least `least`, so that noise does not look like dynamics."""
    low, high = ax.get_ylim()
    if high - low < least:
        bottom = max(0.0, (low + high - least) / 2)
        ax.set_ylim(bottom, bottom + least)
