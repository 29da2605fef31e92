"""Checks of a saved model, before anything is built that it describes."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from aesearch.errors import UserError
from aesearch.model.json_values import shortened
from aesearch.train import TrainConfig

MOST_VALUES = 2**26  # of an item: an image of 8,192 x 8,192
FLOATS, WHOLE = (torch.float32, torch.float64), (torch.int64,)
# The tensors of reference.safetensors with their axes: N items of val, L entries of a code.
REFERENCES = {
    "error": ("N", FLOATS),
    "elbo": ("N", FLOATS),
    "labels": ("N", WHOLE),
    "codes": ("NL", FLOATS),
    "indices": ("N*", WHOLE),
    "factors": ("N*", WHOLE),
    "kl": ("L", FLOATS),
}


def replicas_of(weights: Mapping[str, Tensor]) -> int:
    """Count the replicas of a model's weights, each (R, ...).

    Raises UserError for no weights, and for tensors of different R.
    """
    counts = {tensor.shape[0] if tensor.ndim else 0 for tensor in weights.values()}
    if len(counts) != 1 or 0 in counts:
        raise UserError(
            f"the weights must have one first axis for replicas, of at least 1, but have {sorted(counts)[:5]} "
            f"in {len(weights)} tensors"
        )
    return counts.pop()


def check_weights(config: TrainConfig, weights: Mapping[str, Tensor]) -> None:
    """Compare names, shapes and types of the weights with those of the configuration.

    No memory is taken for the model: it is built on torch's meta device, and never has more layers than there are
    weights.

    weights: parameters and buffers by name, each (R, ...).
    Raises UserError where they differ.
    """
    with torch.device("meta"), _parameters_at_most(len(weights)):
        expected = config.build().state_dict()
    for name, tensor in expected.items():
        if name not in weights:
            raise UserError(f"the weights do not fit the configuration: {name} is missing")
        found = weights[name]
        if found.shape[1:] != tensor.shape or found.dtype != tensor.dtype:
            raise UserError(
                f"the weights do not fit the configuration: {name} must be {_shown(tensor)}, but is {_shown(found[0])}"
            )
    if extra := sorted(weights.keys() - expected.keys()):
        raise UserError(f"the weights do not fit the configuration: it has no {shortened(extra[0])}")


def _shown(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


@contextmanager
def _parameters_at_most(count: int) -> Iterator[None]:
    """Let modules have ``count`` parameters together, while the context lasts.

    A configuration of a few bytes can ask for 10^9 layers: building them takes memory on any device.
    """
    left = count

    def counted(module: nn.Module, name: str, parameter: nn.Parameter) -> None:  # noqa: ARG001
        nonlocal left
        left -= 1
        if left < 0:
            raise UserError(f"the weights do not fit the configuration: it has more parameters than the {count} saved")

    hook = register_module_parameter_registration_hook(counted)
    try:
        yield
    finally:
        hook.remove()


def checked_info(content: Mapping[str, Any]) -> dict[str, Any]:
    """Check the entries of info.json by themselves, and add defaults.

    Raises UserError for an entry that is missing or of another form.
    """
    info = {"fitted": {}, "metrics": {}} | dict(content)
    for name in ("shape", "classes", "replica"):
        _require(name in info, f"info.json must have {name}, but has {', '.join(sorted(content)[:9]) or 'nothing'}")
    shape, fitted = info["shape"], info["fitted"]
    whole = isinstance(shape, list) and len(shape) == 3 and all(_is_count(side) for side in shape)
    _require(
        whole and math.prod(shape) <= MOST_VALUES,
        f"shape of info.json must be 3 whole numbers of at most {MOST_VALUES:,} values together, but is {_text(shape)}",
    )
    _require(_are_texts(info["classes"]), f"classes of info.json must be texts, but are {_text(info['classes'])}")
    _require(
        type(info["replica"]) is int and info["replica"] >= 0,
        f"replica of info.json must be a whole number, but is {_text(info['replica'])}",
    )
    _require(isinstance(fitted, dict), f"fitted of info.json must be an object, but is {_text(fitted)}")
    if fitted:
        _check_fitted(fitted, shape)
    return info


def check_info(info: Mapping[str, Any], config: TrainConfig, replicas: int) -> None:
    """Compare info.json with the configuration and the number of replicas.

    Raises UserError where they differ.
    """
    shape, classes = tuple(info["shape"]), len(config.data.classes)
    _require(shape == config.data.shape, f"shape of info.json must be {config.data.shape}, but is {shape}")
    _require(
        len(info["classes"]) == classes,
        f"classes of info.json must be {classes} as in the configuration, but are {len(info['classes'])}",
    )
    _require(
        info["replica"] < replicas,
        f"replica of info.json must be from 0 to {replicas - 1}, but is {info['replica']}",
    )
    metrics = info["metrics"]
    _require(
        isinstance(metrics, dict) and all(_are_numbers(values, replicas) for values in metrics.values()),
        f"metrics of info.json must be lists of {replicas} numbers or more, but are {_text(metrics)}",
    )


def check_reference(reference: Mapping[str, Tensor], latent_dim: int, classes: int) -> None:
    """Check the tensors of reference.safetensors.

    latent_dim: the length L of a code.
    classes: the number of classes of the data.
    Raises UserError for one of another shape or type, and for labels out of range.
    """
    known = {name: tensor for name, tensor in reference.items() if name in REFERENCES}
    items = {len(tensor) for name, tensor in known.items() if tensor.ndim and name != "kl"}
    sizes = {"N": next(iter(items), 0), "L": latent_dim}
    for name, tensor in known.items():
        axes, kinds = REFERENCES[name]
        fits = tensor.ndim == len(axes) and all(
            size == sizes.get(axis, size) and size > 0 for axis, size in zip(axes, tensor.shape, strict=False)
        )
        _require(
            fits and tensor.dtype in kinds and len(items) < 2,
            f"{name} of reference.safetensors must have the axes ({', '.join(axes)}) with L={latent_dim}, and "
            f"{_dtypes(kinds)} numbers, but is {_shown(tensor)}",
        )
    labels = known.get("labels")
    _require(
        labels is None or bool(((labels >= 0) & (labels < classes)).all()),
        f"labels of reference.safetensors must be below {classes}, the number of classes, but some are not",
    )


def check_factors(reference: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Check that info.json names each factor of reference.safetensors.

    Raises UserError.
    """
    names, factors = info.get("factors"), reference.get("factors")
    _require(
        factors is None or (factors.ndim == 2 and _are_texts(names) and len(names or ()) == factors.shape[1]),
        f"factors of info.json must be a text for each column of reference.safetensors, but are {_text(names)}",
    )


def _check_fitted(fitted: Mapping[str, Any], shape: list[int]) -> None:
    columns = fitted.get("columns")
    if columns is None:
        return
    good = isinstance(columns, list) and all(isinstance(rule, dict) and _is_rule(rule) for rule in columns)
    _require(good, f"fitted of info.json must say how each column is scaled, but says {_text(columns)}")
    width = sum(len(rule.get("levels", [""])) for rule in columns)
    _require([1, 1, width] == shape, f"fitted of info.json must make items of {shape}, but makes {width} columns")
    for name in ("left_out", "classes"):
        given = fitted.get(name)
        _require(_are_texts(given), f"{name} of fitted in info.json must be texts, but are {_text(given)}")
    label = fitted.get("label")
    _require(
        label is None or isinstance(label, str), f"label of fitted in info.json must be text, but is {_text(label)}"
    )


def _is_rule(rule: Mapping[str, Any]) -> bool:
    if not isinstance(rule.get("name"), str):
        return False
    if "levels" in rule:
        return _are_texts(rule["levels"])
    scale: list[Any] = [rule.get("centre"), rule.get("spread")]
    return _are_numbers(scale) and all(map(math.isfinite, scale)) and rule["spread"] > 0


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _are_numbers(value: Any, least: int = 0) -> bool:
    # JSON has whole numbers of any length, which no float holds.
    return (
        isinstance(value, list)
        and len(value) >= least
        and all(isinstance(item, float) or (type(item) is int and abs(item) < 2**63) for item in value)
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _dtypes(kinds: tuple[torch.dtype, ...]) -> str:
    return " or ".join(str(kind).removeprefix("torch.") for kind in kinds)


def _text(value: Any) -> str:
    return shortened(repr(value))


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise UserError(otherwise)
