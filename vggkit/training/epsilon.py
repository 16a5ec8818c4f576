"""What Adam's epsilon makes of vanishing gradients: how far the weights of each layer move in a number of steps.

Adam divides a gradient by its own running size plus epsilon. A gradient far above epsilon moves a weight by
about the learning rate, however small it is; one far below it moves it by a share of that. The
steps are those of training, augmentation included, but for float64, in which nothing else is lost, and for fewer
images: they are the first ones of the first epoch's order.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F

from vggkit.config import RunConfig
from vggkit.data import EpochPlan, Splits, load, train_batch
from vggkit.folders import Given
from vggkit.networks.vgg import VGG
from vggkit.runs import provenance
from vggkit.runs.epsilon import Arm, Movement, Travel, place, read, write
from vggkit.training.propagation import Pass, displacement

ARMS = (
    Arm(38, "default", 1e-8),
    Arm(38, "default", 1e-30),
    Arm(8, "default", 1e-8),  # what as many steps are worth where signal and error arrive
)
"""Plain networks, the first as Table 1 trains it."""
STEPS, BATCH = 40, 10
SEEDS = 3
"""How many seeds are measured, from 0: a step in float64 takes about a second."""


def measure(seeds: Sequence[int], steps: int = STEPS, *, data: Given = None, results: Given = None) -> Iterator[Travel]:
    """Train the arms of each seed for `steps` steps of `BATCH` images; yield each seed's as it is kept.

    A seed that is measured already, on the same images and as many steps, is read: the same call goes on.

    Raises:
        ConfigError: a seed is unusable.
        DataError, ArtifactError: the images are missing, or what is kept is damaged; before any work is done.
    """
    for seed in seeds:
        RunConfig(seed=seed)
    splits = load(RunConfig(), data)
    kept = {seed: read(results, seed) for seed in seeds if place(results, seed).exists()}
    for seed in seeds:
        found = kept.get(seed)
        if found is None or (found.steps, found.batch, found.data_sha256) != (steps, BATCH, splits.checksum):
            arms = {arm: travel(arm, splits, seed, steps) for arm in ARMS}
            machine = provenance.describe(torch.device("cpu"))
            found = Travel(seed, steps, BATCH, splits.checksum, machine, arms)
            write(found, results)
        yield found


def travel(arm: Arm, splits: Splits, seed: int, steps: int, batch_size: int = BATCH) -> Movement:
    """Train one network for `steps` steps of Adam at its first learning rate, in float64.

    The random generator is left as it was.
    """
    config = RunConfig(depth=arm.depth, batch_norm=False, residual=False, initialisation=arm.initialisation, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VGG.from_config(config).double()
    plan = EpochPlan.draw(len(splits.train), seed, epoch=1)
    batches = [
        train_batch(splits.train, plan.take(torch.arange(n * batch_size, (n + 1) * batch_size))) for n in range(steps)
    ]
    first = Pass(model, batches[0][0].double(), batches[0][1])
    begin = [weight.detach().clone() for weight in first.weights]
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, eps=arm.epsilon)
    losses = []
    for images, labels in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images.double().contiguous(memory_format=torch.channels_last)), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    last = Pass(model, batches[0][0].double(), batches[0][1])
    shares = [one.shares() for one in (first, last)]
    return Movement(displacement(begin, last.weights), tuple(losses), *shares)
