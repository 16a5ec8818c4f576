"""Whether the results are what they were: files against recorded checksums, Table 1 and verdicts derived anew.

A run's own summary holds the checksum of each of its other files and of itself, so damage is found from the run alone.
Whoever changes a number on purpose can compute these checksums again. Therefore results/verification.json, which
`vggkit verify --record` writes and version control keeps, holds the checksum of every summary and of every other
artefact, with Table 1 and the verdicts as they were derived then; what differs from it is named. Imported runs stay
with whoever imported them: they are checked, and the record does not hold them.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from vggkit.folders import Given, results_folder
from vggkit.report import claims, judgements, tables
from vggkit.report.verdicts import OPEN
from vggkit.runs.files import ArtifactError, check_format, keep_file, place_of, reason, sha256
from vggkit.runs.imported import FOLDER as IMPORTED
from vggkit.runs.schema import FORMAT
from vggkit.runs.select import all_runs
from vggkit.runs.store import SUMMARY, WEIGHTS, load_weights, read_run

RECORD = "verification.json"
SAME = 1e-9
"""How far, as a share, two derivations of one number may lie apart: other machines round sums otherwise."""

Check = Callable[[Path, Path], object]
"""Reads an artefact that is no run, in a results folder; raises ArtifactError where it is damaged."""


@dataclass(frozen=True)
class Verification:
    """What was found, and what it was derived from.

    Attributes:
        date: the day, as 2026-01-31.
        commit: of the code that looked, see `runs.provenance.commit`.
        runs: SHA-256 of each finished run's summary, by the run's place.
        others: SHA-256 of every other artefact of ours, by its place.
        files: how many files were compared with a recorded SHA-256.
        weights: how many of these hold a network's weights.
        table1: the rows of Table 1, by configuration.
        verdicts: of each claim the verdict, the tendency and the suite it comes from.
        repetitions: first epochs trained again, see `training.repeat`.
    """

    date: str
    commit: str | None
    runs: dict[str, str]
    others: dict[str, str]
    files: int
    weights: int
    table1: dict[str, dict[str, Any]]
    verdicts: dict[str, list[str | None]]
    repetitions: list[dict[str, Any]] = field(default_factory=list)


def examine(
    results: Given = None, *, commit: str | None = None, check: Check = lambda root, file: None
) -> tuple[Verification, list[str]]:
    """Read everything under a results folder and derive Table 1 and the verdicts; what is wrong, a line for each.

    Args:
        results: the folder.
        commit: of the code that looks.
        check: reads an artefact that is no run, given the results folder and the file.
    """
    root = results_folder(results)
    wrong: list[str] = []
    runs: dict[str, str] = {}
    files = weights = 0
    for folder in _run_folders(root):
        try:
            run = read_run(folder)
            listed = run.summary["files"]
            if WEIGHTS in listed and (folder / WEIGHTS).exists():
                load_weights(folder)
                weights += 1
        except ArtifactError as error:
            wrong.append(str(error))
            continue
        if folder.parts[-3:] != place_of(run.config):
            wrong.append(f"results: {folder} holds the run {'/'.join(place_of(run.config))}; move it to its place")
        unknown = sorted(path.name for path in folder.iterdir() if path.name not in (*listed, SUMMARY))
        wrong += [f"results: {folder / name} is not in the run's summary; move it elsewhere" for name in unknown]
        files += sum((folder / name).exists() for name in (*listed, SUMMARY))
        runs[_place(root, folder)] = sha256((folder / SUMMARY).read_bytes())
    others = {}
    for file in _other_files(root):
        try:
            check(root, file)
            if file.relative_to(root).parts[0] != IMPORTED:
                others[_place(root, file)] = sha256(file.read_bytes())
        except (ArtifactError, OSError) as error:
            wrong.append(str(error))
    table1, verdicts = ({}, {}) if wrong else _derived(root)
    today = date.today().isoformat()
    return Verification(today, commit, runs, others, files, weights, table1, verdicts), wrong


def _run_folders(root: Path) -> list[Path]:
    """Every folder that holds a finished run, or did: some suite, some name, and a seed or a summary."""
    found = {path for path in root.glob("[!.]*/[!.]*/seed-*") if path.is_dir()}
    return sorted(found | {path.parent for path in root.glob(f"[!.]*/[!.]*/[!.]*/{SUMMARY}")})


def _other_files(root: Path) -> Iterator[Path]:
    runs = set(_run_folders(root))
    for path in sorted({*root.glob("[!.]*"), *root.glob("[!.]*/**/*")}):
        hidden = path.name.startswith(".") or path == root / RECORD
        if path.is_file() and not hidden and not runs & set(path.parents):
            yield path


def _derived(root: Path) -> tuple[dict[str, dict[str, Any]], dict[str, list[str | None]]]:
    runs = all_runs(root)
    rows = tables.table1(runs).to_dict(orient="records")
    table1 = {row.pop("name"): {str(key): _plain(value) for key, value in row.items()} for row in rows}
    judged = {claim.key: judgements.judge(claim.key, runs) for claim in claims.CLAIMS}
    return table1, {key: [found.verdict, found.tendency, found.suite] for key, found in judged.items()}


def _plain(value: Any) -> Any:
    """A cell as JSON has it: what is missing is null."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value


def changes(before: Verification, now: Verification) -> list[str]:
    """What differs from a recorded verification: files that changed, are gone or are new, and numbers that moved."""
    found = []
    for one, other in ((before.runs, now.runs), (before.others, now.others)):
        for place in sorted({*one, *other}):
            if one.get(place) != other.get(place):
                how = "is gone" if place not in other else "is new" if place not in one else "has changed"
                found.append(f"{place} {how} since {before.date}")
    if before.runs == now.runs and before.weights != now.weights:
        found.append(f"weights of {before.weights} networks were there on {before.date}, of {now.weights} are now")
    for name in sorted({*before.table1, *now.table1}):
        old, new = before.table1.get(name, {}), now.table1.get(name, {})
        moved = [key for key in {**old, **new} if not _equal(old.get(key), new.get(key))]
        found += [f"Table 1, {name}, {key}: {old.get(key)} was recorded, {new.get(key)} is derived" for key in moved]
    for key in sorted({*before.verdicts, *now.verdicts}):
        was, is_now = before.verdicts.get(key), now.verdicts.get(key)
        if was != is_now:
            found.append(f"claim {key}: {was} was recorded, {is_now} is derived")
    return found


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=SAME)
    return bool(one == other)


def settled(found: Verification) -> str:
    """How many claims have a verdict, and how many cannot be told from the runs that there are."""
    told = sum(verdict[0] != OPEN for verdict in found.verdicts.values())
    return f"{told} of {len(found.verdicts)} claims have a verdict, the others cannot be told yet"


def record(verification: Verification, results: Given = None) -> Path:
    """Write `verification` into the results folder, in place of an earlier one.

    Raises:
        ArtifactError: it cannot be written.
    """
    file = results_folder(results) / RECORD
    content = {"format": FORMAT, **asdict(verification)}
    keep_file(file, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    return file


def recorded(results: Given = None) -> Verification | None:
    """The verification that was recorded last, or None where there is none.

    Raises:
        ArtifactError: it is damaged, or a newer version wrote it.
    """
    file = results_folder(results) / RECORD
    try:
        content = json.loads(file.read_bytes())
        check_format(content, file)
        content.pop("format")
        found = Verification(**content)
        _check(found)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArtifactError(f"results: {file} cannot be read ({reason(error)}); mend it and call again") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        remedy = "restore it from version control, or write it anew: vggkit verify --record"
        raise ArtifactError(f"results: {file} is damaged (it is not as it was written); {remedy}") from error
    return found


def _check(found: Verification) -> None:
    """Raise ValueError unless each value is of the type that whoever shows it takes it for."""
    texts = [*found.runs.values(), *found.others.values(), found.date, *([found.commit] if found.commit else [])]
    right = all(isinstance(text, str) for text in texts)
    right &= all(isinstance(row, dict) for row in found.table1.values())
    right &= all(isinstance(verdict, list) for verdict in found.verdicts.values())
    right &= isinstance(found.files, int) and isinstance(found.weights, int)
    for one in found.repetitions:
        right &= all(isinstance(one[key], str) for key in ("run", "device")) and isinstance(one["equal"], bool)
        right &= all(isinstance(one[key], float) for key in ("recorded", "again"))
    if not right:
        raise ValueError("a value is of the wrong type")


def told(results: Given = None) -> str:
    """The recorded verification in words, for the book."""
    found = recorded(results)
    if found is None:
        return "The results have not been verified yet: `vggkit verify --record`."
    text = (
        f"Verified on {found.date} at commit `{(found.commit or 'unknown')[:12]}`: {found.files} files of "
        f"{len(found.runs)} runs have their recorded checksums, {found.weights} networks' weights fit their runs, and "
        f"Table 1 and the verdicts on {len(found.verdicts)} claims were derived anew."
    )
    for one in found.repetitions:
        outcome = f"training loss {one['again']:.4f}, recorded {one['recorded']:.4f}"
        outcome = "every number equal bit for bit" if one["equal"] else f"{outcome}, which other seeds give too"
        text += f" The first epoch of `{one['run']}` was trained again on {one['device']}: {outcome}."
    return text


def _place(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
