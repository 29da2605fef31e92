"""Layers that the networks share."""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from aesearch.errors import UserError, nearest

Norm = Literal["none", "batch", "group"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
}
NORMS = ("none", "batch", "group")
GROUPS = 8


class Dropout(nn.Module):
    """Dropout whose masks repeat: zeros with probability ``rate`` in training.

    The rest is scaled by 1 / (1 - rate).
    The mask is a hash of a counter that lives in a buffer, so that a replica draws the same masks alone, in
    vmapped company and after a checkpoint; PyTorch's dropout draws from one global generator.
    Srivastava et al., "Dropout", JMLR 2014.
    """

    key: Tensor

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("key", torch.randint(2**31, (), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        self.key.add_(1)
        place = torch.arange(x.numel(), device=x.device).view(x.shape)
        # Two rounds of the 32-bit finaliser of MurmurHash3, the key between them.
        bits = _mix(_mix(place) ^ _mix(self.key))
        kept = bits >= int(self.rate * 2**32)
        return x * kept / (1 - self.rate)


def _mix(h: Tensor) -> Tensor:
    """Scatter neighbours: a bijection of 32-bit numbers (MurmurHash3's fmix32).

    The numbers are held in int64.
    """
    h = h & 0xFFFFFFFF
    h = (h ^ (h >> 16)) * 0x85EBCA6B & 0xFFFFFFFF
    h = (h ^ (h >> 13)) * 0xC2B2AE35 & 0xFFFFFFFF
    return h ^ (h >> 16)


def check(widths: tuple[int, ...], name: str, activation: str, dropout: float, norm: str = "none") -> None:
    """Check the fields of a network.

    Raises UserError for widths, an activation, a norm or a dropout rate that no network can have.
    """
    if not widths or min(widths) < 1:
        raise UserError(f"{name} must be a tuple of at least one positive width, but got {name}={widths}")
    if activation not in ACTIVATIONS:
        raise UserError(f"unknown activation {activation!r}: {nearest(activation, ACTIVATIONS)}")
    if norm not in NORMS:
        raise UserError(f"unknown norm {norm!r}: {nearest(norm, NORMS)}")
    if not 0 <= dropout < 1:
        raise UserError(f"dropout must be at least 0 and below 1, but got dropout={dropout}")


def normalised(channels: int, norm: str) -> list[nn.Module]:
    """Build the layer that normalises ``channels`` maps, or none.

    Ioffe and Szegedy, "Batch Normalization", ICML 2015; Wu and He, "Group Normalization", ECCV 2018.
    """
    if norm == "batch":
        return [nn.BatchNorm2d(channels)]
    if norm == "group":
        return [nn.GroupNorm(next(g for g in range(min(GROUPS, channels), 0, -1) if channels % g == 0), channels)]
    return []


def dropped(rate: float) -> list[nn.Module]:
    """Build a list with a dropout layer, or an empty one where ``rate`` is 0."""
    return [Dropout(rate)] if rate else []


def dense(widths: list[int], activation: str, dropout: float = 0.0) -> list[nn.Module]:
    """Build linear layers through ``widths``.

    An activation, and dropout, follow each but the last.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation](), *dropped(dropout)]
    return layers[: -2 if dropout else -1]
