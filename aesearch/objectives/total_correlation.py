"""Objectives that penalise dependence between units: beta-TCVAE and FactorVAE."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from aesearch.autoencoder import Output
from aesearch.bottlenecks import Code, GaussianCode
from aesearch.errors import UserError, nearest
from aesearch.objectives.likelihoods import Likelihood
from aesearch.objectives.objective import Adversarial, Objective, Step, kl, must

ESTIMATORS = ("weighted", "stratified")


def log_importance_weights(
    batch: int, dataset_size: int, estimator: str, like: Tensor, normalised: bool = True
) -> Tensor:
    """Compute the log weight of image m in the estimate of q(z_i), (B, B).

    batch: B, the number of images in the batch.
    dataset_size: N, the number of images in the train split.
    estimator: "weighted", minibatch-weighted sampling, gives each image 1 / B; "stratified" gives 1 / N to the sample's
    own image, (N - M) / (N M) to one other and 1 / M to the rest, with M = B - 1. So a row sums to 1.
    like: a tensor on the device where the weights are needed.
    normalised: False gives each image 1 / (B N) under "weighted", as the paper does. Each estimate of log q is then too
    low by log N, and that of TC too high by (L - 1) log N.
    Source: Chen et al., NeurIPS 2018, appendix C.
    """
    if estimator == "weighted" or batch == 1:
        size = batch if normalised else batch * dataset_size
        return torch.full((batch, batch), -math.log(size), device=like.device)
    others = batch - 1
    size = max(dataset_size, batch)
    row = torch.full((batch,), 1 / others, device=like.device)
    row[0] = 1 / size
    row[1] = (size - others) / (size * others)
    place = (torch.arange(batch, device=like.device)[None] - torch.arange(batch, device=like.device)[:, None]) % batch
    return row.log()[place]


def log_marginals(z: Tensor, mean: Tensor, log_var: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Estimate log q(z), sum_j log q(z_j) and log q(z | x), each (B,), in nats.

    z: (B, L) a sample of each image's posterior.
    mean, log_var: (B, L) mean and log variance of each image's posterior.
    log_weights: (B, B) from ``log_importance_weights``.
    """
    densities = -0.5 * ((z[:, None] - mean) ** 2 / log_var.exp() + log_var + math.log(2 * math.pi))
    joint = torch.logsumexp(densities.sum(2) + log_weights, dim=1)
    product = torch.logsumexp(densities + log_weights[:, :, None], dim=1).sum(1)
    own = -0.5 * ((z - mean) ** 2 / log_var.exp() + log_var + math.log(2 * math.pi))
    return joint, product, own.sum(1)


@dataclass(frozen=True)
class BetaTCVAE(Objective):
    """Beta-TCVAE: rec + MI + beta TC + dimension-wise KL.

    MI is the mutual information of image and code, TC the total correlation of the units. The estimate of TC depends
    on the batch size, so compare losses only at equal batch sizes. It is too high where the KL nears the log of the
    batch size.

    beta: the weight of TC, at least 0.
    estimator: "weighted" (minibatch-weighted sampling, as in published results) or "stratified" (less biased).
    normalised: False adds the constant (L - 1) log N to a weighted TC, as release 0.1.0 did; it changes no gradient.
    Raises UserError for values out of range.
    Source: Chen et al., "Isolating Sources of Disentanglement", NeurIPS 2018, eq. 4.
    """

    beta: float = 6.0
    estimator: Literal["weighted", "stratified"] = "weighted"
    likelihood: Likelihood = "bernoulli"
    normalised: bool = True
    variational: ClassVar[bool] = True
    needs: ClassVar[type[Code]] = GaussianCode

    def check(self) -> None:
        must(self.beta >= 0, "beta >= 0", self)
        if self.estimator not in ESTIMATORS:
            raise UserError(f"unknown estimator {self.estimator!r}: {nearest(self.estimator, ESTIMATORS)}")

    def regulariser(self, output: Output, target: Tensor, step: Step) -> Tensor:  # noqa: ARG002
        """Compute KL + (beta - 1) TC, (B,), in nats.

        The KL is in closed form, so that only TC has the noise of an estimate.
        """
        code = output.code
        assert isinstance(code, GaussianCode)
        weights = log_importance_weights(len(code.mean), step.dataset_size, self.estimator, code.mean, self.normalised)
        joint, product, _ = log_marginals(code.samples[0], code.mean, code.log_var, weights)
        return kl(output) + (self.beta - 1) * (joint - product)


@dataclass(frozen=True)
class FactorVAE(Adversarial):
    """FactorVAE: rec + KL + gamma TC, with TC estimated by a discriminator.

    The discriminator learns to tell codes from codes whose units are permuted over the batch.

    gamma: the weight of TC, at least 0.
    hidden: the widths of the discriminator's leaky ReLU layers.
    discriminator_rate: the learning rate of the discriminator's Adam (betas 0.5 and 0.9).
    Raises UserError for values out of range.
    Source: Kim and Mnih, "Disentangling by Factorising", ICML 2018, equation 2 and algorithm 2; the paper permutes a
    second batch, this code the same one.
    """

    gamma: float = 10.0
    hidden: tuple[int, ...] = (1000, 1000, 1000, 1000, 1000, 1000)
    discriminator_rate: float = 1e-4
    likelihood: Likelihood = "bernoulli"
    variational: ClassVar[bool] = True
    draws: ClassVar[bool] = True
    discriminator_betas: ClassVar[tuple[float, float]] = (0.5, 0.9)

    def check(self) -> None:
        must(self.gamma >= 0, "gamma >= 0", self)
        must(bool(self.hidden) and min(self.hidden) > 0, "len(hidden) >= 1 and all hidden widths > 0", self)
        must(self.discriminator_rate > 0, "discriminator_rate > 0", self)

    def regulariser(self, output: Output, target: Tensor, step: Step) -> Tensor:  # noqa: ARG002
        assert step.discriminator is not None
        logits = step.discriminator(output.code.samples[0])
        return kl(output) + self.gamma * (logits[:, 0] - logits[:, 1])

    def discriminator(self, latent_dim: int) -> nn.Module:
        layers: list[nn.Module] = []
        for inputs, outputs in zip((latent_dim, *self.hidden), (*self.hidden, 2), strict=True):
            layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2)]
        return nn.Sequential(*layers[:-1])

    def discriminator_loss(self, discriminator: Callable[[Tensor], Tensor], codes: Tensor, reference: Tensor) -> Tensor:
        """Compute the cross entropy of telling codes from permuted codes, ().

        Codes are class 0, permuted codes class 1; the value is the mean of both halves.
        """
        real, permuted = discriminator(codes), discriminator(permute_codes(codes, reference))
        return 0.5 * (softplus(real[:, 1] - real[:, 0]) + softplus(permuted[:, 0] - permuted[:, 1])).mean()


def permute_codes(codes: Tensor, reference: Tensor) -> Tensor:
    """Permute each column of codes (B, L) independently of the others.

    The distribution of each unit stays; dependence between units is lost.

    reference: (B, L) standard normal numbers, whose order in each column is the permutation.
    """
    return torch.gather(codes, 0, reference.argsort(0))
