"""Comparisons: scores of models beside each other.

They measure how far models agree that were trained alike, or for one question.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aesearch.datasets import Dataset
from aesearch.errors import UserError
from aesearch.metrics import MetricKind, model_centrality, udr, votes_of_groups
from aesearch.objectives import Objective, pixels
from aesearch.scores.score import BATCH, Trained

Values = tuple[float, ...]


class Comparison(ABC):
    """A frozen value: metrics of each of several models, relative to the others.

    In ``TrainConfig.scores`` it compares the replicas of a trial, in ``Study.comparisons`` all models of a study.
    kinds: descriptions of those of its metrics that no file of aesearch.metrics describes.
    """

    kinds: ClassVar[tuple[MetricKind, ...]] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits whose items it may encode.

        Labels are never read, so val serves both search and report.
        """
        return ("val",)

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the metrics, without a split."""

    @abstractmethod
    def check(self, data: Dataset, objective: Objective) -> None:
        """Raise UserError where the metrics are not defined for this data or objective."""

    @abstractmethod
    def compare(self, models: Sequence[Trained], split: str) -> Mapping[str, Values]:
        """Measure a value of each model for each of ``names``.

        models: two or more, which see the same data.
        split: one of ``splits``.
        """


@dataclass(frozen=True)
class UDR(Comparison):
    """Unsupervised disentanglement ranking, by Lasso and by Spearman correlations.

    points: number of items of val whose codes are compared.
    """

    points: int = 1_000

    def __post_init__(self) -> None:
        if self.points < 2:
            raise UserError(f"points must be at least 2, but got points={self.points}")

    @property
    def names(self) -> tuple[str, ...]:
        return ("udr_lasso", "udr_spearman")

    def check(self, data: Dataset, objective: Objective) -> None:
        """Accept any data and objective."""

    def compare(self, models: Sequence[Trained], split: str) -> Mapping[str, Values]:
        posteriors = [model.posterior(model.index(split)[: self.points]) for model in models]
        codes = [posterior.means for posterior in posteriors]
        known = [posterior.unit_kl.mean(0) for posterior in posteriors if posterior.unit_kl is not None]
        kl = known if len(known) == len(posteriors) else None
        return {"udr_lasso": tuple(udr(codes, kl, "lasso")), "udr_spearman": tuple(udr(codes, kl, "spearman"))}


@dataclass(frozen=True)
class ModelCentrality(Comparison):
    """Agreement of each model's encoder with the decoders of the others, both ways.

    Each decoder makes images of codes from its prior, in groups that share the value of one code. Each other encoder
    predicts which code was shared: the FactorVAE score, tested on the votes that it learns from. M models decode M x
    votes x size images, and encode M - 1 times as many.

    votes: number of groups.
    size: number of images of a group.
    seed: of the draws.

    Source: Lin, Thekumparampil, Fanti, Oh, "InfoGAN-CR and ModelCentrality", ICML 2020 (there 1,000 votes of 100).
    """

    votes: int = 100
    size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if self.votes < 1 or self.size < 2:
            raise UserError(f"votes >= 1 and size >= 2 must hold, but got {self}")

    @property
    def names(self) -> tuple[str, ...]:
        return ("model_centrality",)

    def check(self, data: Dataset, objective: Objective) -> None:  # noqa: ARG002
        if not objective.variational:
            raise UserError(f"ModelCentrality needs a prior to draw codes from, as VAE() has, but got {objective}")

    def compare(self, models: Sequence[Trained], split: str) -> Mapping[str, Values]:  # noqa: ARG002
        agreement = np.eye(len(models))
        for j, maker in enumerate(models):
            images, labels = self._images(maker)
            for i, judge in enumerate(models):
                if i != j:
                    codes = _encoded(judge, images).reshape(self.votes, self.size, -1)
                    agreement[i, j] = votes_of_groups(codes, labels)
        return {"model_centrality": tuple(model_centrality(agreement))}

    @torch.no_grad()
    def _images(self, maker: Trained) -> tuple[list[Tensor], NDArray[np.int64]]:
        """Draw images in batches, the ``size`` images of a vote in a row.

        Gives also the index of the code that each vote held fixed.
        """
        rng = np.random.default_rng(self.seed)
        device = next(maker.model.parameters()).device
        noise = rng.standard_normal((self.votes * self.size, maker.model.latent_dim), np.float32)
        component = torch.from_numpy(rng.integers(2**31, size=len(noise)))
        drawn = maker.model.from_prior(torch.from_numpy(noise).to(device), component.to(device))
        codes = drawn.unflatten(0, (self.votes, self.size)).clone()
        fixed = np.arange(self.votes) % maker.model.latent_dim
        for vote, j in enumerate(fixed):
            codes[vote, :, j] = codes[vote, 0, j]
        flat = codes.flatten(0, 1)
        parts = [maker.model.decode(part, _label(maker, len(part))) for part in flat.split(BATCH)]
        return [pixels(part, maker.objective.likelihood) for part in parts], fixed


def _label(model: Trained, count: int) -> Tensor | None:
    """Make labels of the first class for a conditional model, else None.

    Encoder and decoder have the same labels.
    """
    device = next(model.model.parameters()).device
    return torch.zeros(count, dtype=torch.int64, device=device) if model.model.classes else None


@torch.no_grad()
def _encoded(judge: Trained, images: list[Tensor]) -> NDArray[np.float32]:
    parts = [judge.model.encode(part, _label(judge, len(part))).float().cpu().numpy() for part in images]
    codes: NDArray[np.float32] = np.concatenate(parts)
    return codes
