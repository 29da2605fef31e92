"""Artifacts of a trial: the weights, codes and scores of val, and pictures."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from aesearch.datasets import Data, is_picture
from aesearch.model.files import restore, save_model
from aesearch.model.trained import Images, Labels, Model
from aesearch.scores import drawn
from aesearch.scores.sampling import KNOWN
from aesearch.train import Result, TrainConfig

SHOWN = 8
STEPS = 9
REACH = 2.5  # range of a traversal: standard deviations of a unit, to either side of its mean
PICTURED = 512  # test images from which traversals take the range of each unit


def save_artifacts(folder: Path, config: TrainConfig, result: Result, data: Data) -> None:
    """Write the model of a trial and its pictures into ``folder``.

    The pictures are of the replica with the lowest val/loss.

    result: that of the finished training.
    data: the data that it was trained on.
    """
    replica = int(np.argmin(result.metrics["val/loss"]))
    info = {
        "replica": replica,
        "shape": list(config.data.shape),
        "classes": list(config.data.classes),
        "factors": list(config.data.factor_sizes),
        "fitted": dict(data.fitted),
        "metrics": {name: list(values) for name, values in result.metrics.items()},
        "epochs": list(result.epochs),
    }
    model = Model(restore(config, result.weights, replica), config, info, {}, replica)
    save_model(folder, config, result.weights, info, _reference(model, data))
    index = drawn(data.test, PICTURED)
    images, labels = data.images[index], _labels(model, data, index)
    if is_picture(model.shape):
        save_grid(folder / "reconstructions.png", reconstructions(model, images[:SHOWN], _first(labels, SHOWN)))
        if not config.code.spatial:
            save_grid(folder / "traversals.png", traversals(model, images, labels))


def _reference(model: Model, data: Data) -> dict[str, torch.Tensor]:
    index = drawn(data.val, KNOWN)
    images, labels = data.images[index], _labels(model, data, index)
    arrays: dict[str, NDArray[np.generic]] = dict(model.score(images, labels))
    if model.config.code.spatial:
        x = torch.from_numpy(np.array(images)).float() / (255 if images.dtype == np.uint8 else 1)
        with torch.no_grad():
            code = model.network.bottleneck(model.network.features(x), torch.zeros(1, len(x), 1))
        arrays["indices"] = code.indices.numpy()
    else:
        arrays["codes"] = model.encode(images, labels)
        arrays["kl"] = model.code_kl(images, labels)
    if data.labels is not None:
        arrays["labels"] = data.labels[index]
    if data.factors is not None:
        arrays["factors"] = data.factors[index]
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def _labels(model: Model, data: Data, index: NDArray[np.int64]) -> Labels | None:
    if not model.network.classes:
        return None
    assert data.labels is not None
    return data.labels[index]


def _first(labels: Labels | None, count: int) -> Labels | None:
    return None if labels is None else labels[:count]


def _scaled(images: Images) -> NDArray[np.float32]:
    return images.astype(np.float32) / np.float32(255 if images.dtype == np.uint8 else 1)


def reconstructions(model: Model, images: Images, labels: Labels | None = None) -> NDArray[np.float32]:
    """Stack images with their reconstructions, (2, N, C, H, W) in [0, 1].

    images: (N, C, H, W).
    labels: (N,), for a conditional model.
    """
    both: NDArray[np.float32] = np.stack([_scaled(images), model.reconstruct(images, labels)]).clip(0, 1)
    return both


def traversals(
    model: Model, images: Images, labels: Labels | None = None, rows: int = 10, item: int = 0
) -> NDArray[np.float32]:
    """Decode one image's code while one unit moves over its range.

    Gives (rows, STEPS, C, H, W) in [0, 1], a row for each unit. The units that vary most over the images come first.

    images: (N, C, H, W), from whose codes each unit's range is taken.
    labels: (N,), for a conditional model.
    rows: the number of rows at most.
    item: the place in ``images`` of the image whose code is changed.
    """
    means = model.encode(images, labels)
    centre, spread = means.mean(0), means.std(0, ddof=1) if len(means) > 1 else np.ones(means.shape[1], np.float32)
    chosen = np.argsort(-spread, kind="stable")[:rows]
    codes = np.tile(means[item], (len(chosen), STEPS, 1))
    for row, j in enumerate(chosen):
        codes[row, :, j] = centre[j] + spread[j] * np.linspace(-REACH, REACH, STEPS)
    repeated = None if labels is None else np.repeat(labels[item : item + 1], codes.shape[0] * STEPS)
    flat = model.decode(codes.reshape(-1, codes.shape[2]), repeated)
    return flat.reshape(len(chosen), STEPS, *model.shape).clip(0, 1)


def save_grid(path: Path, grid: NDArray[np.float32], least_pixels: int = 48) -> None:
    """Write a grid of images as one PNG.

    grid: (rows, columns, C, H, W) in [0, 1].
    least_pixels: the height of an image at least; smaller ones are enlarged by a whole factor.
    """
    rows, columns, channels, height, width = grid.shape
    framed = np.full((rows, columns, channels, height + 2, width + 2), 0.5)
    framed[..., 1:-1, 1:-1] = grid
    sheet = framed.transpose(0, 3, 1, 4, 2).reshape(rows * (height + 2), columns * (width + 2), channels)
    image = Image.fromarray(np.rint(sheet.squeeze(-1) * 255 if channels == 1 else sheet * 255).astype(np.uint8))
    factor = -(-least_pixels // height)
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    # Pillow leaves a file that it opened itself open where it is interrupted.
    with path.open("wb") as file:
        image.save(file, "PNG", optimize=True)
