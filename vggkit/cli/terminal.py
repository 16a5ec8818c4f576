"""What the command line shows: lines, tables and progress, on any terminal, into files and through pipes.

Names, paths and messages from outside are shown as they are: never as markup, control characters escaped.
Output that cannot be written (a full disk, a pipe that nobody reads) never ends work under way: it is
remembered, and told when the command ends.
"""

import codecs
import contextlib
import errno
import io
import math
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

from vggkit.config import RunConfig

if TYPE_CHECKING:
    from rich.console import Console

    from vggkit.runs.records import Epoch, SeedEpoch

# What stands for a character that the output's encoding lacks; "?" for any other.
FALLBACK = {"±": "+-", "−": "-", "–": "-", "×": "x", "†": "*", "…": "...", "“": '"', "”": '"', "’": "'"}
FALLBACK_NAME = "vggkit-fallback"
STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")
UNLIMITED = 100_000  # columns of what is no terminal: nothing is broken into lines there
NARROW = 70  # columns below which the progress line leaves out the run's name and the epoch
PIPE_CLOSED = 128 + 13  # a shell's status of a command that SIGPIPE ended
FAILED = 2


def _fallback(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(FALLBACK.get(c, "?") for c in error.object[error.start : error.end]), error.end


codecs.register_error(FALLBACK_NAME, _fallback)


class Output:
    """A stream whose failing writes are remembered instead of raised; after one, nothing more is written."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream  # None where the process was started with the descriptor closed
        self.failure: OSError | None = None
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=FALLBACK_NAME)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # writing there would pass by
            raise AttributeError(name)
        return getattr(self.stream, name)

    @property
    def encoding(self) -> str:
        return getattr(self.stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return self.stream is not None and self.stream.isatty()

    def write(self, text: str) -> int:
        if self.stream is not None and self.failure is None:
            try:
                self.stream.write(text)
            except OSError as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        if self.stream is not None and self.failure is None:
            try:
                self.stream.flush()
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Send what the stream still holds to nowhere: Python would try to write it once more at its end."""
        self.failure = error
        with contextlib.suppress(OSError, AttributeError):  # a stream without a descriptor holds nothing back
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())  # type: ignore[union-attr]
            os.close(nowhere)

    def status(self) -> tuple[int, str]:
        """Exit status and message, after the last write: quiet where a pipe was closed, as other commands are."""
        self.flush()
        if self.failure is None:
            return 0, ""
        if self.failure.errno == errno.EPIPE:
            return PIPE_CLOSED, ""
        return FAILED, f"output: cannot be written ({self.failure.strerror or self.failure})"


@contextlib.contextmanager
def careful_output() -> Iterator[Output]:
    """Have the process write through `Output`; yields that of stdout."""
    before = sys.stdout, sys.stderr
    output = Output(before[0])
    sys.stdout, sys.stderr = output, Output(before[1])
    try:
        yield output
    finally:
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


@contextlib.contextmanager
def one_line_warnings() -> Iterator[None]:
    """Print every warning as one line on stderr: the library's own by its message alone."""

    def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
        own = category.__module__.split(".")[0] == "vggkit"
        tell(str(message) if own else f"{category.__name__}: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Have SIGTERM and SIGHUP stop the process as Ctrl-C does; yields the number of the one that came first.

    A signal that whoever started the process has it ignore, as nohup and a shell's background do, stays
    ignored. Once stopping, the process is not disturbed by another SIGTERM or SIGHUP (`timeout` sends two),
    while a second Ctrl-C ends it at once.
    """
    received: list[int] = []
    before: dict[int, Any] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for other in before:
            signal.signal(other, signal.SIG_DFL if other == signal.SIGINT else signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():  # Python sets handlers nowhere else
        for number in (getattr(signal, name) for name in STOPPING if hasattr(signal, name)):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, stop)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def tell(message: str) -> None:
    """Print a message as one line on stderr."""
    print(f"vggkit: {one_line(message)}", file=sys.stderr, flush=True)


def one_line(text: str) -> str:
    """The text with each run of white space as one space, and what cannot be printed escaped."""
    return escaped(" ".join(text.split()))


def escaped(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _printable(text: str) -> str:
    """The text in characters that stdout can write, before a table measures it."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return escaped(text).encode(encoding, FALLBACK_NAME).decode(encoding)


def console() -> "Console":
    """Rich's console for stdout as it is now: nothing in a text is markup."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else UNLIMITED
    return Console(width=width, markup=False, emoji=False, highlight=False)


def show_table(
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[str] = (),
    title: str | None = None,
    note: str | None = None,
    airy: bool = False,
) -> None:
    """Print a table; text that is too long for its column goes on in the next line, a number is never cut.

    Args:
        titles: of the columns.
        rows: a text for each column.
        right: titles of the columns that are set to the right.
        title: above the table.
        note: below the table.
        airy: lines above and below the titles alone, and an empty one after each row.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table

    table = Table(title=_printable(title) if title else None, caption=_printable(note) if note else None)
    if airy:
        table.box, table.padding = box.SIMPLE_HEAD, (0, 1, 1, 0)
    cells = [list(map(_printable, row)) for row in (titles, *rows)]
    screen, least = console(), 1
    for name, column in zip(titles, zip(*cells, strict=True), strict=True):
        widest = max((cell_len(word) for text in column for word in text.split()), default=0)
        table.add_column(column[0], justify="right" if name in right else "left", min_width=widest)
        least += widest + 3  # what stands between columns
    for row in cells[1:]:
        table.add_row(*row)
    if screen.width < least:  # the terminal then breaks whole lines, where Rich would cut words and numbers apart
        screen.width = least
    screen.print(table, crop=False)


def epoch_line(epoch: int, metrics: "Epoch") -> str:
    return (
        f"epoch {epoch}: loss {metrics['train_loss']:.3f} / {metrics['validation_loss']:.3f}, accuracy "
        f"{metrics['train_accuracy']:.1%} / {metrics['validation_accuracy']:.1%} (train / validation)"
    )


class progress_bar:
    """A line for each epoch; below them, on a terminal, a bar with time left and images/s at any width."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.console = console()
        self.bar: Any = None  # Rich's, from the first report on: sooner, it leaves an empty line above an error
        self.task: Any = None

    def __enter__(self) -> "progress_bar":
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar:
            self.bar.stop()

    def __call__(self, epoch: int, images: int, metrics: "SeedEpoch | None") -> None:
        """Take a report of `runner.train`."""
        if self.console.is_terminal:
            self._move(epoch, images)
        if metrics:
            line = epoch_line(epoch, metrics)
            if self.bar:
                self.bar.console.print(line)
            else:
                print(line, flush=True)

    def _move(self, epoch: int, images: int) -> None:
        per_epoch = self.config.train_images
        if self.bar is None:
            self.bar = self._begin()
            done = per_epoch * (epoch - 1)  # as part of the task: what an earlier call did is no speed of this one
            self.task = self.bar.add_task("", total=per_epoch * self.config.epochs, completed=done, speed="")
        place = f"{self.config.name} {epoch}/{self.config.epochs} " if self.console.width >= NARROW else ""
        speed = self.bar.tasks[0].speed
        shown = f"{speed:,.0f} images/s" if speed else ""
        self.bar.update(self.task, completed=per_epoch * (epoch - 1) + images, description=place, speed=shown)

    def _begin(self) -> Any:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        def text(format: str) -> TextColumn:
            return TextColumn(format, markup=False, table_column=Column(no_wrap=True))

        bar = BarColumn(bar_width=None, table_column=Column(ratio=1))
        left = TimeRemainingColumn(table_column=Column(no_wrap=True))
        columns = (text("{task.description}"), bar, left, text("{task.fields[speed]}"))
        progress = Progress(*columns, console=self.console, expand=True)
        progress.start()
        return progress


def cells(metrics: list[float | None]) -> list[str]:
    """Losses and accuracies, in turn; a diverged run has no finite loss."""
    finite = [value if value is not None and math.isfinite(value) else None for value in metrics]
    return ["-" if v is None else f"{v:.2%}" if i % 2 else f"{v:.4f}" for i, v in enumerate(finite)]
