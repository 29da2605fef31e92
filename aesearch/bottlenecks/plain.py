"""Plain codes: the encoder's output itself."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from aesearch.bottlenecks.codes import Bottleneck, Code


@dataclass(frozen=True)
class Plain(Bottleneck):
    """Code that is the encoder's output.

    nonnegative: True sets negative entries to 0, as a sparse code needs.
    """

    nonnegative: bool = False
    makes: ClassVar[type[Code]] = Code

    def outputs(self, latent_dim: int) -> int:
        return latent_dim

    def build(self, latent_dim: int) -> nn.Module:  # noqa: ARG002
        return _Plain(self.nonnegative)


@dataclass(frozen=True, eq=False)
class BoundedCode(Code):
    """Code whose entries are between 0 and 1."""

    kind: ClassVar[str] = "a code between 0 and 1"


@dataclass(frozen=True)
class Sigmoid(Bottleneck):
    """Code between 0 and 1: the sigmoid of the encoder's output."""

    makes: ClassVar[type[Code]] = BoundedCode

    def outputs(self, latent_dim: int) -> int:
        return latent_dim

    def build(self, latent_dim: int) -> nn.Module:  # noqa: ARG002
        return _Sigmoid()


class _Sigmoid(nn.Module):
    def forward(self, features: Tensor, noise: Tensor) -> BoundedCode:
        code = torch.sigmoid(features)
        return BoundedCode(code, code.expand(len(noise), *code.shape))


class _Plain(nn.Module):
    def __init__(self, nonnegative: bool) -> None:
        super().__init__()
        self.nonnegative = nonnegative

    def forward(self, features: Tensor, noise: Tensor) -> Code:
        code = features.relu() if self.nonnegative else features
        return Code(code, code.expand(len(noise), *code.shape))
