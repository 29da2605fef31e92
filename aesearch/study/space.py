"""Search space of a study: its samplers, its grid and its checks."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler

from aesearch.errors import UserError, nearest
from aesearch.train import TrainConfig

Space = Callable[[optuna.Trial], TrainConfig]
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    # With multivariate and group, TPE samples conditional parameters together with those that they occur with.
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    # All combinations of a grid are enqueued before the search, so this sampler is never asked.
    "grid": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}
# Samplers that learn nothing from earlier trials.
UNLEARNING = (
    optuna.samplers.RandomSampler,
    optuna.samplers.QMCSampler,
    optuna.samplers.GridSampler,
    optuna.samplers.BruteForceSampler,
)
# Trials that a sampler draws at random before it learns from them; Optuna's defaults.
FIRST_RANDOM = {"tpe": 10, "gp": 10, "nsga2": 50}
PROBES = 64
MOST_COMBINATIONS = 10_000
MOST_CONDITIONS = 100  # values of a parameter that is a condition


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Tell whether a parameter may have that value."""
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except ValueError:
        return False


@contextmanager
def experimental() -> Iterator[None]:
    """Silence Optuna's warnings about experimental features.

    Those that are used here have been stable for years.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def combinations(
    config_of: Callable[[optuna.Trial], TrainConfig], distributions: Mapping[str, BaseDistribution]
) -> list[dict[str, Any]]:
    """List every combination of a finite space, conditional parameters included.

    config_of: the space, as a function of an Optuna trial.
    distributions: the parameters with their ranges. Combinations are in the order of these parameters and their values.

    Raises UserError where a range is continuous or there are more than 10,000 combinations.
    """
    for name, distribution in distributions.items():
        if isinstance(distribution, optuna.distributions.FloatDistribution) and distribution.step is None:
            raise UserError(
                f"the grid sampler needs finite choices, but {name} is continuous; "
                f"write trial.suggest_categorical({name!r}, [...]) or give it a step"
            )
    with experimental():
        walk = optuna.create_study(sampler=optuna.samplers.BruteForceSampler(seed=0))
    walk.optimize(lambda trial: float(bool(config_of(trial))), n_trials=MOST_COMBINATIONS + 1)
    if len(walk.trials) > MOST_COMBINATIONS:
        raise UserError(
            f"the grid has more than {MOST_COMBINATIONS} combinations; give fewer values to a parameter, or use "
            "another sampler"
        )
    places = {name: values_of(distribution) for name, distribution in distributions.items()}

    def place(params: dict[str, Any]) -> list[int]:
        return [_nearest_place(places[name], params[name]) if name in params else -1 for name in places]

    return sorted((trial.params for trial in walk.trials), key=place)


def _nearest_place(values: list[Any], value: Any) -> int:
    """Find the place of ``value`` among ``values``.

    A float takes the nearest, as its steps add up with a rounding error.
    """
    if isinstance(value, float):
        return min(range(len(values)), key=lambda i: abs(float(values[i]) - value))
    return values.index(value)


def values_of(distribution: BaseDistribution) -> list[Any]:
    """List all values of a finite distribution, in order."""
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, optuna.distributions.IntDistribution | optuna.distributions.FloatDistribution)
    count = round((distribution.high - distribution.low) / (distribution.step or 1)) + 1
    return [distribution.low + i * (distribution.step or 1) for i in range(count)]


def condition_values(name: str, distributions: Mapping[str, BaseDistribution]) -> list[Any]:
    """List the values of a parameter that is a condition, in order.

    Raises UserError where it is unknown, or no choice and no whole number of at most 100 values.
    """
    if name not in distributions:
        raise UserError(f"per names an unknown parameter {name!r}: {nearest(name, distributions)}")
    distribution = distributions[name]
    finite = not isinstance(distribution, optuna.distributions.FloatDistribution)
    if not finite or len(values := values_of(distribution)) > MOST_CONDITIONS:
        raise UserError(
            f"per needs choices or whole numbers of at most {MOST_CONDITIONS} values, but {name} is {distribution}; "
            f"write trial.suggest_categorical({name!r}, [...]) or leave it out of per"
        )
    return values
