import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.serving import serving_folder
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from aesearch.datasets import CIFAR10, EMNIST, KMNIST, MNIST, SVHN, CelebA, FashionMNIST, vision
from aesearch.errors import UserError

SIZES = {"train": 60, "test": 10}
GREY = [MNIST, FashionMNIST, KMNIST]


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def idx_file(array: np.ndarray) -> bytes:
    """An array in the IDX format of MNIST's files."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def web(tmp_path: Path):
    """A folder, and the address at which it is served on loopback."""
    with serving_folder(tmp_path / "web") as address:
        yield tmp_path / "web", address


@pytest.fixture(params=GREY, ids=lambda kind: kind.__name__)
def grey(request, web, monkeypatch: pytest.MonkeyPatch):
    """A small set in MNIST's format on a mirror; torchvision is told its address and checksums."""
    folder, address = web
    rng = np.random.default_rng(0)
    resources = []
    for prefix, count in zip(("train", "t10k"), SIZES.values(), strict=True):
        for kind, array in {
            "images-idx3": rng.integers(0, 256, (count, 28, 28), np.uint8),
            "labels-idx1": rng.integers(0, 10, count).astype(np.uint8),
        }.items():
            content = gzip.compress(idx_file(array))
            (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(content)
            resources.append((f"{prefix}-{kind}-ubyte.gz", md5(content)))
    theirs = getattr(datasets, request.param.__name__)
    monkeypatch.setattr(theirs, "mirrors", [address])
    monkeypatch.setattr(theirs, "resources", resources)
    monkeypatch.setattr(vision.GreySet, "counts", property(lambda self: tuple(SIZES.values())))
    return request.param


def test_the_real_mnist(mnist_root: Path):
    data = MNIST(root=str(mnist_root)).load(Path("unused"))
    assert data.images.shape == (70_000, 1, 28, 28)
    assert [len(split) for split in (data.train, data.val, data.test)] == [55_000, 5_000, 10_000]
    assert data.labels[data.test[:5]].tolist() == [7, 2, 1, 0, 4]
    assert data.images[data.train].mean() / 255 == pytest.approx(0.1307, abs=5e-4)


def test_what_is_missing_is_downloaded_once(grey, web, tmp_path: Path):
    data = grey().load(tmp_path / "data")
    assert data.images.shape == (70, 1, 28, 28)
    assert (data.train.tolist(), data.val.tolist(), data.test.tolist()) == (
        list(range(48)),
        list(range(48, 60)),
        list(range(60, 70)),
    )
    for file in web[0].iterdir():
        file.unlink()
    np.testing.assert_array_equal(grey().load(tmp_path / "data").images, data.images)
    np.testing.assert_array_equal(grey(root=str(tmp_path / "data")).load(Path("unused")).labels, data.labels)


def test_a_download_with_a_wrong_checksum_is_refused(grey, web, tmp_path: Path):
    (web[0] / "train-images-idx3-ubyte.gz").write_bytes(b"not what it was")
    with pytest.raises(UserError, match=f"{grey.__name__} must be readable"):
        grey().load(tmp_path / "data")


def test_a_truncated_file_is_refused(grey, tmp_path: Path):
    grey().load(tmp_path / "data")
    file = tmp_path / "data" / grey.__name__ / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"must be readable .* give its folder as \w+\(root=\.\.\.\) or --data"):
        grey().load(tmp_path / "data")


def test_a_wrong_size_and_a_label_out_of_range_are_refused(grey, tmp_path: Path, monkeypatch):
    grey().load(tmp_path / "data")
    labels = tmp_path / "data" / grey.__name__ / "raw" / "t10k-labels-idx1-ubyte"
    labels.write_bytes(idx_file(np.full(10, 10, np.uint8)))
    with pytest.raises(UserError, match="must be from 0 to 9, but got 0 to 10"):
        grey().load(tmp_path / "data")
    monkeypatch.setattr(vision.GreySet, "counts", property(lambda self: (60_000, 10_000)))
    with pytest.raises(UserError, match="must have 60000 images"):
        grey().load(tmp_path / "data")


@pytest.mark.parametrize("kind", [*GREY, EMNIST, CIFAR10, SVHN], ids=lambda kind: kind.__name__)
def test_classes_and_counts_are_torchvisions(kind):
    assert len(set(kind().classes)) == len(kind().classes)
    theirs = getattr(datasets, kind.__name__)
    if kind in (FashionMNIST, KMNIST):
        assert kind().classes == tuple(theirs.classes)
    if kind is EMNIST:
        for split, (classes, _, _) in vision.EMNIST_SPLITS.items():
            assert list(classes) == [name for name in theirs.classes_split_dict[split] if name != "N/A"]
        assert set(vision.EMNIST_SPLITS) == set(theirs.splits)


def test_emnist_letters_are_upright_and_counted_from_0(web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, address = web
    images = np.zeros((6, 28, 28), np.uint8)
    images[:, 20, 3] = 255  # column 20, row 3, as the published files are transposed
    with zipfile.ZipFile(folder / "gzip.zip", "w") as archive:
        for part, count in (("train", 5), ("test", 1)):
            archive.writestr(
                f"gzip/emnist-letters-{part}-images-idx3-ubyte.gz", gzip.compress(idx_file(images[:count]))
            )
            labels = np.arange(1, count + 1).astype(np.uint8)
            archive.writestr(f"gzip/emnist-letters-{part}-labels-idx1-ubyte.gz", gzip.compress(idx_file(labels)))
    monkeypatch.setattr(datasets.EMNIST, "url", f"{address}gzip.zip")
    monkeypatch.setattr(datasets.EMNIST, "md5", md5((folder / "gzip.zip").read_bytes()))
    monkeypatch.setitem(vision.EMNIST_SPLITS, "letters", (vision.LOWER, 5, 1))
    data = EMNIST("letters").load(tmp_path / "data")
    assert np.argwhere(data.images[0, 0]).tolist() == [[3, 20]]
    assert data.labels.tolist() == [0, 1, 2, 3, 4, 0]
    assert (len(data.train), len(data.val), len(data.test)) == (4, 1, 1)


def test_an_unknown_split_of_emnist_is_refused():
    with pytest.raises(UserError, match="did you mean letters"):
        EMNIST("leters")


@pytest.fixture
def cifar(web, monkeypatch: pytest.MonkeyPatch):
    folder, address = web
    rng = np.random.default_rng(0)
    files = {f"data_batch_{i}": 4 for i in range(1, 6)} | {"test_batch": 6}
    content = {
        name: pickle.dumps(
            {"data": rng.integers(0, 256, (count, 3072), np.uint8), "labels": [9, 0, 1, 2, 3, 4][:count]}
        )
        for name, count in files.items()
    } | {"batches.meta": pickle.dumps({"label_names": list(CIFAR10().classes)})}
    with tarfile.open(folder / "cifar.tar.gz", "w:gz") as archive:
        for name, raw in content.items():
            item = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            item.size = len(raw)
            archive.addfile(item, io.BytesIO(raw))
    theirs = datasets.CIFAR10
    monkeypatch.setattr(theirs, "url", f"{address}cifar.tar.gz")
    monkeypatch.setattr(theirs, "tgz_md5", md5((folder / "cifar.tar.gz").read_bytes()))
    monkeypatch.setattr(theirs, "train_list", [[name, md5(content[name])] for name in list(files)[:5]])
    monkeypatch.setattr(theirs, "test_list", [["test_batch", md5(content["test_batch"])]])
    monkeypatch.setattr(theirs, "meta", theirs.meta | {"md5": md5(content["batches.meta"])})
    monkeypatch.setattr(CIFAR10, "counts", property(lambda self: (20, 6)))
    return content


def test_cifar_is_downloaded_checked_and_channels_first(cifar, tmp_path: Path):
    data = CIFAR10().load(tmp_path)
    assert data.images.shape == (26, 3, 32, 32)
    np.testing.assert_array_equal(
        data.images[20:].reshape(6, -1), pickle.loads(cifar["test_batch"])["data"], strict=True
    )
    assert data.labels[data.test].tolist() == [9, 0, 1, 2, 3, 4]


def test_a_damaged_batch_of_cifar_is_never_unpickled(cifar, tmp_path: Path):
    first = CIFAR10().load(tmp_path)
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    batch.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    np.testing.assert_array_equal(CIFAR10().load(tmp_path).images, first.images)


def test_svhn_is_downloaded_with_the_digit_0_as_0(web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, address = web
    lists = {}
    for split, count in (("train", 10), ("test", 3)):
        pictures = np.zeros((32, 32, 3, count), np.uint8)
        pictures[4, 5, 2] = np.arange(count)
        savemat(folder / f"{split}_32x32.mat", {"X": pictures, "y": np.arange(1, count + 1)[:, None]})
        file = f"{split}_32x32.mat"
        lists[split] = [f"{address}{file}", file, md5((folder / file).read_bytes())]
    monkeypatch.setattr(datasets.SVHN, "split_list", lists)
    monkeypatch.setattr(SVHN, "counts", property(lambda self: (10, 3)))
    data = SVHN().load(tmp_path / "data")
    assert data.images.shape == (13, 3, 32, 32)
    assert data.images[:, 2, 4, 5].tolist() == [*range(10), *range(3)]
    assert data.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3]
    (tmp_path / "data" / "train_32x32.mat").write_bytes(b"damaged")
    (folder / "train_32x32.mat").unlink()
    with pytest.raises(UserError, match="SVHN must be readable"):
        SVHN().load(tmp_path / "data")


@pytest.fixture
def celeba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten faces laid out as torchvision does, the last two of val and of test."""
    folder = tmp_path / "faces" / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i + 1:06}.jpg" for i in range(10)]
    for i, name in enumerate(names):
        Image.new("RGB", (178, 218), (20 * i, 0, 0)).save(folder / "img_align_celeba" / name)
    lines = {
        "list_attr_celeba.txt": [
            "10",
            "Bald Smiling ",
            *(f"{name} -1 {1 if i % 2 else -1}" for i, name in enumerate(names)),
        ],
        "identity_CelebA.txt": [f"{name} 1" for name in names],
        "list_bbox_celeba.txt": ["10", "image_id x_1 y_1 width height", *(f"{name} 1 2 3 4" for name in names)],
        "list_landmarks_align_celeba.txt": ["10", "a b", *(f"{name} 1 2" for name in names)],
        "list_eval_partition.txt": [f"{name} {max(0, i - 7)}" for i, name in enumerate(names)],
    }
    checked = [("", "", "img_align_celeba.zip")]
    for file, rows in lines.items():
        (folder / file).write_text("\n".join(rows) + "\n")
        checked.append(("", md5((folder / file).read_bytes()), file))
    monkeypatch.setattr(datasets.CelebA, "file_list", checked)
    return folder


def test_celeba_keeps_its_splits_and_an_attribute_as_label(celeba: Path, tmp_path: Path):
    data = CelebA(size=16, attribute="Smiling", root=str(celeba.parent)).load(tmp_path)
    assert data.images.shape == (10, 3, 16, 16)
    assert (data.train.tolist(), data.val.tolist(), data.test.tolist()) == (list(range(8)), [8], [9])
    assert data.labels.tolist() == [0, 1] * 5
    assert data.images[5, :, 3, 3].tolist() == pytest.approx([100, 0, 0], abs=3)
    assert CelebA().load(celeba.parent).labels is None


def test_what_celeba_lacks_is_told(celeba: Path, tmp_path: Path):
    with pytest.raises(UserError, match="did you mean Smiling"):
        CelebA(attribute="Smilling").load(celeba.parent)
    (celeba / "img_align_celeba" / "000003.jpg").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"1 are not, such as .*000003\.jpg"):
        CelebA(size=24).load(celeba.parent)
    with pytest.raises(UserError, match=r"CelebA needs its files below .* CelebA\(root=\.\.\.\)"):
        CelebA().load(tmp_path)
    with pytest.raises(UserError, match="size must be at least 8"):
        CelebA(size=0)
