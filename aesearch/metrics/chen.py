"""Mutual information gap (MIG) as its paper estimates it.

It reads the posteriors themselves, not bins of their means.
"""

import numpy as np

from aesearch.metrics.tables import Codes, Factors, Matrix, checked, entropies, gap, indices, which_vary

CHUNK = 500


def mig_chen(
    means: Codes,
    log_variances: Codes,
    factors: Factors,
    samples: int = 10_000,
    images: int | None = 10_000,
    seed: int = 0,
) -> float:
    """Compute the mutual information gap (MIG) of sampled codes.

    The score is the mean over factors of the gap of (H(z_j) - H(z_j | factor)) / H(factor): the largest minus the
    second largest over the codes j. H(z_j) is -mean log q(z_j) over draws from q, the mean of the Gaussian posteriors
    of the images. H(z_j | factor) is the same within each value of the factor, averaged by how often the values occur;
    a value has its share of the draws.

    means, log_variances: (N, L), of q(z | x).
    factors: (N, K); real ones are cut into 20 bins, constant ones are ignored. The paper ignores dSprites' shape: pass
    only the columns that count.
    samples: number of draws for H(z_j).
    images: number of images in the mixture q, drawn at random; None for all.
    seed: of the draws.

    Range 0 to 1, 0 for noise. Bins do not limit it, as they limit ``mig``, but posteriors as wide as the step between
    values lower it. A duplicated code or a rotation brings it to 0. A dead code changes only the draws. It takes about
    samples x images x L x (1 + K) / 10^8 seconds at most.
    Raises ValueError as ``mig``.
    Source: Chen et al., "Isolating Sources of Disentanglement in VAEs", NeurIPS 2018, section 4.
    """
    means, factors = checked(means, factors)
    log_variances, _ = checked(log_variances, factors)
    if means.shape != log_variances.shape:
        raise ValueError(f"means and log_variances must be alike, but got {means.shape} and {log_variances.shape}")
    labels = indices(factors[:, which_vary(factors)])
    deviations = np.exp(0.5 * log_variances)
    rng = np.random.default_rng(seed)
    whole = _entropies(means, deviations, samples, images, rng)
    information = np.empty((means.shape[1], labels.shape[1]))
    for k, label in enumerate(labels.T):
        within = np.zeros(means.shape[1])
        for value, count in zip(*np.unique(label, return_counts=True), strict=True):
            part, share = label == value, count / len(label)
            draws = max(1, round(samples * share))
            within += share * _entropies(means[part], deviations[part], draws, images, rng)
        information[:, k] = (whole - within).clip(0.0)
    return float(np.mean(gap(information / entropies(labels))))


def _entropies(means: Matrix, deviations: Matrix, samples: int, images: int | None, rng: np.random.Generator) -> Matrix:
    """Estimate the entropy in nats of each code's mixture of Gaussians, (L,).

    The estimate is a mean over draws from the mixture.
    """
    if images is not None and len(means) > images:
        chosen = rng.choice(len(means), images, replace=False)
        means, deviations = means[chosen], deviations[chosen]
    drawn = rng.integers(len(means), size=samples)
    z = means[drawn] + deviations[drawn] * rng.normal(size=(samples, means.shape[1]))
    return np.array([_negative_log_density(*columns) for columns in zip(z.T, means.T, deviations.T, strict=True)])


def _negative_log_density(z: Matrix, means: Matrix, deviations: Matrix) -> float:
    """Average -log density of a mixture of Gaussians over draws z (S,).

    Single precision makes it twice as fast.
    """
    scale = np.sqrt(0.5) / deviations
    weight = (scale / np.sqrt(np.pi)).astype(np.float32)
    total = 0.0
    for at in range(0, len(z), CHUNK):
        # Single precision would lose a narrow posterior far from 0, so the difference is taken in double.
        away = ((z[at : at + CHUNK, None] - means) * scale).astype(np.float32)
        np.square(away, out=away)
        np.negative(away, out=away)
        np.exp(away, out=away)
        total -= np.log((away @ weight).astype(np.float64) / len(means)).sum()
    return total / len(z)
