"""What the notebooks call: read their parameters strictly, find or train the run, describe it."""

import ast
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pandas as pd

from vggkit import folders
from vggkit.config import ConfigError, RunConfig, check_name
from vggkit.report.markup import Html, as_html, as_markdown
from vggkit.report.prose import run_settings
from vggkit.report.render import html, number
from vggkit.runs.files import ArtifactError, RunPaths, check_same
from vggkit.runs.records import Run, segments
from vggkit.runs.select import all_runs, is_full, representative_runs
from vggkit.runs.store import read_run
from vggkit.study import CONFIGURATIONS, SUITES, title

SETTINGS = tuple(field.name for field in fields(RunConfig))
PARAMETERS = ("configuration", *SETTINGS, "train", "data", "results")
INJECTED = "# Parameters\n"  # how Papermill's injected cell begins
_TYPES = get_type_hints(RunConfig)


def markdown(text: str | None) -> Any:
    """Text for a page, as IPython shows it; None, which it does not show, where there is nothing to say.

    IPython itself would show an empty text as the name of its class.
    """
    from IPython.display import Markdown  # of the extra `book`, which reading runs does without

    return Markdown(text) if text else None


def run(variables: Mapping[str, Any]) -> Run:
    """The run that the parameters in the notebook's `variables` name: the finished one, else trained now.

    What is finished is loaded, in the precision in which it was trained unless one is asked for. In a suite
    of the book, where a finished run is expected, and where `train` is false, nothing is trained unasked:
    a run may take hours. A wrong parameter ends the notebook with a one-line error.

    Raises:
        ConfigError, data.DataError, files.ArtifactError: as `runner.train`; ArtifactError also where
            there is no finished run and none is to be trained.
    """
    refuse_unknown(variables, PARAMETERS)
    config, wanted = configuration(variables), _flag("train", variables.get("train"))
    results, data = results_folder(variables.get("results")), text("data", variables.get("data"))
    place = RunPaths.of(results, config).folder
    if folders.exists("results", place):
        found = read_run(place)
        asked = setting("precision", variables.get("precision")) is not None
        check_same(found.config, config if asked else replace(config, precision=found.config.precision), place)
        if found.config != config:
            print(
                f"Loaded the finished run in {place}, which was trained in {found.config.precision}; for another "
                f"precision name it and another suite, as in: -p precision {config.precision} -p suite local"
            )
        return found
    if wanted or (wanted is None and config.suite not in SUITES):
        from vggkit.training.runner import train  # and with it torch, which takes seconds and reading needs not

        return train(config, results=results, data=data)
    raise ArtifactError(
        f"results: no finished run in {place}; to train it, which may take hours, give -p train true, "
        "or name the folder that holds it: -p results FOLDER"
    )


def comparison(variables: Mapping[str, Any]) -> tuple[dict[str, list[Run]], int]:
    """All finished runs that the book shows, by configuration, and the seed that the figure shows.

    Raises:
        ConfigError: a parameter in the notebook's `variables` is unknown or unusable.
        ArtifactError: there is no such run.
    """
    refuse_unknown(variables, ("first", "second", "seed", "results"))
    seed, results = setting("seed", variables.get("seed")) or 0, results_folder(variables.get("results"))
    RunConfig(seed=seed)  # checks it
    every = all_runs(results)
    if not any(run.config.seed == seed for group in every.values() for run in group):
        seeds = sorted({run.config.seed for group in every.values() for run in group})
        there = f"finished are seeds {', '.join(map(str, seeds))}" if seeds else "name the folder that holds some"
        raise ArtifactError(f"results: no finished run with seed {seed} in {results}; {there}")
    return every, seed


def results_folder(given: Any = None) -> Path:
    """The folder of results that a parameter names, else the default, see `folders`.

    Raises:
        ConfigError: the parameter is no text.
    """
    return folders.results_folder(text("results", given))


def configuration(variables: Mapping[str, Any]) -> RunConfig:
    """The configuration that the parameters in the notebook's `variables` name.

    Raises:
        ConfigError: a parameter is unusable.
    """
    settings = {name: setting(name, variables.get(name)) for name in SETTINGS}
    given = {name: value for name, value in settings.items() if value is not None}
    return RunConfig.named(str(text("configuration", variables.get("configuration"))), **given)


def setting(name: str, value: Any) -> Any:
    """A field's value as Papermill delivered it, read by the field's type; None is the configuration's own.

    Papermill guesses types: `2024` comes as a number though a suite's name is text, YAML's `1e-2` and the
    command line's `true` come as text.

    Raises:
        ConfigError: it is no value of the field's type.
    """
    kinds = get_args(_TYPES[name]) or (_TYPES[name],)
    if str in kinds:
        return text(name, value)
    if isinstance(value, str):
        return None if value.lower() == "none" else RunConfig.from_text(name, value)
    return value


def text(name: str, value: Any) -> str | None:
    """A parameter that is text; an integer is taken for its digits.

    Raises:
        ConfigError: it came as something else, of which the text cannot be told any more: `1e3`, `True`.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    raise ConfigError(f"{name}: {value!r} is not allowed; allowed: text (papermill -r {name} TEXT takes it as it is)")


def _flag(name: str, value: Any) -> bool | None:
    words = {"true": True, "false": False, "none": None}
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ConfigError(f"{name}: {value!r} is not allowed; allowed: true, false or none")


def refuse_unknown(variables: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise ConfigError for a parameter that Papermill injected and the notebook does not have.

    Papermill only warns about it, and the run would go on with the defaults.
    """
    for cell in variables.get("In", []):
        if cell.startswith(INJECTED):
            for statement in ast.parse(cell).body:
                for target in getattr(statement, "targets", []):
                    check_name("parameter", ast.unparse(target), known)


def heading(run: Run) -> str:
    """In a sentence: what the run is, and whether it is one of Table 1's full runs."""
    kind = "the settings of Table 1" if is_full(run) else "**not a full run of Table 1**"
    state = " **Diverged: the loss was not finite.**" if run.summary["diverged"] else ""
    name = as_markdown(title(run.config.name))
    return f"**{name}**, suite `{run.config.suite}`: {run_settings(run)} ({kind}).{state}"


def settings_table(run: Run) -> Html:
    """The settings in which the run differs from the defaults, as HTML, and in a line below those that it shares."""
    rows = [
        {"setting": f.name, "this run": str(getattr(run.config, f.name)), "default": str(f.default)}
        for f in fields(RunConfig)
    ]
    own = [row for row in rows if row["this run"] != row["default"]]
    shared = ", ".join(f"{as_html(row['setting'])} {as_html(row['default'])}" for row in rows if row not in own)
    return html(pd.DataFrame(own), "Settings", f"As by default: {shared}. The API reference says what each is.")


def runs_index(results: Path) -> Html:
    """The runs that have a page beside this one, as HTML: what each is, and how it ended."""
    rows = []
    for name, run in representative_runs(results).items():
        end = run.summary["final"]["validation_accuracy"]
        rows.append(
            {
                "run": f'<a href="{as_html(name)}.html">{as_html(title(name))}</a>',
                "suite": as_html(run.config.suite),
                "epochs": str(run.config.epochs),
                "images": f"{run.summary['train_images']:,}",
                "val acc %": number(None if end is None else 100 * end),
            }
        )
    frame = pd.DataFrame(rows)
    classes = pd.DataFrame("", index=frame.index, columns=frame.columns)
    classes[["run", "suite"]] = "text"
    return html(frame, "Runs", "Validation accuracy after the last epoch, seed 0.", classes=classes, markup=True)


def settings_reference() -> Html:
    """Every setting of a run with its default and meaning, as HTML."""
    rows = []
    for field in fields(RunConfig):
        choices = field.metadata["choices"]
        meaning = field.metadata["help"] + (f"; one of {', '.join(choices)}" if choices else "")
        rows.append({"setting": field.name, "default": str(field.default), "meaning": meaning})
    return html(pd.DataFrame(rows), "Settings")


def again(run: Run) -> str:
    """The command that trains the run once more, beside it, and how long that took here, as Markdown."""
    own = run.config
    name = max((name for name in CONFIGURATIONS if own.name.startswith(name)), key=len, default="vgg38")
    there = RunConfig.named(name)
    given = {f.name: getattr(own, f.name) for f in fields(RunConfig) if getattr(own, f.name) != getattr(there, f.name)}
    options = " ".join(f"--{field.replace('_', '-')} {value}" for field, value in (given | {"suite": "again"}).items())
    minutes = max(1, round(run.summary["wall_seconds"] / 60))
    machine, threads = run.summary["device"] or "an unknown machine", run.summary["threads"]
    return (
        f"```bash\nvggkit train {name} {options}\n```\n\n"
        f"It takes about {minutes:,} minute{'s' * (minutes > 1)} on the machine that trained this run "
        f"({as_markdown(machine)}, {threads} thread{'s' * (threads != 1)}); `vggkit plan` tells what it takes on yours."
    )


def provenance(run: Run) -> str:
    """Where the run's files lie, which code and machines made them, and from which data."""
    summary, folder = run.summary, RunPaths.of("results", run.config).folder
    files = "\n".join(f"- `{folder / name}` (SHA-256 `{digest[:12]}…`)" for name, digest in summary["files"].items())
    files += f"\n- `{folder / 'summary.json'}`, which holds these checksums"
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
    together = part.get("together", 1)
    beside = f", beside {together - 1} other network{'s' * (together > 2)}" * (together > 1)
    return (
        f"commit `{(part['commit'] or 'unknown')[:12]}` on {part['device'] or 'an unknown machine'}, "
        f"{part['threads'] or 'unknown'} thread{'s' * (part['threads'] != 1)}{beside}"
    )
