import hashlib
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from helpers.small import TINY
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aesearch.datasets import Data, Sprites, contents_checked, forget
from aesearch.datasets.sprites import SHAPES
from aesearch.errors import UserError


def centroid(image):
    """(x, y) of the centre of mass, in pixels from the image's corner."""
    weights = image.astype(float) / image.sum()
    return (weights.sum(0) * (np.arange(image.shape[1]) + 0.5)).sum(), (
        weights.sum(1) * (np.arange(image.shape[0]) + 0.5)
    ).sum()


def test_the_grid_of_dsprites_is_the_default():
    assert dict(Sprites().factor_sizes) == {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
    assert math.prod(Sprites().factor_sizes.values()) == 737_280
    assert Sprites().shape == (1, 64, 64)


def test_factors_count_up_in_the_order_of_the_images(tiny: Data):
    sizes = tuple(TINY.factor_sizes.values())
    assert tiny.images.shape == (math.prod(sizes), 1, 16, 16)
    assert tiny.images.dtype == np.uint8
    np.testing.assert_array_equal(tiny.factors.max(0) + 1, sizes)
    np.testing.assert_array_equal(np.ravel_multi_index(tuple(tiny.factors.T), sizes), np.arange(len(tiny.images)))


def test_x_moves_right_and_y_down_within_the_middle_half():
    sprites = Sprites(resolution=64, shapes=("square",), scales=1, orientations=1, positions=32)
    grid = np.zeros((1, 1, 1, 32, 32, 64, 64), np.uint8)
    sprites.render(grid)
    for x, y in [(0, 0), (5, 20), (31, 31)]:
        assert centroid(grid[0, 0, 0, x, y]) == pytest.approx((16.5 + x, 16.5 + y), abs=0.02)


AREAS = {"square": 2.0, "ellipse": math.pi / 2, "triangle": 0.9, "corner": 0.6 * 1.44 + 0.7 * 0.6}


@pytest.mark.parametrize(("shape", "area"), [(shape, area * 16**2) for shape, area in AREAS.items()])
@pytest.mark.parametrize("orientation", [0, 3, 7])
def test_the_area_is_that_of_the_shape_at_every_orientation(shape, area, orientation):
    sprites = Sprites(resolution=64, shapes=(shape,), scales=1, orientations=10, positions=2)
    grid = np.zeros((1, 1, 10, 2, 2, 64, 64), np.uint8)
    sprites.render(grid)
    assert grid[0, 0, orientation, 1, 0].sum() / 255 == pytest.approx(area, rel=0.015)


def test_edges_are_grey_and_scales_run_from_half_to_whole():
    sprites = Sprites(resolution=64, shapes=("ellipse",), scales=3, orientations=1, positions=4)
    grid = np.zeros((1, 3, 1, 4, 4, 64, 64), np.uint8)
    sprites.render(grid)
    assert ((grid > 0) & (grid < 255)).any()
    areas = grid[0, :, 0, 1, 1].sum((1, 2)) / grid[0, 2, 0, 1, 1].sum()
    assert areas == pytest.approx([0.25, 0.5625, 1], rel=0.02)


@pytest.mark.parametrize("shape", list(SHAPES))
def test_no_sprite_is_cut_off_at_the_border(shape):
    sprites = Sprites(resolution=64, shapes=(shape,), scales=1, orientations=40, positions=32)
    grid = np.zeros((1, 1, 40, 32, 32, 64, 64), np.uint8)
    sprites.render(grid)
    areas = grid[0, 0][:, [0, 15, 31]][:, :, [0, 15, 31]].sum((3, 4), dtype=np.int64)
    np.testing.assert_array_equal(areas, areas[:, 1:2, 1:2].repeat(3, 1).repeat(3, 2))


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("orientation", range(7))
def test_a_shape_turns_about_its_centre_of_mass(shape, orientation):
    sprites = Sprites(resolution=64, shapes=(shape,), scales=1, orientations=7, positions=2)
    grid = np.zeros((1, 1, 7, 2, 2, 64, 64), np.uint8)
    sprites.render(grid)
    # Of the heart it is 0.035 of the radius away.
    assert centroid(grid[0, 0, orientation, 0, 1]) == pytest.approx((16.5, 47.5), abs=0.6)


def test_positions_between_pixels_are_drawn_there():
    sprites = Sprites(resolution=32, shapes=("ellipse",), scales=1, orientations=1, positions=32)
    grid = np.zeros((1, 1, 1, 32, 32, 32, 32), np.uint8)
    sprites.render(grid)
    xs = [centroid(grid[0, 0, 0, x, 3])[0] for x in range(32)]
    assert np.diff(xs) == pytest.approx(np.full(31, 0.5), abs=0.02)


@pytest.mark.parametrize(("across", "down"), [(16, 6), (3, 8), (1, 12)])
def test_x_and_y_may_have_ranges_of_their_own(across, down, tmp_path):
    sprites = Sprites(resolution=64, shapes=("ellipse",), scales=1, orientations=1, positions=(across, down))
    assert (sprites.factor_sizes["x"], sprites.factor_sizes["y"]) == (across, down)
    grid = np.zeros((1, 1, 1, across, down, 64, 64), np.uint8)
    sprites.render(grid)
    step = 31 / (max(across, down) - 1)
    for x, y in [(0, 0), (across - 1, 0), (across // 2, down - 1)]:
        expected = [32 + step * (place - (count - 1) / 2) for place, count in ((x, across), (y, down))]
        assert centroid(grid[0, 0, 0, x, y]) == pytest.approx(expected, abs=0.09)
    if across == 16:
        assert Sprites(64, ("heart",), 1, 1, (4, 3)).load(tmp_path).images.shape == (12, 1, 64, 64)


def test_one_number_of_positions_is_two_equal_ones():
    one, two = (Sprites(resolution=16, scales=2, orientations=2, positions=p) for p in (5, (5, 5)))
    first, second = (np.zeros((3, 2, 2, 5, 5, 16, 16), np.uint8) for _ in range(2))
    one.render(first)
    two.render(second)
    np.testing.assert_array_equal(first, second)


def test_a_quarter_turn_of_a_square_is_the_same_image():
    sprites = Sprites(resolution=32, shapes=("square",), scales=1, orientations=4, positions=2)
    grid = np.zeros((1, 1, 4, 2, 2, 32, 32), np.uint8)
    sprites.render(grid)
    for turned in (1, 2, 3):
        assert np.abs(grid[0, 0, turned].astype(int) - grid[0, 0, 0]).max() <= 1


@given(
    resolution=st.integers(8, 32),
    shapes=st.lists(st.sampled_from(list(SHAPES)), min_size=1, max_size=3, unique=True).map(tuple),
    scales=st.integers(1, 4),
    orientations=st.integers(1, 12),
    positions=st.integers(1, 6),
)
@settings(max_examples=25)
def test_all_images_differ_or_the_grid_is_refused(resolution, shapes, scales, orientations, positions):
    assume(len(shapes) * scales * orientations * positions**2 >= 10)
    sprites = Sprites(resolution, shapes, scales, orientations, positions)
    grid = np.zeros((*sprites.factor_sizes.values(), resolution, resolution), np.uint8)
    sprites.render(grid)
    n = math.prod(sprites.factor_sizes.values())
    distinct = len({image.tobytes() for image in grid.reshape(n, -1)})
    with TemporaryDirectory() as folder:
        if distinct < n:
            with pytest.raises(UserError, match=f"but {n - distinct} of {n} equal an earlier one, such as that of "):
                sprites.load(Path(folder))
            assert not list(Path(folder).rglob("*.npy"))
            return
        data = sprites.load(Path(folder))
    splits = [{data.images[i].tobytes() for i in index} for index in (data.train, data.val, data.test)]
    assert sum(map(len, splits)) == n == len(set.union(*splits))


@pytest.mark.parametrize("resolution", [16, 24, 32, 48, 64])
@pytest.mark.parametrize("orientations", [1, 2, 8, 40])
def test_default_shapes_differ_at_every_turn(resolution, orientations, tmp_path):
    Sprites(resolution=resolution, scales=3, orientations=orientations, positions=2).load(tmp_path)


@pytest.mark.parametrize(("shape", "orientations", "first"), [("square", 8, 2), ("ellipse", 6, 3)])
def test_shapes_that_a_part_of_a_turn_repeats(shape, orientations, first, tmp_path):
    with pytest.raises(UserError, match=f"such as that of {shape} at orientation 0 and {first}; take a higher"):
        Sprites(32, (shape,), 1, orientations, 4).load(tmp_path)
    Sprites(32, (shape,), 1, orientations - 1, 4).load(tmp_path)


def test_splits_are_disjoint_complete_and_fixed(tiny: Data, tmp_path: Path):
    joined = np.concatenate([tiny.train, tiny.val, tiny.test])
    np.testing.assert_array_equal(np.sort(joined), np.arange(len(tiny.images)))
    assert len(tiny.val) == len(tiny.test) == len(tiny.images) // 5
    again = TINY.load(tmp_path)
    np.testing.assert_array_equal(again.test, tiny.test)
    np.testing.assert_array_equal(again.images, tiny.images)


def test_a_second_load_reads_the_cache(tmp_path: Path):
    TINY.load(tmp_path)
    [cache] = (tmp_path / "sprites").glob("*.npy")
    assert cache.name.startswith("v2-16px-")
    before = cache.stat().st_mtime_ns
    TINY.load(tmp_path)
    assert cache.stat().st_mtime_ns == before
    assert not list((tmp_path / "sprites").glob("*.tmp"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shapes": ("sqare",)}, "did you mean square"),
        ({"resolution": 4}, "at least 8"),
        ({"shapes": ("heart", "heart")}, "shapes must differ"),
        ({"scales": 0}, "scales must be at least 1"),
        ({"positions": 0}, "positions must be a number, or two for x and y, each at least 1, but got positions=0"),
        ({"positions": (4, 0)}, "but got positions=.4, 0."),
        ({"positions": (4, 4, 4)}, "but got positions=.4, 4, 4."),
        ({"shapes": ("square",), "scales": 1, "orientations": 1, "positions": 3}, "at least 10 images"),
    ],
)
def test_impossible_grids_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Sprites(**fields)


def test_pages_that_were_read_can_be_let_go(tmp_path):
    images = Sprites(resolution=16, scales=2, orientations=2, positions=8).load(tmp_path).images
    before = np.array(images)

    def mapped() -> int:
        maps = Path("/proc/self/smaps").read_text().split(str(tmp_path))[1]
        return int(maps.split("Rss:")[1].split()[0])

    assert mapped() > 100, "KiB of the file are in memory"
    forget(images[3:].reshape(-1))
    assert mapped() == 0
    np.testing.assert_array_equal(images, before)
    forget(before)
    np.testing.assert_array_equal(images, before)


SMALL = Sprites(resolution=16, scales=2, orientations=2, positions=8)


@pytest.fixture
def written(tmp_path) -> tuple[Path, np.ndarray]:
    """A file of the cache, and the array that was rendered into it."""
    images = np.array(SMALL.load(tmp_path).images)
    [path] = tmp_path.rglob("*.npy")
    return path, images


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\x93NUMPY"),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        flip,
    ],
)
def test_an_array_that_was_damaged_is_made_again(written, tmp_path, capsys, damage):
    path, before = written
    damage(path)
    np.testing.assert_array_equal(SMALL.load(tmp_path).images, before)
    assert capsys.readouterr().err == f"{path} is damaged, so it is made again\n"
    np.testing.assert_array_equal(SMALL.load(tmp_path).images, before)
    assert capsys.readouterr().err == ""


def test_damage_with_size_and_time_kept_is_found_in_contents(written, tmp_path, capsys):
    path, before = written
    status = path.stat()
    flip(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (SMALL.load(tmp_path).images != before).sum() == 1, "each trial does not read gigabytes to see it"
    with contents_checked():
        np.testing.assert_array_equal(SMALL.load(tmp_path).images, before)
    assert capsys.readouterr().err == f"{path} is damaged, so it is made again\n"
    np.testing.assert_array_equal(SMALL.load(tmp_path).images, before)


def test_a_copied_or_older_array_is_not_made_again(written, tmp_path, monkeypatch):
    path, before = written
    note = path.with_name(f"{path.name}.json")
    os.utime(path, (1e9, 1e9))
    monkeypatch.setattr(Sprites, "render", None)
    np.testing.assert_array_equal(SMALL.load(tmp_path).images, before)
    assert json.loads(note.read_text())["stamp"] == [path.stat().st_size, 10**18], "it is read whole once only"
    for without in (note.unlink, lambda: note.write_text('{"sha')):
        without()
        np.testing.assert_array_equal(SMALL.load(tmp_path).images, before)
        content = hashlib.sha256(f"|u1{before.shape}".encode() + before.tobytes())
        assert json.loads(note.read_text())["sha256"] == content.hexdigest()


def test_an_array_of_another_shape_is_made_again(tmp_path):
    sprites = Sprites(resolution=16, scales=2, orientations=2, positions=8)
    shape = sprites.load(tmp_path).images.shape
    [path] = tmp_path.rglob("*.npy")
    np.save(path, np.zeros((3, 1, 16, 16), np.uint8))
    assert sprites.load(tmp_path).images.shape == shape


def test_a_digest_is_of_all_that_a_model_may_learn_from(tiny: Data, monkeypatch):
    digest = tiny.digest()
    assert replace(tiny, images=np.array(tiny.images), remarks=("read elsewhere",)).digest() == digest
    flipped = np.array(tiny.images)
    flipped[-1, 0, -1, -1] ^= 1
    others = [
        replace(tiny, images=flipped),
        replace(tiny, images=tiny.images.astype(np.float32)),
        replace(tiny, train=tiny.train[::-1]),
        replace(tiny, train=tiny.val, val=tiny.train),
        replace(tiny, factors=None),
        replace(tiny, labels=tiny.factors[:, 0]),
        replace(tiny, anomalous=tiny.factors[:, 0] > 0),
    ]
    assert len({digest, *(other.digest() for other in others)}) == 8
    monkeypatch.setattr("aesearch.datasets.cache.DIGEST_BYTES", 1000)
    assert tiny.digest() == digest, "of however many at once"
