"""The command line: parse, call the library, print. Every mistake is one line and exit status 2."""

import inspect
import math
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from vggkit import artifacts, bench, tables, training
from vggkit.artifacts import ArtifactError, Run, RunPaths
from vggkit.config import CONFIGURATIONS, DATASETS, NUM_CLASSES, ConfigError, RunConfig, check_name
from vggkit.data import DataError, load
from vggkit.folders import DATA_VARIABLE, RESULTS_VARIABLE
from vggkit.models import VGG, count_parameters
from vggkit.sweep import TimeUp, order
from vggkit.sweep import sweep as train_all

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help=__doc__.split(":")[0])
console = Console()

Results = Annotated[Path, typer.Option(help="Folder of results.", envvar=RESULTS_VARIABLE)]
Data = Annotated[
    Path | None,
    typer.Option(help=f"Folder that holds cifar-100-python; else {DATA_VARIABLE}; else ./data, downloaded once."),
]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; by default a GPU where there is one.")]
Name = Annotated[str, typer.Argument(help=f"One of {', '.join(CONFIGURATIONS)}.", metavar="NAME")]

DEFAULT_RESULTS = Path("results")
TIME_UP = 75  # sysexits' "temporary failure": the same command goes on
MOST_SEEDS = 1000
INTERRUPTED = 130  # a shell's status of a command ended by Ctrl-C


def main() -> None:
    """Run the command line; a mistake is one line on stderr and exit status 2, Ctrl-C is 130."""
    try:
        status = app(standalone_mode=False)
    except (ConfigError, DataError, ArtifactError) as error:
        _fail(str(error), 2)
    except TimeUp as error:
        _fail(str(error), TIME_UP)
    except (typer.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    except Exception as error:
        if not hasattr(error, "format_message"):  # what every wrong use of an option has
            raise
        _fail(_wrong_use(error), 2)
    if status == INTERRUPTED:  # some versions of typer return it instead of raising
        _fail("stopped; the last finished epoch is kept: run the same command again to go on", INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


def _wrong_use(error: Any) -> str:
    """What typer says; for an option that is like none but --help, what the command allows."""
    if not hasattr(error, "option_name") or set(error.possibilities or ()) - {"--help"}:
        return error.format_message()
    options = [name for parameter in error.ctx.command.params for name in parameter.opts if name.startswith("--")]
    return f"{error.message}; allowed: {', '.join([*options, '--help'])}"


def _fail(message: str, status: int) -> None:
    print(f"vggkit: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


RunCommand = Callable[[RunConfig, Path, Path | None, str | None], None]


def run_command(command: RunCommand) -> RunCommand:
    """Add a command on one run: NAME, an option for every field of RunConfig, and where things are.

    Settings are taken as text and read by RunConfig, so that a wrong value is told in the same
    words everywhere.
    """

    def call(
        name: Name, results: Results = DEFAULT_RESULTS, data: Data = None, device: Device = None, **given: Any
    ) -> None:
        settings = {field: RunConfig.from_text(field, text) for field, text in given.items() if text is not None}
        command(RunConfig.named(name, **settings), results, data, device)

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


def _existing(results: Path) -> Path:
    """The folder, which may lack only where nobody named it: then no run is finished yet."""
    if not results.is_dir() and (results.exists() or results != DEFAULT_RESULTS):
        raise ArtifactError(f"results: no folder {results}; name one that exists by --results")
    return results


@app.command("list")
def list_(results: Results = DEFAULT_RESULTS) -> None:
    """Show the named configurations and which runs of them are finished."""
    runs = artifacts.find_runs(_existing(results))
    table = Table("configuration", "learning rate", "parameters", "finished runs (suite, seed)")
    for name in CONFIGURATIONS:
        config = RunConfig.named(name)
        finished = [f"{run.config.suite} {run.config.seed}" for run in runs if run.config.name == name]
        parameters = f"{count_parameters(VGG.from_config(config)):,}"
        table.add_row(name, f"{config.learning_rate:g}", parameters, ", ".join(finished) or "none")
    console.print(table)


@run_command
def train(config: RunConfig, results: Path, data: Path | None, device: str | None) -> None:
    """Train a configuration, go on with it where it stopped, or show it where it is finished."""
    with progress_bar(config) as progress:
        run = training.train(config, results=results, data=data, device=device, progress=progress)
    _print_summary(run, RunPaths.of(results, config).folder)


class progress_bar:
    """Shows images, loss, accuracy, images/s and time left; a line for each epoch off a terminal."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        columns = ["[progress.description]{task.description}", "{task.fields[speed]}", "{task.fields[last]}"]
        text = [TextColumn(column) for column in columns]
        self.bar = Progress(text[0], BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), *text[1:])
        self.task: Any = None

    def __enter__(self) -> training.Progress:
        return self.update

    def __exit__(self, *error: object) -> None:
        if self.task is not None:
            self.bar.stop()

    def update(self, epoch: int, images: int, metrics: dict[str, Any] | None) -> None:
        """Take a report of `training.train`."""
        size = self.config.train_images_per_class or DATASETS[self.config.dataset].train
        per_epoch = size * NUM_CLASSES
        if self.task is None:
            self.bar.start()  # not sooner: a bar without a task leaves an empty line above an error
            self.task = self.bar.add_task(self.config.name, total=per_epoch * self.config.epochs, speed="", last="")
            self.bar.update(self.task, completed=per_epoch * (epoch - 1))
        speed = self.bar.tasks[0].speed
        self.bar.update(
            self.task, completed=per_epoch * (epoch - 1) + images, speed=f"{speed:,.0f} images/s" if speed else ""
        )
        if metrics:
            last = _epoch_line(epoch, metrics)
            self.bar.update(self.task, last=last)
            if not console.is_terminal:
                console.print(last, soft_wrap=True)


def _epoch_line(epoch: int, metrics: dict[str, Any]) -> str:
    return (
        f"epoch {epoch}: loss {metrics['train_loss']:.3f} / {metrics['validation_loss']:.3f}, accuracy "
        f"{metrics['train_accuracy']:.1%} / {metrics['validation_accuracy']:.1%} (train / validation)"
    )


@run_command
def evaluate(config: RunConfig, results: Path, data: Path | None, device: str | None) -> None:
    """Evaluate the weights of a finished run anew, beside what it recorded."""
    paths = RunPaths.of(results, config)
    run = artifacts.read_finished(paths, config)
    if run is None:
        raise ArtifactError(f"results: no finished run in {paths.folder}; train it first: vggkit train {config.name}")
    weights = artifacts.read_weights(paths)
    chosen = training.choose_device(device)
    splits = load(config, data).to(chosen)
    model = VGG.from_config(config)
    model.load_state_dict(weights)
    model.to(chosen)
    table = Table("split", "loss", "accuracy", "recorded loss", "recorded accuracy")
    for split, images in (("validation", splits.validation), ("test", splits.test)):
        loss, accuracy = training.evaluate(model, images, config, chosen)
        recorded = [run.summary["final"][f"{split}_{metric}"] for metric in ("loss", "accuracy")]
        table.add_row(split, *_cells([loss, accuracy, *recorded]))
    console.print(table)


@app.command()
def table(
    results: Results = DEFAULT_RESULTS,
    format: Annotated[str, typer.Option(help="terminal, markdown, csv or latex.")] = "terminal",
) -> None:
    """Print Table 1: the report's values and ours."""
    check_name("format", format, ("terminal", "markdown", "csv", "latex"))
    frame = tables.table1(tables.runs_by_seed(_existing(results)))
    if format != "terminal":
        print(tables.as_text(frame, format))
        return
    stacked = tables.stacked(frame)
    title = "Table 1: the report's value over ours"
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 1, 0), title=title, caption=tables.NOTE)
    for title in stacked.columns:
        shown.add_column(title, justify="left" if title in ("model", "runs") else "right")
    for row in stacked.itertuples(index=False):
        shown.add_row(*row)
    console.print(shown)


@app.command()
def sweep(
    names: Annotated[list[str] | None, typer.Argument(help="Configurations; by default all of Table 1.")] = None,
    suite: Annotated[str, typer.Option(help="Suite of the runs.")] = tables.FULL,
    seeds: Annotated[str, typer.Option(help="Seeds, as in 0,1,2 or 0-4.")] = "0",
    set_: Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE of every run; repeatable.")] = None,
    together: Annotated[int, typer.Option(help="Seeds of a configuration trained side by side.")] = 1,
    minutes: Annotated[float | None, typer.Option(help="Stop after the epoch in which these are over.")] = None,
    archives: Annotated[Path | None, typer.Option(help="Folder for each finished run as one small archive.")] = None,
    results: Results = DEFAULT_RESULTS,
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
    groups = order(names or list(CONFIGURATIONS), _seeds(seeds), together, **settings)

    def tell(config: RunConfig) -> training.Progress:
        def after_epochs(epoch: int, images: int, metrics: dict[str, Any] | None) -> None:
            if metrics:
                print(f"{config.name} seed {metrics['seed']} {_epoch_line(epoch, metrics)}", flush=True)

        return after_epochs

    for run in train_all(
        groups, results=results, archives=archives, minutes=minutes, progress=tell, data=data, device=device
    ):
        accuracy = run.summary["final"]["test_accuracy"]
        shown = "diverged" if run.summary["diverged"] else f"test accuracy {accuracy:.2%}"
        print(f"finished: {run.config.suite} {run.config.name} seed {run.config.seed}, {shown}", flush=True)


def _seeds(text: str) -> list[int]:
    """Read "0,1,2" or "0-4"."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        whole = first.isdecimal() and (not dash or last.isdecimal())
        if not whole or not 0 <= int(last or first) - int(first) < MOST_SEEDS:
            raise ConfigError(
                f"seeds: {text!r} is not allowed; allowed: integers as in 0,1,2 or 0-4, at most {MOST_SEEDS} in a row"
            )
        seeds += range(int(first), int(last or first) + 1)
    return seeds


@app.command()
def notebooks(
    names: Annotated[list[str] | None, typer.Argument(help="Configurations; by default all of Table 1.")] = None,
    results: Results = DEFAULT_RESULTS,
    output: Annotated[Path, typer.Option(help="Folder for the executed notebooks.")] = Path("book/runs"),
    source: Annotated[Path, typer.Option(help="Folder of the notebooks.")] = Path("notebooks"),
) -> None:
    """Execute the notebooks with Papermill: a page for each finished run, and the comparison."""
    from vggkit import execution  # needs the extra `book`

    for name in names or CONFIGURATIONS:
        check_name("configuration", name, CONFIGURATIONS)
    for page in execution.execute(names or list(CONFIGURATIONS), results=results, output=output, source=source):
        print(page)


@app.command("bench")
def bench_(
    seconds: Annotated[float, typer.Option(help="How long each way is timed in each round.")] = 5.0,
    rounds: Annotated[int, typer.Option(help="How often each way is timed, in turn.")] = 3,
    json: Annotated[Path | None, typer.Option(help="Write the figures to this file too.")] = None,
    device: Device = None,
) -> None:
    """Measure images/s of training for each model and precision beside a plain loop."""
    if not 0 < seconds < math.inf:
        raise ConfigError(f"seconds: {seconds!r} is not allowed; allowed: a finite number above 0")
    if rounds < 1:
        raise ConfigError(f"rounds: {rounds!r} is not allowed; allowed: an integer of at least 1")
    if json:
        bench.check_writable(json)  # before minutes of work
    measured = bench.measure(training.choose_device(device), seconds, rounds, lambda line: print(line, file=sys.stderr))
    shown = Table("model", "loop", "images/s", "× plain", "of the floor", title=measured["machine"])
    for row in measured["rows"]:
        numbers = f"{row['images_per_second']:,.0f}", f"{row['ratio']:.2f}", f"{row['floor_share']:.0%}"
        shown.add_row(row["model"], row["loop"], *numbers)
    console.print(shown)
    if json:
        bench.write(json, measured)


def _cells(metrics: list[float | None]) -> list[str]:
    """Losses and accuracies, in turn; a diverged run has no finite loss."""
    finite = [value if value is not None and math.isfinite(value) else None for value in metrics]
    return ["-" if v is None else f"{v:.2%}" if i % 2 else f"{v:.4f}" for i, v in enumerate(finite)]


def _print_summary(run: Run, folder: Path) -> None:
    table = Table("epoch", "train loss", "train acc", "val loss", "val acc", "test loss", "test acc")
    for which in ("final", "best"):
        if values := run.summary[which]:
            metrics = [
                values[f"{split}_{metric}"]
                for split in ("train", "validation", "test")
                for metric in ("loss", "accuracy")
            ]
            table.add_row(f"{values['epoch']} ({which})", *_cells(metrics))
    console.print(table)
    state = "diverged: the loss was not finite" if run.summary["diverged"] else "finished"
    console.print(f"{state}; {run.summary['images_per_second']:,.0f} images/s; see {folder}", soft_wrap=True)
