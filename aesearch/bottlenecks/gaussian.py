"""Diagonal Gaussian posterior, with a standard normal or a learned prior."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from aesearch.bottlenecks.codes import Bottleneck, Code, FactorisedCode
from aesearch.errors import UserError


def gaussian_log_density(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Compute log N(z; mean, exp(log_var)) summed over the last axis, in nats."""
    return -0.5 * ((z - mean) ** 2 / log_var.exp() + log_var + 1.8378770664093453).sum(-1)


def gaussian_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """Compute KL(N(mean, exp(log_var)) || N(0, 1)) of each unit, in nats.

    mean, log_var: (B, L) means and log variances of the posteriors. Gives (B, L).
    Source: Kingma and Welling 2014, appendix B.
    """
    return 0.5 * (mean**2 + log_var.exp() - 1 - log_var)


@dataclass(frozen=True, eq=False)
class GaussianCode(FactorisedCode):
    """Code with the posterior N(mean, exp(log_var)).

    log_var: (B, L) the log variances.
    """

    kind: ClassVar[str] = "a diagonal Gaussian posterior"
    log_var: Tensor

    def log_q(self) -> Tensor:
        return self.log_density(self.samples)

    def log_density(self, z: Tensor) -> Tensor:
        """Compute log q(z | x) of any codes, (..., B), in nats.

        z: (..., B, L), or (..., 1, L) for the same codes under the posterior of each image.
        """
        return gaussian_log_density(z, self.mean, self.log_var)

    def unit_kl(self) -> Tensor:
        return gaussian_kl(self.mean, self.log_var)


@dataclass(frozen=True)
class VampPrior:
    """Learned prior: the mean of the posteriors of learned pseudo-inputs.

    components: the number of pseudo-inputs, at least 1.
    bounded: True clips pseudo-inputs that are images to [0, 1], as the authors do; False lets them leave the range of
    pixels, as release 0.1.0 did. Those of a table are never clipped.
    Raises UserError for fewer components.
    Source: Tomczak and Welling, "VAE with a VampPrior", AISTATS 2018, equation 9.
    """

    components: int = 100
    bounded: bool = True

    def __post_init__(self) -> None:
        if self.components < 1:
            raise UserError(f"components must be at least 1, but got components={self.components}")


@dataclass(frozen=True)
class Gaussian(Bottleneck):
    """Diagonal Gaussian posterior, N(mean(x), exp(log_var(x))).

    prior: a learned prior, or None for the standard normal.
    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014.
    """

    prior: VampPrior | None = None
    makes: ClassVar[type[Code]] = GaussianCode

    def outputs(self, latent_dim: int) -> int:
        return 2 * latent_dim

    def build(self, latent_dim: int) -> nn.Module:  # noqa: ARG002
        return _Gaussian()


class _Gaussian(nn.Module):
    def forward(self, features: Tensor, noise: Tensor) -> GaussianCode:
        mean, log_var = features.chunk(2, dim=1)
        return GaussianCode(mean, mean + torch.exp(0.5 * log_var) * noise, log_var)
