"""Hyperparameter studies of autoencoders: search, train, judge.

The names that a study file needs are here. They load on first use, so that ``import aesearch`` is fast.
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

# The module of each name; data sets are found in aesearch.datasets.
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
    # Names in lower case are modules, so the slow import of the data sets is skipped for them.
    if name[0].isupper() and name in _data_sets():
        return getattr(import_module("aesearch.datasets"), name)
    raise AttributeError(f"module 'aesearch' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_data_sets(), "__version__"])


def _data_sets() -> list[str]:
    """List the names of the data sets, which a study file may use."""
    datasets = import_module("aesearch.datasets")
    values = {name: getattr(datasets, name) for name in datasets.__all__}
    return [name for name, value in values.items() if isinstance(value, type) and issubclass(value, datasets.Dataset)]
