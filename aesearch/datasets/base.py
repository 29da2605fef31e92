"""What a data set is: a small value that names it, and the arrays that it loads."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Data:
    """A loaded data set.

    images: (N, C, H, W) uint8, 0 to 255; may be a read-only memory map.
    train, val, test: int64 indices into ``images``, disjoint and fixed.
    factors: (N, K) int64, the ground-truth value index of each of K factors, or None.
    labels: (N,) int64 class labels, or None.
    """

    images: NDArray[np.uint8]
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    factors: NDArray[np.int64] | None = None
    labels: NDArray[np.int64] | None = None


class Dataset(ABC):
    """A frozen value: what is known of a data set before it is loaded, and how to load it."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""

    @property
    @abstractmethod
    def factor_sizes(self) -> Mapping[str, int]:
        """The number of values of each ground-truth factor, by name; empty where no factors are known."""

    @abstractmethod
    def load(self, root: Path) -> Data:
        """The arrays, from below ``root``; what is not there yet is made or fetched once.

        Raises UserError where the data cannot be had or is damaged.
        """


def random_split(n: int, held_out: int) -> dict[str, Any]:
    """Train, val and test indices of ``n`` items: ``held_out`` items each for val and test, always the same ones."""
    order = np.random.default_rng(0).permutation(n).astype(np.int64)
    return {"val": order[:held_out], "test": order[held_out : 2 * held_out], "train": order[2 * held_out :]}
