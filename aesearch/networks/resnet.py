"""Residual networks.

He, Zhang, Ren, Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from aesearch.errors import UserError
from aesearch.networks.layers import ACTIVATIONS, Norm, check, dropped, normalised
from aesearch.networks.network import GridNetwork, Shape, halvings

KERNEL = 3


class _Block(nn.Module):
    """x + conv(act(norm(conv(act(norm(x))))))."""

    def __init__(self, channels: int, activation: str, norm: str, dropout: float) -> None:
        super().__init__()
        # Batch norm takes a bias away again; its gradient would be rounding, which Adam scales up.
        first = nn.Conv2d(channels, channels, 3, padding=1, bias=norm != "batch")
        half = [*normalised(channels, norm), ACTIVATIONS[activation](), first]
        other = [*normalised(channels, norm), ACTIVATIONS[activation](), *dropped(dropout)]
        self.residual = nn.Sequential(*half, *other, nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.residual(x)
        return out


@dataclass(frozen=True)
class ResNet(GridNetwork):
    """Residual network that halves the image once per entry of ``channels``.

    Each halving is a convolution of stride 2, then ``blocks`` residual blocks. The decoder mirrors it.
    The decoder enlarges by nearest neighbours and convolves, which leaves no checkerboard (Odena et al., 2016).
    """

    channels: tuple[int, ...] = (32, 64)
    blocks: int = 1
    activation: str = "silu"
    norm: Norm = "group"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check(self.channels, "channels", self.activation, self.dropout, self.norm)
        if self.blocks < 1:
            raise UserError(f"blocks must be at least 1, but got blocks={self.blocks}")

    @property
    def stateful(self) -> bool:
        return self.norm == "batch" or self.dropout > 0

    def grid(self, shape: Shape) -> tuple[int, int]:
        return halvings(shape, self.channels, KERNEL)[-1]

    def encoder(self, shape: Shape, outputs: int) -> nn.Module:
        flat = self.channels[-1] * math.prod(self.grid(shape))
        return nn.Sequential(*self._maps(shape), nn.Flatten(), nn.Linear(flat, outputs))

    def decoder(self, latent_dim: int, shape: Shape) -> nn.Module:
        smallest = (self.channels[-1], *self.grid(shape))
        dense = nn.Linear(latent_dim, math.prod(smallest))
        return nn.Sequential(dense, nn.Unflatten(1, smallest), *self._unmaps(shape))

    def grid_encoder(self, shape: Shape, outputs: int) -> nn.Module:
        return nn.Sequential(*self._maps(shape), nn.Conv2d(self.channels[-1], outputs, 1))

    def grid_decoder(self, inputs: int, shape: Shape) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, self.channels[-1], 3, padding=1), *self._unmaps(shape))

    def _stage(self, channels: int) -> list[nn.Module]:
        return [_Block(channels, self.activation, self.norm, self.dropout) for _ in range(self.blocks)]

    def _activated(self, channels: int) -> list[nn.Module]:
        return [*normalised(channels, self.norm), ACTIVATIONS[self.activation]()]

    def _maps(self, shape: Shape) -> list[nn.Module]:
        self.grid(shape)
        layers: list[nn.Module] = []
        for inputs, channels in pairwise((shape[0], *self.channels)):
            layers += [nn.Conv2d(inputs, channels, KERNEL, stride=2, padding=1), *self._stage(channels)]
        return [*layers, *self._activated(self.channels[-1])]

    def _unmaps(self, shape: Shape) -> list[nn.Module]:
        sizes = halvings(shape, self.channels, KERNEL)[::-1]
        widths = (*reversed(self.channels), self.channels[0])
        layers: list[nn.Module] = []
        for (inputs, outputs), size in zip(pairwise(widths), sizes[1:], strict=True):
            layers += [*self._stage(inputs), nn.Upsample(size=size), nn.Conv2d(inputs, outputs, 3, padding=1)]
        return [*layers, *self._activated(self.channels[0]), nn.Conv2d(self.channels[0], shape[0], 3, padding=1)]
