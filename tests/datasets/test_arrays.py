import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aesearch.datasets import Arrays, Digits, OneClass, read_items
from aesearch.datasets.arrays import as_items
from aesearch.errors import UserError

RNG = np.random.default_rng(0)
PHOTOS = RNG.integers(0, 256, (20, 6, 5, 3), np.uint8)


def save(tmp_path: Path, array, **more) -> str:
    if more:
        np.savez_compressed(tmp_path / "a.npz", images=array, **more)
        return str(tmp_path / "a.npz")
    np.save(tmp_path / "a.npy", array)
    return str(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (PHOTOS, (3, 6, 5)),
        (PHOTOS.transpose(0, 3, 1, 2), (3, 6, 5)),
        (PHOTOS[..., :1], (1, 6, 5)),
        (PHOTOS[..., 0], (1, 6, 5)),
        (PHOTOS[..., 0] / 255, (1, 6, 5)),
        (PHOTOS[..., 0] > 99, (1, 6, 5)),
        (PHOTOS[..., 0].astype(">f8") / 255, (1, 6, 5)),
        (np.asfortranarray(PHOTOS), (3, 6, 5)),
    ],
)
def test_images_come_in_every_usual_layout(tmp_path: Path, array, shape):
    arrays = Arrays(save(tmp_path, array))
    data = arrays.load(tmp_path)
    assert arrays.shape == data.images.shape[1:] == shape
    assert data.images.dtype == (np.float32 if array.dtype.kind == "f" else np.uint8)
    assert (len(data.train), len(data.val), len(data.test)) == (12, 4, 4)
    first = data.images[7, 0].astype(float)
    expected = PHOTOS[7, ..., 0] / 255 if array.dtype.kind == "f" else PHOTOS[7, ..., 0]
    np.testing.assert_allclose(first, (expected > 99) * 255 if array.dtype == bool else expected, rtol=1e-6)


def test_large_arrays_are_memory_mapped(tmp_path: Path):
    assert isinstance(Arrays(save(tmp_path, PHOTOS)).load(tmp_path).images, np.memmap)


def test_rows_are_used_as_they_are_and_far_ones_remarked_on(tmp_path: Path):
    rows = RNG.normal(size=(30, 4))
    data = Arrays(save(tmp_path, rows)).load(tmp_path)
    np.testing.assert_array_equal(data.images[:, 0, 0], rows.astype(np.float32))
    assert data.remarks == ()
    rows[0, 0] = 1e5
    assert "values reach 1e+05" in Arrays(save(tmp_path, rows)).load(tmp_path).remarks[0]


@pytest.mark.parametrize("labels", [[2, 7] * 10, [[2], [7]] * 10, [2.0, 7.0] * 10])
def test_labels_are_classes_by_their_value(tmp_path: Path, labels):
    arrays = Arrays(save(tmp_path, PHOTOS, y=np.array(labels)))
    assert arrays.classes == ("2", "7")
    assert arrays.load(tmp_path).labels.tolist() == [0, 1] * 10


def test_keras_names_texts_as_labels_and_a_chosen_key(tmp_path: Path):
    path = tmp_path / "mnist.npz"
    names = np.array(["cat", "dog"] * 10)
    np.savez(path, x_train=PHOTOS, y_train=names, x_test=PHOTOS[:3], y_test=names[:3])
    assert Arrays(str(path)).classes == ("cat", "dog")
    assert len(Arrays(str(path)).load(tmp_path).images) == 20
    with pytest.raises(UserError, match="at least 10 items"):
        Arrays(str(path), key="x_test").load(tmp_path)


def test_a_file_that_changed_is_read_again(tmp_path: Path):
    arrays = Arrays(save(tmp_path, PHOTOS))
    assert arrays.shape == (3, 6, 5)
    save(tmp_path, PHOTOS[:, :4])
    assert arrays.shape == (3, 4, 5)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (PHOTOS[:9], "at least 10 items, but .* has 9"),
        (PHOTOS[..., 0] / 2, r"must lie in \[0, 1\], but .* has 0 to 1[0-9]{2}"),
        (PHOTOS[..., 0] / 255 - 0.5, r"must lie in \[0, 1\]"),
        (np.where(PHOTOS[..., 0] > 250, np.nan, 0.5), r"must lie in \[0, 1\], but .* nan"),
        (np.array([[1.0, np.inf]] * 20), "finite numbers, but 20 are not"),
        (PHOTOS.astype(np.int64), r"must be uint8, but .* int64; save .astype"),
        (PHOTOS // 128, "has 0 and 1 only; save them as booleans"),
        (PHOTOS[..., :2], r"must be \(N, H, W\), .* but got \(20, 6, 5, 2\)"),
        (PHOTOS[0, 0, :, 0], "must be .* but got"),
        (PHOTOS[:0], "but got .*0, 6, 5, 3"),
        (np.array([["a", "b"]] * 20), "must hold uint8 or floating-point numbers, but got .* <U1"),
        (np.zeros((20, 2), complex), "but got .* complex128"),
    ],
)
def test_what_is_neither_images_nor_rows_is_refused(tmp_path: Path, array, message):
    path = save(tmp_path, array)
    with pytest.raises(UserError, match=message):
        Arrays(path).load(tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(19), "a label for each of its 20 items, but has 19"),
        (np.linspace(0, 1, 20), "whole numbers or texts, but y is .* float64"),
        (np.zeros((20, 3)), "labels .N,. of whole numbers"),
        (np.array([None] * 20), "it holds Python objects; save plain numbers"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, labels, message):
    path = save(tmp_path, PHOTOS, y=labels)
    with pytest.raises(UserError, match=message):
        Arrays(path).load(tmp_path)


def test_python_objects_are_never_loaded(tmp_path: Path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    for path in (save(tmp_path, np.array([Bomb()] * 20)), save(tmp_path, np.array([Bomb()] * 20), y=np.arange(20))):
        with pytest.raises(UserError, match="Python objects"):
            Arrays(path).load(tmp_path)
    (tmp_path / "ran").unlink(missing_ok=True)
    with pytest.raises(UserError):
        Arrays(str(tmp_path / "a.npy")).load(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("ending", ["npy", "npz"])
@pytest.mark.parametrize("damage", ["empty", "text", "half", "middle", "missing"])
def test_a_damaged_file_is_told_in_one_line(tmp_path: Path, ending, damage):
    path = Path(save(tmp_path, PHOTOS, **({"y": np.arange(20)} if ending == "npz" else {})))
    content = path.read_bytes()
    middle = bytearray(content)
    middle[300:400] = bytes(100)
    if damage == "missing":
        path.unlink()
    elif ending == "npz" or damage != "middle":
        path.write_bytes({"empty": b"", "text": b"hello", "half": content[:500], "middle": bytes(middle)}[damage])
    else:
        return  # nothing tells other pixels from damaged ones
    with pytest.raises(UserError, match=r"needs a readable .npy or .npz file, but .*a.np[yz]") as caught:
        Arrays(str(path)).load(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_array_that_must_be_chosen_is_asked_for(tmp_path: Path):
    np.savez(tmp_path / "a.npz", faces=PHOTOS, cars=PHOTOS)
    with pytest.raises(UserError, match=r"write Arrays\(.*, key=...\): it has faces, cars"):
        Arrays(str(tmp_path / "a.npz")).load(tmp_path)
    with pytest.raises(UserError, match="did you mean faces"):
        _ = Arrays(str(tmp_path / "a.npz"), key="face").shape
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("readme.txt", "no array")
    with pytest.raises(UserError, match=r"text\.npz"):
        _ = Arrays(str(tmp_path / "text.npz")).shape


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(4, 9), st.integers(4, 9), st.sampled_from([1, 3])))
)
def test_channels_last_and_channels_first_are_the_same_images(array):
    array[0, 0, 0, 0] = 255
    np.testing.assert_array_equal(as_items(array, "a"), as_items(np.moveaxis(array, 3, 1), "a"))


def test_new_arrays_are_read_for_a_trained_model(tmp_path: Path):
    digits = Digits().load(tmp_path)
    path = Path(save(tmp_path, digits.images[:5, 0], labels=digits.labels[:5]))
    items = read_items(path, OneClass(Digits(), 3), {})
    np.testing.assert_array_equal(items.images, digits.images[:5])
    np.testing.assert_array_equal(items.labels, digits.labels[:5])
    assert items.names == ("0", "1", "2", "3", "4")
    for array, labels, message in [
        (PHOTOS, np.arange(20), r"must hold items of \(1, 8, 8\), .* but got \(3, 6, 5\)"),
        (digits.images[:5], np.arange(4), "a label for each of its 5 items, but has 4"),
        (digits.images[:2], np.array([3, 12]), "must be of the classes 0, .*, 9, but got 12"),
    ]:
        with pytest.raises(UserError, match=message):
            read_items(Path(save(tmp_path, array, labels=labels)), Digits(), {})


def test_one_class_keeps_train_and_val_normal_and_test_whole(tmp_path: Path):
    whole = Digits().load(tmp_path)
    data = OneClass(Digits(), 3).load(tmp_path)
    np.testing.assert_array_equal(data.anomalous, whole.labels != 3)
    assert set(whole.labels[data.train]) == set(whole.labels[data.val]) == {3}
    np.testing.assert_array_equal(data.test, whole.test)
    np.testing.assert_array_equal(data.labels, whole.labels)
    assert len(data.train) == (whole.labels[whole.train] == 3).sum()
    assert OneClass(Digits(), 3).shape == (1, 8, 8)
    np.testing.assert_array_equal(OneClass(Digits(), "3").load(tmp_path).anomalous, data.anomalous)
    two = OneClass(Digits(), (3, "5")).load(tmp_path)
    np.testing.assert_array_equal(two.anomalous, ~np.isin(whole.labels, [3, 5]))


@pytest.mark.parametrize(
    ("normal", "message"),
    [
        (10, "from 0 to 9, or a class's name, but got 10"),
        (-1, "from 0 to 9"),
        (1.0, "or a class's name, but got 1.0"),
        ("x", r"unknown class 'x': known: 0, 1, 2"),
        ((), "some of the 10 classes and not all"),
        (tuple(range(10)), "some of the 10 classes and not all"),
    ],
)
def test_one_class_refuses_what_is_no_class(normal, message):
    with pytest.raises(UserError, match=message):
        OneClass(Digits(), normal)


def test_one_class_needs_labels_and_items_on_both_sides(tmp_path: Path):
    with pytest.raises(UserError, match=r"needs data with labels, such as MNIST\(\)"):
        OneClass(Arrays(save(tmp_path, PHOTOS)), 0)
    with pytest.raises(UserError, match="needs data with labels"):
        OneClass(None, 0)
    rare = Arrays(save(tmp_path, PHOTOS, y=np.array([1] + [0] * 19)))
    with pytest.raises(UserError, match="train and val must hold items of class '1', and test of others too"):
        OneClass(rare, "1").load(tmp_path)
