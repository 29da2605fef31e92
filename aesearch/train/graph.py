"""Training step as a CUDA graph, recorded once and replayed for each batch.

A step of a small model is hundreds of kernels of a few microseconds each. Launching them one by one takes longer than
running them.
"""

import gc
from collections.abc import Callable

import torch
from torch import Tensor

WARM = 3  # ordinary steps before the recording, in which memory is allocated and kernels are chosen

StepFunction = Callable[[Tensor, Tensor | None], None]


class Graphed:
    """Training step that records itself as a CUDA graph.

    The step is recorded at its full batch number WARM + 1, and replayed from then on. Batches of another size run as
    ordinary steps.

    step: the step to record.
    generators: the random generators that it uses.
    """

    def __init__(self, step: StepFunction, generators: list[torch.Generator]) -> None:
        self.step = step
        self.generators = generators
        self.stream = torch.cuda.Stream()
        self.done = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: tuple[Tensor, Tensor | None] | None = None

    def __call__(self, raw: Tensor, label: Tensor | None) -> None:
        """Run the step on images ``raw`` and their labels."""
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
        # Freeing an older graph would break the recording, so collection is off.
        # Other threads may use CUDA meanwhile, so only errors of this thread count.
        gc.collect()
        gc.disable()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.step(*self.inputs)
        finally:
            gc.enable()
        return graph
