"""Convolutional networks."""

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from aesearch.errors import UserError
from aesearch.networks.layers import ACTIVATIONS, Norm, check, dense, dropped, normalised
from aesearch.networks.network import GridNetwork, Shape, halvings


@dataclass(frozen=True)
class Conv(GridNetwork):
    """Convolutional network that halves the image once per entry of ``channels``.

    A dense layer follows. The decoder mirrors both with transposed convolutions; odd sizes are restored exactly.
    dense: the width of the layer between the last map and the code; 0 leaves it out. dropout: the probability with
    which each value of the maps and of the dense layer is zeroed in training.
    """

    channels: tuple[int, ...] = (32, 64)
    dense: int = 256
    activation: str = "silu"
    kernel: int = 4
    norm: Norm = "none"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check(self.channels, "channels", self.activation, self.dropout, self.norm)
        if self.dense < 0:
            raise UserError(f"dense must be a width, or 0 for none, but got dense={self.dense}")
        if not 2 <= self.kernel <= 7:
            raise UserError(f"kernel must be from 2 to 7 pixels, but got kernel={self.kernel}")

    @property
    def stateful(self) -> bool:
        return self.norm == "batch" or self.dropout > 0

    def grid(self, shape: Shape) -> tuple[int, int]:
        return halvings(shape, self.channels, self.kernel)[-1]

    def encoder(self, shape: Shape, outputs: int) -> nn.Module:
        widths = [self.channels[-1] * math.prod(self.grid(shape)), *([self.dense] if self.dense else []), outputs]
        return nn.Sequential(*self._maps(shape), nn.Flatten(), *dense(widths, self.activation, self.dropout))

    def decoder(self, latent_dim: int, shape: Shape) -> nn.Module:
        smallest = (self.channels[-1], *self.grid(shape))
        widths = [latent_dim, *([self.dense] if self.dense else []), math.prod(smallest)]
        layers = dense(widths, self.activation, self.dropout)
        return nn.Sequential(*layers, nn.Unflatten(1, smallest), *self._unmaps(shape))

    def grid_encoder(self, shape: Shape, outputs: int) -> nn.Module:
        return nn.Sequential(*self._maps(shape), nn.Conv2d(self.channels[-1], outputs, 1))

    def grid_decoder(self, inputs: int, shape: Shape) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, self.channels[-1], 3, padding=1), *self._unmaps(shape))

    @property
    def _biased(self) -> bool:
        """False with batch norm, which takes a bias away again.

        The gradient of such a bias would be rounding, which Adam scales up.
        """
        return self.norm != "batch"

    def _after(self, channels: int) -> list[nn.Module]:
        return [*normalised(channels, self.norm), ACTIVATIONS[self.activation](), *dropped(self.dropout)]

    def _maps(self, shape: Shape) -> list[nn.Module]:
        """From images to the activated last maps."""
        self.grid(shape)
        layers: list[nn.Module] = []
        for inputs, channels in pairwise((shape[0], *self.channels)):
            padding = (self.kernel - 1) // 2
            convolution = nn.Conv2d(inputs, channels, self.kernel, stride=2, padding=padding, bias=self._biased)
            layers += [convolution, *self._after(channels)]
        return layers

    def _unmaps(self, shape: Shape) -> list[nn.Module]:
        """From the last maps, not yet activated, to logits."""
        sizes = halvings(shape, self.channels, self.kernel)[::-1]
        channels = (*reversed(self.channels), shape[0])
        padding = (self.kernel - 1) // 2
        layers: list[nn.Module] = []
        for (inputs, outputs), (small, large) in zip(pairwise(channels), pairwise(sizes), strict=True):
            odd = [size - (2 * (part - 1) - 2 * padding + self.kernel) for part, size in zip(small, large, strict=True)]
            last = large == sizes[-1]
            up = nn.ConvTranspose2d(
                inputs, outputs, self.kernel, 2, padding, output_padding=(odd[0], odd[1]), bias=last or self._biased
            )
            layers += [*self._after(inputs), up]
        return layers


def Burgess() -> Conv:
    """Build the convolutional network of the disentanglement literature.

    Four convolutions of 32, 32, 64 and 64 maps with kernel 4, a dense layer of 256, ReLU.
    Burgess et al., "Understanding disentangling in beta-VAE", 2018, in the widths of Locatello et al., ICML 2019.
    """
    return Conv((32, 32, 64, 64), dense=256, activation="relu")
