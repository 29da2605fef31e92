"""Files of items that a model makes: arrays, and grids of pictures."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aesearch.datasets import is_picture
from aesearch.errors import UserError
from aesearch.model import Model, save_grid

COLUMNS = 12

Images = NDArray[np.float32]


def as_floats(images: NDArray[np.generic]) -> Images:
    """Scale stored bytes to [0, 1]; floats stay as they are."""
    return images.astype(np.float32) / np.float32(255 if images.dtype == np.uint8 else 1)


def write_grid(out: Path, name: str, rows: list[Images], model: Model) -> list[str]:
    """Draw rows of items, each (N, C, H, W), as ``name``.png.

    The first 12 items of each row are shown. Returns a list of the path; an empty one for a model of tables.
    """
    if not is_picture(model.shape):
        return []
    path = out / f"{name}.png"
    save_grid(path, np.stack([row[:COLUMNS] for row in rows]).clip(0, 1))
    return [str(path)]


def save_items(out: Path, name: str, items: Images) -> str:
    """Write items (N, C, H, W) as ``name``.npy and return its path."""
    path = out / f"{name}.npy"
    np.save(path, items)
    return str(path)


def check_pictures(model: Model) -> None:
    """Raise UserError for a model of tables."""
    if not is_picture(model.shape):
        raise UserError("the model was trained on a table, so there are no pictures to draw; use a model of images")
