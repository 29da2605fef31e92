"""What an objective is: a reconstruction and, in a line of its own, what it adds to it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from aesearch.autoencoder import Output
from aesearch.bottlenecks import Code, RandomCode
from aesearch.errors import UserError, nearest
from aesearch.objectives.likelihoods import NLL, Likelihood


@dataclass(frozen=True)
class Step:
    """What an objective may use beside a model's output on a batch.

    progress: () the part of the training that is done, from 0 to 1. dataset_size: images in the train split.
    reference: (B, L) standard normal numbers, for objectives with ``draws``, else None.
    encode: from images (B, C, H, W) to the encoder's codes (B, L). images: (B, C, H, W) what was encoded.
    discriminator: from codes (B, L) to logits (B, 2), for an Adversarial objective, else None.
    """

    progress: Tensor
    dataset_size: int
    reference: Tensor | None
    encode: Callable[[Tensor], Tensor]
    images: Tensor
    discriminator: Callable[[Tensor], Tensor] | None = None


class Objective(ABC):
    """A frozen value: what is minimised. ``likelihood`` says what the decoder's outputs mean.

    The loss is reconstruction + regulariser (+ what the bottleneck adds), in nats per image.
    """

    # Takes codes that are random, and then any kind of ``needs``.
    variational: ClassVar[bool]
    needs: ClassVar[type[Code]] = Code
    # The prior may be learned; others need the standard normal in closed form.
    any_prior: ClassVar[bool] = False
    # Needs Step.reference.
    draws: ClassVar[bool] = False
    # Losses of two epochs can be compared, so that the epoch of the lowest val/loss is kept; else the last one is.
    comparable: ClassVar[bool] = True
    # Differentiates through the encoder, which must then treat each image by itself and change no state.
    differentiates: ClassVar[bool] = False
    samples: int = 1
    likelihood: Likelihood

    def __post_init__(self) -> None:
        if self.likelihood not in NLL:
            raise UserError(f"unknown likelihood {self.likelihood!r}: {nearest(self.likelihood, NLL)}")
        self.check()

    @abstractmethod
    def check(self) -> None:
        """Raises UserError where a field has a value that it cannot have."""

    @abstractmethod
    def regulariser(self, output: Output, target: Tensor, step: Step) -> Tensor:
        """What is added to the reconstruction of each image: (B,), or () for what only a batch has; in nats."""


class Adversarial(Objective):
    """An objective that trains a discriminator of codes beside the model, with an optimizer of its own."""

    comparable: ClassVar[bool] = False

    @abstractmethod
    def discriminator(self, latent_dim: int) -> nn.Module:
        """A module from codes (B, L) to logits (B, 2)."""

    @abstractmethod
    def optimizer(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        """The discriminator's optimizer."""

    @abstractmethod
    def discriminator_loss(self, discriminator: Callable[[Tensor], Tensor], codes: Tensor, reference: Tensor) -> Tensor:
        """The discriminator's own loss, (), on sampled codes (B, L) and ``reference`` (B, L) normal numbers."""


def reconstruction(objective: Objective, output: Output, target: Tensor) -> Tensor:
    """-log p(x | z), (B,), in nats: the mean over the code samples; ``target`` is (B, C, H, W)."""
    nll = NLL[objective.likelihood]
    return torch.stack([nll(logits, target) for logits in output.logits]).mean(0)


def loss(objective: Objective, output: Output, target: Tensor, step: Step, weight: Tensor | float = 1.0) -> Tensor:
    """reconstruction + weight * regulariser + the bottleneck's penalty of each image, (B,), in nats.

    target: the clean images (B, C, H, W). weight: of a warm-up.
    """
    total = reconstruction(objective, output, target) + weight * objective.regulariser(output, target, step)
    return total if output.code.penalty is None else total + output.code.penalty


def kl(output: Output) -> Tensor:
    """KL(q(z | x) || p(z)) of each image, (B,), in nats, as its code says it: exact, or else from its samples."""
    assert isinstance(output.code, RandomCode)
    return output.code.kl()


def must(holds: bool, rule: str, value: object) -> None:
    """Raises UserError with the ``rule`` and the value that breaks it."""
    if not holds:
        raise UserError(f"{rule} must hold, but got {value}")
