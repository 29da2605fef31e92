"""Replicas: R models of one shape as one callable."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.utils._pytree import tree_map

Models = dict[str, Callable[..., Any]]
Arguments = Tensor | None | tuple[Tensor | None, ...]


class Replicas:
    """Named modules, R of each.

    R = 1 uses plain calls; more use one vmapped program.

    modules: the R modules of each name.
    """

    def __init__(self, modules: Mapping[str, list[nn.Module]]) -> None:
        self.count = len(next(iter(modules.values())))
        self.modules = {name: members[0] for name, members in modules.items()}
        if self.count > 1:
            self.stacked = {name: stack_module_state(members) for name, members in modules.items()}
            self.modules = {name: deepcopy(module).to("meta") for name, module in self.modules.items()}

    def __call__(self, function: Callable[..., Any], *args: Arguments) -> Any:
        """Call ``function(models, *args)`` for each replica.

        args: tensors with a first axis R, None, or tuples of these; so are the results.
        """
        if self.count == 1:
            outputs = function(self.modules, *tree_map(_first, args))
            return tree_map(lambda tensor: tensor[None], outputs)

        def one(stacked: dict[str, Any], *args: Arguments) -> Any:
            return function({name: self._bound(name, *stacked[name]) for name in stacked}, *args)

        return vmap(one, in_dims=(0, *tree_map(_axis, args)))(self.stacked, *args)

    def _bound(self, name: str, params: dict[str, Tensor], buffers: dict[str, Tensor]) -> Callable[..., Any]:
        return lambda *inputs, **options: functional_call(self.modules[name], (params, buffers), inputs, options)

    def train(self, mode: bool) -> None:
        """Set all modules to training mode if ``mode`` is True, else to evaluation mode."""
        for module in self.modules.values():
            module.train(mode)

    def parameters(self, name: str) -> list[Tensor]:
        """List the parameters of a module; with R > 1 each is (R, ...)."""
        return list(self.modules[name].parameters()) if self.count == 1 else list(self.stacked[name][0].values())

    def state(self, name: str) -> dict[str, Tensor]:
        """List parameters and buffers of a module by name, each (R, ...).

        They share memory with the module.
        """
        if self.count == 1:
            return {key: tensor.detach()[None] for key, tensor in self.modules[name].state_dict().items()}
        params, buffers = self.stacked[name]
        return {key: tensor.detach() for key, tensor in (params | buffers).items()}


def _first(arg: Tensor | None) -> Tensor | None:
    return None if arg is None else arg[0]


def _axis(arg: Tensor | None) -> int | None:
    return None if arg is None else 0
