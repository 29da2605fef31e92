"""Scores of images: reconstructions, denoised images and samples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aesearch.corruptions import GaussianNoise
from aesearch.datasets import Dataset, is_picture
from aesearch.errors import UserError
from aesearch.metrics.frechet import frechet, random_conv_features
from aesearch.metrics.quality import pca_mse, psnr, ssim
from aesearch.objectives import Objective, pixels
from aesearch.scores.sampling import KNOWN, has_prior, known_codes, mixture_codes, prior_codes
from aesearch.scores.score import BATCH, Score, Trained, batches, drawn

MOST_FITTED = 20_000


@dataclass(frozen=True)
class PCA(Score):
    """Mean squared error of as many principal components as the model has codes.

    A linear model of that size reaches it.
    """

    estimator: ClassVar[int] = 2

    @property
    def splits(self) -> tuple[str, ...]:
        return ("val", "test")

    @property
    def names(self) -> tuple[str, ...]:
        return ("pca_mse",)

    def check(self, data: Dataset, objective: Objective) -> None:
        """Accept any data and objective."""

    def measure(self, trained: Trained, split: str) -> Mapping[str, float]:
        train, test = (
            np.concatenate([trained.images(i).flatten(1).cpu().numpy() for i in batches(index)])
            for index in (drawn(trained.index("train"), MOST_FITTED), trained.index(split))
        )
        size = min(trained.codes(split).shape[1], train.shape[1])
        return {"pca_mse": pca_mse(train, test, [size])[0]}


@dataclass(frozen=True)
class Denoising(Score):
    """PSNR in dB gained over inputs with Gaussian noise.

    noise: standard deviations, with a metric for each.

    The model sees the noisy input as it is. The gain is over that input clipped to [0, 1], as it would be shown.
    """

    noise: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5)

    @property
    def splits(self) -> tuple[str, ...]:
        return ("val", "test")

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


@dataclass(frozen=True)
class Quality(Score):
    """PSNR in dB and structural similarity of reconstructions, means over the split.

    Images are reconstructed at the code mean.
    """

    @property
    def splits(self) -> tuple[str, ...]:
        return ("val", "test")

    @property
    def names(self) -> tuple[str, ...]:
        return ("psnr", "ssim")

    def check(self, data: Dataset, objective: Objective) -> None:  # noqa: ARG002
        if not is_picture(data.shape):
            raise UserError(f"Quality needs images, but got {data}")

    def measure(self, trained: Trained, split: str) -> Mapping[str, float]:
        ratios, similar = [], []
        for part in batches(trained.index(split)):
            x = trained.images(part)
            rebuilt = trained.reconstruct(x, trained.label_tensor(part)).clamp(0, 1).cpu().numpy()
            ratios.append(psnr(rebuilt, x.cpu().numpy()))
            similar.append(ssim(rebuilt, x.cpu().numpy()))
        return {"psnr": float(np.concatenate(ratios).mean()), "ssim": float(np.concatenate(similar).mean())}


@dataclass(frozen=True)
class Frechet(Score):
    """Frechet distances from images of the split; less is better.

    images: number of images of the split, at most.
    seed: of the draws of images and samples.

    frechet_samples: to as many samples, those of ``use sample``: their codes are drawn from the prior, or without one
    as ``use sample --prior mixture`` does; a sample is their expected pixels.
    frechet_reconstructions: to the images' own reconstructions.
    frechet_data: to as many images of train; it is the floor of the others.
    Features are those of ``random_conv_features``. All three grow as ``images`` falls, so compare equal numbers only.
    """

    images: int = 5_000
    seed: int = 0
    estimator: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.images < 2:
            raise UserError(f"images must be at least 2, but got images={self.images}")

    @property
    def splits(self) -> tuple[str, ...]:
        return ("val", "test")

    @property
    def names(self) -> tuple[str, ...]:
        return ("frechet_samples", "frechet_reconstructions", "frechet_data")

    def check(self, data: Dataset, objective: Objective) -> None:  # noqa: ARG002
        if min(data.shape[1:]) < 4:
            raise UserError(f"Frechet needs images of 4 x 4 pixels at least, but got {data}")

    def measure(self, trained: Trained, split: str) -> Mapping[str, float]:
        index = drawn(trained.index(split), self.images, self.seed)
        train = drawn(trained.index("train"), len(index), self.seed)
        real = np.concatenate([_features(trained.images(part)) for part in batches(index)])
        others = {
            "frechet_samples": self._sampled(trained, index),
            "frechet_reconstructions": [
                _features(trained.reconstruct(trained.images(part), trained.label_tensor(part)))
                for part in batches(index)
            ],
            "frechet_data": [_features(trained.images(part)) for part in batches(train)],
        }
        return {name: frechet(np.concatenate(features), real) for name, features in others.items()}

    @torch.no_grad()
    def _sampled(self, trained: Trained, index: NDArray[np.int64]) -> list[NDArray[np.float64]]:
        """Compute features of as many samples as ``index`` has.

        A conditional model's samples have the labels of those items.
        """
        if has_prior(trained.objective):
            flat = prior_codes(trained.model, len(index), self.seed)
        else:
            val = drawn(trained.index("val"), KNOWN)
            parts = [known_codes(trained.model, trained.images(i), trained.label_tensor(i)) for i in batches(val)]
            codes = mixture_codes(trained.model, torch.cat(parts).cpu().numpy(), len(index), self.seed)
            flat = torch.from_numpy(codes).to(next(trained.model.parameters()).device)
        features = []
        for at, part in zip(range(0, len(index), BATCH), flat.split(BATCH), strict=True):
            label = trained.label_tensor(index[at : at + BATCH])
            features.append(_features(pixels(trained.model.decode(part, label), trained.objective.likelihood)))
        return features


def _features(images: Tensor) -> NDArray[np.float64]:
    return random_conv_features(images.clamp(0, 1).cpu().numpy())
