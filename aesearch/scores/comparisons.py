"""Comparisons: scores of models beside each other.

They measure how far models agree that were trained alike, or for one question.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aesearch.datasets import Dataset
from aesearch.errors import UserError
from aesearch.metrics import MetricKind, active_codes, chance_of_votes, model_centrality, udr, votes_of_groups
from aesearch.objectives import Objective, pixels
from aesearch.scores.score import BATCH, Reference, Trained, drawn

Values = tuple[float, ...]

ITEMS = 1_000  # of val, to tell which codes of a model are active
NOISES, LEAST_NOISES = 60, 3  # models of noise for the floor of UDR at the most, and draws of all models at least
RELATIONS: Mapping[str, Literal["lasso", "spearman"]] = {"udr_lasso": "lasso", "udr_spearman": "spearman"}


class Comparison(ABC):
    """A frozen value: metrics of each of several models, relative to the others.

    In ``TrainConfig.scores`` it compares the replicas of a trial, in ``Study.comparisons`` all models of a study.
    kinds: descriptions of those of its metrics that no file of aesearch.metrics describes.
    estimator: its version, raised whenever its answers change; a protocol has its own.
    """

    kinds: ClassVar[tuple[MetricKind, ...]] = ()
    estimator: ClassVar[int] = 1

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

    def floors(self, models: Sequence[Trained], split: str) -> Mapping[str, tuple[Reference, ...]]:  # noqa: ARG002
        """Measure chance and ceiling of each model for those of ``names`` that have them.

        None has them, unless a comparison says otherwise.
        """
        return {}

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
    estimator: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.points < 2:
            raise UserError(f"points must be at least 2, but got points={self.points}")

    @property
    def names(self) -> tuple[str, ...]:
        return ("udr_lasso", "udr_spearman")

    def check(self, data: Dataset, objective: Objective) -> None:
        """Accept any data and objective."""

    def compare(self, models: Sequence[Trained], split: str) -> Mapping[str, Values]:
        posteriors = [model.posterior(drawn(model.index(split), self.points)) for model in models]
        codes = [posterior.means for posterior in posteriors]
        known = [posterior.unit_kl.mean(0) for posterior in posteriors if posterior.unit_kl is not None]
        kl = known if len(known) == len(posteriors) else None
        return {"udr_lasso": tuple(udr(codes, kl, "lasso")), "udr_spearman": tuple(udr(codes, kl, "spearman"))}

    def floors(self, models: Sequence[Trained], split: str) -> Mapping[str, tuple[Reference, ...]]:
        """Compare codes of noise, as many as each model has active."""
        rng = np.random.default_rng(0)
        points = min(self.points, min(len(model.index(split)) for model in models))
        active = [int(_active(model, split).sum()) for model in models]
        # A draw of many models takes as long as comparing them, and its values hardly differ from the next one's.
        draws = max(LEAST_NOISES, NOISES // len(models))
        found: dict[str, tuple[Reference, ...]] = {}
        for name, relation in RELATIONS.items():
            drawn_udr = np.array(
                [udr([rng.normal(size=(points, count)) for count in active], None, relation) for _ in range(draws)]
            )
            ceiling = 0.9 if relation == "lasso" else 1.0
            both = zip(drawn_udr.mean(0), drawn_udr.std(0), strict=True)
            found[name] = tuple(Reference(float(mean), ceiling, float(spread)) for mean, spread in both)
        return found


@dataclass(frozen=True)
class ModelCentrality(Comparison):
    """Agreement of each model's encoder with the decoders of the others, both ways.

    Each decoder makes images of codes from its prior, in groups that share the value of one active code. Each other
    encoder predicts which code was shared: the FactorVAE score of its active codes, tested on the votes that it learns
    from. A code is active with a mean KL above 0.01 nats on val, as for UDR. M models decode M x votes x size images,
    and encode M - 1 times as many.

    votes: number of groups.
    size: number of images of a group.
    seed: of the draws.

    Source: Lin, Thekumparampil, Fanti, Oh, "InfoGAN-CR and ModelCentrality", ICML 2020 (there 1,000 votes of 100).
    """

    votes: int = 100
    size: int = 64
    seed: int = 0
    estimator: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.votes < 1 or self.size < 2:
            raise UserError(f"votes >= 1 and size >= 2 must hold, but got {self}")

    @property
    def names(self) -> tuple[str, ...]:
        return ("model_centrality",)

    def check(self, data: Dataset, objective: Objective) -> None:  # noqa: ARG002
        if not objective.variational:
            raise UserError(f"ModelCentrality needs a prior to draw codes from, as VAE() has, but got {objective}")

    def compare(self, models: Sequence[Trained], split: str) -> Mapping[str, Values]:
        active = [_active(model, split) for model in models]
        agreement = np.eye(len(models))
        for j, maker in enumerate(models):
            if not active[j].any():
                continue  # It has no code that another could tell.
            fixed = self._fixed(active[j])
            images = self._images(maker, fixed)
            for i, judge in enumerate(models):
                if i != j and active[i].any():
                    codes = _encoded(judge, images)[:, active[i]].reshape(self.votes, self.size, -1)
                    agreement[i, j] = votes_of_groups(codes, fixed)
        return {"model_centrality": tuple(model_centrality(agreement))}

    def floors(self, models: Sequence[Trained], split: str) -> Mapping[str, tuple[Reference, ...]]:
        """Let each judge's active codes vote at random."""
        active = [_active(model, split) for model in models]
        chance = {
            (i, j): chance_of_votes(int(judge.sum()), self._fixed(maker)) if maker.any() else (0.0, 0.0)
            for j, maker in enumerate(active)
            for i, judge in enumerate(active)
            if i != j
        }
        found = []
        for i in range(len(models)):
            means, spreads = zip(*(chance[pair] for pair in chance if i in pair), strict=True)
            # The values of a model are as many draws, and its centrality is their mean.
            found.append(Reference(float(np.mean(means)), 1.0, float(np.linalg.norm(spreads)) / len(spreads)))
        return {"model_centrality": tuple(found)}

    def _fixed(self, active: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Give the code that each vote holds fixed: each active one in turn."""
        return np.resize(np.flatnonzero(active), self.votes)

    @torch.no_grad()
    def _images(self, maker: Trained, fixed: NDArray[np.int64]) -> list[Tensor]:
        """Draw images in batches, the ``size`` images of a vote in a row.

        fixed: the code that each vote holds fixed.
        """
        rng = np.random.default_rng(self.seed)
        device = next(maker.model.parameters()).device
        noise = rng.standard_normal((self.votes * self.size, maker.model.latent_dim), np.float32)
        component = torch.from_numpy(rng.integers(2**31, size=len(noise)))
        drawn = maker.model.from_prior(torch.from_numpy(noise).to(device), component.to(device))
        codes = drawn.unflatten(0, (self.votes, self.size)).clone()
        for vote, j in enumerate(fixed):
            codes[vote, :, j] = codes[vote, 0, j]
        flat = codes.flatten(0, 1)
        parts = [maker.model.decode(part, _label(maker, len(part))) for part in flat.split(BATCH)]
        return [pixels(part, maker.objective.likelihood) for part in parts]


def _active(model: Trained, split: str) -> NDArray[np.bool_]:
    """Mark the codes of a model that are in use, (L,)."""
    posterior = model.posterior(drawn(model.index(split), ITEMS))
    return active_codes(posterior.means, posterior.unit_kl)


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
