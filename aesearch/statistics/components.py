"""Components of variance: settings against seeds, and tests of their differences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import fdtr, fdtrc, ndtr, ndtri
from scipy.stats import f as fisher
from scipy.stats import nct
from scipy.stats import t as student

Values = NDArray[np.float64]

LEVEL = 0.05  # of tests: a p-value from which on a difference is not told from noise
POWER = 0.8  # of tests that are planned: the chance that they tell a difference that is there
MOST_SEEDS = 100_000
MOST_SCORE = 30.0  # normal scores whose tails are numbers


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


def _pivot(counts: NDArray[np.int64], means: Values, share: float) -> float:
    """Compute Wald's mean square between settings, which falls as their share grows."""
    weights = counts * (1 - share) / (1 - share + counts * share)
    centre = (weights * means).sum() / weights.sum()
    return float((weights * (means - centre) ** 2).sum()) / (len(counts) - 1)


def _share(counts: NDArray[np.int64], means: Values, error: float, quantile: float) -> float:
    """Find the share of settings at which Wald's falling pivot is a quantile of F."""
    return _root(lambda share: _pivot(counts, means, share) - quantile * error)


def _root(falling: Callable[[float], float]) -> float:
    """Find the share at which a falling function is 0; 0 or 1 where it never is."""
    if falling(0.0) <= 0:
        return 0.0
    most = 1 - 1e-12
    return 1.0 if falling(most) >= 0 else float(brentq(falling, 0.0, most))


@dataclass(frozen=True)
class ComponentsWithin:
    """Components of a metric's variance within each of several conditions.

    share: the intraclass correlation that all conditions have in common, such that the truth is as likely above as
    below. low, high: its interval. p: if the settings of each condition were equal.
    conditions, trials, models: numbers that were compared.
    """

    share: float
    low: float
    high: float
    p: float
    conditions: int
    trials: int
    models: int

    @property
    def reliability(self) -> float:
        """The share of settings in the variance of trials' means, by Spearman and Brown."""
        seeds = self.models / self.trials
        return seeds * self.share / (1 + (seeds - 1) * self.share)


def components_within(
    values: Sequence[Values], conditions: Sequence[Any], level: float = 0.95
) -> ComponentsWithin | None:
    """Estimate the share of settings in the variance of one metric within conditions.

    Each condition has a level and a spread of its own; common to all is the share. In each the F of settings against
    seeds is exact for normal values, and the normal scores of these F are combined. Of one condition the test and the
    interval are those of ``components``.

    values: for each of N settings (R_i,), its seeds. conditions: the condition of each setting (N,).
    level: chance that the interval holds the true share.

    Returns None where no condition has two settings, one of them with two seeds, whose values differ.
    Source: as of ``components``; Stouffer et al., "The American Soldier", 1949, for the sum of scores.
    """
    places = np.unique(np.asarray(conditions), return_inverse=True)[1]
    parts = [
        part
        for place in np.unique(places)
        if (part := _part([of_one for of_one, own in zip(values, places, strict=True) if own == place]))
    ]
    if not parts:
        return None
    between, within, errors = (
        np.array([float(getattr(part, name)) for part in parts]) for name in ("between", "within", "error")
    )
    weights = (1 / between + 1 / within) ** -0.5
    weights /= np.linalg.norm(weights)

    def score(share: float, end: float = 0.0) -> float:
        """Sum the normal scores of F, if the settings had that share."""
        pivots = np.array([_pivot(part.counts, part.means, share) for part in parts])
        statistics = np.divide(pivots, errors, out=np.full(len(parts), np.inf), where=errors > 0)
        below, above = fdtr(between, within, statistics), fdtrc(between, within, statistics)
        # The smaller tail has all digits.
        scores = np.where(below < above, ndtri(below), -ndtri(above))
        return float(weights @ scores.clip(-MOST_SCORE, MOST_SCORE)) - end

    half = float(ndtri(0.5 + level / 2))
    low, share, high = (_root(partial(score, end=end)) for end in (half, 0.0, -half))
    trials, models = sum(len(part.counts) for part in parts), sum(int(part.counts.sum()) for part in parts)
    return ComponentsWithin(share, low, high, float(ndtr(-score(0.0))), len(parts), trials, models)


@dataclass(frozen=True, eq=False)
class _Part:
    """Settings of one condition: their seeds, means, and mean square over seeds."""

    counts: NDArray[np.int64]
    means: Values
    error: float

    @property
    def between(self) -> int:
        return len(self.counts) - 1

    @property
    def within(self) -> int:
        return int((self.counts - 1).sum())


def _part(values: Sequence[Values]) -> _Part | None:
    """Summarise the settings of one condition; None where they say nothing."""
    counts = np.array([len(of_one) for of_one in values])
    if len(values) < 2 or counts.max() < 2 or not np.ptp(np.concatenate(values)) > 0:
        return None
    means = np.array([np.mean(of_one) for of_one in values])
    squares = sum(float(((of_one - mean) ** 2).sum()) for of_one, mean in zip(values, means, strict=True))
    return _Part(counts, means, squares / int((counts - 1).sum()))


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
