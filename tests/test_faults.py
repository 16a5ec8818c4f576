"""The list of faults fits the library as it is: each old text is there exactly once, each new one is Python."""

from tests.faults import __main__ as faults
from tests.shared import ROOT


def test_every_fault_of_the_list_can_be_put_into_the_library() -> None:
    listed = faults.read()
    assert faults.errors(listed) == []
    assert len(listed) >= 60


def test_every_fault_names_tests_that_are_there() -> None:
    for fault in faults.read():
        for test in fault.tests:
            file, _, name = test.partition("::")
            assert f"def {name}" in (ROOT / file).read_text(), fault.name
