from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aesearch.datasets import BreastCancer, Digits, ImageFolder, read_items
from aesearch.datasets.folder import SUFFIXES, read_image
from aesearch.errors import UserError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def flag(width: int = 60, height: int = 40, mode: str = "RGB") -> Image.Image:
    """Red on the left, blue on the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = RED, BLUE
    return Image.fromarray(pixels).convert(mode)


def photos(folder: Path, n: int = 12, ending: str = "png") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.new("RGB", (20 + i, 30), (10 * i, 0, 0)).save(folder / f"{i:02}.{ending}")
    return str(folder)


def test_images_of_any_size_come_in_one_shape_by_name(tmp_path: Path):
    folder = ImageFolder(photos(tmp_path / "in"), size=(8, 16))
    data = folder.load(tmp_path)
    assert folder.shape == data.images.shape[1:] == (3, 8, 16)
    assert data.images[:, 0, 4, 8].tolist() == [10 * i for i in range(12)]
    assert data.names == tuple(f"{i:02}.png" for i in range(12))
    assert (len(data.train), len(data.val), len(data.test)) == (8, 2, 2)
    assert (data.labels, folder.classes, data.remarks) == (None, (), ())
    assert ImageFolder(str(tmp_path / "in"), 8, colour=False).load(tmp_path).images.shape == (12, 1, 8, 8)


@pytest.mark.parametrize("ending", sorted({"png", "jpg", "bmp", "gif", "tiff", "webp", "ppm", "tga", "JPEG"}))
def test_formats_give_about_the_same_pixels(tmp_path: Path, ending):
    flag(64, 64).save(tmp_path / f"a.{ending}")
    image = read_image(tmp_path / f"a.{ending}", (3, 8, 8))
    assert np.abs(image[:, :, 1].T.astype(int) - RED).max() < 12
    assert np.abs(image[:, :, 6].T.astype(int) - BLUE).max() < 12


def test_pillow_can_open_every_format_that_is_looked_for():
    Image.init()
    known = {ending for ending, name in Image.registered_extensions().items() if name in Image.OPEN}
    assert SUFFIXES - known <= {".avif"}  # where Pillow was built without it


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr"])
def test_every_mode_is_read_in_grey_and_in_colour(tmp_path: Path, mode):
    flag(mode=mode).save(tmp_path / "a.tiff")
    colour, grey = (read_image(tmp_path / "a.tiff", (channels, 8, 8)) for channels in (3, 1))
    assert (colour.shape, grey.shape) == ((3, 8, 8), (1, 8, 8))
    assert grey[0, 4, 1] > grey[0, 4, 6]  # red is lighter than blue


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_grey_of_more_bits_keeps_its_range(tmp_path: Path, dtype):
    top = {"uint8": 255, "uint16": 65_535, "float32": 1}[dtype]
    ramp = np.tile(np.linspace(0, top, 64).astype(dtype), (64, 1))
    Image.fromarray(ramp).save(tmp_path / "a.tiff")
    image = read_image(tmp_path / "a.tiff", (1, 64, 64))
    np.testing.assert_allclose(image[0, 0], np.linspace(0, 255, 64), atol=1.01)


def test_transparent_pixels_are_white(tmp_path: Path):
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", (3, 8, 8)) == 255).all()


@pytest.mark.parametrize(("orientation", "left"), [(1, RED), (2, BLUE), (3, BLUE), (6, None)])
def test_photographs_are_upright_as_their_exif_says(tmp_path: Path, orientation, left):
    exif = Image.Exif()
    exif[0x0112] = orientation
    flag(800, 800).save(tmp_path / "a.jpg", exif=exif)
    image = read_image(tmp_path / "a.jpg", (3, 8, 8))
    if left is None:  # a quarter turn to the right: the left comes to the top
        np.testing.assert_allclose(image[:, 1, 4], RED, atol=12)
    else:
        np.testing.assert_allclose(image[:, 4, 1], left, atol=12)


def test_an_image_is_scaled_by_its_shorter_side_and_centred(tmp_path: Path):
    pixels = np.zeros((40, 120, 3), np.uint8)
    pixels[:, 40:80] = GREEN
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", (3, 10, 10))
    assert (image[1, :, 1:-1] == 255).all()
    assert (image[1] > 200).all()


def test_a_class_for_each_sub_folder(tmp_path: Path):
    for name in ("dogs", "cats/black", ".cache", "empty"):
        (tmp_path / "in" / name).mkdir(parents=True)
    photos(tmp_path / "in" / "dogs", 6)
    photos(tmp_path / "in" / "cats" / "black", 6)
    photos(tmp_path / "in" / ".cache", 3)
    folder = ImageFolder(str(tmp_path / "in"), 8)
    data = folder.load(tmp_path)
    assert folder.classes == ("cats", "dogs")
    assert data.labels.tolist() == [0] * 6 + [1] * 6
    assert data.names[0] == str(Path("cats/black/00.png"))


def test_broken_files_are_skipped_and_named(tmp_path: Path):
    photos(tmp_path / "in", 14, "jpg")
    whole = (tmp_path / "in" / "03.jpg").read_bytes()
    (tmp_path / "in" / "03.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in" / "05.jpg").write_bytes(b"")
    (tmp_path / "in" / "07.jpg").write_bytes(b"no image")
    (tmp_path / "in" / "readme.txt").write_text("no image by its name")
    for again in range(2):  # rendered, then from the cache
        data = ImageFolder(str(tmp_path / "in"), 8).load(tmp_path)
        used = np.concatenate([data.train, data.val, data.test])
        assert {data.names[i] for i in used} == {f"{i:02}.jpg" for i in range(14)} - {"03.jpg", "05.jpg", "07.jpg"}
        assert data.remarks[0].startswith("3 file(s) could not be read and were skipped: 03.jpg: "), again


@pytest.mark.parametrize("damage", range(12))
def test_no_damage_of_a_file_stops_the_rest(tmp_path: Path, damage):
    rng = np.random.default_rng(damage)
    photos(tmp_path / "in", 10)
    for ending in ("png", "jpg", "gif", "tiff", "bmp", "webp"):
        flag().save(tmp_path / f"a.{ending}")
        content = bytearray((tmp_path / f"a.{ending}").read_bytes())
        for place in rng.integers(8, len(content), 30):
            content[place] = rng.integers(256)
        (tmp_path / "in" / f"damaged.{ending}").write_bytes(bytes(content[: rng.integers(9, len(content))]))
    assert len(ImageFolder(str(tmp_path / "in"), 8).load(tmp_path).names) == 16


def test_the_cache_is_read_again_until_a_file_changes(tmp_path: Path):
    folder = ImageFolder(photos(tmp_path / "in"), 8)
    folder.load(tmp_path)
    [cache] = (tmp_path / "folders").glob("*.npy")
    before = cache.stat().st_mtime_ns
    assert isinstance(folder.load(tmp_path).images, np.memmap)
    assert cache.stat().st_mtime_ns == before
    (cache.with_suffix(".skipped.json")).unlink()
    folder.load(tmp_path)
    Image.new("RGB", (20, 20), WHITE).save(tmp_path / "in" / "00.png")
    assert (folder.load(tmp_path).images[0] == 255).all()
    assert not list((tmp_path / "folders").glob("*.tmp"))


@pytest.mark.parametrize(
    ("n", "broken", "message"),
    [(0, 0, "found none below"), (9, 0, "at least 10 readable images, but .* has 9"), (9, 2, "has 9; 2 file")],
)
def test_too_few_images_are_refused(tmp_path: Path, n, broken, message):
    path = photos(tmp_path / "in", n)
    for i in range(broken):
        (tmp_path / "in" / f"broken{i}.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=message):
        ImageFolder(path, 8).load(tmp_path)


def test_what_is_no_folder_no_size_and_no_class_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="needs a folder, but there is none at"):
        ImageFolder(str(tmp_path / "none")).load(tmp_path)
    for size in (3, (64, 2), (1, 2, 3), "64", 8.5):
        with pytest.raises(UserError, match="size must be pixels or"):
            ImageFolder("x", size)
    photos(tmp_path / "in" / "a")
    photos(tmp_path / "in" / "b")
    photos(tmp_path / "in", 1)
    with pytest.raises(UserError, match=r"each image must lie in a sub-folder, its class, but 00\.png"):
        ImageFolder(str(tmp_path / "in")).load(tmp_path)


def test_new_images_are_read_for_a_trained_model(tmp_path: Path):
    digits = Digits()
    for name in ("3", "7"):
        photos(tmp_path / "new" / name, 2)
    (tmp_path / "new" / "7" / "broken.png").write_bytes(b"no image")
    items = read_items(tmp_path / "new", digits, {})
    assert items.images.shape == (4, 1, 8, 8)
    assert items.labels.tolist() == [3, 3, 7, 7]
    assert items.names[3] == str(Path("7/01.png"))
    assert items.remarks[0].startswith("1 file(s) could not be read")
    one = read_items(tmp_path / "new" / "3" / "01.png", digits, {})
    np.testing.assert_array_equal(one.images, items.images[1:2])
    assert (one.names, one.labels) == (("01.png",), None)


def test_new_files_that_are_no_images_are_refused(tmp_path: Path):
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(UserError, match=r"as a .npy or .npz file, or images as image files; got .*a\.txt"):
        read_items(tmp_path / "a.txt", Digits(), {})
    with pytest.raises(UserError, match=r"must hold a readable image, but 1 file.s. could not be read .* a\.png"):
        read_items(tmp_path / "a.png", Digits(), {})
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="must hold a readable image, but holds none"):
        read_items(tmp_path / "empty", Digits(), {})
    with pytest.raises(UserError, match="give it a CSV or Parquet file"):
        read_items(tmp_path / "a.png", BreastCancer(), BreastCancer().load(tmp_path).fitted)
