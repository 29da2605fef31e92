"""Data sets that come with scikit-learn: nothing is downloaded."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from aesearch.datasets.dataset import Data, Dataset, Shape, held_out, stratified_split
from aesearch.datasets.repeats import first_equals, remarks_on
from aesearch.datasets.table import from_frame


@dataclass(frozen=True)
class Digits(Dataset):
    """1,797 handwritten digits of 8 x 8 with 17 grey levels.

    Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", 1998.
    """

    @property
    def shape(self) -> Shape:
        return (1, 8, 8)

    @property
    def factor_sizes(self) -> Mapping[str, int]:
        return {}

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple("0123456789")

    def load(self, root: Path) -> Data:  # noqa: ARG002
        from sklearn.datasets import load_digits

        bunch = load_digits()
        labels = bunch.target.astype(np.int64)
        images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
        first = first_equals(images)
        split = stratified_split(labels, held_out(len(labels)), first)
        return Data(images, labels=labels, remarks=remarks_on(first, "images"), **split)


class BundledTable(Dataset):
    """A table of scikit-learn's with a class per row, scaled and split as Table does."""

    @property
    @abstractmethod
    def loader(self) -> str:
        """The name of the function in sklearn.datasets."""

    @property
    def shape(self) -> Shape:
        return (1, 1, _load(self.loader).images.shape[3])

    @property
    def factor_sizes(self) -> Mapping[str, int]:
        return {}

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(_load(self.loader).fitted["classes"])

    def load(self, root: Path) -> Data:  # noqa: ARG002
        return _load(self.loader)


@lru_cache
def _load(loader: str) -> Data:
    from sklearn import datasets

    bunch = getattr(datasets, loader)(as_frame=True)
    frame = bunch.data.assign(**{"class": [bunch.target_names[code] for code in bunch.target]})
    return from_frame(frame, "class", (), loader)


@dataclass(frozen=True)
class BreastCancer(BundledTable):
    """569 tumours by 30 numbers: 357 benign, 212 malignant.

    Street, Wolberg, Mangasarian, "Breast Cancer Wisconsin (Diagnostic)", 1993.
    """

    @property
    def loader(self) -> str:
        return "load_breast_cancer"


@dataclass(frozen=True)
class Wine(BundledTable):
    """178 wines of three growers by 13 numbers. Aeberhard and Forina, 1992."""

    @property
    def loader(self) -> str:
        return "load_wine"


@dataclass(frozen=True)
class Iris(BundledTable):
    """150 irises of three species by 4 numbers. Fisher, 1936."""

    @property
    def loader(self) -> str:
        return "load_iris"
