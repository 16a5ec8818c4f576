"""Commands on finished runs: what there is, how good it is, and the pages made of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vggkit import folders
from vggkit.cli import terminal
from vggkit.cli.options import MISTAKE, Results, Stop, app, existing, run_command
from vggkit.config import RunConfig, check_name
from vggkit.folders import results_folder
from vggkit.runs.records import metric_of
from vggkit.runs.schema import MEASURED
from vggkit.study import CONFIGURATIONS

if TYPE_CHECKING:
    from vggkit.runs.records import Run


@app.command("list")
def list_(results: Results = None) -> None:
    """Show the named configurations and which runs are finished or begun, those with changed settings too."""
    from vggkit.cli.imports import show_imported
    from vggkit.runs import store
    from vggkit.runs.files import begun, seed_of

    folder = existing(results)
    finished: dict[str, list[RunConfig]] = {name: [] for name in CONFIGURATIONS}
    damaged: list[Exception] = []
    for run in store.find_runs(folder, damaged=damaged.append):
        finished.setdefault(run.config.name, []).append(run.config)
    rows = []
    for name, configs in finished.items():
        config = configs[0] if configs else RunConfig.named(name)
        where = ", ".join(f"{c.suite} {c.seed}" for c in configs) or "none"
        rows.append((name, f"{config.learning_rate:g}", f"{config.parameters:,}", where))
    terminal.show_table(("configuration", "learning rate", "parameters", "finished runs (suite, seed)"), rows)
    if under_way := begun(folder):
        runs = "; ".join(f"{suite} {name} {seed_of(seed)}" for suite, name, seed in under_way)
        print(terminal.one_line(f"begun (suite, run, seed): {runs}; the command that began one goes on with it"))
    show_imported(folder)
    for error in damaged[:-1]:
        terminal.tell(str(error))
    if damaged:
        raise Stop(str(damaged[-1]), MISTAKE)


@run_command
def evaluate(config: RunConfig, results: Path, data: str | None, device: str | None) -> None:
    """Evaluate the weights of a finished run anew, beside what it recorded."""
    from vggkit.runs import store
    from vggkit.runs.files import ArtifactError, RunPaths

    paths = RunPaths.of(results, config)
    run = store.read_finished(paths, config)
    if run is None:
        raise ArtifactError(
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
    if splits.checksum != run.summary["data_sha256"]:
        raise ArtifactError(
            f"data: these images have SHA-256 {splits.checksum[:12]}..., the run was trained on "
            f"{run.summary['data_sha256'][:12]}...; name the folder that holds those"
        )
    warn_of_emulation(compute)
    model = VGG.from_config(config)
    model.load_state_dict(weights)
    model.to(compute.device)
    rows = []
    for split, images in (("validation", splits.validation), ("test", splits.test)):
        with compute.process_settings():
            loss, accuracy = measured_on(model, images, compute)
        recorded = [metric_of(run.summary["final"], f"{split}_{metric}") for metric in ("loss", "accuracy")]
        rows.append((split, *terminal.cells([loss, accuracy, *recorded])))
    terminal.show_table(("split", "loss", "accuracy", "recorded loss", "recorded accuracy"), rows)


@app.command()
def table(
    results: Results = None,
    format: Annotated[str, typer.Option(help="terminal, markdown, csv or latex.")] = "terminal",
) -> None:
    """Print Table 1: the report's values and ours."""
    check_name("format", format, ("terminal", "markdown", "csv", "latex"))
    from vggkit.report import render, tables
    from vggkit.runs.select import fullest_runs

    frame = tables.table1(fullest_runs(existing(results)))
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

        from vggkit.site import notebooks
    except ImportError as error:
        missing = f"notebooks: {error.name} is not installed; install the book's packages: pip install 'vggkit[book]'"
        raise Stop(missing, MISTAKE) from error
    try:
        for page in notebooks.execute(names, results=results_folder(results), **where):
            print(page, flush=True)
    except PapermillExecutionError as error:  # its message is the cell's whole traceback
        raise Stop(f"notebooks: a cell failed with {error.ename}: {error.evalue}", MISTAKE) from error


def print_summary(run: "Run", folder: Path, *, before: bool = False) -> None:
    """What a run reached and where it is kept; `before` says that it was finished before it was asked for."""
    rows = []
    for which, values in (("final", run.summary["final"]), ("best", run.summary["best"])):
        if values:
            metrics = [metric_of(values, name) for name in MEASURED]
            rows.append((f"{values['epoch']} ({which})", *terminal.cells(metrics)))
    terminal.show_table(("epoch", "train loss", "train acc", "val loss", "val acc", "test loss", "test acc"), rows)
    state = "diverged: the loss was not finite" if run.summary["diverged"] else "finished"
    state += " before, so that nothing was trained now" * before
    print(terminal.one_line(f"{state}; {run.summary['images_per_second']:,.0f} images/s; see {folder}"))
