"""What passes through untrained networks of many depths: the artefact that `training.propagation` measures.

results/propagation/seed-<n>.parquet    a row for each layer of each network; settings and machine in its header
"""

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vggkit.config import INITIALISATIONS, check_depth
from vggkit.runs.by_seed import BySeed, checked_header, header_of

FOLDER = "propagation"
BITS = 14  # kept of a number: four decimal digits

LAYER_STATISTICS: dict[str, str] = {
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
    "bfloat16_features": "cosine of what differs between images in bfloat16 with the same in float64",
    "bfloat16_gradient": "cosine of the weights' gradient in bfloat16 with that in float64",
}
"""What is measured of each layer's input, and of its weights; of the logits, which no layer follows, no weights."""
ROUNDED = ("float32", "bfloat16")
"""Precisions in which networks are trained, each beside float64."""
OF_WEIGHTS = ("weight_gradient", *(f"{precision}_gradient" for precision in ROUNDED))
COSINES = ("error_correlation", *(f"{precision}_{part}" for precision in ROUNDED for part in ("features", "gradient")))
LATER = ("bfloat16_features", "bfloat16_gradient")
"""Not measured of some networks, whose numbers are older; `training.propagation.measure` measures these anew."""


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
            one after the last are the logits), and `LAYER_STATISTICS`; of a network, `LATER` may be missing throughout.
    """

    seed: int
    images: int
    data_sha256: str
    machine: Mapping[str, Any]
    layers: pd.DataFrame


def table(layers: Mapping[Network, Sequence[Mapping[str, float]]]) -> pd.DataFrame:
    """The rows of all networks as one table, see `Measurement`."""
    rows = [
        network._asdict() | {"layer": place} | dict.fromkeys(LAYER_STATISTICS, math.nan) | dict(row)
        for network, found in layers.items()
        for place, row in enumerate(found, start=1)
    ]
    columns = [*Network._fields, "layer", *LAYER_STATISTICS]
    return pd.DataFrame(rows, columns=columns).astype(
        {"depth": "int16", "layer": "int16", "initialisation": "category"}
    )


def joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of several tables of one seed as one."""
    together = pd.concat([table for table in tables if len(table)], ignore_index=True)
    return together.astype({"initialisation": "category"})  # of categories that differ pandas makes objects


def _pack(measured: Measurement) -> bytes:
    """The file's content; of its numbers four digits."""
    import pyarrow as pa
    from pyarrow import parquet

    layers = measured.layers.copy()
    for name in LAYER_STATISTICS:
        layers[name] = _shortened(layers[name].to_numpy())
    content = pa.Table.from_pandas(layers, preserve_index=False)
    content = content.replace_schema_metadata(
        {**(content.schema.metadata or {}), FOLDER: json.dumps(header_of(measured, "images"), allow_nan=False)}
    )
    names = [name for name in layers if name not in LAYER_STATISTICS]
    # A number's bytes apart, the zeros of those that are shortened together: half the size.
    buffer = io.BytesIO()
    parquet.write_table(
        content,
        buffer,
        compression="zstd",
        compression_level=19,
        use_dictionary=names,
        use_byte_stream_split=[*LAYER_STATISTICS],
    )
    return buffer.getvalue()


def _shortened(values: np.ndarray) -> np.ndarray:
    """float64 numbers rounded to `BITS` bits, the others zero, so that they are small when compressed."""
    fraction, exponent = np.frexp(values)
    rounded: np.ndarray = np.ldexp(np.round(fraction * 2.0**BITS), exponent - BITS)
    return rounded


def _unpack(content: bytes) -> Measurement:
    """The measurement in a file's content. Raises ValueError unless it is whole and each number possible."""
    from pyarrow import parquet

    table = parquet.read_table(io.BytesIO(content))
    header = json.loads((table.schema.metadata or {}).get(FOLDER.encode(), b"null"))
    header = checked_header("the header", header, "images")
    layers = table.to_pandas()
    names = [*Network._fields, "layer", *LAYER_STATISTICS]
    if list(layers.columns) != names or not len(layers):
        raise ValueError(f"its columns must be {', '.join(names)}, with rows")
    _check(layers)
    return Measurement(**header, layers=layers)


def _check(layers: pd.DataFrame) -> None:
    """Raise ValueError unless each network has the rows of its depth, and each number is possible.

    Of all networks at once, since a file holds dozens and the book reads every file several times.
    """
    if any(layers[name].dtype.kind != "i" for name in ("depth", "layer")):
        raise ValueError("depth and layer must be integers")
    networks = layers.groupby([*Network._fields], observed=True, sort=False, dropna=False)
    for network, places in networks["layer"]:
        depth, *_, initialisation = network
        check_depth(int(depth))
        if initialisation not in INITIALISATIONS:
            raise ValueError(f"it knows an initialisation {initialisation!r}")
        if list(places) != list(range(1, depth + 2)):
            raise ValueError(f"a network of {depth} layers must have rows 1 to {depth + 1}")
    logits, of = layers["layer"] > layers["depth"], networks.ngroup()
    for name in LAYER_STATISTICS:
        values = layers[name]
        least, most = (-1.001, 1.001) if name in COSINES else (0, math.inf)
        possible = np.isfinite(values) & (values >= least) & (values <= most)
        absent = values.isna() & logits & (name in OF_WEIGHTS)
        if name in LATER:
            possible |= (values.isna() | absent).groupby(of).transform("all")
        if not (possible | absent).all():
            raise ValueError(f"{name} must be finite numbers from {least:g}" + f" to {most:g}" * (most < math.inf))


def networks(measured: Iterable[Measurement]) -> pd.DataFrame:
    """The layers of all seeds in one table, with a column `seed`."""
    return pd.concat([one.layers.assign(seed=one.seed) for one in measured], ignore_index=True)


FILES = BySeed[Measurement](
    FOLDER,
    "parquet",
    "vggkit propagation --seeds",
    pack=_pack,
    unpack=_unpack,
    settings=lambda measured: (measured.images, measured.data_sha256),
)
place, write, read, read_all = FILES.place, FILES.write, FILES.read, FILES.read_all
