"""Ways to compute one training: the same numbers, at other speeds."""

from dataclasses import dataclass

import torch

from aesearch.errors import UserError


@dataclass(frozen=True)
class Engine:
    """The way in which the replicas of a trial are computed; by default the one that is fast on a CPU.

    vmapped: whether all replicas are one program, or each has its own (vmap costs 1.3 to 1.8 times as much on a CPU).
    graphed: whether a step is recorded as a CUDA graph and replayed. streaming: whether batches are copied to the
    device ahead of their use; False keeps the whole data set there, None decides by the device's free memory.
    """

    vmapped: bool = False
    graphed: bool = False
    streaming: bool | None = None


def engine_for(device: torch.device) -> Engine:
    """Choose the engine that is fast on ``device``."""
    on_gpu = device.type == "cuda"
    return Engine(vmapped=on_gpu, graphed=on_gpu)


def checked(engine: Engine, device: torch.device) -> Engine:
    """Give the ``engine`` back. Raises UserError where the ``device`` cannot run it."""
    if engine.graphed and device.type != "cuda":
        raise UserError(f"graphed=True needs a GPU, but got device={str(device)!r}; write {Engine(engine.vmapped)}")
    return engine
