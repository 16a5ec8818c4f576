"""The study as data: what is asked and what is measured, and the report's own values.

A new configuration, suite or statistic of the gradients is one row here. Table 1, the figures with their
colours, the command line and the pages follow from it; a row without runs yet is shown as such.
"""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

FULL = "table1"
"""The suite by which the report's values and claims are judged."""
FLOAT32 = "float32"
"""The suite of plain networks in float32, which stand beside those in bfloat16."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A row of Table 1.

    Attributes:
        title: its name in tables and figures.
        settings: fields of `RunConfig` that it sets.
        colour: its place in seaborn's colour-blind palette.
        line: matplotlib's line style: networks at another learning rate share a colour and differ here.
        marker: matplotlib's marker, so that lines can be told apart without colour.
    """

    title: str
    settings: Mapping[str, Any]
    colour: int
    line: str = "-"
    marker: str


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Runs with common settings, in a folder of their own under results/.

    Attributes:
        purpose: what it is for, as a clause for the command line and the book.
        settings: fields of `RunConfig` that all its runs share.
        shown: whether the book shows its runs; the first suite of `SUITES` that has a run of a
            configuration stands for it.
        asked: the runs that a sweep of it trains, the most wanted first; where there are none, all of `CONFIGURATIONS`.
    """

    purpose: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    shown: bool = False
    asked: "Sequence[Asked]" = ()


class Asked(NamedTuple):
    """A configuration with settings that it does not have by itself."""

    configuration: str
    settings: Mapping[str, Any] = {}


def _network(depth: int, batch_norm: bool = False, residual: bool = False, **settings: Any) -> dict[str, Any]:
    return {"depth": depth, "batch_norm": batch_norm, "residual": residual, **settings}


CONFIGURATIONS: dict[str, Configuration] = {
    "vgg08": Configuration(title="VGG08", settings=_network(8), colour=7, marker="o"),
    "vgg38": Configuration(title="VGG38", settings=_network(38), colour=0, marker="s"),
    "vgg38_bn": Configuration(title="VGG38 BN", settings=_network(38, batch_norm=True), colour=1, marker="^"),
    "vgg38_rc": Configuration(title="VGG38 RC", settings=_network(38, residual=True), colour=2, marker="D"),
    "vgg38_bn_rc": Configuration(
        title="VGG38 BN+RC", settings=_network(38, batch_norm=True, residual=True), colour=3, marker="v"
    ),
    "vgg38_bn_lr1e-2": Configuration(
        title="VGG38 BN at 1e-2",
        settings=_network(38, batch_norm=True, learning_rate=1e-2),
        colour=1,
        line="--",
        marker="^",
    ),
    "vgg38_bn_rc_lr1e-2": Configuration(
        title="VGG38 BN+RC at 1e-2",
        settings=_network(38, batch_norm=True, residual=True, learning_rate=1e-2),
        colour=3,
        line="--",
        marker="v",
    ),
}

_PREVIEW = {"epochs": 10, "train_images_per_class": 158}
_SHORT = {"epochs": 15}
BEST = "vgg38_bn_rc_lr1e-2"
"""The configuration that the report's further experiments begin with."""
DEPTHS = (8, 14, 20, 26, 32, 38)
"""Of the networks whose accuracy is told against their depth."""
SMALL = 1e-4
"""A learning rate at which a step of Adam changes weights of the scale of He et al. by about a thousandth."""
SCALES = (
    Asked("vgg38", {"initialisation": "he"}),
    Asked("vgg38", {"initialisation": "lsuv"}),
    Asked("vgg38", {"initialisation": "he", "learning_rate": SMALL}),
    Asked("vgg38", {"initialisation": "lsuv", "learning_rate": SMALL}),
    Asked("vgg38", {"learning_rate": SMALL}),
)
"""VGG38 without BN and RC, begun with weights of another scale, at the report's rate and at a small one."""
SKIP_INIT = Asked("vgg38_rc", {"skip_init": True})
CURES = (*SCALES, SKIP_INIT)
"""VGG38 without BN, begun in another way."""
LOST = DEPTHS[2:]
"""Depths at which plain networks in bfloat16 did not learn."""
NEGLIGIBLE = 1e-20
"""An epsilon of Adam's below the mean gradient of every layer of plain networks of up to 32 layers before training.

Those of VGG38 are too small for it: training flushes denormal numbers, and so what Adam adds up, a thousandth of the
square, of a gradient below 3e-18."""
BY_DEPTH = (
    *(Asked("vgg38", {"depth": depth}) for depth in DEPTHS[1:-1]),
    *(Asked("vgg38", {"depth": depth, "initialisation": "he"}) for depth in DEPTHS[:-1]),
    Asked("vgg38_bn", {"depth": 8}),
    *(Asked(name, {"depth": depth}) for depth in DEPTHS[1:-1] for name in ("vgg38_bn", "vgg38_rc", "vgg38_bn_rc")),
    Asked("vgg38", {"depth": LOST[0], "adam_epsilon": NEGLIGIBLE}),
)
"""Of VGG08 and VGG38 as they are, suite `short` has the runs, of VGG38 after He initialisation suite `cure`."""
LARGER = (1e-7, 1e-6)
"""Epsilons of Adam's above the usual one and below the mean gradient of every layer of VGG08 before training; that of
most layers of plain VGG20 is far below the first of them, and that of nearly all below the second."""
IN_FLOAT32 = (
    *(Asked("vgg38", {"depth": depth}) for depth in LOST),
    *(Asked("vgg38", {"depth": depth, "adam_epsilon": NEGLIGIBLE}) for depth in LOST[:-1]),
    *(Asked("vgg38", {"depth": LOST[0], "adam_epsilon": epsilon}) for epsilon in LARGER),
    Asked("vgg38", {"depth": DEPTHS[0], "adam_epsilon": LARGER[-1]}),
)
"""Plain networks in float32: with Adam's usual epsilon; with one that no gradient is lost to; and with ones that the
gradient of VGG20 is lost to, beside VGG08, which shows what such an epsilon does to a network that keeps both."""
REGULARISED = (
    *(Asked(BEST, {"weight_decay": decay}) for decay in (1e-4, 1e-5, 1e-6)),
    *(Asked(BEST, {"weight_decay": decay, "decoupled_weight_decay": True}) for decay in (1e-4, 1e-5, 1e-6)),
    *(Asked(BEST, {"dropout": dropout}) for dropout in (0.1, 0.3, 0.5)),
)
OVERFITTED = (Asked(BEST), REGULARISED[0], REGULARISED[-1], REGULARISED[6], REGULARISED[3])
"""The best network of the report, which overfits, as it is and with what may stand against that."""
RATES = (
    Asked("vgg38_rc", {"learning_rate": 1e-2}),
    *(Asked(name, {"learning_rate": 1e-1}) for name in ("vgg08", "vgg38", "vgg38_bn", "vgg38_rc", "vgg38_bn_rc")),
)

# The fullest first: where several have runs of a configuration, the first one shown stands for it.
SUITES: dict[str, Suite] = {
    FULL: Suite(purpose="the report's setting: all images, 100 epochs", shown=True),
    "short": Suite(purpose="all images, 15 epochs", settings=_SHORT, shown=True),
    "preview": Suite(purpose="a third of the images, 10 epochs", settings=_PREVIEW, shown=True),
    "schedule": Suite(
        purpose="the report's setting with the rate stepped after every batch",
        settings={"schedule": "cosine-per-batch"},
    ),
    "placement": Suite(
        purpose="the report's setting with shortcuts around the reduction blocks too",
        settings={"reduction_shortcut": True},
        asked=(Asked("vgg38_bn_rc"), Asked("vgg38_rc"), Asked(BEST)),
    ),
    "cure": Suite(
        purpose="short, VGG38 without BN after other initialisations, some at a smaller learning rate",
        settings=_SHORT,
        asked=CURES,
    ),
    FLOAT32: Suite(
        purpose="short, plain networks in float32, some with another epsilon of Adam's",
        settings=_SHORT | {"precision": "float32"},
        asked=IN_FLOAT32,
    ),
    "depth": Suite(purpose="short, networks between VGG08 and VGG38", settings=_SHORT, asked=BY_DEPTH),
    "further": Suite(purpose="short, the report's further experiments", settings=_SHORT, asked=(*RATES, *REGULARISED)),
    "beside": Suite(
        purpose="the report's setting, what is not in Table 1",
        asked=(*SCALES[2:4], Asked("vgg08", {"batch_norm": True}), REGULARISED[0], REGULARISED[-1]),
    ),
    "few": Suite(
        purpose="2,500 images in batches of 25, 100 epochs",
        settings={"train_images_per_class": 25, "batch_size": 25, "precision": "float32"},
        asked=OVERFITTED,
    ),
}


@dataclass(frozen=True)
class Step:
    """What a step of the optimiser did to the T weight tensors, on the training device.

    Attributes:
        weights: the tensors after the step, their gradients in `.grad`.
        updates: for each tensor its value before the step minus that after it.
        elements: number of elements of each tensor, (T,) float64, as all that follow.
        gradient_l1, gradient_l2: norms of each tensor's gradient.
        weight_l2: norm of each tensor before the step.
        update_l2: norm of each update.
    """

    weights: "Sequence[Tensor]"
    updates: "Sequence[Tensor]"
    elements: "Tensor"
    gradient_l1: "Tensor"
    gradient_l2: "Tensor"
    weight_l2: "Tensor"
    update_l2: "Tensor"


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """Something that is logged of every weight tensor at every step of the optimiser.

    Attributes:
        label: its name on axes and in captions.
        unit: what one of it is.
        compute: from a step to one float64 value of at least 0 for each weight tensor, (T,), on the training device,
            without waiting for it.
    """

    label: str
    unit: str
    compute: "Callable[[Step], Tensor]"


# Columns of a run's gradients. With G the gradient of a weight tensor W:
STATISTICS: dict[str, Statistic] = {
    # mean of |G| over the tensor's elements
    "mean_abs": Statistic(
        label="mean |gradient|", unit="loss per weight", compute=lambda step: step.gradient_l1 / step.elements
    ),
    # ||G||_2
    "l2_norm": Statistic(
        label="L2 norm of the gradient", unit="loss per weight", compute=lambda step: step.gradient_l2
    ),
    # ||W_after - W_before||_2 / ||W_before||_2 of the optimiser's step
    "update_ratio": Statistic(
        label="|update| / |weight|", unit="share of the weight", compute=lambda step: step.update_l2 / step.weight_l2
    ),
}

REPORT: dict[str, Any] = tomllib.loads(resources.files("vggkit").joinpath("report.toml").read_text(encoding="utf-8"))
"""The only numbers in the book that no run of ours gave; see the file."""


def shown_suites() -> list[str]:
    """The suites that the book shows, the fullest first."""
    return [name for name, suite in SUITES.items() if suite.shown]


def common_settings(suite: str) -> Mapping[str, Any]:
    """The settings that all runs of a suite share. A name that is none of `SUITES` is a suite with the defaults."""
    return SUITES[suite].settings if suite in SUITES else {}


def asked(suite: str) -> Sequence[Asked]:
    """What a sweep of the suite trains, unless it is told what."""
    return (SUITES[suite].asked if suite in SUITES else ()) or [Asked(name) for name in CONFIGURATIONS]


def title(name: str) -> str:
    """A run's title: that of its configuration, else its own name."""
    return CONFIGURATIONS[name].title if name in CONFIGURATIONS else name
