"""Trends: rank correlations, and the variance that parameters explain.

Each is held against noise, and counts what was drawn independently: trials, not the replicas of one trial.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata
from scipy.stats import t as student

Values = NDArray[np.float64]

SHUFFLES = 9999
MOST_SHUFFLED = 50  # items of a rank correlation that is shuffled; of more Student's law holds
LEAST_FOR_TAIL = 20  # items from which on Student's law tells p-values that no shuffle reaches
TAIL = 3.0  # times Student's law, which is at most 2.6 times too small there
MOST_LEFT_OUT = 200  # parts that the jackknife leaves out
NOISES = 999
INTERACTING = 8  # the most parameters of which interactions are fitted
NEGLIGIBLE = 1e-12  # eigenvalues of a kernel, as a share of the largest
LENGTH = 0.5  # of the kernel, as a share of a parameter's range
RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
MEAN = 100.0  # weight of the constant in a kernel: it is hardly penalised


@dataclass(frozen=True)
class Correlation:
    """Rank correlation with its interval, and the p-value of no correlation.

    n: items. clusters: groups of items that were drawn independently, n where each item was. conditions: within which
    the items were ranked, 1 where all were ranked together. same: those whose own rho has the sign of rho.
    """

    rho: float
    low: float
    high: float
    p: float
    n: int
    clusters: int
    conditions: int = 1
    same: int = 1


def spearman(
    x: Values, y: Values, clusters: NDArray[Any] | None = None, level: float = 0.95, seed: int = 0
) -> Correlation | None:
    """Compute Spearman's rho, its interval and its p-value.

    Without clusters the interval is that of Bonett and Wright, and p is that of a permutation test, or of Student's law
    with more than 50 items. With clusters both are of the jackknife that leaves a cluster out, on Fisher's scale. Of
    more than 200 clusters it leaves several out together. A rho of 1 counts there as half a step below 1.

    x, y: (n,). clusters: the name of each item's group (n,), such as the trial of a replica.
    level: chance that the interval holds the true rho. seed: of the permutations.

    Returns None with fewer than 4 independent groups, or where x or y is constant.
    Source: Bonett and Wright, "Sample size requirements for estimating Pearson, Kendall and Spearman correlations",
    Psychometrika 2000; Phipson and Smyth, SAGMB 2010 (p); Efron and Tibshirani, "An Introduction to the Bootstrap",
    1993, chapter 11.
    """
    n = len(x)
    groups = np.unique(np.arange(n) if clusters is None else clusters, return_inverse=True)[1]
    count = int(groups.max(initial=-1)) + 1
    if count < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    ranks = np.stack([rankdata(x), rankdata(y)])
    rho = float(np.corrcoef(ranks)[0, 1])
    most = 1 - 6 / (n * (n**2 - 1))
    z = np.arctanh(np.clip(rho, -most, most))
    if clusters is None:
        half = float(ndtri(0.5 + level / 2)) * np.sqrt((1 + rho**2 / 2) / (n - 3))
        p = _p_value(ranks, rho, seed)
    else:
        parts = min(count, MOST_LEFT_OUT)
        left = np.arctanh(np.clip(_without_each(x, y, groups % parts, parts), -most, most))
        error = np.sqrt((parts - 1) / parts * ((left - left.mean()) ** 2).sum())
        half = float(student.ppf(0.5 + level / 2, parts - 1)) * error
        p = float(2 * student.sf(abs(z) / error, parts - 1)) if error > 0 else 1.0
    return Correlation(rho, float(np.tanh(z - half)), float(np.tanh(z + half)), p, n, count)


def spearman_within(
    x: Values, y: Values, conditions: NDArray[Any], level: float = 0.95, seed: int = 0
) -> Correlation | None:
    """Compute Spearman's rho within conditions, its interval and its p-value.

    Items are ranked within their condition, and each condition's mean rank is removed. So neither the level nor the
    scale of a condition counts. Ranks are divided by the condition's size + 1, so that its items weigh like others. All
    else is as in ``spearman``; items are shuffled within their condition, and each condition takes a degree of freedom.
    A condition in which x or y is constant says nothing.

    x, y: (n,). conditions: of each item (n,).

    Returns None where fewer than 4 items are left, less one for each condition but the first.
    Source: van Elteren, "On the combination of independent two sample tests of Wilcoxon", 1960, for the weights.
    """
    places = np.unique(conditions, return_inverse=True)[1]
    parts = [np.flatnonzero(places == place) for place in np.unique(places)]
    parts = [part for part in parts if np.ptp(x[part]) > 0 and np.ptp(y[part]) > 0]
    n, count = sum(map(len, parts)), len(parts)
    if n - count + 1 < 4:
        return None
    ranked = [np.stack([rankdata(of_one[part]) for of_one in (x, y)]) / (len(part) + 1) - 0.5 for part in parts]
    products = [float(a @ b) for a, b in ranked]
    ranks, groups = np.concatenate(ranked, axis=1), np.repeat(np.arange(count), list(map(len, parts)))
    rho = float(sum(products) / np.sqrt((ranks**2).sum(1).prod()))
    free = n - count + 1  # as many items of one condition have its degrees of freedom
    most = 1 - 6 / (free * (free**2 - 1))
    z = np.arctanh(np.clip(rho, -most, most))
    half = float(ndtri(0.5 + level / 2)) * np.sqrt((1 + rho**2 / 2) / (free - 3)) if free > 3 else np.inf
    same = sum(product * rho > 0 for product in products)
    p = _p_value(ranks, rho, seed, groups)
    return Correlation(rho, float(np.tanh(z - half)), float(np.tanh(z + half)), p, n, n, count, same)


def shuffled(values: Values, count: int, rng: np.random.Generator, groups: NDArray[np.int64] | None = None) -> Values:
    """Shuffle values (n,) so many times, (count, n); within each of ``groups`` (n,)."""
    rows = np.tile(values, (count, 1))
    if groups is None:
        return rng.permuted(rows, axis=1)
    for group in np.unique(groups):
        rows[:, groups == group] = rng.permuted(rows[:, groups == group], axis=1)
    return rows


def _p_value(ranks: Values, rho: float, seed: int, groups: NDArray[np.int64] | None = None) -> float:
    """Compute the two-sided p-value of a rank correlation of independent items.

    groups: of the items that are shuffled within them.
    """
    n = ranks.shape[1]
    freedom = n - 2 if groups is None else n - int(groups.max()) - 2
    law = float(2 * student.sf(abs(rho) * np.sqrt(freedom / max(1 - rho**2, 1e-300)), freedom))
    if n > MOST_SHUFFLED:
        return law
    p = _permuted(ranks, rho, seed, groups)
    # A correction for many trends needs smaller ones than shuffles can tell.
    return min(p, TAIL * law) if n > LEAST_FOR_TAIL and p * SHUFFLES < 1 else p


def _permuted(ranks: Values, rho: float, seed: int, groups: NDArray[np.int64] | None = None) -> float:
    """Compute the two-sided p-value of a rank correlation by permutations."""
    centred = (ranks - ranks.mean(1, keepdims=True)) / (ranks.std(1, keepdims=True) * np.sqrt(ranks.shape[1]))
    found = shuffled(centred[1], SHUFFLES, np.random.default_rng(seed), groups) @ centred[0]
    return (1 + int((abs(found) >= abs(rho) - 1e-9).sum())) / (SHUFFLES + 1)


def _without_each(x: Values, y: Values, groups: NDArray[np.int64], count: int) -> Values:
    """Compute rho of all items but one group's, for each group (count,)."""
    kept, left = 1 - np.eye(count)[groups], []
    for values in (x, y):
        distinct, place = np.unique(values, return_inverse=True)
        equal = np.zeros((len(distinct), count))
        np.add.at(equal, (place, groups), 1)
        below = equal.cumsum(0) - equal / 2  # in each group
        ranks = (below.sum(1, keepdims=True) - below)[place]  # of each item among those that are kept (n, count)
        left.append(kept * (ranks - (kept * ranks).sum(0) / kept.sum(0)))
    a, b = left
    sizes = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.asarray((a * b).sum(0) / np.where(sizes > 0, sizes, 1.0))


@dataclass(frozen=True)
class Explained:
    """Share of variance that parameters explain, of trials that the fit did not see.

    shares: of each parameter alone. noise: what it exceeds in one of 20 cases where nothing is to be explained.
    p: of each share, adjusted for the number of parameters. The last entry of each is of all parameters together,
    whose p stands alone.
    """

    shares: Values
    noise: Values
    p: Values


def explained(
    columns: Sequence[NDArray[Any]], values: Values, seed: int = 0, conditions: NDArray[Any] | None = None
) -> Explained:
    """Estimate the share of variance that parameters explain, beside that of noise.

    The share is 1 - PRESS / PRESS of the mean: a smooth regression (kernel ridge) predicts each trial from the others.
    It is not normalised, so the shares of noise are near 0, and 0 is given for less. Noise is the same
    computation, the choice of the ridge included, on values that are shuffled over the trials. The p-values of single
    parameters are of the largest share among them in a shuffle.

    columns: for each of P parameters (N,): numbers, on the scale of the search, or anything else as names.
    values: a metric of N trials, such as means over their seeds (N,).
    seed: of the shuffles.
    conditions: of the trials (N,), if the share is of the variance within each condition.

    All parameters together are fitted with their interactions; more than 8 of them as a sum, each on its own. With
    conditions, what is fitted is an effect that all of them share: values are centred and scaled to the same variance
    in each, every trial is held against the mean of the others of its condition, and shuffles are within conditions.

    Returns P + 1 entries each; NaN with equal values or fewer than 4 trials. Each condition but one costs a trial.
    Source: Allen, "The relationship between variable selection and data augmentation", Technometrics 1974 (PRESS);
    Westfall and Young, "Resampling-Based Multiple Testing", 1993 (single step maxT); Phipson and Smyth, SAGMB 2010.
    """
    groups = None
    if conditions is not None:
        kept, values, groups = _standardised(values, conditions)
        columns = [column[kept] for column in columns]
    count = 1 if groups is None else len(np.unique(groups))
    if len(values) - count + 1 < 4 or np.ptp(values) == 0:
        nothing = np.full(len(columns) + 1, np.nan)
        return Explained(nothing, nothing, nothing)
    rng = np.random.default_rng(seed)
    tried = np.concatenate([values[None], shuffled(values, NOISES, rng, groups)]).T  # (N, 1 + NOISES)
    alike = None if groups is None else np.equal.outer(groups, groups).astype(float)
    alone = [_press_shares(_kernel(column), tried, alike) for column in columns]
    shares = np.stack([*alone, _press_shares(_together(columns), tried, alike)])
    found, noise = shares[:, 0], shares[:, 1:]
    largest = noise[:-1].max(0, initial=-np.inf)
    reference = np.concatenate([np.broadcast_to(largest, (len(columns), NOISES)), noise[-1:]])
    p = (1 + (reference >= found[:, None] - 1e-9).sum(1)) / (NOISES + 1)
    return Explained(np.maximum(found, 0.0), np.maximum(np.percentile(noise, 95, axis=1), 0.0), p)


def _standardised(values: Values, conditions: NDArray[Any]) -> tuple[NDArray[np.intp], Values, NDArray[np.int64]]:
    """Centre and scale values within their conditions.

    Returns the places of the values in conditions that have two that differ, those values, and their conditions.
    """
    groups = np.unique(conditions, return_inverse=True)[1]
    scaled = np.zeros(len(values))
    for group in np.unique(groups):
        own = groups == group
        if np.ptp(values[own]) > 0:
            scaled[own] = (values[own] - values[own].mean()) / values[own].std(ddof=1)
    varied = [group for group in np.unique(groups) if scaled[groups == group].any()]
    kept = np.flatnonzero(np.isin(groups, varied))
    return kept, scaled[kept], groups[kept]


def _kernel(column: NDArray[Any]) -> Values:
    """Compute how alike the values of a parameter are, (N, N): 1 for equal ones."""
    if not np.issubdtype(column.dtype, np.number):
        return np.asarray(column[:, None] == column, dtype=np.float64)
    scaled = column.astype(float) / (np.ptp(column) or 1.0)
    return np.asarray(np.exp(-(((scaled[:, None] - scaled) / LENGTH) ** 2) / 2))


def _together(columns: Sequence[NDArray[Any]]) -> Values:
    """Compute how alike trials are in all parameters, (N, N)."""
    if len(columns) <= INTERACTING:
        return np.asarray(np.prod([1 + _kernel(column) for column in columns], axis=0) - 1)
    # A product of many would make each trial like itself alone.
    return np.asarray(INTERACTING / len(columns) * sum(map(_kernel, columns)))


def _press_shares(kernel: Values, values: Values, alike: Values | None = None) -> Values:
    """Compute the share that the best ridge explains of each column of ``values``.

    values: (N, B). Each trial is predicted from the others. alike: 1 where two trials have a common mean, else 0
    (N, N). None where all have.
    """
    alike = np.ones_like(kernel) if alike is None else alike
    n = alike.sum(1, keepdims=True)
    eigenvalues, vectors = np.linalg.eigh(kernel + MEAN * alike)
    # A smooth kernel has few eigenvalues that count.
    kept = eigenvalues > NEGLIGIBLE * eigenvalues[-1]
    eigenvalues, vectors = eigenvalues[kept], vectors[:, kept]
    rotated = vectors.T @ values
    least = np.full(values.shape[1], np.inf)
    for ridge in RIDGES:
        shrunk = eigenvalues / (eigenvalues + ridge)
        leverage = (vectors**2) @ shrunk
        residuals = values - vectors @ (shrunk[:, None] * rotated)
        least = np.minimum(least, (1 - leverage) ** -2 @ residuals**2)
    of_mean = (((values - alike @ values / n) * n / (n - 1)) ** 2).sum(0)
    return np.asarray(1 - least / of_mean)
