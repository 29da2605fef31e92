"""Images or rows in a NumPy file."""

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from aesearch.datasets.cache import key
from aesearch.datasets.dataset import Data, Dataset, Shape, check_limit, held_out, random_split
from aesearch.datasets.repeats import known_first_equals, remarks_on
from aesearch.errors import UserError, nearest

ITEMS = ("images", "x", "data", "x_train", "X")
LABELS = ("labels", "y", "targets", "y_train")
LEAST = 10
MOST_BYTES = 2**31  # of an array that is read into memory
USUAL = 100.0  # rows that reach further are remarked on: they need scaling


@dataclass(frozen=True)
class Arrays(Dataset):
    """Images or rows of a .npy or .npz file.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W); rows are (N, columns).
    Images are uint8, booleans, or floats in [0, 1]; rows are used as they are (scale them first, or use Table).
    key: the array of an .npz, by default the only one or the one named images, x, data, x_train or X. Its array named
    labels, y, targets or y_train, if any, is the labels, whole numbers or texts. A large .npy is memory-mapped.
    most_bytes: an array of an .npz that has more, once unpacked, is not read.
    """

    path: str
    key: str | None = None
    # Not in its repr, by which a study knows its data: a limit changes none of them.
    most_bytes: int = field(default=MOST_BYTES, repr=False)

    def __post_init__(self) -> None:
        check_limit("most_bytes", self.most_bytes)

    @property
    def shape(self) -> Shape:
        items = self._items()
        return (int(items.shape[1]), int(items.shape[2]), int(items.shape[3]))

    @property
    def factor_sizes(self) -> Mapping[str, int]:
        return {}

    @property
    def classes(self) -> tuple[str, ...]:
        return _labels(self.path, self.most_bytes, _stamp(self.path))[1]

    def load(self, root: Path) -> Data:
        items = self._items()
        n = len(items)
        if n < LEAST:
            raise UserError(f"Arrays needs at least {LEAST} items, but {self.path} has {n}")
        labels = _labels(self.path, self.most_bytes, _stamp(self.path))[0]
        if labels is not None and len(labels) != n:
            raise UserError(f"{self.path} must have a label for each of its {n} items, but has {len(labels)}")
        stamp = (str(Path(self.path).resolve()), _stamp(self.path), self.key, items.shape)
        first = known_first_equals(items, root / "arrays" / f"{key(*stamp)}.repeats.json")
        remarks = remarks_on(first, "images" if self.shape[1] > 1 else "rows")
        if self.shape[1] == 1 and (far := float(np.abs(items).max())) > USUAL:
            remarks = (_reach(far), *remarks)
        return Data(items, labels=labels, remarks=remarks, **random_split(n, held_out(n), first))

    def _items(self) -> NDArray[Any]:
        return _items(self.path, self.key, self.most_bytes, _stamp(self.path))


def _reach(far: float) -> str:
    return f"values reach {far:.3g}, and rows are used as they are: scale the columns to about 1, or use Table"


def _stamp(path: str) -> int:
    """Read when a file was last written; what was read of it before no longer holds."""
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=2)
def _items(path: str, key: str | None, most_bytes: int, stamp: int) -> NDArray[Any]:  # noqa: ARG001
    return read_items_array(path, key, most_bytes)


@lru_cache(maxsize=2)
def _labels(
    path: str,
    most_bytes: int,
    stamp: int,  # noqa: ARG001
) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    values = read_labels_array(path, most_bytes)
    if values is None:
        return None, ()
    classes, places = np.unique(values, return_inverse=True)
    return places.astype(np.int64), tuple(str(value) for value in classes)


def read_items_array(path: str, key: str | None = None, most_bytes: int = MOST_BYTES) -> NDArray[Any]:
    """Read images or rows of a .npy or .npz file as (N, C, H, W), uint8 or float32.

    Raises UserError for a file that cannot be read, and for other shapes or types.
    """
    names = array_names(path)
    chosen = key or next((name for name in ITEMS if name in names), names[0] if len(names) == 1 else None)
    if chosen not in names:
        hint = nearest(chosen, names) if chosen else f"it has {', '.join(names)}"
        raise UserError(f"{path} must hold the array to use; write Arrays({path!r}, key=...): {hint}")
    return as_items(read_array(path, chosen, most_bytes), path)


def read_labels_array(path: str, most_bytes: int = MOST_BYTES) -> NDArray[Any] | None:
    """Read the labels (N,) of a .npz file, numbers or texts; None without labels.

    Raises UserError for a file that cannot be read, and for labels of another kind.
    """
    name = next((name for name in LABELS if name in array_names(path)), None)
    if name is None:
        return None
    labels = read_array(path, name, most_bytes)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == np.rint(labels)).all():
        labels = labels.astype(np.int64)
    if labels.ndim != 1 or labels.dtype.kind not in "iubU":
        raise UserError(
            f"{path} must have labels (N,) of whole numbers or texts, but {name} is {labels.shape} {labels.dtype}; "
            "save classes, or leave the array out"
        )
    return labels


def array_names(path: str) -> list[str]:
    """List the names of the arrays in a .npz file; a .npy file's array is "data".

    Raises UserError for a file that cannot be read.
    """
    if Path(path).suffix != ".npz":
        return ["data"]
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except Exception as error:  # zipfile raises errors of many kinds on damaged files
        raise _unreadable(path, error) from error


def read_array(path: str, name: str, most_bytes: int = MOST_BYTES) -> NDArray[Any]:
    """Read one array of a .npy or .npz file.

    most_bytes: the size that an array of an .npz may have in memory. A .npy is mapped, so it may have any.
    Raises UserError for a file that cannot be read, for a larger array, and for pickled objects: unpickling runs code.
    """
    try:
        return _from_npz(path, name, most_bytes) if Path(path).suffix == ".npz" else _from_npy(path)
    except UserError:
        raise
    except Exception as error:  # NumPy and zipfile raise errors of many kinds on damaged files
        raise _unreadable(path, error) from error


def _from_npy(path: str) -> NDArray[Any]:
    with Path(path).open("rb") as file:
        _header(file)
    return np.lib.format.open_memmap(path, mode="r")


def _from_npz(path: str, name: str, most_bytes: int) -> NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        entry = next(one for one in archive.namelist() if one.removesuffix(".npy") == name)
        with archive.open(entry) as file:
            shape, dtype = _header(file)
            # Whole numbers of Python: those of NumPy overflow.
            size = math.prod(map(int, shape)) * dtype.itemsize
            if size > most_bytes:
                raise UserError(
                    f"{name} in {path} has {size:,} bytes, more than {most_bytes:,}; raise most_bytes to read it"
                )
            if size + file.tell() != archive.getinfo(entry).file_size:
                raise ValueError(f"{name} has {size:,} bytes by its header, and others in the archive")
        with archive.open(entry) as file:
            array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], "np.dtype[Any]"]:
    """Read shape and type of an array in NumPy's format.

    Raises ValueError for another format, and for Python objects.
    """
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("pickled objects")
    return shape, dtype


def _unreadable(path: str, error: Exception) -> UserError:
    text = " ".join(str(error).split())[:300] or type(error).__name__
    reason = "it holds Python objects; save plain numbers" if "pickle" in text.lower() else text
    return UserError(f"Arrays needs a readable .npy or .npz file, but {path}: {reason}")


def as_items(array: NDArray[Any], path: str) -> NDArray[Any]:
    """Bring an array to (N, C, H, W), uint8 or float32.

    Raises UserError for what is neither images nor rows.
    """
    if array.dtype.kind not in "uifb" or 0 in array.shape:
        raise UserError(f"{path} must hold uint8 or floating-point numbers, but got {array.shape} {array.dtype}")
    if array.ndim == 2:
        return _as_rows(array, path)
    if array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = np.moveaxis(array, 3, 1)
    elif array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4 or array.shape[1] not in (1, 3) or array.shape[2] < 2:
        raise UserError(f"{path} must be (N, H, W), (N, H, W, C), (N, C, H, W) or (N, columns), but got {array.shape}")
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    return _as_bytes(array, path) if array.dtype.kind in "ui" else _as_floats(array, path)


def _as_rows(array: NDArray[Any], path: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(array, dtype=np.float32)[:, None, None]
    if wrong := int((~np.isfinite(rows)).sum()):
        raise UserError(f"{path} must hold finite numbers, but {wrong} are not; fill them in, or use Table")
    return rows


def _as_bytes(array: NDArray[Any], path: str) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise UserError(f"images of whole numbers must be uint8, but {path} has {array.dtype}; save .astype('uint8')")
    # Only where the first images are as dark as that are all of them read.
    if array[:100].max() <= 1 and array.max() == 1:
        raise UserError(f"uint8 images must use 0 to 255, but {path} has 0 and 1 only; save them as booleans")
    return array


def _as_floats(array: NDArray[Any], path: str) -> NDArray[np.float32]:
    low, high = float(array.min()), float(array.max())
    # Not a number is neither below nor above.
    if not (low >= 0 and high <= 1):
        raise UserError(
            f"images of floats must lie in [0, 1], but {path} has {low:.3g} to {high:.3g}; "
            "save uint8 from 0 to 255, or divide"
        )
    return np.ascontiguousarray(array, dtype=np.float32)
