"""Fronts under the uncertainty of seeds: knee, hypervolume, gain of a search.

All are computed from draws of the settings' true means as costs, (D, N, M).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aesearch.pareto import hypervolumes

Values = NDArray[np.float64]

LEAST_FOR_KNEE = 3
SUBSETS = 2000


@dataclass(frozen=True)
class Knee:
    """Knee of a front and its runner-up, by their places, with their chances."""

    place: int
    chance: float
    second: int
    second_chance: float


def likely_knee(draws: Values, members: Sequence[int]) -> Knee | None:
    """Find the member of a front that is most likely its knee.

    The knee is the setting whose true means are nearest to the ideal point. The ideal has the best value of each metric
    on the front, and distances are in units of the front's range. Both are those of the expected means, the same in all
    draws, so that the noise of the ends does not move the knee.

    draws: from ``true_means`` (D, N, 2). members: places of the front's settings.

    Returns None with fewer than three members: a front of two has ends only.
    Source: Zeleny, "Compromise programming", in Multiple Criteria Decision Making, 1973.
    """
    if len(members) < LEAST_FOR_KNEE:
        return None
    ends = draws.mean(0)[list(members)]
    low, high = ends.min(0), ends.max(0)
    distances = (((draws - low) / np.where(high > low, high - low, 1.0)) ** 2).sum(-1)
    share = np.bincount(distances.argmin(1), minlength=draws.shape[1]) / len(draws)
    # Where no member was ever the nearest, the nearest on average comes first.
    order = sorted(members, key=lambda place: (-share[place], distances[:, place].mean()))
    first, second = order[:2]
    return Knee(first, float(share[first]), second, float(share[second]))


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval over the draws."""

    value: float
    low: float
    high: float


def estimate(values: Values) -> Estimate:
    """Summarise draws of a value (D,) by their mean and their 95 % interval."""
    return Estimate(float(values.mean()), *(float(end) for end in np.percentile(values, [2.5, 97.5])))


def worst(draws: Values) -> tuple[float, ...]:
    """Find the worst expected mean of each metric over all settings (M,)."""
    return tuple(float(one) for one in draws.mean(0).max(0))


def volume(draws: Values, reference: tuple[float, ...]) -> Estimate:
    """Estimate the hypervolume of the true means, with its interval over seeds.

    With one metric that is how far the best lies below the reference.

    draws: (D, N, M). reference: the corner, such as ``worst(draws)``, in the same unit.
    """
    return estimate(hypervolumes(draws, reference))


@dataclass(frozen=True)
class Gain:
    """Share of the hypervolume that the first trials of a search reach alone.

    first: the share. chance: the mean share of as many trials taken at random from all.
    p: how often those reach no more than the first ones, if the order of trials means nothing.
    """

    first: Estimate
    chance: float
    p: float


def gain(draws: Values, first: int, reference: tuple[float, ...], seed: int = 0) -> Gain | None:
    """Compare the first trials of a search, which are random, with all trials of it.

    More trials dominate more, whoever chose them. So the first ones are also held against as many trials taken at
    random from all: a search that learned makes later trials better, and the first ones poor among such subsets.

    draws: in the order of the trials (D, N, M). first: number of random trials at the begin.
    reference: the corner. seed: of the subsets.

    Returns None where no trial came later, or where nothing is below the reference.
    Source: Phipson and Smyth, SAGMB 2010, for the p-value of a permutation test.
    """
    settings = draws.shape[1]
    whole = hypervolumes(draws, reference)
    if not 0 < first < settings or not whole.min() > 0:
        return None
    expected = draws.mean(0)
    subsets = np.random.default_rng(seed).permuted(np.tile(np.arange(settings), (SUBSETS, 1)), axis=1)[:, :first]
    reached = hypervolumes(expected[subsets], reference)
    alone = float(hypervolumes(expected[:first], reference))
    p = (1 + int((reached <= alone * (1 + 1e-9)).sum())) / (SUBSETS + 1)
    chance = float(reached.mean() / hypervolumes(expected, reference))
    return Gain(estimate(hypervolumes(draws[:, :first], reference) / whole), chance, p)


def lost(draws: Values, members: Sequence[int], reference: tuple[float, ...]) -> Estimate | None:
    """Estimate the share of the hypervolume that is lost by taking ``members`` alone.

    With draws of metrics on test and the front that val chose, that is what choosing on val cost. Seeds that were lucky
    on both splits do not show, because both are measured of the same models.

    draws: (D, N, M). members: places of the chosen settings. reference: the corner.

    Returns None where nothing is below the reference.
    """
    whole = hypervolumes(draws, reference)
    if not len(members) or not whole.min() > 0:
        return None
    return estimate(1 - hypervolumes(draws[:, list(members)], reference) / whole)
