"""The examples in the library's docstrings give what they say."""

import doctest
import importlib
import pkgutil

import vggkit

EXPECTED = 12  # so that examples are not lost unnoticed


def test_examples_in_docstrings_hold() -> None:
    tried = 0
    for module in pkgutil.walk_packages(vggkit.__path__, "vggkit."):
        if not module.name.endswith("__main__"):
            found = doctest.testmod(importlib.import_module(module.name), optionflags=doctest.ELLIPSIS)
            assert found.failed == 0, module.name
            tried += found.attempted
    assert tried >= EXPECTED
