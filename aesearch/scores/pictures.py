"""Scores of reconstructions: against PCA, and from noisy inputs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from aesearch.corruptions import GaussianNoise
from aesearch.datasets import Dataset, is_picture
from aesearch.errors import UserError
from aesearch.metrics.quality import pca_mse, psnr
from aesearch.objectives import Objective
from aesearch.scores.base import Score, Trained, batches

MOST_FITTED = 20_000


@dataclass(frozen=True)
class PCA(Score):
    """The mean squared error of as many principal components as the model has codes: what a linear one reaches."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("pca_mse",)

    def check(self, data: Dataset, objective: Objective) -> None:
        """Any data and objective will do."""

    def measure(self, trained: Trained, split: str) -> Mapping[str, float]:
        train, test = (
            np.concatenate([trained.images(i).flatten(1).cpu().numpy() for i in batches(index)])
            for index in (trained.index("train")[:MOST_FITTED], trained.index(split))
        )
        size = min(trained.codes(split).shape[1], train.shape[1])
        return {"pca_mse": pca_mse(train, test, [size])[0]}


@dataclass(frozen=True)
class Denoising(Score):
    """PSNR in dB gained over inputs with Gaussian noise of each standard deviation in ``noise``.

    The noisy input counts as clipped to [0, 1], as a person would show it; the model sees it unclipped.
    """

    noise: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"psnr_gain_{std:g}" for std in self.noise)

    def check(self, data: Dataset, objective: Objective) -> None:  # noqa: ARG002
        if not is_picture(data.shape):
            raise UserError(f"Denoising needs images, but got {data}")
        if not self.noise or min(self.noise) <= 0:
            raise UserError(f"noise must be standard deviations above 0, but got noise={self.noise}")

    def measure(self, trained: Trained, split: str) -> Mapping[str, float]:
        index = trained.index(split)
        return {f"psnr_gain_{std:g}": self._gain(trained, index, std) for std in self.noise}

    @staticmethod
    def _gain(trained: Trained, index: NDArray[np.int64], std: float) -> float:
        gains = []
        for part in batches(index):
            x = trained.images(part)
            generator = torch.Generator(x.device).manual_seed(int(part[0]))
            noisy = GaussianNoise(std).corrupt(x, generator)
            rebuilt = trained.reconstruct(noisy, trained.label_tensor(part))
            clean, before, after = (t.clamp(0, 1).cpu().numpy() for t in (x, noisy, rebuilt))
            gains.append(psnr(after, clean) - psnr(before, clean))
        return float(np.concatenate(gains).mean())
