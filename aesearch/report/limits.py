"""Limits of a page: how much of a large study its tables and figures have.

Files beside the page have all of it.
"""

from collections.abc import Collection, Sequence
from typing import TypeVar

import numpy as np

MOST_ROWS = 200  # of a table
MOST_PARAMETERS = 8  # of a table, a sentence or a figure
MOST_EXPLAINED = 200  # trials whose variance the parameters explain
MOST_METRICS = 12  # of the sweeps, which have a panel for each metric and parameter
MOST_CURVES = 100  # trials of the learning curves
MOST_NUMBERS = 600  # cells of a heat map that has a number in each
MOST_SCORED = 40  # trials of the figure of all scores
MOST_NAMED = 20  # trials that a sentence names
MOST_REASONS = 10  # of failures
MOST_CONDITIONS = 12  # that have a sentence each
MOST_PICTURED = 6  # conditions whose best trials have pictures and columns

T = TypeVar("T")


def spaced(items: Sequence[T], most: int, kept: Collection[T] = ()) -> list[T]:
    """Pick ``most`` items evenly, from the first to the last, and those in ``kept``."""
    if len(items) <= most:
        return list(items)
    places = set(np.linspace(0, len(items) - 1, most).round().astype(int).tolist())
    return [item for place, item in enumerate(items) if place in places or item in kept]


def joined(parts: Sequence[str], most: int) -> str:
    """Join parts by commas, at most so many, and count the others."""
    more = [f"{len(parts) - most:,} more"] if len(parts) > most else []
    return ", ".join([*parts[:most], *more])
