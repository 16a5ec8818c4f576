"""Commands that train, or measure networks before they are trained."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vggkit import folders
from vggkit.cli import terminal
from vggkit.cli.options import Data, Device, Results, Stop, app, check_suite, existing, field_values, run_command
from vggkit.cli.results import print_summary
from vggkit.config import RunConfig
from vggkit.folders import exists, results_folder
from vggkit.study import FULL, SUITES, asked, common_settings
from vggkit.training.order import order, seed_list

if TYPE_CHECKING:
    from vggkit.runs.records import SeedEpoch
    from vggkit.training.runner import Progress

TIME_UP = 75
"""Exit status of a sweep whose time is up, sysexits' "temporary failure": the same command goes on."""


@run_command
def train(config: RunConfig, results: Path, data: str | None, device: str | None) -> None:
    """Train a configuration, go on with it where it stopped, or show it where it is finished."""
    from vggkit.runs.files import RunPaths
    from vggkit.training import runner

    if common := common_settings(config.suite):
        usual = common.get("epochs", RunConfig().epochs)
        here = f"; here {config.epochs} epochs" * (config.epochs != usual)
        terminal.tell(f"suite {config.suite}: {SUITES[config.suite].purpose}{here}")
    folder = RunPaths.of(results, config).folder
    before = exists("results", folder)
    with terminal.progress_bar(config) as progress:
        run = runner.train(config, results=results, data=data, device=device, progress=progress)
    print_summary(run, folder, before=before)


@app.command()
def sweep(
    names: Annotated[
        list[str] | None, typer.Argument(help="Configurations; by default those of the suite, else all of Table 1.")
    ] = None,
    suite: Annotated[str, typer.Option(help="Suite of the runs.")] = FULL,
    seeds: Annotated[str, typer.Option(help="Seeds, as in 0,1,2 or 0-4.")] = "0",
    set_: Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE of every run; repeatable.")] = None,
    together: Annotated[int, typer.Option(help="How many runs are trained side by side.")] = 1,
    minutes: Annotated[float | None, typer.Option(help="Stop after the epoch in which these are over.")] = None,
    archives: Annotated[
        str | None, typer.Option(help="Folder for each finished run as one small archive.", metavar="FOLDER")
    ] = None,
    results: Results = None,
    data: Data = None,
    device: Device = None,
) -> None:
    """Train many runs: the first seed of each configuration, then the next; the same command goes on."""
    settings = {"suite": suite} | field_values(set_ or [], {"seed": "--seeds", "suite": "--suite"})
    check_suite(suite, results)
    numbers = seed_list(seeds)
    place = folders.expanded("archives", archives) if archives else None
    groups = order(names or asked(suite), numbers, together, **settings)

    from vggkit.training.sweep import TimeUp
    from vggkit.training.sweep import sweep as train_all

    def tell(config: RunConfig) -> "Progress":
        def after_epochs(epoch: int, images: int, metrics: "SeedEpoch | None") -> None:
            if metrics:
                print(f"{metrics['name']} seed {metrics['seed']} {terminal.epoch_line(epoch, metrics)}", flush=True)

        return after_epochs

    try:
        for run in train_all(
            groups,
            results=results_folder(results),
            archives=place,
            minutes=minutes,
            progress=tell,
            data=data,
            device=device,
        ):
            accuracy = run.summary["final"]["test_accuracy"]
            shown = "diverged" if run.summary["diverged"] else f"test accuracy {accuracy:.2%}"
            print(f"finished: {run.config.suite} {run.config.name} seed {run.config.seed}, {shown}", flush=True)
    except TimeUp as error:
        raise Stop(str(error), TIME_UP) from error


@app.command()
def branch(
    checkpoint: Annotated[str, typer.Argument(help="Checkpoint of a run under way.", metavar="FILE")],
    orders: Annotated[str, typer.Option(help="Orders of batches, as in 0,1,2 or 0-4.")] = "0-2",
    epochs: Annotated[int, typer.Option(help="Epochs of each branch.")] = 1,
    results: Results = None,
    data: Data = None,
    device: Device = None,
) -> None:
    """Train from one state in float32 and in bfloat16, on the same batches: does the precision bias training?"""
    numbers = seed_list(orders, "orders")

    from vggkit.training.branch import branch as train_branches
    from vggkit.training.branch import place, read_state

    state = read_state(folders.expanded("checkpoint", checkpoint))
    settings: dict[str, Any] = {"epochs": epochs, "results": results, "data": data, "device": device}
    for one in train_branches(state, orders=numbers, **settings):
        found = [row["train_loss"] for row in one["epochs"]]
        losses = ", ".join("not finite" if loss is None else f"{loss:.4f}" for loss in found)
        print(f"order {one['order']} in {one['precision']}: training loss {losses}", flush=True)
    print(f"kept in {place(state, results)}")


@app.command()
def signal(
    seed: Annotated[int, typer.Option(help="Seed of the initial weights.")] = 0, results: Results = None
) -> None:
    """Measure what passes through the networks before they are trained, which the book draws; takes seconds."""
    RunConfig(seed=seed)  # checks it before torch is imported

    from vggkit.runs import signal as artefact
    from vggkit.training.signal import measure

    print(f"kept in {artefact.write(measure(seed), results)}")


@app.command()
def change(seed: Annotated[int, typer.Option(help="Seed of the runs.")] = 0, results: Results = None) -> None:
    """Measure what training changed in the finished runs of Table 1 that left their weights; takes seconds."""
    RunConfig(seed=seed)  # checks it before torch is imported

    from vggkit.runs import change as artefact
    from vggkit.training.change import measure

    root = existing(results)
    found, file = measure(seed, root), artefact.place(root, seed)
    if exists("results", file) and replace(found, machine=(before := artefact.read(root, seed)).machine) == before:
        print(f"{', '.join(found.networks)}: nothing has changed in {file}")  # machine and commit alone may
    else:
        print(f"{', '.join(found.networks)}: kept in {artefact.write(found, root)}")
