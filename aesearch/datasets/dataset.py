"""Base of the data sets: a value that names one, and the arrays that it loads."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aesearch.datasets.cache import add_to_digest
from aesearch.datasets.repeats import parted
from aesearch.errors import UserError

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Data:
    """A loaded data set.

    images: (N, C, H, W), uint8 that stand for [0, 1] or float32 that are used as they are; may be a read-only
    memory map. A row of a table is an "image" of shape (1, 1, columns).
    train, val, test: int64 indices into ``images``, disjoint and fixed.
    factors: (N, K) int64, the ground-truth value index of each of K factors, or None.
    labels: (N,) int64 indices into the data set's ``classes``, or None.
    anomalous: (N,) bool, which items are anomalies, or None; train and val then hold none.
    names: what to call each item (its file), or None for its number.
    remarks: what was skipped or filled in, a sentence each.
    fitted: what ``read`` needs to treat further items in the same way, as plain JSON.
    """

    images: NDArray[np.uint8] | NDArray[np.float32]
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    factors: NDArray[np.int64] | None = None
    labels: NDArray[np.int64] | None = None
    anomalous: NDArray[np.bool_] | None = None
    names: tuple[str, ...] | None = None
    remarks: tuple[str, ...] = ()
    fitted: Mapping[str, Any] = field(default_factory=dict)

    def digest(self) -> str:
        """SHA-256 of all that a model may learn from: the arrays and the splits."""
        found = hashlib.sha256()
        others = (self.train, self.val, self.test, self.factors, self.labels, self.anomalous)
        for array in (self.images, *others):
            if array is None:
                found.update(b"none")
            else:
                add_to_digest(found, array)
        return found.hexdigest()


class Dataset(ABC):
    """Data set as a frozen value: what is known before loading, and how to load."""

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """(channels, height, width) of an image; (1, 1, columns) of a table's rows."""

    @property
    @abstractmethod
    def factor_sizes(self) -> Mapping[str, int]:
        """Number of values of each ground-truth factor, by name.

        Empty where no factors are known.
        """

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """The names of the label classes; empty where items have no labels."""

    @abstractmethod
    def load(self, root: Path) -> Data:
        """Load the arrays from below ``root``; make or fetch them once where missing.

        Raises UserError where the data cannot be had or is damaged.
        """


MOST_HELD_OUT = 10_000


def held_out(n: int) -> int:
    """Compute the size of val, and of test: a fifth of ``n`` items, 10,000 at most."""
    return min(MOST_HELD_OUT, n // 5)


def random_split(n: int, held_out: int, first: NDArray[np.int64] | None = None) -> dict[str, Any]:
    """Draw train, val and test indices of ``n`` items, always the same ones.

    Val and test have ``held_out`` items each.
    first: (N,), the first item that equals each one, where some are equal: they come into the same part, and val and
    test may have fewer items.
    """
    return _split(np.random.default_rng(0).permutation(n).astype(np.int64), held_out, first)


def stratified_split(
    labels: NDArray[np.int64], held_out: int, first: NDArray[np.int64] | None = None
) -> dict[str, Any]:
    """Draw train, val and test indices with about equal shares of each class.

    labels: (N,). Otherwise as ``random_split``.
    """
    order = np.random.default_rng(0).permutation(len(labels)).astype(np.int64)
    by_class = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    starts = np.repeat(counts.cumsum() - counts, counts)
    # Ordered by how far along its class an item is, so that the first tenth of all has a tenth of each class.
    progress = (np.arange(len(labels)) - starts + 0.5) / np.repeat(counts, counts)
    return _split(by_class[np.argsort(progress, kind="stable")], held_out, first)


def _split(order: NDArray[np.int64], held_out: int, first: NDArray[np.int64] | None) -> dict[str, Any]:
    distinct = np.arange(len(order)) if first is None else first
    val, test, train = parted(order, (held_out, held_out), distinct)
    return {"val": val, "test": test, "train": train}


def check_limit(name: str, value: object) -> None:
    """Raise UserError for a limit that is no whole number of at least 1."""
    if not (isinstance(value, int) and value >= 1):
        raise UserError(f"{name} must be a whole number of at least 1, but got {name}={value!r}")


def is_picture(shape: Shape) -> bool:
    """Tell whether items of this shape can be looked at: rows of a table cannot."""
    return shape[1] > 1
