"""InfoMEC: modularity, explicitness and compactness in terms of information.

Only the codes that are in use count.
"""

from typing import NamedTuple

import numpy as np

from aesearch.metrics.kinds import FACTORS, NOISE, MetricKind
from aesearch.metrics.tables import Codes, Factors, Indices, Matrix, checked, entropies, indices, which_vary

NEIGHBOURS = 10
DEAD = 1 / 20


INFOM = MetricKind(
    name="infom",
    better="more",
    unit="",
    explanation=("largest share of one factor in a code's information, rescaled; codes that do not move are left out."),
    floor=NOISE,
    ceiling=FACTORS,
    cost="fit",
    measure="infomec",
)
INFOE = MetricKind(
    name="infoe",
    better="more",
    unit="",
    explanation="share of the factors' entropy that logistic regression on all codes explains.",
    floor=NOISE,
    ceiling=FACTORS,
    cost="fit",
    measure="infomec",
)
INFOC = MetricKind(
    name="infoc",
    better="more",
    unit="",
    explanation="largest share of one code in the information on a factor, rescaled.",
    floor=NOISE,
    ceiling=FACTORS,
    cost="fit",
    measure="infomec",
)


class InfoMEC(NamedTuple):
    """Result of ``infomec``.

    modularity, explicitness, compactness: InfoM, InfoE and InfoC, 0 to 1.
    information: (codes in use, K), mutual information divided by the factor's entropy.
    """

    modularity: float
    explicitness: float
    compactness: float
    information: Matrix


def infomec(codes: Codes, factors: Factors, seed: int = 0) -> InfoMEC:
    """Compute InfoM, InfoE and InfoC of the codes that are in use.

    Codes with a range of at most 1/20 of the largest range are dropped. So a dead code changes nothing, but scaling
    one code may. Mutual information is Ross' estimate from the 10 nearest neighbours, divided by the entropy of the
    factor.
    InfoM: mean over codes of the largest value / the sum over the factors, rescaled so that even shares give 0.
    InfoC: the same for each factor over the codes, mean over factors.
    InfoE: mean over factors of the share of the entropy that logistic regression on standardised codes explains. It is
    fitted and measured on the same points, without penalty, with balanced classes.

    codes: (N, L).
    factors: (N, K); real ones are cut into 20 bins, constant ones are ignored.
    seed: of the tiny noise that separates equal codes.

    Range of each 0 to 1. InfoE of noise is 0. InfoM and InfoC are ratios of small estimates, so those of noise are not
    0 (0.7 and 0.4 on dSprites' sizes): judge them beside InfoE. With no code in use all three are 0. Where there is
    any information, InfoM is 1 with one factor, and InfoC is 1 with one code.
    InfoM rewards a code of one factor, and is blind to copies. InfoC rewards a factor of one code; a copy costs half.
    InfoE rewards factors that are linear in the codes, and is blind to rotation and copies.
    Raises ValueError as ``mig``.
    Source: Hsu, Dorrell, Whittington, Wu, Finn, "Disentanglement via Latent Quantization", NeurIPS 2023; Ross, PLoS
    ONE 2014.
    """
    codes, factors = checked(codes, factors)
    labels = indices(factors[:, which_vary(factors)])
    width = np.ptp(codes, axis=0)
    codes = codes[:, width > width.max() * DEAD]
    if not codes.shape[1]:
        return InfoMEC(0.0, 0.0, 0.0, np.zeros((0, labels.shape[1])))
    z = (codes - codes.mean(0)) / codes.std(0)
    # Equal codes have neighbours at distance 0, so tiny noise separates them, as in scikit-learn.
    noisy = z + 1e-10 * np.random.default_rng(seed).normal(size=z.shape)
    information = np.array([[neighbour_information(code, label) for label in labels.T] for code in noisy.T])
    information /= entropies(labels)
    explained = float(np.mean([_explained(z, label) for label in labels.T]))
    return InfoMEC(_largest_share(information), explained, _largest_share(information.T), information)


def neighbour_information(code: Matrix, label: Indices, neighbours: int = NEIGHBOURS) -> float:
    """Estimate mutual information in nats of a real code and a label.

    For each point, r is the distance to the k-th nearest point of the same label. The estimate is digamma(N) +
    mean(digamma(k) - digamma(points of the label) - digamma(points nearer than r)), and never below 0.

    code: (N,).
    label: (N,); labels that only one point has are ignored.
    neighbours: k, or one fewer than the label has points where that is smaller.

    Source: Ross, PLoS ONE 2014, equation 4.
    """
    from scipy.special import digamma

    _, value, count = np.unique(label, return_inverse=True, return_counts=True)
    code, value = code[count[value] > 1], value[count[value] > 1]
    if not len(code):
        return 0.0
    ordered = np.sort(code)
    terms = []
    for one in np.unique(value):
        own = np.sort(code[value == one])
        k = min(neighbours, len(own) - 1)
        near = _nearer(ordered, own, _distance(own, k))
        terms.append(digamma(k) - digamma(len(own)) - digamma(np.maximum(near, 1)))
    return float(max(0.0, digamma(len(code)) + np.concatenate(terms).mean()))


def _distance(ordered: Matrix, k: int) -> Matrix:
    """Compute the distance of each point of a sorted line to its k-th nearest.

    It is that of the best window of k + 1 points around the point.
    """
    padded = np.concatenate([np.full(k, -np.inf), ordered, np.full(k, np.inf)])
    nearest = np.full(len(ordered), np.inf)
    for left in range(k + 1):
        first, last = padded[k - left :][: len(ordered)], padded[2 * k - left :][: len(ordered)]
        nearest = np.minimum(nearest, np.maximum(ordered - first, last - ordered))
    return nearest


def _nearer(ordered: Matrix, points: Matrix, radius: Matrix) -> Indices:
    """Count the points of a sorted line within each point's radius, edge excluded."""
    first = np.searchsorted(ordered, points - radius, "left")
    last = np.searchsorted(ordered, points + radius, "right") - 1
    # The sums are rounded, so the outermost two points are compared with the radius again.
    count: Indices = last + 1 - first - (points - ordered[first] >= radius) - (ordered[last] - points >= radius)
    return count


def _explained(codes: Matrix, label: Indices) -> float:
    """Compute the share of the cross-entropy that the codes explain, not below 0."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    classes, target = np.unique(label, return_inverse=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=np.inf, class_weight="balanced").fit(codes, target)
    p = model.predict_proba(codes)[np.arange(len(target)), target]
    # Without codes, balanced classes are all equally likely.
    return float(max(0.0, 1 + np.log(p.clip(1e-15)).mean() / np.log(len(classes))))


def _largest_share(rows: Matrix) -> float:
    """Average largest / sum over rows, rescaled so that even shares give 0."""
    total, size = rows.sum(1), rows.shape[1]
    share = np.where(total > 0, rows.max(1) / np.where(total > 0, total, 1.0), 1 / size if size > 1 else 0.0)
    mean = float(share.mean())
    return mean if size == 1 else float((mean - 1 / size) / (1 - 1 / size))
