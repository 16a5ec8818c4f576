"""Commands on runs made elsewhere, with the course's framework: they are kept and shown apart from our own."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vggkit import folders
from vggkit.cli import terminal
from vggkit.cli.options import Data, Device, Results, app, existing, field_values
from vggkit.config import ConfigError, RunConfig, check_name
from vggkit.study import CONFIGURATIONS
from vggkit.training.order import seed_list

ImportedName = Annotated[str, typer.Option("--name", help="Name of the imported run.", metavar="NAME")]
ImportedSuite = Annotated[str, typer.Option("--suite", help="Folder in results/imported/.", metavar="SUITE")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="FIELD=VALUE, a setting of the run as far as it is known; repeatable."),
]


@app.command("import-summary")
def import_summary(
    file: Annotated[str, typer.Argument(help="The framework's summary.csv.", metavar="FILE")],
    name: ImportedName,
    suite: ImportedSuite = "course",
    configuration: Annotated[
        str | None, typer.Option(help=f"Which network it is of: one of {', '.join(CONFIGURATIONS)}.", metavar="NAME")
    ] = None,
    set_: Settings = None,
    accuracies: Annotated[
        str | None,
        typer.Option(
            help="Whether the file's accuracies are shares or per cent, where it is not clear.", metavar="share|percent"
        ),
    ] = None,
    repeated: Annotated[
        str | None, typer.Option(help="Epochs that the file has twice since the run was resumed, as in 37,52.")
    ] = None,
    results: Results = None,
) -> None:
    """Keep a run of the course's framework, made elsewhere, as an imported run that is shown beside ours."""
    from vggkit.runs import imported

    run, notes = imported.import_summary(
        file,
        name=name,
        suite=suite,
        configuration=configuration,
        settings=field_values(set_ or []),
        accuracies=accuracies,
        repeated=seed_list(repeated, "repeated") if repeated is not None else (),
        results=results,
    )
    for note in notes:
        print(terminal.one_line(note))
    print(f"{len(run.rows)} epoch{'s' * (len(run.rows) != 1)} kept in {imported.file_of(results, suite, name)}")


@app.command("import-weights")
def import_weights(
    file: Annotated[str, typer.Argument(help="The framework's train_model_<epoch>.", metavar="FILE")],
    name: ImportedName,
    configuration: Annotated[
        str, typer.Option(help=f"Which network it is of: one of {', '.join(CONFIGURATIONS)}.", metavar="NAME")
    ],
    suite: ImportedSuite = "course",
    set_: Settings = None,
    evaluate: Annotated[bool, typer.Option("--evaluate", help="Test the network on CIFAR-100's test images.")] = False,
    results: Results = None,
    data: Data = None,
    device: Device = None,
) -> None:
    """Keep weights of the course's framework as those of our network, which VGG.from_run loads."""
    check_name("configuration", configuration, CONFIGURATIONS)
    settings = field_values(set_ or [])

    from vggkit.runs import imported_weights

    kept = imported_weights.import_weights(
        file, name=name, configuration=configuration, suite=suite, settings=settings, results=results
    )
    print(f"kept in {kept}", flush=True)
    row = CONFIGURATIONS[configuration].settings
    if row["batch_norm"] or row["residual"]:
        terminal.tell(imported_weights.ASSUMED + ("" if evaluate else "; --evaluate shows whether it was so"))
    if evaluate:
        _evaluate(kept, data, device)


def _evaluate(weights: Path, data: str | None, device: str | None) -> None:
    from vggkit.data import load
    from vggkit.networks.vgg import VGG
    from vggkit.training.compute import Compute
    from vggkit.training.evaluation import evaluate

    compute = Compute.resolve("float32", device)
    images = load(RunConfig(), data).to(compute.device).test
    with compute.process_settings():
        measured = evaluate(VGG.from_run(weights).to(compute.device), images, compute)
    terminal.show_table(("split", "loss", "accuracy"), [("test", *terminal.cells(list(measured)))])


@app.command("imported")
def imported_(
    names: Annotated[list[str] | None, typer.Argument(help="SUITE/NAME of imported runs; by default all.")] = None,
    results: Results = None,
    format: Annotated[str, typer.Option(help="terminal, markdown, csv or latex.")] = "terminal",
    figure: Annotated[
        str | None, typer.Option(help="Draw the learning curves into this file too, ours beside.", metavar="FILE.png")
    ] = None,
) -> None:
    """Show imported runs beside the report's values and ours."""
    check_name("format", format, ("terminal", "markdown", "csv", "latex"))
    path = folders.expanded("figure", figure) if figure else None
    if path and path.suffix != ".png":
        raise ConfigError(f"figure: {figure!r} is not allowed; allowed: a name that ends in .png")

    from vggkit.report import render, tables
    from vggkit.runs import imported
    from vggkit.runs.files import check_writable
    from vggkit.runs.select import fullest_runs

    folder = existing(results)
    if path:
        check_writable("figure", path)  # before all is read
    found = {f"{run.suite}/{run.name}": run for run in imported.find_imported(folder)}
    for name in names or ():
        check_name("imported run", name, found)
    if not found:
        raise ConfigError("imported run: there is none yet; vggkit import-summary keeps one")
    chosen = [found[name] for name in names or found]
    if path:
        _draw(path, chosen, folder)  # which may be refused, before the table is printed
    frame = tables.imported_table(chosen, fullest_runs(folder))
    text = render.imported_text(frame)
    if format == "csv":
        print(frame.drop(columns="reduced").to_csv(index=False, float_format="%.6g").rstrip())
    elif format == "markdown":
        print(render.markdown(text))
    elif format == "latex":
        print(render.latex(text))
    else:
        note = render.NOTE if frame["reduced"].any() else None
        terminal.show_table(
            list(text.columns), text.itertuples(index=False), right=("epochs", "report", "ours", "imported"), note=note
        )
    if path:
        terminal.tell(f"drawn in {path}")


def _draw(path: Path, chosen: list[Any], folder: Path) -> None:
    """The learning curves of imported runs, with our runs of the same configurations in one suite."""
    from vggkit.report import figures
    from vggkit.runs.files import keep_file
    from vggkit.runs.select import all_runs, one_suite

    own = one_suite(all_runs(folder), dict.fromkeys(run.configuration for run in chosen if run.configuration))
    keep_file(path, figures.curves(list(own.values()), chosen).png, field="figure")


def show_imported(folder: Path) -> None:
    """A line for each imported run, below what `list` shows of ours; nothing where there is none."""
    from vggkit.runs.imported import find_imported

    rows = []
    for run in find_imported(folder):
        accuracy = run.final["validation_accuracy"]
        state = f"{len(run.rows)}{' (diverged)' if run.diverged else ''}"
        rows.append((f"{run.suite}/{run.name}", run.model, state, *terminal.cells([None, accuracy])[1:]))
    if rows:
        terminal.show_table(("imported run (suite/name)", "model", "epochs", "val acc"), rows)
