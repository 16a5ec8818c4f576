"""Commands on the machine: what it has, and how fast it trains."""

import math
import sys
from typing import Annotated

import typer

from vggkit import folders
from vggkit.cli import terminal
from vggkit.cli.options import Data, Device, Json, Results, app
from vggkit.config import ConfigError


@app.command("bench")
def bench_(
    seconds: Annotated[float, typer.Option(help="How long each way is timed in each round.")] = 5.0,
    rounds: Annotated[int, typer.Option(help="How often each way is timed, in turn.")] = 3,
    emulated: Annotated[bool, typer.Option("--emulated", help="Measure precisions that are emulated too.")] = False,
    json: Annotated[str | None, typer.Option(help="Write the figures to this file too.", metavar="FILE")] = None,
    device: Device = None,
) -> None:
    """Measure images/s of training for each model and precision beside a plain loop."""
    if not 0 < seconds < math.inf:
        raise ConfigError(f"seconds: {seconds!r} is not allowed; allowed: a finite number above 0")
    if rounds < 1:
        raise ConfigError(f"rounds: {rounds!r} is not allowed; allowed: an integer of at least 1")
    path = folders.expanded("json", json) if json else None

    from vggkit.bench import measure
    from vggkit.runs.files import check_writable
    from vggkit.training.compute import choose_device

    if path:
        check_writable("json", path)  # before minutes of work
    chosen = choose_device(device)
    measured = measure.measure(
        chosen, seconds, rounds, lambda line: print(line, file=sys.stderr, flush=True), emulated=emulated
    )
    if path:
        measure.write(path, measured)  # first: printing may fail
    rows = []
    for row in measured["rows"]:
        numbers = f"{row['images_per_second']:,.0f}", f"{row['ratio']:.2f}", f"{row['floor_share']:.0%}"
        rows.append((row["model"], row["loop"], *numbers))
    titles = "model", "loop", "images/s", "× plain", "of the floor"
    terminal.show_table(titles, rows, right=titles[2:], title=measured["machine"])


@app.command()
def doctor(results: Results = None, data: Data = None, json: Json = False) -> None:
    """Show what this machine has: versions, processor, precisions, compiler, GPU, data, room for results."""
    from vggkit.cli import doctor as checks

    found = checks.examine(results, data)
    if json:
        print(checks.as_json(found))
        return
    for line in checks.lines(found):
        print(terminal.escaped(line))
