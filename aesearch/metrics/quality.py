"""How good a reconstruction is, and what a linear one of the same code size would be."""

import math

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.floating]


def psnr(images: Images, targets: Images) -> NDArray[np.float64]:
    """Peak signal to noise ratio of each image in dB, (N,): -10 log10 of its mean squared error, for pixels in [0, 1].

    images, targets: (N, C, H, W). 20 dB is an error of 0.01; infinite for equal images. Blind to where errors lie.
    """
    error = ((np.asarray(images, np.float64) - targets) ** 2).reshape(len(images), -1).mean(1)
    with np.errstate(divide="ignore"):
        ratios: NDArray[np.float64] = -10 * np.log10(error)
    return ratios


def bits_per_dimension(nats: float, dimensions: int) -> float:
    """A negative log likelihood in nats per image as bits per pixel and channel."""
    return nats / (dimensions * math.log(2))


def pca_mse(train: NDArray[np.floating], test: NDArray[np.floating], sizes: list[int]) -> list[float]:
    """The mean squared error per entry of ``test`` rebuilt from as many principal components of ``train`` as ``sizes``.

    train: (N, D), test: (M, D). The best that a linear autoencoder of that code size can do on train (Baldi and
    Hornik, Neural Networks 1989). From the covariance (D, D), so that N does not matter for the memory.
    Raises ValueError for a size below 0 or above D.
    """
    dimensions = train.shape[1]
    if min(sizes) < 0 or max(sizes) > dimensions:
        raise ValueError(f"sizes must be from 0 to {dimensions}, but got {sizes}")
    mean = train.mean(0, dtype=np.float64)
    _, vectors = np.linalg.eigh(np.cov(train.T, dtype=np.float64, bias=True).reshape(dimensions, dimensions))
    centred = test - mean
    energy = ((centred @ vectors[:, ::-1]) ** 2).sum(0)
    left = (centred**2).sum() - np.concatenate([[0.0], energy.cumsum()])
    return [float(max(left[size], 0.0) / test.size) for size in sizes]
