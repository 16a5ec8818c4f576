"""The state of a run under way: written after every epoch, read by whoever goes on with it.

It is a dictionary of `format`, `statistics` (what is logged of the gradients), `config`, `fused`, the history of the
run (`metrics`, `gradients`, `best`, `segments`), and the states of `model`, `optimizer` and `scheduler`;
`training.runner.Attempt.record` makes it.
"""

import io
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
    reason,
    replace_file,
)
from vggkit.runs.schema import FIRST_STATISTICS
from vggkit.study import STATISTICS

if TYPE_CHECKING:
    import torch


def write_checkpoint(paths: RunPaths, state: dict[str, Any]) -> None:
    """Replace the checkpoint in one step: a killed process leaves the old one or the new one.

    Raises:
        ArtifactError: it cannot be written; the old one is still there.
    """
    import torch

    try:
        content = io.BytesIO()
        torch.save(state, content)  # into memory: torch's own writer does not say that a disk is full
        replace_file(paths.checkpoint, content.getvalue())
    except (OSError, MemoryError, RuntimeError) as error:
        raise cannot_write(paths.checkpoint, error, field="checkpoint") from error


def read_checkpoint(paths: RunPaths, config: RunConfig, device: "torch.device") -> dict[str, Any] | None:
    """The state of an unfinished run, or None where there is none.

    Raises:
        ArtifactError: it is damaged, cannot be read, is of another version or configuration, or logs other statistics.
    """
    import torch

    file = paths.checkpoint
    if not exists("checkpoint", file):
        return None
    remedy = f"restore it from a backup, or move it aside to {aside(file)} and start anew"
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(file.read_bytes()), map_location=device, weights_only=True)
        found = RunConfig.from_dict(state["config"])
    except (OSError, MemoryError) as error:
        raise ArtifactError(f"checkpoint: {file} cannot be read ({reason(error)}); mend it and call again") from error
    except ConfigError as error:
        raise ArtifactError(
            f"checkpoint: {file} is of another version ({error}); go on with that version, or move it aside to "
            f"{aside(file)} and start anew"
        ) from error
    except Exception as error:  # torch.load documents no exceptions: zip, pickle and runtime errors all occur
        raise ArtifactError(f"checkpoint: {file} is damaged ({reason(error)}); {remedy}") from error
    check_format(state, file, "checkpoint")
    check_same(found, config, file)
    logged = tuple(state.get("statistics", FIRST_STATISTICS))
    if logged != tuple(STATISTICS):
        raise ArtifactError(
            f"checkpoint: {file} logs {', '.join(logged)} of the gradients, this version {', '.join(STATISTICS)}; go "
            f"on with the version that began it, or move it aside to {aside(file)} and start anew"
        )
    return state
