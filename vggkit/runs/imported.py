"""Runs made elsewhere: what the report's course framework wrote of a training run, kept apart from our own runs.

    results/imported/<suite>/<name>.json         the run's epochs, and whatever its owner told of its settings
    results/imported/<suite>/<name>.safetensors  its network, where the weights were given

The framework's files are read by `imported_summary` and `imported_weights`.

An imported run has no gradients, no test accuracy at its last epoch (the framework tests its best one), and an unknown
machine. It is no `records.Run`: no mean, verdict or claim takes it up, and it is only shown beside.
"""

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggkit.config import MOST_EPOCHS, ConfigError, OneLineError, RunConfig, check_name
from vggkit.folders import Given, exists, expanded, results_folder
from vggkit.runs import schema
from vggkit.runs.files import ArtifactError, aside, keep_file, make_folder, reason, sha256
from vggkit.runs.imported_summary import ACCURACIES, COLUMNS, parse_summary
from vggkit.runs.store import ArtifactWarning
from vggkit.study import CONFIGURATIONS, title

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "imported"
FORMAT = 1
"""Version of what the file of an imported run holds; a higher one is of a newer vggkit."""
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
    place = file_of(results, suite, name)
    settings = dict(settings or {})
    told_config(suite, configuration, settings)
    if accuracies is not None:
        check_name("accuracies", accuracies, ACCURACIES)
    content = read_source(path, LARGEST_FILE)
    try:
        rows, repeated, notes = parse_summary(content, accuracies, repeated, settings.get("epochs"))
    except ValueError as error:
        raise ArtifactError(f"file: {path} cannot be taken for the framework's summary: {error}") from error
    run = ImportedRun(suite, name, configuration, settings, sha256(content), tuple(repeated), tuple(rows))
    if exists("results", place) and read_imported(place) != run:
        raise ArtifactError(
            f"results: {place} is of another file or other settings; choose another --name, or remove it first"
        )
    make_folder("results", place.parent)
    keep_file(place, _record(run))
    return run, notes


def file_of(results: Given, suite: str, name: str) -> Path:
    """The file of an imported run.

    Raises:
        ConfigError: `suite` or `name` cannot be part of a path.
    """
    RunConfig(suite=suite)
    if not re.fullmatch(rf"[A-Za-z0-9_-]{{1,{LONGEST_NAME}}}", name, re.ASCII):
        raise ConfigError(f"name: {name!r} is not allowed; allowed: letters, digits, '-', '_', at most {LONGEST_NAME}")
    return results_folder(results) / FOLDER / suite / f"{name}.json"


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
        if record["sha256"] != sha256(_content(record)):
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
        f"results: {file} is damaged ({reason(error)}); move it aside to {aside(file)}, and import the run anew"
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
    record["sha256"] = sha256(_content(record))
    return (json.dumps(record, indent=1, allow_nan=False) + "\n").encode()


def _content(record: Mapping[str, Any]) -> bytes:
    """What the record's own checksum is of, whatever the file's layout."""
    content = {name: value for name, value in record.items() if name != "sha256"}
    return json.dumps(content, sort_keys=True, allow_nan=False).encode()


def _is_epoch(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_EPOCHS
