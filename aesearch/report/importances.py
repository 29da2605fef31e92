"""Importances of parameters: shares of a metric's variance, by functional ANOVA.

They are those of Optuna's ``FanovaImportanceEvaluator``. That walks every tree for each parameter, and takes minutes
for 300 of them. Here a tree is a table of boxes, and a parameter that it does not split is skipped.

Hutter, Hoos, Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution

TREES = DEPTH = 64  # as Optuna's

Matrix = NDArray[np.float64]


class Boxes(NamedTuple):
    """Boxes of a tree's leaves. They fill the space, whose volume is 1.

    value: (B,), the prediction in each box, less the mean over the space.
    low, high: (B, C), the ends of each box in each column.
    split: (C,), true for the columns that the tree splits.
    """

    value: Matrix
    low: Matrix
    high: Matrix
    split: NDArray[np.bool_]


def importances(
    points: Sequence[Mapping[str, Any]], distributions: Mapping[str, BaseDistribution], targets: Matrix
) -> dict[str, float]:
    """Estimate the share of a metric's variance that each parameter explains.

    points: the parameters of each of N trials. Those that not all trials have are left out.
    distributions: the range of each parameter.
    targets: (N,), the metric of each trial; trials where it is not finite do not count.

    Returns shares that sum to 1, the greatest first. They are equal where nothing can be told.
    """
    # In the order of the names, on which the draws of the forest depend.
    names = sorted(name for name in distributions if all(name in point for point in points))
    varied = [name for name in names if not distributions[name].single()]
    known = np.isfinite(targets)
    found = dict.fromkeys(names, 0.0)
    if varied and known.sum() > 1:
        columns = [_columns(distributions[name], [point[name] for point in points]) for name in varied]
        group = np.repeat(np.arange(len(varied)), [part.shape[1] for part in columns])
        found |= zip(varied, _shares(np.hstack(columns)[known], targets[known], group), strict=True)
    total = sum(found.values())
    even = {name: 1 / len(names) for name in names}
    shares = {name: share / total for name, share in found.items()} if total > 0 else even
    return dict(sorted(shares.items(), key=lambda one: one[1], reverse=True))


def _columns(distribution: BaseDistribution, values: Sequence[Any]) -> Matrix:
    """Encode a parameter's values in [0, 1]: one column, or one for each choice."""
    internal = np.array([distribution.to_internal_repr(value) for value in values], dtype=float)
    if isinstance(distribution, CategoricalDistribution):
        chosen: Matrix = np.eye(len(distribution.choices))[internal.astype(int)]
        return chosen
    low, high = float(distribution.low), float(distribution.high)  # type: ignore[attr-defined]
    return ((internal - low) / (high - low))[:, None]


def _shares(x: Matrix, y: Matrix, group: NDArray[np.int64]) -> list[float]:
    """Estimate the share of a forest's variance that each parameter explains.

    It is the mean over the trees.

    x: (N, C), in [0, 1].
    y: (N,).
    group: (C,), the parameter of each column.
    """
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(TREES, max_depth=DEPTH, random_state=0).fit(x, y)
    found = []
    for each in forest.estimators_:
        boxes = _boxes(each.tree_)
        variance = float((boxes.value**2 * (boxes.high - boxes.low).prod(1)).sum())
        if variance > 0:
            found.append([_explained(boxes, group == one) / variance for one in range(group.max() + 1)])
    return np.mean(found, axis=0).tolist() if found else [0.0] * (group.max() + 1)


def _boxes(tree: Any) -> Boxes:
    """Cut the space into the boxes of the leaves of a tree of scikit-learn."""
    low, high = np.zeros((2, tree.node_count, tree.n_features))
    high += 1
    inner = np.flatnonzero(tree.children_left >= 0)
    # A node comes after its parent.
    for node in inner:
        left, right, column = tree.children_left[node], tree.children_right[node], tree.feature[node]
        low[[left, right]], high[[left, right]] = low[node], high[node]
        high[left, column] = low[right, column] = tree.threshold[node]
    leaf = tree.children_left < 0
    value, split = tree.value[leaf, 0, 0], np.zeros(tree.n_features, bool)
    split[tree.feature[inner]] = True
    mean = (value * (high[leaf] - low[leaf]).prod(1)).sum()
    return Boxes(value - mean, low[leaf], high[leaf], split)


def _explained(boxes: Boxes, columns: NDArray[np.bool_]) -> float:
    """Compute the variance of a tree's mean, given the values in some columns."""
    columns = columns & boxes.split
    if not columns.any():
        return 0.0
    low, high = boxes.low[:, columns], boxes.high[:, columns]
    # What a box adds to the mean at each point of its extent in these columns.
    sides = boxes.high - boxes.low
    adds = boxes.value * np.where(columns, 1.0, sides).prod(1)
    if low.shape[1] == 1:
        ends = np.unique(np.append(low, high))
        steps = np.zeros(len(ends))
        np.add.at(steps, np.searchsorted(ends, low[:, 0]), adds)
        np.add.at(steps, np.searchsorted(ends, high[:, 0]), -adds)
        return float((steps.cumsum()[:-1] ** 2 * np.diff(ends)).sum())
    # Choices are split once each, so many boxes have the same extent.
    extents, place = np.unique(np.hstack([low, high]), axis=0, return_inverse=True)
    adds = np.bincount(place.ravel(), adds)
    low, high = np.hsplit(extents, 2)
    shared = np.minimum(high[:, None], high).clip(min=np.maximum(low[:, None], low)) - np.maximum(low[:, None], low)
    return float(adds @ shared.prod(2) @ adds)
