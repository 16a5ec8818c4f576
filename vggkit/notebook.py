"""What the notebooks call: read their parameters strictly, find or train the run, describe it."""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import pandas as pd

from vggkit.artifacts import Run, RunPaths, segments
from vggkit.config import RunConfig, check_name
from vggkit.folders import results_folder
from vggkit.tables import TITLES, is_full, run_settings
from vggkit.training import train

SETTINGS = tuple(field.name for field in fields(RunConfig))
PARAMETERS = ("configuration", *SETTINGS, "data", "results")
INJECTED = "# Parameters\n"  # how Papermill's injected cell begins


def run(variables: Mapping[str, Any]) -> Run:
    """The run that the parameters in the notebook's `variables` name, trained where it is not finished.

    A wrong parameter ends the notebook with a one-line error.

    Raises:
        ConfigError, data.DataError, artifacts.ArtifactError: as `training.train`.
    """
    refuse_unknown(variables, PARAMETERS)
    settings = {name: variables[name] for name in SETTINGS if variables.get(name) is not None}
    config = RunConfig.named(variables["configuration"], **settings)
    return train(config, results=results_folder(variables.get("results")), data=variables.get("data"))


def refuse_unknown(variables: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise ConfigError for a parameter that Papermill injected and the notebook does not have.

    Papermill only warns about it, and the run would go on with the defaults.
    """
    for cell in variables.get("In", []):
        if cell.startswith(INJECTED):
            for statement in ast.parse(cell).body:
                for target in getattr(statement, "targets", []):
                    check_name("parameter", target.id, known)


def heading(run: Run) -> str:
    """In a sentence: what the run is, and whether it is one of Table 1's full runs."""
    kind = "the settings of Table 1" if is_full(run) else "**not a full run of Table 1**"
    state = " **Diverged: the loss was not finite.**" if run.summary["diverged"] else ""
    name = TITLES.get(run.config.name, run.config.name)
    return f"**{name}**, suite `{run.config.suite}`: {run_settings(run)} ({kind}).{state}"


def settings_table(run: Run) -> str:
    """Every setting with its value and meaning, as HTML."""
    rows = [
        {"setting": f.name, "value": str(getattr(run.config, f.name)), "meaning": f.metadata["help"]}
        for f in fields(RunConfig)
    ]
    return _html_table(rows)


def settings_reference() -> str:
    """Every setting of a run with its default and meaning, as HTML."""
    rows = []
    for field in fields(RunConfig):
        choices = field.metadata["choices"]
        meaning = field.metadata["help"] + (f"; one of {', '.join(choices)}" if choices else "")
        rows.append({"setting": field.name, "default": str(field.default), "meaning": meaning})
    return _html_table(rows)


def _html_table(rows: list[dict[str, str]]) -> str:
    with pd.option_context("display.max_colwidth", None):  # pandas would cut the meanings short
        return pd.DataFrame(rows).to_html(index=False, border=0, justify="left")


def provenance(run: Run) -> str:
    """Where the run's files lie, which code and machines made them, and from which data."""
    summary, folder = run.summary, RunPaths.of("results", run.config).folder
    files = "\n".join(f"- `{folder / name}` (SHA-256 `{digest[:12]}…`)" for name, digest in summary["files"].items())
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    parts = segments(run)
    made = f"Trained at {_maker(parts[0])}, {versions}"
    if len(parts) > 1:
        fused = {None: "", True: ", fused", False: ", not fused"}
        lines = [
            f"- epochs {part['first_epoch']} to {part['last_epoch']}: {_maker(part)}, "
            f"torch {part['torch'] or 'unknown'}, {part['precision']}{fused[part['fused']]}"
            for part in parts
        ]
        made = "\n".join([f"Trained in {len(parts)} segments, at the end with {versions}:\n", *lines, "\nTogether"])
    return (
        f"{files}\n\n{made}, in {summary['wall_seconds'] / 60:.0f} minutes "
        f"({summary['images_per_second']:,.0f} images/s in training). Images: SHA-256 `{summary['data_sha256'][:12]}…`."
    )


def _maker(part: Mapping[str, Any]) -> str:
    return (
        f"commit `{(part['commit'] or 'unknown')[:12]}` on {part['device'] or 'an unknown machine'}, "
        f"{part['threads'] or 'unknown'} threads"
    )
