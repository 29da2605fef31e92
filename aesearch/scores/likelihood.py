"""Likelihood of images under a variational model."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aesearch.autoencoder import Autoencoder
from aesearch.bottlenecks import RandomCode
from aesearch.datasets import Dataset, is_picture
from aesearch.errors import UserError
from aesearch.metrics import bits_per_dimension
from aesearch.objectives import FAMILIES, NLL, Nll, Objective
from aesearch.scores.score import Score, Trained, batches, drawn

MOST_AT_ONCE = 2_000  # images that are decoded at a time


def importance_weights(
    model: Autoencoder,
    objective: Objective,
    x: Tensor,
    samples: int,
    generator: torch.Generator,
    label: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute log p(x | z) and log p(z) - log q(z | x) in nats, each (S, B).

    model, objective: the objective's likelihood gives log p(x | z).
    x: images (B, C, H, W).
    samples: S, the number of codes z of an image, drawn from q(z | x).
    generator: of the draws.
    label: (B,), the classes for a conditional model.
    """
    (known,), relative = _importance_weights(model, (NLL[objective.likelihood],), x, samples, generator, label)
    return known, relative


@torch.no_grad()
def _importance_weights(
    model: Autoencoder,
    nlls: tuple[Nll, ...],
    x: Tensor,
    samples: int,
    generator: torch.Generator,
    label: Tensor | None,
) -> tuple[list[Tensor], Tensor]:
    """Compute -nll of each of ``nlls``, and log p(z) - log q(z | x).

    Each is (S, B), of the same codes.
    """
    known: list[list[Tensor]] = [[] for _ in nlls]
    relative = []
    at_once = max(1, MOST_AT_ONCE // len(x))
    for start in range(0, samples, at_once):
        shape = (min(at_once, samples - start), len(x), model.latent_dim)
        output = model(x, torch.randn(shape, generator=generator, device=x.device), label)
        assert isinstance(output.code, RandomCode)
        for nll, parts in zip(nlls, known, strict=True):
            parts.append(torch.stack([-nll(logits, x) for logits in output.logits]))
        relative.append(output.code.log_p() - output.code.log_q())
    return [torch.cat(parts) for parts in known], torch.cat(relative)


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """Compute the importance-weighted bound of log p(x) in nats, (B,).

    It is the log of the mean of the weights p(x, z) / q(z | x). In expectation it is a lower bound of log p(x) that
    rises with S towards it. With S = 1 it is the evidence lower bound.

    log_weights: (S, B), logarithms of the weights.

    Source: Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016, equation 8.
    """
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))


@dataclass(frozen=True)
class Likelihood(Score):
    """Bound of log p(x) in nats per image, bits per dimension, rate, distortion.

    samples: K, the number of codes per image.
    images: number of images of the split, at most.

    log_likelihood_K: the importance-weighted bound.
    bits_per_dim_K: minus the bound of log P(x) in bits per pixel and channel, where P gives each of the 256 values of a
    pixel the likelihood's mass within half a step of it; less is better, and it is never below 0. Rows of a table have
    none, as their columns have no 256 values.
    rate: KL(q(z | x) || p(z)).
    distortion: -log p(x | z). Rate and distortion are means over the same codes, so that -(rate + distortion) is the
    evidence lower bound.

    Under likelihood="bernoulli" grey pixels have no probability, only a cross entropy. Then compare the values with
    each other only.
    Source: Alemi et al., "Fixing a Broken ELBO", ICML 2018.
    """

    samples: int = 64
    images: int = 1_000
    estimator: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.samples < 1 or self.images < 1:
            raise UserError(f"samples and images must be at least 1, but got {self}")

    @property
    def splits(self) -> tuple[str, ...]:
        return ("val", "test")

    @property
    def names(self) -> tuple[str, ...]:
        return (f"log_likelihood_{self.samples}", f"bits_per_dim_{self.samples}", "rate", "distortion")

    def names_for(self, data: Dataset, objective: Objective) -> tuple[str, ...]:  # noqa: ARG002
        return self.names if is_picture(data.shape) else tuple(name for name in self.names if name != self.names[1])

    def check(self, data: Dataset, objective: Objective) -> None:  # noqa: ARG002
        if not objective.variational:
            raise UserError(f"Likelihood needs a variational objective, such as VAE(), but got {objective}")

    def measure(self, trained: Trained, split: str) -> Mapping[str, float]:
        index = drawn(trained.index(split), self.images)
        generator: torch.Generator | None = None
        bounds, coded, rates, distortions = [], [], [], []
        family = FAMILIES[trained.objective.likelihood]
        for part in batches(index, 100):
            x = trained.images(part)
            generator = generator or torch.Generator(x.device).manual_seed(trained.seed)
            (known, levels), relative = _importance_weights(
                trained.model, (family.nll, family.levels_nll), x, self.samples, generator, trained.label_tensor(part)
            )
            bounds.append(importance_weighted_bound(known + relative))
            coded.append(importance_weighted_bound(levels + relative))
            rates.append(-relative.mean(0))
            distortions.append(-known.mean(0))
        bound = float(torch.cat(bounds).double().mean())
        dimensions = math.prod(trained.model.shape)
        values = (
            bound,
            bits_per_dimension(-float(torch.cat(coded).double().mean()), dimensions),
            float(torch.cat(rates).double().mean()),
            float(torch.cat(distortions).double().mean()),
        )
        found = dict(zip(self.names, values, strict=True))
        if not is_picture(trained.model.shape):
            del found[self.names[1]]
        return found
