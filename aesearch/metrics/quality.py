"""Quality of reconstructions, and the error of a linear model to compare with."""

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
    """Compute the peak signal-to-noise ratio of each image in dB, (N,).

    It is -10 log10 of the image's mean squared error.

    images, targets: (N, C, H, W), pixels in [0, 1].

    20 dB is an error of 0.01. Equal images have an infinite ratio. Blind to where errors lie.
    """
    error = ((np.asarray(images, np.float64) - targets) ** 2).reshape(len(images), -1).mean(1)
    with np.errstate(divide="ignore"):
        ratios: Array = -10 * np.log10(error)
    return ratios


def ssim(images: Images, targets: Images) -> Array:
    """Compute the structural similarity of each image, (N,).

    With means m, variances var and the covariance cov of two windows x and y it is
    (2 mx my + 0.01^2) (2 cov + 0.03^2) / ((mx^2 + my^2 + 0.01^2) (var x + var y + 0.03^2)), averaged over channels and
    over all windows that lie inside the image. The window is a Gaussian of sigma 1.5, cut at 11 x 11. A smaller image
    has the largest window of odd size that fits.

    images, targets: (N, C, H, W), pixels in [0, 1].

    Range -1 to 1, 1 for equal images only. Rewards local structure. Blind to errors where the target varies much.
    Raises ValueError where the shapes differ or are not (N, C, H, W).
    Source: Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment", IEEE TIP 2004.
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
    """Convert a negative log likelihood to bits per pixel and channel.

    nats: per image.
    dimensions: pixels times channels of an image.
    """
    return nats / (dimensions * math.log(2))


def pca_mse(train: NDArray[np.floating], test: NDArray[np.floating], sizes: list[int]) -> list[float]:
    """Compute the mean squared error per entry of data rebuilt by PCA.

    On train it is the least error of a linear autoencoder of that code size (Baldi and Hornik, Neural Networks 1989).

    train: (N, D), to fit on.
    test: (M, D), to rebuild.
    sizes: numbers of principal components; one error is given for each.

    Exact, from the covariance (D, D), up to D = 1,024 or for sizes above D / 4. Else by randomised subspace iteration
    with a fixed seed (Halko, Martinsson, Tropp, SIAM Review 2011), within about 1 % above the exact error. Rows are
    read in chunks, so memory does not grow with N.
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
    """Average (N, C, H, W) in each window that lies inside.

    ``window`` holds the weights along both sides.
    """
    height, width = (side - len(window) + 1 for side in x.shape[2:])
    down = sum(w * x[:, :, i : i + height] for i, w in enumerate(window))
    across: Array = sum(w * down[..., i : i + width] for i, w in enumerate(window))
    return across


def _times_covariance(train: NDArray[np.floating], mean: Array, right: Array | None = None) -> Array:
    """Compute the scatter matrix (D, D), or its product with ``right`` (D, R).

    The product is made without holding the scatter matrix in memory.
    """
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
