"""Frechet distance between two sets of images.

It is the distance of two Gaussians, fitted to features of the images.
"""

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
    explanation="the same distance from images to as many train images: the best value to expect.",
    floor=None,
    ceiling=None,
    cost="images",
)


def frechet(features: Features, others: Features) -> float:
    """Compute the squared Frechet distance of two sets of features.

    It is that of the Gaussians fitted to them: |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)), with means m, m' and
    covariances S, S'.

    features: (N, F).
    others: (M, F).

    Range 0 up; the floor is the distance of two halves of the data. Compare values of equal N only: with N below some
    10 F the estimate is clearly too high. Rewards the right mean and covariance. Blind to everything beyond second
    moments, and to copies of images. A distance belongs to its feature space, so name that (``FEATURES``).
    Raises ValueError for fewer than two rows or non-finite values.
    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", NeurIPS 2017 (there with Inception's
    features).
    """
    for given in (features, others):
        if given.ndim != 2 or len(given) < 2 or given.shape[1] != features.shape[1] or not np.isfinite(given).all():
            raise ValueError(
                "features must be finite (N, F) and (M, F) with N and M of 2 or more, "
                f"but got shapes {features.shape} and {others.shape}"
            )
    return frechet_gaussian(*_moments(features), *_moments(others))


def frechet_gaussian(mean: Array, covariance: Array, other_mean: Array, other_covariance: Array) -> float:
    """Compute the squared Frechet (2-Wasserstein) distance of two Gaussians.

    mean, other_mean: (F,).
    covariance, other_covariance: (F, F).

    Source: Dowson and Landau, Journal of Multivariate Analysis 1982.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ other_covariance @ root).clip(0)).sum()
    distance = ((mean - other_mean) ** 2).sum() + np.trace(covariance) + np.trace(other_covariance) - 2 * cross
    return float(max(distance, 0.0))


def random_conv_features(images: NDArray[np.floating]) -> Array:
    """Compute features (N, 256) of images with an untrained convolutional network.

    The network has three 3 x 3 convolutions of stride 2 to 16, 32 and 64 channels with ReLU, and He weights of one
    fixed seed. The features are the means over each quadrant of the image. The name of this feature space is
    ``FEATURES``.

    images: (N, C, H, W) in [0, 1], of 4 x 4 pixels at least.

    It needs no download. A published FID has other features, so the two cannot be compared. On MNIST-like data
    untrained features distinguish samples where those of ImageNet mislead.
    Raises ValueError for another shape.
    Source: Naeem et al., "Reliable Fidelity and Diversity Metrics", ICML 2020.
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
    # A side may have one row left, so the halves of an odd side overlap: neither is empty.
    sides = [(slice(0, (side + 1) // 2), slice(side // 2, None)) for side in x.shape[1:3]]
    means = [x[:, rows, columns].mean((1, 2)) for rows in sides[0] for columns in sides[1]]
    return np.concatenate(means, axis=1).astype(np.float64)


def _moments(features: Features) -> tuple[Array, Array]:
    mean = features.mean(0, dtype=np.float64)
    return mean, np.atleast_2d(np.cov(features.T, dtype=np.float64))
