"""Executes the notebooks with Papermill, once per finished run, into pages free of paths and litter."""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
import papermill

from vggkit.folders import RESULTS_VARIABLE, exists, expanded, results_folder
from vggkit.runs.files import ArtifactError, make_folder, replace_file
from vggkit.runs.select import representative_runs
from vggkit.site.executed import METADATA, shown_runs
from vggkit.site.pairing import bring_together
from vggkit.study import FULL, title

RUN, COMPARISON = "run.ipynb", "comparison.ipynb"


def execute(
    names: Sequence[str] | None = None, *, results: str | os.PathLike[str], output: Path, source: Path
) -> Iterator[Path]:
    """Execute the run notebook for each configuration and then the comparison; yield each page.

    Without names, the configurations that have a run of seed 0 in a suite that the book shows.

    Notebooks that lie beside their text are brought up to date with it first.

    Raises:
        ArtifactError: a configuration has no finished run, the notebooks are not in `source`, or a notebook
            and its text were both edited.
    """
    output, source = expanded("output", output), expanded("source", source)
    results = results_folder(results)
    for notebook in (RUN, COMPARISON):
        if exists("source", source / notebook):
            bring_together(source / notebook)
        if not (source / notebook).is_file():
            raise ArtifactError(f"source: no {notebook} in {source}; name the folder of the notebooks")
    runs = representative_runs(results)
    names = list(runs) if names is None else names
    for name in names:
        if name not in runs:
            how = f"vggkit train {name} --suite {FULL}"
            raise ArtifactError(f"results: no finished run of {name} in {results}; train it first: {how}")
    make_folder("output", output)
    for name in names:
        config = runs[name].config
        parameters = {"configuration": name, "suite": config.suite, "precision": config.precision}
        yield execute_page(source / RUN, output / f"{name}.ipynb", results, parameters)
    yield execute_page(source / COMPARISON, output / COMPARISON, results, {})


def execute_page(source: Path, page: Path, results: Path, parameters: dict[str, Any]) -> Path:
    """Execute the notebook `source` with `parameters` into `page`, which is written whole or not at all."""
    before = os.environ.get(RESULTS_VARIABLE)
    os.environ[RESULTS_VARIABLE] = str(results.resolve())  # the kernel inherits it
    try:
        with tempfile.TemporaryDirectory() as folder:
            executed = Path(folder, page.name)
            quiet = ["--IPKernelApp.log_level=ERROR"]  # else each kernel warns of how it talks to its client
            papermill.execute_notebook(
                source, executed, parameters=parameters, progress_bar=False, cwd=source.parent, extra_arguments=quiet
            )
            notebook = nbformat.read(executed, as_version=4)
    finally:
        if before is None:
            del os.environ[RESULTS_VARIABLE]
        else:
            os.environ[RESULTS_VARIABLE] = before
    clean(notebook, parameters.get("configuration"))
    notebook.metadata[METADATA] = {"runs": shown_runs(results, page.stem)}
    replace_file(page, (nbformat.writes(notebook) + "\n").encode())
    return page


def clean(notebook: nbformat.NotebookNode, configuration: str | None = None) -> None:
    """Take out what differs between machines and calls, and show of the parameters those that Papermill injected.

    The page of a configuration has its title.
    """
    kernel = notebook.metadata.get("kernelspec", {})
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    injected = any("injected-parameters" in cell.metadata.get("tags", []) for cell in notebook.cells)
    for index, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "markdown" and configuration:
            cell.source = re.sub(r"^# .+$", f"# {title(configuration)}", cell.source, count=1, flags=re.M)
        hidden = ["remove-cell"] if "parameters" in tags and injected else []
        cell.metadata = nbformat.from_dict({"tags": [*tags, *hidden]} if tags or hidden else {})
        cell.id = f"cell-{index}"
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.output_type != "stream"]
