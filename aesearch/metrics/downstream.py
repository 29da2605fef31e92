"""Accuracy of simple classifiers on codes when only some codes have labels."""

import numpy as np
from numpy.typing import NDArray

from aesearch.metrics.kinds import MetricKind

Codes = NDArray[np.floating]
Labels = NDArray[np.integer]
REGULARISATIONS = (0.01, 0.1, 1.0, 10.0)
MOST_TRAINED = 10_000


PROBE = MetricKind(
    name="probe",
    better="more",
    unit="",
    explanation=(
        "test accuracy of logistic regression on the codes of as many labelled train images as the name says, "
        "mean over draws of labels. C by 5-fold cross-validation where each class has 5 labels."
    ),
    floor=None,
    ceiling=None,
    cost="fit",
    number="labels",
    factor=True,
)
KNN = MetricKind(
    name="knn",
    better="more",
    unit="",
    explanation="test accuracy of a vote of the nearest neighbours, among as many labelled train images.",
    floor=None,
    ceiling=None,
    cost="fit",
    number="labels",
    factor=True,
)
RAW_PROBE = MetricKind(
    name="raw_probe",
    better="more",
    unit="",
    explanation="the same as probe on pixels.",
    floor=None,
    ceiling=None,
    cost="fit",
    number="labels",
    factor=True,
)
FINE_TUNED = MetricKind(
    name="fine_tuned",
    better="more",
    unit="",
    explanation=(
        "test accuracy of the encoder and a linear head after 300 steps of Adam on as many labels as the name says, "
        "from the trained weights."
    ),
    floor=None,
    ceiling=None,
    cost="fit",
    number="labels",
)
SCRATCH = MetricKind(
    name="scratch",
    better="more",
    unit="",
    explanation="the same as fine_tuned from new weights.",
    floor=None,
    ceiling=None,
    cost="fit",
    number="labels",
)


def labelled(labels: Labels, count: int, seed: int) -> NDArray[np.int64]:
    """Draw items at random, the classes as evenly as possible; give their indices.

    labels: (N,).
    count: number of items to draw.
    seed: of the draw.

    Raises ValueError where ``count`` is above N or below the number of classes.
    """
    classes = np.unique(labels)
    if not len(classes) <= count <= len(labels):
        raise ValueError(f"count must be from {len(classes)} to {len(labels)} labels, but got {count}")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    # The first of each class, then the second of each, ...
    turn = np.empty(len(labels), np.int64)
    for one in classes:
        of_class = order[labels[order] == one]
        turn[of_class] = np.arange(len(of_class))
    chosen: NDArray[np.int64] = order[np.argsort(turn[order], kind="stable")][:count]
    return chosen


def probe_accuracy(
    codes: Codes, labels: Labels, test_codes: Codes, test_labels: Labels, n_labels: int | None = None, seed: int = 0
) -> float:
    """Compute the test accuracy of logistic regression on standardised codes.

    The regression is multinomial. Its regularisation (C of 0.01 to 10) is chosen by 5-fold cross-validation where each
    class has five items; else C is 1.

    codes, labels: (N, L) and (N,), to fit on.
    test_codes, test_labels: (M, L) and (M,), to test on.
    n_labels: number of labels to use, drawn by ``labelled``; by default all, 10,000 at most.
    seed: of that draw.

    Range 0 to 1; noise reaches the share of the largest class. Rewards codes in which classes are linearly separable.
    Blind to a rotation, a scale or a copy of codes.
    Source: Alain and Bengio, "Understanding intermediate layers using linear classifier probes", 2016.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    codes, labels = _drawn(codes, labels, n_labels, seed)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    if np.unique(labels, return_counts=True)[1].min() >= 5:
        model = GridSearchCV(model, {"logisticregression__C": REGULARISATIONS}, cv=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(codes, labels)
    return float((model.predict(test_codes) == test_labels).mean())


def knn_accuracy(
    codes: Codes,
    labels: Labels,
    test_codes: Codes,
    test_labels: Labels,
    neighbours: int = 5,
    n_labels: int | None = None,
    seed: int = 0,
) -> float:
    """Compute the test accuracy of a vote of the nearest neighbours.

    Distances are Euclidean.

    codes, labels: (N, L) and (N,), to choose neighbours from.
    test_codes, test_labels: (M, L) and (M,), to test on.
    neighbours: number of neighbours that vote.
    n_labels: number of labels to use, drawn by ``labelled``; by default all of them.
    seed: of that draw.

    Range 0 to 1. Rewards codes in which each class lies together. Blind to a rotation. Scaling single codes changes it.
    """
    from sklearn.neighbors import KNeighborsClassifier

    if n_labels is not None:
        codes, labels = _drawn(codes, labels, n_labels, seed)
    model = KNeighborsClassifier(n_neighbors=min(neighbours, len(codes))).fit(codes, labels)
    return float((model.predict(test_codes) == test_labels).mean())


def _drawn(codes: Codes, labels: Labels, count: int | None, seed: int) -> tuple[Codes, Labels]:
    if count is None and len(labels) <= MOST_TRAINED:
        return codes, labels
    chosen = labelled(labels, MOST_TRAINED if count is None else count, seed)
    return codes[chosen], labels[chosen]
