"""Which runs are trained, in which order, and which of them side by side: settled before anything is loaded."""

import re
from collections.abc import Sequence
from typing import Any

from vggkit.config import ConfigError, RunConfig
from vggkit.study import Asked

SHARED = ("dataset", "train_images_per_class", "split_seed", "batch_size", "precision")
"""Settings in which runs that are trained together are alike."""
MOST_SEEDS = 1000
LONGEST_SHOWN = 100  # letters
SEEDS = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?", re.ASCII)
"""A seed, or the first and the last of several; none that is allowed has more digits."""


def seed_list(text: str, field: str = "seeds") -> list[int]:
    """The seeds of a text such as 0,1,2 or 0-4.

    Raises:
        ConfigError: it is no such text; the message names `field`.
    """
    seeds: list[int] = []
    for part in text.split(","):
        found = SEEDS.fullmatch(part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, -1)
        if not 0 <= last - first < MOST_SEEDS:
            shown = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
            raise ConfigError(
                f"{field}: {shown!r} is not allowed; allowed: integers as in 0,1,2 or 0-4, at most {MOST_SEEDS} in a "
                "row"
            )
        seeds += range(first, last + 1)
    return seeds


def order(names: Sequence[str | Asked], seeds: Sequence[int], together: int, **settings: Any) -> list[list[RunConfig]]:
    """Groups of runs to train together: the first `together` seeds of every configuration, then the next.

    A configuration may come with settings of its own, to which `settings` are added. A group is filled up with
    what comes next, unless that cannot be trained together with it, see `check_together`.

    >>> [[(run.depth, run.seed) for run in group] for group in order(["vgg08", "vgg38"], [0, 1, 2], 2)]
    [[(8, 0), (8, 1)], [(38, 0), (38, 1)], [(8, 2), (38, 2)]]

    Raises:
        ConfigError: a name, a setting or `together` is unusable.
    """
    if together < 1:
        raise ConfigError(f"together: {together!r} is not allowed; allowed: an integer of at least 1")
    wanted = [Asked(name) if isinstance(name, str) else name for name in names]
    for one in wanted:
        if clash := sorted(set(one.settings) & set(settings)):
            own = ", ".join(f"{name} {value}" for name, value in one.settings.items())
            raise ConfigError(
                f"{clash[0]}: {settings[clash[0]]!r} is not allowed for all runs, since {one.configuration} is asked "
                f"for with {own}; allowed: to leave it out, or to name the configurations"
            )
    lists: tuple[tuple[str, list[Any]], ...] = (("names", wanted), ("seeds", list(seeds)))
    for field, values in lists:
        if not values or any(values.count(value) > 1 for value in values):
            shown = list(names if field == "names" else seeds)
            raise ConfigError(f"{field}: {shown!r} is not allowed; allowed: at least one, each once")
    starts: dict[str, list[str]] = {}
    for one in wanted:
        config = RunConfig.named(one.configuration, **settings, **one.settings)
        starts.setdefault(config.name, []).append(one.configuration)
    for name, alike in starts.items():
        if len(alike) > 1:
            asked = " and ".join(dict.fromkeys(alike))
            raise ConfigError(f"names: {asked} are one run with these settings, {name}; allowed: those that differ")
    groups: list[list[RunConfig]] = []
    for start in range(0, len(seeds), together):
        for one in wanted:
            for seed in seeds[start : start + together]:
                config = RunConfig.named(one.configuration, **settings, **one.settings, seed=seed)
                if groups and len(groups[-1]) < together and _fit([*groups[-1], config]):
                    groups[-1].append(config)
                else:
                    groups.append([config])
    return groups


def _fit(group: Sequence[RunConfig]) -> bool:
    try:
        check_together(group)
    except ConfigError:
        return False
    return True


def check_together(configs: Sequence[RunConfig]) -> None:
    """Raise ConfigError unless the runs see the same images in batches of one size, in one precision, and drop nothing.

    Dropout's masks would be drawn in turn from one generator, and so depend on who else is trained.
    """
    if not configs or len(set(configs)) != len(configs):
        raise ConfigError("configs: runs trained together must be at least one, each another")
    for name in SHARED:
        values = [getattr(config, name) for config in configs]
        if len(set(values)) > 1:
            shown = " and ".join(str(value) for value in dict.fromkeys(values))
            raise ConfigError(f"{name}: {shown} is not allowed for runs trained together; allowed: one value for all")
    dropped = next((config.dropout for config in configs if config.dropout), 0.0)
    if dropped and len(configs) > 1:
        raise ConfigError(f"dropout: {dropped} is not allowed for runs trained together; allowed: 0")
