import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

WORKFLOW = Path(__file__).parents[2] / "workflow"


@pytest.fixture(scope="session")
def pipeline() -> ModuleType:
    """The module that the Snakefile is built of, which is no part of the package."""
    pytest.importorskip("snakemake", reason="needs the extra `pipeline`")
    specification = importlib.util.spec_from_file_location("pipeline", WORKFLOW / "pipeline.py")
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules["pipeline"] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module
