"""What a few seeds tell of a setting, and which settings deserve more of them. Costs are to be minimised."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aesearch.errors import UserError
from aesearch.stopping import ranked

Values = NDArray[np.float64]

DRAWS = 2000
PRIOR = 2  # degrees of freedom that the spread of all trials counts in that of one


@dataclass(frozen=True)
class Adaptive:
    """Every trial is given ``first`` replicas; those that could still be on the front, up to ``most``.

    When all trials have ended, each that is on the front, or whose chance of being there, had all of them ``most``
    replicas, is not below ``unlikely``, gets half as many again (one at the least), until there is none. So all of the
    last front have ``most``. The search learns from the first only. Where ``unlikely`` is larger, more trials are
    ruled out early, and more of the true front with them.
    """

    first: int = 1
    most: int = 8
    unlikely: float = 0.1

    def __post_init__(self) -> None:
        if not (isinstance(self.first, int) and isinstance(self.most, int) and 1 <= self.first < self.most):
            raise UserError(f"Adaptive needs whole numbers 1 <= first < most, but got {self}")
        if not 0 < self.unlikely < 1:
            raise UserError(f"Adaptive needs a chance 0 < unlikely < 1, but got {self}")


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


def front_chances(costs: Values) -> Values:
    """The share of the draws (B, N, M), M = 1 or 2, in which each of N trials is on the Pareto front, (N,)."""
    order = np.argsort(costs[..., 0], axis=1, kind="stable")
    last = np.take_along_axis(costs[..., -1], order, axis=1)
    least_before = np.minimum.accumulate(last, axis=1)
    on_front = np.ones_like(last, dtype=bool)
    on_front[:, 1:] = last[:, 1:] < least_before[:, :-1]
    chances = np.empty_like(on_front)
    np.put_along_axis(chances, order, on_front, axis=1)
    return np.asarray(chances.mean(0))


def more(costs: Sequence[Values], rule: Adaptive) -> Mapping[int, int]:
    """Which of the trials (R_i, M) are to get more seeds, by place, and how many they then have.

    Where no trial has two seeds, no spread is known: the first two fronts get another one.
    """
    if not costs:
        return {}
    fronts = [front for front, _ in ranked([tuple(np.median(of_one, axis=0).tolist()) for of_one in costs])]
    if max(map(len, costs)) < 2:
        chosen = [i for i, front in enumerate(fronts) if front < 2]
    else:
        chances = front_chances(forecasts(costs, rule.most))
        # One that is on the front by luck alone must not stay there untried.
        chosen = [i for i, chance in enumerate(chances) if chance >= rule.unlikely or fronts[i] == 0]
    return {i: min(rule.most, len(costs[i]) + max(1, len(costs[i]) // 2)) for i in chosen if len(costs[i]) < rule.most}
