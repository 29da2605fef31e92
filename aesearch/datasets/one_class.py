"""A labelled data set with some classes as normal and the rest as anomalies."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from aesearch.datasets.dataset import Data, Dataset, Shape
from aesearch.errors import UserError, nearest


@dataclass(frozen=True)
class OneClass(Dataset):
    """Data with one class as normal, and all others as anomalies.

    Train and val have the class ``normal`` of ``data`` alone, test has all classes.
    normal: the name of a class, its place in ``data.classes``, or a tuple of these. A table stays scaled as all of its
    train rows say. Ruff et al., "Deep One-Class Classification", ICML 2018, call this setting one-vs-rest.
    """

    data: Dataset
    normal: str | int | tuple[str | int, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.data, Dataset) or not self.data.classes:
            raise UserError(f"OneClass needs data with labels, such as MNIST(), but got {self.data}")
        count = len(self.data.classes)
        if not 0 < len(set(self.normal_places)) < count:
            raise UserError(f"normal must be some of the {count} classes and not all, but got normal={self.normal!r}")

    @property
    def shape(self) -> Shape:
        return self.data.shape

    @property
    def factor_sizes(self) -> Mapping[str, int]:
        return self.data.factor_sizes

    @property
    def classes(self) -> tuple[str, ...]:
        return self.data.classes

    def load(self, root: Path) -> Data:
        whole = self.data.load(root)
        assert whole.labels is not None
        anomalous = ~np.isin(whole.labels, self.normal_places)
        train, val = (index[~anomalous[index]] for index in (whole.train, whole.val))
        if not len(train) or not len(val) or not 0 < anomalous[whole.test].mean() < 1:
            raise UserError(
                f"train and val must hold items of class {self.normal!r}, and test of others too, but {self.data} "
                f"has {len(train)} and {len(val)}, and {int(anomalous[whole.test].sum())} of {len(whole.test)}"
            )
        return replace(whole, anomalous=anomalous, train=train, val=val)

    @property
    def normal_places(self) -> list[int]:
        """The places of the normal classes. Raises UserError for what is none."""
        names = self.data.classes
        chosen = self.normal if isinstance(self.normal, tuple) else (self.normal,)
        for one in chosen:
            if isinstance(one, str) and one not in names:
                raise UserError(f"unknown class {one!r}: {nearest(one, names)}")
            if not isinstance(one, str | int) or (isinstance(one, int) and not 0 <= one < len(names)):
                raise UserError(f"normal must be from 0 to {len(names) - 1}, or a class's name, but got {one!r}")
        return [one if isinstance(one, int) else names.index(one) for one in chosen]
