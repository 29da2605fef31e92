"""Posterior of the true values of settings, each known from a few seeds.

The true value of a setting is the mean that endless seeds of it would have. All draws come from one model, which has
two levels. Settings are drawn from a normal law around a common mean, and seeds from a normal law around their setting.
What looks best is shrunk towards the common mean by as much as seeds move it, so the winner's curse is corrected.

Source: Everson and Morris, "Inference for multivariate normal hierarchical models", JRSS B 2000.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, ndtr, ndtri, polygamma

from aesearch.pareto import on_front

Values = NDArray[np.float64]

DRAWS = 2000
SIZES = (18, 12)  # points of the grid of each deviation of settings, with one metric and with two
ARCTANH_RHO = np.linspace(-3.8, 3.8, 17)  # grid of the correlation of settings between two metrics
MOST_POINTS = 4000  # of a scale
AT_ONCE = 50_000  # settings times laws, whose matrices are in memory together
WIDTH = 1.6  # of the kernel that estimates the law of settings, by its deviation and N^-1/5


@dataclass(frozen=True)
class Seeds:
    """Means of N settings in M metrics, and the spread of their seeds.

    means: (N, M). counts: seeds of each setting (N,). variances: of one seed (N, M).
    own: degrees of freedom of each setting's variance (N, M), infinite where all settings share one.
    correlation: of a setting's seeds between the metrics (M, M).
    """

    means: Values
    counts: NDArray[np.int64]
    variances: Values
    own: Values
    correlation: Values

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the pooled variance."""
        return int((self.counts - 1).sum())


def summary(values: Sequence[Values]) -> Seeds:
    """Estimate the mean of each setting, and the variance of its seeds.

    A setting's variance is the pooled one, or its own shrunk towards the common one where that is larger. How much it
    is shrunk is estimated from how the variances differ; where they differ by no more than chance allows, all have the
    pooled one. None has less: the few seeds of a setting may agree by chance, as when none of them collapsed.

    values: for each of N settings (R_i, M), its seeds by metrics.

    Source: Smyth, "Linear models and empirical Bayes methods", SAGMB 2004.
    """
    counts = np.array([len(of_one) for of_one in values])
    means = np.array([of_one.mean(0) for of_one in values])
    residuals = [of_one - mean for of_one, mean in zip(values, means, strict=True)]
    squares = np.array([(of_one**2).sum(0) for of_one in residuals])
    freedom = counts - 1
    metrics = means.shape[1]
    variances, own = np.empty_like(means), np.full_like(means, np.inf)
    for m in range(metrics):
        # Where no seed moves a metric, its variance is that of rounding.
        least = (1e-6 * (means[:, m].std() or 1.0)) ** 2
        variances[:, m] = max(float(squares[:, m].sum() / freedom.sum()), least)
        prior, common = _moderation(squares[:, m], freedom, least)
        if np.isfinite(prior):
            own[:, m] = prior + freedom
            variances[:, m] = np.maximum(variances[:, m], (prior * common + squares[:, m]) / own[:, m])
    scaled = np.concatenate([of_one / np.sqrt(one) for of_one, one in zip(residuals, variances, strict=True)])
    # Few seeds say little of a correlation: independence counts as much as M + 1 of them.
    products = scaled.T @ scaled + (metrics + 1) * np.eye(metrics)
    deviations = np.sqrt(np.diag(products))
    return Seeds(means, counts, variances, own, products / np.outer(deviations, deviations))


def _moderation(squares: Values, freedom: NDArray[np.int64], least: float) -> tuple[float, float]:
    """Estimate the common variance, and how many degrees of freedom it counts.

    They are the moments of the logarithms in the source above. The degrees are infinite where the variances of settings
    differ by no more than chance allows.
    """
    known = freedom > 0
    total = float(squares.sum() / freedom.sum())
    if known.sum() < 2 or total <= least:
        return np.inf, total
    half = freedom[known] / 2
    logs = np.log(np.maximum(squares[known] / freedom[known], 1e-5 * total)) - digamma(half) + np.log(half)
    excess = logs.var(ddof=1) - polygamma(1, half).mean()
    if excess <= 0:
        return np.inf, total
    # Newton's steps for the inverse of the trigamma function, in the appendix of the source.
    prior = 0.5 + 1 / excess
    for _ in range(20):
        found = polygamma(1, prior)
        prior += found * (1 - found / excess) / polygamma(2, prior)
    return 2 * float(prior), float(np.exp(logs.mean() + digamma(prior) - np.log(prior)))


@dataclass(frozen=True)
class Scale:
    """Scale on which the settings are normal: ``warped`` over ``raw``, increasing."""

    raw: Values
    warped: Values

    def there(self, values: Values) -> Values:
        """Map values of the metric to normal scores."""
        return np.interp(values, self.raw, self.warped)

    def back(self, scores: Values) -> Values:
        """Map normal scores to values of the metric."""
        return np.interp(scores, self.warped, self.raw)


def normal_scale(means: Values, error: float) -> Scale:
    """Estimate the scale on which the means of settings are normal.

    Dominance is the same on every monotone scale. A curved trade-off becomes a straight one on this, which a
    correlation describes, and single bad settings do not widen the law of all.

    means: (N,). error: standard error of a mean; nothing finer is told from noise.

    Source: Liu, Lafferty and Wasserman, "The nonparanormal", JMLR 2009; here with a smooth distribution function.
    """
    low, high = np.percentile(means, [25, 75])
    spread = min(means.std(), (high - low) / 1.34) or means.std()
    width = max(WIDTH * spread * len(means) ** -0.2, error)
    raw = np.unique((means[:, None] + width * np.linspace(-8, 8, 129)).ravel())
    # Of many settings the points lie so dense that most can go.
    raw = raw[np.unique(np.linspace(0, len(raw) - 1, MOST_POINTS).astype(int))]
    below = (raw[:, None] - means) / width
    left, right = ndtr(below).mean(1), ndtr(-below).mean(1)
    # The smaller tail has all digits.
    warped = np.where(left < right, ndtri(left), -ndtri(right))
    rising = np.concatenate([[True], np.diff(np.maximum.accumulate(warped)) > 1e-9])
    return Scale(raw[rising], warped[rising])


def true_means(values: Sequence[Values], seed: int = 0, count: int = DRAWS) -> Values:
    """Draw the true means of settings from their posterior, (count, N, M).

    values: for each of N settings (R_i, M), R_i seeds in M = 1 or 2 metrics.
    seed: of the draws.
    count: number of draws.

    The uncertainty of the spread over seeds, of the common mean and of the spread over settings is in the draws. The
    prior of a metric's variance over settings is uniform in the shrinkage that it implies, and that of a correlation
    is the arc-sine law. Seeds count as independent, though settings may share them.

    Returns NaN where no setting has two seeds.
    Source: Everson and Morris, JRSS B 2000; Daniels, "A prior for the variance in hierarchical models", Can. J. Stat.
    1999; Fosdick and Raftery, "Estimating the correlation in bivariate normal data", Am. Stat. 2012.
    """
    settings, metrics = len(values), values[0].shape[1]
    if max(map(len, values)) < 2:
        return np.full((count, settings, metrics), np.nan)
    rng = np.random.default_rng(seed)
    seeds = summary(values)
    errors = np.sqrt(seeds.variances / seeds.counts[:, None])
    scales = [normal_scale(seeds.means[:, m], float(np.sqrt((errors[:, m] ** 2).mean()))) for m in range(metrics)]
    scores, noise = np.empty_like(errors), np.empty_like(errors)
    for m, scale in enumerate(scales):
        around = scale.there(seeds.means[:, m] + errors[:, m] * np.array([[-1.0], [0.0], [1.0]]))
        scores[:, m], noise[:, m] = around[1], (around[2] - around[0]) / 2
    covariances = noise[:, :, None] * noise[:, None, :] * seeds.correlation
    drawn = _draw(scores, covariances, _inflations(seeds, rng, count), rng)
    return np.stack([scale.back(drawn[..., m]) for m, scale in enumerate(scales)], axis=-1)


def _inflations(seeds: Seeds, rng: np.random.Generator, count: int) -> Values:
    """Draw true over estimated deviations of seeds (count, N, M): Student's tails."""
    shape = seeds.means.shape
    common = seeds.freedom / rng.chisquare(seeds.freedom, (count, 1, shape[1]))
    finite = np.isfinite(seeds.own)
    own = np.where(finite, seeds.own, 1.0)
    return np.sqrt(common * np.where(finite, own / rng.chisquare(own, (count, *shape)), 1.0))


def _laws(spread: Values, error: Values) -> tuple[Values, Values]:
    """Make a grid of covariances of settings (G, M, M), with log prior weights (G,).

    spread: standard deviation of the settings' means (M,). error: their standard error (M,).
    """
    deviations, weights = [], []
    for s, e in zip(spread, error, strict=True):
        of_one = np.geomspace(0.1 * e, 3 * max(s, e), SIZES[len(spread) - 1])
        deviations.append(of_one)
        weights.append(2 * np.log(of_one) - 2 * np.log(e**2 + of_one**2))
    if len(spread) == 1:
        return deviations[0][:, None, None] ** 2, weights[0]
    first, second, rho = (one.ravel() for one in np.meshgrid(*deviations, np.tanh(ARCTANH_RHO), indexing="ij"))
    products = np.stack([first**2, rho * first * second, rho * first * second, second**2], axis=-1)
    prior = weights[0][:, None, None] + weights[1][:, None] + 0.5 * np.log1p(-(np.tanh(ARCTANH_RHO) ** 2))
    return products.reshape(-1, 2, 2), prior.ravel()


def _draw(scores: Values, covariances: Values, inflations: Values, rng: np.random.Generator) -> Values:
    """Draw the true scores of settings, (count, N, M).

    scores: (N, M). covariances: of their errors (N, M, M). inflations: factors of the errors (count, N, M).
    """
    count = len(inflations)
    errors = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2).mean(0))
    spread = scores.std(0, ddof=1) if len(scores) > 1 else errors
    laws, prior = _laws(spread, errors)
    parts = np.array_split(laws, -(-len(laws) * len(scores) // AT_ONCE))
    fits = np.concatenate([_centres(_inverse(part[:, None] + covariances), scores)[2] for part in parts])
    weights = np.exp(prior + fits - (prior + fits).max())
    law = laws[rng.choice(len(laws), count, p=weights / weights.sum())][:, None]
    precisions = _inverse(law + covariances * inflations[..., :, None] * inflations[..., None, :])
    centres, inverses, _ = _centres(precisions, scores)
    centre = (centres + _normal(inverses, rng))[:, None]
    gain = law @ precisions
    middle = centre + (gain @ (scores - centre)[..., None])[..., 0]
    return np.asarray(middle + _normal(law - gain @ law, rng))


def _centres(precisions: Values, scores: Values) -> tuple[Values, Values, Values]:
    """Estimate the common mean (G, M), its covariance and the log likelihood (G,).

    precisions: of each setting's scores around the common mean (G, N, M, M). scores: (N, M).
    """
    inverse = _inverse(precisions.sum(1))
    weighted = (precisions @ scores[:, :, None])[..., 0]
    centres = (inverse @ weighted.sum(1)[..., None])[..., 0]
    squares = (weighted * scores).sum((1, 2)) - (weighted.sum(1) * centres).sum(-1)
    logs = np.log(np.linalg.det(precisions)).sum(1) + np.log(np.linalg.det(inverse))
    return centres, inverse, (logs - squares) / 2


def _inverse(matrices: Values) -> Values:
    return np.asarray(np.linalg.inv(matrices), dtype=np.float64)


def _normal(covariances: Values, rng: np.random.Generator) -> Values:
    """Draw normal numbers (..., M) of covariances (..., M, M) that may be singular."""
    plain = rng.standard_normal(covariances.shape[:-1])
    first = np.sqrt(np.maximum(covariances[..., 0, 0], 0.0))
    drawn = first[..., None] * plain
    if plain.shape[-1] == 2:
        slope = covariances[..., 1, 0] / np.maximum(first, 1e-300)
        rest = np.sqrt(np.maximum(covariances[..., 1, 1] - slope**2, 0.0))
        drawn[..., 1] = slope * plain[..., 0] + rest * plain[..., 1]
    return np.asarray(drawn)


def chances(draws: Values) -> Values:
    """Compute the chance of each setting to be on the front of the true means, (N,).

    With one metric that is the chance to be the best.

    draws: costs from ``true_means`` (D, N, M).
    """
    return np.asarray(on_front(draws).mean(0), dtype=np.float64)


def intervals(draws: Values, level: float = 0.95) -> Values:
    """Compute the interval of each setting's true mean.

    draws: from ``true_means`` (D, N, M). level: chance that an interval holds the true mean.

    Returns the lower and the upper ends (2, N, M).
    """
    tail = 50 * (1 - level)
    return np.asarray(np.percentile(draws, [tail, 100 - tail], axis=0))
