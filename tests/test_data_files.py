"""The files of the images: downloaded, completed or refused, and read into the right part."""

import hashlib
import pickle
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.shared import Trap
from vggkit import compat
from vggkit.config import RunConfig
from vggkit.data import DataError, Splits, load

PER_CLASS = {"train": 27, "test": 2}
FEW = RunConfig(train_images_per_class=1, batch_size=100)
WITHOUT_NETWORK = ("archive alone", "archive, file missing", "archive, file short")
STATES = (
    "nothing", "empty folder", "file missing", "meta missing", "half an archive", "half an archive, file missing",
    *WITHOUT_NETWORK,
)  # fmt: skip


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes small files in CIFAR-100's format whose MD5 sums are the expected ones, and names their folder.

    Before the sums are taken, `change` is given the content of each file by its name.
    """

    def write(change: Callable[[str, dict[str, Any]], None] = lambda name, content: None) -> Path:
        files = tmp_path / compat.CIFAR100.base_folder
        files.mkdir(exist_ok=True)
        names = [f"class{number:02d}" for number in range(100)]
        contents: dict[str, dict[str, Any]] = {"meta": {"fine_label_names": names}}
        for seed, (name, per_class) in enumerate(PER_CLASS.items()):
            pixels = np.random.default_rng(seed).integers(0, 256, (100 * per_class, 3072), dtype=np.uint8)
            contents[name] = {"data": pixels, "fine_labels": list(range(100)) * per_class}
        sums = {}
        for name, content in contents.items():
            change(name, content)
            (files / name).write_bytes(pickle.dumps(content))
            sums[name] = hashlib.md5((files / name).read_bytes()).hexdigest()
        monkeypatch.setattr(compat.CIFAR100, "train_list", [["train", sums["train"]]])
        monkeypatch.setattr(compat.CIFAR100, "test_list", [["test", sums["test"]]])
        monkeypatch.setattr(
            compat.CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names", "md5": sums["meta"]}
        )
        return tmp_path

    return write


def loaded(folder: Path) -> Splits:
    return load(RunConfig(train_images_per_class=2), folder)


def test_each_part_comes_from_its_own_file_with_its_own_labels(cifar: Callable[..., Path]) -> None:
    splits = loaded(cifar())
    for name, parts in (("train", (splits.train, splits.validation)), ("test", (splits.test,))):
        rng = np.random.default_rng(["train", "test"].index(name))
        stored = rng.integers(0, 256, (100 * PER_CLASS[name], 3, 32, 32), dtype=np.uint8).transpose(0, 2, 3, 1)
        places = {image.tobytes(): place for place, image in enumerate(stored)}
        for part in parts:
            found = [places[image.tobytes()] for image in part.pixels.numpy()]
            assert [place % 100 for place in found] == part.labels.tolist()
            assert found == sorted(set(found))  # each image once, in the order of the file
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [200, 2500, 200]


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_one_changed_byte_of_any_file_is_refused(name: str, cifar: Callable[..., Path]) -> None:
    folder = cifar()
    file = folder / compat.CIFAR100.base_folder / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=f"{name} is damaged"):
        loaded(folder)


def change_pixel(name: str, content: dict[str, Any]) -> None:
    if name == "test":
        content["data"][0, 0] ^= 1


def change_all_train_pixels(name: str, content: dict[str, Any]) -> None:
    if name == "train":
        content["data"] ^= 1


def exchange_labels(name: str, content: dict[str, Any]) -> None:
    if name == "test":
        content["fine_labels"][:2] = reversed(content["fine_labels"][:2])


@pytest.mark.parametrize("change", [change_pixel, change_all_train_pixels, exchange_labels])
def test_checksum_tells_other_pixels_and_labels_apart(
    change: Callable[[str, dict[str, Any]], None], cifar: Callable[..., Path]
) -> None:
    before = loaded(cifar()).checksum
    assert loaded(cifar()).checksum == before
    assert loaded(cifar(change)).checksum != before


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

    class Generated(compat.CIFAR100):  # type: ignore[misc]  # torchvision has no types
        url, tgz_md5 = source.url, md5(archive)
        train_list = [["train", md5(files / "train")]]  # noqa: RUF012
        test_list = [["test", md5(files / "test")]]  # noqa: RUF012
        meta = {"filename": "meta", "key": "fine_label_names", "md5": md5(files / "meta")}  # noqa: RUF012

    monkeypatch.setattr(compat, "CIFAR100", Generated, raising=False)
    monkeypatch.delenv("VGGKIT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    thread = threading.Thread(target=source.http.serve_forever, daemon=True)
    thread.start()
    yield source
    source.http.shutdown()
    source.http.server_close()


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
        monkeypatch.setattr("vggkit.compat.CIFAR100.url", "http://127.0.0.1:9/nobody-listens")
    if fault == "a file in the way":
        Path("data").mkdir()
        Path("data/cifar-100-python").touch()
    if fault == "disk":

        def full(*arguments: object, **settings: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(compat, "download_and_extract_archive", full)
    with pytest.raises(DataError, match=r"could not be downloaded .*synthetic") as error:
        load(FEW)
    assert "\n" not in str(error.value)
    assert "leave both out" not in str(error.value)  # --data and VGGKIT_DATA, which nobody gave here
    assert ("move " in str(error.value)) == (fault == "a file in the way")


def test_truncated_real_file_is_refused(cifar100_folder: Path, tmp_path: Path) -> None:
    files = tmp_path / "cifar-100-python"
    files.mkdir()
    for name in ("train", "test", "meta"):
        content = (cifar100_folder / "cifar-100-python" / name).read_bytes()
        (files / name).write_bytes(content[:-1] if name == "test" else content)
    with pytest.raises(DataError, match="test is damaged"):
        load(RunConfig(), tmp_path)
