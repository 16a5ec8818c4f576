"""The state of a run under way: written after every epoch, read by whoever goes on with it.

It is a dictionary of `format`, `statistics` (what is logged of the gradients), `config`, `fused`, the history of the
run (`metrics`, `gradients`, `signal`, `best`, `segments`), and the states of `model`, `optimizer` and `scheduler`;
`training.runner.Attempt.record` makes it. Its checksum ends the file: torch reads numbers that were altered on the disk
without a word.
"""

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggkit.config import ConfigError, RunConfig
from vggkit.folders import exists
from vggkit.runs.files import (
    ArtifactError,
    RunPaths,
    aside,
    cannot_write,
    check_format,
    check_same,
    partial_file,
    reason,
    replace_file,
    sha256,
)
from vggkit.runs.schema import FIRST_STATISTICS
from vggkit.study import STATISTICS

if TYPE_CHECKING:
    import torch

SEAL = b"sha256:"
"""Before the checksum, in hexadecimal digits, of what stands before it."""
SEALED = len(SEAL) + 64


def write_checkpoint(paths: RunPaths, state: dict[str, Any]) -> None:
    """Replace the checkpoint in one step: a killed process leaves the old one or the new one.

    Raises:
        ArtifactError: it cannot be written; the old one is still there.
    """
    import torch

    try:
        saved = io.BytesIO()
        torch.save(state, saved)  # into memory: torch's own writer does not say that a disk is full
        content = saved.getvalue()
        replace_file(paths.checkpoint, content + SEAL + sha256(content).encode(), partial_file(paths.checkpoint))
    except (OSError, MemoryError, RuntimeError) as error:
        raise cannot_write(paths.checkpoint, error, field="checkpoint") from error


def unpack(content: bytes, device: "torch.device | str" = "cpu") -> Any:
    """What is in a checkpoint's file, or in another that `torch.save` wrote, without running any code in it.

    A file without our checksum, as older versions and other programs leave it, is read if the archive's own sums hold.

    Raises:
        ValueError: a checksum differs, or it is no such file.
    """
    import torch

    place = content.rfind(SEAL, max(0, len(content) - SEALED))  # further in front it is a number or a word
    if place >= 0:
        content, digest = content[:place], content[place + len(SEAL) :]
        if sha256(content).encode() != digest:
            raise ValueError("its checksum differs")
    elif zipfile.is_zipfile(io.BytesIO(content)):
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                bad = archive.testzip()
        except MemoryError:
            raise
        except Exception as error:  # of a damaged or an encrypted archive zipfile raises errors of many kinds
            raise ValueError("it is an archive that cannot be unpacked") from error
        if bad is not None:
            raise ValueError("a checksum in it differs")
    try:
        return torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch documents none: zip, pickle and runtime errors all occur, with advice of its own
        raise ValueError("it is no file that torch.save wrote") from error


def read_checkpoint(paths: RunPaths, config: RunConfig, device: "torch.device") -> dict[str, Any] | None:
    """The state of an unfinished run, or None where there is none.

    Raises:
        ArtifactError: it is damaged, cannot be read, is of another version or configuration, or logs other statistics.
    """
    file = paths.checkpoint
    if not exists("checkpoint", file):
        return None
    try:
        state: dict[str, Any] = unpack(file.read_bytes(), device)
        check_format(state, file, "checkpoint")
        found = RunConfig.from_dict(state["config"])
    except ArtifactError:
        raise
    except (OSError, MemoryError) as error:
        raise ArtifactError(f"checkpoint: {file} cannot be read ({reason(error)}); mend it and call again") from error
    except ConfigError as error:
        raise ArtifactError(
            f"checkpoint: {file} is of another version ({error}); go on with that version, or move it aside to "
            f"{aside(file)} and start anew"
        ) from error
    except Exception as error:
        raise damaged(file, error) from error
    check_same(found, config, file)
    logged = tuple(state.get("statistics", FIRST_STATISTICS))
    if logged != tuple(STATISTICS):
        raise ArtifactError(
            f"checkpoint: {file} logs {', '.join(logged)} of the gradients, this version {', '.join(STATISTICS)}; go "
            f"on with the version that began it, or move it aside to {aside(file)} and start anew"
        )
    return state


def check_history(state: dict[str, Any], config: RunConfig) -> None:
    """Raise an exception of any kind unless the state tells of epochs 1, 2, ... of such a run, at least one."""
    epochs = [row["epoch"] for row in state["metrics"]]
    if not 1 <= len(epochs) <= config.epochs or epochs != list(range(1, len(epochs) + 1)):
        raise ValueError(f"its epochs are not 1 to {config.epochs} at most, in order")
    if len(state["gradients"]) != len(epochs):
        raise ValueError("it holds gradients of other epochs than metrics")
    signal = state.get("signal", [])  # older versions did not log it
    if len(signal) > len(epochs) or any(tuple(shares.shape) != (config.depth + 1,) for shares in signal):
        raise ValueError("it holds a signal of other epochs or layers")


def damaged(file: Path, error: Exception) -> ArtifactError:
    """One line on a checkpoint that is no state of its run."""
    return ArtifactError(
        f"checkpoint: {file} is damaged ({reason(error)}); restore it from a backup, or move it aside to {aside(file)} "
        "and start anew"
    )
