"""Discrete codes: at each place of a grid, a vector chosen from a codebook."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from aesearch.bottlenecks.codes import Bottleneck, Code
from aesearch.errors import UserError, nearest

CODEBOOKS = ("ema", "gradient")
DECAY = 0.99
SMOOTHING = 1e-5  # vectors that each code is taken to have got beside its own
STRIDE = 9973  # a prime, so that steps through a batch's vectors do not follow its rows


@dataclass(frozen=True)
class VectorQuantized(Bottleneck):
    """Vector quantisation: each place of a grid holds its nearest codebook vector.

    With the objective Reconstruction this is a VQ-VAE. The gradient of the decoder is copied straight to the encoder,
    as if nothing had been chosen. The penalty pulls the encoder's output z to the chosen vector e.

    codes: the number of vectors in the codebook, each of length latent_dim.
    commitment: the weight of the penalty |z - e|^2, summed over the grid, in nats.
    codebook: "ema" makes each vector a moving average of the outputs that chose it, with Laplace smoothing of their
    count; "gradient" trains the vectors by a second penalty |z - e|^2.
    revive: a vector that is used less than this part of its fair share is replaced by one of the batch; 0 replaces
    none.
    Raises UserError for values out of range.
    Source: van den Oord, Vinyals, Kavukcuoglu, "Neural Discrete Representation Learning", NeurIPS 2017, equation 3 and
    appendix A.1; the smoothing is that of the authors' code (Sonnet).
    """

    codes: int = 512
    commitment: float = 0.25
    codebook: Literal["ema", "gradient"] = "ema"
    revive: float = 0.05
    makes: ClassVar[type[Code]] = Code
    spatial: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.codes < 2:
            raise UserError(f"codes must be at least 2, but got codes={self.codes}")
        if self.codebook not in CODEBOOKS:
            raise UserError(f"unknown codebook {self.codebook!r}: {nearest(self.codebook, CODEBOOKS)}")
        if not (self.commitment > 0 and 0 <= self.revive < 1):
            raise UserError(f"commitment > 0 and 0 <= revive < 1 must hold, but got {self}")

    def outputs(self, latent_dim: int) -> int:
        return latent_dim

    def build(self, latent_dim: int) -> nn.Module:
        return Codebook(self, latent_dim)


class Codebook(nn.Module):
    """Module that holds the vectors, counts their use, and chooses the nearest."""

    use: Tensor

    def __init__(self, options: VectorQuantized, dim: int) -> None:
        super().__init__()
        self.options = options
        vectors = torch.randn(options.codes, dim) / math.sqrt(dim)
        if options.codebook == "gradient":
            self.vectors = nn.Parameter(vectors)
        else:
            self.register_buffer("vectors", vectors)
        # Moving average of each code's share of the batch's vectors, times the number of codes: 1 is a fair share.
        self.register_buffer("use", torch.ones(options.codes))

    def forward(self, features: Tensor, noise: Tensor) -> Code:
        """Choose the nearest vectors, and flatten them to codes (B, D h w).

        features: (B, D, h, w) the encoder's output.
        noise: (S, B, D) not used except for S, the number of samples.
        """
        with torch.autocast(features.device.type, enabled=False):
            return self._choose(features.float(), len(noise))

    def _choose(self, features: Tensor, samples: int) -> Code:
        z = features.movedim(1, -1).flatten(0, 2)
        vectors = self.vectors.detach()
        distances = vectors.square().sum(1) - 2 * z.detach() @ vectors.T
        nearest_code = distances.argmin(1)
        chosen = self.vectors[nearest_code]
        error = (z - chosen.detach()).square() * self.options.commitment
        if self.options.codebook == "gradient":
            error = error + (z.detach() - chosen).square()
        if self.training:
            self._learn(z.detach(), nearest_code)
        straight = z + (chosen - z).detach()
        batch, dim, height, width = features.shape
        code = straight.reshape(batch, height, width, dim).movedim(-1, 1).flatten(1)
        penalty = error.reshape(batch, -1).sum(1)
        samples_of_it = code.expand(samples, *code.shape)
        return Code(code, samples_of_it, penalty=penalty, indices=nearest_code.reshape(batch, -1))

    @torch.no_grad()
    def _learn(self, z: Tensor, chosen: Tensor) -> None:
        """Count the use of the codes, update an EMA codebook, and replace unused codes."""
        count = self.options.codes
        hits = (chosen[:, None] == torch.arange(count, device=z.device)).to(z.dtype)
        fair = len(z) / count
        vectors = self.vectors.detach()
        sums = vectors * self._smoothed(fair)[:, None]
        self.use.mul_(DECAY).add_(hits.sum(0) / fair, alpha=1 - DECAY)
        if self.options.codebook == "ema":
            # A vector is the average sum of the outputs that chose it over their average count, both per fair share.
            sums = DECAY * sums + (1 - DECAY) * (hits.T @ z) / fair
            vectors.copy_(sums / self._smoothed(fair)[:, None])
        if self.options.revive:
            dead = self.use < self.options.revive
            place = (dead.cumsum(0) * STRIDE + chosen[0]) % len(z)
            vectors.copy_(torch.where(dead[:, None], z[place], vectors))
            self.use.copy_(torch.where(dead, 1.0, self.use))

    def _smoothed(self, fair: float) -> Tensor:
        """Smooth the use of the codes by Laplace's rule, (codes,); the total stays.

        fair: a code's fair share of the batch's vectors.
        """
        return (self.use + SMOOTHING / fair) / (1 + SMOOTHING / fair)
