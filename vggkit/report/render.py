"""How tables are shown: as HTML and LaTeX by pandas' Styler, as Markdown, as text for the terminal.

Numbers come in as numbers; text is made of them here and is not read again.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from vggkit.report.markup import Html, as_html, as_script, without_tags
from vggkit.report.tables import DIFFERENCE, METRICS, OURS
from vggkit.study import REPORT

MISSING = "–"
BREAK = "<br>\n"  # the search takes tags out, and would take two lines without a space between them for one word
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NO_RUN = "no run yet"
REDUCED_MARK = "†"
NOTE = f"{REDUCED_MARK} not a full run of Table 1: no measure of the report's value"
FILES = "vggkit-files"
"""Class of the script element that holds a table in other formats, which the book's builder offers as files."""
LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "%&_#${}"}
    | {"±": r"$\pm$", "×": r"$\times$", "–": "--", "†": r"$\dagger$", "−": "$-$", "<": "$<$", ">": "$>$"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
    | {
        sign: rf"\textsuperscript{{{'-' if sign == '⁻' else plain}}}"
        for plain, sign in zip("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹", strict=True)
    }
)


def number(value: float | None, sign: str = "") -> str:
    """A value with two decimals, as it stands in a table.

    >>> number(-0.5), number(0.25, "+"), number(None)
    ('−0.50', '+0.25', '–')
    """
    return MISSING if pd.isna(value) else f"{value:{sign}.2f}".replace("-", "−")


def power(value: float, digits: int = 2) -> str:
    """A number below 0.01, or longer than its digits, with a power of ten, such as 1.2 × 10⁻¹⁶; others without."""
    if value == 0 or not math.isfinite(value) or 0.01 <= abs(value) < 10**digits - 0.5:
        return f"{value:.{digits}g}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}\u00a0×\u00a010{str(int(exponent)).translate(RAISED)}"


def spread(value: float) -> str:
    return "" if pd.isna(value) else f"± {number(value)}"


def origin(row: "pd.Series[Any]") -> list[str]:
    """Suite and number of seeds of a row of Table 1."""
    if not row["seeds"]:
        return [NO_RUN]
    count = "1 seed" if row["seeds"] == 1 else f"{row['seeds']} seeds"
    return [row["suite"], count + (f" ({row['diverged']} diverged)" if row["diverged"] else "")]


def table1_text(frame: pd.DataFrame) -> pd.DataFrame:
    """`tables.table1` as text, two decimals, mean ± standard deviation; reduced runs are marked."""
    text = pd.DataFrame({"model": frame["model"] + frame["reduced"].map({True: f" {REDUCED_MARK}", False: ""})})
    text["parameters"] = frame["parameters"].map("{:,}".format)
    for metric, column in OURS.items():
        if metric in METRICS:
            text[f"{column} (report)"] = frame[f"{column} (report)"].map(number)
        ours = frame[f"{column} (ours)"].map(number) + " " + frame[f"{column} (sd)"].map(spread)
        text[f"{column} (ours)"] = ours.str.strip()
    text[DIFFERENCE] = frame[DIFFERENCE].map(lambda value: number(value, "+"))
    text["our runs"] = [", ".join(origin(row)) for _, row in frame.iterrows()]
    return text


def table1_as(frame: pd.DataFrame, format: str) -> str:
    """`tables.table1` as markdown, csv or latex."""
    if format == "csv":
        runs = [", ".join(origin(row)) for _, row in frame.iterrows()]
        told = frame.drop(columns=["name", "suite", "reduced"]).assign(**{"our runs": runs})
        return str(told.to_csv(index=False, float_format="%.6g")).rstrip()
    text, marked = table1_text(frame), bool(frame["reduced"].any())
    if format == "latex":
        return latex(text, NOTE if marked else None)
    return "\n".join([markdown(text), *(["", NOTE] if marked else [])])


def markdown(text: pd.DataFrame) -> str:
    """A table of text as Markdown, all but the first and the last column set to the right."""
    rows = [list(text.columns), ["---", *["---:"] * (len(text.columns) - 2), "---"], *text.itertuples(index=False)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def imported_text(frame: pd.DataFrame) -> pd.DataFrame:
    """`tables.imported_table` as text, two decimals; what reduced runs of ours give is marked."""
    text = frame.drop(columns="reduced").assign(epochs=frame["epochs"].map(str))
    for column in ("report", "ours", "imported"):
        text[column] = frame[column].map(number)
    text["our runs"] = frame["our runs"].fillna(MISSING) + frame["reduced"].map({True: f" {REDUCED_MARK}", False: ""})
    return text


def latex(text: pd.DataFrame, note: str | None = None) -> str:
    """A table of text as LaTeX's tabular, which needs no package."""
    styler = text.style.hide(axis="index").format(lambda cell: cell.translate(LATEX))
    styler = styler.format_index(lambda name: name.translate(LATEX), axis="columns")
    rules = [{"selector": rule, "props": ":hline;"} for rule in ("toprule", "midrule", "bottomrule")]
    columns = f"l{'r' * (len(text.columns) - 2)}l"
    made = str(styler.set_table_styles(rules).to_latex(column_format=columns)).rstrip()
    if note:
        told = rf"\multicolumn{{{len(text.columns)}}}{{l}}{{{note.translate(LATEX)}}} \\"
        made = made.replace(r"\end{tabular}", told + "\n" + r"\end{tabular}")
    return made


def stacked(frame: pd.DataFrame) -> pd.DataFrame:
    """`tables.table1` for narrow places: of each cell its lines, the report's value, ours and its spread."""
    lines = []
    for _, row in frame.iterrows():
        mark = f" {REDUCED_MARK}" if row["reduced"] else ""
        cells = {"model": [row["model"] + mark, f"{row['parameters']:,} parameters"]}
        for metric, column in OURS.items():
            report = number(row[f"{column} (report)"]) if metric in METRICS else ""
            ours = [number(row[f"{column} (ours)"]), spread(row[f"{column} (sd)"])]
            cells[column.replace(" ", "\n", 1)] = [report, *filter(None, ours)]
        cells |= {"ours −\nreport": ["", number(row[DIFFERENCE], "+")], "runs": origin(row)}
        lines.append(cells)
    return pd.DataFrame(lines)


def table1_html(frame: pd.DataFrame) -> Html:
    """`tables.table1` as a table that can be read on a narrow screen: ours, in bold, under the report's value."""
    cells = stacked(frame)
    printed = [" (*)" if "printed" in REPORT["rows"].get(name, {}) else "" for name in frame["name"]]
    shown = cells.map(lambda lines: BREAK.join(map(as_html, lines)))
    for column in cells.columns[1:-1]:
        shown[column] = [
            BREAK.join([as_html(report), f"<b>{as_html(ours)}</b>", *map(as_html, more)])
            for report, ours, *more in cells[column]
        ]
    shown["model"] = [
        f"<b>{as_html(name)}</b>{star}{BREAK}<small>{as_html(count)}</small>"
        for (name, count), star in zip(cells["model"], printed, strict=True)
    ]
    classes = pd.DataFrame("", index=shown.index, columns=shown.columns)
    classes[["model", "runs"]] = "text"
    classes[frame["reduced"]] += " reduced"
    caption = (
        "The report's value above, <b>ours below in bold</b>: after the last epoch, mean ± sample standard deviation "
        "where there are several seeds; runs that diverged are counted and left out. “ours − report” is in "
        "percentage points of validation accuracy. Under "
        f"each model its number of parameters.{f' {as_html(NOTE)}.' if frame['reduced'].any() else ''}"
    )
    formats = {"csv": "csv", "latex": "tex", "markdown": "md"}
    files = {ending: table1_as(frame, format) for format, ending in formats.items()}
    return html(shown, "Table 1", caption, classes=classes, markup=True, kind="table1", files=files)


def run_html(frame: pd.DataFrame) -> Html:
    """`tables.run_table` for a page."""
    shown = frame.assign(**{column: frame[column].map(number) for column in ("report", "this run")})
    return html(shown, "This run beside the report", text=("metric",))


def html(
    frame: pd.DataFrame,
    label: str,
    caption: str = "",
    *,
    text: Sequence[str] | None = None,
    classes: pd.DataFrame | None = None,
    markup: bool = False,
    kind: str = "",
    files: Mapping[str, str] | None = None,
) -> Html:
    """A table of text as HTML, in a box that scrolls where the screen is narrow; the caption stands below the box.

    With it, not shown, goes what the book offers as files, and what stands for the table in LaTeX and as text.

    Args:
        frame: of text.
        label: what the table is, for those who cannot see it.
        caption: HTML.
        text: columns that hold words, not numbers; by default all.
        classes: of each cell, for the book's style sheet; by default as `text` says.
        markup: whether the cells are HTML already.
        kind: a class of the whole table, for the style sheet.
        files: the table in other formats, by the ending of the file's name; by default as "csv", made of the text.
    """
    plain = frame.map(without_tags) if markup else frame.copy()
    plain.columns = [" ".join(str(name).split()) for name in plain]
    files = files or {"csv": plain.map(lambda cell: cell.replace("−", "-")).to_csv(index=False)}
    if classes is None:
        words = frame.columns if text is None else text
        classes = pd.DataFrame({name: ["text" * (name in words)] * len(frame) for name in frame}, index=frame.index)
    styler = frame.style.hide(axis="index").set_td_classes(classes).set_table_attributes(f'aria-label="{label}"')
    styler = styler.format(None if markup else as_html)
    styler = styler.format_index(lambda name: as_html(name).replace("\n", "<br>"), axis="columns")
    styler.cell_ids = False
    made = styler.to_html(table_uuid=label.lower().replace(" ", "-"))  # else pandas draws an id anew each time
    made = made[made.index("<table") :]  # after an empty style sheet
    note = f"<p class='vggkit-note'>{caption}</p>" if caption else ""
    box = f"class='vggkit-table pst-scrollable-table-container {kind}' tabindex='0' role='region' aria-label='{label}'"
    offered = as_script({"label": label, "files": files}, f'class="{FILES}"')
    in_latex = files.get("tex") or latex(plain)
    return Html(f"<div {box}>{made}</div>{note}{offered}", files.get("md") or markdown(plain), in_latex)


def lines(cell: Sequence[str]) -> str:
    """Lines of a cell as HTML, each a block of its own."""
    return "".join(f"<div>{as_html(line)}</div>" for line in cell)
