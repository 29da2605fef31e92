"""What a score is: a metric of a trained replica, measured once, at the end: it is dear, or needs more than codes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aesearch.autoencoder import Autoencoder
from aesearch.bottlenecks import Code, FactorisedCode, GaussianCode
from aesearch.datasets import Data, Dataset, forget
from aesearch.metrics import MetricKind
from aesearch.objectives import Objective, pixels
from aesearch.scores.source import Posterior, Source

BATCH = 1000
MOST_MAPPED = 100_000  # images whose pages may stay in memory once they are read


@dataclass
class Trained:
    """One trained replica and its data, as scores see them.

    model: in evaluation mode. images: indices (B,) of ``data`` to images (B, C, H, W) on the model's device.
    factor_names: of the columns of ``data.factors``. cache: the folder of what is computed once for many trials.
    """

    model: Autoencoder
    objective: Objective
    data: Data
    images: Callable[[NDArray[np.int64]], Tensor]
    seed: int
    factor_names: tuple[str, ...] = ()
    cache: Path | None = None
    _codes: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    _everything: list[Posterior] = field(default_factory=list)

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
    def posterior(self, index: NDArray[np.int64]) -> Posterior:
        """The codes of the items at ``index``, with what is known of their posteriors."""
        means, log_variances, unit_kl = [], [], []
        for part in batches(index):
            x = self.images(part)
            code = self.model(x, x.new_empty(0, len(x), self.model.latent_dim), self.label_tensor(part)).code
            means.append(code.mean.float().cpu().numpy())
            if isinstance(code, GaussianCode):
                log_variances.append(code.log_var.float().cpu().numpy())
            if isinstance(code, FactorisedCode):
                unit_kl.append(code.unit_kl().float().cpu().numpy())
            if len(index) > MOST_MAPPED:
                forget(self.data.images)
        return Posterior(np.concatenate(means), _joined(log_variances), _joined(unit_kl))

    def source(self, split: str | None) -> Source:
        """What protocols draw from: the items of a split, or with None of all. All are encoded once at most."""
        index = np.arange(len(self.data.images)) if split is None else self.index(split)

        def encode(places: NDArray[np.int64]) -> Posterior:
            if split is None and len(places) == len(index):
                if not self._everything:
                    self._everything.append(self.posterior(index))
                return self._everything[0]
            return self.posterior(index[places])

        factors = None if self.data.factors is None else self.data.factors[index]
        return Source(encode, len(index), factors, self.factor_names)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """What the model makes of images (B, C, H, W): the expected image at the code mean."""
        codes = self.model.encode(x, label)
        return pixels(self.model.decode(codes, label), self.objective.likelihood)


def _joined(parts: list[NDArray[np.float32]]) -> NDArray[np.float32] | None:
    return np.concatenate(parts) if parts else None


def batches(index: NDArray[np.int64], size: int = BATCH) -> list[NDArray[np.int64]]:
    """``index`` in parts of at most ``size``."""
    return [index[start : start + size] for start in range(0, len(index), size)]


class Score(ABC):
    """A frozen value: one or more metrics of a trained replica.

    kinds: what its metrics are, where the files of aesearch.metrics do not say it.
    """

    kinds: ClassVar[tuple[MetricKind, ...]] = ()

    @property
    def needs(self) -> type[Code]:
        """The kind of code that it is measured on."""
        return Code

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The splits that it is measured on; only what is measured on val can be searched."""

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
