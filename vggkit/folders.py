"""Where data and results lie: one rule for the command line, the notebooks and the library.

In this order: the folder that was given, the folder that the environment variable names, and then the
project around the working directory. `~` is expanded here, where a path enters, and nowhere else.
"""

import os
from pathlib import Path

from vggkit.config import ConfigError

RESULTS_VARIABLE = "VGGKIT_RESULTS"
DATA_VARIABLE = "VGGKIT_DATA"

Given = str | os.PathLike[str] | None
"""A folder that somebody named, or None for the default."""


def results_folder(given: Given = None) -> Path:
    """The folder of results: `given`, else VGGKIT_RESULTS, else results/ of the project around.

    Raises:
        ConfigError: the folder that was given, or that the variable names, is that of one suite within results, or
            cannot be looked up.
    """
    named = _named(given, RESULTS_VARIABLE)
    if named and exists("results", named) and next(named.glob("*/seed-*/summary.json"), None):
        raise ConfigError(f"results: {named} is not allowed, a suite's folder; allowed: the one around it")
    return named or project_folder() / "results"


def data_folder(given: Given = None) -> Path:
    """The folder that holds cifar-100-python/: `given`, else VGGKIT_DATA, else data/ of the project around."""
    return _named(given, DATA_VARIABLE) or project_folder() / "data"


def data_is_named(given: Given = None) -> bool:
    """Whether somebody named the folder of the data, so that nothing may be downloaded to another one."""
    return _named(given, DATA_VARIABLE) is not None


def results_are_named(given: Given = None) -> bool:
    """Whether somebody named the folder of results, so that it must be there."""
    return _named(given, RESULTS_VARIABLE) is not None


def expanded(field: str, path: str | os.PathLike[str]) -> Path:
    """The path with `~` and `~name` as the home folders that they stand for.

    Raises:
        ConfigError: there is no such home folder, or no file can be called so; the message names `field`.
    """
    if "\0" in os.fspath(path):
        raise ConfigError(f"{field}: {os.fspath(path)!r} is not allowed; allowed: a path without null characters")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        allowed = "a path; ~ and ~name stand for home folders that exist"
        raise ConfigError(f"{field}: {os.fspath(path)!r} is not allowed; allowed: {allowed}") from error


def exists(field: str, path: Path) -> bool:
    """Whether something is at the path.

    Raises:
        ConfigError: that cannot be found out, as where the folder around it may not be entered or a name is too
            long; the message names `field`. `Path.exists` raises an OSError then, or says no.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{field}: {str(path)!r} cannot be looked up ({why}); allowed: a path that can") from error
    return True


def project_folder() -> Path:
    """The nearest folder from the working directory upwards that holds this project, else the working directory.

    A notebook is started in its own folder by some programs and in the project's by others; both find
    the same data and the same finished runs.
    """
    here = Path.cwd()
    marks = ("pyproject.toml", "vggkit")
    return next((folder for folder in (here, *here.parents) if all((folder / m).exists() for m in marks)), here)


def _named(given: Given, variable: str) -> Path | None:
    """The folder that was given or that the variable names; an empty text names none."""
    name = os.fspath(given) if given is not None else ""
    name = name or os.environ.get(variable, "")
    return expanded("results" if variable == RESULTS_VARIABLE else "data", name) if name else None
