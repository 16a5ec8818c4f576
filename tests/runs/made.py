"""A run of made-up numbers, for tests of what is kept of it."""

import hashlib
import json
from typing import Any

import pandas as pd
import torch

from tests.shared import part_of_summary
from vggkit.config import RunConfig
from vggkit.networks.vgg import VGG, count_parameters
from vggkit.runs import schema
from vggkit.runs.records import Run
from vggkit.training.gradients import to_frame, weight_names
from vggkit.training.propagation import signal_frame


def a_run(config: RunConfig) -> Run:
    """A run such as training leaves, but of made-up numbers."""
    # Numbers with all their digits, of many magnitudes: if one is rounded when it is written, the tests see it.
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(len(schema.METRICS), config.epochs, generator=generator, dtype=torch.float64)
    columns = dict(zip(schema.METRICS, draws.numpy(), strict=True))
    columns |= {name: values**9 for name, values in columns.items() if "loss" in name or "norm" in name}
    metrics = pd.DataFrame({"epoch": range(1, config.epochs + 1), **columns})
    metrics["learning_rate"] *= config.learning_rate
    model = VGG.from_config(config)
    names = weight_names(model)
    history = torch.rand(config.epochs, 2, 3, len(names), generator=generator, dtype=torch.float64)
    shares = torch.rand(config.epochs, config.depth + 1, generator=generator, dtype=torch.float64)

    def measured(place: int) -> dict[str, Any]:
        row = {name: metrics[name].iloc[place] for name in schema.MEASURED if not name.startswith("test")}
        return {"epoch": place + 1, **row, "test_loss": 0.1, "test_accuracy": 0.125}

    summary = {
        "diverged": False,
        "final": measured(config.epochs - 1),
        "best": measured(int(metrics["validation_accuracy"].argmax())),
        "parameters": count_parameters(model),
        "train_images": config.train_images,
        "wall_seconds": 12.5,
        "images_per_second": 1000.0,
        "data_sha256": "0" * 64,
        "device": "AMD EPYC",
        "threads": 2,
        "versions": {"python": "3.11.7", "torch": "2.13.0+cpu"},
        "commit": "b24ba1675159bfbf6f1a10afa8e9ed0b89cabbb5+changes",
    }
    return Run(
        config, metrics, to_frame(names, history), part_of_summary(**summary), signal_frame(shares, config.epochs)
    )


def weights_of(config: RunConfig) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return VGG.from_config(config).state_dict()


def seal(summary: dict[str, Any]) -> None:
    content = {name: value for name, value in summary.items() if name != "summary_sha256"}
    summary["summary_sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
