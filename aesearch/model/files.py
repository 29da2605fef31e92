"""Files of a trained model.

    model.safetensors      parameters and buffers of all replicas, each (R, ...)
    config.json            the configuration
    info.json              shape and classes, the pictured replica, how a table was scaled, the final metrics
    reference.safetensors  results of that replica on val: codes and their KL (or codebook entries), labels,
                           factors, anomaly scores

All of it is data: loading a model runs no code from its folder.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from aesearch.autoencoder import Autoencoder
from aesearch.datasets import Data, Dataset
from aesearch.errors import UserError
from aesearch.train import TrainConfig

HOMES = tuple(
    f"aesearch.{room}"
    for room in ("train", "datasets", "networks", "bottlenecks", "objectives", "corruptions", "protocols", "scores")
)
WEIGHTS, CONFIG, INFO, REFERENCE = "model.safetensors", "config.json", "info.json", "reference.safetensors"
MODEL_FILES = (WEIGHTS, REFERENCE)  # the large files, which are removed where a model is not kept
DISCARDED = "discarded.txt"  # the reason for removing them


def discard(folder: Path, reason: str) -> bool:
    """Remove the model in ``folder``, and write the ``reason`` to a file there.

    The pictures stay. Returns True if there was a model.
    """
    there = [folder / name for name in MODEL_FILES if (folder / name).exists()]
    if there:
        # An interruption may leave half a model. With the reason written first, it does not look damaged.
        (folder / DISCARDED).write_text(reason + "\n")
    for file in there:
        file.unlink()
    return bool(there)


def is_discarded(folder: Path) -> bool:
    """Return True if the model in ``folder`` was removed."""
    return (folder / DISCARDED).exists()


@dataclass(frozen=True)
class Elsewhere(Dataset):
    """Training data that is missing where a model is used.

    described: the data set's value, as JSON.
    known_shape: (C, H, W) of an item.
    known_classes: the names of the classes.
    """

    described: str
    known_shape: tuple[int, int, int]
    known_classes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.known_shape

    @property
    def factor_sizes(self) -> Mapping[str, int]:
        return {}

    @property
    def classes(self) -> tuple[str, ...]:
        return self.known_classes

    def load(self, root: Path) -> Data:  # noqa: ARG002
        raise UserError(f"the data that the model was trained on is missing: {self.described}; give items with --input")


def to_json(value: Any) -> Any:
    """Convert a configuration value to plain JSON.

    A dataclass becomes its type's name and its fields, a tuple a list.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__name__} | {f.name: to_json(getattr(value, f.name)) for f in fields(value)}
    return [to_json(item) for item in value] if isinstance(value, tuple) else value


def from_json(content: Any) -> Any:
    """Make the configuration value that ``to_json`` wrote.

    Raises UserError for a type that is not one of aesearch's own: others might run code.
    """
    if isinstance(content, list):
        return tuple(from_json(item) for item in content)
    if not isinstance(content, dict):
        return content
    arguments = {name: from_json(value) for name, value in content.items() if name != "type"}
    for home in map(import_module, HOMES):
        kind = getattr(home, str(content.get("type")), None)
        if is_dataclass(kind) and isinstance(kind, type):
            return kind(**arguments)
    raise UserError(f"type {content.get('type')!r} of a saved configuration is not one of aesearch's own types")


def save_model(
    folder: Path,
    config: TrainConfig,
    weights: Mapping[str, Tensor],
    info: Mapping[str, Any] | None = None,
    reference: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a model's files into ``folder``.

    weights: parameters and buffers by name, each (R, ...).
    info: more entries of info.json.
    reference: tensors of reference.safetensors, which is not written without them.
    """
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(to_json(config), indent=1))
    known = {"shape": list(config.data.shape), "classes": list(config.data.classes), "replica": 0}
    (folder / INFO).write_text(json.dumps(known | dict(info or {}), indent=1))
    if reference:
        save_file({name: tensor.contiguous() for name, tensor in reference.items()}, folder / REFERENCE)


def restore(config: TrainConfig, weights: Mapping[str, Tensor], replica: int) -> Autoencoder:
    """Build the model of one replica, in evaluation mode on the CPU.

    weights: parameters and buffers by name, each (R, ...).
    replica: from 0 to R - 1.
    Raises UserError for another replica, and for weights of another configuration.
    """
    count = len(next(iter(weights.values())))
    if not 0 <= replica < count:
        raise UserError(f"replica must be from 0 to {count - 1}, but got {replica}")
    model = config.build()
    try:
        model.load_state_dict({name: tensor[replica] for name, tensor in weights.items()})
    except (RuntimeError, IndexError) as error:
        raise UserError(f"the weights do not fit the configuration: {str(error).splitlines()[-1]}") from error
    return model.eval()


@dataclass(frozen=True)
class Saved:
    """Contents of a model's folder."""

    config: TrainConfig
    weights: Mapping[str, Tensor]
    info: Mapping[str, Any]
    reference: Mapping[str, Tensor]


def read_model(folder: Path, config: TrainConfig | None = None) -> Saved:
    """Read the files that ``save_model`` wrote.

    config: the configuration; needed only where the saved one has types of a study file.
    Raises UserError where the model was not kept, and for files that are missing or damaged.
    """
    if (folder / DISCARDED).exists():
        raise UserError(f"the model in {folder} was not kept: {(folder / DISCARDED).read_text().strip()}")
    try:
        info: dict[str, Any] = json.loads((folder / INFO).read_text())
        config = config or _config(json.loads((folder / CONFIG).read_text()), info)
        weights = load_file(folder / WEIGHTS)
        reference = load_file(folder / REFERENCE) if (folder / REFERENCE).exists() else {}
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder} has no complete model ({WEIGHTS}, {CONFIG} and {INFO}): {reason}") from error
    return Saved(config, weights, info, reference)


def _config(content: dict[str, Any], info: Mapping[str, Any]) -> TrainConfig:
    """Make the saved configuration.

    Data that is missing on this machine becomes an ``Elsewhere``.
    """
    try:
        data = from_json(content["data"])
        data.shape, data.classes  # noqa: B018
    except UserError:
        if content["data"].get("type") not in dir(import_module("aesearch.datasets")):
            raise
        data = Elsewhere(json.dumps(content["data"]), tuple(info["shape"]), tuple(info["classes"]))
    apart = ("type", "data", "scores", "monitors")
    rest = {name: from_json(value) for name, value in content.items() if name not in apart}
    if content.get("type") != "TrainConfig":
        raise UserError(f"type {content.get('type')!r} of a saved configuration is not TrainConfig")
    if isinstance(data, Elsewhere):
        # Scores need the data, so a model without it has none.
        return TrainConfig(data=data, monitors=(), **rest)
    scores, monitors = from_json(content.get("scores", [])), from_json(content.get("monitors"))
    return TrainConfig(data=data, scores=scores, monitors=monitors, **rest)


def device_of(model: Autoencoder) -> torch.device:
    """Return the device of the model's parameters."""
    return next(model.parameters()).device
