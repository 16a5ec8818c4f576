"""Runs made elsewhere: what the report's course framework wrote of a training run, kept apart from our own runs.

    results/imported/<suite>/<name>.json         the run's epochs, and whatever its owner told of its settings
    results/imported/<suite>/<name>.safetensors  its network, where the weights were given; see `imported_weights`

The framework is the course's public one (`mlpractical` of the University of Edinburgh, the branches of coursework 2,
`pytorch_mlp_framework/experiment_builder.py` and `storage_utils.py`). Its summary.csv has the columns of `COLUMNS`, a
row for each epoch, accuracies as shares and no column for the epoch. Resumed, it appends without a header, and begins
with the epoch that it finished last, which then has two rows that nothing tells apart from two epochs; whoever resumed
can name it (`repeated`). Relatives of the framework add a column `curr_epoch`, counted from 0, or repeat the header.

An imported run has no gradients, no test accuracy at its last epoch (the framework tests its best one), and an unknown
machine. It is no `store.Run`: no mean, verdict or claim takes it up, and it is only shown beside.
"""

import csv
import hashlib
import io
import json
import math
import re
import reprlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggkit.config import MOST_EPOCHS, ConfigError, OneLineError, RunConfig, check_name
from vggkit.folders import Given, exists, expanded, results_folder
from vggkit.runs import schema
from vggkit.runs.files import ArtifactError, aside, cannot_write, make_folder, reason, replace_file
from vggkit.runs.store import ArtifactWarning
from vggkit.study import CONFIGURATIONS, title

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "imported"
FORMAT = 1
"""Version of what the file of an imported run holds; a higher one is of a newer vggkit."""
COLUMNS = {
    "train_acc": "train_accuracy",
    "train_loss": "train_loss",
    "val_acc": "validation_accuracy",
    "val_loss": "validation_loss",
}
"""The framework's columns, and what they are called in the metrics of our runs."""
EPOCH_COLUMNS = ("curr_epoch", "epoch")
ACCURACIES = {"share": 1.0, "percent": 100.0}
LARGEST_FILE = 16 * 2**20  # bytes; a hundred epochs are about 6 kB
LONGEST_NAME = 64

RECORD = {
    "imported": schema.COUNT,
    "suite": schema.TEXT,
    "name": schema.TEXT,
    "configuration": schema.Rule("one of the configurations", lambda value: value in CONFIGURATIONS).or_none(),
    "settings": schema.RECORD,
    "source_sha256": schema.SHA256,
    "repeated": schema.Rule("a list of epochs", lambda value: isinstance(value, list) and all(map(_is_epoch, value))),
    "metrics": schema.LIST,
    "sha256": schema.SHA256,
}
ROW = {name: schema.LOSS if "loss" in name else schema.SHARE for name in COLUMNS.values()}


@dataclass(frozen=True)
class ImportedRun:
    """A run made elsewhere, as far as it is known.

    Attributes:
        suite: its folder in results/imported/.
        name: its owner's name for it; with `suite` it names the run.
        configuration: the row of `study.CONFIGURATIONS` that it is of, or None where nobody told.
        settings: fields of `RunConfig` that its owner told beside those of the configuration.
        source_sha256: checksum of the file that it was read from.
        repeated: epochs that were trained twice, of which the later row counts.
        rows: of each epoch the metrics, as in `COLUMNS`; a loss that was not finite is None.
    """

    suite: str
    name: str
    configuration: str | None
    settings: Mapping[str, Any]
    source_sha256: str
    repeated: tuple[int, ...]
    rows: tuple[Mapping[str, float | None], ...]

    @property
    def label(self) -> str:
        """What figures and tables call it."""
        return f"{self.name} (imported)"

    @property
    def model(self) -> str:
        """What it trained, as far as that was told: its configuration's title, and the settings beside it."""
        told = [f"{name} {value}" for name, value in self.settings.items() if name != "epochs"]
        return ", ".join([title(self.configuration) if self.configuration else "not told", *told])

    @property
    def final(self) -> Mapping[str, float | None]:
        """The metrics of its last epoch."""
        return self.rows[-1]

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite in some epoch: the framework trains on then."""
        return any(value is None for row in self.rows for value in row.values())

    @property
    def metrics(self) -> "pd.DataFrame":
        """A row for each epoch, its columns named as in the metrics of our runs."""
        import pandas as pd

        frame = pd.DataFrame([dict(row) for row in self.rows], dtype="float64")
        frame.insert(0, "epoch", range(1, len(frame) + 1))
        return frame


def read_source(path: str | Path, largest: int, field: str = "file") -> bytes:
    """The content of a file from elsewhere.

    Raises:
        ArtifactError: it is no file, larger than `largest` bytes, empty, or cannot be read.
    """
    path = expanded(field, path)
    if not exists(field, path):
        raise ArtifactError(f"{field}: there is no {path}")
    if not path.is_file():
        raise ArtifactError(f"{field}: {path} is no file; allowed: a file")
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
    except (OSError, MemoryError) as error:
        raise ArtifactError(f"{field}: {path} cannot be read ({reason(error)})") from error
    if not content:
        raise ArtifactError(f"{field}: {path} is empty")
    if len(content) > largest:
        raise ArtifactError(f"{field}: {path} is too large; allowed: at most {largest:,} bytes")
    return content


def told_config(suite: str, configuration: str | None, settings: Mapping[str, Any]) -> RunConfig:
    """The configuration of an imported run; fields that nobody told have their default, which says nothing of the run.

    Raises:
        ConfigError: a name or a value is not allowed, or `settings` tell again what the configuration does.
    """
    own: Mapping[str, Any] = {}
    if configuration is not None:
        check_name("configuration", configuration, CONFIGURATIONS)
        own = CONFIGURATIONS[configuration].settings
    if twice := sorted({*own, "suite"} & set(settings)):
        raise ConfigError(f"{twice[0]}: told already by the configuration or the suite; allowed: the other settings")
    return RunConfig.from_dict({**own, **settings, "suite": suite})


def import_summary(
    path: str | Path,
    *,
    name: str,
    suite: str = "course",
    configuration: str | None = None,
    settings: Mapping[str, Any] | None = None,
    accuracies: str | None = None,
    repeated: Sequence[int] = (),
    results: Given = None,
) -> tuple[ImportedRun, list[str]]:
    """Read the framework's summary.csv, and keep it as an imported run.

    Args:
        path: the file.
        name: of the run; letters, digits, '-' and '_'.
        suite: where it is kept, beside other imported runs.
        configuration: which network it trained, one of `study.CONFIGURATIONS`.
        settings: further fields of `RunConfig`, as far as they are known.
        accuracies: "share" or "percent", for files that do not show it by themselves.
        repeated: epochs that the file has twice because the run was resumed after them.
        results: as in `folders`.

    Returns:
        The run, and in sentences what was supposed of the file.

    Raises:
        ConfigError: an argument is not allowed.
        ArtifactError: the file is no such summary, or a run of this name is of another file.
    """
    place = place_of(results, suite, name)
    settings = dict(settings or {})
    told_config(suite, configuration, settings)
    if accuracies is not None:
        check_name("accuracies", accuracies, ACCURACIES)
    content = read_source(path, LARGEST_FILE)
    try:
        rows, repeated, notes = parse_summary(content, accuracies, repeated, settings.get("epochs"))
    except ValueError as error:
        raise ArtifactError(f"file: {path} cannot be taken for the framework's summary: {error}") from error
    run = ImportedRun(suite, name, configuration, settings, _sha256(content), tuple(repeated), tuple(rows))
    if exists("results", place) and read_imported(place) != run:
        raise ArtifactError(
            f"results: {place} is of another file or other settings; choose another --name, or remove it first"
        )
    make_folder("results", place.parent)
    try:
        replace_file(place, _record(run))
    except OSError as error:
        raise cannot_write(place, error) from error
    return run, notes


def place_of(results: Given, suite: str, name: str) -> Path:
    """The file of an imported run.

    Raises:
        ConfigError: `suite` or `name` cannot be part of a path.
    """
    RunConfig(suite=suite)
    if not re.fullmatch(rf"[A-Za-z0-9_-]{{1,{LONGEST_NAME}}}", name, re.ASCII):
        raise ConfigError(f"name: {name!r} is not allowed; allowed: letters, digits, '-', '_', at most {LONGEST_NAME}")
    return results_folder(results) / FOLDER / suite / f"{name}.json"


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


def read_imported(file: str | Path) -> ImportedRun:
    """The imported run of a file that `import_summary` wrote.

    Raises:
        ArtifactError: it is missing, damaged, or of a newer version.
    """
    file = expanded("results", file)
    try:
        record = json.loads(file.read_bytes())
        found = record.get("imported") if isinstance(record, dict) else None
        if isinstance(found, int) and found > FORMAT:
            raise ArtifactError(f"results: {file} is of format {found}, this vggkit knows {FORMAT}; use a newer one")
        schema.check_record("the record", record, RECORD)
        if record["sha256"] != _sha256(_content(record)):
            raise ValueError("its checksum differs")
        told_config(record["suite"], record["configuration"], record["settings"])
        for row in record["metrics"]:
            schema.check_record("an epoch", row, ROW)
    except OneLineError as error:
        if isinstance(error, ArtifactError):
            raise
        raise _damaged(file, error) from error
    except FileNotFoundError as error:
        raise ArtifactError(f"results: there is no {file}") from error
    except (OSError, MemoryError) as error:
        raise ArtifactError(f"results: {file} cannot be read ({reason(error)}); mend it and call again") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise _damaged(file, error) from error
    return ImportedRun(
        suite=record["suite"],
        name=record["name"],
        configuration=record["configuration"],
        settings=record["settings"],
        source_sha256=record["source_sha256"],
        repeated=tuple(record["repeated"]),
        rows=tuple({name: row[name] for name in ROW} for row in record["metrics"]),
    )


def _damaged(file: Path, error: Exception) -> ArtifactError:
    return ArtifactError(
        f"results: {file} is damaged ({reason(error)}); import the run anew, or move it aside to {aside(file)}"
    )


def find_imported(results: Given = None, suite: str | None = None) -> list[ImportedRun]:
    """All imported runs, of one suite or of all, by suite and name.

    A file that is not the place of its own run, such as a copy, is left out with an ArtifactWarning.

    Raises:
        ArtifactError: as `read_imported`.
    """
    root = results_folder(results) / FOLDER
    runs = []
    for file in sorted(root.glob(f"{suite or '*'}/*.json")):
        if not file.name.startswith("."):
            run = read_imported(file)
            if file.parent.name == run.suite and file.stem == run.name:
                runs.append(run)
            else:
                told = f"it holds {run.suite}/{run.name}; move it to its place, or out of the results folder"
                warnings.warn(f"results: {file} is left out: {told}", ArtifactWarning, stacklevel=2)
    return runs


def _record(run: ImportedRun) -> bytes:
    record: dict[str, Any] = {"imported": FORMAT}
    record |= {name: getattr(run, name) for name in ("suite", "name", "configuration", "settings", "source_sha256")}
    record |= {"repeated": list(run.repeated), "metrics": [dict(row) for row in run.rows]}
    record["sha256"] = _sha256(_content(record))
    return (json.dumps(record, indent=1, allow_nan=False) + "\n").encode()


def _content(record: Mapping[str, Any]) -> bytes:
    """What the record's own checksum is of, whatever the file's layout."""
    content = {name: value for name, value in record.items() if name != "sha256"}
    return json.dumps(content, sort_keys=True, allow_nan=False).encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_epoch(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_EPOCHS
