"""Compression by codes: their bits and errors, beside PNG."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from aesearch.datasets import is_picture
from aesearch.errors import UserError
from aesearch.escapes import write_csv
from aesearch.model import Model
from aesearch.scores import drawn
from aesearch.use.inputs import Source

LEVELS = (4, 6, 8)  # bits of a quantised number of a plain code
MOST_PNG = 1000


def compress(model: Model, source: Source, out: Path) -> list[str]:
    """Write ``compression.csv``: bits and error of each way to store the items.

    Bits are per image and per dimension, that is per pixel and channel. A code of plain numbers is quantised evenly
    between the least and the largest value on val. The rate of a VAE is its KL, which bits-back coding reaches. The
    rate of a codebook is log2 of its number of choices. PNG is lossless and codes are not, so compare their bits at an
    error that you accept.

    Returns lines to print. Raises UserError for a model of tables.

    Source: Hinton and van Camp 1993; Townsend et al. 2019 (bits-back coding).
    """
    if not is_picture(model.shape):
        raise UserError(
            "the model was trained on a table, so its codes cannot be compared with PNG; use a model of images"
        )
    items = source.items()
    given = source.given_labels(items)
    images = _bytes(items.images)
    rows = [("PNG", _png_bits(images[drawn(np.arange(len(images)), MOST_PNG)]), 0.0)]
    if model.config.code.variational or model.config.code.spatial:
        name = "KL of the code" if model.config.code.variational else "codebook entries"
        rows.append(
            (name, float(model.rate(items.images, given).mean()), _mse(model.reconstruct(items.images, given), images))
        )
    if not model.config.code.spatial:
        codes = model.encode(items.images, given)
        known = model.reference["codes"].numpy() if "codes" in model.reference else codes
        for bits in LEVELS:
            rebuilt = model.decode(_quantised(codes, known.min(0), known.max(0), bits), given)
            rows.append(
                (f"{codes.shape[1]} numbers of {bits} bits", float(bits * codes.shape[1]), _mse(rebuilt, images))
            )
    table = pd.DataFrame(rows, columns=["kept as", "bits_per_image", "mse"])
    table.insert(2, "bits_per_dimension", table["bits_per_image"] / np.prod(model.shape))
    with np.errstate(divide="ignore"):
        table["psnr_db"] = -10 * np.log10(table["mse"])
    path = out / "compression.csv"
    write_csv(table, path)
    rows_shown = table.to_string(index=False, float_format="{:.4g}".format).split("\n")
    return [*items.remarks, *rows_shown, f"{len(images)} items: {path}"]


def _bytes(images: NDArray[np.generic]) -> NDArray[np.uint8]:
    return images.astype(np.uint8) if images.dtype == np.uint8 else np.rint(images.astype(float) * 255).astype(np.uint8)


def _png_bits(images: NDArray[np.uint8]) -> float:
    """Measure the mean size of an image as an optimised PNG file, in bits."""
    sizes = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(file, "PNG", optimize=True)
        sizes.append(8 * len(file.getvalue()))
    return float(np.mean(sizes))


def _mse(rebuilt: NDArray[np.float32], images: NDArray[np.uint8]) -> float:
    return float(((rebuilt - images.astype(np.float32) / 255) ** 2).mean())


def _quantised(
    codes: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32], bits: int
) -> NDArray[np.float32]:
    step = np.maximum(high - low, 1e-8) / (2**bits - 1)
    rounded: NDArray[np.float32] = (low + np.rint((codes.clip(low, high) - low) / step) * step).astype(np.float32)
    return rounded
