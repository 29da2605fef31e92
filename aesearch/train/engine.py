"""Engines: ways to compute a training, with the same numbers at different speeds."""

from dataclasses import dataclass

import torch

from aesearch.errors import UserError


@dataclass(frozen=True)
class Engine:
    """Way to compute the replicas of a trial; the default is fast on a CPU.

    vmapped: True runs all replicas as one program; False runs each by itself. On a CPU, vmap takes 1.3 to 1.8 times
    as long.
    graphed: True records a step as a CUDA graph and replays it.
    streaming: True copies batches to the device ahead of their use; False keeps the whole data set there; None
    chooses by the device's free memory.
    """

    vmapped: bool = False
    graphed: bool = False
    streaming: bool | None = None


def engine_for(device: torch.device) -> Engine:
    """Choose the engine that is fast on ``device``."""
    on_gpu = device.type == "cuda"
    return Engine(vmapped=on_gpu, graphed=on_gpu)


def checked(engine: Engine, device: torch.device) -> Engine:
    """Return the ``engine`` if the ``device`` can run it.

    Raises UserError where it cannot.
    """
    if engine.graphed and device.type != "cuda":
        raise UserError(f"graphed=True needs a GPU, but got device={str(device)!r}; write {Engine(engine.vmapped)}")
    return engine
