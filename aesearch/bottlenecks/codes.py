"""Codes, which say their own densities, and the bottlenecks that make them.

    Code             the numbers that stand for an image
    RandomCode       and samples of a posterior q(z | x): log q and log p of the samples, the KL to the prior
    FactorisedCode   and units that are independent of each other given the image: the KL of each
    GaussianCode     and each unit normal: its log variance

An objective or a score names the kind of code that it needs, and asks no more of it.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import ClassVar, Self

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Code:
    """The code of a batch. B is the number of images, S of samples, L the length of the code.

    mean: (B, L) the code that stands for an image: exactly the posterior's mean where it is Gaussian, and otherwise
    what no noise leads to. samples: (S, B, L) codes to decode, all equal to ``mean`` where nothing is random.
    penalty: (B,) what the bottleneck adds to the loss, or None. indices: (B, G) the codebook's entries at the G places
    of the code, or None.
    """

    kind: ClassVar[str] = "a code"
    mean: Tensor
    samples: Tensor
    _: KW_ONLY
    penalty: Tensor | None = None
    indices: Tensor | None = None

    def widened(self) -> Self:
        """Give the same code in float32, for losses after a pass in lower precision."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value.float() for name, value in found.items() if _floats(value)})


def _floats(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


@dataclass(frozen=True, eq=False)
class RandomCode(Code, ABC):
    """A code with a posterior q(z | x), from which its samples are drawn, and a prior p(z).

    log_prior: (S, B) log p(z) of the samples in nats where the prior is learned; None for the standard normal.
    """

    kind: ClassVar[str] = "a posterior"
    _: KW_ONLY
    log_prior: Tensor | None = None

    @abstractmethod
    def log_q(self) -> Tensor:
        """Give log q(z | x) of the samples, (S, B), in nats."""

    @abstractmethod
    def exact_kl(self) -> Tensor | None:
        """Give KL(q(z | x) || p(z)), (B,), in nats; None where it has no closed form."""

    def log_p(self) -> Tensor:
        """Give log p(z) of the samples, (S, B), in nats."""
        if self.log_prior is not None:
            return self.log_prior
        return -0.5 * (self.samples**2 + math.log(2 * math.pi)).sum(-1)

    def kl(self) -> Tensor:
        """Give KL(q(z | x) || p(z)), (B,), in nats: exact, or where it cannot be the mean log q - log p of the samples.

        Kingma and Welling 2014, section 2.3: the second is unbiased, but needs samples.
        """
        exact = self.exact_kl()
        return (self.log_q() - self.log_p()).mean(0) if exact is None else exact


@dataclass(frozen=True, eq=False)
class FactorisedCode(RandomCode, ABC):
    """A random code whose units are independent of each other given the image."""

    kind: ClassVar[str] = "a posterior with independent units"

    @abstractmethod
    def unit_kl(self) -> Tensor:
        """Give the KL of each unit from the standard normal, whatever the prior: (B, L), in nats."""

    def exact_kl(self) -> Tensor | None:
        return self.unit_kl().sum(1) if self.log_prior is None else None


class Bottleneck(ABC):
    """A frozen value that builds the module between an encoder and its decoder.

    makes: the kind of its codes. spatial: whether the code keeps a vector for each place of a grid.
    """

    makes: ClassVar[type[Code]]
    spatial: ClassVar[bool] = False

    @property
    def variational(self) -> bool:
        """Whether its codes are random, with a prior to sample from."""
        return issubclass(self.makes, RandomCode)

    @abstractmethod
    def outputs(self, latent_dim: int) -> int:
        """Count the numbers (or maps) that the encoder must give for a code of ``latent_dim``."""

    @abstractmethod
    def build(self, latent_dim: int) -> nn.Module:
        """Make a module from an encoder's output and standard normal noise (S, B, latent_dim) to a Code.

        Its ``mean`` must not depend on the noise, of which there may be none (S = 0).
        """
