"""Objectives that punish dependence between the codes: beta-TCVAE and FactorVAE."""

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


def log_importance_weights(batch: int, dataset_size: int, estimator: str, like: Tensor) -> Tensor:
    """log of the weight of image m in the estimate of q(z_i), (B, B); rows sum to 1 for "stratified".

    "weighted": 1 / (B N) each, for minibatch-weighted sampling. "stratified": 1/N for the sample's own image, (N - M) /
    (N M) for one other, 1/M for the rest, with M = B - 1. Chen et al., NeurIPS 2018, appendix C.
    """
    if estimator == "weighted" or batch == 1:
        return torch.full((batch, batch), -math.log(batch * dataset_size), device=like.device)
    others = batch - 1
    size = max(dataset_size, batch)
    row = torch.full((batch,), 1 / others, device=like.device)
    row[0] = 1 / size
    row[1] = (size - others) / (size * others)
    place = (torch.arange(batch, device=like.device)[None] - torch.arange(batch, device=like.device)[:, None]) % batch
    return row.log()[place]


def log_marginals(z: Tensor, mean: Tensor, log_var: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Estimates of log q(z), sum_j log q(z_j) and log q(z | x), each (B,), in nats.

    z, mean, log_var: (B, L) a sample of each image's posterior and its moments; log_weights: (B, B).
    """
    densities = -0.5 * ((z[:, None] - mean) ** 2 / log_var.exp() + log_var + math.log(2 * math.pi))
    joint = torch.logsumexp(densities.sum(2) + log_weights, dim=1)
    product = torch.logsumexp(densities + log_weights[:, :, None], dim=1).sum(1)
    own = -0.5 * ((z - mean) ** 2 / log_var.exp() + log_var + math.log(2 * math.pi))
    return joint, product, own.sum(1)


@dataclass(frozen=True)
class BetaTCVAE(Objective):
    """rec + MI + beta TC + dimension-wise KL. Chen et al., "Isolating Sources of Disentanglement", NeurIPS 2018, eq. 4.

    estimator: "weighted" (minibatch-weighted sampling, as published results use) or "stratified" (less biased).
    The estimate of TC depends on the batch size, so compare losses only at equal ones.
    """

    beta: float = 6.0
    estimator: Literal["weighted", "stratified"] = "weighted"
    likelihood: Likelihood = "bernoulli"
    variational: ClassVar[bool] = True
    needs: ClassVar[type[Code]] = GaussianCode

    def check(self) -> None:
        must(self.beta >= 0, "beta >= 0", self)
        if self.estimator not in ESTIMATORS:
            raise UserError(f"unknown estimator {self.estimator!r}: {nearest(self.estimator, ESTIMATORS)}")

    def regulariser(self, output: Output, target: Tensor, step: Step) -> Tensor:  # noqa: ARG002
        """KL + (beta - 1) TC, the KL in closed form, which leaves the estimate's noise in one term only."""
        code = output.code
        assert isinstance(code, GaussianCode)
        weights = log_importance_weights(len(code.mean), step.dataset_size, self.estimator, code.mean)
        joint, product, _ = log_marginals(code.samples[0], code.mean, code.log_var, weights)
        return kl(output) + (self.beta - 1) * (joint - product)


@dataclass(frozen=True)
class FactorVAE(Adversarial):
    """rec + KL + gamma TC, TC by a discriminator that tells codes from codes permuted over the batch.

    Kim and Mnih, "Disentangling by Factorising", ICML 2018, equation 2 and algorithm 2 (which permutes a second
    batch; here the same one). discriminator_rate: the learning rate of its Adam (betas 0.5 and 0.9).
    hidden: the widths of the discriminator's leaky ReLU layers.
    """

    gamma: float = 10.0
    hidden: tuple[int, ...] = (1000, 1000, 1000, 1000, 1000, 1000)
    discriminator_rate: float = 1e-4
    likelihood: Likelihood = "bernoulli"
    variational: ClassVar[bool] = True
    draws: ClassVar[bool] = True

    def check(self) -> None:
        must(self.gamma >= 0, "gamma >= 0", self)
        must(bool(self.hidden) and min(self.hidden) > 0, "hidden widths > 0", self)
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

    def optimizer(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=self.discriminator_rate, betas=(0.5, 0.9), fused=True)

    def discriminator_loss(self, discriminator: Callable[[Tensor], Tensor], codes: Tensor, reference: Tensor) -> Tensor:
        """Cross entropy of telling codes (logit 0) from permuted ones (logit 1), the mean of both halves."""
        real, permuted = discriminator(codes), discriminator(permute_codes(codes, reference))
        return 0.5 * (softplus(real[:, 1] - real[:, 0]) + softplus(permuted[:, 0] - permuted[:, 1])).mean()


def permute_codes(codes: Tensor, reference: Tensor) -> Tensor:
    """Each column of codes (B, L) in its own order, that of ``reference`` (B, L): only the marginals stay."""
    return torch.gather(codes, 0, reference.argsort(0))
