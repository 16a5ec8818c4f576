"""The command that measures untrained networks for the chapter on the cause."""

import time
from typing import Annotated

import typer

from vggkit.cli.options import Data, Results, app
from vggkit.config import RunConfig
from vggkit.training.order import seed_list


@app.command()
def propagation(
    seeds: Annotated[str, typer.Option(help="Seeds of the initial weights, as in 0,1,2 or 0-4.")] = "0-9",
    images: Annotated[int, typer.Option(help="Training images in the one batch that every network sees.")] = 10,
    results: Results = None,
    data: Data = None,
) -> None:
    """Measure untrained networks of 8 to 110 layers, and Adam's epsilon: an hour; the same command goes on."""
    numbers = seed_list(seeds)
    for seed in numbers:
        RunConfig(seed=seed)  # checks it before torch is imported

    from vggkit.training import epsilon
    from vggkit.training import propagation as untrained

    for seed in numbers:
        start = time.perf_counter()
        measured = next(untrained.measure([seed], images, data=data, results=results))
        print(f"seed {seed}: {len(measured.layers):,} layers, {time.perf_counter() - start:.0f} s", flush=True)
        if seed < epsilon.SEEDS:
            start = time.perf_counter()
            steps = next(epsilon.measure([seed], data=data, results=results)).steps
            print(f"seed {seed}: {steps} steps of Adam, {time.perf_counter() - start:.0f} s", flush=True)
