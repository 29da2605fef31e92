"""What a few seeds tell of a setting, and which settings deserve more of them. Costs are to be minimised."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

DRAWS = 2000
PRIOR = 2  # degrees of freedom that the spread of all trials counts in that of one


def spreads(values: Sequence[Values]) -> tuple[Values, NDArray[np.int64]]:
    """Standard deviations over seeds (N, M) of trials (R_i, M), and their degrees of freedom (N,).

    Each is drawn towards the one that all trials share: (PRIOR s0^2 + SS_i) / (PRIOR + R_i - 1), as Smyth, "Linear
    models and empirical Bayes methods", SAGMB 2004, equation for moderated variances with a fixed prior. NaN where no
    trial has two seeds.
    """
    squares = np.array([((of_one - of_one.mean(0)) ** 2).sum(0) for of_one in values])
    freedom = np.array([len(of_one) - 1 for of_one in values])
    with np.errstate(invalid="ignore"):
        common = squares.sum(0) / freedom.sum()
    variances = (PRIOR * common + squares) / (PRIOR + freedom)[:, None]
    return np.sqrt(variances), PRIOR + freedom


def locations(values: Sequence[Values], seed: int = 0) -> Values:
    """Where the medians over ever more seeds may lie: (DRAWS, N, M) of trials (R_i, M); NaN where no spread is known.

    About the median of R_i seeds as the median of R_i normal numbers about 0; known from few seeds, the spread makes
    the tails Student's. Seeds count as independent, though trials share them.
    """
    rng = np.random.default_rng(seed)
    found = np.empty((DRAWS, len(values), values[0].shape[1]))
    for i, (of_one, deviation) in enumerate(zip(values, _deviations(values, rng), strict=True)):
        noise = np.median(rng.standard_normal((DRAWS, *of_one.shape)), axis=1)
        found[:, i] = np.median(of_one, axis=0) + deviation * noise
    return found


def forecasts(values: Sequence[Values], most: int, seed: int = 0) -> Values:
    """What the medians over ``most`` seeds may be, those known included: (DRAWS, N, M) of trials (R_i, M), R_i <= most.

    The others are drawn from each trial's normal distribution, whose mean and spread are known from few.
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
    """Draws of the standard deviation of each trial, (DRAWS, M)."""
    deviations, freedom = spreads(values)
    for of_one, degrees in zip(deviations, freedom, strict=True):
        yield of_one * np.sqrt(degrees / rng.chisquare(degrees, (DRAWS, 1)))
