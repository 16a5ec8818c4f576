"""Runs made elsewhere, on the command line."""

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.shared import ROOT, Call, convolutions_in_tf32, refused
from vggkit import data
from vggkit.config import RunConfig
from vggkit.networks.vgg import VGG
from vggkit.runs.files import RunPaths
from vggkit.runs.imported_weights import framework_name
from vggkit.runs.store import load_weights, read_run, read_weights
from vggkit.training import evaluation


@pytest.fixture
def summary(tmp_path: Path) -> str:
    lines = ["train_acc,train_loss,val_acc,val_loss", *(f"0.{i}5,{4 - i},0.{i},{4.5 - i}" for i in (1, 2, 3))]
    (tmp_path / "summary.csv").write_text("\n".join(lines))
    return str(tmp_path / "summary.csv")


@pytest.fixture
def weights(tmp_path: Path) -> str:
    torch.manual_seed(0)
    return like_the_framework(VGG(38, True, True).state_dict(), tmp_path / "train_model_3")


def test_summary_is_kept_listed_and_shown(call: Call, summary: str, tmp_path: Path) -> None:
    results = ["--results", str(tmp_path / "results")]
    told = ["--name", "alice", "--configuration", "vgg38_bn", "--set", "epochs=2", "--repeated", "2"]
    status, out, error = call("import-summary", summary, *told, *results)
    assert (status, error) == (0, "")
    kept = tmp_path / "results" / "imported" / "course" / "alice.json"
    assert out == f"told twice: epoch 2; the later row counts\n2 epochs kept in {kept}\n"
    status, out, error = call("list", *results)
    assert (status, error) == (0, "") and "course/alice" in out and "30.00%" in out and "vgg38_bn_rc" in out
    status, out, error = call("imported", *results, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["metric"], row["imported"], row["ours"]) for row in rows] == [
        ("train loss", "1", ""), ("train acc %", "35", ""), ("val loss", "1.5", ""), ("val acc %", "30", "")
    ]  # fmt: skip
    assert {(row["run"], row["model"], row["epochs"]) for row in rows} == {("course/alice", "VGG38 BN", "2")}
    for format, text in (("terminal", "VGG38 BN"), ("markdown", "| course/alice | VGG38 BN | 2 |"), ("latex", "35.00")):
        status, out, error = call("imported", "course/alice", *results, "--format", format)
        assert (status, error) == (0, "") and text in out


def test_one_imported_run_is_one_network(call: Call, summary: str, weights: str, tmp_path: Path) -> None:
    same = ["--name", "alice", "--results", str(tmp_path / "results")]
    assert call("import-summary", summary, *same, "--configuration", "vgg38_bn")[0] == 0
    error = refused(call, "import-weights", weights, *same, "--configuration", "vgg38_bn_rc")
    assert error == "vggkit: configuration: 'vgg38_bn_rc' is not allowed; allowed: vgg38_bn, as the summary of alice\n"


def test_curves_are_drawn_into_a_file(call: Call, summary: str, tmp_path: Path) -> None:
    results = ["--results", str(tmp_path / "results")]
    call("import-summary", summary, "--name", "alice", *results)
    status, _, error = call("imported", *results, "--figure", str(tmp_path / "curves.png"))
    assert (status, error) == (0, f"vggkit: drawn in {tmp_path / 'curves.png'}\n")
    with Image.open(tmp_path / "curves.png") as drawn:
        assert drawn.size[0] > 1000


def test_figure_that_cannot_be_drawn_is_refused_before_the_table_is_printed(
    call: Call, summary: str, tmp_path: Path
) -> None:
    results = ["--results", str(tmp_path / "results")]
    for name in "abcd":
        call("import-summary", summary, "--name", name, *results)
    error = refused(call, "imported", *results, "--figure", str(tmp_path / "a.png"))
    assert error == "vggkit: imported: 4 runs; allowed: at most 3 in one figure\n"
    error = refused(call, "imported", "course/a", *results, "--figure", str(tmp_path / "no" / "a.png"))
    assert error.startswith("vggkit: figure: cannot write ") and "No such file or directory" in error
    assert not (tmp_path / "a.png").exists()


def test_weights_are_kept_and_what_was_supposed_is_told(call: Call, weights: str, tmp_path: Path) -> None:
    results = ["--results", str(tmp_path / "results")]
    status, out, error = call("import-weights", weights, "--name", "bob", "--configuration", "vgg38_bn_rc", *results)
    kept = tmp_path / "results" / "imported" / "course" / "bob.safetensors"
    assert (status, out) == (0, f"kept in {kept}\n")
    assert error.startswith("vggkit: the names in the file do not tell where BN and shortcuts stand; supposed is: ")
    assert error.endswith("; --evaluate shows whether it was so\n")
    torch.manual_seed(0)
    expected = VGG(38, True, True).eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(VGG.from_run(kept)(images), expected(images))


def like_the_framework(state: Mapping[str, torch.Tensor], file: Path) -> str:
    """A file of the framework that holds our network."""
    torch.save({"network": {f"model.{framework_name(name)}": tensor for name, tensor in state.items()}}, file)
    return str(file)


def test_network_of_a_run_is_as_good_imported_as_the_run_recorded(
    call: Call, trained: Path, tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = data.load(tiny)
    monkeypatch.setattr(data, "load", lambda config, folder: {"cifar100": splits}[config.dataset])
    paths = RunPaths.of(trained, tiny)
    final, file = read_run(paths.folder).summary["final"], like_the_framework(read_weights(paths), tmp_path / "file")
    found: list[str] = []
    evaluate = evaluation.evaluate

    def measured(*given: Any) -> tuple[float, float]:
        found.append(precision())
        return evaluate(*given)

    network = ["--configuration", "vgg08", "--results", str(tmp_path / "results")]
    with convolutions_in_tf32() as precision:
        monkeypatch.setattr(evaluation, "evaluate", measured)
        status, out, error = call("import-weights", file, "--name", "bob", *network, "--evaluate", "--device", "cpu")
    assert (status, error) == (0, "")
    assert f"{final['test_loss']:.4f}" in out and f"{final['test_accuracy']:.2%}" in out
    assert found == ["ieee"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["vgg38_rc", "vgg38_bn_rc_lr1e-2"])
def test_network_of_the_report_is_as_good_imported_on_the_real_images(
    name: str, call: Call, cifar100_folder: Path, tmp_path: Path
) -> None:
    run, paths = ROOT / "results/table1" / name / "seed-0", ["--results", str(tmp_path), "--data", str(cifar100_folder)]
    file = like_the_framework(load_weights(run)[1], tmp_path / "file")
    status, out, _ = call("import-weights", file, "--name", "bob", "--configuration", name, "--evaluate", *paths)
    assert status == 0
    accuracy = float(re.findall(r"([\d.]+)%", out)[-1]) / 100
    # The run was evaluated in bfloat16, the import in float32: some images of 10,000 lie at the border of two classes.
    assert accuracy == pytest.approx(read_run(run).summary["final"]["test_accuracy"], abs=0.003)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["import-summary", "no.csv", "--name", "a"], "file: there is no no.csv"),
        (["import-summary", "no.csv"], "Missing option '--name'"),
        (
            ["import-summary", "no.csv", "--name", "a", "--set", "epochs"],
            "set: 'epochs' is not allowed; allowed: FIELD",
        ),
        (["import-summary", "no.csv", "--name", "a", "--set", "epochs=x"], "epochs: 'x' is not allowed"),
        (["import-summary", "no.csv", "--name", "a", "--repeated", "a"], "repeated: 'a' is not allowed"),
        (["import-weights", "no.pt", "--name", "a"], "Missing option '--configuration'"),
        (["import-weights", "no.pt", "--name", "a", "--configuration", "vgg9"], "unknown configuration 'vgg9'"),
        (["import-weights", "no.pt", "--name", "a", "--configuration", "vgg38"], "file: there is no no.pt"),
        (["imported", "--figure", "a.pdf"], "figure: 'a.pdf' is not allowed; allowed: a name that ends in .png"),
        (["imported", "--format", "html"], "unknown format 'html'"),
    ],
)
def test_mistake_is_one_line(
    arguments: list[str], told: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, error = call(*arguments)
    assert (status, out, error.count("\n")) == (2, "", 1) and told in error


def test_imported_run_must_be_there(call: Call, summary: str, tmp_path: Path) -> None:
    results = ["--results", str(tmp_path)]
    assert call("imported", *results)[2] == "vggkit: imported run: there is none yet; vggkit import-summary keeps one\n"
    call("import-summary", summary, "--name", "alice", *results)
    status, _, error = call("imported", "course/alise", *results)
    assert status == 2 and "unknown imported run 'course/alise': did you mean course/alice?" in error
