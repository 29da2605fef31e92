"""Hyperparameter studies of autoencoders: search, train, judge.

The names that a study file needs. They load on first use, so that ``import aesearch`` stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aesearch.datasets import (
        CIFAR10,
        EMNIST,
        KMNIST,
        MNIST,
        MPI3D,
        SVHN,
        Arrays,
        BreastCancer,
        Cars3D,
        CelebA,
        Digits,
        DSprites,
        FashionMNIST,
        ImageFolder,
        Iris,
        OneClass,
        Shapes3D,
        SmallNORB,
        Sprites,
        Table,
        Wine,
    )
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

# Where a name comes from; all others of __all__ are data sets.
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
    "CIFAR10",
    "EMNIST",
    "KMNIST",
    "MNIST",
    "MPI3D",
    "SVHN",
    "Adaptive",
    "Arrays",
    "AtLeast",
    "AtMost",
    "Best",
    "BreastCancer",
    "Cars3D",
    "CelebA",
    "DSprites",
    "Digits",
    "FashionMNIST",
    "Hyperband",
    "ImageFolder",
    "Iris",
    "Maximize",
    "Median",
    "Minimize",
    "Model",
    "OneClass",
    "Pareto",
    "Plateau",
    "Shapes3D",
    "SmallNORB",
    "Sprites",
    "Study",
    "Table",
    "TrainConfig",
    "Wine",
    "load_model",
    "load_study",
    "size",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'aesearch' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "aesearch.datasets")), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
