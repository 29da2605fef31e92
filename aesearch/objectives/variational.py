"""Objectives on the KL divergence from the posterior to the prior."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aesearch.autoencoder import Output
from aesearch.bottlenecks import Code, FactorisedCode, RandomCode
from aesearch.objectives.likelihoods import NLL, Likelihood
from aesearch.objectives.objective import Objective, Step, kl, must, reconstruction


@dataclass(frozen=True)
class VAE(Objective):
    """Variational autoencoder: rec + KL, the negative evidence lower bound.

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, equation 10.
    """

    likelihood: Likelihood = "bernoulli"
    variational: ClassVar[bool] = True
    any_prior: ClassVar[bool] = True

    def check(self) -> None:
        pass

    def regulariser(self, output: Output, target: Tensor, step: Step) -> Tensor:  # noqa: ARG002
        return kl(output)


@dataclass(frozen=True)
class BetaVAE(Objective):
    """Beta-VAE: rec + beta KL.

    beta: the weight of the KL, at least 0.
    Raises UserError for values out of range.
    Source: Higgins et al., "beta-VAE", ICLR 2017, equation 4.
    """

    beta: float = 4.0
    likelihood: Likelihood = "bernoulli"
    variational: ClassVar[bool] = True
    any_prior: ClassVar[bool] = True

    def check(self) -> None:
        must(self.beta >= 0, "beta >= 0", f"beta={self.beta}")

    def regulariser(self, output: Output, target: Tensor, step: Step) -> Tensor:  # noqa: ARG002
        return self.beta * kl(output)


@dataclass(frozen=True)
class FreeBits(Objective):
    """Free bits: rec + beta * sum_j max(nats, batch mean of KL_j).

    A unit pays nothing for its first ``nats`` of KL.

    nats: free KL of each unit, at least 0.
    beta: the weight of the regulariser, at least 0.
    Raises UserError for values out of range.
    Source: Kingma et al., "Improved Variational Inference with Inverse Autoregressive Flow", NeurIPS 2016, equation 15.
    """

    nats: float = 0.25
    beta: float = 1.0
    likelihood: Likelihood = "bernoulli"
    variational: ClassVar[bool] = True
    needs: ClassVar[type[Code]] = FactorisedCode

    def check(self) -> None:
        must(self.nats >= 0 and self.beta >= 0, "nats >= 0 and beta >= 0", self)

    def regulariser(self, output: Output, target: Tensor, step: Step) -> Tensor:  # noqa: ARG002
        assert isinstance(output.code, FactorisedCode)
        per_unit = output.code.unit_kl().mean(0)
        return self.beta * per_unit.clamp(min=self.nats).sum()


@dataclass(frozen=True)
class AnnealedVAE(Objective):
    """Annealed VAE: rec + gamma * |KL - C(t)|, with KL the mean over the batch.

    C rises linearly from 0 to ``capacity``. val/loss uses the final C, so that epochs compare.

    capacity: the final C in nats, at least 0.
    gamma: the weight of the regulariser, at least 0.
    over: the first part of the training, in which C rises, above 0 and at most 1.
    Raises UserError for values out of range.
    Source: Burgess et al., "Understanding disentangling in beta-VAE", 2018, equation 8.
    """

    capacity: float = 25.0
    gamma: float = 100.0
    over: float = 0.8
    likelihood: Likelihood = "bernoulli"
    variational: ClassVar[bool] = True
    any_prior: ClassVar[bool] = True

    def check(self) -> None:
        rule = "capacity >= 0, gamma >= 0 and 0 < over <= 1"
        must(self.capacity >= 0 and self.gamma >= 0 and 0 < self.over <= 1, rule, self)

    def regulariser(self, output: Output, target: Tensor, step: Step) -> Tensor:  # noqa: ARG002
        capacity = self.capacity * (step.progress / self.over).clamp(max=1)
        return self.gamma * (kl(output).mean() - capacity).abs()


@dataclass(frozen=True)
class IWAE(Objective):
    """Importance-weighted autoencoder: -log (1/S) sum_s p(x, z_s) / q(z_s | x).

    samples: S, the number of samples of each code, at least 1.
    Raises UserError for values out of range.
    Source: Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016, equation 8.
    """

    samples: int = 8
    likelihood: Likelihood = "bernoulli"
    variational: ClassVar[bool] = True
    any_prior: ClassVar[bool] = True

    def check(self) -> None:
        must(self.samples >= 1, "samples >= 1", self)

    def regulariser(self, output: Output, target: Tensor, step: Step) -> Tensor:  # noqa: ARG002
        """Compute the negative bound minus rec, so that the loss is the negative bound."""
        return -importance_weighted(self, output, target) - reconstruction(self, output, target)


def importance_weighted(objective: Objective, output: Output, target: Tensor) -> Tensor:
    """Compute log (1/S) sum_s p(x, z_s) / q(z_s | x) of each image, (B,), in nats.

    With more samples S, this bound rises towards log p(x).

    output: of the model, with S samples of each code.
    target: (B, C, H, W) the clean images.
    Source: Burda et al., equation 8.
    """
    code = output.code
    assert isinstance(code, RandomCode)
    prior = code.log_p()
    likelihood = -torch.stack([NLL[objective.likelihood](logits, target) for logits in output.logits])
    weights = likelihood + prior - code.log_q()
    return torch.logsumexp(weights, dim=0) - math.log(len(weights))
