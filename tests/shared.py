"""Helpers that tests in several folders use."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from vggkit.config import DatasetSize
from vggkit.runs.records import Measured, SeedEpoch, Summary, TrainedEpoch
from vggkit.training.graph import one_step
from vggkit.training.step import Trainer, train_epoch

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]
FEW_IMAGES = DatasetSize(train=50, validation=1, test=2)
"""What the tests take for the size of the synthetic data set, as evaluating all of it takes longer than training on the
few images that they train on."""
Call = Callable[..., tuple[int, str, str]]
"""The fixture `call`: it runs the command line with these arguments and returns exit status, stdout and stderr."""


def refused(call: Call, *arguments: str) -> str:
    """The one line with which the command line refuses these arguments, with exit status 2 and no output."""
    status, out, error = call(*arguments)
    assert (status, out, error.count("\n")) == (2, "", 1), error
    return error


@contextlib.contextmanager
def convolutions_in_tf32() -> Iterator[Callable[[], str]]:
    """As a process may be set that evaluates: a GPU then rounds the factors. Yields what tells how it is set."""
    backend = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before, backend.fp32_precision = backend.fp32_precision, "tf32"
    try:
        yield lambda: str(backend.fp32_precision)
        assert backend.fp32_precision == "tf32"
    finally:
        backend.fp32_precision = before


def part_of_summary(**known: Any) -> Summary:
    """A summary of which a test needs these values alone."""
    return cast("Summary", known)


def best_of(summary: Summary) -> Measured:
    assert summary["best"] is not None
    return summary["best"]


def stop_in(epoch: int) -> Callable[[int, int, SeedEpoch | None], None]:
    """A `progress` that stops training, as Ctrl-C does, at the first report from this epoch."""

    def progress(now: int, images: int, metrics: SeedEpoch | None) -> None:
        if now == epoch:
            raise KeyboardInterrupt

    return progress


def gradient_of(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in what JSON holds, those of lists and objects included."""
    if path:
        yield path
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in items:
        yield from places(value, (*path, name))


def at(content: Any, path: tuple[Any, ...]) -> Any:
    """The value at this path in what JSON holds."""
    for name in path:
        content = content[name]
    return content


class Trap:
    """An object whose pickle creates the file `trace` when it is read: it shows that somebody unpickled it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def number_in(told: str) -> float:
    """A number as captions show it, read again: 1.2 × 10⁻¹⁶."""
    mantissa, _, power = told.partition("\u00a0×\u00a010")
    return float(mantissa) * 10.0 ** int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")) or 0)


def an_epoch(trainer: Trainer, epoch: int) -> tuple[TrainedEpoch, torch.Tensor]:
    return train_epoch([trainer], epoch, one_step([trainer]), lambda images: None)[0]
