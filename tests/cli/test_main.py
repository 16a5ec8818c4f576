"""The command line: what it prints to which kind of output, how it refuses mistakes, and its exit status."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import typer
from rich.console import Console

from tests.shared import ROOT, Call, refused, stop_in
from vggkit.bench import measure
from vggkit.cli import doctor, terminal
from vggkit.cli.options import app
from vggkit.config import ConfigError, RunConfig
from vggkit.networks import fused
from vggkit.runs import checkpoints, provenance, store
from vggkit.runs.files import ArtifactError, RunPaths
from vggkit.runs.records import Run, SeedEpoch
from vggkit.runs.store import find_runs
from vggkit.study import CONFIGURATIONS
from vggkit.training import compute, runner
from vggkit.training.runner import train

TINY = ["vgg08", "--dataset", "synthetic", "--train-images-per-class", "1", "--batch-size", "25", "--epochs", "2"]


def test_command_trains_evaluates_and_lists(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a folder that is not the project
    settings = [*TINY, "--results", "runs"]
    status, out, _ = call("train", *settings)
    assert status == 0 and "epoch 2:" in out
    final = find_runs(tmp_path / "runs")[0].summary["final"]
    status, out, _ = call("evaluate", *settings)
    assert status == 0 and f"{final['test_loss']:.4f}" in out
    status, out, _ = call("list", "--results", "runs")
    assert status == 0 and "vgg08" in out


# What a command imports, and what is left out so that it starts quickly


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--help"], {"torch", "torchvision", "scipy", "matplotlib", "safetensors", "pandas", "numpy", "rich"}),
        (["train", "--help"], {"torch", "torchvision", "scipy", "matplotlib", "safetensors", "pandas", "numpy"}),
        (["list"], {"torch", "torchvision", "scipy", "matplotlib", "seaborn", "safetensors"}),
        (["table"], {"torch", "torchvision", "scipy", "matplotlib", "seaborn", "safetensors"}),
        (["sweep", "--together", "0"], {"torch", "torchvision", "scipy", "matplotlib", "pandas", "numpy"}),
    ],
)
def test_quick_commands_import_nothing_heavy(arguments: list[str], unwanted: set[str]) -> None:
    code = (
        "import sys\nfrom vggkit.cli.main import main\ntry:\n    main()\nexcept SystemExit as end:\n"
        "    assert end.code in (None, 0, 2)\nprint('|', *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert unwanted.isdisjoint(done.stdout.rpartition("|")[2].split())


# Mistakes


def test_every_option_of_every_command_that_lacks_its_value_is_one_line(call: Call) -> None:
    commands: dict[str, Any] = cast(Any, typer.main.get_command(app)).commands
    options = {
        (command, option.opts[0]): option.is_flag
        for command, found in commands.items()
        for option in found.params
        if option.opts[0].startswith("--")
    }
    assert {"train", "list", "compare"} <= {command for (command, _), is_flag in options.items() if not is_flag}
    for (command, name), is_flag in (options | {(command, "--help"): True for command in commands}).items():
        told = f"Option '{name}' does not take a value" if is_flag else f"Option '{name}' requires an argument"
        line = refused(call, command, f"{name}=3" if is_flag else name)
        assert re.match(f"vggkit: {told}; allowed: .+", line), line
    assert refused(call, "--help=3").startswith("vggkit: Option '--help' does not take a value; allowed: ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["foo"], "No such command 'foo'; allowed: "),
        (["train"], f"Missing argument 'NAME'; allowed: {', '.join(CONFIGURATIONS)}"),
        (["compare"], "Missing argument 'FIRST'; allowed: SUITE, SUITE/NAME or SUITE/NAME/seed-N"),
        (["branch"], "Missing argument 'FILE'; allowed: Checkpoint of a run under way"),
        (["list", "foo"], "Got unexpected extra argument(s) (foo); allowed: options alone"),
        (["compare", "a", "b", "c"], "Got unexpected extra argument(s) (c); allowed: first, second"),
        (["train", "vgg08", "--device", "[red]x[/red]"], "device: '[red]x[/red]' cannot be used"),
        (["train", "vgg08", "--device", "a\x1b[31m\nb"], r"device: 'a\x1b[31m\nb' cannot be used"),
        (["list", "--results", "[bold]no[/bold]"], "no folder [bold]no[/bold]"),
        (["list", "--results", "a\x1b[31m\nb"], r"no folder a\x1b[31m b"),
        (["list", "--results", "a\x00b"], r"results: 'a\x00b' is not allowed"),
        (["train", "vgg08", "--results", "a\x00b"], r"results: 'a\x00b' is not allowed"),
        (["train", "vgg8"], "unknown configuration 'vgg8'"),
        (["train", "vgg08", "--learning-rate", "nan"], "learning_rate: "),
        (["train", "vgg08", "--seed", "x"], "seed: "),
        (["train", "vgg08", "--nope", "1"], "No such option"),
        (["train", "vgg08", "--skip-init", "--results", "X"], "skip_init: '--results' is not allowed"),
        (["verify", "--device", "tpu"], "device: 'tpu' cannot be used"),
        (["train", "vgg08", "--dataset", "cifar100", "--data", "nowhere"], "data: no folder nowhere"),
        (["table", "--format", "html"], "unknown format"),
        (["bench", "--rounds", "0"], "rounds: 0 is not allowed"),
        (["bench", "--seconds", "inf"], "seconds: "),
        (["sweep", "--together", "x"], "together: 'x' is not allowed; allowed: an integer"),
        (["sweep", "--minutes", "1h"], "minutes: '1h' is not allowed; allowed: a number"),
        (["signal", "--seed", "1.5"], "seed: '1.5' is not allowed; allowed: an integer"),
        (["bench", "--json", "no/such/file"], "json: cannot write"),
        (["notebooks", "vgg9"], "unknown configuration 'vgg9'"),
    ],
)
def test_mistake_is_one_plain_line(
    arguments: list[str], told: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "train" and "--data" not in arguments:
        arguments = [*arguments, "--dataset", "synthetic"]  # else it would look for the images of CIFAR-100
    error = refused(call, *arguments)
    assert error.startswith("vggkit: ") and told in error


def test_no_command_shows_the_help(call: Call) -> None:
    status, out, error = call()
    assert status in (0, 2)  # older versions of typer end with 0
    assert (out + error).startswith("Usage: ") and "Commands:\n" in out + error


def test_failing_notebook_and_missing_packages_are_one_line(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exceptions = pytest.importorskip("papermill.exceptions", reason="needs the extra `book`")
    from vggkit.site import notebooks

    def fail(*arguments: object, **settings: object) -> None:
        raise exceptions.PapermillExecutionError(1, 1, "code", "DataError", "data: not there", ["a", "b"])

    monkeypatch.setattr(notebooks, "execute", fail)
    assert call("notebooks") == (2, "", "vggkit: notebooks: a cell failed with DataError: data: not there\n")
    monkeypatch.setitem(sys.modules, "papermill.exceptions", None)
    assert "pip install 'vggkit[book]'" in refused(call, "notebooks")


# Folders: the home folder, and the project around the working directory


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--results", "~nobody-at-all/x"],
        ["train", *TINY, "--results", "~nobody-at-all/x"],
        ["train", "vgg08", "--data", "~nobody-at-all/x"],
        ["sweep", "--archives", "~nobody-at-all/x"],
        ["bench", "--json", "~nobody-at-all/x"],
        ["notebooks", "--output", "~nobody-at-all/x"],
        ["notebooks", "--source", "~nobody-at-all/x"],
        ["doctor", "--results", "~nobody-at-all/x"],
    ],
)
def test_home_folder_that_is_none_is_one_line(
    arguments: list[str], call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fused, "available", lambda device: False)
    assert "~nobody-at-all" in refused(call, *arguments)
    assert list(tmp_path.glob("~*")) == []


@pytest.mark.parametrize("arguments", [["list"], ["table"], ["verify"], ["train", "vgg08", "--dataset", "synthetic"]])
def test_folder_of_one_suite_is_not_taken_for_that_of_the_results(arguments: list[str], call: Call) -> None:
    suite = Path(__file__).parents[2] / "results" / "table1"
    assert "a suite's folder; allowed: the one around it" in refused(call, *arguments, "--results", str(suite))


def test_home_is_expanded_in_every_path(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    for folder in (home, tmp_path / "elsewhere"):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path / "elsewhere")
    settings = ["--set", "dataset=synthetic", "--set", "train_images_per_class=1", "--set", "epochs=1"]
    assert call("sweep", "vgg08", *settings, "--results", "~/runs", "--archives", "~/packed")[0] == 0
    assert len(find_runs(home / "runs")) == 1 and len(list((home / "packed").iterdir())) == 1
    monkeypatch.setenv("VGGKIT_RESULTS", "~/runs")
    assert "table1 0" in call("list")[1]
    measured = {"machine": "[bold]here[/bold]", "rows": []}
    monkeypatch.setattr(measure, "measure", lambda *arguments, **settings: measured)
    status, out, _ = call("bench", "--json", "~/bench.json")
    assert (status, json.loads((home / "bench.json").read_text())) == (0, measured)
    assert "[bold]here[/bold]" in out
    assert str(home / "notebooks") in call("notebooks", "--source", "~/notebooks")[2]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_results_are_those_of_the_project_around(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    here = call("list")
    monkeypatch.chdir(ROOT / "tests")
    assert call("list") == here
    assert "table1 0" in here[1]


def test_list_shows_what_is_whole_beside_damaged_runs(call: Call, tmp_path: Path, tiny: RunConfig) -> None:
    configs = [replace(tiny, suite="own", seed=seed, epochs=1) for seed in range(3)]
    empty, cut, _ = (RunPaths.of(tmp_path, config).folder for config in configs)
    for config in configs:
        train(config, results=tmp_path)
    (empty / "summary.json").write_bytes(b"")
    (cut / "metrics.csv").unlink()
    status, out, error = call("list", "--results", str(tmp_path))
    assert status == 2 and "own 2" in out
    assert [re.sub("[(;].*", "", line).strip() for line in error.splitlines()] == [
        f"vggkit: results: {empty / 'summary.json'} is damaged",
        f"vggkit: results: {cut / 'metrics.csv'} is missing",
    ]
    assert "(it is empty)" in error
    with pytest.raises(ArtifactError, match="it is empty"):
        find_runs(tmp_path)


def test_list_shows_runs_with_changed_settings(call: Call, tmp_path: Path, tiny: RunConfig) -> None:
    config = replace(tiny, suite="own", seed=3, depth=14, learning_rate=0.5, epochs=1)
    train(config, results=tmp_path)
    lines = call("list", "--results", str(tmp_path))[1].splitlines()
    row = next(line for line in lines if config.name in line)
    assert re.findall(r"own 3|0\.5 |[\d,]{6,}", row) == ["0.5 ", f"{config.parameters:,}", "own 3"]


def test_list_shows_begun_runs_of_every_suite_until_they_are_finished(
    call: Call, tmp_path: Path, tiny: RunConfig
) -> None:
    config = replace(tiny, suite="own", seed=3, learning_rate=0.5)
    assert "begun" not in call("list", "--results", str(tmp_path))[1]

    def stop(epoch: int, *_: object) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, results=tmp_path, progress=stop)
    for left in (".partial-checkpoint.pt", ".aside-checkpoint.pt"):  # what a killed process leaves, and a user
        RunPaths.of(tmp_path, config).checkpoint.with_name(left).touch()
    out = call("list", "--results", str(tmp_path))[1]
    assert f"begun (suite, run, seed): own {config.name} 3; the command" in " ".join(out.split())
    train(config, results=tmp_path)
    RunPaths.of(tmp_path, config).checkpoint.touch()  # as a process leaves it that is killed before it clears up
    assert "begun" not in call("list", "--results", str(tmp_path))[1]


def test_what_a_suite_sets_is_said_before_a_run_of_it_is_trained(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConfigError("not trained here")

    monkeypatch.setattr("vggkit.training.runner.train", refuse)
    for suite, said in (("placement", "with shortcuts around the reduction blocks too"), ("table1", ""), ("own", "")):
        told = call("train", "vgg38_rc", "--suite", suite, "--results", str(tmp_path))[2].splitlines()
        assert told[-1] == "vggkit: not trained here" and len(told) == 1 + bool(said) and said in told[0]
    for suite, epochs, usual in (("placement", 3, False), ("placement", 100, True), ("short", 15, True)):
        settings = ("--suite", suite, "--epochs", str(epochs), "--results", str(tmp_path))
        told = call("train", "vgg38_rc", *settings)[2].splitlines()
        assert told[0].endswith("; here 3 epochs") != usual and len(told) == 2


# Encodings, files, pipes, terminals


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("arguments", [["list"], ["table"], ["table", "--format", "markdown"]])
def test_output_in_other_encodings_is_whole(
    arguments: list[str], encoding: str, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    reference = call(*arguments)[1]
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, errors="strict"))
    assert call(*arguments)[0] == 0
    text = written.getvalue().decode(encoding)
    assert text.count("\n") == reference.count("\n")
    assert re.findall(r"[\w.,]{4,}", text) == re.findall(r"[\w.,]{4,}", reference)
    assert "?" not in text
    assert "±" not in reference or ("+-" if encoding == "ascii" else "±") in text


def test_warnings_and_messages_in_ascii(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(written, encoding="ascii", errors="strict"))
    assert call("train", "vgg±")[0] == 2
    assert written.getvalue().startswith(b"vggkit: unknown configuration 'vgg+-'")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_device_is_one_line_and_loses_no_run(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["list"], ["table"], ["train", *TINY], ["evaluate", *TINY]):
        with Path("/dev/full").open("w") as full, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", full)
            status, _, error = call(*arguments, "--results", str(tmp_path))
        assert (status, error) == (2, "vggkit: output: cannot be written (No space left on device)\n")
    assert len(find_runs(tmp_path)) == 1


@pytest.mark.posix
def test_closed_pipe_is_quiet_and_loses_no_run(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["list"], ["table"], ["train", *TINY], ["evaluate", *TINY]):
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "w") as pipe, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", pipe)
            assert call(*arguments, "--results", str(tmp_path)) == (128 + signal.SIGPIPE, "", "")
    assert len(find_runs(tmp_path)) == 1


def test_closed_output_is_quiet(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        status = call("table", "--results", str(ROOT / "results"))[0]
    assert status == 0


@pytest.mark.posix
def test_pipe_that_closes_leaves_no_traceback_when_python_ends(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "vggkit", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_what_is_no_terminal_gets_each_row_in_one_line(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = find_runs(ROOT / "results")
    lines = call("list", "--results", str(ROOT / "results"))[1].splitlines()
    for run in runs:
        row = next(line for line in lines if re.search(rf"{run.config.name}\s", line))
        assert f"{run.config.suite} {run.config.seed}" in row
    monkeypatch.setenv("COLUMNS", "40")  # even then no word and no number is broken over two lines
    narrow = call("list", "--results", str(ROOT / "results"))[1]
    assert set(re.findall(r"[\w,.-]+", "\n".join(lines))) == set(re.findall(r"[\w,.-]+", narrow))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_progress_keeps_bar_speed_and_time_left(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    written, now = io.StringIO(), [0.0]
    console = Console(file=written, force_terminal=True, width=width, highlight=False, get_time=lambda: now[0])
    monkeypatch.setattr(terminal, "console", lambda: console)
    config = RunConfig.named("vgg38_bn_rc_lr1e-2")
    names = [f"{split}_{metric}" for split in ("train", "validation") for metric in ("loss", "accuracy")]
    with terminal.progress_bar(config) as progress:
        for epoch in (40, 41):  # a run that goes on after its 39th epoch
            for batch in (1, 2, 3):
                now[0] += 10
                progress(epoch, batch * 9500, None)
            progress(epoch, 47_500, cast("SeedEpoch", dict.fromkeys(names, 0.5)))
        progress.bar.refresh()
        frame = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", written.getvalue()).replace("\r", "\n").splitlines()[-1]
    assert len(frame) <= width
    assert re.search(r"━{3,}.* \d+:\d\d:\d\d +\d[\d,]* images/s", frame)
    speed = re.search(r"([\d,]+) images/s", frame)
    assert speed and int(speed[1].replace(",", "")) < 4750  # the 39 epochs of an earlier call do not count as speed
    assert ("41/100" in frame) == (width >= terminal.NARROW)
    assert written.getvalue().count("epoch 40: loss 0.500") == 1


# Signals, warnings


@pytest.fixture
def default_signals() -> Iterator[None]:
    """Handle the stopping signals as a program in a terminal does; one in the background may ignore some."""
    before = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in terminal.STOPPING}
    for number in before:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("default_signals")
@pytest.mark.parametrize("name", terminal.STOPPING)
@pytest.mark.posix
def test_stopped_training_says_so_keeps_the_epoch_and_goes_on(
    name: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, write = getattr(signal, name), checkpoints.write_checkpoint

    def write_and_stop(paths: RunPaths, state: dict[str, Any]) -> None:
        write(paths, state)
        signal.raise_signal(number)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_checkpoint", write_and_stop)
        status, _, error = call("train", *TINY, "--results", str(tmp_path))
    assert status == 128 + number
    assert error == "vggkit: stopped; finished epochs are kept: run the same command again to go on\n"
    assert signal.getsignal(number) is before
    assert find_runs(tmp_path) == []
    status, out, _ = call("train", *TINY, "--results", str(tmp_path))
    assert status == 0 and "epoch 2:" in out and "epoch 1:" not in out


@pytest.mark.usefixtures("default_signals")
@pytest.mark.posix
def test_second_signal_does_not_disturb_the_end(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_twice(results: Path, **given: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)  # as `timeout` does

    monkeypatch.setattr(store, "find_runs", stop_twice)
    assert call("list", "--results", str(ROOT / "results")) == (128 + signal.SIGTERM, "", "vggkit: stopped\n")


@pytest.mark.posix
def test_ignored_signal_stays_ignored(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = checkpoints.write_checkpoint

    def write_and_hang_up(paths: RunPaths, state: dict[str, Any]) -> None:
        write(paths, state)
        signal.raise_signal(signal.SIGHUP)

    monkeypatch.setattr(checkpoints, "write_checkpoint", write_and_hang_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert call("train", *TINY, "--results", str(tmp_path))[0] == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_not_set_where_python_forbids_it() -> None:
    seen: list[list[int]] = []

    def enter() -> None:
        with terminal.stop_signals() as received:
            seen.append(received)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [[]]


def test_emulated_precision_warns_in_one_line_before_training(
    call: Call, tmp_path: Path, tiny: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "bfloat16_ratio", lambda: 0.07)
    monkeypatch.setattr(provenance, "device_name", lambda device: "A CPU @ 2.00GHz")
    monkeypatch.setattr(runner, "evaluate", lambda *given: (1.0, 0.5))  # emulated, it takes most of the time
    fast = [*TINY, "--precision", "bfloat16", "--results", str(tmp_path)]
    status, out, error = call("train", *fast)
    told = "vggkit: precision: bfloat16 is emulated on A CPU @ 2.00GHz; a convolution runs at 0.07 times the speed"
    assert status == 0 and error.count("\n") == 1
    assert error.startswith(told) and "epoch 2:" in out
    assert "; see " in out and "finished before" not in out
    _, again, error = call("train", *fast)
    assert error == "" and "finished before, so that nothing was trained now; " in again
    with pytest.warns(compute.PrecisionWarning, match="0.07 times"), pytest.raises(KeyboardInterrupt):
        train(replace(tiny, precision="bfloat16", seed=1), results=tmp_path, progress=stop_in(1))
    train(replace(tiny, seed=2, epochs=1), results=tmp_path)  # float32: no warning, which would be an error here


def test_warnings_of_others_are_one_line_too(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(results: Path, **given: object) -> list[Run]:
        warnings.warn("first line\nand second", RuntimeWarning, stacklevel=1)
        return []

    monkeypatch.setattr(store, "find_runs", warn)
    error = call("list", "--results", str(ROOT / "results"))[2]
    assert error == "vggkit: RuntimeWarning: first line and second\n"


# What the machine has


def test_doctor_says_what_is_there(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "available", lambda device: False)
    monkeypatch.setattr(compute, "bfloat16_ratio", lambda: 0.07)
    (tmp_path / "file").write_text("")
    where = ["--results", str(tmp_path / "file" / "x"), "--data", str(tmp_path / "[none]")]
    status, out, error = call("doctor", *where)
    assert (status, error) == (0, "")
    found = {line[2:17].strip(): line for line in out.splitlines()}
    assert torch.__version__ in found["torch"]
    assert found["precisions"].startswith("! ") and "0.07 times" in found["precisions"]
    assert found["compiler"].startswith("! ") and "does not work" in found["compiler"]
    assert found["data"].startswith("! ") and "[none]" in found["data"]
    assert found["results"].startswith("! ") and "cannot be written" in found["results"]
    measured = json.loads(call("doctor", "--json", *where)[1])
    assert measured["precisions"]["details"]["bfloat16"] == "emulated"
    assert measured["results"] == {
        "ok": False, "value": f"{tmp_path / 'file' / 'x'}: cannot be written (Not a directory)",
        "details": {"folder": str(tmp_path / "file" / "x"), "writable": False},
    }  # fmt: skip
    assert set(measured) == {
        "python", "torch", "processor", "threads", "precisions", "compiler", "gpu", "data", "results", "free_disk",
        "book_packages",
    }  # fmt: skip
    assert "papermill" in measured["book_packages"]["details"]
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_doctor_finds_the_images(cifar100_folder: Path, tmp_path: Path) -> None:
    assert doctor._data(cifar100_folder).ok
    (tmp_path / "cifar-100-python").mkdir()
    (tmp_path / "cifar-100-python/train").write_text("short")
    assert "missing or damaged: train, test, meta" in doctor._data(tmp_path).value
