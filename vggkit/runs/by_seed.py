"""A measurement by seed: how each is kept in a file of its own, results/<folder>/seed-<n>.<kind>, and read back.

`signal`, `propagation`, `epsilon` and `change` say what theirs hold.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from vggkit.folders import Given, exists, results_folder
from vggkit.runs import schema
from vggkit.runs.files import ArtifactError, aside, keep_file, make_folder, reason, seed_of

FORMAT = 1
"""Of the files that tell their format: the newest that this version reads."""


class Measured(Protocol):
    """What every kind of measurement has."""

    @property
    def seed(self) -> int: ...


M = TypeVar("M", bound=Measured)


class NewerFormat(Exception):
    """A newer version wrote the file."""


@dataclass(frozen=True)
class BySeed(Generic[M]):
    """The files of one kind of measurement.

    Attributes:
        folder: in the results folder.
        kind: the files' ending.
        command: what makes one, to which the seed is added.
        pack: the content of a measurement's file.
        unpack: the measurement in a file's content; whatever it raises says that the content is damaged.
        settings: what must be the same in the measurements of all seeds, for them to be taken together.
    """

    folder: str
    kind: str
    command: str
    pack: Callable[[M], bytes]
    unpack: Callable[[bytes], M]
    settings: Callable[[M], Hashable]

    def place(self, results: Given, seed: int) -> Path:
        """The file of the measurement with this seed."""
        return results_folder(results) / self.folder / f"seed-{seed}.{self.kind}"

    def write(self, measured: M, results: Given = None) -> Path:
        """Write the measurement, in one step, in place of an earlier one.

        Raises:
            ArtifactError: it cannot be written.
        """
        file = self.place(results, measured.seed)
        make_folder("results", file.parent)
        keep_file(file, self.pack(measured))
        return file

    def read(self, results: Given = None, seed: int = 0) -> M:
        """The measurement with this seed.

        Raises:
            ArtifactError: there is none, or it is damaged; one line that says how to make it.
        """
        file = self.place(results, seed)
        remedy = f"measure it: {self.command} {seed}"
        if not exists("results", file):
            raise ArtifactError(f"results: there is no {file}; {remedy}")
        try:
            content = file.read_bytes()
        except (OSError, MemoryError) as error:
            raise ArtifactError(f"results: {file} cannot be read ({reason(error)}); mend it and call again") from error
        try:
            measured = self.unpack(content)
            if measured.seed != seed:
                raise ValueError(f"it is of seed {measured.seed}")
        except NewerFormat as error:
            raise ArtifactError(f"results: {file} is {error}; use the version that wrote it, or a newer one") from error
        except Exception as error:  # pyarrow and json document no exceptions for content of every kind
            raise ArtifactError(
                f"results: {file} is damaged ({reason(error)}); move it aside to {aside(file)} and {remedy}"
            ) from error
        return measured

    def read_all(self, results: Given = None) -> list[M]:
        """The measurements of all seeds that are there, at least one, in the order of their seeds.

        Raises:
            ArtifactError: there is none, one is damaged, or they differ in more than the seed.
        """
        folder = self.place(results, 0).parent
        seeds = [seed for file in folder.glob(f"*.{self.kind}") if (seed := seed_of(file.stem)) is not None]
        measured = [self.read(results, seed) for seed in sorted(seeds) or [0]]
        if len({self.settings(one) for one in measured}) > 1:
            raise ArtifactError(f"results: {folder} holds measurements of different images or steps; remove some")
        return measured


SEED = schema.Rule("an integer of at least 0", lambda value: type(value) is int and value >= 0)


def _header(counts: Sequence[str]) -> dict[str, schema.Rule]:
    """What a file says of the measurement in it."""
    rules = {"format": schema.COUNT, "seed": SEED} | dict.fromkeys(counts, schema.COUNT)
    return rules | {"data_sha256": schema.SHA256, "machine": schema.MACHINE}


def header_of(measured: Measured, *counts: str) -> dict[str, Any]:
    """What `checked_header` reads: format, seed, the counts of these names, such as images, checksum and machine."""
    return {"format": FORMAT} | {name: getattr(measured, name) for name in _header(counts) if name != "format"}


def checked_header(where: str, found: Any, *counts: str) -> dict[str, Any]:
    """The header without its format.

    Raises:
        ValueError: it is not one, or a value is impossible.
        NewerFormat: a newer version wrote it.
    """
    rules = _header(counts)
    schema.check_record(where, found, rules)
    check_newest(found)
    return {name: found[name] for name in rules if name != "format"}


def check_newest(found: Mapping[str, Any]) -> None:
    """Raise NewerFormat for what a newer version wrote; the first one told no format."""
    number = found.get("format", FORMAT)
    if isinstance(number, int) and number > FORMAT:
        raise NewerFormat(f"of format {number}, this vggkit knows {FORMAT}")
