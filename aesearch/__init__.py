"""Hyperparameter studies of autoencoders: search, train, judge.

The names that a study file needs. They load on first use, so that ``import aesearch`` stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aesearch.datasets import MNIST, Sprites
    from aesearch.study import ASHA, Maximize, Minimize, Study, load_study
    from aesearch.train import TrainConfig, train

__version__ = "0.1.0"

_HOMES = {
    "MNIST": "aesearch.datasets",
    "Sprites": "aesearch.datasets",
    "ASHA": "aesearch.study",
    "Maximize": "aesearch.study",
    "Minimize": "aesearch.study",
    "Study": "aesearch.study",
    "load_study": "aesearch.study",
    "TrainConfig": "aesearch.train",
    "train": "aesearch.train",
}

__all__ = [
    "ASHA",
    "MNIST",
    "Maximize",
    "Minimize",
    "Sprites",
    "Study",
    "TrainConfig",
    "load_study",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'aesearch' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
