"""Accuracy of classifiers on codes when only few items have labels."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aesearch.autoencoder import Autoencoder
from aesearch.datasets import Dataset
from aesearch.errors import UserError, nearest
from aesearch.metrics.downstream import knn_accuracy, labelled, probe_accuracy
from aesearch.objectives import Objective
from aesearch.scores.score import Score, Trained, batches

NEIGHBOURS = 5
FINE_TUNING_STEPS = 300
FINE_TUNING_BATCH = 64


def _check(labels: tuple[int | Literal["all"], ...], draws: int, data: Dataset, factor: str | None = None) -> None:
    known = {name: size for name, size in data.factor_sizes.items() if size > 1}
    if factor is not None and factor not in known:
        raise UserError(f"unknown factor {factor!r} of {data}: {nearest(factor, known)}")
    if factor is None and not data.classes:
        raise UserError(f"{data} has no labels; use data with labels, such as MNIST(), or name a factor for Probe")
    classes = len(data.classes) if factor is None else known[factor]
    if not labels or draws < 1 or any(count != "all" and count < classes for count in labels):
        raise UserError(
            f'labels must be at least {classes}, one per class, or "all", and draws at least 1, but got '
            f"labels={labels}, draws={draws}"
        )


@dataclass(frozen=True)
class Probe(Score):
    """Accuracy of a linear probe and of nearest neighbours on codes.

    labels: numbers of labels of train, with metrics for each; "all" for every label.
    draws: number of draws of the labels. A metric is their mean; "all" is drawn once.
    raw: whether the linear probe is also measured on the pixels themselves.
    factor: name of the ground-truth factor to predict; None for the class.

    Five neighbours vote, fewer where a class has fewer labels. The linear probe uses 10,000 labels at most.
    """

    labels: tuple[int | Literal["all"], ...] = (100, 1000)
    draws: int = 3
    raw: bool = False
    factor: str | None = None

    @property
    def splits(self) -> tuple[str, ...]:
        return ("val", "test")

    @property
    def names(self) -> tuple[str, ...]:
        kinds = ("probe", "knn", *(("raw_probe",) if self.raw else ()))
        return tuple(f"{self._kind(kind)}_{count}" for kind in kinds for count in self.labels)

    def _kind(self, kind: str) -> str:
        return kind if self.factor is None else f"{self.factor}_{kind}"

    def check(self, data: Dataset, objective: Objective) -> None:  # noqa: ARG002
        _check(self.labels, self.draws, data, self.factor)

    def measure(self, trained: Trained, split: str) -> Mapping[str, float]:
        found: dict[str, float] = {}
        train, test = trained.codes("train"), trained.codes(split)
        known, target = self._target(trained, "train"), self._target(trained, split)
        for count in self.labels:
            values: dict[str, list[float]] = {}
            for draw in range(1 if count == "all" else self.draws):
                chosen = labelled(known, len(known) if count == "all" else min(count, len(known)), draw)
                few = (train[chosen], known[chosen], test, target)
                values.setdefault("probe", []).append(probe_accuracy(*few))
                # More neighbours than a class has labels would outvote it.
                rarest = int(np.unique(known[chosen], return_counts=True)[1].min())
                values.setdefault("knn", []).append(knn_accuracy(*few, neighbours=min(NEIGHBOURS, rarest)))
                if self.raw:
                    pixels = _pixels(trained, trained.index("train")[chosen])
                    on_pixels = (pixels, known[chosen], _pixels(trained, trained.index(split)), target)
                    values.setdefault("raw_probe", []).append(probe_accuracy(*on_pixels))
            found |= {f"{self._kind(kind)}_{count}": float(np.mean(each)) for kind, each in values.items()}
        return found

    def _target(self, trained: Trained, split: str) -> NDArray[np.int64]:
        if self.factor is None:
            return trained.labels(split)
        assert trained.data.factors is not None
        target: NDArray[np.int64] = trained.data.factors[trained.index(split), trained.factor_names.index(self.factor)]
        return target


def _pixels(trained: Trained, index: NDArray[np.int64]) -> NDArray[np.float32]:
    parts = [trained.images(part).flatten(1).cpu().numpy() for part in batches(index)]
    return np.concatenate(parts)


@dataclass(frozen=True)
class FineTuned(Score):
    """Accuracy of the encoder with a linear head, fine-tuned and from scratch.

    "fine_tuned" starts from the trained weights, "scratch" from new ones. Both have 300 steps of Adam, of at most 64
    images.

    labels: numbers of labels of train, with metrics for each.
    draws: number of draws of the labels. A metric is their mean.
    learning_rate: of Adam.
    """

    labels: tuple[int, ...] = (100, 1000)
    draws: int = 1
    learning_rate: float = 1e-3

    @property
    def splits(self) -> tuple[str, ...]:
        return ("test",)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{kind}_{count}" for kind in ("fine_tuned", "scratch") for count in self.labels)

    def check(self, data: Dataset, objective: Objective) -> None:  # noqa: ARG002
        _check(self.labels, self.draws, data)

    def measure(self, trained: Trained, split: str) -> Mapping[str, float]:
        found: dict[str, float] = {}
        known = trained.labels("train")
        for count in self.labels:
            values: dict[str, list[float]] = {"fine_tuned": [], "scratch": []}
            for draw in range(self.draws):
                chosen = labelled(known, min(count, len(known)), draw)
                for kind in values:
                    values[kind].append(self._accuracy(trained, chosen, split, kind == "scratch", draw))
            found |= {f"{kind}_{count}": float(np.mean(each)) for kind, each in values.items()}
        return found

    def _accuracy(self, trained: Trained, chosen: NDArray[np.int64], split: str, scratch: bool, seed: int) -> float:
        x = trained.images(trained.index("train")[chosen])
        y = torch.from_numpy(trained.labels("train")[chosen]).to(x.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = _Classifier(deepcopy(trained.model), int(trained.labels("train").max()) + 1, scratch).to(x.device)
        optimizer = torch.optim.Adam(model.parameters(), lr=self.learning_rate)
        generator = torch.Generator().manual_seed(seed)
        size = min(FINE_TUNING_BATCH, len(x))
        model.train()
        for _ in range(FINE_TUNING_STEPS):
            batch = torch.randperm(len(x), generator=generator)[:size].to(x.device)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            guesses = [model(trained.images(part)).argmax(1).cpu() for part in batches(trained.index(split))]
        return float((torch.cat(guesses).numpy() == trained.labels(split)).mean())


class _Classifier(nn.Module):
    """Linear layer on the code means of an encoder.

    ``scratch`` draws the encoder's weights anew.
    """

    def __init__(self, model: Autoencoder, classes: int, scratch: bool) -> None:
        super().__init__()
        self.model = model
        if scratch:
            for module in self.model.modules():
                if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d | nn.GroupNorm):
                    module.reset_parameters()
        codes = self.model.encode(torch.zeros(2, *model.shape, device=next(model.parameters()).device))
        self.head = nn.Linear(codes.shape[1], classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.model.encode(x))
        return logits
