"""Objectives for autoencoders whose code is not random."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.func import vjp, vmap

from aesearch.autoencoder import Output
from aesearch.bottlenecks import Bottleneck, BoundedCode, Code, Plain, Sigmoid
from aesearch.errors import UserError, nearest
from aesearch.objectives.likelihoods import Likelihood
from aesearch.objectives.objective import Objective, Step, must

DECODED = ("activation", "logit")
# Images that a batch must have for its variances to say something.
LEAST_IMAGES = 8


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

    r_j is the mean over the batch of the activation of unit j, which is between 0 and 1.

    target: the mean activation that each unit should have, between 0 and 1.
    weight: of the regulariser, at least 0.
    decoded: "activation" makes the activations the code, so that the decoder gets what the regulariser holds; "logit"
    makes their logits the code, as release 0.1.0 did: it is there for models of that release.
    Raises UserError for values out of range.
    Source: Ng, "Sparse autoencoder", Stanford CS294A notes, 2011, section 3.
    """

    target: float = 0.05
    weight: float = 1.0
    likelihood: Likelihood = "bernoulli"
    decoded: Literal["activation", "logit"] = "activation"
    variational: ClassVar[bool] = False

    def check(self) -> None:
        must(0 < self.target < 1 and self.weight >= 0, "0 < target < 1 and weight >= 0", self)
        if self.decoded not in DECODED:
            raise UserError(f"unknown decoded {self.decoded!r}: {nearest(self.decoded, DECODED)}")

    @property
    def needs(self) -> type[Code]:
        return BoundedCode if self.decoded == "activation" else Code

    @property
    def usual_bottleneck(self) -> Bottleneck:
        return Sigmoid() if self.decoded == "activation" else Plain()

    def regulariser(self, output: Output, target: Tensor, step: Step) -> Tensor:  # noqa: ARG002
        code = output.code.mean
        used = (code if self.decoded == "activation" else torch.sigmoid(code)).mean(0).clamp(1e-6, 1 - 1e-6)
        rate = torch.full_like(used, self.target)
        return self.weight * (rate * (rate / used).log() + (1 - rate) * ((1 - rate) / (1 - used)).log()).sum()


@dataclass(frozen=True)
class Contractive(Objective):
    """Contractive autoencoder: rec + weight * sum_j |dz_j/dx|^2 / Var(z_j).

    |dz_j/dx|^2 is the squared norm of a row of the encoder's Jacobian. It is exact, and costs one backward pass of the
    encoder for each unit of the code. Var(z_j) is the variance of unit j over the batch. Without it, the penalty falls
    where the encoder shrinks the code and the decoder enlarges it again.

    weight: of the regulariser, at least 0.
    normalised: False leaves out the variance, as the paper does, whose decoder is tied to the encoder's weights.
    Raises UserError for values out of range.
    Source: Rifai, Vincent, Muller, Glorot, Bengio, "Contractive Auto-Encoders", ICML 2011, equation 3.
    """

    weight: float = 0.1
    likelihood: Likelihood = "bernoulli"
    normalised: bool = True
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
        norms: Tensor = jacobian.square().flatten(2).sum(2)
        if self.normalised:
            if len(codes) < LEAST_IMAGES:
                return torch.zeros_like(codes[:, 0])
            norms = norms / codes.var(0, correction=0).clamp(min=1e-12)[:, None]
        return self.weight * norms.sum(0)
