"""Input of the actions of ``use``: the items to work on."""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aesearch.datasets import Items, read_items
from aesearch.errors import UserError
from aesearch.escapes import printable
from aesearch.model import Model


class Source:
    """Source of the items that the options ask for.

    They come from a file or folder, or from the test split of the model's data.
    """

    def __init__(self, model: Model, options: argparse.Namespace, data: Path) -> None:
        self.model = model
        self.options = options
        self.data = data

    def items(self) -> Items:
        """Read the items, at most ``--limit`` of them.

        Raises UserError where they cannot be read.
        """
        path: Path | None = self.options.input
        found = self._given(path) if path else self._test()
        limit = self.options.limit or len(found.images)
        labels = None if found.labels is None else found.labels[:limit]
        # The name of a file may have bytes that are no text, which no table takes.
        names = tuple(map(printable, found.names[:limit]))
        return Items(found.images[:limit], names, labels, found.remarks)

    def class_names(self, items: Items) -> list[str] | None:
        """Name the class of each item; None where that is unknown."""
        if items.labels is None or not self.model.classes:
            return None
        return [printable(self.model.classes[label]) for label in items.labels]

    def _given(self, path: Path) -> Items:
        options, model = self.options, self.model
        return read_items(path, model.config.data, model.info["fitted"], options.most_pixels, options.most_bytes)

    def given_labels(self, items: Items) -> NDArray[np.int64] | None:
        """Return the labels (N,) to give to a conditional model; None for any other.

        Raises UserError where the items have no labels and the model needs them.
        """
        if not self.model.network.classes:
            return None
        if items.labels is None:
            raise UserError(
                "the model is conditional, but the items have no labels; give them as sub-folders, or as a label array "
                "or column"
            )
        return items.labels

    def _test(self) -> Items:
        data = self.model.config.data.load(self.data)
        index = data.test
        names = tuple(data.names[i] if data.names else str(i) for i in index)
        labels = None if data.labels is None else data.labels[index]
        return Items(data.images[index], names, labels, data.remarks)
