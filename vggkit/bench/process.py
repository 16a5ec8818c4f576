"""A function called in a process of its own, which is killed where it does not answer in time."""

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from vggkit.config import OneLineError

GRACE = 5.0  # seconds for a process to end by itself


class ProcessError(OneLineError):
    """The process gave no answer, or an error; the message is one line that says why."""


def in_own_process(function: Callable[..., Any], *arguments: Any, limit: float) -> Any:
    """What `function` returns in a new process, which is killed after `limit` seconds.

    Raises:
        ProcessError: it took longer, failed, or ended without an answer.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, arguments))
    with _interrupts_kept_from_children():
        process.start()
    sender.close()  # ours: else the end of the process would not be seen
    try:
        if not receiver.poll(limit):
            raise ProcessError(f"no answer in {limit:,.0f} seconds")
        answer, failure = receiver.recv()
    except EOFError:
        process.join()
        raise ProcessError(f"the process ended without an answer (exit code {process.exitcode})") from None
    finally:
        _end(process)
        receiver.close()
    if failure:
        raise ProcessError(failure)
    return answer


def _end(process: BaseProcess) -> None:
    """End the process: asked first, so that it cleans up after itself, and killed where that does not help."""
    process.terminate()
    process.join(GRACE)
    process.kill()
    process.join()


def _answer(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGTERM, _leave)
    try:
        sender.send((function(*arguments), ""))
    except Exception as error:  # told by the process that asked, in one line
        sender.send((None, " ".join(f"{type(error).__name__}: {error}".split())))


def _leave(number: int, frame: FrameType | None) -> None:
    """End the process as a program ends, cleaning up, and once only: a second signal meets the clean-up itself."""
    signal.signal(number, signal.SIG_IGN)
    sys.stderr.flush()
    with Path(os.devnull).open("w") as nowhere:  # what libraries say of being interrupted helps nobody
        os.dup2(nowhere.fileno(), 2)
    sys.exit(128 + number)


@contextlib.contextmanager
def _interrupts_kept_from_children() -> Iterator[None]:
    """A process started here does not see Ctrl-C, which a terminal sends to all: its parent ends it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
