"""Many runs in one call: their order, the archives of finished runs, stopping in time and going on."""

import contextlib
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.shared import Call, refused
from vggkit.config import ConfigError
from vggkit.runs.files import ArtifactError, InUseError, RunPaths, claim
from vggkit.runs.store import find_runs
from vggkit.study import Asked
from vggkit.training.order import order
from vggkit.training.sweep import TimeUp, archive, sweep

SETTINGS = {"dataset": "synthetic", "train_images_per_class": 1, "epochs": 2, "suite": "local"}


def test_first_seeds_of_all_come_before_the_next() -> None:
    def placed(together: int) -> list[list[tuple[int, int]]]:
        groups = order(["vgg08", "vgg38"], [0, 1, 2], together)
        return [[(config.depth, config.seed) for config in group] for group in groups]

    assert placed(1) == [[(8, 0)], [(38, 0)], [(8, 1)], [(38, 1)], [(8, 2)], [(38, 2)]]
    assert placed(2) == [[(8, 0), (8, 1)], [(38, 0), (38, 1)], [(8, 2), (38, 2)]]
    assert placed(5) == [[(8, 0), (8, 1), (8, 2), (38, 0), (38, 1)], [(38, 2)]]
    assert placed(6) == [[(8, 0), (8, 1), (8, 2), (38, 0), (38, 1), (38, 2)]]
    with pytest.raises(ConfigError, match="together"):
        order(["vgg08"], [0], 0)
    told = r"^names: vgg08 and vgg38 are one run with these settings, vgg14_bn; allowed: those that differ$"
    with pytest.raises(ConfigError, match=told):
        order(["vgg08", "vgg38"], [0], 1, depth=14, batch_norm=True)


def test_runs_that_cannot_be_trained_together_are_groups_of_their_own() -> None:
    names = [Asked("vgg08", {"dropout": 0.5}), Asked("vgg08"), Asked("vgg38"), Asked("vgg38", {"batch_size": 50})]
    groups = order(names, [0, 1], 6)
    assert [[(config.name, config.seed) for config in group] for group in groups] == [
        [("vgg08_dropout5e-1", 0)],
        [("vgg08_dropout5e-1", 1)],
        [("vgg08", 0), ("vgg08", 1), ("vgg38", 0), ("vgg38", 1)],
        [("vgg38_batch-size50", 0), ("vgg38_batch-size50", 1)],
    ]


def test_stops_in_time_goes_on_and_hands_out_what_is_finished(tmp_path: Path) -> None:
    groups = order(["vgg08"], [0, 1], 1, **SETTINGS)
    where: dict[str, Any] = {"results": tmp_path / "results", "archives": tmp_path / "archives"}
    with pytest.raises(TimeUp):
        list(sweep(groups, minutes=0, **where))
    assert find_runs(tmp_path / "results") == []
    runs = list(sweep(groups, **where))
    assert [run.config.seed for run in runs] == [0, 1]
    for path in sorted((tmp_path / "archives").iterdir()):
        with tarfile.open(path) as file:
            file.extractall(tmp_path / "unpacked", filter="data")
    unpacked = find_runs(tmp_path / "unpacked")
    assert [run.summary for run in unpacked] == [run.summary for run in runs]


def test_stops_in_time_where_the_last_seed_of_a_group_is_finished_already(tmp_path: Path) -> None:
    list(sweep(order(["vgg08"], [1], 1, **SETTINGS), results=tmp_path))
    with pytest.raises(TimeUp):
        list(sweep(order(["vgg08"], [0, 1], 2, **SETTINGS), results=tmp_path, minutes=0))
    assert [run.config.seed for run in find_runs(tmp_path)] == [1]


def test_sweep_beside_another_process_takes_the_next_free_run(tmp_path: Path) -> None:
    groups = order(["vgg08"], [0, 1, 2], 1, **SETTINGS)
    handed: list[int] = []
    with claim(RunPaths.of(tmp_path, groups[0][0])), pytest.raises(InUseError, match="another process") as error:
        handed.extend(run.config.seed for run in sweep(groups, results=tmp_path))
    assert "\n" not in str(error.value)
    assert handed == [1, 2]
    assert [run.config.seed for run in sweep(groups, results=tmp_path)] == [0, 1, 2]


def test_sweep_trains_what_is_free_at_its_end_where_another_run_is_still_held(tmp_path: Path) -> None:
    groups = order(["vgg08"], [0, 1, 2], 1, **SETTINGS)
    holder, handed = contextlib.ExitStack(), []
    holder.enter_context(claim(RunPaths.of(tmp_path, groups[1][0])))
    with claim(RunPaths.of(tmp_path, groups[0][0])), pytest.raises(InUseError):
        for run in sweep(groups, results=tmp_path):
            handed.append(run.config.seed)
            holder.close()  # another process lets go of seed 1, and holds seed 0 to the end
    assert handed == [2, 1]


@pytest.mark.parametrize("together", [1, 3])
def test_sweep_trains_all_but_a_damaged_run_and_then_tells_of_it(tmp_path: Path, together: int) -> None:
    groups = order(["vgg08"], [0, 1, 2], together, **SETTINGS)
    list(sweep(order(["vgg08"], [1], 1, **SETTINGS), results=tmp_path))
    file = next(tmp_path.rglob("metrics.csv"))
    file.write_text(file.read_text() + "1")
    handed: list[int] = []
    with pytest.raises(ArtifactError, match=r"seed-1.*damaged"):
        handed.extend(run.config.seed for run in sweep(groups, results=tmp_path))
    assert handed == [0, 2]
    assert file.read_text().endswith("1")  # it is left as it is


def test_sweep_of_seeds_together_leaves_out_the_one_that_is_taken(tmp_path: Path) -> None:
    group = order(["vgg08"], [0, 1, 2], 3, **SETTINGS)
    handed: list[int] = []
    with claim(RunPaths.of(tmp_path, group[0][1])), pytest.raises(InUseError):
        handed.extend(run.config.seed for run in sweep(group, results=tmp_path))
    assert handed == [0, 2]


def test_sweep_hands_out_what_another_process_finished_meanwhile(tmp_path: Path) -> None:
    groups = order(["vgg08"], [0, 1], 1, **SETTINGS)
    holder = contextlib.ExitStack()
    holder.enter_context(claim(RunPaths.of(tmp_path, groups[0][0])))
    handed: list[int] = []
    for run in sweep(groups, results=tmp_path, archives=tmp_path / "archives"):
        if not handed:  # the other process ends while this one trains the next run
            holder.close()
        handed.append(run.config.seed)
    assert handed == [1, 0]
    assert len(list((tmp_path / "archives").iterdir())) == 2


def test_archive_that_does_not_fit_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **settings: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "add", fail)
    groups = order(["vgg08"], [0], 1, **SETTINGS)
    with pytest.raises(ArtifactError, match=r"^archives: cannot write .*the disk is full") as error:
        list(sweep(groups, results=tmp_path / "results", archives=tmp_path / "archives"))
    assert "\n" not in str(error.value)
    assert list((tmp_path / "archives").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0-x"], "seeds: "),
        (["--seeds", "0-99999999999"], "seeds: "),
        (["--set", "epochs"], "FIELD=VALUE"),
        (["--set", "epoch=2"], "did you mean epochs?"),
        (["--set", "seed=3"], "--seeds gives it"),
        (["--seeds", "0,0"], "seeds: "),
        (["--seeds", "3-1"], "seeds: "),
        (["--seeds", "1" * 5000], "seeds: '1111"),
        (["--seeds", "0-" + "1" * 5000], "seeds: '0-11"),
        (["--seeds", "٣"], "seeds: "),
        (["--minutes", "nan"], "minutes: "),
        (["--archives", "a_file"], "archives: "),
        (["vgg9"], "unknown configuration"),
    ],
)
def test_wrong_sweep_is_one_line_and_status_2(
    arguments: list[str], message: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_file").write_text("")
    monkeypatch.chdir(tmp_path)
    assert message in refused(call, "sweep", *arguments)


def test_archive_holds_the_run_as_it_is_now(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "local" / "vgg08" / "seed-0"
    folder.mkdir(parents=True)
    for text in ("first", "second"):
        (folder / "summary.json").write_text(text)
        with tarfile.open(archive(folder, tmp_path)) as file:
            member = file.extractfile("local/vgg08/seed-0/summary.json")
            assert member is not None
            assert member.read() == text.encode()


def test_two_that_archive_one_run_do_not_end_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, add = tmp_path / "results" / "local" / "vgg08" / "seed-0", tarfile.TarFile.add
    folder.mkdir(parents=True)

    def interrupted(self: tarfile.TarFile, *given: Any, **more: Any) -> None:
        monkeypatch.setattr(tarfile.TarFile, "add", add)
        archive(folder, tmp_path)
        add(self, *given, **more)

    monkeypatch.setattr(tarfile.TarFile, "add", interrupted)
    with tarfile.open(archive(folder, tmp_path)) as file:
        assert file.getnames() == ["local/vgg08/seed-0"]
    assert len(list(tmp_path.iterdir())) == 2


def test_sweep_stops_at_the_first_epoch_that_ends_after_its_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, epochs = SimpleNamespace(now=1000.0), []

    def trained(group: Any, *, progress: Any, **where: Any) -> list[Any]:
        for epoch in range(1, 10):
            progress(epoch, 100, None)
            clock.now += 50
            progress(epoch, 200, {"epoch": epoch})
            epochs.append(epoch)
        return []

    monkeypatch.setattr("vggkit.training.sweep.train_together", trained)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    with pytest.raises(TimeUp, match="2 minutes"):
        list(sweep(order(["vgg08"], [0], 1), minutes=2))
    assert epochs == [1, 2, 3]  # each takes 50 seconds: the third ends after 2 minutes
