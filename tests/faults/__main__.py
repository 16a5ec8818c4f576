"""Puts faults into copies of the library, one at a time, and tells which of them the tests find.

    python -m tests.faults                    all faults of faults.toml
    python -m tests.faults training/step he-gain    those of a module, or of a name
    python -m tests.faults --quick            those whose tests take seconds

A fault is killed where a test fails, and survives where all pass. Where its tests run past their time
nothing is known of it, and it counts as not killed. What was found out is kept under .cache/ and taken
up by the next call, as long as neither library nor tests change.

Each fault lives in a folder of its own, and its tests in a process of their own that is forked from one
which has imported torch already: that import takes longer than most tests.
"""

import argparse
import hashlib
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("faults.toml")
KEPT = ROOT / ".cache" / "faults.json"
SHARED = ("book", "notebooks", "results", "pyproject.toml", "README.md", "CONTRIBUTING.md", "Makefile")  # read by tests
HEAVY = ("torch", "torch._dynamo", "pandas", "pyarrow.parquet", "scipy.stats", "safetensors.torch", "typer", "pytest")
KILLED, SURVIVED, BROKEN, LATE = "killed", "survived", "broken", "late"


class ListError(Exception):
    """The list of faults does not fit the library; one line."""


@dataclass(frozen=True)
class Fault:
    """A change of one place of a module that makes it wrong, and the files of tests that are to find it."""

    name: str
    module: str
    old: str
    new: str
    breaks: str
    tests: tuple[str, ...]
    quick: bool = False
    excuse: str = ""  # why it may survive

    @property
    def key(self) -> str:
        """Under which its outcome is kept: another once anything of it is changed."""
        return f"{self.name} {hashlib.sha256(repr(self).encode()).hexdigest()[:12]}"

    def applied(self, package: Path) -> str:
        """The module's text with the fault in it.

        Raises:
            ListError: the old text is not found exactly once, or the new text is no Python.
        """
        file = package / f"{self.module}.py"
        count = file.read_text().count(self.old) if file.is_file() else 0
        if count != 1:
            elsewhere = [
                other.stem for other in sorted(package.rglob("*.py")) if other.read_text().count(self.old) == 1
            ]
            hint = f"; found once in {', '.join(elsewhere)}" if elsewhere else ""
            raise ListError(f"{self.name}: found {count} times in {self.module}, not once{hint}: {self.old!r}")
        text = file.read_text().replace(self.old, self.new)
        try:
            compile(text, str(file), "exec")
        except SyntaxError as error:
            raise ListError(f"{self.name}: {self.module} with the fault is no Python ({error})") from None
        return text


def read() -> list[Fault]:
    """All faults of the list.

    Raises:
        ListError: a name is there twice.
    """
    content = tomllib.loads(LIST.read_text())
    faults = []
    for entry in content["fault"]:
        tests = entry.pop("tests", None) or content["tests"][entry["module"]]
        faults.append(Fault(**entry, tests=tuple(tests)))
    if twice := {fault.name for fault in faults if [f.name for f in faults].count(fault.name) > 1}:
        raise ListError(f"names that are there twice: {', '.join(sorted(twice))}")
    return faults


def errors(faults: Iterable[Fault]) -> list[str]:
    """A line for each fault that does not fit the library as it is now."""
    found = []
    for fault in faults:
        try:
            fault.applied(ROOT / "vggkit")
        except ListError as error:
            found.append(str(error))
    return found


def _digest() -> str:
    """Changes with whatever decides whether a fault is found."""
    files = sorted([*ROOT.glob("vggkit/**/*.*"), *ROOT.glob("tests/**/*.py")])
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()


def _copy(place: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "faults")
    for name in ("vggkit", "tests"):
        shutil.copytree(ROOT / name, place / name, ignore=ignored)
    for name in SHARED:
        (place / name).symlink_to(ROOT / name)


def _run_tests(place: Path, tests: Sequence[str], log: Path) -> None:
    """In the forked process: run pytest on the copy and end with its status."""
    os.setsid()  # a deadline ends the processes that tests start too
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(place)
    sys.path.insert(0, str(place))
    os.environ["PYTHONPATH"] = str(place)
    import pytest

    status = 2
    try:
        status = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
    finally:
        sys.stdout.flush()
        os._exit(status)


def _start(fault: Fault, place: Path) -> int:
    _copy(place)
    if fault.module:
        (place / "vggkit" / f"{fault.module}.py").write_text(fault.applied(ROOT / "vggkit"))
    if child := os.fork():
        return child
    _run_tests(place, fault.tests, place / "log")
    return 0


def _outcome(status: int | None) -> str:
    """pytest's status 1: a test failed; 2 to 5: no test could be run; negative: a crash; None: the time was over."""
    if status is None:
        return LATE
    if status == 1 or status < 0:
        return KILLED
    return SURVIVED if status == 0 else BROKEN


def unchanged(faults: Iterable[Fault]) -> list[Fault]:
    """For all tests that are to find faults: no fault at all, which they must not find either."""
    tests = sorted({test for fault in faults for test in fault.tests})
    return [
        Fault(f"unchanged {test}", "", "", "", "no fault at all", (test,))
        for test in tests
        if "::" not in test or test.partition("::")[0] not in tests
    ]


def examine(faults: Sequence[Fault], jobs: int, timeout: float, told: dict[str, str], digest: str) -> None:
    """Examine each fault that `told` does not tell of, and add what becomes of it, by key."""
    waiting = [fault for fault in faults if fault.key not in told]
    running: dict[int, tuple[Fault, Path, float]] = {}
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    fault = waiting.pop(0)
                    place = Path(folder, fault.key.replace("/", "-"))
                    running[_start(fault, place)] = fault, place, time.monotonic()
                time.sleep(0.05)
                for child, (fault, place, start) in list(running.items()):
                    seconds = time.monotonic() - start
                    ended, status = os.waitpid(child, os.WNOHANG)
                    late = not ended and seconds > timeout
                    if late:
                        _kill(child)
                    if ended or late:
                        del running[child]
                        outcome = _outcome(None if late else os.waitstatus_to_exitcode(status))
                        _tell(fault, outcome, seconds, place / "log")
                        told[fault.key] = outcome
                        _keep(told, digest)
                        shutil.rmtree(place, ignore_errors=True)
        finally:
            for child in running:
                _kill(child)


def _kill(child: int) -> None:
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _tell(fault: Fault, outcome: str, seconds: float, log: Path) -> None:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    note = failed[0].split(" - ")[0].removeprefix("FAILED ") if failed else ""
    if outcome == SURVIVED and fault.excuse:
        note = fault.excuse
    print(f"{outcome:8} {seconds:5.1f} s  {fault.name}: {fault.breaks}" + (f"  [{note}]" if note else ""), flush=True)
    if outcome == BROKEN or (not fault.module and outcome != SURVIVED):
        print("\n".join(lines[-20:]), flush=True)


def _keep(told: dict[str, str], digest: str) -> None:
    settled = {name: outcome for name, outcome in told.items() if outcome in (KILLED, SURVIVED)}
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps({"digest": digest, "outcomes": settled}, indent=1))


def _known(digest: str) -> dict[str, str]:
    try:
        kept = json.loads(KEPT.read_text())
        return dict(kept["outcomes"]) if kept["digest"] == digest else {}
    except (OSError, ValueError, KeyError):
        return {}


def _preload() -> None:
    """Import what takes long, but nothing of the library: its copy is imported after the fork."""
    for name in HEAVY:
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)
    importlib.import_module("vggkit.compat").import_torchvision()
    for name in [name for name in sys.modules if name.partition(".")[0] == "vggkit"]:
        del sys.modules[name]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="names of faults or modules; without any, all")
    parser.add_argument("--quick", action="store_true", help="only the faults whose tests take seconds")
    parser.add_argument("--again", action="store_true", help="examine also what is known from an earlier call")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="faults at a time (default: processors)")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for a fault's tests (default: 300)")
    parser.add_argument("--target", type=float, default=95, help="per cent to be killed, else status 1 (default: 95)")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # several processes side by side; before torch is imported
    try:
        faults = [fault for fault in read() if not given.names or {fault.name, fault.module} & set(given.names)]
        faults = [fault for fault in faults if fault.quick or not given.quick]
        if wrong := errors(faults):
            raise ListError("\n".join(wrong))
        if not faults:
            raise ListError(f"no fault and no module is called {', '.join(given.names)}")
        digest = _digest()
        known = {} if given.again else _known(digest)
        count = sum(fault.key not in known for fault in faults)
        if count:
            _preload()
            print(f"{count} faults to examine, {len(faults) - count} known from before", flush=True)
            sound = unchanged(fault for fault in faults if fault.key not in known)
            examine(sound, given.jobs, 10 * given.timeout, known, digest)
            if failing := [fault.tests[0] for fault in sound if known[fault.key] != SURVIVED]:
                raise ListError(f"tests that fail on the library as it is find nothing: {', '.join(failing)}")
            examine(faults, given.jobs, given.timeout, known, digest)
    except ListError as error:
        print(f"faults: {error}", file=sys.stderr)
        return 2
    return _report(faults, known, given.target)


def _report(faults: Sequence[Fault], known: dict[str, str], target: float) -> int:
    killed = sum(known[fault.key] == KILLED for fault in faults)
    for fault in faults:
        if known[fault.key] != KILLED:
            reason = f"; {fault.excuse}" if fault.excuse else ""
            print(f"not killed: {fault.name} ({known[fault.key]}): {fault.breaks}{reason}")
    share = 100 * killed / len(faults)
    print(f"{killed} of {len(faults)} faults are killed: {share:.0f} % (target {target:g} %)")
    return 0 if share >= target else 1


if __name__ == "__main__":
    sys.exit(main())
