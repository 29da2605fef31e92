"""InfoMEC: modularity, explicitness and compactness in terms of information, on the codes that are in use."""

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
    """InfoM, InfoE, InfoC and the informations (codes in use, K), each divided by its factor's entropy."""

    modularity: float
    explicitness: float
    compactness: float
    information: Matrix


def infomec(codes: Codes, factors: Factors, seed: int = 0) -> InfoMEC:
    """InfoM, InfoE and InfoC of (N, L) codes and (N, K) factors (real ones are cut into 20 bins).

    Codes with a range of at most 1/20 of the largest are dropped, so a dead code changes nothing, and scaling one code
    may. Information is Ross' estimate from the 10 nearest neighbours, by the entropy of the factor.
    InfoM: mean over codes of largest share / sum over the factors, rescaled so that even shares give 0.
    InfoC: mean over factors of the same over the codes. InfoE: mean over factors of the share of the entropy that
    logistic regression on standardised codes takes off, on the same points (unpenalised, balanced classes).
    Each 0 to 1 (InfoE is 0 for noise). As ratios of small estimates InfoM and InfoC of noise are not 0 (0.7 and
    0.4 on dSprites' sizes): judge them beside InfoE. Constant factors are left out; with no code in use all are 0,
    with one factor InfoM is 1, with one code InfoC is 1, where there is any information. Reward: M a code of one
    factor (blind to copies), C a factor of one code (a copy costs half), E linear codes (blind to rotation and copies).
    Hsu, Dorrell, Whittington, Wu, Finn, "Disentanglement via Latent Quantization", NeurIPS 2023; Ross, PLoS ONE 2014.
    """
    codes, factors = checked(codes, factors)
    labels = indices(factors[:, which_vary(factors)])
    width = np.ptp(codes, axis=0)
    codes = codes[:, width > width.max() * DEAD]
    if not codes.shape[1]:
        return InfoMEC(0.0, 0.0, 0.0, np.zeros((0, labels.shape[1])))
    z = (codes - codes.mean(0)) / codes.std(0)
    # As scikit-learn does: equal codes are told apart by less than anything that they carry.
    noisy = z + 1e-10 * np.random.default_rng(seed).normal(size=z.shape)
    information = np.array([[neighbour_information(code, label) for label in labels.T] for code in noisy.T])
    information /= entropies(labels)
    explained = float(np.mean([_explained(z, label) for label in labels.T]))
    return InfoMEC(_largest_share(information), explained, _largest_share(information.T), information)


def neighbour_information(code: Matrix, label: Indices, neighbours: int = NEIGHBOURS) -> float:
    """Mutual information in nats of a real code (N,) and a label (N,), from distances to neighbours of the same label.

    digamma(N) + mean(digamma(k) - digamma(points of the label) - digamma(points as near as the k-th such neighbour)),
    not below 0. Labels of one point say nothing and are left out. Ross, PLoS ONE 2014, equation 4.
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
    """The distance of each point of a sorted line to its k-th nearest: the best window of k + 1 points around it."""
    padded = np.concatenate([np.full(k, -np.inf), ordered, np.full(k, np.inf)])
    nearest = np.full(len(ordered), np.inf)
    for left in range(k + 1):
        first, last = padded[k - left :][: len(ordered)], padded[2 * k - left :][: len(ordered)]
        nearest = np.minimum(nearest, np.maximum(ordered - first, last - ordered))
    return nearest


def _nearer(ordered: Matrix, points: Matrix, radius: Matrix) -> Indices:
    """How many of a sorted line are nearer to each of its points than its radius."""
    first = np.searchsorted(ordered, points - radius, "left")
    last = np.searchsorted(ordered, points + radius, "right") - 1
    # The sums are rounded, so ask of the outermost two again.
    count: Indices = last + 1 - first - (points - ordered[first] >= radius) - (ordered[last] - points >= radius)
    return count


def _explained(codes: Matrix, label: Indices) -> float:
    """The share of the cross-entropy that the codes take off, not below 0."""
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
    """Mean over rows of largest / sum, rescaled so that even shares give 0."""
    total, size = rows.sum(1), rows.shape[1]
    share = np.where(total > 0, rows.max(1) / np.where(total > 0, total, 1.0), 1 / size if size > 1 else 0.0)
    mean = float(share.mean())
    return mean if size == 1 else float((mean - 1 / size) / (1 - 1 / size))
