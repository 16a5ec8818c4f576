"""Images against torchvision's own transforms, and damaged files that must never be unpickled."""

import hashlib
import pickle
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.shared import FEW_IMAGES, ROOT, Trap
from vggkit import data
from vggkit.compat import CIFAR100, transforms
from vggkit.config import RunConfig
from vggkit.data import DataError, EpochPlan, augment, load, normalise, split, train_batch


def test_crops_and_flips_equal_torchvisions_for_the_same_draws() -> None:
    plan = EpochPlan.draw(64, seed=0, epoch=1)
    pixels = torch.randint(0, 256, (64, 32, 32, 3), dtype=torch.uint8)
    ours = augment(pixels, plan.top, plan.left, plan.flip)
    for i in range(64):
        padded = transforms.functional.pad(pixels[i].permute(2, 0, 1), 4)
        expected = transforms.functional.crop(padded, int(plan.top[i]), int(plan.left[i]), 32, 32)
        expected = transforms.functional.hflip(expected) if plan.flip[i] else expected
        assert torch.equal(ours[i].permute(2, 0, 1), expected)


def test_offsets_and_flips_are_uniform() -> None:
    plan = EpochPlan.draw(90_000, seed=0, epoch=1)
    for offsets in (plan.top, plan.left):
        counts = torch.bincount(offsets, minlength=9).double()
        assert len(counts) == 9
        assert ((counts - 10_000) ** 2 / 10_000).sum() < 26.1  # chi-square, 8 degrees, p = 0.001
    assert abs(plan.flip.double().mean() - 0.5) < 0.006  # 3.6 standard deviations of a share of 90,000 fair flips


def test_normalisation_equals_torchvisions_and_is_channels_last() -> None:
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize(data.MEAN, data.STD)])
    batch = normalise(pixels)
    torch.testing.assert_close(batch, torch.stack([steps(image.numpy()) for image in pixels]))
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_every_image_is_seen_once_in_an_epoch_and_in_a_new_order_in_the_next(tiny: RunConfig) -> None:
    images = load(tiny).train
    numbered = data.Images(images.pixels, torch.arange(len(images)))
    orders = []
    for epoch in (1, 2):
        plan = EpochPlan.draw(len(images), 0, epoch)
        batches = torch.arange(len(images)).split(64)
        orders.append(torch.cat([train_batch(numbered, plan.take(places))[1] for places in batches]))
        assert sorted(orders[-1].tolist()) == list(range(len(images)))
    assert not torch.equal(*orders)


def test_split_has_exact_counts_of_each_class_and_fewer_images_are_a_subset() -> None:
    labels = torch.arange(100).repeat(500)[torch.randperm(50_000)]
    kept, held_out = split(labels, 0, 25, 475)
    assert torch.equal(torch.bincount(labels[kept]), torch.full((100,), 475))
    assert torch.equal(torch.bincount(labels[held_out]), torch.full((100,), 25))
    assert len(set(kept.tolist()) | set(held_out.tolist())) == 50_000
    fewer, same = split(labels, 0, 25, 158)
    assert torch.equal(same, held_out)
    assert set(fewer.tolist()) < set(kept.tolist())
    assert not torch.equal(split(labels, 1, 25, 475)[1], held_out)


def test_synthetic_images_are_the_same_each_time_and_balanced(
    tiny: RunConfig, make_synthetic_images: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(tiny)
    monkeypatch.setattr(data, "_synthetic", make_synthetic_images)
    second = load(tiny)
    assert first.train.pixels.data_ptr() != second.train.pixels.data_ptr()
    assert first.checksum == second.checksum
    assert torch.equal(torch.bincount(first.train.labels), torch.full((100,), 2))
    assert torch.equal(torch.bincount(first.test.labels), torch.full((100,), FEW_IMAGES.test))


def test_changed_files_are_refused_before_they_are_unpickled(tmp_path: Path) -> None:
    files = tmp_path / "cifar-100-python"
    files.mkdir()
    for name in ("train", "test", "meta"):
        (files / name).write_bytes(pickle.dumps(Trap(tmp_path / "trace")))
    with pytest.raises(DataError, match="is damaged") as error:
        load(RunConfig(), tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "trace").exists()


def test_missing_and_empty_folders_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .* VGGKIT_DATA"):
        load(RunConfig(), tmp_path / "nowhere")
    with pytest.raises(DataError, match="is missing"):
        load(RunConfig(), tmp_path)


class Server:
    """A web server on this machine that sends `content`, announced as `length` bytes, and counts the requests."""

    def __init__(self, content: bytes) -> None:
        self.content, self.length, self.asked = content, len(content), 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(outer.length))
                self.end_headers()

            def do_GET(self) -> None:
                outer.asked += 1
                self.do_HEAD()
                self.wfile.write(outer.content)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/cifar-100-python.tar.gz"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small data set in CIFAR-100's layout, and its archive beside it."""
    root = tmp_path_factory.mktemp("generated")
    files = root / "cifar-100-python"
    files.mkdir()
    for name, per_class in (("train", 26), ("test", 1)):
        labels = list(range(100)) * per_class
        pixels = np.zeros((len(labels), 3072), dtype=np.uint8)
        (files / name).write_bytes(pickle.dumps({"data": pixels, "fine_labels": labels}))
    (files / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(label) for label in range(100)]}))
    with tarfile.open(root / "cifar-100-python.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(files, "cifar-100-python")
    return root


@pytest.fixture
def server(generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The place from which CIFAR-100 is downloaded. The test runs in an empty folder; no folder of data is named."""

    def md5(path: Path) -> str:
        return hashlib.md5(path.read_bytes()).hexdigest()

    files, archive = generated / "cifar-100-python", generated / "cifar-100-python.tar.gz"
    source = Server(archive.read_bytes())

    class Generated(CIFAR100):  # type: ignore[misc]  # torchvision has no types
        url, tgz_md5 = source.url, md5(archive)
        train_list = [["train", md5(files / "train")]]  # noqa: RUF012
        test_list = [["test", md5(files / "test")]]  # noqa: RUF012
        meta = {"filename": "meta", "key": "fine_label_names", "md5": md5(files / "meta")}  # noqa: RUF012

    monkeypatch.setattr(data, "CIFAR100", Generated)
    monkeypatch.delenv("VGGKIT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    thread = threading.Thread(target=source.http.serve_forever, daemon=True)
    thread.start()
    yield source
    source.http.shutdown()
    source.http.server_close()


FEW = RunConfig(train_images_per_class=1, batch_size=100)


def left_behind(how: str, generated: Path, root: Path) -> None:
    """Make `root` what it is after a download or a copy was interrupted in the way that `how` names."""
    files, archive = root / "cifar-100-python", root / "cifar-100-python.tar.gz"
    shutil.copytree(generated, root)
    if how == "nothing":
        shutil.rmtree(root)
    if how in ("empty folder", "archive alone", "half an archive"):
        shutil.rmtree(files)
    if how == "empty folder":
        files.mkdir()
    if how in ("empty folder", "file missing", "meta missing"):
        archive.unlink()
    if how in ("half an archive", "half an archive, file missing"):
        archive.write_bytes(archive.read_bytes()[:1000])
    if how in ("file missing", "archive, file missing", "half an archive, file missing"):
        (files / "train").unlink()
    if how == "archive, file short":
        (files / "test").write_bytes((files / "test").read_bytes()[:1000])
    if how == "meta missing":
        (files / "meta").unlink()


WITHOUT_NETWORK = ("archive alone", "archive, file missing", "archive, file short")
STATES = (
    "nothing", "empty folder", "file missing", "meta missing", "half an archive", "half an archive, file missing",
    *WITHOUT_NETWORK,
)  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_what_an_interrupted_download_left_is_completed(state: str, server: Server, generated: Path) -> None:
    left_behind(state, generated, Path("data"))
    assert len(load(FEW).train) == 100
    asked = server.asked
    assert bool(asked) == (state not in WITHOUT_NETWORK)
    load(FEW)
    assert server.asked == asked  # what is complete is not downloaded again


@pytest.mark.parametrize("state", STATES)
def test_a_folder_that_somebody_named_is_left_as_it_is_and_the_advice_leads_on(
    state: str, server: Server, generated: Path, tmp_path: Path
) -> None:
    root = tmp_path / "named"
    left_behind(state, generated, root)
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))
    with pytest.raises(DataError) as error:
        load(FEW, root)
    message = str(error.value)
    assert "\n" not in message and "delete" not in message
    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before
    assert server.asked == 0
    if "archive alone" in state:
        assert f"unpack {root / 'cifar-100-python.tar.gz'}" in message
    elif (root / "cifar-100-python").is_dir():
        assert f"move {root / 'cifar-100-python'} aside" in message


@pytest.mark.parametrize("fault", ["cut short", "other content", "no server", "a file in the way", "disk"])
def test_failed_download_says_what_to_do(fault: str, server: Server, generated: Path, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    if fault == "cut short":
        server.content = server.content[:1000]
    if fault == "other content":
        server.content, server.length = b"<html>", 6
    if fault == "no server":
        monkeypatch.setattr("vggkit.data.CIFAR100.url", "http://127.0.0.1:9/nobody-listens")
    if fault == "a file in the way":
        Path("data").mkdir()
        Path("data/cifar-100-python").touch()
    if fault == "disk":

        def full(*arguments: object, **settings: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(data, "download_and_extract_archive", full)
    with pytest.raises(DataError, match=r"could not be downloaded .*synthetic") as error:
        load(FEW)
    assert "\n" not in str(error.value)
    assert "leave both out" not in str(error.value)  # --data and VGGKIT_DATA, which nobody gave here
    assert ("move " in str(error.value)) == (fault == "a file in the way")


def test_normalisation_is_called_what_it_is_and_stated_as_it_is_done() -> None:
    page = " ".join((ROOT / "book/experiments.md").read_text().split())
    for constants in (data.MEAN, data.STD):
        assert ", ".join(f"{value:.4f}" for value in constants) in page
    assert "common in code for CIFAR" in page
    assert "mean and standard deviation of each channel" not in page


def test_normalisation_constants_are_not_the_images_own(cifar100_folder: Path) -> None:
    pixels = load(RunConfig(), cifar100_folder).train.pixels.double() / 255
    page = " ".join((ROOT / "book/experiments.md").read_text().split())
    for constants, own in ((data.MEAN, pixels.mean((0, 1, 2))), (data.STD, pixels.std((0, 1, 2)))):
        assert ", ".join(f"{value:.3f}" for value in own) in page
        assert max(abs(own - torch.tensor(constants))) > 0.005


def test_real_images_have_the_stated_counts(cifar100_folder: Path) -> None:
    splits = load(RunConfig(), cifar100_folder)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [47_500, 2_500, 10_000]
    assert torch.equal(torch.bincount(splits.validation.labels), torch.full((100,), 25))
    pixels = splits.train.pixels.double() / 255
    torch.testing.assert_close(pixels.mean((0, 1, 2)), torch.tensor([0.507, 0.487, 0.441]).double(), atol=2e-3, rtol=0)


def test_truncated_real_file_is_refused(cifar100_folder: Path, tmp_path: Path) -> None:
    files = tmp_path / "cifar-100-python"
    files.mkdir()
    for name in ("train", "test", "meta"):
        content = (cifar100_folder / "cifar-100-python" / name).read_bytes()
        (files / name).write_bytes(content[:-1] if name == "test" else content)
    with pytest.raises(DataError, match="test is damaged"):
        load(RunConfig(), tmp_path)
