"""Equal items of every data set that is rendered or read from a person's files come into one part of the split."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aesearch.datasets import Arrays, BreastCancer, Data, Digits, ImageFolder, Iris, Table, Wine
from aesearch.datasets.dataset import held_out, random_split, stratified_split
from aesearch.datasets.repeats import among, first_equals, known_first_equals

COPIES = 4  # of each of the first items


def items_of(kinds: int = 30) -> np.ndarray:
    """Make images of which some are equal: (kinds + 3 * (COPIES - 1), 1, 8, 8)."""
    images = np.random.default_rng(0).integers(0, 256, (kinds, 1, 8, 8), dtype=np.uint8)
    return np.concatenate([images, *[images[:3]] * (COPIES - 1)])


def as_folder(path: Path) -> ImageFolder:
    (path / "pictures").mkdir()
    for i, image in enumerate(items_of()):
        Image.fromarray(image[0]).save(path / "pictures" / f"{i:03}.png")
    (path / "pictures" / "broken.png").write_bytes(b"")
    # It equals the row of the broken one.
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path / "pictures" / "dark.png")
    return ImageFolder(str(path / "pictures"), size=8, colour=False)


def as_arrays(path: Path) -> Arrays:
    np.save(path / "images.npy", items_of()[:, 0])
    return Arrays(str(path / "images.npy"))


def as_rows(path: Path) -> Arrays:
    np.savez(path / "rows.npz", x=items_of().reshape(-1, 64) / 255)
    return Arrays(str(path / "rows.npz"))


def as_table(path: Path) -> Table:
    frame = pd.DataFrame(items_of()[:, 0, 0]).assign(kind=["a", "b", "c"] * 13)
    frame.loc[5, 2] = np.nan
    frame.to_csv(path / "table.csv", index=False)
    return Table(str(path / "table.csv"), label="kind")


def shared(data: Data) -> int:
    """Count the items of val and test that are in another part, too."""
    parts = [{data.images[i].tobytes() for i in index} for index in (data.train, data.val, data.test)]
    return sum(map(len, parts)) - len(set.union(*parts))


@pytest.mark.parametrize(
    ("make", "what"), [(as_folder, "images"), (as_arrays, "images"), (as_rows, "rows"), (as_table, "rows")]
)
def test_equal_items_are_on_one_side_and_counted(make, what, tmp_path):
    dataset = make(tmp_path)
    data = dataset.load(tmp_path)
    assert shared(data) == 0
    n = len(data.train) + len(data.val) + len(data.test)
    [remark] = [one for one in data.remarks if "equal an earlier one" in one]
    assert remark.startswith(f"9 of {n} {what} equal an earlier one; ")
    assert data.digest() == dataset.load(tmp_path).digest()


@pytest.mark.parametrize("dataset", [Digits(), BreastCancer(), Wine(), Iris()])
def test_no_bundled_item_is_on_two_sides(dataset, tmp_path):
    assert shared(dataset.load(tmp_path)) == 0


@given(st.lists(st.integers(0, 12), min_size=10, max_size=80), st.booleans())
def test_a_split_is_complete_and_keeps_equal_items_together(kinds, labelled):
    values = np.array(kinds)
    first, size = first_equals(values[:, None]), held_out(len(values))
    split = stratified_split(values % 2, size, first) if labelled else random_split(len(values), size, first)
    np.testing.assert_array_equal(np.sort(np.concatenate(list(split.values()))), np.arange(len(values)))
    sides = [set(values[index]) for index in split.values()]
    assert sum(map(len, sides)) == len(set(kinds))
    assert len(split["val"]) <= size
    assert len(split["test"]) <= size
    # What is alone fills a part up.
    if np.bincount(values).max() == 1:
        assert len(split["val"]) == len(split["test"]) == size


def test_a_split_of_distinct_items_is_what_it_always_was():
    order = np.random.default_rng(0).permutation(50)
    split = random_split(50, 10, np.arange(50))
    np.testing.assert_array_equal(split["val"], order[:10])
    np.testing.assert_array_equal(split["test"], order[10:20])
    np.testing.assert_array_equal(split["train"], order[20:])


def test_first_equals_are_found_by_content_among_all_or_some():
    values = np.array([[3, 1], [1, 3], [3, 1], [0, 0], [1, 3], [3, 1]])
    np.testing.assert_array_equal(first_equals(values), [0, 1, 0, 3, 1, 0])
    np.testing.assert_array_equal(among(first_equals(values), np.array([2, 3, 4, 5])), [0, 1, 2, 0])


def test_what_was_found_is_remembered(tmp_path):
    values, path = items_of(), tmp_path / "new" / "of.repeats.json"
    expected = first_equals(values)
    np.testing.assert_array_equal(known_first_equals(values, path), expected)
    assert len(json.loads(path.read_text())) == 3 * (COPIES - 1)
    np.testing.assert_array_equal(known_first_equals(np.zeros_like(values), path), expected)
    for damage in ("", "[[1", "7", "[[99999, 0]]"):
        path.write_text(damage)
        np.testing.assert_array_equal(known_first_equals(values, path), expected)
