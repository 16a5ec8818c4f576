"""What passes through untrained networks of many depths: the artefact that `training.propagation` measures.

results/propagation/seed-<n>.parquet    a row for each layer of each network; settings and machine in its header
"""

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from vggkit.config import INITIALISATIONS, check_depth
from vggkit.folders import Given, exists, results_folder
from vggkit.runs import schema
from vggkit.runs.files import ArtifactError, cannot_write, reason, replace_file

if TYPE_CHECKING:
    import pyarrow

FOLDER = "propagation"
FORMAT = 1
DIGITS = 14  # bits that are kept of a number: four decimal digits

STATISTICS: dict[str, str] = {
    "size": "root mean square of the layer's input",
    "between_images": "its standard deviation over images, root mean square over channels and pixels",
    "between_channels": "its standard deviation over channels, root mean square over images and pixels",
    "correlation_gap": "1 - correlation of two images' inputs, mean over pairs of images",
    "effective_rank": "number of directions in which the inputs of the images differ",
    "error": "L2 norm of the gradient of the mean cross-entropy by the input",
    "error_correlation": "correlation between two images of the gradient of one random sum of logits by the input",
    "weight_gradient": "mean |gradient| of the layer's weights",
    "float32_features": "cosine of what differs between images in float32 with the same in float64",
    "float32_gradient": "cosine of the weights' gradient in float32 with that in float64",
}
"""What is measured of each layer's input, and of its weights; of the logits, which no layer follows, no weights."""
OF_WEIGHTS = ("weight_gradient", "float32_gradient")
COSINES = ("error_correlation", "float32_features", "float32_gradient")


class Network(NamedTuple):
    """An untrained network, but for its seed."""

    depth: int
    batch_norm: bool
    residual: bool
    initialisation: str


@dataclass(frozen=True)
class Measurement:
    """A measurement of many networks of one seed on the same images.

    Attributes:
        seed: of the initial weights.
        images: how many of the first training images the networks saw, in one batch.
        data_sha256: checksum of the data set, see `data.Splits`.
        machine: what measured it, see `runs.provenance.describe`.
        layers: a row for each network and layer, from input to output: the fields of `Network`, `layer` from 1 (the
            one after the last are the logits), and `STATISTICS`.
    """

    seed: int
    images: int
    data_sha256: str
    machine: Mapping[str, Any]
    layers: pd.DataFrame


def table(layers: Mapping[Network, Sequence[Mapping[str, float]]]) -> pd.DataFrame:
    """The rows of all networks as one table, see `Measurement`."""
    rows = [
        network._asdict() | {"layer": place} | dict.fromkeys(STATISTICS, math.nan) | dict(row)
        for network, found in layers.items()
        for place, row in enumerate(found, start=1)
    ]
    return pd.DataFrame(rows).astype({"depth": "int16", "layer": "int16", "initialisation": "category"})


def place(results: Given, seed: int) -> Path:
    """The file of the measurement with this seed."""
    return results_folder(results) / FOLDER / f"seed-{seed}.parquet"


def write(measured: Measurement, results: Given = None) -> Path:
    """Write the measurement, in one step, in place of an earlier one; of its numbers four digits.

    Raises:
        ArtifactError: it cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    layers = measured.layers.copy()
    for name in STATISTICS:
        layers[name] = _shortened(layers[name].to_numpy())
    header = {name: getattr(measured, name) for name in ("seed", "images", "data_sha256", "machine")}
    content = pa.Table.from_pandas(layers, preserve_index=False)
    content = content.replace_schema_metadata(
        {**(content.schema.metadata or {}), FOLDER: json.dumps({"format": FORMAT, **header}, allow_nan=False)}
    )
    names = [name for name in layers if name not in STATISTICS]
    # A number's bytes apart, the zeros of those that are shortened together: half the size.
    buffer = io.BytesIO()
    parquet.write_table(
        content,
        buffer,
        compression="zstd",
        compression_level=19,
        use_dictionary=names,
        use_byte_stream_split=[*STATISTICS],
    )
    file = place(results, measured.seed)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, buffer.getvalue())
    except OSError as error:
        raise cannot_write(file, error) from error
    return file


def _shortened(values: np.ndarray) -> np.ndarray:
    """float64 numbers rounded to `DIGITS` bits, the others zero, so that they are small when compressed."""
    fraction, exponent = np.frexp(values)
    rounded: np.ndarray = np.ldexp(np.round(fraction * 2.0**DIGITS), exponent - DIGITS)
    return rounded


def read(results: Given = None, seed: int = 0) -> Measurement:
    """The measurement with this seed.

    Raises:
        ArtifactError: there is none, or it is damaged; one line that says how to make it.
    """
    file = place(results, seed)
    remedy = f"measure it: vggkit propagation --seeds {seed}"
    if not exists("results", file):
        raise ArtifactError(f"results: there is no {file}; {remedy}")
    from pyarrow import ArrowException, parquet

    try:
        content = parquet.read_table(io.BytesIO(file.read_bytes()))
        measured = _checked(content, file)
        if measured.seed != seed:
            raise ValueError(f"it is of seed {measured.seed}")
    except ArtifactError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, ArrowException) as error:
        raise ArtifactError(f"results: {file} is damaged ({reason(error)}); {remedy}") from error
    except (OSError, MemoryError) as error:
        raise ArtifactError(f"results: {file} cannot be read ({reason(error)}); mend it and call again") from error
    return measured


def read_all(results: Given = None) -> list[Measurement]:
    """The measurements of all seeds that are there, at least one, in the order of their seeds.

    Raises:
        ArtifactError: there is none, one is damaged, or they are of different images.
    """
    folder = place(results, 0).parent
    names = [file.stem.removeprefix("seed-") for file in folder.glob("seed-*.parquet")]
    measured = [read(results, seed) for seed in sorted(int(name) for name in names if name.isdecimal()) or [0]]
    if len({(one.images, one.data_sha256) for one in measured}) > 1:
        raise ArtifactError(f"results: {folder} holds measurements on different images; remove some")
    return measured


HEADER = {
    "format": schema.COUNT,
    "seed": schema.Rule("an integer of at least 0", lambda value: isinstance(value, int) and value >= 0),
    "images": schema.COUNT,
    "data_sha256": schema.SHA256,
    "machine": schema.RECORD,
}


def _checked(content: "pyarrow.Table", file: Path) -> Measurement:
    """The measurement in a file's table. Raises ValueError unless it is whole and each number possible."""
    header = json.loads((content.schema.metadata or {}).get(FOLDER.encode(), b"null"))
    schema.check_record("the header", header, HEADER)
    if header["format"] > FORMAT:
        raise ArtifactError(
            f"results: {file} is of format {header['format']}, this vggkit knows {FORMAT}; use a newer one"
        )
    layers = content.to_pandas()
    names = [*Network._fields, "layer", *STATISTICS]
    if list(layers.columns) != names or not len(layers):
        raise ValueError(f"its columns must be {', '.join(names)}, with rows")
    for network, rows in layers.groupby([*Network._fields], observed=True, sort=False):
        check_network(Network(*network), rows)
    return Measurement(header["seed"], header["images"], header["data_sha256"], header["machine"], layers)


def check_network(network: Network, rows: pd.DataFrame) -> None:
    """Raise ValueError unless these are the rows of that network, and each number is possible."""
    check_depth(int(network.depth))
    if network.initialisation not in INITIALISATIONS:
        raise ValueError(f"it knows an initialisation {network.initialisation!r}")
    if list(rows["layer"]) != list(range(1, network.depth + 2)):
        raise ValueError(f"a network of {network.depth} layers must have rows 1 to {network.depth + 1}")
    for name in STATISTICS:
        values = rows[name].iloc[:-1] if name in OF_WEIGHTS else rows[name]
        least, most = (-1.001, 1.001) if name in COSINES else (0, math.inf)
        if not (np.isfinite(values) & (values >= least) & (values <= most)).all():
            raise ValueError(f"{name} must be finite numbers from {least:g}" + f" to {most:g}" * (most < math.inf))


def networks(measured: Iterable[Measurement]) -> pd.DataFrame:
    """The layers of all seeds in one table, with a column `seed`."""
    return pd.concat([one.layers.assign(seed=one.seed) for one in measured], ignore_index=True)
