"""Hyperparameter studies of autoencoders: search, train, judge.

The names that a study file needs. They load on first use, so that ``import aesearch`` stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aesearch.datasets import *  # noqa: F403
    from aesearch.model import Model, load_model
    from aesearch.study import (
        ASHA,
        Adaptive,
        AtLeast,
        AtMost,
        Best,
        Hyperband,
        Maximize,
        Median,
        Minimize,
        Pareto,
        Plateau,
        Study,
        load_study,
        size,
    )
    from aesearch.train import TrainConfig, train

__version__ = "0.1.0"

# Where a name comes from; a data set's is aesearch.datasets.
_HOMES = {
    "Model": "aesearch.model",
    "load_model": "aesearch.model",
    "Adaptive": "aesearch.study",
    "ASHA": "aesearch.study",
    "Hyperband": "aesearch.study",
    "Median": "aesearch.study",
    "Pareto": "aesearch.study",
    "Plateau": "aesearch.study",
    "AtLeast": "aesearch.study",
    "AtMost": "aesearch.study",
    "Best": "aesearch.study",
    "Maximize": "aesearch.study",
    "Minimize": "aesearch.study",
    "Study": "aesearch.study",
    "load_study": "aesearch.study",
    "size": "aesearch.study",
    "TrainConfig": "aesearch.train",
    "train": "aesearch.train",
}

__all__ = [
    "ASHA",
    "Adaptive",
    "AtLeast",
    "AtMost",
    "Best",
    "Hyperband",
    "Maximize",
    "Median",
    "Minimize",
    "Model",
    "Pareto",
    "Plateau",
    "Study",
    "TrainConfig",
    "load_model",
    "load_study",
    "size",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    # Other names in lower case are modules, which are not worth loading the data sets for.
    if name[0].isupper() and name in _data_sets():
        return getattr(import_module("aesearch.datasets"), name)
    raise AttributeError(f"module 'aesearch' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_data_sets(), "__version__"])


def _data_sets() -> list[str]:
    """The names of the data sets, each a value that a study file may write."""
    datasets = import_module("aesearch.datasets")
    values = {name: getattr(datasets, name) for name in datasets.__all__}
    return [name for name, value in values.items() if isinstance(value, type) and issubclass(value, datasets.Dataset)]
