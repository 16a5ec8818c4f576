"""The command line: `main` runs a command and ends with its status. Every mistake is one line and exit status 2."""

import signal
import sys
from typing import Any, cast

import typer

# The modules of commands are imported because that adds their commands to `app`.
from vggkit.cli import imports, machine, planning, propagation, results, terminal, training, trust  # noqa: F401
from vggkit.cli.options import MISTAKE, Stop, app
from vggkit.config import OneLineError
from vggkit.study import CONFIGURATIONS

TRAINING = ("train", "sweep")
NUMBERS = {"int": "an integer", "float": "a number"}
"""By how pydantic, with which typer reads an option, begins the name of what is wrong: what it should have been."""
INTERRUPTED = 128 + signal.SIGINT  # a shell's status of a command ended by Ctrl-C


def main() -> None:
    """Run the command line; a mistake is one line on stderr and exit status 2, a signal is 128 + its number."""
    with terminal.stop_signals() as received, terminal.careful_output() as output, terminal.one_line_warnings():
        try:
            status, message = _call()
            failed, told = output.status()
        except (typer.Abort, KeyboardInterrupt):
            status, message, failed, told = INTERRUPTED, "", 0, ""
        if status == INTERRUPTED:  # some versions of typer return it instead of raising
            status, message = 128 + (received or [signal.SIGINT])[0], _stopped()
        if not status:
            status, message = failed, told
        if message:
            terminal.tell(message)
    sys.exit(status)


def _call() -> tuple[int, str]:
    """Exit status and message of the command."""
    try:
        status = app(standalone_mode=False)
    except OneLineError as error:
        return MISTAKE, str(error)
    except Stop as error:
        return error.status, str(error)
    except Exception as error:
        if not hasattr(error, "format_message"):  # what every wrong use of an option has
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help, in many lines
            print(error.format_message(), file=sys.stderr)
            return MISTAKE, ""
        return MISTAKE, _wrong_use(error)
    return status if isinstance(status, int) else 0, ""


def _stopped() -> str:
    if sys.argv[1:] and sys.argv[1] in TRAINING:
        return "stopped; finished epochs are kept: run the same command again to go on"
    return "stopped"


def _wrong_use(error: Any) -> str:
    """What typer says, and what is allowed where it does not say it."""
    command: Any = getattr(getattr(error, "ctx", None), "command", None)
    message: str = error.format_message()
    unknown = hasattr(error, "possibilities")
    if unknown and not set(error.possibilities or ()) - {"--help"}:
        options = [name for parameter in command.params for name in parameter.opts if name.startswith("--")]
        return f"{error.message}; allowed: {', '.join([*options, '--help'])}"
    if hasattr(error, "option_name") and not unknown:  # an option lacks its value, or one that takes none has one
        return f"{message.rstrip('.')}; allowed: {_value_of(error.option_name)}"
    if hasattr(command, "commands") and message.startswith("No such command"):
        return f"{message.rstrip('.')}; allowed: {', '.join(command.commands)}"
    for found in error.__cause__.errors() if hasattr(error.__cause__, "errors") else ():
        if allowed := NUMBERS.get(found["type"].split("_")[0]):
            return f"{error.param.name}: {found['input']!r} is not allowed; allowed: {allowed}"
    if getattr(getattr(error, "param", None), "name", None) == "name":
        return f"{message.rstrip('.')}; allowed: {', '.join(CONFIGURATIONS)}"
    if message.startswith("Got unexpected extra argument"):
        arguments = [parameter.name for parameter in command.params if not parameter.opts[0].startswith("-")]
        return f"{message}; allowed: {', '.join(arguments) or 'options alone'}"
    if message.startswith("Missing argument"):  # the help of an argument says what may stand for it
        return f"{message.rstrip('.')}; allowed: {error.param.help}"
    return message


def _value_of(option: str) -> str:
    """What its help says an option takes, of the command that was called; the error does not say which one that is."""
    commands: Any = cast(Any, typer.main.get_command(app)).commands
    taking = [one for one in getattr(commands.get(sys.argv[1]), "params", []) if not getattr(one, "is_flag", True)]
    return next((one.help for one in taking if option in one.opts), f"{option} alone")
