"""Files of a trained model.

    model.safetensors      parameters and buffers of all replicas, each (R, ...)
    config.json            the configuration
    info.json              shape and classes, the pictured replica, how a table was scaled, the final metrics
    reference.safetensors  results of that replica on val: codes and their KL (or codebook entries), labels,
                           factors, anomaly scores

All of it is data: loading a model runs no code from its folder, and opens no file that the configuration names.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from aesearch.autoencoder import Autoencoder
from aesearch.discarding import DISCARDED, REFERENCE, WEIGHTS, is_discarded
from aesearch.errors import UserError
from aesearch.model.checks import (
    check_factors,
    check_info,
    check_reference,
    check_weights,
    checked_info,
    replicas_of,
)
from aesearch.model.json_values import (
    Elsewhere,
    from_json,
    make,
    names_files,
    of_today,
    read_object,
    shortened,
    to_json,
)
from aesearch.train import TrainConfig
from aesearch.train.description import DESCRIBED, FORMAT

CONFIG, INFO = "config.json", "info.json"


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
    (folder / CONFIG).write_text(json.dumps(to_json(config) | {"format": FORMAT}, indent=1))
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
    count = replicas_of(weights)
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


def read_model(folder: Path, config: TrainConfig | None = None, open_data: bool = False) -> Saved:
    """Read the files that ``save_model`` wrote.

    No memory is taken for what the files describe until it is known to fit the weights.

    config: the configuration; needed only where the saved one has types of a study file.
    open_data: True lets data sets read the files that the saved configuration names. Use it for models of your own.
    Raises UserError where the model was not kept, and for files that are missing, damaged or do not fit each other.
    """
    if is_discarded(folder):
        raise UserError(f"the model in {folder} was not kept: {_reason(folder / DISCARDED)}")
    try:
        info = checked_info(read_object(folder / INFO))
        weights = _tensors(folder / WEIGHTS)
        reference = _tensors(folder / REFERENCE) if (folder / REFERENCE).exists() else {}
        replicas = replicas_of(weights)
        if config is None:
            config = _config(read_object(folder / CONFIG), info, open_data)
            check_weights(config, weights)
            check_info(info, config, replicas)
        check_reference(reference, config.latent_dim, len(info["classes"]))
    except Exception as error:  # values of any type reach the checks of every class, which raise errors of many kinds
        reason = shortened(str(error) or type(error).__name__)
        raise UserError(f"{folder} has no complete model ({WEIGHTS}, {CONFIG} and {INFO}): {reason}") from error
    return Saved(config, weights, info, reference)


def read_reference(folder: Path) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
    """Read reference.safetensors and info.json: what a report needs of a model.

    Raises UserError for files that are missing, damaged or do not fit each other.
    """
    try:
        info = checked_info(read_object(folder / INFO))
        reference = _tensors(folder / REFERENCE)
        kl = reference.get("kl")
        check_reference(reference, kl.shape[0] if kl is not None and kl.ndim else 0, len(info["classes"]))
        check_factors(reference, info)
    except Exception as error:  # safetensors raises errors of its own
        reason = shortened(str(error) or type(error).__name__)
        raise UserError(f"{folder} has no whole {REFERENCE} and {INFO}: {reason}") from error
    return reference, info


def _tensors(path: Path) -> Mapping[str, Tensor]:
    # A pipe would be waited for.
    if not path.is_file():
        raise UserError(f"there is no file {path.name}")
    tensors: Mapping[str, Tensor] = load_file(path)
    return tensors


def _reason(path: Path) -> str:
    with path.open("rb") as file:
        return shortened(file.read(4096).decode(errors="replace"))


def _config(content: Mapping[str, Any], info: Mapping[str, Any], open_data: bool) -> TrainConfig:
    """Make the saved configuration.

    A data set that names files becomes an ``Elsewhere``, unless ``open_data`` is True and they are there.
    """
    if content.get("type") != "TrainConfig":
        raise UserError(f"type {shortened(repr(content.get('type')))} of a saved configuration is not TrainConfig")
    since = content.get("format", DESCRIBED)
    if type(since) is not int or not DESCRIBED <= since <= FORMAT:
        raise UserError(
            f"format of {CONFIG} must be from {DESCRIBED} to {FORMAT}, but is {shortened(repr(since))}; "
            "a newer release may read it"
        )
    content = of_today(content, since)
    data, there = _data(content.get("data"), info, open_data)
    apart = ("type", "format", "data", "scores", "monitors")
    rest = {name: from_json(value) for name, value in content.items() if name not in apart}
    # Scores need the data, so a model without it has none.
    scores = from_json(content.get("scores", [])) if there else ()
    monitors = from_json(content.get("monitors")) if there else ()
    config = make(TrainConfig, rest | {"data": data, "scores": scores, "monitors": monitors})
    assert isinstance(config, TrainConfig)
    return config


def _data(content: Any, info: Mapping[str, Any], open_data: bool) -> tuple[Any, bool]:
    """Make the saved data set, and tell whether it can be opened."""
    why = "the files that a model names as its data are not opened for it"

    def instead(described: Mapping[str, Any]) -> Elsewhere:
        return Elsewhere(json.dumps(described), tuple(info["shape"]), tuple(info["classes"]), why)

    if not names_files(content):
        return from_json(content), True
    if open_data:
        try:
            data = from_json(content)
            data.shape, data.classes  # noqa: B018
        except UserError:
            why = "the data that the model was trained on is missing"
        else:
            return data, True
    return from_json(content, instead), False


def device_of(model: Autoencoder) -> torch.device:
    """Return the device of the model's parameters."""
    return next(model.parameters()).device
