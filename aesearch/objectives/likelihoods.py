"""Likelihoods of the decoder: -log p(x | logits) in nats per image.

A likelihood with a scale has it in the second half of the channels of the decoder's output.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from aesearch.autoencoder import Scale

Nll = Callable[[Tensor, Tensor], Tensor]
Likelihood = Literal["bernoulli", "gaussian", "laplace", "gaussian_global", "gaussian_pixel", "logistic"]

LEVELS = 255  # steps from black to white in a byte
HALF = 0.5 / LEVELS  # half a step
# Least log scales, below which a likelihood of constant pixels would grow without bound. Gaussian: Rybkin et al. 2021,
# as in their code. Logistic: Salimans et al. 2017, as in their code.
LEAST_GAUSSIAN, LEAST_LOGISTIC = -6.0, -7.0


class _Softplus(torch.autograd.Function):
    """Softplus log(1 + e^a), computed from e^-|a|.

    On a CPU it takes half the time of PyTorch's own, gradient included, since log1p is fast for such values.
    """

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
    """Compute the cross entropy -log p(target | logits) of each image, (B,), in nats.

    It is summed over the pixels. softplus(a) - a t equals -t log s(a) - (1 - t) log(1 - s(a)) for the sigmoid s.

    logits: (B, C, H, W) outputs of the decoder.
    target: (B, C, H, W) images in [0, 1]; they may be grey.
    """
    softplus: Tensor = _Softplus.apply(logits)
    return (softplus - logits * target).flatten(1).sum(1)


def gaussian_nll(mean: Tensor, target: Tensor) -> Tensor:
    """Compute -log N(target; mean, 1) of each image, (B,), in nats.

    It is half the squared error plus a constant, summed over the pixels.

    mean, target: (B, C, H, W).
    """
    return (0.5 * (mean - target) ** 2 + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)


def laplace_nll(mean: Tensor, target: Tensor) -> Tensor:
    """Compute -log Laplace(target; mean, 1) of each image, (B,), in nats.

    It is the L1 error plus a constant, summed over the pixels.

    mean, target: (B, C, H, W).
    """
    return ((mean - target).abs() + math.log(2)).flatten(1).sum(1)


def scaled_gaussian_nll(outputs: Tensor, target: Tensor) -> Tensor:
    """Compute -log N(target; mean, scale) of each image, (B,), in nats.

    With one scale for all pixels, the best is the root of the mean squared error.

    outputs: (B, 2 C, H, W) means, then log scales before ``scales`` bounds them.
    target: (B, C, H, W).
    Source: Rybkin, Daniilidis, Levine, "Simple and Effective VAE Training with Calibrated Decoders", ICML 2021,
    section 4.
    """
    mean, log_scale = scales(outputs, LEAST_GAUSSIAN)
    squared = ((target - mean) / log_scale.exp()).square()
    return (0.5 * squared + log_scale + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)


def logistic_nll(outputs: Tensor, target: Tensor) -> Tensor:
    """Compute -log P(target) of each image, (B,), in nats, for pixels of 256 values.

    A value gets the mass of a logistic distribution within half a step of it. The least and the greatest value also get
    the tails, so the 256 probabilities sum to 1.

    outputs: (B, 2 C, H, W) means, then log scales before ``scales`` bounds them.
    target: (B, C, H, W) in [0, 1]; other values are rounded to the nearest of the 256.
    Source: Kingma et al., "Improved Variational Inference with Inverse Autoregressive Flow", NeurIPS 2016, appendix;
    Salimans et al., "PixelCNN++", ICLR 2017, equation 2, with one component.
    """
    mean, log_scale = scales(outputs, LEAST_LOGISTIC)
    x, rate = levels(target), torch.exp(-log_scale)
    upper, lower = (x + HALF - mean) * rate, (x - HALF - mean) * rate
    # log(s(u) - s(l)) = -softplus(-u) - softplus(l) + log(1 - e^(l - u)) for the sigmoid s, without cancellation. At
    # an edge one of the first two terms is left, and the last is not there.
    inner = (x > HALF) & (x < 1 - HALF)
    nll = torch.where(x < 1 - HALF, softplus(-upper), 0.0) + torch.where(x > HALF, softplus(lower), 0.0)
    nll = nll - torch.where(inner, torch.log(-torch.expm1(-2 * HALF * rate)), 0.0)
    return nll.flatten(1).sum(1)


def scales(outputs: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Split outputs (B, 2 C, H, W) into means and log scales.

    Log scales stay above ``least``.
    """
    mean, raw = outputs.chunk(2, dim=1)
    return mean, least + softplus(raw - least)


def levels(target: Tensor) -> Tensor:
    """Round pixels in [0, 1] to the nearest of 256 values."""
    return (target * LEVELS).round().clamp(0, LEVELS) / LEVELS


def discretised_nll(mean: Tensor, scale: Tensor, target: Tensor, log_cdf: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute -log P(target) of each image, (B,), in nats, for pixels of 256 values.

    A value gets the mass of a symmetric density within half a step of it, the least and the greatest also the tails.

    mean, scale: (B, C, H, W) of the density.
    target: (B, C, H, W) in [0, 1].
    log_cdf: the logarithm of the distribution function of the density with mean 0 and scale 1.
    """
    x, mean, scale = levels(target.double()), mean.double(), scale.double()
    upper = torch.where(x < 1 - HALF, (x + HALF - mean) / scale, math.inf)
    lower = torch.where(x > HALF, (x - HALF - mean) / scale, -math.inf)
    # By symmetry the difference can be taken in the lower tail, where it loses no digits.
    turned = x > mean
    upper, lower = torch.where(turned, -lower, upper), torch.where(turned, -upper, lower)
    most, less = log_cdf(upper), log_cdf(lower)
    return -(most + torch.log(-torch.expm1(less - most))).flatten(1).sum(1)


def _laplace_log_cdf(a: Tensor) -> Tensor:
    return torch.where(a < 0, a - math.log(2), torch.log1p(-0.5 * torch.exp(-a.abs())))


def _gaussian_levels(mean: Tensor, target: Tensor) -> Tensor:
    return discretised_nll(mean, torch.ones_like(mean), target, torch.special.log_ndtr)


def _laplace_levels(mean: Tensor, target: Tensor) -> Tensor:
    return discretised_nll(mean, torch.ones_like(mean), target, _laplace_log_cdf)


def _scaled_gaussian_levels(outputs: Tensor, target: Tensor) -> Tensor:
    mean, log_scale = scales(outputs, LEAST_GAUSSIAN)
    return discretised_nll(mean, log_scale.exp(), target, torch.special.log_ndtr)


def _as_they_are(outputs: Tensor) -> Tensor:
    return outputs


def _first_half(outputs: Tensor) -> Tensor:
    return outputs.chunk(2, dim=1)[0]


def _clipped_logistic_mean(outputs: Tensor) -> Tensor:
    """Compute the mean of a logistic distribution whose tails are moved to 0 and 1."""
    mean, log_scale = scales(outputs, LEAST_LOGISTIC)
    scale = log_scale.exp()
    return 1 - scale * (softplus((1 - mean) / scale) - softplus(-mean / scale))


@dataclass(frozen=True)
class Family:
    """Distribution of pixels that a decoder's outputs describe.

    nll: function from outputs and a target (B, C, H, W) to -log p(target), (B,), in nats.
    pixels: function from outputs to expected pixels (B, C, H, W).
    levels_nll: function like ``nll`` to -log P(target), where pixels have 256 values: never below 0.
    scale: the scale that the decoder adds to its outputs.
    pictures: True if pixels must be in [0, 1].
    """

    nll: Nll
    pixels: Callable[[Tensor], Tensor]
    levels_nll: Nll
    scale: Scale = "none"
    pictures: bool = False


FAMILIES: dict[str, Family] = {
    # A grey pixel is the chance of a white one, so this is the mean over pictures of black and white pixels.
    "bernoulli": Family(bernoulli_nll, torch.sigmoid, bernoulli_nll, pictures=True),
    "gaussian": Family(gaussian_nll, _as_they_are, _gaussian_levels),
    "laplace": Family(laplace_nll, _as_they_are, _laplace_levels),
    "gaussian_global": Family(scaled_gaussian_nll, _first_half, _scaled_gaussian_levels, "global"),
    "gaussian_pixel": Family(scaled_gaussian_nll, _first_half, _scaled_gaussian_levels, "pixel"),
    "logistic": Family(logistic_nll, _clipped_logistic_mean, logistic_nll, "global", pictures=True),
}
NLL = {name: family.nll for name, family in FAMILIES.items()}


def pixels(logits: Tensor, likelihood: Likelihood) -> Tensor:
    """Turn decoder outputs into expected pixels.

    For "laplace" they are the medians, too.
    """
    return FAMILIES[likelihood].pixels(logits)
