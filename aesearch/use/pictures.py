"""Items that a model makes: reconstructions, clean ones, new ones, ones in between."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from aesearch.corruptions import GaussianNoise
from aesearch.datasets import is_picture
from aesearch.errors import UserError
from aesearch.metrics.quality import psnr
from aesearch.model import Model, save_grid, traversals
from aesearch.use.inputs import Source

COLUMNS = 12

Images = NDArray[np.float32]


def _float(images: NDArray[np.generic]) -> Images:
    return images.astype(np.float32) / np.float32(255 if images.dtype == np.uint8 else 1)


def _write(out: Path, name: str, rows: list[Images], model: Model) -> list[str]:
    """Rows of items, each (N, C, H, W), as a picture of the first columns; nothing for a table."""
    if not is_picture(model.shape):
        return []
    path = out / f"{name}.png"
    save_grid(path, np.stack([row[:COLUMNS] for row in rows]).clip(0, 1))
    return [str(path)]


def _save(out: Path, name: str, items: Images) -> str:
    path = out / f"{name}.npy"
    np.save(path, items)
    return str(path)


def _pictures_only(model: Model) -> None:
    if not is_picture(model.shape):
        raise UserError("this draws pictures, but the model was trained on a table")


def reconstruct(model: Model, source: Source, out: Path, options: argparse.Namespace) -> list[str]:  # noqa: ARG001
    """``reconstructions.npy`` and a picture of originals above reconstructions; ``errors.csv``, a row per item."""
    items = source.items()
    given = source.given_labels(items)
    rebuilt = model.reconstruct(items.images, given)
    scores = model.score(items.images, given)
    table = pd.DataFrame({"name": items.names, "mse": scores["error"]})
    if is_picture(model.shape):
        table["psnr_db"] = -10 * np.log10(scores["error"])
    table.to_csv(out / "errors.csv", index=False)
    files = [_save(out, "reconstructions", rebuilt), str(out / "errors.csv")]
    files += _write(out, "reconstructions", [_float(items.images[:COLUMNS]), rebuilt], model)
    return [
        *items.remarks,
        f"mean squared error {scores['error'].mean():.5f} of {len(table)} items: {', '.join(files)}",
    ]


def denoise(model: Model, source: Source, out: Path, options: argparse.Namespace) -> list[str]:
    """``denoised.npy`` and a picture; with --noise also of the clean items, and what is gained in dB."""
    items = source.items()
    given = source.given_labels(items)
    clean = _float(items.images)
    if options.noise is None:
        rows, seen = [clean[:COLUMNS]], clean
    elif options.noise > 0:
        noise = GaussianNoise(options.noise)
        seen = noise.corrupt(torch.from_numpy(clean), torch.Generator().manual_seed(0)).numpy()
        rows = [clean[:COLUMNS], seen[:COLUMNS]]
    else:
        raise UserError(f"--noise must be a standard deviation above 0, but got {options.noise}")
    cleaned = model.reconstruct(seen, given)
    files = [_save(out, "denoised", cleaned), *_write(out, "denoised", [*rows, cleaned], model)]
    lines = [*items.remarks, f"{len(cleaned)} items denoised: {', '.join(files)}"]
    if options.noise is not None and is_picture(model.shape):
        before, after = psnr(seen.clip(0, 1), clean).mean(), psnr(cleaned.clip(0, 1), clean).mean()
        lines.append(f"PSNR {before:.2f} dB noisy, {after:.2f} dB denoised: {after - before:+.2f} dB")
    return lines


def sample(model: Model, source: Source, out: Path, options: argparse.Namespace) -> list[str]:  # noqa: ARG001
    """``samples.npy`` and a picture of new items."""
    label = None
    if options.label is not None:
        if options.label not in model.classes:
            raise UserError(f"unknown class {options.label!r}: the model knows {', '.join(model.classes) or 'none'}")
        label = model.classes.index(options.label)
    drawn = model.sample(options.count, label, options.prior, options.seed)
    files = [_save(out, "samples", drawn)]
    if is_picture(model.shape):
        columns = int(np.ceil(len(drawn) ** 0.5))
        whole = np.ones((-(-len(drawn) // columns) * columns, *model.shape), np.float32)
        whole[: len(drawn)] = drawn.clip(0, 1)
        save_grid(out / "samples.png", whole.reshape(-1, columns, *model.shape))
        files.append(str(out / "samples.png"))
    return [f"{len(drawn)} samples: {', '.join(files)}"]


def interpolate(model: Model, source: Source, out: Path, options: argparse.Namespace) -> list[str]:
    """``interpolations.png``: a row per pair of items, from the one to the other."""
    _pictures_only(model)
    items = source.items()
    if source.given_labels(items) is not None:
        raise UserError("a conditional model gives the class by its label; sample or traverse it instead")
    if len(items.images) < 2:
        raise UserError(f"interpolation needs at least 2 items, but got {len(items.images)}")
    pairs = min(options.pairs, len(items.images) // 2)
    images = items.images[: 2 * pairs]
    grid = model.interpolate(images[0::2], images[1::2], options.steps, options.spherical)
    path = out / "interpolations.png"
    save_grid(path, grid.clip(0, 1))
    return [*items.remarks, f"{pairs} pairs in {options.steps} steps: {path}"]


def traverse(model: Model, source: Source, out: Path, options: argparse.Namespace) -> list[str]:
    """``traversals.png``: a row per entry of the code, which runs over its range."""
    _pictures_only(model)
    if model.config.code.spatial:
        raise UserError("a codebook has no numbers to vary; interpolate or sample instead")
    items = source.items()
    if not 0 <= options.item < len(items.images):
        raise UserError(f"--item must be from 0 to {len(items.images) - 1}, but got {options.item}")
    path = out / "traversals.png"
    save_grid(path, traversals(model, items.images, source.given_labels(items), item=options.item))
    return [*items.remarks, f"the code of item {items.names[options.item]} varied: {path}"]
