"""Networks and commands in words: how a run's settings are called in figures and tables."""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

from vggkit.config import RunConfig
from vggkit.report.markup import Html, as_html
from vggkit.runs.records import Run, segments
from vggkit.study import Asked, common_settings

INITIALISATIONS = {"he": "He", "lsuv": "LSUV"}


def exponent(value: float) -> str:
    """A number as the report writes it, 1e-4, with as many digits as it has.

    >>> exponent(1e-4), exponent(0.5), exponent(0.0)
    ('1e-4', '0.5', '0')
    """
    return f"{value:.15g}" if value == 0 or value >= 0.1 else f"{Decimal(repr(value)).normalize():e}"


def network(config: RunConfig) -> str:
    """What is trained: the network, how it begins and at which rate, and after a comma what else is not as usual.

    >>> network(RunConfig(learning_rate=1e-2, weight_decay=1e-4))
    'VGG38 BN+RC at 1e-2, weight decay 1e-4'
    >>> network(RunConfig(batch_norm=False, residual=False, initialisation="lsuv", depth=14))
    'VGG14 LSUV'
    """
    usual = RunConfig()
    kind = "+".join(["BN"] * config.batch_norm + ["RC"] * config.residual)
    begun = [INITIALISATIONS.get(config.initialisation, ""), "SkipInit" * config.skip_init]
    rate = f"at {exponent(config.learning_rate)}" if config.learning_rate != usual.learning_rate else ""
    decay = f"weight decay {exponent(config.weight_decay)}" + " (AdamW)" * config.decoupled_weight_decay
    changes = [
        decay if config.weight_decay else "",
        f"dropout {config.dropout:g}" if config.dropout else "",
        f"Adam's epsilon {exponent(config.adam_epsilon)}" if config.adam_epsilon != usual.adam_epsilon else "",
        "rate stepped after every batch" if config.schedule != usual.schedule else "",
        "shortcuts around reduction blocks" if config.reduction_shortcut else "",
    ]
    name = " ".join(filter(None, [f"VGG{config.depth:02d}", kind, *begun, rate]))
    return ", ".join([name, *filter(None, changes)])


def machine(device: str | None) -> str:
    """A device's name in few words: without signs of trade marks and what every processor is called.

    >>> machine("Intel(R) Xeon(R) Processor @ 2.50GHz")
    'Intel Xeon @ 2.50GHz'
    """
    return " ".join(re.sub(r"\((?:R|TM)\)|\b(?:CPU|Processor)\b", " ", device or "unknown").split())


def machines(runs: Iterable[Run]) -> str:
    """What the epochs of runs were trained on."""
    return ", ".join(sorted({machine(part["device"]) for run in runs for part in segments(run)}))


def command(asked: Asked, suite: str) -> str:
    """The command that trains it, in the precision of the suite, or else in that of this book's runs."""
    precision = {} if "precision" in common_settings(suite) else {"precision": "bfloat16"}
    settings = {**asked.settings, **precision}
    options = "".join(f" --{name.replace('_', '-')} {_option(value)}" for name, value in settings.items())
    return f"vggkit train {asked.configuration} --suite {suite}{options}"


def _option(value: object) -> str:
    return (
        str(value).lower() if isinstance(value, bool) else exponent(value) if isinstance(value, float) else str(value)
    )


def commands_html(what: str, commands: Sequence[str]) -> Html:
    """Commands to copy, folded away under a line that says what they are."""
    text = "\n".join(dict.fromkeys(commands))
    return Html(f"<details><summary>{as_html(what)}</summary><pre>{as_html(text)}</pre></details>", f"{what}:\n{text}")
