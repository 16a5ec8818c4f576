"""The commands of the command line: each reads its options, calls the library and prints.

Only what parses a command is imported here; each command imports what it needs, since torch alone takes seconds.
"""

import inspect
import math
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vggkit import folders
from vggkit.cli import terminal
from vggkit.config import ConfigError, RunConfig, check_name
from vggkit.folders import DATA_VARIABLE, RESULTS_VARIABLE, results_folder
from vggkit.study import CONFIGURATIONS

if TYPE_CHECKING:
    from vggkit.runs.store import Run
    from vggkit.training.runner import Progress

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train, evaluate and compare the networks of the report.",
)

Results = Annotated[
    str | None,
    typer.Option(help=f"Folder of results; else {RESULTS_VARIABLE}; else results/ of the project.", metavar="FOLDER"),
]
Data = Annotated[
    str | None,
    typer.Option(
        help=f"Folder that holds cifar-100-python; else {DATA_VARIABLE}; else data/ of the project, downloaded once.",
        metavar="FOLDER",
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; by default a GPU where there is one.")]
Name = Annotated[str, typer.Argument(help=f"One of {', '.join(CONFIGURATIONS)}.", metavar="NAME")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

DEFAULT_SUITE = "table1"
TIME_UP = 75  # sysexits' "temporary failure": the same command goes on
MOST_SEEDS = 1000
MISTAKE = 2


class Stop(Exception):
    """Ends a command with a message and an exit status of its own."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


RunCommand = Callable[[RunConfig, Path, str | None, str | None], None]


def run_command(command: RunCommand) -> RunCommand:
    """Add a command on one run: NAME, an option for every field of RunConfig, and where things are.

    Settings are taken as text and read by RunConfig, so that a wrong value is told in the same
    words everywhere.
    """

    def call(name: Name, results: Results = None, data: Data = None, device: Device = None, **given: Any) -> None:
        settings = {field: RunConfig.from_text(field, text) for field, text in given.items() if text is not None}
        command(RunConfig.named(name, **settings), results_folder(results), data, device)

    own = [p for p in inspect.signature(call).parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = []
    for field in fields(RunConfig):
        kind = getattr(field.type, "__name__", str(field.type))
        choices = field.metadata["choices"]
        option = typer.Option(
            help=f"{field.metadata['help']} [default: {'all' if field.default is None else field.default}]",
            metavar="|".join(choices) if choices else kind.upper().replace(" | ", "|"),
            show_default=False,
        )
        annotation = Annotated[str | None, option]
        options.append(
            inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        )
    call.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in [*own, *options]}
    app.command(command.__name__, help=command.__doc__)(call)
    return command


def _existing(given: str | None) -> Path:
    """The folder of results, which may lack only where nobody named it: then no run is finished yet."""
    from vggkit.runs.store import ArtifactError

    results = results_folder(given)
    there = folders.exists("results", results)
    if not results.is_dir() and (there or folders.results_are_named(given)):
        raise ArtifactError(f"results: no folder {results}; name one that exists by --results")
    if not there:
        terminal.tell(f"results: no folder {results} yet, so no run is finished; --results names another")
    return results


@app.command("list")
def list_(results: Results = None) -> None:
    """Show the named configurations and which runs are finished, those with changed settings too."""
    from vggkit.runs import store

    finished: dict[str, list[RunConfig]] = {name: [] for name in CONFIGURATIONS}
    for run in store.find_runs(_existing(results)):
        finished.setdefault(run.config.name, []).append(run.config)
    rows = []
    for name, configs in finished.items():
        config = configs[0] if configs else RunConfig.named(name)
        where = ", ".join(f"{c.suite} {c.seed}" for c in configs) or "none"
        rows.append((name, f"{config.learning_rate:g}", f"{config.parameters:,}", where))
    terminal.show_table(("configuration", "learning rate", "parameters", "finished runs (suite, seed)"), rows)


@run_command
def train(config: RunConfig, results: Path, data: str | None, device: str | None) -> None:
    """Train a configuration, go on with it where it stopped, or show it where it is finished."""
    from vggkit.runs.store import RunPaths
    from vggkit.training import runner

    with terminal.progress_bar(config) as progress:
        run = runner.train(config, results=results, data=data, device=device, progress=progress)
    _print_summary(run, RunPaths.of(results, config).folder)


@run_command
def evaluate(config: RunConfig, results: Path, data: str | None, device: str | None) -> None:
    """Evaluate the weights of a finished run anew, beside what it recorded."""
    from vggkit.runs import store

    paths = store.RunPaths.of(results, config)
    run = store.read_finished(paths, config)
    if run is None:
        raise store.ArtifactError(
            f"results: no finished run in {paths.folder}; train it first, with the same options: vggkit train"
        )
    weights = store.read_weights(paths)

    # torch takes seconds: not before the mistakes are told
    from vggkit.data import load
    from vggkit.networks.vgg import VGG
    from vggkit.training.compute import Compute, warn_of_emulation
    from vggkit.training.evaluation import evaluate as measured_on

    compute = Compute.resolve(config.precision, device)
    splits = load(config, data).to(compute.device)
    warn_of_emulation(compute)
    model = VGG.from_config(config)
    model.load_state_dict(weights)
    model.to(compute.device)
    rows = []
    for split, images in (("validation", splits.validation), ("test", splits.test)):
        loss, accuracy = measured_on(model, images, compute)
        recorded = [run.summary["final"][f"{split}_{metric}"] for metric in ("loss", "accuracy")]
        rows.append((split, *_cells([loss, accuracy, *recorded])))
    terminal.show_table(("split", "loss", "accuracy", "recorded loss", "recorded accuracy"), rows)


@app.command()
def table(
    results: Results = None,
    format: Annotated[str, typer.Option(help="terminal, markdown, csv or latex.")] = "terminal",
) -> None:
    """Print Table 1: the report's values and ours."""
    check_name("format", format, ("terminal", "markdown", "csv", "latex"))
    from vggkit.report import render, tables
    from vggkit.runs.select import runs_by_seed

    frame = tables.table1(runs_by_seed(_existing(results)))
    if format != "terminal":
        print(render.table1_as(frame, format))
        return
    stacked = render.stacked(frame).map("\n".join)
    terminal.show_table(
        list(stacked.columns),
        stacked.itertuples(index=False),
        right=[title for title in stacked.columns if title not in ("model", "runs")],
        title="Table 1: the report's value over ours",
        note=render.NOTE,
        airy=True,
    )


@app.command()
def sweep(
    names: Annotated[list[str] | None, typer.Argument(help="Configurations; by default all of Table 1.")] = None,
    suite: Annotated[str, typer.Option(help="Suite of the runs.")] = DEFAULT_SUITE,
    seeds: Annotated[str, typer.Option(help="Seeds, as in 0,1,2 or 0-4.")] = "0",
    set_: Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE of every run; repeatable.")] = None,
    together: Annotated[int, typer.Option(help="Seeds of a configuration trained side by side.")] = 1,
    minutes: Annotated[float | None, typer.Option(help="Stop after the epoch in which these are over.")] = None,
    archives: Annotated[
        str | None, typer.Option(help="Folder for each finished run as one small archive.", metavar="FOLDER")
    ] = None,
    results: Results = None,
    data: Data = None,
    device: Device = None,
) -> None:
    """Train many runs: the first seed of each configuration, then the next; the same command goes on."""
    settings = {"suite": suite}
    for item in set_ or []:
        field, equals, text = item.partition("=")
        if not equals:
            raise ConfigError(f"set: {item!r} is not allowed; allowed: FIELD=VALUE, as in --set precision=bfloat16")
        if field in ("seed", "suite"):
            raise ConfigError(f"set: {item!r} is not allowed; allowed: --{field.replace('seed', 'seeds')} gives it")
        settings[field] = RunConfig.from_text(field, text)
    numbers = _seeds(seeds)
    place = folders.expanded("archives", archives) if archives else None

    from vggkit.training.sweep import TimeUp, order
    from vggkit.training.sweep import sweep as train_all

    groups = order(names or list(CONFIGURATIONS), numbers, together, **settings)

    def tell(config: RunConfig) -> "Progress":
        def after_epochs(epoch: int, images: int, metrics: dict[str, Any] | None) -> None:
            if metrics:
                print(f"{config.name} seed {metrics['seed']} {terminal.epoch_line(epoch, metrics)}", flush=True)

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


def _seeds(text: str, field: str = "seeds") -> list[int]:
    """Read "0,1,2" or "0-4"."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        whole = part.isascii() and first.isdecimal() and (not dash or last.isdecimal())
        if not whole or not 0 <= int(last or first) - int(first) < MOST_SEEDS:
            raise ConfigError(
                f"{field}: {text!r} is not allowed; allowed: integers as in 0,1,2 or 0-4, at most {MOST_SEEDS} in a row"
            )
        seeds += range(int(first), int(last or first) + 1)
    return seeds


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
    numbers = _seeds(orders, "orders")

    from vggkit.training.branch import branch as train_branches
    from vggkit.training.branch import place, read_state

    state = read_state(folders.expanded("checkpoint", checkpoint))
    settings: dict[str, Any] = {"epochs": epochs, "results": results, "data": data, "device": device}
    for one in train_branches(state, orders=numbers, **settings):
        losses = ", ".join(f"{row['train_loss']:.4f}" for row in one["epochs"])
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
def notebooks(
    names: Annotated[list[str] | None, typer.Argument(help="Configurations; by default all of Table 1.")] = None,
    results: Results = None,
    output: Annotated[
        str | None, typer.Option(help="Folder for the executed notebooks; else book/runs/.", metavar="FOLDER")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Folder of the notebooks; else notebooks/.", metavar="FOLDER")
    ] = None,
) -> None:
    """Execute the notebooks with Papermill: a page for each finished run, and the comparison."""
    for name in names or CONFIGURATIONS:
        check_name("configuration", name, CONFIGURATIONS)
    project = folders.project_folder()
    where = {
        "output": folders.expanded("output", output or project / "book/runs"),
        "source": folders.expanded("source", source or project / "notebooks"),
    }
    try:
        from papermill.exceptions import PapermillExecutionError

        from vggkit.report import notebooks
    except ImportError as error:
        missing = f"notebooks: {error.name} is not installed; install the book's packages: pip install 'vggkit[book]'"
        raise Stop(missing, MISTAKE) from error
    try:
        for page in notebooks.execute(names, results=results_folder(results), **where):
            print(page, flush=True)
    except PapermillExecutionError as error:  # its message is the cell's whole traceback
        raise Stop(f"notebooks: a cell failed with {error.ename}: {error.evalue}", MISTAKE) from error


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
    from vggkit.training.compute import choose_device

    if path:
        measure.check_writable(path)  # before minutes of work
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


def _cells(metrics: list[float | None]) -> list[str]:
    """Losses and accuracies, in turn; a diverged run has no finite loss."""
    finite = [value if value is not None and math.isfinite(value) else None for value in metrics]
    return ["-" if v is None else f"{v:.2%}" if i % 2 else f"{v:.4f}" for i, v in enumerate(finite)]


def _print_summary(run: "Run", folder: Path) -> None:
    rows = []
    for which in ("final", "best"):
        if values := run.summary[which]:
            metrics = [
                values[f"{split}_{metric}"]
                for split in ("train", "validation", "test")
                for metric in ("loss", "accuracy")
            ]
            rows.append((f"{values['epoch']} ({which})", *_cells(metrics)))
    terminal.show_table(("epoch", "train loss", "train acc", "val loss", "val acc", "test loss", "test acc"), rows)
    state = "diverged: the loss was not finite" if run.summary["diverged"] else "finished"
    print(terminal.one_line(f"{state}; {run.summary['images_per_second']:,.0f} images/s; see {folder}"))
