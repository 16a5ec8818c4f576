"""The summary.csv of the course's framework: what it says of each epoch of a training run.

The framework is the course's public one (`mlpractical` of the University of Edinburgh, the branches of coursework 2,
`pytorch_mlp_framework/experiment_builder.py` and `storage_utils.py`). Its summary.csv has the columns of `COLUMNS`, a
row for each epoch, accuracies as shares and no column for the epoch. Resumed, it appends without a header, and begins
with the epoch that it finished last, which then has two rows that nothing tells apart from two epochs; whoever resumed
can name it (`repeated`). Relatives of the framework add a column `curr_epoch`, counted from 0, or repeat the header.
"""

import csv
import io
import math
import re
import reprlib
from collections.abc import Iterable, Sequence

from vggkit.config import MOST_EPOCHS

COLUMNS = {
    "train_acc": "train_accuracy",
    "train_loss": "train_loss",
    "val_acc": "validation_accuracy",
    "val_loss": "validation_loss",
}
"""The framework's columns, and what they are called in the metrics of our runs."""
EPOCH_COLUMNS = ("curr_epoch", "epoch")
ACCURACIES = {"share": 1.0, "percent": 100.0}


def parse_summary(
    content: bytes, accuracies: str | None = None, repeated: Sequence[int] = (), epochs: int | None = None
) -> tuple[list[dict[str, float | None]], list[int], list[str]]:
    """The metrics of each epoch, the epochs that were told twice, and in sentences what was supposed.

    Raises:
        ValueError: it is no summary of the framework; the message says which line, and what is allowed.
    """
    lines, again, columns = _lines(content)
    if EPOCH_COLUMNS[0] in columns or EPOCH_COLUMNS[1] in columns:
        if repeated:
            raise ValueError("it has a column for the epoch, so the epochs that stand twice are not to be named")
        by_epoch, twice = _by_own_epoch(lines)
    else:
        by_epoch, twice = _by_order(lines, repeated)
    count = len(by_epoch)
    if epochs is not None and count > epochs:
        raise ValueError(
            f"it has rows of {count} epochs, and {epochs} were told; the framework, resumed, trains the epoch that it "
            "finished last again and adds a row: name such epochs by --repeated"
        )
    notes = [f"header repeated in line {line}: the rows below it are counted on" for line in again]
    if twice:
        notes.append(f"told twice: epoch {', '.join(map(str, twice))}; the later row counts")
    if epochs is not None and count < epochs:
        notes.append(f"unfinished: {count} of {epochs} epochs")
    scale = ACCURACIES[accuracies or _scale(by_epoch)]
    if scale > 1:
        notes.append("accuracies are per cent in the file")
    rows: list[dict[str, float | None]] = []
    for epoch, (line, values) in enumerate(by_epoch, 1):
        row: dict[str, float | None] = {}
        for theirs, ours in COLUMNS.items():
            value = values[theirs]
            if "acc" in theirs:
                value /= scale
                if not 0 <= value <= 1:  # which NaN is not either
                    raise ValueError(f"{theirs} in line {line} is {values[theirs]:g}; allowed: 0 to {scale:g}")
            elif value < 0:
                raise ValueError(f"{theirs} in line {line} is {value:g}; allowed: a number of at least 0")
            row[ours] = value if math.isfinite(value) else None
        if None in row.values() and not any(note.startswith("diverged") for note in notes):
            notes.append(f"diverged: from epoch {epoch} on some loss is not finite")
        rows.append(row)
    return rows, twice, notes


_Line = tuple[int, dict[str, float]]


def _lines(content: bytes) -> tuple[list[_Line], list[int], list[str]]:
    """The numbers of each line by column, the lines in which a header is repeated, and the first header."""
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        table = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError("it is no text of values separated by commas") from error
    columns: list[str] = []
    first: list[str] = []
    again: list[int] = []
    lines: list[_Line] = []
    for number, cells in table:
        if not any(cells):
            continue
        if not columns or cells[0] in (*COLUMNS, *EPOCH_COLUMNS):
            _check_header(cells, number)
            if columns:
                again.append(number)
            if columns and set(cells) != set(columns):
                raise ValueError(f"the header in line {number} has other columns than the first one")
            columns = cells
            first = first or cells
            continue
        if len(cells) != len(columns):
            raise ValueError(f"line {number} has {len(cells)} values; allowed: {len(columns)}, as its header has")
        lines.append((number, {name: _number(name, cell, number) for name, cell in zip(columns, cells, strict=True)}))
    if not lines:
        raise ValueError("it has no epoch")
    return lines, again, first


def _check_header(cells: Sequence[str], number: int) -> None:
    allowed = f"{', '.join(COLUMNS)} in any order, separated by commas, and {' or '.join(EPOCH_COLUMNS)} if you like"
    if len(cells) == 1 and (other := re.search(r"[;\t|]", cells[0])):
        raise ValueError(f"its columns are separated by {other[0]!r}; allowed: {allowed}")
    unknown = [cell for cell in cells if cell not in (*COLUMNS, *EPOCH_COLUMNS)]
    missing = [name for name in COLUMNS if name not in cells]
    if missing or unknown or len(set(cells)) != len(cells) or set(EPOCH_COLUMNS) <= set(cells):
        if missing:
            told = f"has no {', '.join(missing)}"
        elif unknown:
            told = f"has a column {reprlib.repr(unknown[0])}"
        else:
            told = "has a column twice"
        raise ValueError(f"line {number}, its header, {told}; allowed: {allowed}")


def _number(name: str, cell: str, line: int) -> float:
    try:
        if "_" in cell:  # which Python reads as 1_000, and no other program
            raise ValueError
        value = float(cell)
    except ValueError:
        raise ValueError(f"{name} in line {line} is {reprlib.repr(cell)}; allowed: a number") from None
    if name in EPOCH_COLUMNS and not (value.is_integer() and 0 <= value <= MOST_EPOCHS):
        raise ValueError(f"{name} in line {line} is {reprlib.repr(cell)}; allowed: an integer of at least 0")
    return value


def _by_own_epoch(lines: Iterable[_Line]) -> tuple[list[_Line], list[int]]:
    """The lines by the epoch that they name, counted from 0 or from 1, and the epochs named twice."""
    found: dict[int, _Line] = {}
    twice = set()
    for line, values in lines:
        epoch = int(next(values[name] for name in EPOCH_COLUMNS if name in values))
        if epoch in found:
            twice.add(epoch)
        found[epoch] = (line, values)
    start = min(min(found), 1)
    if sorted(found) != list(range(start, start + len(found))):
        missing = next(epoch for epoch in range(start, max(found)) if epoch not in found)
        raise ValueError(f"it has no row for epoch {missing}; allowed: every epoch from the first to the last")
    return [found[epoch] for epoch in sorted(found)], sorted(epoch + 1 - start for epoch in twice)


def _by_order(lines: Iterable[_Line], repeated: Sequence[int]) -> tuple[list[_Line], list[int]]:
    """The lines as epochs in their order, where an epoch of `repeated` has the next line once more."""
    if min(repeated, default=1) < 1:
        raise ValueError(f"repeated: {min(repeated)} is no epoch; allowed: those of the file, counted from 1")
    pending = set(repeated)
    found: list[_Line] = []
    for line in lines:
        if len(found) in pending:
            pending.remove(len(found))
            found[-1] = line
        else:
            found.append(line)
    if pending:
        raise ValueError(f"repeated: epoch {min(pending)} has no second row; the file ends with epoch {len(found)}")
    return found, sorted(set(repeated))


def _scale(lines: Iterable[_Line]) -> str:
    """Whether accuracies are shares or per cent: above 1 they are per cent, which both columns have to show."""
    lines = list(lines)
    above = {name: max(values[name] for _, values in lines) > 1 for name in COLUMNS if "acc" in name}
    if len(set(above.values())) > 1:
        shares = next(name for name, large in above.items() if not large)
        raise ValueError(
            f"{shares} is never above 1, the other accuracy is; tell by --accuracies which they are: "
            f"{' or '.join(ACCURACIES)}"
        )
    return "percent" if all(above.values()) else "share"
