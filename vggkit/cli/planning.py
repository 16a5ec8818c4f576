"""The command that tells what runs will cost before they are started."""

import functools
import itertools
import operator
from typing import Annotated, Any

import typer

from vggkit import folders
from vggkit.cli import terminal
from vggkit.cli.options import Json, Results, app, check_suite, existing, field_values
from vggkit.config import RunConfig
from vggkit.study import SUITES, asked
from vggkit.training.order import order, seed_list

BENCH = "results/bench/cpu.json"
"""The speeds that come with the project."""


@app.command()
def plan(
    suite: Annotated[str, typer.Argument(help=f"{', '.join(SUITES)}, or a new name.")],
    names: Annotated[list[str] | None, typer.Argument(help="Configurations; by default those of the suite.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, as in 0,1,2 or 0-4.")] = "0",
    set_: Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE of every run; repeatable.")] = None,
    bench: Annotated[
        str | None,
        typer.Option(help=f"What vggkit bench --json wrote; else {BENCH} of the project.", metavar="FILE"),
    ] = None,
    results: Results = None,
    json: Json = False,
) -> None:
    """Tell what a sweep would take before it is started: runs, hours by the bench, disk."""
    settings = {"suite": suite} | field_values(set_ or [], {"seed": "--seeds", "suite": "the first argument"})
    check_suite(suite, results)
    numbers, root = seed_list(seeds), existing(results)
    project = folders.project_folder()
    file = folders.expanded("bench", bench) if bench else project / BENCH

    from vggkit.bench import cost

    def runs(**more: Any) -> dict[str, list[RunConfig]]:
        """By name, what a sweep would train, all seeds of a configuration together."""
        found: dict[str, list[RunConfig]] = {}
        for config in itertools.chain(*order(names or asked(suite), numbers, len(numbers), **settings, **more)):
            found.setdefault(config.name, []).append(config)
        return found

    groups, note = runs(), ""
    if "precision" not in settings and (found := cost.precision_found(root, itertools.chain(*groups.values()))):
        groups, note = runs(precision=found), f"In {found}, as the finished runs of the suite are. "
    if suite not in SUITES and not names:
        these = "Table 1's configurations with the defaults, or what --set says"
        note = f"The study knows no suite {suite}, so these are {these}. {note}"
    speeds = cost.Speeds.read(file, project / "results")
    if any(config.batch_size != speeds.batch_size for config in itertools.chain(*groups.values())):
        note += f"Hours are those of batches of {speeds.batch_size}, as the bench has; smaller ones take longer. "
    rows = {name: cost.cost(configs, speeds, root) for name, configs in groups.items()}
    whole = functools.reduce(operator.add, rows.values())
    if json:
        print(cost.as_json(rows, whole, speeds))
        return
    titles = ("configuration", "runs", *cost.STATES, "hours each", "hours left")
    table = [
        (
            name,
            str(row.runs),
            *(str(row.states[s]) for s in cost.STATES),
            _hours(row.hours / row.runs),
            _hours(row.left),
        )
        for name, row in rows.items()
    ]
    terminal.show_table(titles, table, right=titles[1:])
    print(terminal.escaped(note + cost.told(whole, speeds, _this_machine())))


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 0.1 or not hours else f"{hours:.1g}"


def _this_machine() -> str:
    from vggkit.runs import provenance
    from vggkit.training.compute import choose_device

    described = provenance.describe(choose_device("cpu"))
    return f"{described['device']}, {described['threads']} threads"
