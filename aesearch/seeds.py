"""Estimates from a few seeds: what a median over more seeds may be.

They tell which trials deserve more seeds. Costs are to be minimised.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

DRAWS = 2000
PRIOR = 2  # degrees of freedom with which the spread of all trials counts in that of one


def spreads(values: Sequence[Values]) -> tuple[Values, NDArray[np.int64]]:
    """Estimate the standard deviations over seeds, and their degrees of freedom.

    Each variance is shrunk towards the one that all trials share: (PRIOR s0^2 + SS_i) / (PRIOR + R_i - 1). Here s0^2
    is the common variance and SS_i the sum of squares of trial i.

    values: for each of N trials (R_i, M), R_i seeds in M metrics.

    Returns deviations (N, M) and degrees of freedom (N,). Deviations are NaN where no trial has two seeds.
    Source: Smyth, "Linear models and empirical Bayes methods", SAGMB 2004, equation for moderated variances with a
    fixed prior.
    """
    squares = np.array([((of_one - of_one.mean(0)) ** 2).sum(0) for of_one in values])
    freedom = np.array([len(of_one) - 1 for of_one in values])
    with np.errstate(invalid="ignore"):
        common = squares.sum(0) / freedom.sum()
    variances = (PRIOR * common + squares) / (PRIOR + freedom)[:, None]
    return np.sqrt(variances), PRIOR + freedom


def locations(values: Sequence[Values], seed: int = 0) -> Values:
    """Draw where the medians over ever more seeds may lie, (DRAWS, N, M).

    A draw is the median of the known R_i seeds, plus the median of R_i normal numbers about 0 with the trial's spread.
    The spread is known from few seeds, which gives Student's tails. Seeds count as independent, though trials share
    them.

    values: for each of N trials (R_i, M), R_i seeds in M metrics.
    seed: of the draws.

    Returns NaN where no spread is known.
    """
    rng = np.random.default_rng(seed)
    found = np.empty((DRAWS, len(values), values[0].shape[1]))
    for i, (of_one, deviation) in enumerate(zip(values, _deviations(values, rng), strict=True)):
        noise = np.median(rng.standard_normal((DRAWS, *of_one.shape)), axis=1)
        found[:, i] = np.median(of_one, axis=0) + deviation * noise
    return found


def forecasts(values: Sequence[Values], most: int, seed: int = 0) -> Values:
    """Draw medians over ``most`` seeds, the known ones included: (DRAWS, N, M).

    The other seeds are drawn from each trial's normal distribution. Its mean and spread are drawn too, because they
    are known from few seeds.

    values: for each of N trials (R_i, M), R_i <= most seeds in M metrics.
    most: number of seeds.
    seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    found = np.empty((DRAWS, len(values), values[0].shape[1]))
    for i, (of_one, deviation) in enumerate(zip(values, _deviations(values, rng), strict=True)):
        known = np.broadcast_to(of_one, (DRAWS, *of_one.shape))
        mean = of_one.mean(0) + deviation * rng.standard_normal(deviation.shape) / np.sqrt(len(of_one))
        others = rng.standard_normal((DRAWS, most - len(of_one), of_one.shape[1]))
        drawn = mean[:, None] + deviation[:, None] * others
        found[:, i] = np.median(np.concatenate([known, drawn], axis=1), axis=1)
    return found


def _deviations(values: Sequence[Values], rng: np.random.Generator) -> Iterator[Values]:
    """Draw the standard deviation of each trial, (DRAWS, M)."""
    deviations, freedom = spreads(values)
    for of_one, degrees in zip(deviations, freedom, strict=True):
        yield of_one * np.sqrt(degrees / rng.chisquare(degrees, (DRAWS, 1)))
