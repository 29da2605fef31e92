"""Items for a trained model, read from a file or folder as its training data are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aesearch.datasets.arrays import MOST_BYTES, read_items_array, read_labels_array
from aesearch.datasets.columns import as_text, transform
from aesearch.datasets.dataset import Dataset, is_picture
from aesearch.datasets.folder import MOST_PIXELS, SUFFIXES, image_files, named, read_images
from aesearch.datasets.table import SUFFIXES as TABLES
from aesearch.datasets.table import read_frame
from aesearch.errors import UserError


@dataclass(frozen=True)
class Items:
    """Items for a trained model.

    images: (N, C, H, W), uint8 or float32, as in Data. names: of each item. labels: (N,) class numbers, or None.
    """

    images: NDArray[Any]
    names: tuple[str, ...]
    labels: NDArray[np.int64] | None = None
    remarks: tuple[str, ...] = ()


def read_items(
    path: Path,
    data: Dataset,
    fitted: Mapping[str, Any],
    most_pixels: int = MOST_PIXELS,
    most_bytes: int = MOST_BYTES,
) -> Items:
    """Read the items at ``path`` in the shape of ``data``.

    path: an image, a folder of images, a .npy, .npz, CSV or Parquet file.
    fitted: that of the training data; a table's tells all, so that its own file need not be there. A label column,
    array or sub-folder of the training data's classes is used where there is one.
    most_pixels: images with more are not decoded.
    most_bytes: arrays of an .npz, and Parquet files, with more in memory are not read.
    Raises UserError for what cannot be read, is larger or has another shape.
    """
    if not path.exists():
        raise UserError(f"there is no file or folder {path}")
    is_table = path.suffix.lower() in TABLES
    if is_table != bool(fitted.get("columns")):
        wanted = "images or arrays" if is_table else "a CSV or Parquet file, whose columns it scales"
        raise UserError(
            f"the model was {'not ' if is_table else ''}trained on a table, so give it {wanted}, not {path}"
        )
    if is_table:
        return _rows(path, fitted, most_bytes)
    if path.suffix in (".npy", ".npz"):
        return _arrays(path, data, most_bytes)
    return _images(path, data, most_pixels)


def _images(path: Path, data: Dataset, most_pixels: int) -> Items:
    if not (path.is_dir() or path.suffix.lower() in SUFFIXES) or not is_picture(data.shape):
        raise UserError(f"items of {data.shape} must come as a .npy or .npz file, or images as image files; got {path}")
    files = image_files(path) if path.is_dir() else [path]
    images = np.zeros((len(files), *data.shape), np.uint8)
    broken = read_images(files, images, most_pixels)
    kept = [place for place, file in enumerate(files) if str(file) not in broken]
    if not kept:
        raise UserError(f"{path} must hold a readable image, but {named(broken) if broken else 'holds none'}")
    base = path if path.is_dir() else path.parent
    names = [files[place].relative_to(base) for place in kept]
    folders = [name.parts[0] for name in names]
    labels = _places(folders, data.classes, path) if set(folders) <= set(data.classes) else None
    return Items(images[kept], tuple(map(str, names)), labels, (named(broken),) if broken else ())


def _arrays(path: Path, data: Dataset, most_bytes: int) -> Items:
    images = read_items_array(str(path), most_bytes=most_bytes)
    if images.shape[1:] != data.shape:
        raise UserError(
            f"{path} must hold items of {data.shape}, as the model was trained on, but got {images.shape[1:]}"
        )
    given = read_labels_array(str(path), most_bytes)
    if given is not None and len(given) != len(images):
        raise UserError(f"{path} must have a label for each of its {len(images)} items, but has {len(given)}")
    labels = None if given is None or not data.classes else _places(map(str, given), data.classes, path)
    return Items(images, _numbered(len(images)), labels)


def _rows(path: Path, fitted: Mapping[str, Any], most_bytes: int) -> Items:
    frame = read_frame(path, most_bytes)
    images, remarks = transform(frame, fitted, str(path))
    label = fitted.get("label")
    labels = _places(map(as_text, frame[label]), fitted["classes"], path) if label in frame else None
    known = {label, *fitted["left_out"], *(rule["name"] for rule in fitted["columns"])}
    if extra := [column for column in frame.columns if column not in known]:
        remarks = [*remarks, f"columns that the model does not know were left out: {', '.join(extra)}"]
    return Items(images, _numbered(len(images)), labels, tuple(remarks))


def _numbered(n: int) -> tuple[str, ...]:
    return tuple(map(str, range(n)))


def _places(values: Iterable[str], classes: Sequence[str], path: Path) -> NDArray[np.int64]:
    """Find the place of each of ``values`` among the ``classes``.

    Raises UserError for one that is none of them.
    """
    values, places = list(values), {name: place for place, name in enumerate(classes)}
    if unknown := sorted(set(values) - set(classes)):
        raise UserError(
            f"labels of {path} must be of the classes {', '.join(classes)}, but got {', '.join(unknown[:5])}"
        )
    return np.array([places[value] for value in values], dtype=np.int64)
