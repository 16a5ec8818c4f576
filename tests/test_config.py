"""A configuration: its name, its record, and what it refuses."""

import json
import math
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import numpy as np
import pytest

from vggkit.config import ConfigError, RunConfig
from vggkit.runs.files import RunPaths
from vggkit.study import CONFIGURATIONS, SUITES


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_each_configuration_is_named_as_in_table_1(name: str) -> None:
    assert RunConfig.named(name).name == name
    assert RunConfig.named(name, suite="preview").name == name


@pytest.mark.parametrize("suite", SUITES)
def test_what_the_study_asks_for_is_known_by_the_name_of_its_runs(suite: str) -> None:
    for one in SUITES[suite].asked:
        config = RunConfig.named(one.configuration, suite=suite, **one.settings)
        assert RunConfig.named(config.name, suite=suite) == config
    changed = RunConfig.named("vgg20_bn", epochs=3)
    assert (changed.depth, changed.batch_norm, changed.epochs) == (20, True, 3)


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_keeps_what_all_its_runs_share(suite: str) -> None:
    for field, shared in SUITES[suite].settings.items():
        other: Any = {"schedule": "cosine", "reduction_shortcut": False, "precision": "bfloat16"}.get(field, 3)
        with pytest.raises(ConfigError, match=f"^{field}: .* not allowed in the suite {suite}, whose runs all have"):
            RunConfig.named("vgg38_rc", suite=suite, **{field: other})
        assert RunConfig.named("vgg38_rc", suite=suite, **{field: shared}) == RunConfig.named("vgg38_rc", suite=suite)
        assert getattr(RunConfig.named("vgg38_rc", suite="mine", **{field: other}), field) == other


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("learning_rate", 0, "above 0"),
        ("learning_rate", -1e-3, "above 0"),
        ("learning_rate", float("nan"), "finite"),
        ("learning_rate", float("inf"), "finite"),
        ("learning_rate", "abc", "finite number"),
        ("learning_rate", True, "finite number"),
        ("learning_rate", 1e-310, "a finite number above 0"),
        ("depth", 9, "8 and 14"),
        ("depth", 2, "nearest: 8"),
        ("depth", 1208, "..., 1202); nearest: 1202"),
        ("batch_size", 0, "1 to 47500"),
        ("batch_size", 47_501, "1 to 47500"),
        ("epochs", 0, "an integer from 1 to 1000000"),
        ("seed", 1.5, "integer"),
        ("seed", "x", "integer"),
        ("seed", -1, "0 to 2147483647"),
        ("dropout", 1.0, "up to, but not including, 1"),
        ("schedule", "linear", "cosine, constant, cosine-per-batch"),
        ("suite", "../x", "letters, digits"),
        ("suite", "imported", "another name"),
        ("batch_norm", 1, "true or false"),
        ("minimum_learning_rate", 0.1, "at most learning_rate"),
        ("train_images_per_class", 476, "1 to 475"),
        ("initialisation", "LSUV", "default, he, lsuv"),
        ("skip_init", True, "false without residual, and with batch_norm"),
        ("adam_epsilon", 0.0, "at least 1.2e-38"),
        ("adam_epsilon", 1e-50, "at least 1.2e-38"),
        ("decoupled_weight_decay", True, "false where weight_decay is 0"),
    ],
)
def test_impossible_value_is_one_line_naming_field_and_allowed_values(field: str, value: Any, allowed: str) -> None:
    with pytest.raises(ConfigError) as error:
        RunConfig(**{field: value})
    message = str(error.value)
    assert message.startswith(f"{field}: ")
    assert allowed in message
    assert "\n" not in message


def test_shortcuts_of_the_reduction_blocks_alone_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^reduction_shortcut: True is not allowed; allowed: false without residual$"
    ):
        RunConfig.named("vgg38", suite="placement")
    assert RunConfig.named("vgg38_rc", suite="placement").name == "vgg38_rc"


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean vgg38_bn"):
        RunConfig.named("vgg38_nb")
    with pytest.raises(ConfigError, match="did you mean learning_rate"):
        RunConfig.named("vgg08", learning_rat=0.1)
    for name, meant in (("vgg8", "vgg08"), ("vgg038_rc", "vgg38_rc")):  # a number is what it counts
        with pytest.raises(ConfigError, match=f"did you mean {meant}[?]"):
            RunConfig.named(name)


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("learning_rate", "1e-2", 0.01),
        ("epochs", "7", 7),
        ("batch_norm", "True", True),
        ("train_images_per_class", "none", None),
        ("train_images_per_class", "20", 20),
        ("suite", "mine", "mine"),
    ],
)
def test_text_is_read_by_the_fields_type(field: str, text: str, value: object) -> None:
    assert RunConfig.from_text(field, text) == value


@pytest.mark.parametrize(("field", "text"), [("epochs", "1.5"), ("learning_rate", "nan"), ("batch_norm", "yes")])
def test_text_of_another_type_is_refused(field: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{field}: "):
        RunConfig.from_text(field, text)


def test_configuration_cannot_be_changed_afterwards() -> None:
    with pytest.raises(FrozenInstanceError):
        RunConfig().epochs = 3  # type: ignore[misc]


def test_rates_that_differ_in_the_last_digit_have_different_names() -> None:
    rates = (0.01, 0.0100000001, 0.01000000000000001, 10.0, 12.0)
    names = [RunConfig.named("vgg08", learning_rate=rate).name for rate in rates]
    assert names[0] == "vgg08_lr1e-2"
    assert len(set(names)) == len(rates)


def test_dictionary_gives_the_same_configuration_back() -> None:
    config = RunConfig.named("vgg38_bn", suite="preview", seed=3)
    assert RunConfig.from_dict(config.to_dict()) == config


def test_name_tells_runs_apart_that_differ_in_what_is_found() -> None:
    settings: list[dict[str, Any]] = [{}, {"weight_decay": 1e-4}, {"dropout": 0.2}, {"learning_rate": 0.1}]
    settings += [{"depth": 44}, {"schedule": "constant"}, {"epochs": 3}, {"split_seed": 1}, {"batch_size": 64}]
    names = {RunConfig.named("vgg38_bn", **s).name for s in settings}
    assert len(names) == len(settings)
    assert RunConfig.named("vgg38_bn", seed=1).name == "vgg38_bn"


def test_zero_is_one_value_whatever_its_sign_or_type() -> None:
    plain = RunConfig(suite="mine")
    numbers = [name for name, value in plain.to_dict().items() if isinstance(value, float)]
    assert len(numbers) >= 4
    for name in set(numbers) - {"learning_rate", "adam_epsilon"}:  # of which 0 is refused
        positive: dict[str, Any] = {name: 0.0}
        expected = replace(plain, **positive)
        for zero in (-0.0, 0, np.float64(-0.0)):
            written: dict[str, Any] = {name: zero}
            config = replace(plain, **written)
            assert (config, config.name) == (expected, expected.name)
            assert json.dumps(config.to_dict()) == json.dumps(expected.to_dict())
            assert math.copysign(1, getattr(config, name)) == 1
    assert RunConfig.from_text("dropout", "-0.0") == 0
    assert RunConfig.named("vgg08", learning_rate=np.float64(0.01)).name == "vgg08_lr1e-2"


@pytest.mark.parametrize("field", [item.name for item in fields(RunConfig)])
def test_name_and_folder_tell_runs_apart_by_every_setting(field: str) -> None:
    """Every setting changes a run's name or folder, except the precision, which is checked when the run is read."""
    other: dict[str, Any] = {
        "suite": "other", "depth": 14, "batch_norm": False, "residual": False, "initialisation": "he",
        "dropout": 0.5, "dataset": "synthetic", "train_images_per_class": 7, "split_seed": 1, "batch_size": 99,
        "epochs": 99, "learning_rate": 2e-3, "minimum_learning_rate": 1e-5, "schedule": "constant",
        "weight_decay": 1e-4, "decoupled_weight_decay": True, "skip_init": True, "seed": 1,
        "reduction_shortcut": True, "adam_epsilon": 1e-20,
    }  # fmt: skip
    if field == "precision":
        assert RunConfig(precision="bfloat16").name == RunConfig().name
        return
    config = RunConfig(batch_size=50, weight_decay=1e-3, batch_norm=field == "batch_norm")
    change = {field: other[field]}
    changed = replace(config, **change)
    assert RunPaths.of("results", changed).folder != RunPaths.of("results", config).folder
    if field not in ("suite", "seed"):
        assert changed.name != config.name
