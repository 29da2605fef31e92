"""A trained model on disk: weights of all replicas, configuration, what it said of the val split. All of it is data.

    model.safetensors      parameters and buffers, each (R, ...)
    config.json            the configuration
    info.json              shape and classes, the pictured replica, how a table was scaled, the final metrics
    reference.safetensors  of that replica on val: codes and their KL (or codebook entries), labels, factors,
                           anomaly scores

Loading a model runs no code from its folder.
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
MODEL_FILES = (WEIGHTS, REFERENCE)  # the large ones, without which there is no model
DISCARDED = "discarded.txt"  # why they were removed


def discard(folder: Path, reason: str) -> bool:
    """Remove the model in ``folder``, but not its pictures, and leave the ``reason``. Returns whether there was one."""
    there = [folder / name for name in MODEL_FILES if (folder / name).exists()]
    if there:
        # The reason first: a model that is half removed must not pass for a damaged one.
        (folder / DISCARDED).write_text(reason + "\n")
    for file in there:
        file.unlink()
    return bool(there)


def is_discarded(folder: Path) -> bool:
    """Tell whether the model in ``folder`` was removed."""
    return (folder / DISCARDED).exists()


@dataclass(frozen=True)
class Elsewhere(Dataset):
    """What is known of training data that is not at hand where a model is used."""

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
        raise UserError(f"the model's own data must be at hand, but is not: {self.described}; give items with --input")


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


def save_model(
    folder: Path,
    config: TrainConfig,
    weights: Mapping[str, Tensor],
    info: Mapping[str, Any] | None = None,
    reference: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the ``weights``, each (R, ...), the configuration, and what else is known."""
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(to_json(config), indent=1))
    known = {"shape": list(config.data.shape), "classes": list(config.data.classes), "replica": 0}
    (folder / INFO).write_text(json.dumps(known | dict(info or {}), indent=1))
    if reference:
        save_file({name: tensor.contiguous() for name, tensor in reference.items()}, folder / REFERENCE)


def restore(config: TrainConfig, weights: Mapping[str, Tensor], replica: int) -> Autoencoder:
    """One replica of the ``weights``, each (R, ...), in evaluation mode on the CPU. Raises UserError."""
    count = len(next(iter(weights.values())))
    if not 0 <= replica < count:
        raise UserError(f"replica must be from 0 to {count - 1}, but got {replica}")
    model = config.build()
    try:
        model.load_state_dict({name: tensor[replica] for name, tensor in weights.items()})
    except (RuntimeError, IndexError) as error:
        raise UserError(
            f"the weights must be those of the configuration, but: {str(error).splitlines()[-1]}"
        ) from error
    return model.eval()


@dataclass(frozen=True)
class Saved:
    """The files of a model's folder, read."""

    config: TrainConfig
    weights: Mapping[str, Tensor]
    info: Mapping[str, Any]
    reference: Mapping[str, Tensor]


def read_model(folder: Path, config: TrainConfig | None = None) -> Saved:
    """What ``save_model`` wrote. config: needed only where the saved one is made of a study file's own types.

    Raises UserError for a folder that is no model's, or is damaged.
    """
    if (folder / DISCARDED).exists():
        raise UserError(f"a model must have been kept, but of {folder}: {(folder / DISCARDED).read_text().strip()}")
    try:
        info: dict[str, Any] = json.loads((folder / INFO).read_text())
        config = config or _config(json.loads((folder / CONFIG).read_text()), info)
        weights = load_file(folder / WEIGHTS)
        reference = load_file(folder / REFERENCE) if (folder / REFERENCE).exists() else {}
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"a model folder must hold {WEIGHTS}, {CONFIG} and {INFO}, but {folder}: {reason}") from error
    return Saved(config, weights, info, reference)


def _config(content: dict[str, Any], info: Mapping[str, Any]) -> TrainConfig:
    """The saved configuration; data that is not at hand is replaced by what is known of it."""
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
        raise UserError(f"a saved configuration must be a TrainConfig, but got type {content.get('type')!r}")
    if isinstance(data, Elsewhere):
        # Without its data a model cannot be scored again.
        return TrainConfig(data=data, monitors=(), **rest)
    scores, monitors = from_json(content.get("scores", [])), from_json(content.get("monitors"))
    return TrainConfig(data=data, scores=scores, monitors=monitors, **rest)


def device_of(model: Autoencoder) -> torch.device:
    """Where the parameters are."""
    return next(model.parameters()).device
