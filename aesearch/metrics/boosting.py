"""Gradient-boosted trees that are fast enough for DCI.

They are those of scikit-learn, with the trees of all classes grown at once.

Friedman, "Greedy Function Approximation: A Gradient Boosting Machine", Annals of Statistics 2001, with the defaults of
scikit-learn's GradientBoostingClassifier: 100 rounds, a learning rate of 0.1, depth 3, splits by the decrease of the
squared error of the residuals, one Newton step in each leaf.

The best split of a node is found in two steps. Each code is cut into bins, and the splits between bins are compared
first. Inside a bin a bound is enough, so that only the few bins whose bound reaches the best split are searched.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ROUNDS, RATE, DEPTH = 100, 0.1, 3
BINS, MANY = 128, 4096  # twice as many bins for more points
EQUAL = 1 - 1e-9  # splits whose gains differ by less are equal but for rounding
NOTHING = 1e-12  # a gain that is rounding

Matrix = NDArray[np.float64]
Indices = NDArray[np.integer]


class Fit(NamedTuple):
    """Result of a classifier of one factor.

    importance: (L,), the importance of each code. They sum to 1, or all are 0.
    train_accuracy, test_accuracy: the share of right predictions.
    """

    importance: Matrix
    train_accuracy: float
    test_accuracy: float


class Points(NamedTuple):
    """Points to fit on, in the order of each code.

    codes: (L, N).
    order: (L, N), the points by rising code.
    last: (L, N), true where the next point in that order has a larger code.
    start: (L, B + 1), the place in that order at which each bin begins.
    several: (L, B), true for bins of more than one value.
    bins: a sparse matrix (L * B, N) that marks the bin of each code that each point is in.
    """

    codes: Matrix
    order: Indices
    last: NDArray[np.bool_]
    start: Indices
    several: NDArray[np.bool_]
    bins: Any


class Split(NamedTuple):
    """Split of one node in the tree of each class; each field is (C,).

    A point goes right where its code ``feature`` is above ``threshold``.
    gain: the decrease of the squared error.
    """

    gain: Matrix
    feature: Indices
    threshold: Matrix


def boosted_trees(codes: Matrix, labels: Indices, test_codes: Matrix, test_labels: Indices, seed: int = 0) -> Fit:
    """Fit boosted trees that predict labels from codes, and test them.

    codes, labels: (N, L) and (N,), to fit on.
    test_codes, test_labels: (M, L) and (M,), to test on.
    seed: of the draws between equal splits.

    The importance of a code is the decrease of squared error by its splits, summed over all trees. A code is cut
    between any two of its values, as scikit-learn does. Between equal splits one is drawn at random.
    """
    classes, target = np.unique(labels, return_inverse=True)
    importance = np.zeros(codes.shape[1])
    if len(classes) == 1:
        return Fit(importance, 1.0, float((test_labels == classes[0]).mean()))
    # Two classes need one tree a round: its score is the log odds of the second.
    wanted = np.eye(len(classes))[target][:, 1 if len(classes) == 2 else 0 :]
    points, rng = _sorted(codes), np.random.default_rng(seed)
    start = np.log(wanted.mean(0)) - (np.log(1 - wanted.mean(0)) if len(classes) == 2 else 0)
    scores, test_scores = np.tile(start, (len(codes), 1)), np.tile(start, (len(test_codes), 1))
    by_code = np.ascontiguousarray(test_codes.T)
    for _ in range(ROUNDS):
        p = _probabilities(scores)
        tree, leaf = _grow(points, wanted - p, rng)
        for split in tree:
            np.add.at(importance, split.feature, split.gain)
        values = RATE * _newton(wanted - p, p, leaf)
        scores += _at(values, leaf)
        test_scores += _at(values, _descend(tree, by_code))
    return Fit(
        importance / max(importance.sum(), 1e-300),
        float((_guess(scores) == target).mean()),
        float((classes[_guess(test_scores)] == test_labels).mean()),
    )


def _sorted(codes: Matrix) -> Points:
    """Sort the points by each code, and cut each code into bins.

    The bins of a code have about equally many points.
    """
    from scipy.sparse import csr_array

    n, size = codes.shape
    by_code = np.ascontiguousarray(codes.T)
    order = by_code.argsort(1, kind="stable")
    ordered = np.take_along_axis(by_code, order, 1)
    last = np.ones((size, n), bool)
    last[:, :-1] = ordered[:, 1:] > ordered[:, :-1]
    bins = min(BINS if n <= MANY else 2 * BINS, int(last.sum(1).max()))
    start = np.full((size, bins + 1), n)
    for j, ends in enumerate(last):
        # Equal codes are in one bin. A code of few values has empty bins at its end.
        after = np.flatnonzero(ends) + 1
        chosen = np.unique(after[np.searchsorted(after, np.linspace(0, n, bins + 1)[1:] - 1e-6)])
        start[j, 0], start[j, 1 : len(chosen) + 1] = 0, chosen
    rows = np.empty((size, n), np.int64)
    several = np.empty((size, bins), bool)
    for j in range(size):
        bin_of = np.searchsorted(start[j, 1:], np.arange(n), side="right")
        rows[j, order[j]] = j * bins + bin_of
        several[j] = np.bincount(bin_of[last[j]], minlength=bins) > 1
    marks = (np.ones(size * n), (rows.ravel(), np.tile(np.arange(n), size)))
    return Points(by_code, order, last, start, several, csr_array(marks, shape=(size * bins, n)))


def _probabilities(scores: Matrix) -> Matrix:
    if scores.shape[1] == 1:
        sigmoid: Matrix = 1 / (1 + np.exp(-scores))
        return sigmoid
    p: Matrix = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return p


def _guess(scores: Matrix) -> Indices:
    return (scores[:, 0] > 0).astype(np.int64) if scores.shape[1] == 1 else scores.argmax(1)


def _grow(points: Points, residual: Matrix, rng: np.random.Generator) -> tuple[list[Split], Indices]:
    """Grow the tree of each class; give its splits and the leaves (N, C).

    The splits come level by level: root, left, right, left's left, ...
    """
    n, classes = residual.shape
    # A residual is below 1 in magnitude, so one sum holds both the sum of the residuals and their number.
    unit = 4.0 * n
    packed = residual + unit
    shape = (len(points.codes), -1, classes)
    tree: list[Split] = []
    node: Indices = np.zeros(residual.shape, np.uint8)
    sums = [(points.bins @ packed).reshape(shape)]
    for depth in range(DEPTH):
        splits = [_best(points, residual, node == i, one, unit, rng) for i, one in enumerate(sums)]
        tree += splits
        node = _step(splits, points.codes, node)
        if depth < DEPTH - 1:
            lefts = [(points.bins @ (packed * (node == 2 * i))).reshape(shape) for i in range(len(sums))]
            sums = [side for left, both in zip(lefts, sums, strict=True) for side in (left, both - left)]
    return tree, node


def _best(
    points: Points, residual: Matrix, inside: NDArray[np.bool_], sums: Matrix, unit: float, rng: np.random.Generator
) -> Split:
    """Find the split of one node that lowers the squared error most.

    inside: (N, C), whether a point is in the node.
    sums: packed sums (L, bins, C).
    """
    # Moving these arrays takes most of the time, so few are made, and they change in place.
    away = sums.cumsum(1)
    n_left = away * (1 / unit)
    np.rint(n_left, out=n_left)
    scratch = n_left * unit
    away -= scratch
    n = n_left[0, -1].copy()
    mean = away[0, -1] / np.maximum(n, 1)
    # The decrease of the error is away^2 n / (n_left n_right), where away is the sum of the residuals on the left
    # after the mean of the node is taken from each.
    away -= np.multiply(n_left, mean, out=scratch)
    weight = np.subtract(n, n_left, out=scratch)
    weight *= n_left
    np.divide(n, np.maximum(weight, 0.5, out=weight), out=weight)
    gain = away * away
    gain *= weight
    # A side without points is no split.
    gain *= weight <= n
    highest = gain.argmax(1)
    by_code = np.take_along_axis(gain, highest[:, None], 1)[:, 0]
    at = np.take_along_axis(points.start[:, 1:], highest, 1) - 1
    own = (residual - mean) * inside
    reached = _bound(points, own, away, n_left, weight) >= np.maximum(by_code.max(0) * EQUAL, NOTHING)
    code, bin_of, tree = np.nonzero(reached)
    _search(points, own, inside, (code, bin_of, tree), away, n_left, by_code, at)
    best = by_code.max(0)
    feature = (rng.random(by_code.shape) * (by_code >= best * EQUAL)).argmax(0)
    return Split(best, feature, _threshold(points, inside, feature, at[feature, np.arange(len(n))], best))


def _bound(points: Points, own: Matrix, away: Matrix, n_left: Matrix, weight: Matrix) -> Matrix:
    """Bound the gain of the splits inside each bin, (L, bins, C).

    It is 0 where there are none.

    own: (N, C), the residuals of the node's points less their mean, 0 for other points.
    away, n_left, weight: (L, bins, C), at the end of each bin. ``weight`` is changed.
    """
    # From one end of a bin to the other the sum moves by steps whose magnitudes are known in sum. So it is at most
    # half of the sum of both ends and of those. The weight is largest at an end, with a point on either side.
    bound: Matrix = (points.bins @ np.abs(own)).reshape(away.shape)
    bound[:, 0] += np.abs(away[:, 0])
    bound[:, 1:] += np.abs(away[:, 1:] + away[:, :-1])
    bound *= bound
    n = n_left[0, -1]
    most = 0.25 * n / np.maximum(n - 1, 1)
    weight *= 0.25
    np.minimum(weight, most, out=weight)
    bound[:, 0] *= most
    bound[:, 1:] *= np.maximum(weight[:, 1:], weight[:, :-1])
    bound *= points.several[:, :, None]
    return bound


def _search(
    points: Points,
    own: Matrix,
    inside: NDArray[np.bool_],
    found: tuple[Indices, Indices, Indices],
    away: Matrix,
    n_left: Matrix,
    by_code: Matrix,
    at: Indices,
) -> None:
    """Search the splits inside of bins.

    Where one is better, its gain is written to ``by_code`` and its place to ``at``, both (L, C).
    """
    code, bin_of, tree = found
    if not len(code):
        return
    classes = own.shape[1]
    first = points.start[code, bin_of]
    size = points.start[code, bin_of + 1] - first
    begin = size.cumsum() - size
    part = np.repeat(np.arange(len(code)), size)
    # Looking up in flat arrays takes half the time.
    place = np.arange(len(part)) + (code * len(own) + first - begin)[part]
    point = points.order.ravel()[place] * classes + tree[part]
    before, later, whole = np.maximum(bin_of - 1, 0), bin_of > 0, n_left[0, -1][tree]
    n = _running(inside.ravel()[point].astype(np.float64), begin, part, n_left[code, before, tree] * later)
    gain = _running(own.ravel()[point], begin, part, away[code, before, tree] * later)
    both = (whole[part] - n) * n
    gain *= gain
    gain *= whole[part]
    gain *= points.last.ravel()[place] & (both > 0.5)
    gain /= np.maximum(both, 1, out=both)
    best = np.maximum.reduceat(gain, begin)
    np.maximum.at(by_code, (code, tree), best)
    for one in np.flatnonzero((best == by_code[code, tree]) & (best > 0))[::-1]:
        at[code[one], tree[one]] = first[one] + gain[begin[one] : begin[one] + size[one]].argmax()


def _running(values: Matrix, begin: Indices, part: Indices, start: Matrix) -> Matrix:
    """Sum the values up to each, in each part alone.

    start: the sum at which each part starts.
    """
    sums: Matrix = values.cumsum()
    sums += (start - sums[begin] + values[begin])[part]
    return sums


def _threshold(points: Points, inside: NDArray[np.bool_], feature: Indices, at: Indices, best: Matrix) -> Matrix:
    """Compute the middle between the node's points on both sides of a split, (C,)."""
    found = np.full(len(feature), np.inf)
    for tree in np.flatnonzero(best > NOTHING):
        order = points.order[feature[tree], at[tree] + 1 :]
        after = order[inside[order, tree].argmax()]
        lower, upper = points.codes[feature[tree], [points.order[feature[tree], at[tree]], after]]
        middle = (lower + upper) / 2
        found[tree] = middle if middle < upper else lower
    return found


def _step(splits: list[Split], codes: Matrix, node: Indices) -> Indices:
    """Compute the nodes (N, C) of the next level; ``splits`` split those of this one."""
    right = np.zeros(node.shape, np.uint8)
    for i, split in enumerate(splits):
        above = np.ascontiguousarray((codes[split.feature] > split.threshold[:, None]).T)
        right |= above & (node == i)
    return 2 * node + right


def _descend(tree: list[Split], codes: Matrix) -> Indices:
    node: Indices = np.zeros((codes.shape[1], len(tree[0].gain)), np.uint8)
    for depth in range(DEPTH):
        node = _step(tree[2**depth - 1 : 2 ** (depth + 1) - 1], codes, node)
    return node


def _newton(residual: Matrix, p: Matrix, leaf: Indices) -> Matrix:
    """Compute each leaf's value, (C, leaves): sum of residuals / sum of p (1 - p)."""
    shape = (p.shape[1], 2**DEPTH)
    place = (leaf + np.arange(0, shape[0] * shape[1], shape[1])).ravel()
    above = np.bincount(place, residual.ravel(), shape[0] * shape[1])
    below = np.bincount(place, (p * (1 - p)).ravel(), shape[0] * shape[1])
    values = np.divide(above, below, out=np.zeros_like(above), where=below > 1e-150).reshape(shape)
    return values if shape[0] == 1 else values * (shape[0] - 1) / shape[0]


def _at(values: Matrix, leaf: Indices) -> Matrix:
    picked: Matrix = values.ravel()[leaf + np.arange(0, values.size, values.shape[1])]
    return picked
