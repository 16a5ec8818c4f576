"""What a run is: one frozen, validated configuration.

A run's settings are the defaults below, changed by its suite (`study.SUITES`), by its named
configuration (`study.CONFIGURATIONS`) and by whoever starts it, in this order. What a suite sets, `RunConfig.named`
lets nobody change.
"""

import difflib
import itertools
import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from decimal import Decimal
from typing import Any, NamedTuple, get_args, get_type_hints

from vggkit.study import CONFIGURATIONS, SUITES, common_settings


class OneLineError(Exception):
    """A mistake of the user's: notebooks show the message instead of a traceback."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for it
        return [f"{type(self).__name__}: {self}"]


class ConfigError(OneLineError, ValueError):
    """A setting that cannot be used; its message is one line that names field and allowed values."""


class DatasetSize(NamedTuple):
    """Images of each of the 100 classes."""

    train: int
    validation: int
    test: int


NUM_CLASSES = 100
IMAGE_SIZE = 32  # pixels, in height and width
NUM_FILTERS = 32  # of every convolution
NUM_STAGES = 3  # at 32x32, 16x16 and 8x8 pixels
MOST_EPOCHS = 1_000_000
NO_SUITES = ("bench", "change", "epsilon", "imported", "precision", "propagation", "signal")
"""Folders of results that hold measurements, or runs made elsewhere."""
LONGEST_SUITE = 64  # letters: it is part of a folder's name
NEGATIVE_SLOPE = 0.01  # of LeakyReLU
ADAM_EPSILON = 1e-8  # PyTorch's default
DATASETS = {"cifar100": DatasetSize(475, 25, 100), "synthetic": DatasetSize(50, 5, 10)}
SCHEDULES = ("cosine", "constant", "cosine-per-batch")
PRECISIONS = ("float32", "tf32", "bfloat16")
DRAWN = ("default", "he")
"""Initialisations that a seed alone decides."""
INITIALISATIONS = (*DRAWN, "lsuv")  # the last one looks at the first batch as well


def _setting(default: Any, meaning: str, choices: Iterable[str] = ()) -> Any:
    return field(default=default, metadata={"help": meaning, "choices": tuple(choices)})


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Every setting that decides a run's numbers; where data and results lie is not part of it.

    Two runs of one configuration are equal bit for bit where they are trained on one kind of processor, with
    the same number of threads, the same versions of this library and of torch, and the same fusing (see
    `training.runner.train`). Elsewhere they differ by rounding, which training magnifies as it does a change of seed.

    Raises:
        ConfigError: a value has the wrong type or is impossible.
    """

    suite: str = _setting("local", "group of runs with common settings; its folder in results/")
    depth: int = _setting(38, "layers with weights: 8 + 6 x blocks per stage (8, 14, 20, ...)")
    batch_norm: bool = _setting(True, "batch normalisation in processing and reduction blocks")
    residual: bool = _setting(True, "identity shortcut around each processing block")
    reduction_shortcut: bool = _setting(False, "shortcut around each reduction block too: its input, pooled")
    initialisation: str = _setting(
        "default", "PyTorch's default, He et al. (2015), or LSUV (Mishkin and Matas 2016)", INITIALISATIONS
    )
    skip_init: bool = _setting(False, "a learned factor, 0 at first, before each shortcut is added (SkipInit)")
    dropout: float = _setting(0.0, "probability of dropping a feature before the linear layer")
    dataset: str = _setting("cifar100", "images to train on", DATASETS)
    train_images_per_class: int | None = _setting(None, "training images of each class; None: all")
    split_seed: int = _setting(0, "draws the validation images; independent of seed")
    batch_size: int = _setting(100, "images per training step")
    epochs: int = _setting(100, "passes over the training images")
    learning_rate: float = _setting(1e-3, "Adam's learning rate in the first epoch")
    minimum_learning_rate: float = _setting(2e-5, "where cosine annealing ends")
    schedule: str = _setting("cosine", "learning rate over time", SCHEDULES)
    weight_decay: float = _setting(0.0, "L2 penalty added to the gradient by Adam")
    decoupled_weight_decay: bool = _setting(False, "weights decay by themselves, not by the gradient (AdamW)")
    adam_epsilon: float = _setting(ADAM_EPSILON, "added by Adam to a gradient's running size, by which it divides")
    precision: str = _setting("float32", "arithmetic of the network", PRECISIONS)
    seed: int = _setting(0, "draws initial weights, batch order, augmentation, dropout")

    def __post_init__(self) -> None:
        for item in fields(self):
            value = _typed(item.name, getattr(self, item.name), _TYPES[item.name])
            object.__setattr__(self, item.name, value)
            choices = item.metadata["choices"]
            _require(not choices or value in choices, item.name, value, f"one of {', '.join(choices)}")
        self._check_ranges()

    def _check_ranges(self) -> None:
        def check(holds: bool, name: str, allowed: str) -> None:
            _require(holds, name, getattr(self, name), allowed)

        plain = self.suite.replace("-", "").replace("_", "")
        check(plain.isascii() and plain.isalnum() and len(self.suite) <= LONGEST_SUITE, "suite",
              f"letters, digits, '-' and '_', at most {LONGEST_SUITE}")  # fmt: skip
        check(self.suite not in NO_SUITES, "suite", "another name: that folder of results holds no runs")
        check_depth(self.depth)
        check_skip_init(self.skip_init, self.batch_norm, self.residual)
        check_reduction_shortcut(self.reduction_shortcut, self.residual)
        check(0 <= self.dropout < 1, "dropout", "a number from 0 up to, but not including, 1")
        size, images = DATASETS[self.dataset].train, self.train_images
        check(NUM_CLASSES <= images <= size * NUM_CLASSES, "train_images_per_class",
              f"1 to {size} for {self.dataset}, or None for all")  # fmt: skip
        check(1 <= self.batch_size <= images, "batch_size", f"1 to {images}, the number of training images")
        check(1 <= self.epochs <= MOST_EPOCHS, "epochs", f"an integer from 1 to {MOST_EPOCHS}")
        # Denormal numbers are zero while a run trains.
        check(self.learning_rate >= sys.float_info.min, "learning_rate", "a finite number above 0")
        check(self.minimum_learning_rate >= 0, "minimum_learning_rate", "a finite number of at least 0")
        if self.schedule != "constant":
            check(self.minimum_learning_rate <= self.learning_rate, "minimum_learning_rate",
                  f"at most learning_rate ({self.learning_rate:g}) with schedule {self.schedule}")  # fmt: skip
        check(self.weight_decay >= 0, "weight_decay", "a finite number of at least 0")
        check(not self.decoupled_weight_decay or self.weight_decay > 0, "decoupled_weight_decay",
              "false where weight_decay is 0")  # fmt: skip
        # The optimiser computes in float32, whose smaller numbers are zero while a run trains.
        check(self.adam_epsilon >= 2.0**-126, "adam_epsilon", "a finite number of at least 1.2e-38, float32's smallest")
        for name in ("seed", "split_seed"):
            check(0 <= getattr(self, name) < 2**31, name, "an integer from 0 to 2147483647")

    @property
    def model(self) -> str:
        """The network's name, such as vgg38_bn_rc."""
        return f"vgg{self.depth:02d}" + "_bn" * self.batch_norm + "_rc" * self.residual

    @property
    def name(self) -> str:
        """The run's name, made of the network and of every setting in which the run differs from its suite.

        `seed` and `precision` are left out: they should not change what is found.

        >>> RunConfig(learning_rate=0.01, weight_decay=1e-4, seed=3).name
        'vgg38_bn_rc_lr1e-2_wd1e-4'
        """
        common = {**_DEFAULTS, **common_settings(self.suite)}
        silent = {"suite", "depth", "batch_norm", "residual", "seed", "precision"}
        different = {k: v for k, v in asdict(self).items() if k not in silent and v != common[k]}
        parts = [_ABBREVIATIONS.get(k, k.replace("_", "-")) + _short(v) for k, v in different.items()]
        return "_".join([self.model, *parts])

    @property
    def blocks_per_stage(self) -> int:
        return (self.depth - 8) // 6

    @property
    def train_images(self) -> int:
        """Images of all classes that an epoch goes over."""
        chosen = self.train_images_per_class
        return NUM_CLASSES * (DATASETS[self.dataset].train if chosen is None else chosen)

    @property
    def parameters(self) -> int:
        """Trainable parameters of the network, counted without building it; `networks.vgg.VGG` is the network.

        >>> RunConfig(depth=38, batch_norm=True).parameters - RunConfig(depth=38, batch_norm=False).parameters
        2304
        """
        weights, norm = 9 * NUM_FILTERS**2, 2 * NUM_FILTERS  # of a convolution of 3x3 between filters, of a BN
        entry = 9 * 3 * NUM_FILTERS + norm
        processing = 2 * weights + 2 * norm * self.batch_norm + self.skip_init
        reduction = 2 * (weights + NUM_FILTERS) + 2 * norm * self.batch_norm
        linear = (NUM_FILTERS + 1) * NUM_CLASSES
        return entry + NUM_STAGES * (self.blocks_per_stage * processing + reduction) + linear

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "RunConfig":
        """Build from names and values.

        Raises:
            ConfigError: as the class; also for a name that is no field, with the nearest one.
        """
        for name in settings:
            check_name("field", name, _DEFAULTS)
        return cls(**settings)

    @classmethod
    def named(cls, configuration: str, **settings: Any) -> "RunConfig":
        """One of `study.CONFIGURATIONS` under its suite's common settings, changed by `settings`.

        The runs that the study asks for besides are known by their own names.

        >>> RunConfig.named("vgg08", suite="short").epochs
        15
        >>> RunConfig.named("vgg20_bn").depth
        20

        Raises:
            ConfigError: the configuration or a setting is unknown or unusable, or all runs of the suite have another.
        """
        suite = str(settings.get("suite", _DEFAULTS["suite"]))
        common = common_settings(suite)
        for name, shared in common.items():
            if (value := settings.get(name, shared)) != shared:
                raise ConfigError(
                    f"{name}: {value!r} is not allowed in the suite {suite}, whose runs all have {shared!r}; allowed: "
                    "to leave it out, or another suite, which may have a new name"
                )
        return cls.from_dict({**common, **cls._settings_of(configuration), **settings})

    @classmethod
    def _settings_of(cls, name: str) -> Mapping[str, Any]:
        """Those of a configuration, or of a run that a suite of the study asks for. Raises ConfigError: neither."""
        if name in CONFIGURATIONS:
            return CONFIGURATIONS[name].settings
        asked = itertools.chain.from_iterable(suite.asked for suite in SUITES.values())
        study = [{**CONFIGURATIONS[one.configuration].settings, **one.settings} for one in asked]
        named = {cls.from_dict(settings).name: settings for settings in study}
        if name not in named:
            check_name("configuration", name, CONFIGURATIONS, also=named)
        return named[name]

    @classmethod
    def from_text(cls, name: str, text: str) -> Any:
        """Read a field's value from the command line's `text` by the field's type.

        >>> RunConfig.from_text("learning_rate", "1e-2"), RunConfig.from_text("train_images_per_class", "none")
        (0.01, None)

        Raises:
            ConfigError: the name is no field, or the text is no value of its type.
        """
        check_name("field", name, _DEFAULTS)
        wanted = _TYPES[name]
        if type(None) in get_args(wanted) and text.lower() == "none":
            return None
        if bool is wanted and text.lower() in ("true", "false"):
            return text.lower() == "true"
        for kind in (int, float):
            # Python takes 1_0 and other scripts' digits for numbers, which are a slip of the pen more often.
            if kind in (wanted, *get_args(wanted)) and text.isascii() and "_" not in text:
                try:
                    return _typed(name, kind(text), wanted)
                except ValueError:
                    pass
        return _typed(name, text, wanted)


_ABBREVIATIONS = {
    "learning_rate": "lr", "weight_decay": "wd", "dataset": "", "schedule": "", "initialisation": "init-",
    "skip_init": "skipinit", "decoupled_weight_decay": "decoupled", "adam_epsilon": "eps",
}  # fmt: skip
_TYPES = get_type_hints(RunConfig)
_DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(RunConfig) if f.default is not MISSING}


DEEPEST = 1202
"""Layers at most: as many as the deepest network of He et al. (2016, "Deep residual learning", section 4.2) has."""


def check_depth(depth: int) -> None:
    """Raise ConfigError, naming the nearest depths, unless depth = 8 + 6 x blocks per stage, up to `DEEPEST`."""
    if not 8 <= depth <= DEEPEST or (depth - 8) % 6:
        below = max(8, depth - (depth - 8) % 6)
        nearest = "8" if depth < 8 else str(DEEPEST) if depth > DEEPEST else f"{below} and {below + 6}"
        allowed = f"8 + 6 x blocks per stage (8, 14, 20, ..., 38, ..., {DEEPEST}); nearest: {nearest}"
        raise ConfigError(f"depth: {depth} is not allowed; allowed: {allowed}")


def check_skip_init(skip_init: bool, batch_norm: bool, residual: bool) -> None:
    """Raise ConfigError unless there is a shortcut for SkipInit, and no BN, which it stands in for."""
    allowed = "false without residual, and with batch_norm, which it takes the place of"
    _require(not skip_init or (residual and not batch_norm), "skip_init", skip_init, allowed)


def check_reduction_shortcut(reduction_shortcut: bool, residual: bool) -> None:
    """Raise ConfigError where only the reduction blocks would have shortcuts."""
    _require(not reduction_shortcut or residual, "reduction_shortcut", reduction_shortcut, "false without residual")


def check_name(kind: str, name: str, known: Iterable[str], also: Iterable[str] = ()) -> None:
    """Raise ConfigError, naming the nearest known name, or one of `also` that is nearly it, unless `name` is known."""
    known = list(known)
    if name not in known:
        near = [one for one in known if _plainly(one) == _plainly(name)]
        near = near or difflib.get_close_matches(name, also, n=1, cutoff=0.85)
        near = near or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"unknown {kind} {name!r}: {hint}allowed: {', '.join(known) or 'none yet'}")


def _plainly(name: str) -> str:
    """A name in small letters with each number as it counts: VGG8 is vgg08, and not nearly vgg38."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", name.lower())


def _require(holds: bool, name: str, value: Any, allowed: str) -> None:
    if not holds:
        raise ConfigError(f"{name}: {value!r} is not allowed; allowed: {allowed}")


_KINDS = {int: "an integer", float: "a finite number", bool: "true or false", str: "text"}


def _typed(name: str, value: Any, wanted: Any) -> Any:
    """`value` as the field's type: an integer may stand for a number, nothing else is converted."""
    kinds = get_args(wanted) or (wanted,)
    if value is None and type(None) in kinds:
        return value
    kind = next(k for k in kinds if k is not type(None))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
    right = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    if kind is float and right:
        right = math.isfinite(value)
    _require(right, name, value, _KINDS[kind])
    return float(value) + 0.0 if kind is float else value  # -0.0 + 0.0 is 0.0: one value, one name


def _short(value: Any) -> str:
    if isinstance(value, bool):  # the setting's name says it
        return "" if value else "-off"
    if isinstance(value, float) and value:  # 0.01 -> 1e-2, as Table 1 writes it, with every digit
        return f"{Decimal(repr(value)).normalize():e}".replace("e+", "e")
    return f"{value:g}" if isinstance(value, float) else str(value)
