"""Small files that are large once unpacked, and files that are not what they say."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from aesearch.datasets import Arrays, Digits, ImageFolder, Table, read_items
from aesearch.datasets.folder import Decoding, read_images
from aesearch.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)


def header(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    """The first bytes of a .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def npz(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def large(folder: Path, ending: str, side: int) -> Path:
    """A folder with ten small images, and one of ``side`` x ``side``."""
    folder.mkdir()
    for i in range(10):
        Image.fromarray(IMAGES[i]).save(folder / f"{i}.png")
    Image.new("RGB", (side, side), (200, 100, 50)).save(folder / f"large.{ending}")
    return folder


@pytest.mark.parametrize("ending", ["png", "gif", "webp", "bmp", "tif", "jp2"])
def test_pictures_of_too_many_pixels_are_skipped_and_said(tmp_path, ending):
    folder = large(tmp_path / "in", ending, 50)
    limit = Image.MAX_IMAGE_PIXELS
    data = ImageFolder(str(folder), 8, most_pixels=1000).load(tmp_path)
    assert len(data.train) + len(data.val) + len(data.test) == 10
    assert f"1 file(s) could not be read and were skipped: large.{ending}: it has more than 1,000" in data.remarks[0]
    assert "raise most_pixels" in data.remarks[0]
    assert limit == Image.MAX_IMAGE_PIXELS
    raised = ImageFolder(str(folder), 8, most_pixels=2500).load(tmp_path)
    assert raised.remarks == ()
    assert len(raised.train) + len(raised.val) + len(raised.test) == 11


def test_a_picture_of_nearly_twice_the_limit_is_refused_too(tmp_path):
    """Pillow by itself only warns of these, and warnings are errors in tests alone."""
    folder = large(tmp_path / "in", "png", 40)
    assert "more than 1,000" in ImageFolder(str(folder), 8, most_pixels=1000).load(tmp_path).remarks[0]


def test_a_large_jpeg_is_decoded_small(tmp_path, monkeypatch):
    folder = large(tmp_path / "in", "jpg", 512)
    decoded: list[int] = []
    true_of = Decoding.of

    def of(self, width, height):
        decoded.append(width * height)
        return true_of(self, width, height)

    monkeypatch.setattr(Decoding, "of", of)
    data = ImageFolder(str(folder), 8, most_pixels=64**2).load(tmp_path)
    assert data.remarks == ()
    assert max(decoded) == 64**2
    np.testing.assert_allclose(data.images[-1].mean((1, 2)), (200, 100, 50), atol=3)
    skipped = ImageFolder(str(folder), 8, most_pixels=64**2 - 1).load(tmp_path)
    assert "large.jpg: its 64 x 64 pixels are more than 4,095; raise most_pixels to read it" in skipped.remarks[0]


def test_an_icon_that_hides_a_large_picture_is_skipped(tmp_path):
    folder = large(tmp_path / "in", "png", 300)
    inner = (folder / "large.png").read_bytes()
    entry = bytes([16, 16, 0, 0, 1, 0, 32, 0]) + len(inner).to_bytes(4, "little") + (22).to_bytes(4, "little")
    (folder / "large.ico").write_bytes(b"\0\0\1\0\1\0" + entry + inner)
    (folder / "large.png").unlink()
    out = np.zeros((1, 3, 8, 8), np.uint8)
    assert len(read_images([folder / "large.ico"], out, 1000)) == 1
    assert not out.any()


def test_threads_decode_no_more_pixels_than_the_limit():
    decoding = Decoding(100)
    with decoding.of(10, 5), decoding.of(5, 10):
        assert decoding._now == 100
    assert decoding._now == 0
    with pytest.raises(UserError, match="its 11 x 10 pixels are more than 100"), decoding.of(11, 10):
        pass


@pytest.mark.parametrize("most", [0, -1, 1.5, "many", None])
def test_a_limit_that_is_no_number_is_refused(most):
    with pytest.raises(UserError, match="most_pixels must be a whole number of at least 1, but got"):
        ImageFolder("x", most_pixels=most)
    for data in (Arrays, Table):
        with pytest.raises(UserError, match="most_bytes must be a whole number of at least 1, but got"):
            data("x", most_bytes=most)


def test_an_archive_larger_than_the_limit_is_refused(tmp_path):
    path = npz(tmp_path / "a.npz", images=npy(np.zeros((1000, 100, 100), np.uint8)))
    assert path.stat().st_size < 20_000
    with pytest.raises(UserError, match=r"images in .* has 10,000,000 bytes, more than 9,999,999; raise most_bytes"):
        Arrays(str(path), most_bytes=9_999_999).load(tmp_path)
    with pytest.raises(UserError, match="raise most_bytes"):
        read_items(path, Digits(), {}, most_bytes=9_999_999)
    assert Arrays(str(path), most_bytes=10_000_000).shape == (1, 100, 100)


@pytest.mark.parametrize("shape", [(10**12,), (10**6, 10**6), (2**40, 2**40), (-1, 8, 8), (21, 8, 8), (19, 8, 8)])
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_a_size_that_the_file_does_not_have_is_one_line(tmp_path, shape, ending):
    content = header(shape) + IMAGES.tobytes()
    path = tmp_path / f"a.{ending}"
    if ending == "npz":
        npz(path, images=content)
    else:
        path.write_bytes(content)
    if (ending, shape) == ("npy", (19, 8, 8)):
        return  # bytes after the array are no damage
    with pytest.raises(UserError) as caught:
        Arrays(str(path)).load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_files_of_another_kind_are_one_line(tmp_path, ending):
    objects = io.BytesIO()
    np.save(objects, np.array([print] * 20, object), allow_pickle=True)
    contents = {
        "objects": objects.getvalue(),
        "pickle": b"\x80\x04N.",
        "structure": npy(np.zeros(20, [("a", "u1"), ("b", "O")])),
        "void": npy(np.zeros((20, 8), "V9")),
        "dates": npy(np.zeros((20, 8), "M8[s]")),
        "scalar": npy(np.array(1.0)),
        "version": b"\x93NUMPY\x09\x00" + IMAGES.tobytes(),
        "header": b"\x93NUMPY\x01\x00\x0a\x00" + b"((((((((((" + IMAGES.tobytes(),
        "archive": npz(tmp_path / "inner", images=npy(IMAGES)).read_bytes(),
    }
    for what, content in contents.items():
        path = tmp_path / f"a.{ending}"
        if ending == "npz" and what != "archive":
            npz(path, images=content)
        else:
            path.write_bytes(content)
        if (ending, what) == ("npz", "archive"):
            continue
        with pytest.raises(UserError) as caught:
            read_items(path, Digits(), {})
        assert "\n" not in str(caught.value), what


@given(ending=st.sampled_from(["npy", "npz"]), data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_of_an_array_is_more_than_one_line(tmp_path, ending, data):
    whole = npy(IMAGES) if ending == "npy" else npz(tmp_path / "whole.npz", images=npy(IMAGES)).read_bytes()
    content = bytearray(whole)
    ends = st.one_of(st.integers(0, 200), st.integers(len(content) - 200, len(content) - 1))
    for place, byte in data.draw(st.lists(st.tuples(ends, st.integers(0, 255)), max_size=4)):
        content[place] = byte
    path = tmp_path / f"damaged.{ending}"
    path.write_bytes(content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])
    line = ""
    try:
        read_items(path, Digits(), {})
    except UserError as error:
        line = str(error)
    assert "\n" not in line


def test_a_parquet_file_of_repeated_values_is_bounded(tmp_path):
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"a": np.zeros(100_000), "b": np.arange(100_000) % 7}).to_parquet(path, index=False)
    with pytest.raises(
        UserError, match="100,000 rows of 2 columns, 1,600,000 bytes, more than 1,599,999; raise most_b"
    ):
        Table(str(path), most_bytes=1_599_999).load(tmp_path)
    assert Table(str(path), most_bytes=1_600_000).shape == (1, 1, 1)
