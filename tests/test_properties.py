"""What holds whatever the values are, tried on values that hypothesis makes up."""

import json
from dataclasses import fields

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from tests.shared import part_of_summary
from vggkit.config import DATASETS, INITIALISATIONS, PRECISIONS, SCHEDULES, RunConfig
from vggkit.data import Images, load
from vggkit.report.intervals import Contrast, Sample, Spread, joint_intervals, permutation_interval
from vggkit.runs import schema
from vggkit.runs.files import RunPaths
from vggkit.runs.records import Run
from vggkit.runs.store import read_run, write_run
from vggkit.study import STATISTICS

settings.register_profile("vggkit", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("vggkit")

rates = st.floats(1e-8, 1e3)
configs = st.builds(
    lambda blocks, low, high, **more: RunConfig(
        depth=8 + 6 * blocks, minimum_learning_rate=min(low, high), learning_rate=max(low, high), **more
    ),
    blocks=st.integers(0, 20),
    low=rates,
    high=rates,
    suite=st.sampled_from(["local", "table1", "preview", "my-suite_2"]),
    batch_norm=st.booleans(),
    residual=st.booleans(),
    initialisation=st.sampled_from(INITIALISATIONS),
    dropout=st.floats(0, 1, exclude_max=True),
    dataset=st.sampled_from(list(DATASETS)),
    train_images_per_class=st.none() | st.integers(1, 50),
    batch_size=st.integers(1, 100),
    epochs=st.integers(1, 1000),
    schedule=st.sampled_from(SCHEDULES),
    weight_decay=st.floats(0, 1),
    precision=st.sampled_from(PRECISIONS),
    seed=st.integers(0, 2**31 - 1),
)


@given(configs)
def test_configuration_is_what_its_record_and_its_text_say(config: RunConfig) -> None:
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    for field in fields(RunConfig):
        value = getattr(config, field.name)
        text = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        assert RunConfig.from_text(field.name, text) == value


@given(configs, configs)
def test_runs_that_differ_in_more_than_seed_and_precision_have_names_of_their_own(
    one: RunConfig, two: RunConfig
) -> None:
    silent = {"seed", "precision"}
    alike = all(getattr(one, f.name) == getattr(two, f.name) for f in fields(RunConfig) if f.name not in silent)
    assert ((one.suite, one.name) == (two.suite, two.name)) == alike


values = st.lists(st.floats(0, 1), min_size=2, max_size=6)


@given(values, values, st.floats(-1, 1), st.floats(0.001, 0.1))
def test_intervals_move_with_their_values_and_turn_with_their_sides(
    first: list[float], second: list[float], shift: float, deviation: float
) -> None:
    spread = Spread(deviation, 6)

    def interval(one: list[float], two: list[float]) -> tuple[float, float, float]:
        (found,) = joint_intervals([Contrast(Sample("a", tuple(one)), Sample("b", tuple(two)))], spread)
        return found.value, found.low, found.high

    value, low, high = interval(first, second)
    assert low <= value <= high
    moved = interval([x + shift for x in first], second)
    np.testing.assert_allclose(moved, np.add((value, low, high), shift), atol=1e-9)
    np.testing.assert_allclose(interval(second, first), (-value, -high, -low), atol=1e-9)


sides = st.lists(st.floats(0, 1).map(lambda x: round(x, 3)), min_size=4, max_size=5)


@given(sides, sides)
def test_permutation_interval_turns_with_its_sides(first: list[float], second: list[float]) -> None:
    there, back = permutation_interval(first, second), permutation_interval(second, first)
    assert (there is None) == (back is None)
    if there is not None and back is not None:
        np.testing.assert_allclose(there, (-back[1], -back[0]), atol=1e-9)


finite = st.floats(0, 1e30, allow_subnormal=True)


@given(numbers=st.lists(finite, min_size=3, max_size=3), share=st.floats(0, 1), seed=st.integers(0, 2**31 - 1))
def test_artefacts_give_back_exactly_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[float], share: float, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    config = RunConfig.named("vgg08", dataset="synthetic", epochs=1, seed=seed)
    row = {name: numbers[place % 3] for place, name in enumerate(schema.METRIC_TYPES)}
    row |= {"epoch": 1, "learning_rate": config.learning_rate, "seconds": 1.5, "train_seconds": share}
    row |= {name: share for name in row if name.endswith("accuracy")}
    metrics = pd.DataFrame([row])
    names = [name for name in schema.parameter_shapes(config) if name.endswith("weight")]
    kinds = ["linear" if "classifier" in name else "bn" if ".bn" in name else "conv" for name in names]
    gradients = pd.DataFrame(
        {
            "epoch": np.ones(2 * len(names), dtype="int32"),
            "layer": np.tile(np.arange(len(names), dtype="int32"), 2),
            "parameter": pd.Categorical(names * 2),
            "kind": pd.Categorical(kinds * 2),
            "over": pd.Categorical(np.repeat(["last", "mean"], len(names))),
        }
        | {name: np.full(2 * len(names), numbers[0], dtype="float32") for name in STATISTICS}
    )
    measured = {name: row[name] for name in schema.MEASURED if name in row}
    epoch = {"epoch": 1, "test_loss": numbers[2], "test_accuracy": share} | measured
    summary = {
        "diverged": False, "final": epoch, "best": epoch, "parameters": config.parameters, "train_images": 5000,
        "wall_seconds": numbers[1] % 1e15, "images_per_second": 1.0, "data_sha256": "0" * 64, "device": "a CPU",
        "threads": 1, "versions": {"torch": "2"}, "commit": None,
    }  # fmt: skip
    paths = RunPaths.of(folder, config)
    written = write_run(paths, Run(config, metrics, gradients, part_of_summary(**summary)))
    found = read_run(paths.folder)
    assert found.config == config and found.summary == written.summary
    pd.testing.assert_frame_equal(found.metrics, metrics, check_exact=True)
    pd.testing.assert_frame_equal(found.gradients, gradients, check_exact=True)


@settings(max_examples=5)
@given(st.integers(1, 50), st.integers(0, 100))
def test_fewer_training_images_are_some_of_all_and_none_is_a_validation_image(images: int, split_seed: int) -> None:
    def pixels(images: Images) -> set[bytes]:
        return {image.tobytes() for image in images.pixels.numpy()}

    whole = load(RunConfig(dataset="synthetic", split_seed=split_seed))
    some = load(RunConfig(dataset="synthetic", split_seed=split_seed, train_images_per_class=images))
    few, many = pixels(some.train), pixels(whole.train)
    assert few <= many and len(few) == 100 * images
    assert not many & pixels(whole.validation)
    counts = torch.bincount(some.train.labels, minlength=100)
    assert counts.tolist() == [images] * 100
