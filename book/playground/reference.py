"""What the playground takes from vggkit: data for its page, and PyTorch's numbers for its tests.

`page_data` and `copy_weights` run when the book is built, from playground.md; `python reference.py FOLDER`
writes the numbers that test/*.test.js compare with, as safetensors files.
"""

import argparse
import dataclasses
import html
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

from vggkit.config import DRAWN, RunConfig
from vggkit.report.markup import Html, as_script
from vggkit.study import CONFIGURATIONS

DEPTHS = (8, 14, 38)
BATCH = 4
STEPS = 5
NUDGES = 2  # float32 runs besides the one on the images themselves, from which rounding takes them apart
WEIGHTS = Path("_static/playground/weights")
COMPARED = ("depth", "batch_norm", "residual", "initialisation", "learning_rate")


def page_data(results: Path) -> Html:
    """The page's presets, the first epoch of finished runs and their weights, as a script element of JSON."""
    data = {"presets": presets(), "measured": measured(results), "weights": copy_weights(results)}
    return as_script(data, 'id="vggkit-playground-data"')


def presets() -> dict[str, dict[str, Any]]:
    """Table 1's configurations by name, in the settings that the page has."""
    return {name: settings(RunConfig.named(name)) for name in CONFIGURATIONS}


def settings(config: RunConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in COMPARED}


def measured(results: Path) -> list[dict[str, Any]]:
    """Mean |gradient| and |update| / |weight| of each layer over the first epoch of one run per configuration."""
    from vggkit.runs.store import find_runs

    chosen: dict[tuple[Any, ...], Any] = {}
    for run in find_runs(results):
        key = tuple(settings(run.config).values())
        if (
            run.config.dataset == "cifar100"
            and _on_page(run.config)
            and not run.summary["diverged"]  # perhaps in the first epoch, of which there is then nothing to draw
            and (key not in chosen or _rank(run) < _rank(chosen[key]))
        ):
            chosen[key] = run
    return [
        settings(run.config)
        | {"run": f"{run.config.suite}/{run.config.name}/seed-{run.config.seed}", "images": run.summary["train_images"]}
        | {name: _first_epoch(run.gradients, column) for name, column in _COLUMNS.items()}
        for run in chosen.values()
    ]


def _on_page(config: RunConfig) -> bool:
    """Whether the page can build the network, and trains it alike: other settings than its own are the defaults."""
    alike = ("skip_init", "dropout", "weight_decay")
    return all(getattr(config, name) == getattr(RunConfig(), name) for name in alike)


_COLUMNS = {"gradient": "mean_abs", "update": "update_ratio"}


def _rank(run: Any) -> tuple[bool, int, int]:
    """Smaller is better: a run of Table 1, on many images, of the first seed."""
    return run.config.suite != "table1", -run.summary["train_images"], run.config.seed


def _first_epoch(gradients: Any, column: str) -> list[float | None]:
    rows = gradients[(gradients.epoch == 1) & (gradients.over == "mean") & (gradients.kind != "bn")]
    values = rows.sort_values("layer")[column]
    return [float(f"{value:.3g}") if abs(value) < float("inf") else None for value in values]


def copy_weights(results: Path, target: Path = WEIGHTS) -> list[dict[str, Any]]:
    """Put the weights of finished runs beside the page, which reads them where it is served; Table 1's first."""
    from vggkit.runs.store import find_runs

    found = []
    for run in sorted(find_runs(results), key=_rank):
        config = run.config
        source = results / config.suite / config.name / f"seed-{config.seed}" / "weights.safetensors"
        if not source.exists() or not _on_page(config):
            continue
        copy = target / f"{config.suite}-{config.name}-seed-{config.seed}.safetensors"
        target.mkdir(parents=True, exist_ok=True)
        if not copy.exists() or copy.read_bytes() != source.read_bytes():
            shutil.copyfile(source, copy)
        label = html.escape(f"{config.name}, {config.epochs} epochs, seed {config.seed}")
        found.append(settings(config) | {"file": copy.as_posix(), "label": label})
    return found


def write_reference(folder: Path) -> None:
    """PyTorch's loss, gradients, signal and five steps of Adam for every case; images, batches and draws of vggkit."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    cases: list[dict[str, Any]] = []
    for name, depth, initialisation in itertools.product(CONFIGURATIONS, DEPTHS, DRAWN):
        config = dataclasses.replace(RunConfig.named(name), depth=depth, initialisation=initialisation)
        known = any(settings(config).items() <= case.items() for case in cases)  # VGG08 is VGG38 at that depth
        # The deepest takes the most time, and of another initialisation each layer is compared in the others.
        if known or (depth == max(DEPTHS) and initialisation != RunConfig().initialisation):
            continue
        case = f"{name}-{depth}-{initialisation}"
        cases.append(settings(config) | {"case": case} | _write_case(config, folder / f"{case}.safetensors"))
    (folder / "cases.json").write_text(json.dumps({"steps": STEPS, "batch": BATCH, "cases": cases}))
    _write_streams(folder)


def _write_case(config: RunConfig, file: Path) -> dict[str, Any]:
    import torch
    from safetensors.torch import save_file

    from vggkit.networks.vgg import VGG

    torch.manual_seed(0)
    model = VGG.from_config(config)
    initial = {name: p.detach().clone() for name, p in model.named_parameters()}
    images, labels = torch.randn(BATCH, 3, 32, 32), torch.randint(0, 100, (BATCH,))
    exact = _five_steps(config, initial, images.double(), labels, learning_rate=config.learning_rate)
    singles = [
        _five_steps(config, initial, nudged, labels, learning_rate=config.learning_rate) for nudged in _nudged(images)
    ]
    tensors = {"images": images, "labels": labels}
    for name, value in initial.items():
        tensors |= {
            f"weight/{name}": value,
            f"gradient/{name}": exact["gradient"][name],
            f"final/{name}": exact["final"][name],
        }
    save_file(tensors, file)
    distance = {
        part: {name: max(_distance(single[part][name], exact[part][name]) for single in singles) for name in initial}
        for part in ("gradient", "final")
    }
    return {
        "shapes": [[name, list(p.shape)] for name, p in model.named_parameters()],
        "losses": exact["losses"],
        "float32_losses": _furthest(singles, exact, "losses"),
        "signal": exact["signal"],
        "scale": exact["scale"],
        "float32_signal": _furthest(singles, exact, "signal"),
        "float32_distance": distance,  # of PyTorch's own float32, the measure of what rounding does
    }


def _nudged(images: Any) -> list[Any]:
    """The images, and the same with each number moved to a neighbour of it, up or down by chance.

    Where an activation lies near zero, one run may round it as this machine does, and another machine otherwise.
    """
    import torch

    ends = torch.tensor([-torch.inf, torch.inf])
    draws = [torch.randint(0, 2, images.shape, generator=torch.Generator().manual_seed(n)) for n in range(NUDGES)]
    return [images, *(images.nextafter(ends[draw]) for draw in draws)]


def _furthest(runs: list[Any], exact: Any, what: str) -> list[float]:
    """Of the values of several runs at each place, the one furthest from the exact value."""
    at = zip(exact[what], *(run[what] for run in runs), strict=True)
    return [max(values, key=lambda value: abs(value - true)) for true, *values in at]


def _five_steps(config: RunConfig, initial: dict[str, Any], images: Any, labels: Any, learning_rate: float) -> Any:
    import torch
    import torch.nn.functional as F

    from vggkit.networks.vgg import VGG
    from vggkit.training.signal import of_network

    model = VGG.from_config(config).to(images.dtype).train()
    model.load_state_dict({name: value.to(images.dtype) for name, value in initial.items()}, strict=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    losses, gradient, scale = [], {}, []
    hooks = [
        part.register_forward_hook(lambda _module, _inputs, output: scale.append(output.detach().abs().max().item()))
        for part in model.modules()
        if isinstance(part, torch.nn.Conv2d)
    ]
    signal = list(of_network(model, images, labels).deviation)
    for hook in hooks:
        hook.remove()
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        if step == 0:
            gradient = {name: p.grad.double().clone() for name, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
        losses.append(loss.item())
    final = {name: p.detach().double() for name, p in model.named_parameters()}
    return {"losses": losses, "gradient": gradient, "final": final, "signal": signal, "scale": scale}


def _distance(value: Any, exact: Any) -> float:
    """||value - exact|| / ||exact||, 0 where both are 0."""
    size = exact.norm().item()
    return (value.double() - exact).norm().item() / size if size else 0.0


def _write_streams(folder: Path) -> None:
    """vggkit's synthetic images, first batches, and first weights of each initialisation, and a short run's losses."""
    import torch
    from safetensors.torch import save_file

    from vggkit import data
    from vggkit.networks import lsuv
    from vggkit.networks.vgg import VGG
    from vggkit.training.compute import Compute
    from vggkit.training.step import Trainer

    tensors: dict[str, Any] = {}
    config = RunConfig.named("vgg08", dataset="synthetic", batch_size=20, seed=3)
    splits = data.load(config)
    places = torch.tensor([0, 1, 2, 777, 2500, 4999])
    tensors["places"], tensors["pixels"] = places, splits.train.pixels[places]
    tensors["labels"] = splits.train.labels
    plan = data.EpochPlan.draw(len(splits.train), config.seed, 1)
    images, labels = data.train_batch(splits.train, plan.take(torch.arange(20)))
    tensors["batch/images"], tensors["batch/labels"] = images.contiguous(), labels
    for initialisation in DRAWN:
        torch.manual_seed(7)
        model = VGG.from_config(RunConfig(depth=14, initialisation=initialisation))
        tensors |= {f"{initialisation}/{name}": p.detach() for name, p in model.named_parameters()}
    for label, norm in (("plain", False), ("bn_rc", True)):
        torch.manual_seed(config.seed)
        model = VGG(14, norm, norm, initialisation="lsuv")
        tensors |= {f"lsuv-drawn/{label}/{name}": p.detach().clone() for name, p in model.named_parameters()}
        lsuv.scale(model.train(), images)
        tensors |= {f"lsuv/{label}/{name}": p.detach() for name, p in model.named_parameters()}
    save_file(tensors, folder / "streams.safetensors")
    trainer = Trainer(config, splits, Compute(torch.device("cpu")))
    trainer.begin_epoch(1)
    losses = [trainer.step().item() for _ in range(10)]
    (folder / "run.json").write_text(json.dumps({"batch": 20, "seed": 3, "losses": losses}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=write_reference.__doc__)
    parser.add_argument("folder", type=Path)
    write_reference(parser.parse_args().folder)
