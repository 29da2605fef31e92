"""Objectives that match the codes of the whole data set to the prior: by moments (DIP-VAE) or by a kernel (MMD)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from aesearch.autoencoder import Output
from aesearch.bottlenecks import Code, GaussianCode
from aesearch.objectives.likelihoods import Likelihood
from aesearch.objectives.objective import Objective, Step, kl, must

# Kernel widths of the inverse multiquadratic, times 2 L. Tolstikhin et al. 2018, as in their published code.
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def covariance(codes: Tensor) -> Tensor:
    """The covariance matrix (L, L) of codes (B, L), with divisor B."""
    centred = codes - codes.mean(0)
    return centred.T @ centred / len(codes)


@dataclass(frozen=True)
class DIPVAE(Objective):
    """rec + KL + off_diagonal sum_{i != j} C_ij^2 + diagonal sum_i (C_ii - 1)^2, C a covariance of the codes.

    kind: 1 takes C = Cov(mean), 2 adds the mean posterior variance, which makes it the covariance of the samples.
    Kumar, Sattigeri, Balakrishnan, "Variational Inference of Disentangled Latent Concepts", ICLR 2018, eq. 6 and 7.
    """

    off_diagonal: float = 10.0
    diagonal: float = 10.0
    kind: Literal[1, 2] = 1
    likelihood: Likelihood = "bernoulli"
    variational: ClassVar[bool] = True
    needs: ClassVar[type[Code]] = GaussianCode

    def check(self) -> None:
        must(self.off_diagonal >= 0 and self.diagonal >= 0, "off_diagonal >= 0 and diagonal >= 0", self)
        must(self.kind in (1, 2), "kind of 1 or 2", self)

    def regulariser(self, output: Output, target: Tensor, step: Step) -> Tensor:  # noqa: ARG002
        assert isinstance(output.code, GaussianCode)
        matrix = covariance(output.code.mean)
        if self.kind == 2:
            matrix = matrix + torch.diag(output.code.log_var.exp().mean(0))
        diagonal = torch.diagonal(matrix)
        off = matrix.square().sum() - diagonal.square().sum()
        return kl(output) + self.off_diagonal * off + self.diagonal * (diagonal - 1).square().sum()


def mmd(a: Tensor, b: Tensor) -> Tensor:
    """The squared maximum mean discrepancy, (), of samples (B, L): unbiased, so it can be below 0.

    Kernel: sum over s of c / (c + |x - y|^2) with c = 2 L s. Gretton et al., JMLR 2012, equation 3.
    """
    count = len(a)
    pairs = max(count * (count - 1), 1)
    off = 1 - torch.eye(count, device=a.device)
    within = ((_kernel(a, a) + _kernel(b, b)) * off).sum() / pairs
    return within - 2 * _kernel(a, b).mean()


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    squared = (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp(min=0)
    return torch.stack([2 * a.shape[1] * s / (2 * a.shape[1] * s + squared) for s in SCALES]).sum(0)


@dataclass(frozen=True)
class InfoVAE(Objective):
    """rec + (1 - alpha) KL + (alpha + scale - 1) MMD(q(z), p(z)); alpha = 1 is MMD-VAE.

    Zhao, Song, Ermon, "InfoVAE", AAAI 2019, equation 6, whose lambda is ``scale``. In nats per image, so
    that published strengths of losses that are means over pixels must be multiplied by the pixels.
    """

    alpha: float = 0.0
    scale: float = 1000.0
    likelihood: Likelihood = "bernoulli"
    variational: ClassVar[bool] = True
    draws: ClassVar[bool] = True

    def check(self) -> None:
        must(self.alpha <= 1 and self.alpha + self.scale >= 1, "alpha <= 1 and alpha + scale >= 1", self)

    def regulariser(self, output: Output, target: Tensor, step: Step) -> Tensor:  # noqa: ARG002
        assert step.reference is not None
        discrepancy = mmd(output.code.samples[0], step.reference)
        return (1 - self.alpha) * kl(output) + (self.alpha + self.scale - 1) * discrepancy


@dataclass(frozen=True)
class WAE(Objective):
    """rec + weight MMD(codes, p(z)): a code that is not random, whose distribution over the data is the prior.

    Tolstikhin, Bousquet, Gelly, Schoelkopf, "Wasserstein Auto-Encoders", ICLR 2018, algorithm 2.
    """

    weight: float = 100.0
    likelihood: Likelihood = "bernoulli"
    variational: ClassVar[bool] = False
    draws: ClassVar[bool] = True

    def check(self) -> None:
        must(self.weight >= 0, "weight >= 0", self)

    def regulariser(self, output: Output, target: Tensor, step: Step) -> Tensor:  # noqa: ARG002
        assert step.reference is not None
        return self.weight * mmd(output.code.mean, step.reference)
