"""Codes, which compute their own densities, and the base of bottlenecks.

Each kind of code adds to the one before:

    Code             the numbers that stand for an image
    RandomCode       samples of a posterior q(z | x), with log q, log p and the KL to the prior
    FactorisedCode   units that are independent of each other given the image, with the KL of each
    GaussianCode     normal units, with their log variances

An objective or a score names the kind of code that it needs, and uses nothing beyond it.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import ClassVar, Self

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Code:
    """Code of a batch of B images, with S samples of length L.

    mean: (B, L) the code that stands for an image: the mean of a Gaussian posterior; of another code, the value
    without noise.
    samples: (S, B, L) codes to decode; all equal to ``mean`` where nothing is random.
    penalty: (B,) the term that the bottleneck adds to the loss, in nats, or None.
    indices: (B, G) the codebook's entries at the G places of the code, or None.
    """

    kind: ClassVar[str] = "a code"
    mean: Tensor
    samples: Tensor
    _: KW_ONLY
    penalty: Tensor | None = None
    indices: Tensor | None = None

    def widened(self) -> Self:
        """Convert the code to float32, for losses after a pass in lower precision."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value.float() for name, value in found.items() if _floats(value)})


def _floats(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


@dataclass(frozen=True, eq=False)
class RandomCode(Code, ABC):
    """Code with a prior p(z), and samples drawn from a posterior q(z | x).

    log_prior: (S, B) log p(z) of the samples under a learned prior, in nats; None for the standard normal.
    """

    kind: ClassVar[str] = "a posterior"
    _: KW_ONLY
    log_prior: Tensor | None = None

    @abstractmethod
    def log_q(self) -> Tensor:
        """Compute log q(z | x) of the samples, (S, B), in nats."""

    @abstractmethod
    def exact_kl(self) -> Tensor | None:
        """Compute KL(q(z | x) || p(z)), (B,), in nats; None without a closed form."""

    def log_p(self) -> Tensor:
        """Compute log p(z) of the samples, (S, B), in nats."""
        if self.log_prior is not None:
            return self.log_prior
        return -0.5 * (self.samples**2 + math.log(2 * math.pi)).sum(-1)

    def kl(self) -> Tensor:
        """Compute KL(q(z | x) || p(z)), (B,), in nats.

        It is exact where it has a closed form. Otherwise it is the mean of log q - log p over the samples, which is an
        unbiased estimate.
        Source: Kingma and Welling 2014, section 2.3.
        """
        exact = self.exact_kl()
        return (self.log_q() - self.log_p()).mean(0) if exact is None else exact


@dataclass(frozen=True, eq=False)
class FactorisedCode(RandomCode, ABC):
    """Random code whose units are independent of each other given the image."""

    kind: ClassVar[str] = "a posterior with independent units"

    @abstractmethod
    def unit_kl(self) -> Tensor:
        """Compute each unit's KL to the standard normal, (B, L), in nats.

        It does not depend on the prior.
        """

    def exact_kl(self) -> Tensor | None:
        return self.unit_kl().sum(1) if self.log_prior is None else None


class Bottleneck(ABC):
    """Frozen value that builds the module between an encoder and its decoder.

    makes: the kind of its codes.
    spatial: True if the code has a vector for each place of a grid.
    """

    makes: ClassVar[type[Code]]
    spatial: ClassVar[bool] = False

    @property
    def variational(self) -> bool:
        """True if its codes are random, with a prior to sample from."""
        return issubclass(self.makes, RandomCode)

    @abstractmethod
    def outputs(self, latent_dim: int) -> int:
        """Count the numbers, or maps, that the encoder must give for ``latent_dim``."""

    @abstractmethod
    def build(self, latent_dim: int) -> nn.Module:
        """Build the module that turns an encoder's output and noise into a Code.

        The noise is standard normal, (S, B, latent_dim). There may be none (S = 0), so the code's ``mean`` must not
        depend on it.
        """
