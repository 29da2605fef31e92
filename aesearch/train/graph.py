"""A training step as a CUDA graph: recorded once, replayed for every batch of its size.

A small model's step is hundreds of kernels of microseconds, and launching them one by one costs more than they do.
"""

import gc
from collections.abc import Callable

import torch
from torch import Tensor

WARM = 3  # steps that run as usual first, so that everything is allocated and chosen

StepFunction = Callable[[Tensor, Tensor | None], None]


class Graphed:
    """``step`` with its work recorded at its (WARM + 1)th full batch; batches of other sizes run as usual."""

    def __init__(self, step: StepFunction, generators: list[torch.Generator]) -> None:
        self.step = step
        self.generators = generators
        self.stream = torch.cuda.Stream()
        self.done = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: tuple[Tensor, Tensor | None] | None = None

    def __call__(self, raw: Tensor, label: Tensor | None) -> None:
        """As ``step``."""
        if self.inputs is None:
            self.inputs = (raw.clone(), None if label is None else label.clone())
        if raw.shape != self.inputs[0].shape:
            self.step(raw, label)
        elif self.done < WARM:
            self.done += 1
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                self.step(raw, label)
            torch.cuda.current_stream().wait_stream(self.stream)
        else:
            self.inputs[0].copy_(raw)
            if label is not None and self.inputs[1] is not None:
                self.inputs[1].copy_(label)
            if self.graph is None:
                self.graph = self._record()
            self.graph.replay()

    def _record(self) -> torch.cuda.CUDAGraph:
        assert self.inputs is not None
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        # An older graph that is freed while this one is recorded would spoil it; other threads may use CUDA meanwhile.
        gc.collect()
        gc.disable()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.step(*self.inputs)
        finally:
            gc.enable()
        return graph
