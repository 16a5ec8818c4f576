"""What training changed in a network: how far its weights moved, and how much of the signal reaches each layer."""

import copy
import math

import torch

from vggkit.config import RunConfig
from vggkit.data import Images, load
from vggkit.folders import Given, exists, results_folder
from vggkit.networks.vgg import VGG
from vggkit.runs import provenance
from vggkit.runs.change import Change, Changes, of_run
from vggkit.runs.files import ArtifactError, RunPaths
from vggkit.runs.records import Run
from vggkit.runs.select import is_full
from vggkit.runs.store import WEIGHTS, find_runs, read_weights
from vggkit.study import FULL
from vggkit.training.propagation import IMAGES, displacement, watched


def measure(seed: int = 0, results: Given = None, images: int = IMAGES) -> Changes:
    """Measure the runs of Table 1 with this seed that left their weights.

    On synthetic images, which need no files; those of CIFAR-100 would not be the same on every machine that has the
    results alone. What was measured of weights that are not here any more is kept. The random generator is left as
    it was.

    Raises:
        ArtifactError: a run, its weights or what is kept is damaged, or no run left its weights.
    """
    splits = load(RunConfig(dataset="synthetic"))
    networks: dict[str, Change] = {}
    for run in find_runs(results, FULL):
        if run.config.seed == seed and is_full(run):
            here = exists("results", RunPaths.of(results, run.config).folder / WEIGHTS)
            change = _change(run, splits.train, images, results) if here else of_run(run, results)
            if change:
                networks[run.config.name] = change
    if not networks:
        raise ArtifactError(
            f"seed: no run of Table 1 with seed {seed} left its weights in {results_folder(results)}; train them: "
            f"vggkit sweep --suite {FULL} --seeds {seed}"
        )
    return Changes(seed, splits.checksum, networks, provenance.describe(torch.device("cpu")))


def _change(run: Run, images: Images, count: int, results: Given) -> Change | None:
    """What training changed in this run's network; None if it diverged, which leaves no numbers to compare."""
    before = drawn(run.config)
    after = copy.deepcopy(before)
    after.load_state_dict(read_weights(RunPaths.of(results, run.config)))
    first, last = (watched(model, images, count) for model in (before, after))
    parts = displacement(first.weights, last.weights), first.shares(), last.shares()
    if not all(math.isfinite(number) for part in parts for number in part):
        return None
    return Change(count, run.summary["files"][WEIGHTS], *parts)


def drawn(config: RunConfig) -> VGG:
    """The network before its first step, as training draws it from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return VGG.from_config(config)
