"""Adam on tensors of all replicas, in one kernel.

Its numbers are those of ``torch.optim.Adam(..., fused=True)``, which imports torch's compiler for a second in each
process, and groups its tensors anew at each step.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

EPSILON = 1e-8


class Adam:
    """Adam optimizer of parameters that have their gradients in ``grad``.

    parameters: leaf tensors on one device, of one dtype.
    rate: the learning rate.
    betas: decay of the running means of gradients and of squared gradients.
    Source: Kingma and Ba, "Adam", ICLR 2015, algorithm 1.
    """

    def __init__(self, parameters: Sequence[Tensor], rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        self.parameters = list(parameters)
        self.rate = rate
        self.betas = betas
        self.slots = {
            "exp_avg": [torch.zeros_like(parameter) for parameter in self.parameters],
            "exp_avg_sq": [torch.zeros_like(parameter) for parameter in self.parameters],
            # On the device, so that a CUDA graph counts its steps.
            "step": [torch.zeros((), dtype=torch.float32, device=parameter.device) for parameter in self.parameters],
        }

    def clear(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update each parameter that has a gradient."""
        used = [i for i, parameter in enumerate(self.parameters) if parameter.grad is not None]
        chosen = {name: [tensors[i] for i in used] for name, tensors in self.slots.items()}
        torch._foreach_add_(chosen["step"], 1)
        torch._fused_adam_(
            [self.parameters[i] for i in used],
            [grad for parameter in self.parameters if (grad := parameter.grad) is not None],
            chosen["exp_avg"],
            chosen["exp_avg_sq"],
            [],
            chosen["step"],
            lr=self.rate,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=0.0,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        """List the tensors of its state by name, such as 0/exp_avg.

        They share memory with it.
        """
        return {f"{i}/{slot}": tensor for slot, tensors in self.slots.items() for i, tensor in enumerate(tensors)}
