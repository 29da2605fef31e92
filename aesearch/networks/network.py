"""Base of the networks: values that build an encoder and its decoder."""

from abc import ABC, abstractmethod

from torch import nn

from aesearch.errors import UserError

Shape = tuple[int, int, int]


class Network(ABC):
    """A frozen value that builds an encoder and its decoder."""

    @property
    @abstractmethod
    def stateful(self) -> bool:
        """True where a pass in training changes buffers: batch norm and dropout do."""

    @abstractmethod
    def encoder(self, shape: Shape, outputs: int) -> nn.Module:
        """Build a module from images (B, C, H, W) to (B, outputs).

        Raises UserError if ``shape`` is too small.
        """

    @abstractmethod
    def decoder(self, latent_dim: int, shape: Shape) -> nn.Module:
        """Build a module from codes (B, latent_dim) to logits (B, C, H, W).

        Its last layer is no sigmoid: losses take logits.
        """


class GridNetwork(Network):
    """Network that can also keep a code for each place of a coarse grid."""

    @abstractmethod
    def grid(self, shape: Shape) -> tuple[int, int]:
        """Compute (height, width) of the grid for images of ``shape``.

        Raises UserError if ``shape`` is too small.
        """

    @abstractmethod
    def grid_encoder(self, shape: Shape, outputs: int) -> nn.Module:
        """Build a module from images (B, C, H, W) to (B, outputs, height, width)."""

    @abstractmethod
    def grid_decoder(self, inputs: int, shape: Shape) -> nn.Module:
        """Build a module from (B, inputs, height, width) to logits (B, C, H, W)."""


def halvings(shape: Shape, channels: tuple[int, ...], kernel: int) -> list[tuple[int, int]]:
    """List (height, width) before the first convolution of stride 2 and after each.

    Raises UserError where nothing is left.
    """
    padding = (kernel - 1) // 2
    sizes = [(shape[1], shape[2])]
    for _ in channels:
        height, width = ((size + 2 * padding - kernel) // 2 + 1 for size in sizes[-1])
        if min(height, width) < 1 or min(sizes[-1]) < 2:
            raise UserError(
                f"an image of {shape[1]}x{shape[2]} can be halved at most {len(sizes) - 1} times, "
                f"but got {len(channels)} channels={channels}"
            )
        sizes.append((height, width))
    return sizes
