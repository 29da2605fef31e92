"""Training losses, in nats per image: the reconstruction's negative log likelihood and what each objective adds to it.

| objective | loss |
|---|---|
| Reconstruction | rec |
| VAE | rec + KL |
| BetaVAE | rec + beta KL |
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from aesearch.errors import UserError, nearest
from aesearch.networks import Output

Likelihood = Literal["bernoulli", "gaussian"]


class _Softplus(torch.autograd.Function):
    """log(1 + e^a), by e^-|a|, for which log1p is fast: on a CPU half the time of PyTorch's own, gradient included."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor) -> Tensor:
        return a.abs().neg().exp().log1p() + a.relu()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * torch.sigmoid(ctx.saved_tensors[0])


def bernoulli_nll(logits: Tensor, target: Tensor) -> Tensor:
    """-log p(target | logits), (B,), in nats: cross entropy summed over the pixels of (B, C, H, W).

    softplus(a) - a t equals -t log s(a) - (1 - t) log(1 - s(a)) for the sigmoid s; targets may be grey.
    """
    softplus: Tensor = _Softplus.apply(logits)
    return (softplus - logits * target).flatten(1).sum(1)


def gaussian_nll(mean: Tensor, target: Tensor) -> Tensor:
    """-log N(target; mean, 1), (B,), in nats, summed over the pixels of (B, C, H, W)."""
    return (0.5 * (mean - target) ** 2 + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)


NLL = {"bernoulli": bernoulli_nll, "gaussian": gaussian_nll}


def pixels(logits: Tensor, likelihood: Likelihood) -> Tensor:
    """The expected image under the likelihood: what a person calls the reconstruction. Same shape as ``logits``."""
    return torch.sigmoid(logits) if likelihood == "bernoulli" else logits


def gaussian_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, exp(log_var)) || N(0, 1)) per code, (B, L), in nats. Kingma and Welling 2014, appendix B."""
    return 0.5 * (mean**2 + log_var.exp() - 1 - log_var)


class Objective(ABC):
    """A frozen value: what is minimised. ``likelihood`` says what the decoder's outputs mean."""

    variational: ClassVar[bool]
    likelihood: Likelihood

    def __post_init__(self) -> None:
        if self.likelihood not in NLL:
            raise UserError(f"unknown likelihood {self.likelihood!r}: {nearest(self.likelihood, NLL)}")

    @abstractmethod
    def loss(self, output: Output, target: Tensor) -> Tensor:
        """The loss of each image (B,), in nats; ``target`` is the clean image (B, C, H, W) in [0, 1]."""


def reconstruction(objective: Objective, output: Output, target: Tensor) -> Tensor:
    """-log p(x | z) of the first code sample, (B,), in nats."""
    return NLL[objective.likelihood](output.logits[0], target)


def kl(output: Output) -> Tensor:
    """KL(q(z | x) || p(z)) of each image, (B,), in nats."""
    assert output.log_var is not None
    return gaussian_kl(output.mean, output.log_var).sum(1)


@dataclass(frozen=True)
class Reconstruction(Objective):
    """A plain autoencoder: rec. With ``noise_factor`` a denoising one (Vincent et al., ICML 2008)."""

    likelihood: Likelihood = "bernoulli"
    variational: ClassVar[bool] = False

    def loss(self, output: Output, target: Tensor) -> Tensor:
        return reconstruction(self, output, target)


@dataclass(frozen=True)
class VAE(Objective):
    """The negative evidence lower bound: rec + KL. Kingma and Welling, ICLR 2014, equation 10."""

    likelihood: Likelihood = "bernoulli"
    variational: ClassVar[bool] = True

    def loss(self, output: Output, target: Tensor) -> Tensor:
        return reconstruction(self, output, target) + kl(output)


@dataclass(frozen=True)
class BetaVAE(Objective):
    """rec + beta KL. Higgins et al., "beta-VAE", ICLR 2017, equation 4."""

    beta: float = 4.0
    likelihood: Likelihood = "bernoulli"
    variational: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.beta >= 0:
            raise UserError(f"beta must be at least 0, but got beta={self.beta}")

    def loss(self, output: Output, target: Tensor) -> Tensor:
        return reconstruction(self, output, target) + self.beta * kl(output)
