"""Scores and the trained replicas that they measure.

A score is measured once, at the end: it is expensive, or needs more than codes.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

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

    model: in evaluation mode.
    objective: that of training.
    data: with the splits, labels and factors.
    images: gives for indices (B,) of ``data`` the images (B, C, H, W) on the model's device.
    seed: of the replica.
    factor_names: of the columns of ``data.factors``.
    cache: the folder of values that are computed once for many trials.
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
        """Give the indices of train, val or test."""
        index: NDArray[np.int64] = getattr(self.data, split)
        return index

    def labels(self, split: str) -> NDArray[np.int64]:
        """Give the labels (N,) of a split; the data must have some."""
        assert self.data.labels is not None
        return self.data.labels[self.index(split)]

    def label_tensor(self, index: NDArray[np.int64]) -> Tensor | None:
        """Give the labels of ``index`` for a conditional model, else None."""
        if not self.model.classes:
            return None
        assert self.data.labels is not None
        return torch.from_numpy(self.data.labels[index]).to(next(self.model.parameters()).device)

    @torch.no_grad()
    def codes(self, split: str) -> NDArray[np.float32]:
        """Encode a split, once; give its codes (N, L)."""
        if split not in self._codes:
            parts = [self.model.encode(self.images(i), self.label_tensor(i)) for i in batches(self.index(split))]
            self._codes[split] = torch.cat(parts).float().cpu().numpy()
        return self._codes[split]

    @torch.no_grad()
    def posterior(self, index: NDArray[np.int64]) -> Posterior:
        """Encode the items at ``index``; give their posteriors as far as known."""
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
        """Make the source that protocols draw from.

        split: the items of one split, or None for all items. All items are encoded once at most.
        """
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
        """Reconstruct images (B, C, H, W): the expected image at the code mean."""
        codes = self.model.encode(x, label)
        return pixels(self.model.decode(codes, label), self.objective.likelihood)


def _joined(parts: list[NDArray[np.float32]]) -> NDArray[np.float32] | None:
    return np.concatenate(parts) if parts else None


def batches(index: NDArray[np.int64], size: int = BATCH) -> list[NDArray[np.int64]]:
    """Cut ``index`` into parts of at most ``size``."""
    return [index[start : start + size] for start in range(0, len(index), size)]


def drawn(index: NDArray[np.int64], most: int, seed: int = 0) -> NDArray[np.int64]:
    """Draw at most ``most`` items of ``index`` without replacement.

    They stay in order. The first items of a file are often no fair sample of it: the first half of MNIST's test is the
    easier one.
    """
    if len(index) <= most:
        return index
    return index[np.sort(np.random.default_rng(seed).permutation(len(index))[:most])]


class Reference(NamedTuple):
    """Floor and ceiling to hold the values of a metric against.

    floor: the value without any merit, a mean over draws, such as of codes of noise.
    ceiling: the value with full merit, such as of the factors as codes.
    spread: the standard deviation of a draw of the floor; NaN where it is of one draw.
    """

    floor: float
    ceiling: float
    spread: float = math.nan


class Score(ABC):
    """A frozen value: one or more metrics of a trained replica.

    kinds: descriptions of those of its metrics that no file of aesearch.metrics describes.
    estimator: its version, raised whenever its answers change; a protocol has its own.
    """

    kinds: ClassVar[tuple[MetricKind, ...]] = ()
    estimator: ClassVar[int] = 1

    @property
    def needs(self) -> type[Code]:
        """Kind of code that it is measured on."""
        return Code

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Splits that it is measured on; a study can search metrics of val only."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the metrics, without a split."""

    def names_for(self, data: Dataset, objective: Objective) -> tuple[str, ...]:  # noqa: ARG002
        """Names of the metrics that a model of this data and objective has."""
        return self.names

    @abstractmethod
    def check(self, data: Dataset, objective: Objective) -> None:
        """Raise UserError where the metrics are not defined for this data or objective."""

    @abstractmethod
    def measure(self, trained: Trained, split: str) -> Mapping[str, float]:
        """Measure a value for each of ``names_for`` the data and objective."""
