"""Normalising flow: a Gaussian posterior sent through invertible steps.

After them, units may depend on each other and need not be Gaussian.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from aesearch.bottlenecks.codes import Bottleneck, Code, RandomCode
from aesearch.bottlenecks.gaussian import gaussian_log_density
from aesearch.errors import UserError


@dataclass(frozen=True, eq=False)
class FlowCode(RandomCode):
    """Code whose density is known only at its samples.

    log_density: (S, B) log q(z | x) of the samples, in nats.
    """

    log_density: Tensor

    def log_q(self) -> Tensor:
        return self.log_density

    def exact_kl(self) -> Tensor | None:
        return None


@dataclass(frozen=True)
class InverseAutoregressive(Bottleneck):
    """Inverse autoregressive flow: a Gaussian after steps z <- shift + scale z.

    Shift and scale of a unit depend on the image and on the units before it. Every second step uses the reverse order.
    Each step starts as the identity.

    steps: the number of steps, at least 1.
    hidden: the width of a step's network, at least 1.
    Raises UserError for values out of range.
    Source: Kingma et al., "Improved Variational Inference with Inverse Autoregressive Flow", NeurIPS 2016, equations 9
    to 11; here the log scale is limited to -1 to 1 by tanh, where the paper limits the scale by a sigmoid.
    """

    steps: int = 2
    hidden: int = 64
    makes: ClassVar[type[Code]] = FlowCode

    def __post_init__(self) -> None:
        if self.steps < 1 or self.hidden < 1:
            raise UserError(f"steps >= 1 and hidden >= 1 must hold, but got {self}")

    def outputs(self, latent_dim: int) -> int:
        return 3 * latent_dim

    def build(self, latent_dim: int) -> nn.Module:
        return _Flow(_Step(latent_dim, self.hidden, turned=bool(number % 2)) for number in range(self.steps))


class _Flow(nn.ModuleList):
    def forward(self, features: Tensor, noise: Tensor) -> FlowCode:
        with torch.autocast(features.device.type, enabled=False):
            centre, log_var, context = features.float().chunk(3, dim=1)
            z = torch.cat([centre + torch.exp(0.5 * log_var) * noise, centre[None]])
            log_q = gaussian_log_density(z, centre, log_var)
            for step in self:
                z, log_det = step(z, context)
                log_q = log_q - log_det
        return FlowCode(z[-1], z[:-1], log_q[:-1])


class _Step(nn.Module):
    seen: Tensor
    told: Tensor

    def __init__(self, dim: int, hidden: int, turned: bool) -> None:
        super().__init__()
        place = torch.arange(dim).flip(0) if turned else torch.arange(dim)
        last = torch.arange(hidden)[:, None] % dim - 1  # the last place that a hidden unit sees; -1: only the image
        self.register_buffer("seen", (place <= last).float())
        self.register_buffer("told", (place > last).float().repeat(1, 2))
        self.codes = nn.Parameter(torch.randn(hidden, dim) / dim**0.5)
        self.context = nn.Parameter(torch.randn(hidden, dim) / dim**0.5)
        self.out = nn.Parameter(torch.zeros(hidden, 2 * dim))

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the codes (S, B, L) after the step, and log |det| of its Jacobian.

        The latter is (S, B).
        """
        hidden = torch.tanh(z @ (self.codes * self.seen).T + context @ self.context.T)
        shift, log_scale = (hidden @ (self.out * self.told)).chunk(2, dim=-1)
        log_scale = torch.tanh(log_scale)
        return shift + torch.exp(log_scale) * z, log_scale.sum(-1)
