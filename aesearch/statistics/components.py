"""Components of variance: settings against seeds, and tests of their differences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import f as fisher
from scipy.stats import nct
from scipy.stats import t as student

Values = NDArray[np.float64]

LEVEL = 0.05  # of tests: a p-value from which on a difference is not told from noise
POWER = 0.8  # of tests that are planned: the chance that they tell a difference that is there
MOST_SEEDS = 100_000


@dataclass(frozen=True)
class Components:
    """Components of a metric's variance over models, by one-way random effects.

    settings, seeds: variance between settings and between the seeds of a setting, in the metric's unit squared.
    share: the intraclass correlation, settings / (settings + seeds). low, high: its interval.
    statistic, between, within: F and its degrees of freedom. p: of F, if all settings were equal.
    trials, models: numbers that were compared.
    """

    settings: float
    seeds: float
    share: float
    low: float
    high: float
    statistic: float
    between: int
    within: int
    p: float
    trials: int
    models: int

    @property
    def reliability(self) -> float:
        """The share of settings in the variance of trials' means, ICC(1, k), or 0."""
        return max(0.0, 1 - 1 / self.statistic) if self.statistic > 0 else 0.0


def components(values: Sequence[Values], level: float = 0.95) -> Components | None:
    """Estimate the components of variance of one metric: settings and seeds.

    The F test and the interval are exact for normal values, with equal and with unequal numbers of seeds. With equal
    numbers the interval is that of Shrout and Fleiss. A setting of one seed counts between settings only.

    values: for each of N settings (R_i,), its seeds.
    level: chance that the interval holds the true share.

    Returns None with fewer than two settings, where no setting has two seeds, and where all values are equal.
    Source: Searle, Casella and McCulloch, "Variance Components", 1992, chapter 3; of the interval: Wald, "A note on the
    analysis of variance with unequal class frequencies", Ann. Math. Stat. 1940; Shrout and Fleiss, Psychol. Bull.
    1979, ICC(1, 1).
    """
    counts = np.array([len(of_one) for of_one in values])
    between, within = len(counts) - 1, int((counts - 1).sum())
    if between < 1 or within < 1:
        return None
    means = np.array([np.mean(of_one) for of_one in values])
    error = sum(float(((of_one - mean) ** 2).sum()) for of_one, mean in zip(values, means, strict=True)) / within
    centre = float((counts * means).sum() / counts.sum())
    explained = float((counts * (means - centre) ** 2).sum()) / between
    if not explained + error > 0:
        return None
    size = float(counts.sum() - (counts**2).sum() / counts.sum()) / between
    settings = max(0.0, (explained - error) / size)
    statistic = explained / error if error > 0 else np.inf
    quantiles = fisher.ppf([0.5 + level / 2, 0.5 - level / 2], between, within)
    low, high = (_share(counts, means, error, float(quantile)) for quantile in quantiles)
    p = float(fisher.sf(statistic, between, within))
    share = settings / (settings + error)
    return Components(settings, error, share, low, high, statistic, between, within, p, len(counts), int(counts.sum()))


def _share(counts: NDArray[np.int64], means: Values, error: float, quantile: float) -> float:
    """Find the share of settings at which Wald's falling pivot is a quantile of F."""

    def pivot(share: float) -> float:
        weights = counts * (1 - share) / (1 - share + counts * share)
        centre = (weights * means).sum() / weights.sum()
        return float((weights * (means - centre) ** 2).sum()) / (len(counts) - 1) - quantile * error

    if pivot(0.0) <= 0:
        return 0.0
    most = 1 - 1e-12
    return 1.0 if pivot(most) >= 0 else float(brentq(pivot, 0.0, most))


def pooled_deviation(values: Sequence[Values]) -> float:
    """Pool the standard deviation of one metric over seeds.

    values: for each of N settings (R_i,), its seeds. A setting of one seed says nothing of it.

    Returns NaN where no setting has two seeds.
    """
    freedom = sum(len(of_one) - 1 for of_one in values)
    squares = sum(float(((of_one - np.mean(of_one)) ** 2).sum()) for of_one in values)
    return float(np.sqrt(squares / freedom)) if freedom else float("nan")


def power(seeds: int, difference: float, deviation: float, alpha: float = LEVEL) -> float:
    """Compute how often a t test of two settings would tell their difference.

    seeds: of each of the two settings, at least 2.
    difference: between their true means. deviation: over seeds, of both.
    alpha: level of the test, which is two-sided.

    Source: Cohen, "Statistical Power Analysis for the Behavioral Sciences", 1988, chapter 2; the noncentral t law.
    """
    freedom = 2 * seeds - 2
    critical = float(student.ppf(1 - alpha / 2, freedom))
    shift = abs(difference) / deviation * np.sqrt(seeds / 2)
    # The other tail is below 1e-4 once the power is above one half, and scipy's value of it may be NaN.
    return float(nct.sf(critical, freedom, shift) + np.nan_to_num(nct.cdf(-critical, freedom, shift)))


def seeds_needed(difference: float, deviation: float, wanted: float = POWER, alpha: float = LEVEL) -> float:
    """Find the seeds per setting with which a t test tells a difference.

    difference: between the true means of two settings. deviation: over seeds.
    wanted: power, the chance that the test tells them apart. alpha: level of the test.

    Returns infinity where more than 100,000 seeds would be needed; 2 where seeds do not differ.
    """
    if not abs(difference) > 0:
        return float("inf")
    if not deviation > 0:
        return 2
    low, high = 1, 2
    while power(high, difference, deviation, alpha) < wanted:
        low, high = high, 2 * high
        if high > MOST_SEEDS:
            return float("inf")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle, difference, deviation, alpha) >= wanted else (middle, high)
    return high


def smallest_told(seeds: int, deviation: float, wanted: float = POWER, alpha: float = LEVEL) -> float:
    """Find the smallest difference between two settings that a t test tells.

    seeds: of each of the two settings, at least 2. deviation: over seeds.
    wanted: power, the chance that the test tells them apart. alpha: level of the test.
    """
    if not deviation > 0:
        return 0.0
    most = 1.0
    while power(seeds, most, 1.0, alpha) < wanted:
        most *= 2
    return deviation * float(brentq(lambda difference: power(seeds, difference, 1.0, alpha) - wanted, 0.0, most))


def holm(p: Sequence[float], tests: int = 0) -> list[float]:
    """Adjust p-values for their number, so that any false finding has the level.

    tests: the number of all tests, where ``p`` has only the least of their p-values.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 1979.
    """
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.asarray(p, dtype=float)[order] * (max(tests, len(p)) - np.arange(len(p))))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, stepped)
    return [float(one) for one in adjusted]
