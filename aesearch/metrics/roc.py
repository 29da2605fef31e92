"""Measures of how well a score separates anomalies from normal items.

A higher score must mean a more anomalous item.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aesearch.metrics.kinds import MetricKind

Scores = NDArray[np.floating]
Flags = NDArray[np.bool_]


AUROC = MetricKind(
    name="auroc",
    better="more",
    unit="",
    explanation=(
        "how often an anomaly of test has a larger squared error of reconstruction than a normal item; 0.5 for noise."
    ),
    floor="0.5, for noise",
    ceiling=None,
    cost="images",
)
AVERAGE_PRECISION = MetricKind(
    name="average_precision",
    better="more",
    unit="",
    explanation="mean precision over the anomalies found, by the squared error.",
    floor="the share of anomalies, for noise",
    ceiling=None,
    cost="images",
)
FPR = MetricKind(
    name="fpr_at_95_tpr",
    better="less",
    unit="",
    explanation=(
        "share of normal items that are called anomalous where 95 % of the anomalies are found, by the squared error."
    ),
    floor="0.95, for noise",
    ceiling=None,
    cost="images",
)
ELBO_AUROC = MetricKind(
    name="elbo_auroc",
    better="more",
    unit="",
    explanation="auroc of the negative elbo; only of models that have one.",
    floor="0.5, for noise",
    ceiling=None,
    cost="images",
)


def auroc(scores: Scores, anomalous: Flags) -> float:
    """Compute the area under the ROC curve.

    It is the share of pairs in which the anomaly scores higher than the normal item; ties count half.

    scores: (N,).
    anomalous: (N,), true for anomalies.

    Range 0 to 1, 0.5 for noise. Blind to the share of anomalies and to distances between scores.
    Raises ValueError where all items are anomalies or none is.
    Source: Hanley and McNeil, Radiology 1982.
    """
    _checked(scores, anomalous)
    order = np.argsort(scores, kind="stable")
    _, start, count = np.unique(scores[order], return_index=True, return_counts=True)
    ranks = np.empty(len(scores))
    ranks[order] = np.repeat(start + (count + 1) / 2, count)
    positives = int(anomalous.sum())
    wins = ranks[anomalous].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * (len(scores) - positives)))


def average_precision(scores: Scores, anomalous: Flags) -> float:
    """Compute the mean, over all anomalies, of the precision at which each is found.

    Items are taken in the order of falling scores; those with equal scores are taken at once.

    scores: (N,).
    anomalous: (N,), true for anomalies.

    Range 0 to 1; noise scores the share of anomalies. Rewards anomalies at the very top.
    Raises ValueError where all items are anomalies or none is.
    """
    true, false = _curve(scores, anomalous)
    precision = true / (true + false)
    return float((np.diff(true, prepend=0) / true[-1] * precision).sum())


def fpr_at_tpr(scores: Scores, anomalous: Flags, tpr: float = 0.95) -> float:
    """Compute the false positive rate where a share ``tpr`` of anomalies is found.

    scores: (N,).
    anomalous: (N,), true for anomalies.
    tpr: least share of anomalies that must be found.

    Range 0 to 1, about ``tpr`` for noise; less is better.
    Raises ValueError where all items are anomalies or none is.
    """
    true, false = _curve(scores, anomalous)
    return float((false / false[-1])[np.searchsorted(true, tpr * true[-1] - 1e-9)])


def threshold(clean: Scores, rule: Literal["quantile", "deviation"] = "quantile", at: float | None = None) -> float:
    """Compute the score above which an item counts as anomalous.

    clean: (N,), scores of clean items alone.
    rule: "quantile" takes the quantile ``at`` of them, so that a share 1 - ``at`` of clean items counts as anomalous;
    "deviation" takes their mean plus ``at`` standard deviations.
    at: by default 0.95 for "quantile" and 2 for "deviation".

    Raises ValueError for no or non-finite scores.
    """
    if not len(clean) or not np.isfinite(clean).all():
        raise ValueError(
            f"clean has {len(clean)} scores, {int((~np.isfinite(clean)).sum())} of them not finite; "
            "give one or more, all finite"
        )
    if rule == "quantile":
        return float(np.quantile(clean, 0.95 if at is None else at))
    return float(clean.mean() + (2.0 if at is None else at) * clean.std())


def _checked(scores: Scores, anomalous: Flags) -> None:
    if scores.shape != anomalous.shape or scores.ndim != 1:
        raise ValueError(f"scores and anomalous must be (N,) alike, but got {scores.shape} and {anomalous.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"scores must be finite, but {int((~np.isfinite(scores)).sum())} are not")
    if anomalous.all() or not anomalous.any():
        raise ValueError(f"all {len(scores)} items are of one kind; give anomalies and normal items")


def _curve(scores: Scores, anomalous: Flags) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the anomalies and the normal items with at least each score.

    The counts go from the highest score down.
    """
    _checked(scores, anomalous)
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    found = anomalous[order].cumsum()[last]
    return found, last + 1 - found
