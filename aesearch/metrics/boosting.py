"""Gradient-boosted trees that are fast enough for DCI.

They are those of scikit-learn on binned codes. The trees of all classes grow at once.

Friedman, "Greedy Function Approximation: A Gradient Boosting Machine", Annals of Statistics 2001, with the defaults of
scikit-learn's GradientBoostingClassifier: 100 rounds, a learning rate of 0.1, depth 3, splits by the decrease of the
squared error of the residuals, one Newton step in each leaf.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ROUNDS, RATE, DEPTH = 100, 0.1, 3
EXACT, BINS = 1024, 256

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


class Split(NamedTuple):
    """Split of one node in the tree of each class; each field is (C,).

    A point goes right where its bin of code ``feature`` is above ``threshold``.
    gain: the decrease of the squared error.
    """

    gain: Matrix
    feature: Indices
    threshold: Indices


def boosted_trees(codes: Matrix, labels: Indices, test_codes: Matrix, test_labels: Indices, seed: int = 0) -> Fit:
    """Fit boosted trees that predict labels from codes, and test them.

    codes, labels: (N, L) and (N,), to fit on.
    test_codes, test_labels: (M, L) and (M,), to test on.
    seed: of the draws between equal splits.

    The importance of a code is the decrease of squared error by its splits, summed over all trees. Between equal
    splits one is drawn at random. A code of at most 1,024 values is cut between all of them, as scikit-learn does. A
    code of more values is cut between 256 of them, evenly spaced in their order.
    """
    classes, target = np.unique(labels, return_inverse=True)
    importance = np.zeros(codes.shape[1])
    if len(classes) == 1:
        return Fit(importance, 1.0, float((test_labels == classes[0]).mean()))
    binned, test_binned = _bin(codes, test_codes)
    onehot, rng = _onehot(binned), np.random.default_rng(seed)
    # Two classes need one tree a round: its score is the log odds of the second.
    wanted = np.eye(len(classes))[target][:, 1 if len(classes) == 2 else 0 :]
    start = np.log(wanted.mean(0)) - (np.log(1 - wanted.mean(0)) if len(classes) == 2 else 0)
    scores, test_scores = np.tile(start, (len(codes), 1)), np.tile(start, (len(test_codes), 1))
    for _ in range(ROUNDS):
        p = _probabilities(scores)
        tree, leaf = _grow(onehot, binned, wanted - p, rng)
        for split in tree:
            np.add.at(importance, split.feature, split.gain)
        values = RATE * _newton(wanted - p, p, leaf)
        scores += _at(values, leaf)
        test_scores += _at(values, _descend(tree, test_binned))
    return Fit(
        importance / max(importance.sum(), 1e-300),
        float((_guess(scores) == target).mean()),
        float((classes[_guess(test_scores)] == test_labels).mean()),
    )


def _bin(codes: Matrix, test_codes: Matrix) -> tuple[Indices, Indices]:
    """Bin the codes, (L, N) and (L, M), half-way between neighbouring train values.

    Those are the values of ``codes``.
    """
    binned, test = np.empty(codes.T.shape, np.uint16), np.empty(test_codes.T.shape, np.uint16)
    for j, column in enumerate(codes.T):
        values = np.unique(column)
        if len(values) > EXACT:
            values = values[np.linspace(0, len(values) - 1, BINS).astype(int)]
        edges = (values[1:] + values[:-1]) / 2
        binned[j], test[j] = np.searchsorted(edges, column), np.searchsorted(edges, test_codes[:, j])
    return binned, test


def _onehot(binned: Indices) -> Any:
    """Mark the bin of each code that each point is in: a sparse matrix (L * bins, N)."""
    from scipy.sparse import csr_array

    size, n = binned.shape
    bins = int(binned.max()) + 1
    rows = (binned + np.arange(size)[:, None] * bins).ravel()
    return csr_array((np.ones(size * n), (rows, np.tile(np.arange(n), size))), shape=(size * bins, n))


def _probabilities(scores: Matrix) -> Matrix:
    if scores.shape[1] == 1:
        sigmoid: Matrix = 1 / (1 + np.exp(-scores))
        return sigmoid
    p: Matrix = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return p


def _guess(scores: Matrix) -> Indices:
    return (scores[:, 0] > 0).astype(np.int64) if scores.shape[1] == 1 else scores.argmax(1)


def _grow(onehot: Any, binned: Indices, residual: Matrix, rng: np.random.Generator) -> tuple[list[Split], Indices]:
    """Grow the tree of each class; give its splits and the leaves (N, C).

    The splits come level by level: root, left, right, left's left, ...
    """
    n, classes = residual.shape
    # A residual is below 1 in magnitude, so one sum holds both the sum of the residuals and their number.
    unit = 4.0 * n
    packed = residual + unit
    tree: list[Split] = []
    node: Indices = np.zeros(residual.shape, np.uint8)
    sums = [(onehot @ packed).reshape(len(binned), -1, classes)]
    for depth in range(DEPTH):
        splits = [_best(one, unit, rng) for one in sums]
        tree += splits
        node = _step(splits, binned, node)
        if depth < DEPTH - 1:
            lefts = [(onehot @ (packed * (node == 2 * i))).reshape(sums[0].shape) for i in range(len(sums))]
            sums = [side for left, both in zip(lefts, sums, strict=True) for side in (left, both - left)]
    return tree, node


def _best(sums: Matrix, unit: float, rng: np.random.Generator) -> Split:
    """Find the split of one node that lowers the squared error most.

    sums: packed sums (L, bins, C).
    """
    columns = np.arange(sums.shape[2])
    threshold, by_code = np.empty((2, len(sums), len(columns)))
    for j, of_code in enumerate(sums):
        gain = _gain(of_code, unit)
        highest = gain.argmax(0)
        threshold[j], by_code[j] = highest, gain[highest, columns]
    best = by_code.max(0)
    feature = (rng.random(by_code.shape) * (by_code >= best * (1 - 1e-9))).argmax(0)
    return Split(best, feature, np.where(best > 0, threshold[feature, columns], sums.shape[1]))


def _gain(sums: Matrix, unit: float) -> Matrix:
    """Compute the decrease of the squared error by a split above each bin.

    sums: packed sums (bins, C) of one code in one node.
    """
    # Moving these arrays takes most of the time, so there are three, which change in place.
    left = sums.cumsum(0)
    n_left = left * (1 / unit)
    np.rint(n_left, out=n_left)
    scratch = n_left * unit
    left -= scratch
    n = n_left[-1]
    left -= np.multiply(n_left, left[-1] / np.maximum(n, 1), out=scratch)
    left *= left
    np.subtract(n, n_left, out=scratch)
    scratch *= n_left
    left *= n
    left /= np.maximum(scratch, 1, out=scratch)
    return left


def _step(splits: list[Split], binned: Indices, node: Indices) -> Indices:
    """Compute the nodes (N, C) of the next level; ``splits`` split those of this one."""
    right = np.zeros(node.shape, np.uint8)
    for i, split in enumerate(splits):
        above = np.ascontiguousarray((binned[split.feature] > split.threshold[:, None]).T)
        right |= above & (node == i)
    return 2 * node + right


def _descend(tree: list[Split], binned: Indices) -> Indices:
    node: Indices = np.zeros((binned.shape[1], len(tree[0].gain)), np.uint8)
    for depth in range(DEPTH):
        node = _step(tree[2**depth - 1 : 2 ** (depth + 1) - 1], binned, node)
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
