"""Fully connected networks, for images and for tables."""

import math
from dataclasses import dataclass

from torch import nn

from aesearch.networks.layers import check, dense
from aesearch.networks.network import Network, Shape


@dataclass(frozen=True)
class MLP(Network):
    """Fully connected network of the ``hidden`` widths.

    The decoder mirrors the encoder unless it is given its own widths. dropout: the probability with which each hidden
    activation is zeroed in training.
    """

    hidden: tuple[int, ...] = (256, 256)
    activation: str = "silu"
    dropout: float = 0.0
    decoder_hidden: tuple[int, ...] | None = None
    decoder_activation: str | None = None

    def __post_init__(self) -> None:
        check(self.hidden, "hidden", self.activation, self.dropout)
        check(self._decoder_hidden, "decoder_hidden", self._decoder_activation, self.dropout)

    @property
    def _decoder_hidden(self) -> tuple[int, ...]:
        return self.hidden[::-1] if self.decoder_hidden is None else self.decoder_hidden

    @property
    def _decoder_activation(self) -> str:
        return self.decoder_activation or self.activation

    @property
    def stateful(self) -> bool:
        return self.dropout > 0

    def encoder(self, shape: Shape, outputs: int) -> nn.Module:
        widths = [math.prod(shape), *self.hidden, outputs]
        return nn.Sequential(nn.Flatten(), *dense(widths, self.activation, self.dropout))

    def decoder(self, latent_dim: int, shape: Shape) -> nn.Module:
        widths = [latent_dim, *self._decoder_hidden, math.prod(shape)]
        return nn.Sequential(*dense(widths, self._decoder_activation, self.dropout), nn.Unflatten(1, shape))


def MLP1200() -> MLP:
    """Two ReLU layers of 1,200 to encode, three tanh layers of 1,200 to decode.

    Chen et al., "Isolating Sources of Disentanglement in VAEs", NeurIPS 2018, for dSprites.
    """
    return MLP((1200, 1200), "relu", decoder_hidden=(1200, 1200, 1200), decoder_activation="tanh")
