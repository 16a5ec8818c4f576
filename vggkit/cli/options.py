"""What the commands share: the application, the options that several have, and how an argument is read.

Only what parses a command is imported here and in the modules of commands; each command imports what it needs,
since torch alone takes seconds.
"""

import contextlib
import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from vggkit import folders
from vggkit.cli import terminal
from vggkit.config import ConfigError, RunConfig
from vggkit.folders import DATA_VARIABLE, RESULTS_VARIABLE, results_folder
from vggkit.study import CONFIGURATIONS, SUITES

MISTAKE = 2
"""Exit status of a command that was called wrongly or found something wrong."""

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
Name = Annotated[
    str,
    typer.Argument(
        help=f"One of {', '.join(CONFIGURATIONS)}, or what vggkit list calls a run of the study, as vgg20_bn.",
        metavar="NAME",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


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
        config = RunConfig.named(name, **settings)
        check_suite(config.suite, results)
        command(config, results_folder(results), data, device)

    own = [p for p in inspect.signature(call).parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = []
    for field in fields(RunConfig):
        kind = getattr(field.type, "__name__", str(field.type))
        choices = field.metadata["choices"]
        option = typer.Option(
            callback=_checked(field.name),  # before it is told that something is left over
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


def check_suite(suite: str, results: str | None) -> None:
    """Refuse a new suite that is named nearly as one of the study, and doubt one that is named as a run is.

    Hours may be meant for another. A suite that has its folder in `results` is no new one, however it is named.

    Raises:
        ConfigError: the suite is a new one, named nearly as one of the study.
    """
    folder = results_folder(results) / suite
    if suite in SUITES or folder.is_dir():
        return
    if near := difflib.get_close_matches(suite.lower(), SUITES, n=1, cutoff=0.8):
        raise ConfigError(
            f"unknown suite {suite!r}: did you mean {near[0]}? allowed: {', '.join(SUITES)}, a new name less like "
            f"these, or any for which you have made a folder, {folder}"
        )
    with contextlib.suppress(ConfigError):
        RunConfig.named(suite)
        terminal.tell(
            f"suite: {suite!r} is a new one, with no settings of its own; it names a run, was that meant as NAME?"
        )


def _checked(field: str) -> Callable[[str | None], str | None]:
    def check(text: str | None) -> str | None:
        if text is not None:
            RunConfig.from_text(field, text)
        return text

    return check


def existing(given: str | None) -> Path:
    """The folder of results, which may lack only where nobody named it: then no run is finished yet."""
    from vggkit.runs.files import ArtifactError

    results = results_folder(given)
    there = folders.exists("results", results)
    if not results.is_dir() and (there or folders.results_are_named(given)):
        raise ArtifactError(f"results: no folder {results}; name one that exists by --results")
    if not there:
        terminal.tell(f"results: no folder {results} yet, so no run is finished; --results names another")
    return results


def field_values(given: Iterable[str], elsewhere: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Read the values of --set, FIELD=VALUE, by the fields' types.

    Args:
        given: the texts.
        elsewhere: fields that the command takes otherwise, and by what.

    Raises:
        ConfigError: one is not of this form, or its field or value is not allowed.
    """
    settings = {}
    for item in given:
        field, equals, text = item.partition("=")
        if not equals:
            raise ConfigError(f"set: {item!r} is not allowed; allowed: FIELD=VALUE, as in --set precision=bfloat16")
        if field in elsewhere:
            raise ConfigError(f"set: {item!r} is not allowed; allowed: any other field; {elsewhere[field]} gives it")
        settings[field] = RunConfig.from_text(field, text)
    return settings
