"""A trained model on disk: the weights of all replicas in one safetensors file, the configuration as JSON, pictures.

A folder of a model is data: loading it runs no code from it.
"""

import json
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from aesearch.autoencoder import Autoencoder
from aesearch.errors import UserError
from aesearch.objectives import pixels
from aesearch.train import TrainConfig

HOMES = tuple(
    f"aesearch.{room}"
    for room in ("train", "datasets", "networks", "bottlenecks", "objectives", "corruptions", "scores")
)
WEIGHTS, CONFIG = "model.safetensors", "config.json"
SHOWN = 8
STEPS = 9
REACH = 2.5  # standard deviations of a code, to either side of its mean, that a traversal covers


def to_json(value: Any) -> Any:
    """A configuration value as plain JSON: a dataclass becomes its fields and its type's name."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__name__} | {f.name: to_json(getattr(value, f.name)) for f in fields(value)}
    return [to_json(item) for item in value] if isinstance(value, tuple) else value


def from_json(content: Any) -> Any:
    """The configuration value that ``to_json`` wrote. Only aesearch's own types are made. Raises UserError."""
    if isinstance(content, list):
        return tuple(from_json(item) for item in content)
    if not isinstance(content, dict):
        return content
    arguments = {name: from_json(value) for name, value in content.items() if name != "type"}
    for home in map(import_module, HOMES):
        kind = getattr(home, str(content.get("type")), None)
        if is_dataclass(kind) and isinstance(kind, type):
            return kind(**arguments)
    raise UserError(f"a saved configuration must be of aesearch's own types, but got type {content.get('type')!r}")


def save_model(folder: Path, config: TrainConfig, weights: dict[str, Tensor]) -> None:
    """Write the ``weights``, each (R, ...), and the configuration."""
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(to_json(config), indent=1))


def restore(config: TrainConfig, weights: dict[str, Tensor], replica: int) -> Autoencoder:
    """One replica of the ``weights``, each (R, ...), in evaluation mode on the CPU. Raises UserError."""
    if not 0 <= replica < config.replicas:
        raise UserError(f"replica must be from 0 to {config.replicas - 1}, but got {replica}")
    model = config.build()
    model.load_state_dict({name: tensor[replica] for name, tensor in weights.items()})
    return model.eval()


def load_model(folder: Path, replica: int = 0, config: TrainConfig | None = None) -> tuple[Autoencoder, TrainConfig]:
    """One replica of a saved model, in evaluation mode on the CPU, and its configuration.

    config: needed only where the saved one is made of a study file's own types. Raises UserError.
    """
    try:
        config = config or from_json(json.loads((folder / CONFIG).read_text()))
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"a model folder must hold {WEIGHTS} and {CONFIG}, but {folder}: {error}") from error
    return restore(config, weights, replica), config


@torch.no_grad()
def reconstructions(model: Autoencoder, config: TrainConfig, x: Tensor) -> NDArray[np.float32]:
    """(2, B, C, H, W) in [0, 1]: the images (B, C, H, W) and what the model makes of their code means."""
    logits = model(x, torch.zeros(1, len(x), config.latent_dim)).logits[0]
    return torch.stack([x, pixels(logits, config.objective.likelihood)]).clamp(0, 1).numpy()


@torch.no_grad()
def traversals(model: Autoencoder, config: TrainConfig, x: Tensor, rows: int = 10) -> NDArray[np.float32]:
    """One row per code, (L, STEPS, C, H, W) in [0, 1]: the first image's code with one entry moved over its range.

    x: (B, C, H, W) images that say where codes lie. Rows are ordered by how much the code varies over them, the
    most varying first, ``rows`` at most.
    """
    means = model.encode(x)
    centre, spread = means.mean(0), means.std(0)
    chosen = spread.argsort(descending=True)[:rows]
    codes = means[0].repeat(len(chosen), STEPS, 1)
    for row, j in enumerate(chosen):
        codes[row, :, j] = centre[j] + spread[j] * torch.linspace(-REACH, REACH, STEPS)
    logits = model.decode(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])
    return pixels(logits, config.objective.likelihood).clamp(0, 1).numpy()


def save_grid(path: Path, grid: NDArray[np.float32], least_pixels: int = 48) -> None:
    """Write (rows, columns, C, H, W) images in [0, 1] as one PNG, each at least ``least_pixels`` high."""
    rows, columns, channels, height, width = grid.shape
    framed = np.full((rows, columns, channels, height + 2, width + 2), 0.5)
    framed[..., 1:-1, 1:-1] = grid
    sheet = framed.transpose(0, 3, 1, 4, 2).reshape(rows * (height + 2), columns * (width + 2), channels)
    image = Image.fromarray(np.rint(sheet.squeeze(-1) * 255 if channels == 1 else sheet * 255).astype(np.uint8))
    factor = -(-least_pixels // height)
    image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST).save(path, optimize=True)


def save_artifacts(
    folder: Path, config: TrainConfig, weights: dict[str, Tensor], images: NDArray[np.uint8], replica: int
) -> None:
    """Everything that a trial leaves of its model: weights, configuration, and the pictures of one replica.

    images: (N, C, H, W) uint8 to reconstruct and to take the range of the codes from.
    """
    save_model(folder, config, weights)
    model = restore(config, weights, replica)
    x = torch.from_numpy(np.array(images)).float() / 255
    save_grid(folder / "reconstructions.png", reconstructions(model, config, x[:SHOWN]))
    save_grid(folder / "traversals.png", traversals(model, config, x))
