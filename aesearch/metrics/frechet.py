"""How far a set of images is from another, as the distance of two Gaussians in a space of features."""

import numpy as np
from numpy.typing import NDArray

from aesearch.metrics.kinds import MetricKind

Features = NDArray[np.floating]
Array = NDArray[np.float64]
FEATURES = "random-conv-256"
CHANNELS = (16, 32, 64)
CHUNK = 256


FRECHET_SAMPLES = MetricKind(
    name="frechet_samples",
    better="less",
    unit="",
    explanation=(
        "squared Frechet distance of Gaussians in the space random-conv-256 (an untrained network, no "
        "download; not comparable with published ones), from images to samples."
    ),
    floor=None,
    ceiling="frechet_data, of as many train images",
    cost="images",
)
FRECHET_RECONSTRUCTIONS = MetricKind(
    name="frechet_reconstructions",
    better="less",
    unit="",
    explanation="the same distance from images to their reconstructions.",
    floor=None,
    ceiling="frechet_data, of as many train images",
    cost="images",
)
FRECHET_DATA = MetricKind(
    name="frechet_data",
    better="less",
    unit="",
    explanation="the same distance from images to as many train images, the least that can be hoped for.",
    floor=None,
    ceiling=None,
    cost="images",
)


def frechet(features: Features, others: Features) -> float:
    """The Frechet distance (squared) of the Gaussians fitted to two sets of features.

    |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)). features: (N, F), others: (M, F); with N below some 10 F the
    estimate is clearly too high, so compare figures of equal N only. Range 0 up; the floor is its value between two
    halves of the data. Rewards the right spread and mean; blind to everything beyond second moments and to copies.
    A figure belongs to its feature space: name it (``FEATURES``). Raises ValueError for fewer than two rows or
    non-finite values.
    Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", NeurIPS 2017 (there with Inception's features).
    """
    for given in (features, others):
        if given.ndim != 2 or len(given) < 2 or given.shape[1] != features.shape[1] or not np.isfinite(given).all():
            raise ValueError(
                "features must be finite (N, F) and (M, F) with N and M of 2 or more, "
                f"but got shapes {features.shape} and {others.shape}"
            )
    return frechet_gaussian(*_moments(features), *_moments(others))


def frechet_gaussian(mean: Array, covariance: Array, other_mean: Array, other_covariance: Array) -> float:
    """The squared Frechet (2-Wasserstein) distance of two Gaussians; means (F,), covariances (F, F).

    Dowson and Landau, Journal of Multivariate Analysis 1982.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ other_covariance @ root).clip(0)).sum()
    distance = ((mean - other_mean) ** 2).sum() + np.trace(covariance) + np.trace(other_covariance) - 2 * cross
    return float(max(distance, 0.0))


def random_conv_features(images: NDArray[np.floating]) -> Array:
    """Features (N, 256) of images (N, C, H, W) in [0, 1], of 4 x 4 pixels at least: an untrained convolutional network.

    Three 3 x 3 convolutions of stride 2 to 16, 32 and 64 channels with ReLU, He weights of one fixed seed, then the
    mean over each quadrant. It needs no download, and untrained features tell samples of MNIST-like data apart where
    those of ImageNet mislead (Naeem et al., "Reliable Fidelity and Diversity Metrics", ICML 2020). Not comparable with
    a published FID. Its name is ``FEATURES``.
    """
    if images.ndim != 4 or min(images.shape[2:]) < 4:
        raise ValueError(f"images must be (N, C, H, W) of 4 x 4 pixels at least, but got {images.shape}")
    rng = np.random.default_rng(0)
    sizes = (images.shape[1], *CHANNELS)
    weights = [
        (rng.normal(size=(9 * a, b)) * np.sqrt(2 / (9 * a))).astype(np.float32)
        for a, b in zip(sizes, CHANNELS, strict=False)
    ]
    parts = [_forward(images[at : at + CHUNK], weights) for at in range(0, len(images), CHUNK)]
    return np.concatenate(parts) if parts else np.empty((0, 4 * CHANNELS[-1]))


def _forward(images: NDArray[np.floating], weights: list[NDArray[np.float32]]) -> Array:
    x = 2 * np.asarray(images, np.float32).transpose(0, 2, 3, 1) - 1
    for weight in weights:
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::2, ::2]
        x = np.maximum(windows.reshape(*windows.shape[:3], -1) @ weight, 0)
    # Halves that overlap where a side is odd, so that an image of one remaining row has two as well.
    sides = [(slice(0, (side + 1) // 2), slice(side // 2, None)) for side in x.shape[1:3]]
    means = [x[:, rows, columns].mean((1, 2)) for rows in sides[0] for columns in sides[1]]
    return np.concatenate(means, axis=1).astype(np.float64)


def _moments(features: Features) -> tuple[Array, Array]:
    mean = features.mean(0, dtype=np.float64)
    return mean, np.atleast_2d(np.cov(features.T, dtype=np.float64))
