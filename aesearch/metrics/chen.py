"""The mutual information gap as its paper estimates it: from the posteriors, not from bins of their means."""

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
    """Mutual information gap of sampled codes: mean over factors of the gap of (H(z_j) - H(z_j | factor)) / H(factor).

    H(z_j) is -mean log q(z_j) over ``samples`` draws, q being the mean of the Gaussian posteriors of ``images`` images
    drawn at random (None: of all); H(z_j | factor) the same within each value, with its share of the draws, averaged
    by how often values occur. means, log_variances: (N, L) of q(z|x); factors: (N, K), real ones cut into 20 bins,
    constant ones left out. The paper leaves dSprites' shape out: give the columns to count. Range 0 to 1, 0 for noise;
    unlike ``mig`` it has no ceiling of bins, but posteriors as wide as the step between values lower it. A
    duplicated code or a rotation brings it to 0; a dead code changes nothing but the draws. Takes about
    samples x images x L x (1 + K) / 10^8 seconds at most. Raises ValueError as ``mig``.
    Chen et al., "Isolating Sources of Disentanglement in VAEs", NeurIPS 2018, section 4.
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
    """The entropy in nats of each code's mixture of Gaussians, (L,), from draws of the mixture."""
    if images is not None and len(means) > images:
        chosen = rng.choice(len(means), images, replace=False)
        means, deviations = means[chosen], deviations[chosen]
    drawn = rng.integers(len(means), size=samples)
    z = means[drawn] + deviations[drawn] * rng.normal(size=(samples, means.shape[1]))
    return np.array([_negative_log_density(*columns) for columns in zip(z.T, means.T, deviations.T, strict=True)])


def _negative_log_density(z: Matrix, means: Matrix, deviations: Matrix) -> float:
    """The mean over draws z (S,) of -log of the mean of Gaussian densities; in single precision, twice as fast."""
    scale = np.sqrt(0.5) / deviations
    weight = (scale / np.sqrt(np.pi)).astype(np.float32)
    total = 0.0
    for at in range(0, len(z), CHUNK):
        # In double before the difference is scaled: a narrow posterior far from 0 would be lost.
        away = ((z[at : at + CHUNK, None] - means) * scale).astype(np.float32)
        np.square(away, out=away)
        np.negative(away, out=away)
        np.exp(away, out=away)
        total -= np.log((away @ weight).astype(np.float64) / len(means)).sum()
    return total / len(z)
