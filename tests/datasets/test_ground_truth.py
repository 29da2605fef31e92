import gzip
import hashlib
import math
import struct
import tarfile
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from helpers.serving import serving_folder
from scipy.io import savemat

from aesearch.datasets import MPI3D, Cars3D, DSprites, Shapes3D, SmallNORB, ground_truth
from aesearch.errors import UserError

RNG = np.random.default_rng(0)
SMALL = {
    DSprites: {"shape": 3, "scale": 2, "orientation": 2, "x": 3, "y": 2},
    Shapes3D: {"floor_hue": 2, "wall_hue": 3, "object_hue": 2, "scale": 2, "shape": 2, "orientation": 2},
    MPI3D: {"object_size": 1, "camera_height": 1, "background_color": 1, "horizontal_axis": 2, "vertical_axis": 1},
    Cars3D: {"elevation": 4, "azimuth": 24, "object": 2},
    SmallNORB: {"category": 5, "elevation": 2, "azimuth": 2, "lighting": 2},
}
NAMES = {"ids": lambda value: value.__name__ if isinstance(value, type) else ""}


def grid(sizes: dict[str, int]) -> np.ndarray:
    return np.stack(np.unravel_index(np.arange(math.prod(sizes.values())), tuple(sizes.values())), axis=1)


def images(n: int, channels: int = 3) -> np.ndarray:
    """(n, 64, 64, channels): the top left pixel of each counts up."""
    made = RNG.integers(0, 256, (n, 64, 64, channels), np.uint8)
    made[:, 0, 0] = np.arange(n)[:, None] % 256
    return made


def norb_file(array: np.ndarray) -> bytes:
    magic = {np.dtype("u1"): 0x1E3D4C55, np.dtype("<i4"): 0x1E3D4C54}[array.dtype]
    sizes = [*array.shape, 1, 1, 1][: max(3, array.ndim)]
    return struct.pack(f"<ii{len(sizes)}i", magic, array.ndim, *sizes) + array.tobytes()


def write_dsprites(folder: Path, values=(0, 1), order=slice(None), **more) -> None:
    classes = np.insert(grid(SMALL[DSprites]), 0, 0, axis=1)[order]
    pictures = np.array(values, np.uint8)[images(len(classes), 1)[..., 0] & 1]
    arrays = {"imgs": pictures, "latents_classes": classes, "metadata": np.array({"pickled": 1}, object)} | more
    np.savez_compressed(folder / DSprites().file, **arrays)


def write_shapes3d(folder: Path, pictures=None, order=slice(None)) -> None:
    values = grid(SMALL[Shapes3D])[order] * [0.1, 0.1, 0.1, 0.25, 1, 15.0] - [0, 0, 0, 0, 0, 30]
    with h5py.File(folder / "3dshapes.h5", "w") as file:
        made = images(len(values)) if pictures is None else pictures
        file.create_dataset("images", data=made, chunks=(7, *made.shape[1:]), compression="gzip")
        file.create_dataset("labels", data=values)


def write_mpi3d(folder: Path, **more) -> None:
    np.savez_compressed(folder / "mpi3d_toy.npz", **({"images": images(72)} | more))


def write_cars3d(folder: Path, shape=(128, 128, 3, 24, 4), cars=(1, 0)) -> None:
    """Cars of one colour: 100 times the car, plus elevation in green and azimuth in blue."""
    with tarfile.open(folder / Cars3D().file, "w:gz", compresslevel=1) as archive:
        for car in cars:
            views = np.zeros(shape, np.uint8)
            views[:, :, 0] = 100 * car
            views[:, :, 1] = np.arange(shape[4])
            views[:, :, 2] = np.arange(shape[3])[:, None]
            savemat(folder / "one.mat", {"im": views, "mask": np.zeros((2, 2))})
            archive.add(folder / "one.mat", f"data/cars/car_{car:03}_mesh.mat")
        archive.add(folder / "one.mat", "data/sprites/sprite_1.mat")
    (folder / "one.mat").unlink()


def write_norb(folder: Path, packed: bool = False, **change) -> None:
    """Two toys, one in each part, in a random order: each image's grey is its place in the grid."""
    sizes = SMALL[SmallNORB]
    (folder / "smallnorb").mkdir()
    for part, names in enumerate((list(SmallNORB.CHECKSUMS)[:3], list(SmallNORB.CHECKSUMS)[3:])):
        order = np.random.default_rng(part).permutation(math.prod(sizes.values()))
        category, elevation, azimuth, lighting = grid(sizes)[order].T.astype("<i4")
        info = np.stack([np.full_like(category, part), elevation, 2 * azimuth, lighting], axis=1)
        pairs = np.zeros((len(order), 2, 96, 96), np.uint8)
        pairs[:, 0] = (2 * order + part)[:, None, None]
        arrays = {"dat": pairs, "cat": category, "info": info} | change
        for name, array in zip(names, (arrays["dat"], arrays["cat"], arrays["info"]), strict=True):
            content = array if isinstance(array, bytes) else norb_file(array)
            file = folder / "smallnorb" / (name if packed else name.removesuffix(".gz"))
            file.write_bytes(gzip.compress(content, 1) if packed else content)


WRITE = {
    DSprites: write_dsprites,
    Shapes3D: write_shapes3d,
    MPI3D: write_mpi3d,
    Cars3D: write_cars3d,
    SmallNORB: write_norb,
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch):
    """Grids of some dozens of images, converted in small parts."""
    for kind, sizes in SMALL.items():
        monkeypatch.setattr(kind, "FACTORS", sizes)
    monkeypatch.setattr(SmallNORB, "TOYS", 2)
    monkeypatch.setattr(ground_truth, "CHUNK", 16)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("dataset", "n"),
    [
        (DSprites(), 737_280),
        (Shapes3D(), 480_000),
        (MPI3D(), 1_036_800),
        (MPI3D("real_complex"), 460_800),
        (Cars3D(), 17_568),
        (SmallNORB(), 48_600),
    ],
)
def test_grids_have_the_published_sizes(dataset, n, published):
    assert math.prod(dataset.factor_sizes.values()) * dataset.copies == n


@pytest.mark.parametrize("kind", WRITE, **NAMES)
def test_images_and_factors_go_together(kind, tmp_path: Path):
    WRITE[kind](tmp_path)
    dataset = kind()
    data = dataset.load(tmp_path)
    n = math.prod(dataset.factor_sizes.values()) * dataset.copies
    assert data.images.shape == (n, *dataset.shape)
    assert isinstance(data.images, np.memmap)
    np.testing.assert_array_equal(data.factors, grid(dict(dataset.factor_sizes)).repeat(dataset.copies, axis=0))
    np.testing.assert_array_equal(np.sort(np.concatenate([data.train, data.val, data.test])), np.arange(n))
    assert (data.labels is None) == (not dataset.classes)
    again = kind(root=str(tmp_path)).load(tmp_path)
    np.testing.assert_array_equal(again.images, data.images)
    assert len(list((tmp_path / "ground_truth").glob("*.npy"))) == 1


def test_the_pixels_of_dsprites_are_0_and_255(tmp_path: Path):
    write_dsprites(tmp_path)
    data = DSprites().load(tmp_path)
    with np.load(tmp_path / DSprites().file) as file:
        np.testing.assert_array_equal(data.images[:, 0], file["imgs"] * 255)
    assert DSprites().classes[int(data.labels[-1])] == "heart"


@pytest.mark.parametrize("kind", [Shapes3D, MPI3D], **NAMES)
def test_colours_come_first_and_nothing_is_moved(kind, tmp_path: Path):
    WRITE[kind](tmp_path)
    data = kind().load(tmp_path)
    assert (data.images[:, :, 0, 0] == np.arange(len(data.images))[:, None]).all()


def test_each_view_of_a_car_is_at_its_three_factors(tmp_path: Path):
    write_cars3d(tmp_path)
    data = Cars3D().load(tmp_path)
    means = data.images.mean(axis=(2, 3))
    np.testing.assert_array_equal(means, data.factors[:, [2, 0, 1]] * [100, 1, 1])


@pytest.mark.parametrize("packed", [True, False])
def test_each_toy_is_at_its_factors_in_any_order_of_the_file(tmp_path: Path, packed):
    write_norb(tmp_path, packed)
    data = SmallNORB().load(tmp_path)
    assert data.images[:, 0].mean(axis=(1, 2)).tolist() == list(range(80))
    np.testing.assert_array_equal(data.labels, data.factors[:, 0])


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (DSprites, {"values": (0, 255)}, "images up to 255, not 1"),
        (DSprites, {"order": slice(None, None, -1)}, "not in the order of the factor shape"),
        (DSprites, {"order": slice(9)}, "factors of"),
        (DSprites, {"imgs": np.zeros((5, 64, 64), np.uint8)}, "5 images"),
        (DSprites, {"imgs": np.zeros((72, 32, 32), np.uint8)}, r"images of \(1, 32, 32\)"),
        (DSprites, {"imgs": np.array([None] * 72)}, "must hold plain numbers"),
        (Shapes3D, {"order": np.roll(np.arange(96), 1)}, "not in the order of the factor floor_hue"),
        (Shapes3D, {"pictures": images(95)}, "95 images"),
        (Shapes3D, {"pictures": images(96)[:, :32]}, r"images of \(3, 32, 64\)"),
        (MPI3D, {"images": images(71)}, "71 images"),
        (MPI3D, {"images": images(73)}, "broadcast"),
        (MPI3D, {"images": images(72).astype(np.float32)}, "float32"),
        (Cars3D, {"cars": (0, 1, 2)}, "3 files of cars, not 2"),
        (Cars3D, {"shape": (128, 128, 3, 4, 24)}, r"mesh.mat of \(128, 128, 3, 4, 24\)"),
        (SmallNORB, {"cat": np.zeros(40, "<i4")}, "not a grid"),
        (SmallNORB, {"info": np.full((40, 4), 99, "<i4")}, "invalid entry in coordinates"),
        (SmallNORB, {"dat": np.zeros((39, 2, 96, 96), np.uint8)}, "39 images of uint8, but 40 rows"),
        (SmallNORB, {"dat": norb_file(np.zeros((40, 2, 96, 96), np.uint8))[:-1]}, "cannot reshape"),
        (SmallNORB, {"info": b"no matrix at all"}, "not in NORB's format"),
        (SmallNORB, {"info": b""}, "not in NORB's format"),
    ],
)
def test_files_that_are_not_as_published_are_refused(kind, change, message, tmp_path: Path):
    WRITE[kind](tmp_path, **change)
    with pytest.raises(UserError, match=f"{kind.__name__} needs .* but got: .*({message})") as caught:
        kind().load(tmp_path)
    assert "\n" not in str(caught.value)
    assert f"{kind.__name__}(root=...) or --data" in str(caught.value)
    assert not [file for file in tmp_path.rglob("*") if file.suffix in (".npy", ".tmp")]


@pytest.mark.parametrize("kind", WRITE, **NAMES)
@pytest.mark.parametrize("damage", ["empty", "half", "tail", "middle"])
def test_damaged_files_are_refused(kind, damage, tmp_path: Path):
    WRITE[kind](tmp_path, **({"packed": True} if kind is SmallNORB else {}))
    path = tmp_path / kind().file
    for file in path.iterdir() if path.is_dir() else [path]:
        content = bytearray(file.read_bytes())
        middle = len(content) // 2
        if damage == "middle":
            content[middle : middle + 50] = bytes(255 - byte for byte in content[middle : middle + 50])
        file.write_bytes({"empty": b"", "half": content[:middle], "tail": content[:-9]}.get(damage, content))
    if (kind, damage) == (Shapes3D, "middle"):
        return  # HDF5 without checksums may give other pixels there
    with pytest.raises(UserError, match=f"{kind.__name__} needs"):
        kind().load(tmp_path)


@pytest.mark.parametrize("kind", [DSprites, Shapes3D, Cars3D, SmallNORB], **NAMES)
def test_missing_data_is_downloaded_and_converted_once(kind, tmp_path: Path, monkeypatch):
    web = tmp_path / "web"
    web.mkdir()
    WRITE[kind](web, **({"packed": True} if kind is SmallNORB else {}))
    folder = web / "smallnorb" if kind is SmallNORB else web
    sums = {file.name: f"md5:{hashlib.md5(file.read_bytes()).hexdigest()}" for file in folder.iterdir()}
    with serving_folder(folder) as address:
        if kind is SmallNORB:
            names = list(SmallNORB.CHECKSUMS)
            monkeypatch.setattr(kind, "URL", address)
            monkeypatch.setattr(kind, "CHECKSUMS", {name: sums[name] for name in names})
        else:
            monkeypatch.setattr(kind, "URL", f"{address}{kind().file}")
            monkeypatch.setattr(kind, "CHECKSUM", sums[kind().file])
        data = kind().load(tmp_path / "data")
    np.testing.assert_array_equal(kind().load(tmp_path / "data").images, data.images)
    assert not list((tmp_path / "data").rglob("*.part"))


def test_an_interrupted_download_of_norb_continues(tmp_path: Path, monkeypatch):
    (tmp_path / "web").mkdir()
    write_norb(tmp_path / "web", packed=True)
    folder = tmp_path / "web" / "smallnorb"
    sums = {name: f"md5:{hashlib.md5((folder / name).read_bytes()).hexdigest()}" for name in SmallNORB.CHECKSUMS}
    last = folder / list(sums)[-1]
    held_back = last.read_bytes()
    last.unlink()
    monkeypatch.setattr(SmallNORB, "CHECKSUMS", sums)
    with serving_folder(folder) as address:
        monkeypatch.setattr(SmallNORB, "URL", address)
        with pytest.raises(UserError, match=r"SmallNORB needs .* 404"):
            SmallNORB().load(tmp_path / "data")
        for file in folder.iterdir():
            file.unlink()
        last.write_bytes(held_back)
        assert SmallNORB().load(tmp_path / "data").images.shape == (80, 1, 64, 64)


def test_a_damaged_download_is_refused_and_not_kept(tmp_path: Path, monkeypatch):
    (tmp_path / "web").mkdir()
    write_dsprites(tmp_path / "web")
    with serving_folder(tmp_path / "web") as address:
        monkeypatch.setattr(DSprites, "URL", f"{address}{DSprites().file}")
        with pytest.raises(UserError, match="must have the checksum md5:7da33b31b13a06f4b04a70402ce90c2e, but"):
            DSprites().load(tmp_path / "data")
    assert not [file for file in (tmp_path / "data").rglob("*") if file.suffix != ".lock"]


def test_mpi3d_must_be_there_and_its_variants_are_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"from github.com/rr-learning/disentanglement_dataset, with 72 images"):
        MPI3D().load(tmp_path)
    with pytest.raises(UserError, match="did you mean realistic"):
        MPI3D("realistik")


def test_a_full_disk_is_told_before_it_is_filled(tmp_path: Path, monkeypatch):
    write_mpi3d(tmp_path)
    monkeypatch.setattr(ground_truth.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"takes 0\.0 GB of disk, but 0\.0 GB are free"):
        MPI3D().load(tmp_path)
