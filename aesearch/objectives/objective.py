"""Base of the objectives: the reconstruction term, plus a regulariser."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from aesearch.autoencoder import Output
from aesearch.bottlenecks import Bottleneck, Code, Gaussian, Plain, RandomCode
from aesearch.errors import UserError, nearest
from aesearch.objectives.likelihoods import NLL, Likelihood


@dataclass(frozen=True)
class Step:
    """Values of a training step that an objective may use beside the model's output.

    progress: () the part of the training that is done, from 0 to 1.
    dataset_size: the number of images in the train split.
    reference: (B, L) standard normal numbers, for objectives with ``draws``, else None.
    encode: function from images (B, C, H, W) to the encoder's codes (B, L).
    images: (B, C, H, W) the images that were encoded, after corruption.
    discriminator: function from codes (B, L) to logits (B, 2), for an Adversarial objective, else None.
    """

    progress: Tensor
    dataset_size: int
    reference: Tensor | None
    encode: Callable[[Tensor], Tensor]
    images: Tensor
    discriminator: Callable[[Tensor], Tensor] | None = None


class Objective(ABC):
    """Training loss as a frozen value.

    The loss is reconstruction + regulariser + the bottleneck's penalty, if it has one, in nats per image.

    likelihood: the distribution of pixels that the decoder's outputs describe.
    samples: the number of samples of each code in training.
    Raises UserError for an unknown likelihood, and for values out of range.
    """

    # True: the codes must be random. False: they must not be.
    variational: ClassVar[bool]
    # True: the prior may be learned. False: the regulariser needs the standard normal in closed form.
    any_prior: ClassVar[bool] = False
    # True: the regulariser needs Step.reference.
    draws: ClassVar[bool] = False
    # True: losses of two epochs can be compared, so the epoch of the lowest val/loss is kept. False: the last is kept.
    comparable: ClassVar[bool] = True
    # True: the loss differentiates the encoder, which must treat each image by itself and change no state.
    differentiates: ClassVar[bool] = False
    samples: int = 1
    likelihood: Likelihood

    def __post_init__(self) -> None:
        if self.likelihood not in NLL:
            raise UserError(f"unknown likelihood {self.likelihood!r}: {nearest(self.likelihood, NLL)}")
        self.check()

    @property
    def needs(self) -> type[Code]:
        """Kind of code that the regulariser uses."""
        return Code

    @property
    def usual_bottleneck(self) -> Bottleneck:
        """Bottleneck of a configuration that names none."""
        return Gaussian() if self.variational else Plain()

    @abstractmethod
    def check(self) -> None:
        """Raise UserError for a field whose value is out of range."""

    @abstractmethod
    def regulariser(self, output: Output, target: Tensor, step: Step) -> Tensor:
        """Compute the term that is added to the reconstruction, in nats.

        Gives (B,), a value for each image, or () for a term that only a whole batch has.

        target: (B, C, H, W) the clean images.
        """


class Adversarial(Objective):
    """Objective that also trains a discriminator of codes, with an Adam of its own.

    discriminator_rate, discriminator_betas: the Adam's learning rate and betas.
    """

    comparable: ClassVar[bool] = False
    discriminator_rate: float
    discriminator_betas: ClassVar[tuple[float, float]]

    @abstractmethod
    def discriminator(self, latent_dim: int) -> nn.Module:
        """Build a module from codes (B, L) to logits (B, 2)."""

    @abstractmethod
    def discriminator_loss(self, discriminator: Callable[[Tensor], Tensor], codes: Tensor, reference: Tensor) -> Tensor:
        """Compute the discriminator's own loss, ().

        codes: (B, L) sampled codes.
        reference: (B, L) standard normal numbers.
        """


def reconstruction(objective: Objective, output: Output, target: Tensor) -> Tensor:
    """Compute -log p(x | z) of each image, (B,), in nats.

    It is a mean over the samples of the code.

    target: (B, C, H, W) the clean images.
    """
    nll = NLL[objective.likelihood]
    return torch.stack([nll(logits, target) for logits in output.logits]).mean(0)


def loss(objective: Objective, output: Output, target: Tensor, step: Step, weight: Tensor | float = 1.0) -> Tensor:
    """Compute the loss of each image, (B,), in nats.

    It is reconstruction + weight * regulariser + the bottleneck's penalty.

    target: (B, C, H, W) the clean images.
    weight: of the regulariser, from 0 to 1, as a warm-up sets it.
    """
    total = reconstruction(objective, output, target) + weight * objective.regulariser(output, target, step)
    return total if output.code.penalty is None else total + output.code.penalty


def kl(output: Output) -> Tensor:
    """Compute KL(q(z | x) || p(z)) of each image, (B,), in nats.

    It is exact where the code has a closed form, and otherwise estimated from its samples.
    """
    assert isinstance(output.code, RandomCode)
    return output.code.kl()


def must(holds: bool, rule: str, value: object) -> None:
    """Raise UserError with the ``rule`` and the ``value``, unless the rule ``holds``."""
    if not holds:
        raise UserError(f"{rule} must hold, but got {value}")
