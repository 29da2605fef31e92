"""Dominance of costs: Pareto fronts, ranks and hypervolumes.

Costs are to be minimised.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Costs = tuple[float, ...]
Values = NDArray[np.float64]


def on_front(costs: Values) -> NDArray[np.bool_]:
    """Mark the rows that no other row dominates.

    A row dominates another if it is at most as large in every column and smaller in one. So equal rows are on a front
    together. It takes N log N steps for M = 1 or 2, else N^2.

    costs: (..., N, M), N points in M metrics.

    Returns a mask (..., N).
    """
    costs = np.asarray(costs, dtype=np.float64)
    if costs.shape[-1] > 2:
        own, others = costs[..., :, None, :], costs[..., None, :, :]
        dominates = np.all(others <= own, axis=-1) & np.any(others < own, axis=-1)
        return np.asarray(~np.any(dominates, axis=-1))
    count = costs.shape[-2]
    if not count:
        return np.ones(costs.shape[:-1], dtype=bool)
    order = np.argsort(costs[..., -1], axis=-1, kind="stable")
    first = np.take_along_axis(costs[..., 0], order, axis=-1)
    order = np.take_along_axis(order, np.argsort(first, axis=-1, kind="stable"), axis=-1)
    rows = np.take_along_axis(costs, order[..., None], axis=-2)
    # In lexicographic order only earlier rows can dominate, and rows that are equal do not.
    fresh = np.ones(rows.shape[:-1], dtype=bool)
    fresh[..., 1:] = (rows[..., 1:, :] != rows[..., :-1, :]).any(-1)
    begins = np.maximum.accumulate(np.where(fresh, np.arange(count), 0), axis=-1)
    least = np.minimum.accumulate(rows[..., -1], axis=-1)
    before = np.concatenate([np.full_like(least[..., :1], np.inf), least[..., :-1]], axis=-1)
    marked = rows[..., -1] < np.take_along_axis(before, begins, axis=-1)
    found = np.empty_like(marked)
    np.put_along_axis(found, order, marked, axis=-1)
    return found


def front(costs: Sequence[Costs]) -> list[int]:
    """List the places of the undominated costs, along the first metric.

    costs: (N, M), M = 1 or 2.
    """
    if not costs:
        return []
    table = np.array(costs, dtype=np.float64)
    marked = on_front(table)
    return sorted(np.flatnonzero(marked).tolist(), key=lambda place: costs[place])


def ranked(costs: Sequence[Costs]) -> list[tuple[int, int]]:
    """Rank costs: give each its front, from 0, and its position in the order of all.

    Within a front, points whose removal loses more hypervolume come first; the ends of a front come before all others.

    costs: (N, M), M = 1 or 2.
    """
    left = np.arange(len(costs))
    table = np.array(costs, dtype=np.float64)
    found: dict[int, tuple[int, int]] = {}
    number = 0
    while len(left):
        marked = on_front(table[left])
        best = left[marked].tolist()
        lost = _contributions([costs[i] for i in best])
        for i, _ in sorted(zip(best, lost, strict=True), key=lambda pair: -pair[1]):
            found[i] = (number, len(found))
        left = left[~marked]
        number += 1
    return [found[i] for i in range(len(costs))]


def _contributions(front: list[Costs]) -> list[float]:
    """Measure the area that only one point dominates, for each point of a front.

    The front has two costs. The area is infinite at its ends, and 0 for a front of one cost.
    """
    if not front or len(front[0]) == 1:
        return [0.0] * len(front)
    order = sorted(range(len(front)), key=lambda i: front[i])
    areas = [float("inf")] * len(front)
    for before, i, after in zip(order, order[1:], order[2:], strict=False):
        areas[i] = (front[after][0] - front[i][0]) * (front[before][1] - front[i][1])
    return areas


def hypervolume(costs: Sequence[Costs], reference: Costs) -> float:
    """Measure the area that one set of costs dominates, as ``hypervolumes`` does."""
    return float(hypervolumes(np.array(costs, dtype=np.float64), reference)) if len(costs) else 0.0


def hypervolumes(costs: Values, reference: Costs) -> Values:
    """Measure the area that costs dominate; with one metric, the length.

    costs: (..., N, M), sets of N points in M = 1 or 2 metrics.
    reference: the far corner of the area. Only costs that are below it in all metrics count.

    Returns the area of each set (...).
    Source: Zitzler and Thiele, PPSN 1998.
    """
    corner = np.asarray(reference, dtype=np.float64)
    inside = np.where((costs < corner).all(-1, keepdims=True), costs, corner)
    if len(corner) == 1:
        return np.asarray(corner[0] - inside[..., 0].min(-1))
    order = np.argsort(inside[..., 0], axis=-1, kind="stable")
    x, y = (np.take_along_axis(inside[..., m], order, axis=-1) for m in (0, 1))
    # Each point adds the strip between its height and the least height before it.
    least = np.minimum.accumulate(y, axis=-1)
    before = np.concatenate([np.full_like(least[..., :1], corner[1]), least[..., :-1]], axis=-1)
    return np.asarray(((corner[0] - x) * (before - least)).sum(-1))
