"""Corruptions of an image before it is encoded.

The reconstruction is compared with the clean image.
Vincent et al., "Extracting and Composing Robust Features with Denoising Autoencoders", ICML 2008.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from aesearch.errors import UserError


class Corruption(ABC):
    """A frozen value: a random change of images."""

    @abstractmethod
    def corrupt(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Images (B, C, H, W) in, corrupted ones of the same shape out."""


@dataclass(frozen=True)
class GaussianNoise(Corruption):
    """Normal noise with standard deviation ``std``, added to each pixel.

    Pixels are in [0, 1]; the result is not clipped.
    """

    std: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.std < float("inf"):
            raise UserError(f"std must be above 0, but got std={self.std}")

    def corrupt(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return x + self.std * torch.randn(x.shape, generator=generator, device=x.device)


@dataclass(frozen=True)
class Masking(Corruption):
    """Zeros in place of each pixel with probability ``rate``, in all its channels.

    In a table, a pixel is a column.
    """

    rate: float = 0.25

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def corrupt(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return x * (_uniform(x, generator) >= self.rate)


@dataclass(frozen=True)
class SaltAndPepper(Corruption):
    """Zeros and ones in place of pixels, either with probability ``rate`` / 2.

    A pixel changes in all its channels at once.
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def corrupt(self, x: Tensor, generator: torch.Generator) -> Tensor:
        drawn = _uniform(x, generator)
        peppered = torch.where(drawn < self.rate / 2, 0.0, x)
        return torch.where(drawn >= 1 - self.rate / 2, 1.0, peppered)


def _uniform(x: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a number in [0, 1) for each pixel, (B, 1, H, W)."""
    return torch.rand((len(x), 1, *x.shape[2:]), generator=generator, device=x.device)


def _check_rate(rate: float) -> None:
    if not 0 < rate < 1:
        raise UserError(f"rate must be above 0 and below 1, but got rate={rate}")
