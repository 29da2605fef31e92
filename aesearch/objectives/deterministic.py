"""Objectives for autoencoders whose code is not random."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import vjp, vmap

from aesearch.autoencoder import Output
from aesearch.objectives.likelihoods import Likelihood
from aesearch.objectives.objective import Objective, Step, must


@dataclass(frozen=True)
class Reconstruction(Objective):
    """Plain autoencoder: rec alone.

    With a corruption of the input it is a denoising autoencoder.
    Source: Vincent et al., ICML 2008.
    """

    likelihood: Likelihood = "bernoulli"
    variational: ClassVar[bool] = False

    def check(self) -> None:
        pass

    def regulariser(self, output: Output, target: Tensor, step: Step) -> Tensor:  # noqa: ARG002
        return torch.zeros_like(output.code.mean[:, 0])


@dataclass(frozen=True)
class Sparse(Objective):
    """Sparse autoencoder: rec + weight * sum_j |z_j|.

    The penalty leaves few units active for each image.

    weight: nats per unit of activation, at least 0.
    Raises UserError for values out of range.
    Source: Ng, "Sparse autoencoder", 2011, with an L1 penalty.
    """

    weight: float = 0.1
    likelihood: Likelihood = "bernoulli"
    variational: ClassVar[bool] = False

    def check(self) -> None:
        must(self.weight >= 0, "weight >= 0", self)

    def regulariser(self, output: Output, target: Tensor, step: Step) -> Tensor:  # noqa: ARG002
        return self.weight * output.code.mean.abs().sum(1)


@dataclass(frozen=True)
class KLSparse(Objective):
    """Sparse autoencoder by a KL term: rec + weight * sum_j KL(target || r_j).

    r_j is the mean of sigmoid(z_j) over the batch.

    target: the mean activation that each unit should have, between 0 and 1.
    weight: of the regulariser, at least 0.
    Raises UserError for values out of range.
    Source: Ng, "Sparse autoencoder", Stanford CS294A notes, 2011, section 3.
    """

    target: float = 0.05
    weight: float = 1.0
    likelihood: Likelihood = "bernoulli"
    variational: ClassVar[bool] = False

    def check(self) -> None:
        must(0 < self.target < 1 and self.weight >= 0, "0 < target < 1 and weight >= 0", self)

    def regulariser(self, output: Output, target: Tensor, step: Step) -> Tensor:  # noqa: ARG002
        used = torch.sigmoid(output.code.mean).mean(0).clamp(1e-6, 1 - 1e-6)
        rate = torch.full_like(used, self.target)
        return self.weight * (rate * (rate / used).log() + (1 - rate) * ((1 - rate) / (1 - used)).log()).sum()


@dataclass(frozen=True)
class Contractive(Objective):
    """Contractive autoencoder: rec + weight * |dz/dx|^2.

    |dz/dx|^2 is the squared Frobenius norm of the encoder's Jacobian. It is exact, and costs one backward pass of the
    encoder for each unit of the code.

    weight: of the regulariser, at least 0.
    Raises UserError for values out of range.
    Source: Rifai, Vincent, Muller, Glorot, Bengio, "Contractive Auto-Encoders", ICML 2011, equation 3.
    """

    weight: float = 0.1
    likelihood: Likelihood = "bernoulli"
    variational: ClassVar[bool] = False
    differentiates: ClassVar[bool] = True

    def check(self) -> None:
        must(self.weight >= 0, "weight >= 0", self)

    def regulariser(self, output: Output, target: Tensor, step: Step) -> Tensor:  # noqa: ARG002
        pull: Callable[[Tensor], tuple[Tensor]]
        codes, pull = vjp(step.encode, step.images)  # type: ignore[misc]
        # Images do not depend on each other, so one pass gives row j of the Jacobian of every image.
        rows = torch.eye(codes.shape[1], device=codes.device)[:, None].expand(-1, *codes.shape)
        (jacobian,) = vmap(pull)(rows)
        norms: Tensor = jacobian.square().sum(0).flatten(1).sum(1)
        return self.weight * norms
