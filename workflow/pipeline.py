"""Which runs a study asks for, in which jobs they are trained, and how far they are. The Snakefile is built of it.

A run is known by its settings, which its folder's name tells. So a changed setting in the configuration is another
run in another folder: it alone is trained, and the old one stays. Where the name does not tell a setting, such as
the precision, a finished run of the same name is refused in one line, before any job.
"""

import functools
import itertools
import math
import operator
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from vggkit.bench import cost
from vggkit.config import ConfigError, RunConfig, check_name
from vggkit.folders import exists, expanded, results_folder
from vggkit.runs.files import RunPaths, replace_file
from vggkit.study import CONFIGURATIONS, shown_suites
from vggkit.training.order import seed_list

if TYPE_CHECKING:
    from jsonschema import ValidationError

SCHEMA = Path(__file__).with_name("config.schema.yaml")
KEPT = ".pipeline"  # under the results: hidden, so that no command takes it for a suite
MOST_LINES = 20  # of what is told before the jobs
LEAST_MINUTES, PATIENCE = 10, 3  # of a job's time limit: at least, and over what is expected


@dataclass(frozen=True)
class Setting:
    """A setting of a study, and where it stands there, as in `grid.depth.1`."""

    place: str
    field: str
    value: Any

    def read(self) -> Any:
        """The value by the field's type: YAML has `1e-2` as text.

        Raises:
            ConfigError: it is no value of the type, or the study gives this field otherwise.
        """
        if self.field in ("seed", "suite"):
            own = self.field.replace("seed", "seeds")
            raise ConfigError(f"{self.place}: {self.field} is not allowed here; allowed: the study's own {own}")
        try:
            return RunConfig.from_text(self.field, self.value) if isinstance(self.value, str) else self.value
        except ConfigError as error:
            raise _placed(error, {self.field: self}) from None


@dataclass(frozen=True)
class Variant:
    """A configuration with its settings, and the seeds that it is trained with.

    Attributes:
        configuration: a row of Table 1.
        settings: what the study sets, by the fields of `RunConfig`.
        configs: its runs, one for each seed.
    """

    configuration: str
    settings: Mapping[str, Any]
    configs: tuple[RunConfig, ...]

    @property
    def name(self) -> str:
        return self.configs[0].name

    @property
    def options(self) -> str:
        """The settings as options of `vggkit sweep`."""
        return " ".join(f"--set {field}={_as_text(value)}" for field, value in self.settings.items())

    @property
    def parameters(self) -> dict[str, Any]:
        """What the run notebook needs to load the first seed's run."""
        first = self.configs[0]
        parameters = {"configuration": self.configuration, "suite": first.suite, "precision": first.precision}
        return parameters | self.settings | ({"seed": first.seed} if first.seed else {})


@dataclass(frozen=True)
class Study:
    """All that a study's configuration asks for.

    Attributes:
        suite: the suite of its runs.
        variants: in the order of the configuration, each once.
        together: how many seeds of a variant one job trains side by side.
        results, output: folders, of the runs and of what is made of them.
    """

    suite: str
    variants: tuple[Variant, ...]
    together: int
    results: Path
    output: Path

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> "Study":
        """From the content of a configuration that the schema allows.

        Raises:
            ConfigError: a configuration, setting, seed or folder is not allowed, or two runs would share a folder.
        """
        suite = config["suite"]
        found: dict[RunConfig, Variant] = {}
        for number, entry in enumerate(config["configurations"]):
            place = f"configurations.{number}"
            entry = {"name": entry} if isinstance(entry, str) else entry
            common, own = (
                _settings("settings", config["settings"]),
                _settings(f"{place}.settings", entry.get("settings", {})),
            )
            grid = [
                [Setting(f"grid.{field}.{index}", field, value) for index, value in enumerate(values)]
                for field, values in config["grid"].items()
                if field not in entry.get("settings", {})
            ]
            seeds = _seeds(entry["seeds"], f"{place}.seeds") if "seeds" in entry else _seeds(config["seeds"], "seeds")
            for point in itertools.product(*grid):
                given = {setting.field: setting for setting in (*common, *point, *own)}
                settings = {field: setting.read() for field, setting in given.items()}
                try:
                    configs = tuple(RunConfig.named(entry["name"], suite=suite, **settings, seed=s) for s in seeds)
                except ConfigError as error:
                    raise _placed(error, given) from None
                key = replace(configs[0], seed=0)
                if key in found:  # at one depth two configurations may be one network: its runs are trained once
                    configs = tuple(dict.fromkeys((*found[key].configs, *configs)))
                    entry, settings = {"name": found[key].configuration}, found[key].settings
                found[key] = Variant(entry["name"], settings, configs)
        results, output = results_folder(config["results"]), expanded("output", config["output"]).absolute() / suite
        for field, folder in (("results", results), ("output", output)):
            _check_writable(field, folder)
        study = cls(suite, tuple(found.values()), config["together"], near(results), near(output))
        study._check_folders()
        return study

    def _check_folders(self) -> None:
        """Raise ConfigError where two variants have one name, and so one folder."""
        by_name: dict[str, RunConfig] = {}
        for variant in self.variants:
            config = replace(variant.configs[0], seed=0)
            other = by_name.setdefault(variant.name, config)
            if other != config:
                raise ConfigError(
                    f"configurations: {variant.name} is asked for with precision {other.precision} and "
                    f"{config.precision}, which share a folder; allowed: one of them in a suite"
                )

    @property
    def runs(self) -> list[RunConfig]:
        return [config for variant in self.variants for config in variant.configs]

    def shown_in(self, project: Path) -> bool:
        """Whether the book of `project` shows the runs: its suite is one of the book's, the results are its own."""
        return self.suite in shown_suites() and self.results.resolve() == (project / "results").resolve()

    @property
    def kept(self) -> Path:
        """Where it is noted which jobs are done."""
        return self.results / KEPT / self.suite

    def jobs(self, variant: Variant) -> Iterator[tuple[str, list[Path]]]:
        """A variant's jobs: the seeds as `vggkit sweep --seeds` takes them, and the summaries of their runs."""
        for start in range(0, len(variant.configs), self.together):
            group = variant.configs[start : start + self.together]
            yield _seed_text([c.seed for c in group]), [self._summary(config) for config in group]

    def done(self, variant: Variant) -> list[Path]:
        """The notes of a variant's finished jobs, see `note_what_is_finished`."""
        return [self.kept / variant.name / f"seeds-{seeds}.json" for seeds, _ in self.jobs(variant)]

    def _summary(self, config: RunConfig) -> Path:
        return RunPaths.of(self.results, config).folder / "summary.json"

    def note_what_is_finished(self) -> None:
        """Bring the notes into line with the runs that there are.

        A note holds the summaries of a job's runs, with their checksums, and is what the pipeline counts as the job's
        output: Snakemake removes and rewrites outputs as it sees fit, which a run of hours is never exposed to. A run
        that came with a clone, or was trained by hand, is noted here; the note of one that is gone is removed.

        Raises:
            ArtifactError: a run is damaged or of other settings, or the note cannot be written.
        """
        for variant in self.variants:
            states = {config.seed: cost.state(self.results, config) for config in variant.configs}
            for note, (_, summaries) in zip(self.done(variant), self.jobs(variant), strict=True):
                finished = all(
                    states[int(path.parent.name.removeprefix("seed-"))] == cost.FINISHED for path in summaries
                )
                content = b"".join(path.read_bytes() for path in summaries) if finished else None
                if content is None:
                    note.unlink(missing_ok=True)
                elif not note.is_file() or note.read_bytes() != content:
                    note.parent.mkdir(parents=True, exist_ok=True)
                    replace_file(note, content)
                    newest = max(path.stat().st_mtime_ns for path in summaries)
                    os.utime(note, ns=(newest, newest))

    def told(self, speeds: cost.Speeds) -> list[str]:
        """In a line for each variant and one for all: what is finished, goes on, or is new, and the hours left."""
        lines, costs = [], []
        for variant in self.variants:
            costs.append(its := cost.cost(variant.configs, speeds, self.results))
            if its.states[cost.FINISHED] < its.runs:
                counts = ", ".join(f"{number} {state}" for state, number in its.states.items() if number)
                lines.append(f"{variant.name}: {counts}; about {its.left:,.2g} hours left")
        if len(lines) > MOST_LINES:
            lines = [*lines[:MOST_LINES], f"... and {len(lines) - MOST_LINES} configurations more"]
        return [*lines, f"suite {self.suite}: {cost.told(functools.reduce(operator.add, costs), speeds)}"]


def near(path: Path) -> Path:
    """The path from the working folder, where it lies in it: shorter to read, and the same in a clone that is moved."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def load(config: dict[str, Any]) -> Study:
    """The study that `config` describes, which gets the defaults of what it leaves out.

    Raises:
        ConfigError: the schema or `RunConfig` does not allow it.
    """
    check_keys(config, yaml.safe_load(SCHEMA.read_text(encoding="utf-8")))
    try:
        validate(config, str(SCHEMA))
    except WorkflowError as error:
        raise one_line(error.__context__) from None  # type: ignore[arg-type]
    return Study.read(config)


def check_keys(config: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Raise ConfigError for a key or a configuration that there is not, with the nearest one that there is."""
    entries = schema["properties"]["configurations"]["items"]["oneOf"][1]["properties"]
    for key in config:
        check_name("key", str(key), schema["properties"])
    given = config.get("configurations")
    for entry in given if isinstance(given, list) else []:
        for key in entry if isinstance(entry, dict) else []:
            check_name("key of configurations", str(key), entries)
        name = entry.get("name") if isinstance(entry, dict) else entry
        if isinstance(name, str):
            check_name("configuration", name, CONFIGURATIONS)


def one_line(error: "ValidationError") -> ConfigError:
    """What the schema does not allow, as every mistake is told: the place, the value, and what is allowed."""
    place, schema = list(error.absolute_path), error.schema
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        place, what, schema = [*place, missing], "is missing", schema["properties"][missing]
    else:
        what = f"{error.instance!r} is not allowed"
    return ConfigError(f"{'.'.join(map(str, place)) or 'study'}: {what}; allowed: {schema['description']}")


def speeds(config: Mapping[str, Any], project: Path) -> cost.Speeds:
    """The speeds that the study's hours are reckoned by: its own bench, else the one that comes with `project`.

    Raises:
        ConfigError, ArtifactError: the file cannot be found, or cannot be read.
    """
    bench = expanded("bench", config["bench"]) if config["bench"] else project / "results/bench/cpu.json"
    return cost.Speeds.read(bench, project / "results")


def _check_writable(field: str, folder: Path) -> None:
    """Raise ConfigError unless the folder can be written, or made where it is missing."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if exists(field, path))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "cannot be written" if there.is_dir() else "is no folder"
        raise ConfigError(f"{field}: {there} {why}; allowed: a folder that can be written, or that can be made")
    if set("{}") & set(str(folder)):  # Snakemake would take it for a wildcard
        raise ConfigError(f"{field}: {str(folder)!r} is not allowed; allowed: a path without {{ and }}")


def _seeds(given: Any, place: str) -> list[int]:
    text = ",".join(map(str, given)) if isinstance(given, list) else str(given)
    return list(dict.fromkeys(seed_list(text, place)))


def _seed_text(seeds: list[int]) -> str:
    whole = len(seeds) > 1 and seeds == list(range(seeds[0], seeds[0] + len(seeds)))
    return f"{seeds[0]}-{seeds[-1]}" if whole else ",".join(map(str, seeds))


def _settings(place: str, settings: Mapping[str, Any]) -> list[Setting]:
    return [Setting(f"{place}.{field}", field, value) for field, value in settings.items()]


def _placed(error: ConfigError, settings: Mapping[str, Setting]) -> ConfigError:
    """The same mistake, named by its place in the study where a single setting is to blame."""
    field, _, told = str(error).partition(": ")
    return ConfigError(f"{settings[field].place}: {told}") if field in settings else error


def _as_text(value: Any) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def longest_first(variants: Iterable[Variant], speeds: cost.Speeds) -> dict[str, int]:
    """A priority for each variant: the longer its runs, the higher, so that none is left alone at the end."""
    seconds = {variant.name: speeds.seconds(variant.configs[0]) for variant in variants}
    return {name: place for place, name in enumerate(sorted(seconds, key=seconds.__getitem__), start=1)}


def minutes(variant: Variant, speeds: cost.Speeds, together: int) -> int:
    """The time limit of a job on a cluster: several times what is expected, since a job that meets it goes on later."""
    seconds = speeds.seconds(variant.configs[0]) * min(together, len(variant.configs))
    return max(LEAST_MINUTES, math.ceil(PATIENCE * seconds / 60))
