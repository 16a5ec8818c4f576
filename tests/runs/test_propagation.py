"""The artefacts of untrained networks and of Adam's steps: kept as they were measured, refused where they cannot be."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from vggkit.runs import epsilon, propagation
from vggkit.runs.epsilon import Arm, Movement, Travel
from vggkit.runs.files import ArtifactError
from vggkit.runs.propagation import LATER, LAYER_STATISTICS, OF_WEIGHTS, Measurement, Network

MACHINE = {"device": "a processor", "threads": 1, "versions": {"torch": "2"}, "commit": None}


def measured(seed: int = 0, images: int = 10) -> Measurement:
    rng = np.random.default_rng(seed)
    layers = {
        network: [
            {name: float(rng.random()) for name in LAYER_STATISTICS if place < network.depth or name not in OF_WEIGHTS}
            for place in range(network.depth + 1)
        ]
        for network in (Network(8, False, False, "default"), Network(14, True, True, "he"))
    }
    return Measurement(seed, images, "0" * 64, MACHINE, propagation.table(layers))


def travelled(seed: int = 0, steps: int = 3) -> Travel:
    movement = Movement((0.5,) * 8, (4.6,) * steps, (1.0,) * 9, (1e-300,) * 9)
    return Travel(seed, steps, 10, "0" * 64, MACHINE, {Arm(8, "default", 1e-8): movement})


def test_measurement_is_read_as_it_was_written_to_four_digits(tmp_path: Path) -> None:
    found = measured(3)
    found.layers.loc[0, "error"] = 1e-120
    found.layers.loc[1, "error_correlation"] = -0.25
    propagation.write(found, tmp_path)
    again = propagation.read(tmp_path, 3)
    assert (again.seed, again.images, again.machine) == (3, 10, MACHINE)
    kept = [name for name in found.layers if name not in LAYER_STATISTICS]
    pd.testing.assert_frame_equal(again.layers[kept], found.layers[kept])
    for name in LAYER_STATISTICS:
        assert again.layers[name].to_numpy() == pytest.approx(found.layers[name].to_numpy(), rel=1e-4, nan_ok=True)
    written = propagation.place(tmp_path, 3).read_bytes()
    propagation.write(again, tmp_path)
    assert propagation.place(tmp_path, 3).read_bytes() == written


def test_network_that_was_measured_before_a_number_was_added_is_read(tmp_path: Path) -> None:
    found = measured()
    found.layers.loc[found.layers["depth"] == 8, list(LATER)] = math.nan
    propagation.write(found, tmp_path)
    again = propagation.read(tmp_path).layers
    assert again.loc[again["depth"] == 8, list(LATER)].isna().all(axis=None)
    assert again.loc[again["depth"] == 14, LATER[0]].notna().all()


def with_layers(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def spoil(results: Path) -> None:
        found = measured()
        propagation.write(Measurement(0, 10, "0" * 64, MACHINE, change(found.layers)), results)

    return spoil


def without_one(name: str) -> Callable[[Path], None]:
    return with_layers(lambda table: table.assign(**{name: table[name].mask(table.index == 3)}))


def with_header(**values: Any) -> Callable[[Path], None]:
    def spoil(results: Path) -> None:
        file = propagation.write(measured(), results)
        content = parquet.read_table(file)
        header = json.loads(content.schema.metadata[b"propagation"]) | values
        parquet.write_table(content.replace_schema_metadata({"propagation": json.dumps(header)}), file)

    return spoil


def other_file(results: Path) -> None:
    propagation.write(measured(), results).write_bytes(b"nothing")


def other_table(results: Path) -> None:
    parquet.write_table(pa.table({"a": [1]}), propagation.write(measured(), results))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (other_file, "is damaged"),
        (other_table, "the header must be names with values"),
        (with_header(seed=1), "it is of seed 1"),
        (with_header(images=0), "images of the header is 0; allowed: an integer of at least 1"),
        (with_header(format=9), "is of format 9, this vggkit knows 1"),
        (with_layers(lambda table: table[1:]), "a network of 8 layers must have rows 1 to 9"),
        (with_layers(lambda table: table.assign(size=-1.0)), "size must be finite numbers from 0"),
        (
            with_layers(lambda table: table.assign(float32_gradient=2.0)),
            "float32_gradient must be finite numbers from -1",
        ),
        (with_layers(lambda table: table.assign(error=math.nan)), "error must be finite numbers"),
        # What is measured of some networks alone lacks there of all layers, or of none.
        (without_one(LATER[0]), "bfloat16_features must be finite numbers from -1"),
        (without_one(LATER[1]), "bfloat16_gradient must be finite numbers from -1"),
        (with_layers(lambda table: table.assign(depth=9)), "depth: 9 is not allowed"),
    ],
)
def test_damage_is_told_in_one_line_with_a_remedy(spoil: Callable[[Path], None], told: str, tmp_path: Path) -> None:
    spoil(tmp_path)
    with pytest.raises(ArtifactError) as error:
        propagation.read(tmp_path)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_missing_measurement_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"there is no .*seed-0\.parquet; measure it: vggkit propagation --seeds 0"):
        propagation.read_all(tmp_path)
    with pytest.raises(ArtifactError, match=r"there is no .*seed-0\.json; measure it: vggkit propagation --seeds 0"):
        epsilon.read_all(tmp_path)


def test_a_copy_of_another_name_counts_for_no_seed(tmp_path: Path) -> None:
    file = propagation.write(measured(), tmp_path)
    for name in ("seed-00", "seed-\u0660", "seed-0 (copy)"):
        shutil.copy(file, file.with_stem(name))
    assert [one.seed for one in propagation.read_all(tmp_path)] == [0]


def test_seeds_are_read_in_order_and_must_be_of_the_same_images(tmp_path: Path) -> None:
    for seed in (10, 2):
        propagation.write(measured(seed), tmp_path)
        epsilon.write(travelled(seed), tmp_path)
    assert [one.seed for one in propagation.read_all(tmp_path)] == [2, 10]
    assert [one.seed for one in epsilon.read_all(tmp_path)] == [2, 10]
    frame = propagation.networks(propagation.read_all(tmp_path))
    assert len(frame) == 2 * (9 + 15) and set(frame["seed"]) == {2, 10}
    propagation.write(measured(3, images=11), tmp_path)
    epsilon.write(travelled(3, steps=4), tmp_path)
    for read in (propagation.read_all, epsilon.read_all):
        with pytest.raises(ArtifactError, match=r"holds measurements o[nf] different .*; remove some"):
            read(tmp_path)


def test_steps_are_read_as_they_were_written(tmp_path: Path) -> None:
    found = travelled(1)
    epsilon.write(found, tmp_path)
    assert epsilon.read(tmp_path, 1) == found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda content: content["arms"][0].update(moved=[0.5]), "moved must be 8 finite numbers of at least 0"),
        (lambda content: content["arms"][0].update(losses=[4.6, 4.6, -1]), "losses must be 3 finite numbers"),
        (lambda content: content["arms"][0].update(epsilon=0), "epsilon 0.0"),
        (lambda content: content["arms"][0].update(depth=9), "depth: 9 is not allowed"),
        (lambda content: content.update(arms=[]), "it knows no network"),
        (lambda content: content.update(seed=5), "it is of seed 5"),
        (lambda content: content.update(format=2), "is of format 2, this vggkit knows 1"),
        (lambda content: content.pop("batch"), "it knows no batch"),
    ],
)
def test_damaged_steps_are_told_in_one_line(change: Callable[[Any], Any], told: str, tmp_path: Path) -> None:
    file = epsilon.write(travelled(), tmp_path)
    content = json.loads(file.read_bytes())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(ArtifactError) as error:
        epsilon.read(tmp_path)
    assert told in str(error.value) and "\n" not in str(error.value)
