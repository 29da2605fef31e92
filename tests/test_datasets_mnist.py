import gzip
import hashlib
import struct
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from aesearch.datasets import MNIST, mnist
from aesearch.errors import UserError

SIZES = {"train": 60, "test": 10}


def idx_file(array: np.ndarray) -> bytes:
    """An array in the IDX format of MNIST's files."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A mirror on loopback that serves a small MNIST; torchvision is told its address and checksums."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    rng = np.random.default_rng(0)
    resources = []
    for prefix, count in zip(("train", "t10k"), SIZES.values(), strict=True):
        for kind, array in {
            "images-idx3": rng.integers(0, 256, (count, 28, 28), np.uint8),
            "labels-idx1": rng.integers(0, 10, count).astype(np.uint8),
        }.items():
            content = gzip.compress(idx_file(array))
            (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(content)
            resources.append((f"{prefix}-{kind}-ubyte.gz", hashlib.md5(content).hexdigest()))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Nothing: the test's output stays clean."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{httpd.server_port}/"])
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    monkeypatch.setattr(mnist, "IMAGES", SIZES)
    yield folder
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_the_real_mnist(mnist_root: Path):
    data = MNIST(root=str(mnist_root)).load(Path("unused"))
    assert data.images.shape == (70_000, 1, 28, 28)
    assert [len(split) for split in (data.train, data.val, data.test)] == [55_000, 5_000, 10_000]
    assert data.labels[data.test[:5]].tolist() == [7, 2, 1, 0, 4]
    assert data.images[data.train].mean() / 255 == pytest.approx(0.1307, abs=5e-4)


def test_what_is_missing_is_downloaded_once(server: Path, tmp_path: Path):
    data = MNIST().load(tmp_path / "data")
    assert data.images.shape == (70, 1, 28, 28)
    for file in server.iterdir():
        file.unlink()
    np.testing.assert_array_equal(MNIST().load(tmp_path / "data").images, data.images)


def test_a_download_with_a_wrong_checksum_is_refused(server: Path, tmp_path: Path):
    (server / "train-images-idx3-ubyte.gz").write_bytes(b"not what it was")
    with pytest.raises(UserError, match="MNIST must be readable"):
        MNIST().load(tmp_path / "data")


def test_a_truncated_file_is_refused(server: Path, tmp_path: Path):
    MNIST().load(tmp_path / "data")
    file = tmp_path / "data" / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"MNIST must be readable .* give its folder as MNIST\(root=\.\.\.\) or --data"):
        MNIST().load(tmp_path / "data")


def test_a_file_of_another_size_is_refused(server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mnist, "IMAGES", {"train": 60_000, "test": 10_000})
    with pytest.raises(UserError, match="must have 60000 images"):
        MNIST().load(tmp_path / "data")
