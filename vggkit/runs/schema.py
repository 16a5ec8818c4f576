"""What a finished run's files may hold. Whatever is read passes here first, so that nothing fails later.

A checksum tells that a file was changed, not that its content makes sense: whoever changes a file can
compute the checksum anew. What is shown on pages as text is of plain characters alone, so that no
artefact brings markup into a page.
"""

import math
import re
import reprlib
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from vggkit.config import NUM_CLASSES, NUM_FILTERS, NUM_STAGES, RunConfig
from vggkit.runs.records import Summary, has_diverged, metric_of
from vggkit.study import STATISTICS

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 5
"""Version of what runs and checkpoints hold; 1 where it is not recorded. A higher one is of a newer vggkit."""
FIRST_STATISTICS = ("mean_abs", "l2_norm", "update_ratio")
"""What checkpoints hold of the gradients that do not tell it."""
PLAIN = "A-Za-z0-9 ()@.,:+_/'-"
"""Characters of text in artefacts, for a regular expression's brackets."""
MEASURED = [f"{split}_{metric}" for split in ("train", "validation", "test") for metric in ("loss", "accuracy")]


class Rule(NamedTuple):
    """What a value must be: in words, and as a test of the value."""

    words: str
    holds: Callable[[Any], bool]

    def or_none(self) -> "Rule":
        return Rule(f"{self.words}, or null", lambda value: value is None or self.holds(value))


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _within(value: Any, low: float, high: float) -> bool:
    return (_is_integer(value) or isinstance(value, float)) and low <= value <= high


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


LARGEST_FLOAT = sys.float_info.max
LARGEST = 1e15  # of times and speeds, far above what is measured, far below what cannot be formatted
FLAG = Rule("true or false", lambda value: isinstance(value, bool))
COUNT = Rule("an integer of at least 1", lambda value: _is_integer(value) and 1 <= value <= LARGEST)
AMOUNT = Rule("a finite number of at least 0", lambda value: _within(value, 0, LARGEST))
LOSS = Rule("a finite number of at least 0, or null", lambda value: value is None or _within(value, 0, LARGEST_FLOAT))
SHARE = Rule("a number from 0 to 1", lambda value: _within(value, 0, 1))
TEXT = Rule("letters, digits, spaces and ( ) @ . , : + - _ / '", _matches(f"[{PLAIN}]{{1,200}}"))
SHA256 = Rule("64 hexadecimal digits", _matches("[0-9a-f]{64}"))
FILE_NAME = Rule("a file's name without a folder", _matches(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"))
RECORD = Rule("names with values", lambda value: isinstance(value, dict))
LIST = Rule("a list of at least one", lambda value: isinstance(value, list) and len(value) > 0)


def _is_machine(value: Any) -> bool:
    rules = {"device": TEXT, "threads": COUNT, "commit": TEXT.or_none(), "versions": RECORD}
    if not isinstance(value, dict) or set(value) != set(rules):
        return False
    parts = value["versions"].items() if isinstance(value["versions"], dict) else [("", "")]
    return all(rule.holds(value[name]) for name, rule in rules.items()) and all(
        TEXT.holds(name) and TEXT.holds(version) for name, version in parts
    )


MACHINE = Rule("device, threads, versions and commit, as a run records them", _is_machine)

SUMMARY_RULES = {
    "diverged": FLAG,
    "final": RECORD,
    "best": RECORD.or_none(),  # a run that diverged in its first epoch has none
    "parameters": COUNT,
    "train_images": COUNT,
    "wall_seconds": AMOUNT,
    "images_per_second": AMOUNT,
    "data_sha256": SHA256,
    "device": TEXT,
    "threads": COUNT,
    "versions": RECORD,
    "commit": TEXT.or_none(),
    "files": RECORD,
}
LATER = {"fused": FLAG, "segments": LIST, "format": COUNT}  # keys that runs of older versions do not have
EPOCH = {"epoch": COUNT} | {name: LOSS if "loss" in name else SHARE for name in MEASURED}
SEGMENT = {
    "first_epoch": COUNT,
    "last_epoch": COUNT,
    "precision": TEXT,
    # Of epochs trained before these were recorded, nothing is known.
    "commit": TEXT.or_none(),
    "device": TEXT.or_none(),
    "threads": COUNT.or_none(),
    "torch": TEXT.or_none(),
    "fused": FLAG.or_none(),
}
# A column's lowest and highest value, and whether the last epoch of a diverged run may hold others.
METRICS: dict[str, tuple[float, float, bool]] = {
    "learning_rate": (0, math.inf, False),
    "train_loss": (0, math.inf, True),
    "train_accuracy": (0, 1, False),
    "gradient_norm_last": (0, math.inf, True),
    "gradient_norm_mean": (0, math.inf, True),
    "validation_loss": (0, math.inf, True),
    "validation_accuracy": (0, 1, False),
    "train_seconds": (0, LARGEST, False),
    "seconds": (0, LARGEST, False),
}
METRIC_TYPES = {"epoch": "int64"} | dict.fromkeys(METRICS, "float64")
KEYS = ("epoch", "layer", "parameter", "kind", "over")
SIGNAL_IMAGES = 10  # of training, in which a layer's share is measured
SIGNAL_TYPES = {"epoch": "int32", "layer": "int32", "share": "float32"}


def check_record(where: str, found: Any, rules: Mapping[str, Rule], later: Mapping[str, Rule] | None = None) -> None:
    """Raise ValueError unless `found` has the keys of `rules`, and these and those of `later` hold what they must."""
    if not isinstance(found, dict):
        raise ValueError(f"{where} must be names with values")
    if missing := sorted(set(rules) - set(found)):
        raise ValueError(f"it knows no {', '.join(missing)}{'' if where == 'summary.json' else f' of {where}'}")
    for name, rule in {**rules, **(later or {})}.items():
        if name in found and not rule.holds(found[name]):
            raise ValueError(f"{name} of {where} is {reprlib.repr(found[name])}; allowed: {rule.words}")


def check_summary(found: Any) -> Summary:
    """The content of summary.json, each value by itself of the right type and range.

    Raises:
        ValueError: a value is not, or a key is missing.
    """
    where = "summary.json"
    check_record(where, found, SUMMARY_RULES, LATER)
    for which in ("final", "best"):
        if found[which] is not None:
            check_record(f"its {which} epoch", found[which], EPOCH)
    for segment in found.get("segments", []):
        check_record("a segment", segment, SEGMENT, {"together": COUNT})
    texts = {"versions": TEXT, "files": SHA256}
    names = {"versions": TEXT, "files": FILE_NAME}
    for key, rule in texts.items():
        for name, value in found[key].items():
            if not names[key].holds(name) or not rule.holds(value):
                shown = f"{reprlib.repr(name)}: {reprlib.repr(value)}"
                raise ValueError(f"{key} of {where} has {shown}; allowed: {names[key].words}, with {rule.words}")
    summary: Summary = found
    return summary


def check_metrics(metrics: "pd.DataFrame", config: RunConfig) -> None:
    """Raise ValueError unless there is a row for each epoch, from the first, and each value is possible."""
    import numpy as np

    count = len(metrics)
    if not 1 <= count <= config.epochs or not np.array_equal(metrics["epoch"], np.arange(1, count + 1)):
        raise ValueError(f"its epochs must be 1, 2, ... up to {config.epochs} at most")
    if count < config.epochs and not diverged(metrics):
        raise ValueError(f"it has {count} epochs of {config.epochs}, and the run did not diverge")
    for name, (low, high, may_diverge) in METRICS.items():
        high = config.learning_rate * (1 + 1e-6) if name == "learning_rate" else high  # a GPU's is float32
        values = metrics[name].to_numpy()
        values = values[:-1] if may_diverge and diverged(metrics) else values
        if not (np.isfinite(values) & (low <= values) & (values <= high)).all():
            allowed = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise ValueError(f"{name} must be finite numbers {allowed}")
    last = metrics[["gradient_norm_last", "gradient_norm_mean", "train_loss", "validation_loss"]].iloc[-1]
    if (last < 0).any():
        raise ValueError("losses and norms must not be negative")


def diverged(metrics: "pd.DataFrame") -> bool:
    """Whether the last epoch's loss, of training or validation, is not finite."""
    last = metrics.iloc[-1]
    return has_diverged(last["train_loss"], last["validation_loss"])


def check_gradients(gradients: "pd.DataFrame", config: RunConfig, metrics: "pd.DataFrame") -> None:
    """Raise ValueError unless there is a row for each epoch, average and weight tensor of the network, in order.

    Only in the last epoch of a run that diverged may numbers be infinite or none.
    """
    import numpy as np

    epochs = len(metrics)

    logged = list(gradients.columns)[len(KEYS) :]
    known = [name for name in STATISTICS if name in logged]
    if list(gradients.columns) != [*KEYS, *known] or not known:  # older runs lack what is logged since
        raise ValueError(
            f"its columns must be {', '.join(KEYS)}, then of {', '.join(STATISTICS)} those that were logged"
        )
    names = [name for name in parameter_shapes(config) if name.endswith("weight")]
    count = len(names)
    kinds = [kind_of(name) for name in names]
    expected = {
        "epoch": np.repeat(np.arange(1, epochs + 1), 2 * count),
        "layer": np.tile(np.arange(count), 2 * epochs),
        "parameter": np.tile(np.array(names), 2 * epochs),
        "kind": np.tile(np.array(kinds), 2 * epochs),
        "over": np.tile(np.repeat(["last", "mean"], count), epochs),
    }
    for name, values in expected.items():
        numbers = name in ("epoch", "layer")
        dtype = gradients[name].dtype
        if (dtype.kind if numbers else dtype.name) not in ("i", "category"):
            raise ValueError(f"{name} is of type {dtype}; allowed: {'integers' if numbers else 'categories'}")
        # By its codes, of which a missing value's is -1: much faster than by each row's text.
        found = (
            gradients[name].to_numpy()
            if numbers
            else np.array([*map(str, gradients[name].cat.categories), ""])[gradients[name].cat.codes]
        )
        if not np.array_equal(found, values):
            raise ValueError(f"{name} is not what {config.name} with {epochs} epochs has")
    finite = (gradients["epoch"] < epochs) | (not diverged(metrics))
    for name in known:
        values = gradients[name]
        if values.dtype != np.float32 or (values < 0).any() or not (np.isfinite(values) | ~finite).all():
            raise ValueError(f"{name} must be finite float32 numbers of at least 0")


def check_signal(signal: "pd.DataFrame", config: RunConfig, metrics: "pd.DataFrame") -> None:
    """Raise ValueError unless there is a row for each layer, and for the logits, of the last epochs, in order.

    The first epochs may be missing: an older version may have trained them. A share that was not finite is missing.
    """
    import numpy as np

    if list(signal.dtypes.astype(str).items()) != list(SIGNAL_TYPES.items()):
        raise ValueError(f"its columns must be {', '.join(f'{name} ({kind})' for name, kind in SIGNAL_TYPES.items())}")
    places, last = config.depth + 1, len(metrics)
    epochs = len(signal) // places
    expected = np.repeat(np.arange(last - epochs, last) + 1, places), np.tile(np.arange(places) + 1, epochs)
    if not 1 <= epochs <= last or not np.array_equal(signal[["epoch", "layer"]].to_numpy().T, expected):
        raise ValueError(f"its rows are not {places} for each of the last of {last} epochs, in order")
    if ((signal["share"] < 0) | np.isinf(signal["share"])).any():
        raise ValueError("share must be finite numbers of at least 0, or missing")


def kind_of(parameter: str) -> str:
    """Of which kind of layer a parameter is, by its name: linear, bn or conv."""
    return "linear" if parameter.startswith("classifier") else "bn" if ".bn" in parameter else "conv"


def check_whole(summary: Summary, config: RunConfig, metrics: "pd.DataFrame") -> None:
    """Raise ValueError unless the summary is one of this configuration and repeats its epochs' rows of metrics.csv."""
    shapes = parameter_shapes(config).values()
    for name, found, expected in (
        ("parameters", summary["parameters"], sum(math.prod(shape) for shape in shapes)),
        ("train_images", summary["train_images"], config.train_images),
        ("diverged", summary["diverged"], diverged(metrics)),
    ):
        if found != expected:
            raise ValueError(f"{name} is {found}, by the run's other files {expected}")
    _check_epochs(summary, metrics)
    count, end = len(metrics), 0
    for segment in summary.get("segments", []):
        first, last = segment["first_epoch"], segment["last_epoch"]
        if first != end + 1 or last < first or segment["precision"] != config.precision:
            raise ValueError(f"its segments are not those of {count} epochs in {config.precision}")
        end = last
    if end not in (0, count):
        raise ValueError(f"its segments end with epoch {end}, metrics.csv with {count}")


def _check_epochs(summary: Summary, metrics: "pd.DataFrame") -> None:
    """Raise ValueError unless `final` is the last row and `best` the first of the highest validation accuracy."""
    finite = metrics[:-1] if summary["diverged"] else metrics
    best = int(finite["validation_accuracy"].idxmax()) + 1 if len(finite) else None
    rows = metrics.set_index("epoch")
    for which, values, epoch in (("final", summary["final"], len(metrics)), ("best", summary["best"], best)):
        found = values["epoch"] if values else None
        if found != epoch:
            raise ValueError(f"its {which} epoch is {found}, by metrics.csv {epoch}")
        if values is None:
            continue
        for name in rows.columns.intersection(MEASURED):
            recorded, told = float(rows.loc[epoch, name]), metric_of(values, name)
            if told != (recorded if math.isfinite(recorded) else None):
                raise ValueError(f"{which} {name} is {told}, in metrics.csv {recorded}")


def parameter_shapes(config: RunConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of each parameter of `networks.vgg.VGG`, from input to output, without torch."""
    filters = (NUM_FILTERS,)
    kernel = (NUM_FILTERS, NUM_FILTERS, 3, 3)
    shapes: dict[str, tuple[int, ...]] = {"entry.conv.weight": (NUM_FILTERS, 3, 3, 3)}
    shapes |= {"entry.bn.weight": filters, "entry.bn.bias": filters}
    for stage in range(1, NUM_STAGES + 1):
        blocks = [f"block{i}" for i in range(1, config.blocks_per_stage + 1)]
        for block in (*blocks, "reduction"):
            for place in (1, 2):
                prefix = f"stages.stage{stage}.{block}."
                shapes[f"{prefix}conv{place}.weight"] = kernel
                if block == "reduction":
                    shapes[f"{prefix}conv{place}.bias"] = filters
                if config.skip_init and block != "reduction":
                    shapes[f"{prefix}factor"] = ()
                if config.batch_norm:
                    shapes |= {f"{prefix}bn{place}.{part}": filters for part in ("weight", "bias")}
    return shapes | {"classifier.weight": (NUM_CLASSES, NUM_FILTERS), "classifier.bias": (NUM_CLASSES,)}
