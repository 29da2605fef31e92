"""What a score is: a metric that is measured once, on a trained replica: it is dear, or needs more than codes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aesearch.autoencoder import Autoencoder
from aesearch.datasets import Data, Dataset
from aesearch.objectives import Objective, pixels

BATCH = 1000


@dataclass
class Trained:
    """One trained replica and its data, as scores see them.

    model: in evaluation mode. images: indices (B,) of ``data`` to images (B, C, H, W) on the model's device.
    """

    model: Autoencoder
    objective: Objective
    data: Data
    images: Callable[[NDArray[np.int64]], Tensor]
    seed: int
    _codes: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def index(self, split: str) -> NDArray[np.int64]:
        """The indices of train, val or test."""
        index: NDArray[np.int64] = getattr(self.data, split)
        return index

    def labels(self, split: str) -> NDArray[np.int64]:
        """(N,) the labels of a split; asserts that there are any."""
        assert self.data.labels is not None
        return self.data.labels[self.index(split)]

    def label_tensor(self, index: NDArray[np.int64]) -> Tensor | None:
        """The labels of ``index`` for a conditional model, else None."""
        if not self.model.classes:
            return None
        assert self.data.labels is not None
        return torch.from_numpy(self.data.labels[index]).to(next(self.model.parameters()).device)

    @torch.no_grad()
    def codes(self, split: str) -> NDArray[np.float32]:
        """(N, L) the codes of a split, encoded once."""
        if split not in self._codes:
            parts = [self.model.encode(self.images(i), self.label_tensor(i)) for i in batches(self.index(split))]
            self._codes[split] = torch.cat(parts).float().cpu().numpy()
        return self._codes[split]

    @torch.no_grad()
    def reconstruct(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """What the model makes of images (B, C, H, W): the expected image at the code mean."""
        codes = self.model.encode(x, label)
        return pixels(self.model.decode(codes, label), self.objective.likelihood)


def batches(index: NDArray[np.int64], size: int = BATCH) -> list[NDArray[np.int64]]:
    """``index`` in parts of at most ``size``."""
    return [index[start : start + size] for start in range(0, len(index), size)]


class Score(ABC):
    """A frozen value: one or more metrics of a trained replica."""

    # The splits that it is measured on; only what is measured on val can be searched.
    splits: ClassVar[tuple[str, ...]] = ("val", "test")

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """The names of the metrics, without a split."""

    @abstractmethod
    def check(self, data: Dataset, objective: Objective) -> None:
        """Raises UserError where the metrics are not defined for this data or objective."""

    @abstractmethod
    def measure(self, trained: Trained, split: str) -> Mapping[str, float]:
        """A value for each of ``names`` on a split."""
