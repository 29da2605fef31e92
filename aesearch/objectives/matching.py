"""Objectives that match the distribution of all codes to the prior.

They compare moments (DIP-VAE), or use a kernel (MMD).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from aesearch.autoencoder import Output
from aesearch.bottlenecks import Code, GaussianCode
from aesearch.objectives.likelihoods import Likelihood
from aesearch.objectives.objective import Objective, Step, kl, must

# Widths of the inverse multiquadratic kernels, in units of 2 L. Tolstikhin et al. 2018, as in their published code.
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def covariance(codes: Tensor) -> Tensor:
    """Compute the covariance matrix (L, L) of codes (B, L), with divisor B."""
    centred = codes - codes.mean(0)
    return centred.T @ centred / len(codes)


@dataclass(frozen=True)
class DIPVAE(Objective):
    """DIP-VAE: rec + KL + a penalty that brings the codes' covariance C to identity.

    The penalty is off_diagonal * sum_{i != j} C_ij^2 + diagonal * sum_i (C_ii - 1)^2.

    off_diagonal, diagonal: weights, at least 0.
    kind: 1 takes C = Cov(mean); 2 adds the mean posterior variance, so that C is the covariance of the samples.
    Raises UserError for values out of range.
    Source: Kumar, Sattigeri, Balakrishnan, "Variational Inference of Disentangled Latent Concepts", ICLR 2018, eq. 6
    and 7.
    """

    off_diagonal: float = 10.0
    diagonal: float = 10.0
    kind: Literal[1, 2] = 1
    likelihood: Likelihood = "bernoulli"
    variational: ClassVar[bool] = True
    needs: ClassVar[type[Code]] = GaussianCode

    def check(self) -> None:
        must(self.off_diagonal >= 0 and self.diagonal >= 0, "off_diagonal >= 0 and diagonal >= 0", self)
        must(self.kind in (1, 2), "kind in (1, 2)", self)

    def regulariser(self, output: Output, target: Tensor, step: Step) -> Tensor:  # noqa: ARG002
        assert isinstance(output.code, GaussianCode)
        matrix = covariance(output.code.mean)
        if self.kind == 2:
            matrix = matrix + torch.diag(output.code.log_var.exp().mean(0))
        diagonal = torch.diagonal(matrix)
        off = matrix.square().sum() - diagonal.square().sum()
        return kl(output) + self.off_diagonal * off + self.diagonal * (diagonal - 1).square().sum()


def mmd(a: Tensor, b: Tensor) -> Tensor:
    """Estimate the squared maximum mean discrepancy of two samples, ().

    The estimate is unbiased, so it can be below 0. The kernel is the sum over SCALES s of c / (c + |x - y|^2), with
    c = 2 L s.

    a, b: (B, L) samples of the two distributions.
    Source: Gretton et al., JMLR 2012, equation 3.
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
    """InfoVAE: rec + (1 - alpha) KL + (alpha + scale - 1) MMD(q(z), p(z)).

    With alpha = 1 it is MMD-VAE. The loss is in nats per image: multiply a published weight by the number of pixels
    where its loss is a mean over pixels.

    alpha: at most 1.
    scale: the paper's lambda; alpha + scale must be at least 1.
    Raises UserError for values out of range.
    Source: Zhao, Song, Ermon, "InfoVAE", AAAI 2019, equation 6.
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
    """Wasserstein autoencoder: rec + weight * MMD(codes, p(z)).

    The code is not random; its distribution over the data is brought to the prior. The paper's cost is the squared
    error, summed over the pixels. Here rec is half of it with likelihood="gaussian", so weight = lambda / 2 is the
    paper's loss; with another likelihood the cost is another. The authors' code has 0.05 times the squared error: there
    weight = 10 lambda.

    weight: of the MMD, at least 0, in nats per image.
    Raises UserError for values out of range.
    Source: Tolstikhin, Bousquet, Gelly, Schoelkopf, "Wasserstein Auto-Encoders", ICLR 2018, algorithm 2.
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
