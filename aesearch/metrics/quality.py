"""How good a reconstruction is, and what a linear one of the same code size would be."""

import math

import numpy as np
from numpy.typing import NDArray

from aesearch.metrics.kinds import MetricKind

Images = NDArray[np.floating]
Array = NDArray[np.float64]
WINDOW, SIGMA = 11, 1.5
CHUNK = 256
MOST_EXACT = 1024


MSE = MetricKind(
    name="mse",
    better="less",
    unit="per pixel",
    explanation="squared error of the image decoded from the code mean.",
    floor=None,
    ceiling=None,
    cost="pass",
)
DENOISING_MSE = MetricKind(
    name="denoising_mse",
    better="less",
    unit="per pixel",
    explanation="mse of noisy inputs against clean targets.",
    floor=None,
    ceiling=None,
    cost="pass",
)
PCA_MSE = MetricKind(
    name="pca_mse",
    better="less",
    unit="per pixel",
    explanation="mse of as many principal components as the model has codes, of 20,000 train images at most.",
    floor=None,
    ceiling=None,
    cost="fit",
)
PSNR_GAIN = MetricKind(
    name="psnr_gain",
    better="more",
    unit="dB",
    explanation=(
        "PSNR gained over the noisy image clipped to [0, 1], mean over images; with a number, at that "
        "standard deviation of test noise, else at that of training."
    ),
    floor=None,
    ceiling=None,
    cost="images",
    number="standard deviation of the test noise",
)
PSNR = MetricKind(
    name="psnr",
    better="more",
    unit="dB",
    explanation="peak signal-to-noise ratio of the image decoded from the code mean, mean over images.",
    floor=None,
    ceiling=None,
    cost="images",
)
SSIM = MetricKind(
    name="ssim",
    better="more",
    unit="",
    explanation="structural similarity of the image decoded from the code mean, mean over images.",
    floor=None,
    ceiling=None,
    cost="images",
)


def psnr(images: Images, targets: Images) -> Array:
    """Peak signal to noise ratio of each image in dB, (N,): -10 log10 of its mean squared error, for pixels in [0, 1].

    images, targets: (N, C, H, W). 20 dB is an error of 0.01; infinite for equal images. Blind to where errors lie.
    """
    error = ((np.asarray(images, np.float64) - targets) ** 2).reshape(len(images), -1).mean(1)
    with np.errstate(divide="ignore"):
        ratios: Array = -10 * np.log10(error)
    return ratios


def ssim(images: Images, targets: Images) -> Array:
    """Structural similarity of each image, (N,), for pixels in [0, 1]: means, variances and covariances in windows.

    (2 mx my + 0.01^2) (2 cov + 0.03^2) / ((mx^2 + my^2 + 0.01^2) (var x + var y + 0.03^2)), averaged over channels and
    over all windows that lie inside the image. images, targets: (N, C, H, W). The window is a Gaussian of sigma 1.5
    cut at 11 x 11; of a smaller image, at the largest odd size that fits. Range -1 to 1, 1 for equal images only.
    Rewards local structure; blind to errors where the target varies much.
    Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment", IEEE TIP 2004.
    Raises ValueError where the shapes differ or are not (N, C, H, W).
    """
    if images.shape != targets.shape or images.ndim != 4:
        raise ValueError(f"images and targets must be (N, C, H, W) alike, but got {images.shape} and {targets.shape}")
    size = min(WINDOW, *(side - 1 + side % 2 for side in images.shape[2:]))
    window = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * SIGMA**2))
    window /= window.sum()
    starts = range(0, len(images), CHUNK)
    parts = [_ssim(images[at : at + CHUNK], targets[at : at + CHUNK], window) for at in starts]
    return np.concatenate(parts) if parts else np.empty(0)


def bits_per_dimension(nats: float, dimensions: int) -> float:
    """A negative log likelihood in nats per image as bits per pixel and channel."""
    return nats / (dimensions * math.log(2))


def pca_mse(train: NDArray[np.floating], test: NDArray[np.floating], sizes: list[int]) -> list[float]:
    """The mean squared error per entry of ``test`` rebuilt from as many principal components of ``train`` as ``sizes``.

    train: (N, D), test: (M, D). The best that a linear autoencoder of that code size can do on train (Baldi and
    Hornik, Neural Networks 1989). Exact from the covariance (D, D) up to D = 1,024 or for sizes above D / 4; else by
    randomised subspace iteration (Halko, Martinsson, Tropp, SIAM Review 2011), seed fixed, an error within about 1 %
    above the exact one. Rows are read in chunks, so that N does not matter for the memory.
    Raises ValueError for a size below 0 or above D.
    """
    dimensions, most = train.shape[1], max(sizes, default=0)
    if min(sizes, default=0) < 0 or most > dimensions:
        raise ValueError(f"sizes must be from 0 to {dimensions}, but got {sizes}")
    mean = train.mean(0, dtype=np.float64)
    exact = dimensions <= MOST_EXACT or most > dimensions // 4
    vectors = (_eigenvectors if exact else _subspace)(train, mean, most)
    left = np.zeros(most + 1)
    for at in range(0, len(test), CHUNK):
        centred = test[at : at + CHUNK] - mean
        energy = ((centred @ vectors) ** 2).sum(0)
        left += (centred**2).sum() - np.concatenate([[0.0], energy.cumsum()])
    return [float(max(left[size], 0.0) / test.size) for size in sizes]


def _ssim(x: Images, y: Images, window: Array) -> Array:
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    mx, my = _blur(a, window), _blur(b, window)
    vx, vy, cov = _blur(a * a, window) - mx * mx, _blur(b * b, window) - my * my, _blur(a * b, window) - mx * my
    light = (2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2)
    structure = (2 * cov + 0.03**2) / (vx + vy + 0.03**2)
    values: Array = (light * structure).mean((1, 2, 3))
    return values


def _blur(x: Array, window: Array) -> Array:
    """The mean of (N, C, H, W) in each window that lies inside, weighted by ``window`` along both sides."""
    height, width = (side - len(window) + 1 for side in x.shape[2:])
    down = sum(w * x[:, :, i : i + height] for i, w in enumerate(window))
    across: Array = sum(w * down[..., i : i + width] for i, w in enumerate(window))
    return across


def _times_covariance(train: NDArray[np.floating], mean: Array, right: Array | None = None) -> Array:
    """The scatter matrix (D, D) of ``train``, or its product with ``right`` (D, R), without holding the former."""
    total = np.zeros((len(mean), len(mean) if right is None else right.shape[1]))
    for at in range(0, len(train), CHUNK):
        centred = train[at : at + CHUNK] - mean
        total += centred.T @ (centred if right is None else centred @ right)
    return total


def _eigenvectors(train: NDArray[np.floating], mean: Array, most: int) -> Array:
    return np.linalg.eigh(_times_covariance(train, mean)).eigenvectors[:, ::-1][:, :most]


def _subspace(train: NDArray[np.floating], mean: Array, most: int) -> Array:
    basis = np.random.default_rng(0).normal(size=(len(mean), most + 10))
    for _ in range(4):
        basis = np.linalg.qr(_times_covariance(train, mean, basis)).Q
    small = basis.T @ _times_covariance(train, mean, basis)
    vectors: Array = basis @ np.linalg.eigh(small).eigenvectors[:, ::-1][:, :most]
    return vectors
