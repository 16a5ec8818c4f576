"""The examples in the library's docstrings give what they say."""

import doctest
import importlib
import pkgutil
from typing import Any

import vggkit
from tests.shared import ROOT
from vggkit import study
from vggkit.config import RunConfig
from vggkit.report import claims, figures
from vggkit.runs import select

EXPECTED = 12  # so that examples are not lost unnoticed


def test_examples_in_docstrings_hold() -> None:
    tried = 0
    for module in pkgutil.walk_packages(vggkit.__path__, "vggkit."):
        if not module.name.endswith("__main__"):
            found = doctest.testmod(importlib.import_module(module.name), optionflags=doctest.ELLIPSIS)
            assert found.failed == 0, module.name
            tried += found.attempted
    assert tried >= EXPECTED


def example(heading: str) -> str:
    """The Python that CONTRIBUTING.md gives below a heading in bold."""
    text = (ROOT / "CONTRIBUTING.md").read_text().partition(f"**{heading}**")[2]
    return text.partition("```python\n")[2].partition("```")[0]


def test_examples_of_how_to_add_something_hold() -> None:
    names = vars(study) | {"_network": study._network}
    row = eval(f"{{{example('A configuration')}}}", names)
    ((name, added),) = row.items()
    assert name not in study.CONFIGURATIONS and RunConfig(**added.settings).name == name
    ((name, suite),) = eval(f"{{{example('A suite')}}}", names).items()
    assert name not in study.SUITES
    RunConfig.named("vgg08", suite=name, **suite.settings)
    ((name, statistic),) = eval(f"{{{example('A statistic of the gradients')}}}", names).items()
    assert name not in study.STATISTICS and callable(statistic.compute)
    ((claim,),) = [eval(example("A claim"), vars(claims))]
    assert isinstance(claim, claims.Claim)
    made: dict[str, Any] = {}
    exec(example("A figure"), vars(figures) | made, made)
    run = select.representative_runs(ROOT / "results")["vgg08"]
    assert "from 0.001." in made["learning_rate"](run).caption
