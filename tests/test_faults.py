"""The list of faults fits the library as it is: each old text is there exactly once, each new one is Python."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from faults import __main__ as faults


def test_every_fault_of_the_list_can_be_put_into_the_library() -> None:
    listed = faults.read()
    assert faults.errors(listed) == []
    assert len(listed) >= 60


def test_every_fault_names_tests_that_are_there() -> None:
    root = Path(__file__).parents[1]
    for fault in faults.read():
        for test in fault.tests:
            file, _, name = test.partition("::")
            assert f"def {name}" in (root / file).read_text(), fault.name
