"""The settings of the process while a run trains."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.shared import CPU
from vggkit.config import RunConfig
from vggkit.training.compute import Compute
from vggkit.training.runner import train


def test_denormal_numbers_are_zero_while_a_run_trains_and_only_then(tiny: RunConfig, tmp_path: Path) -> None:
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot flush denormal numbers")
    smallest = torch.full((1,), float(np.finfo(np.float32).tiny))
    found = []
    train(replace(tiny, epochs=1), results=tmp_path, progress=lambda *report: found.append((smallest * 0.5).item()))
    assert set(found) == {0.0}
    assert (smallest * 0.5).item() > 0


def test_settings_of_the_process_end_with_an_error_too(tiny: RunConfig) -> None:
    smallest = torch.full((1,), float(np.finfo(np.float32).tiny))
    with pytest.raises(KeyError), Compute(CPU).process_settings():
        raise KeyError
    assert (smallest * 0.5).item() > 0


def test_denormal_numbers_stay_zero_in_a_process_that_wants_them_so() -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormal numbers")
    try:
        smallest = torch.full((1,), float(np.finfo(np.float32).tiny))
        with Compute(CPU).process_settings():
            pass
        assert (smallest * 0.5).item() == 0
    finally:
        torch.set_flush_denormal(False)
