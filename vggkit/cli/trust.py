"""Commands for whoever doubts a number: are the files what they were, can a run be made again, how do two differ?"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vggkit.cli import terminal
from vggkit.cli.options import MISTAKE, Data, Device, Results, Stop, app, existing
from vggkit.config import ConfigError, check_name

if TYPE_CHECKING:
    from vggkit.runs.records import Run

SHOWN = 20
"""Faults that are told one by one; of a folder that is none of results, every file is one."""


@app.command()
def verify(
    retrain: Annotated[
        list[str] | None,
        typer.Option(help="Train the first epoch of this run again; repeatable.", metavar="SUITE/NAME/seed-N"),
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="Keep the outcome in verification.json there.")] = False,
    results: Results = None,
    data: Data = None,
    device: Device = None,
) -> None:
    """Check every file of the results against its checksum, and derive Table 1 and the verdicts anew."""
    from vggkit.report import verification
    from vggkit.runs import provenance
    from vggkit.runs.files import ArtifactError
    from vggkit.runs.store import read_run

    if retrain or device:  # torch takes seconds
        from vggkit.training.compute import choose_device

        choose_device(device)
    root = existing(results)
    try:
        before = verification.recorded(root)
    except ArtifactError:
        if not record:  # which writes it anew
            raise
        before = None
    retrain = [place.strip("/") for place in retrain or []]
    for place in retrain:
        named = re.fullmatch(r"[\w-]{1,64}/[\w.-]{1,200}/seed-\d{1,10}", place)
        if not named or not (root / place / "summary.json").is_file():
            raise ArtifactError(f"retrain: no finished run {place!r} in {root}; allowed: SUITE/NAME/seed-N of one")
    if retrain:  # what is wrong with the images is told before all that takes long
        from vggkit.data import load

        load(read_run(root / retrain[0]).config, data)
    found, wrong = verification.examine(root, commit=provenance.commit(), check=_read)
    for line in wrong[:SHOWN]:
        terminal.tell(line)
    if len(wrong) > SHOWN:
        terminal.tell(f"and {len(wrong) - SHOWN:,} more; is {root} a folder of results?")
    if wrong:
        raise Stop(f"{_count(len(wrong), 'fault')} in {root}", MISTAKE)
    runs, others = _count(len(found.runs), "run"), _count(len(found.others), "other artefact")
    print(f"{found.files} files of {runs} have their recorded checksums; {found.weights} of these are weights")
    print(f"whole are {others} too; Table 1 is derived anew: {verification.settled(found)}")
    changes = verification.changes(before, found) if before else []
    for line in changes:
        terminal.tell(line)
    for place in retrain:
        found.repetitions.append(_trained_again(place, read_run(root / place), data, device))
    different = [one["run"] for one in found.repetitions if not one["agrees"]]
    if different:
        raise Stop(f"trained again, {', '.join(different)} is another run", MISTAKE)
    # What was trained again before still holds where its run has not changed.
    again = {one["run"] for one in found.repetitions}
    if before:
        for one in before.repetitions:
            if one["run"] not in again and found.runs.get(one["run"]) == before.runs.get(one["run"]):
                found.repetitions.append(one)
    if record:
        print(f"kept in {verification.record(found, root)}")
    elif before is None:
        print("nothing was recorded to compare with; --record keeps this")
    elif changes:
        raise Stop(f"{_count(len(changes), 'change')} since {before.date}; --record keeps what is now", MISTAKE)
    else:
        print(f"nothing has changed since {before.date}")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _read(root: Path, file: Path) -> None:
    """Read an artefact that is no run, as whoever shows it does: what is damaged is an ArtifactError."""
    from vggkit.bench import scale, speeds
    from vggkit.runs import change, epsilon, imported, imported_weights, propagation, signal, store
    from vggkit.runs.files import ArtifactError, seed_of
    from vggkit.training import branch

    folder = file.relative_to(root).parts[0]
    by_seed = {kind.FOLDER: kind for kind in (change, epsilon, propagation, signal)}
    if folder in by_seed:
        seed, kind = seed_of(file.stem), by_seed[folder]
        if seed is None or file != kind.place(root, seed):
            allowed = f"{kind.place(root, 0).name}, with the seed for 0"
            raise ArtifactError(f"results: {file} is named as no measurement is; allowed: {allowed}")
        kind.read(root, seed)
        if kind is change:
            change.check_runs(root, seed)
    elif folder == "bench":
        (scale.read if file.name == "scale.json" else speeds.read_bench)(file)
    elif folder == branch.SUITE:
        branch.read_branches(file)
    elif folder == imported.FOLDER:
        if file.suffix == imported_weights.SUFFIX:
            store.load_weights(file)
        else:
            imported.read_imported(file)
    else:
        raise ArtifactError(f"results: {file} belongs to no run and is no artefact; move it elsewhere")


def _trained_again(place: str, run: "Run", data: str | None, device: str | None) -> dict[str, Any]:
    """The run's first epoch beside its repetition, printed, and what is kept of it."""
    from vggkit.training.repeat import TOLERANCE, first_epoch

    found = first_epoch(run, data=data, device=device)
    rows = [(one.name, f"{one.recorded:.6g}", f"{one.again:.6g}", f"{one.difference:.2g}") for one in found.metrics]
    rows += [(f"{name}, the largest", "", "", f"{value:.2g}") for name, value in found.gradients.items()]
    titles = "first epoch", "recorded", "again", "difference (share)"
    terminal.show_table(titles, rows, right=titles[1:], title=place)
    within = f"training loss {'' if found.agrees else 'not '}equal within {TOLERANCE:.0%}, as other seeds would be too"
    print("equal bit for bit" if found.equal else f"{within}: only the kind of machine that trained it can tell")
    loss = next(one for one in found.metrics if one.name == "train_loss")
    kept = {"run": place, "equal": found.equal, "agrees": found.agrees, "metric": loss.name}
    return kept | {"recorded": loss.recorded, "again": loss.again, "device": found.machine["device"]}


SIDE = "SUITE, SUITE/NAME or SUITE/NAME/seed-N, as vggkit list shows them."


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help=SIDE, metavar="FIRST")],
    second: Annotated[str, typer.Argument(help=SIDE, metavar="SECOND")],
    figure: Annotated[
        str | None, typer.Option(help="Draw curves and gradients into this PNG file.", metavar="FILE")
    ] = None,
    format: Annotated[str, typer.Option(help="terminal, markdown or csv.")] = "terminal",
    results: Results = None,
) -> None:
    """Lay two runs, or all runs of two suites, side by side: settings, final metrics with intervals, curves."""
    check_name("format", format, ("terminal", "markdown", "csv"))

    from vggkit import folders
    from vggkit.report import comparing
    from vggkit.runs.files import check_writable, keep_file

    root = existing(results)
    file = folders.expanded("figure", figure) if figure else None
    if file and file.suffix != ".png":
        raise ConfigError(f"figure: {figure!r} is not allowed; allowed: a name that ends in .png")
    if file:
        check_writable("figure", file)  # before all is read
    found = comparing.compare(root, first, second)
    if file:
        keep_file(file, comparing.figure(found).png, field="figure")
    if format == "csv":
        print(found.differences.to_csv(index=False, lineterminator="\n"), end="")
    elif format == "markdown":
        print(comparing.as_markdown(found))
    else:
        for title, frame in (("Settings that differ", found.settings), ("After the last epoch", found.differences)):
            shown = comparing.as_text(frame)
            terminal.show_table(list(shown.columns), shown.itertuples(index=False), title=title)
