"""The book's Sphinx extension that offers figures, tables and the files of runs for download.

What is offered is made of the finished page: the picture that stands for a figure where there is no HTML, the values
that the page holds beside the drawing. So whatever a page shows has its files, and they lie beside the pages, where
plain links lead to them, from a server and from a folder alike. A figure's SVG is in the page already: the page's
script, `_static/figures/figures.js`, hands it out.
"""

import contextlib
import csv
import io
import itertools
import json
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from vggkit.folders import results_folder
from vggkit.report.canvas import NUMBER, VALUES
from vggkit.report.markup import as_html
from vggkit.report.render import FILES
from vggkit.runs.files import sha256
from vggkit.site.repository import parse

FOLDER = "downloads"  # beside the pages
SCRIPT = r'<script type="application/json" class="{}">(.*?)</script>'
FIGURE = re.compile(r'<figure class="vggkit-figure".*?</figure>', re.S)
NAMED = re.compile(r'<b class="vggkit-number">(Figure \d+)')
TABLE = re.compile(SCRIPT.format(FILES), re.S)
ARTEFACT = re.compile(r'<code[^>]*>(?:<span class="pre">)?(results/[\w./-]+)(?:</span>)?</code>')
FORMATS = {"png": "PNG", "csv": "CSV", "csv.zip": "CSV, zipped", "tex": "LaTeX", "md": "Markdown"}
LONGEST = 50_000  # letters of a CSV that is handed out as it is; zipped it is a fifth as large
LARGEST = 300_000  # bytes of a run's file that is copied for the download


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx, which finds the extension in the book's _config.yml."""
    app.connect("env-check-consistency", _find_pictures)
    app.connect("html-page-context", _offer, priority=910)  # after `frame` has numbered the figures
    app.connect("build-finished", _tidy)
    app.connect("build-finished", _strip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _find_pictures(app: Sphinx, env: BuildEnvironment) -> None:
    """The picture of each figure of each page, which MyST-NB wrote when the page was read."""
    env.vggkit_pictures = {}  # type: ignore[attr-defined]
    for name in env.all_docs:
        outputs = env.get_doctree(name).findall(nodes.container)
        found = [
            [image["uri"] for image in output.findall(nodes.image)]
            for output in outputs
            if output.get("nb_element") == "mime_bundle"
            and any(NUMBER.removesuffix("</b>") in shown.astext() for shown in output.findall(nodes.raw))
        ]
        env.vggkit_pictures[name] = [next(iter(pictures), None) for pictures in found]  # type: ignore[attr-defined]


def _offer(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    if doctree is None:
        return
    up = "../" * page.count("/")
    pictures = iter(getattr(app.env, "vggkit_pictures", {}).get(page, []))
    counts = itertools.count(1)

    def write(name: str, files: Mapping[str, str | bytes]) -> str:
        """Write the files, and give the line that leads to them.

        A file is called by its content, so that a figure that several pages show lies there once.
        """
        links = []
        for ending, content in files.items():
            written = content.encode() if isinstance(content, str) else content
            place = f"{FOLDER}/{sha256(written)[:16]}.{ending}"
            path = Path(app.outdir, place)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(written)
            links.append(f'<a download="{name}.{ending}" href="{up}{place}">{FORMATS[ending]}</a>')
        return " · ".join(links)

    def figure(found: re.Match[str]) -> str:
        shown = found[0]
        named = NAMED.search(shown)
        if not named:
            return shown
        name = named[1]
        files: dict[str, str | bytes] = {}
        picture = next(pictures, None)
        if picture and (path := Path(app.srcdir, picture)).is_file():
            files["png"] = path.read_bytes()
        if values := re.search(SCRIPT.format(VALUES), shown, re.S):
            text = values_csv(json.loads(values[1]))
            files |= {"csv": text} if len(text) <= LONGEST else {"csv.zip": zipped(f"{_file_name(name)}.csv", text)}
        links = write(_file_name(name), files)
        line = f'<span class="vggkit-downloads">{name} as {links}</span>'
        return shown.replace("</figcaption>", f"{line}</figcaption>", 1)

    def table(found: re.Match[str]) -> str:
        told = json.loads(found[1])
        name = f"{page}-table-{next(counts)}" if told["label"] != "Table 1" or page != "results" else "table-1"
        return f'<p class="vggkit-downloads">{as_html(told["label"])} as {write(name, told["files"])}</p>'

    def artefact(found: re.Match[str]) -> str:
        address = _address(app, found[1], up)
        return f'<a href="{address}">{found[0]}</a>' if address else found[0]

    body = TABLE.sub(table, FIGURE.sub(figure, context.get("body", "")))
    context["body"] = ARTEFACT.sub(artefact, body) if page.startswith("runs/") else body


def _file_name(figure: str) -> str:
    return figure.lower().replace(" ", "-")


def zipped(name: str, text: str) -> bytes:
    """A ZIP archive of one file, the same bytes for the same text."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED, 9)  # ZipInfo's date is always the same
    return packed.getvalue()


def _address(app: Sphinx, place: str, up: str) -> str | None:
    """Where a file of results/ is to be had: in the book, as the playground's weights are, else in the repository."""
    with contextlib.chdir(app.srcdir):  # where the chapters find their results
        path = results_folder().resolve() / Path(place).relative_to("results")
    weights = f"_static/playground/weights/{'-'.join(path.parts[-4:-1])}{path.suffix}"
    if path.is_file() and Path(app.srcdir, weights).is_file():
        return f"{up}{weights}"
    if path.is_file() and path.stat().st_size <= LARGEST:
        target = Path(app.outdir, FOLDER, place)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        return f"{up}{FOLDER}/{place}"
    if path.exists() and app.config.vggkit_repository:
        url, branch = parse(app.config.vggkit_repository)
        return f"{url}/{'tree' if path.is_dir() else 'blob'}/{branch}/{place}"
    return None


def values_csv(values: Mapping[str, Any]) -> str:
    """`canvas.values_of` as CSV: a column for each line, a row for each position on an axis.

    What several panels draw alike stands there once; where panels have titles, these stand in the columns' names.
    Lines of one name that are not alike are counted.
    """
    columns: dict[str, dict[tuple[str, float], float | None]] = {}
    titled = len({panel["title"] for panel in values["panels"]}) > 1
    for panel in values["panels"]:
        axis, quantity = panel["x"]["label"], panel.get("image") or panel["y"]["label"]
        for line in panel["lines"]:
            name = ": ".join([panel["title"]] * titled + [quantity, line["name"]])
            positions, drawn = (values["series"][line[side]] for side in ("x", "y"))
            column = {(axis, at): value for at, value in zip(positions, drawn, strict=True)}
            for count in itertools.count(1):
                free = name if count == 1 else f"{name} ({count})"
                if columns.setdefault(free, column) == column:
                    break
    rows = dict.fromkeys(place for column in columns.values() for place in column)
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["axis", "position", *columns])
    for place in rows:
        found = (column.get(place) for column in columns.values())
        out.writerow([*place, *("" if value is None else value for value in found)])
    return text.getvalue()


def _tidy(app: Sphinx, exception: Exception | None) -> None:
    """Remove the files that no page leads to: what an earlier build offered of a figure that has changed."""
    if exception is None and app.builder.format == "html":
        pages = [path.read_text(encoding="utf-8") for path in Path(app.outdir).rglob("*.html")]
        offered = {name for page in pages for name in re.findall(rf'href="(?:\.\./)*{FOLDER}/([^"]+)"', page)}
        for path in Path(app.outdir, FOLDER).rglob("*"):
            if path.is_file() and path.relative_to(Path(app.outdir, FOLDER)).as_posix() not in offered:
                path.unlink()


def _strip(app: Sphinx, exception: Exception | None) -> None:
    """Remove what nobody asks for: outputs of notebooks for download, which their pages show, the theme's tongues."""
    if exception is None and app.builder.format == "html":
        if app.config.language in (None, "en"):  # the theme looks its words up in them while it builds, not later
            shutil.rmtree(Path(app.outdir, "_static/locales"), ignore_errors=True)
        for path in Path(app.outdir, "_sources").rglob("*.ipynb"):
            notebook = json.loads(path.read_text(encoding="utf-8"))
            for cell in notebook["cells"]:
                if cell["cell_type"] == "code":
                    cell.update(outputs=[], execution_count=None)
            path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
