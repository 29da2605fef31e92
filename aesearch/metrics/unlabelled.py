"""Metrics without labels: dependence of codes, and agreement of models."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aesearch.metrics.kinds import MetricKind
from aesearch.metrics.mig_sap import mutual_information
from aesearch.metrics.tables import BINS, Codes, Matrix, binned

ALPHA = 0.1
USED = 0.01


TOTAL_CORRELATION = MetricKind(
    name="total_correlation",
    better="less",
    unit="nats",
    explanation="dependence of the codes, as of Gaussians; 0 where they are uncorrelated.",
    floor=None,
    ceiling=None,
    cost="codes",
    measure="total_correlation",
)
MUTUAL_INFORMATION = MetricKind(
    name="mutual_information",
    better="less",
    unit="nats",
    explanation="mean mutual information of two codes, from bins.",
    floor=None,
    ceiling=None,
    cost="codes",
    measure="mutual_information",
)
UDR_LASSO = MetricKind(
    name="udr_lasso",
    better="more",
    unit="",
    explanation=(
        "how well a model's codes match the others' one to one by Lasso (1,000 images of val), median over the "
        "others: the replicas of its trial or, in names with 'study.', all models of the study. Codes of at most 0.01 "
        "nats of KL are ignored. It falls with the ratio of the numbers of active codes of the two models."
    ),
    floor="codes of noise, as many as each model has active",
    ceiling="0.9: a lasso shrinks its coefficients by 0.1",
    cost="pairs",
    compares=True,
)
UDR_SPEARMAN = MetricKind(
    name="udr_spearman",
    better="more",
    unit="",
    explanation="the same as udr_lasso by rank correlations.",
    floor="codes of noise, as many as each model has active",
    ceiling="1, where codes match one to one",
    cost="pairs",
    compares=True,
)
MODEL_CENTRALITY = MetricKind(
    name="model_centrality",
    better="more",
    unit="",
    explanation=(
        "mean FactorVAE score of a model's encoder on images of each other model's decoder, and the other way round; "
        "100 votes of 64 images, of active codes alone. It falls with the ratio of the numbers of active codes of the "
        "two models."
    ),
    floor="votes of noise, between as many codes as each model has active",
    ceiling="1, where each encoder tells every active code of the others",
    cost="pairs",
    compares=True,
)


def total_correlation(codes: Codes) -> float:
    """Compute the total correlation in nats of a Gaussian with the codes' covariance.

    It is (sum of log variances - log det of the covariance) / 2.

    codes: (N, L); constant ones are ignored.

    Range 0 up; 0 with fewer than two codes. It is infinite where codes determine each other linearly, as a copy does.
    Biased upwards by about L (L - 1) / 4N. Invariant to order, sign and scale. Rewards uncorrelated codes. Blind to
    dependence beyond correlation and to what codes carry: noise scores 0.
    Raises ValueError for codes that are not finite.
    Source: Locatello et al., ICML 2019, appendix (there on sampled codes).
    """
    used = _used(codes)
    if used.shape[1] < 2:
        return 0.0
    sign, logarithm = np.linalg.slogdet(np.corrcoef(used.T))
    # A determinant this small is rounding error, so it counts as 0.
    return float(max(0.0, -0.5 * logarithm)) if sign > 0 and logarithm > -30 * used.shape[1] else float("inf")


def wasserstein_dependence(codes: Codes) -> tuple[float, float]:
    """Compute the squared 2-Wasserstein distance of the codes from independent ones.

    Both are taken as Gaussians with the same variances. The distance is 2 tr S - 2 tr (D^(1/2) S D^(1/2))^(1/2), with
    S the covariance and D its diagonal. The second value is the distance divided by tr S, with range 0 to 2.

    codes: (N, L); constant ones are ignored.

    Uncorrelated codes score 0. A dead code changes nothing. Copies keep it finite. Scaling codes changes the first
    value; a scale that all codes share does not change the second. Blind as ``total_correlation``.
    Raises ValueError for codes that are not finite.
    Source: Locatello et al., ICML 2019.
    """
    used = _used(codes)
    if used.shape[1] < 2:
        return 0.0, 0.0
    covariance = np.cov(used.T)
    root = np.sqrt(np.diag(covariance))
    values = np.linalg.eigvalsh(root[:, None] * covariance * root)
    distance = max(0.0, float(2 * np.trace(covariance) - 2 * np.sqrt(values.clip(0)).sum()))
    return distance, distance / float(np.trace(covariance))


def mean_mutual_information(codes: Codes, bins: int = BINS) -> float:
    """Average the mutual information in nats over all pairs of two codes.

    It is the plug-in estimate, from counts.

    codes: (N, L).
    bins: number of bins of equal width per code.

    Range 0 to log ``bins``; 0 for one code. Biased upwards by about (bins - 1)^2 / 2N. A dead code lowers it, a copy
    raises it. Rewards independent codes. Blind to dependence of more than two codes, and to what codes carry.
    Raises ValueError for codes that are not finite.
    Source: Locatello et al., ICML 2019.
    """
    codes = _finite(codes)
    size = codes.shape[1]
    if size < 2:
        return 0.0
    information = mutual_information(codes, binned(codes, bins), bins)
    return float((information.sum() - np.trace(information)) / (size * (size - 1)))


def udr(
    codes: list[Codes],
    kl: list[NDArray[np.floating]] | None = None,
    relation: Literal["lasso", "spearman"] = "lasso",
) -> Matrix:
    """Compute the unsupervised disentanglement ranking (UDR) of each model, (M,).

    It measures how well each model's codes match those of the others one to one. For a pair of models it is the mean
    over rows and over columns of largest^2 / sum of a matrix of relations; for a model, the median over the others.

    codes: M matrices (N, L), of the same N inputs; each is standardised.
    kl: the mean KL in nats of each code, (L,) for each model. Codes of at most 0.01 are ignored. Without kl, constant
    codes are ignored.
    relation: "lasso", the magnitudes of the coefficients of a lasso from one model's codes to another's (alpha 0.1);
    "spearman", those of Spearman correlations.

    Range 0 to 1; a lasso shrinks its coefficients, so that it reaches 1 - alpha at most. Rewards codes that all models
    find. Blind where all models are wrong in the same way. A dead code changes nothing. A copy lowers it. Where each
    model's codes have a rotation of their own, it falls. It tracks the number of active codes: two models of a and b
    codes, of which the fewer match one to one and the rest match none, have (1 + min(a, b) / max(a, b)) / 2 of its
    highest value.
    Raises ValueError for fewer than two models and for unequal N.
    Source: Duan et al., "Unsupervised Model Selection for Variational Disentangled Representation Learning", ICLR 2020.
    """
    if len(codes) < 2 or len({len(one) for one in codes}) > 1:
        raise ValueError(f"UDR needs two models or more on the same inputs, but got {[one.shape for one in codes]}")
    used = [_standardised(one, None if kl is None else kl[m]) for m, one in enumerate(codes)]
    relate = _lasso if relation == "lasso" else _spearman
    pairs = np.full((len(used), len(used)), np.nan)
    for a, from_a in enumerate(used):
        for b, to_b in enumerate(used):
            if a != b:
                pairs[a, b] = _one_to_one(relate(from_a, to_b))
    scores: Matrix = np.nanmedian(pairs, axis=1)
    return scores


def model_centrality(agreement: Matrix) -> Matrix:
    """Average the agreement of each model with the others, (M,).

    The mean is over the others and over both directions of ``agreement``.

    agreement: (M, M). Entry [i, j] is the FactorVAE score of encoder i on images that decoder j made, with j's codes
    as factors. The diagonal is not read.

    Range that of the score. Rewards codes that all models find. Blind where all models are wrong in the same way.
    Raises ValueError for another shape, one model, or values that are not finite.
    Source: Lin, Thekumparampil, Fanti, Oh, "InfoGAN-CR and ModelCentrality", ICML 2020.
    """
    size = len(agreement)
    off = ~np.eye(size, dtype=bool)
    if agreement.shape != (size, size) or size < 2 or not np.isfinite(agreement[off]).all():
        raise ValueError(f"agreement must be (M, M) of M >= 2 models and finite, but got shape {agreement.shape}")
    both: Matrix = np.where(off, (agreement + agreement.T) / 2, 0.0)
    centrality: Matrix = both.sum(1) / (size - 1)
    return centrality


def _finite(codes: Codes) -> Matrix:
    if codes.ndim != 2 or len(codes) < 2 or not np.isfinite(codes).all():
        raise ValueError(f"codes must be finite (N, L) with N of 2 or more, but got shape {codes.shape}")
    return codes.astype(np.float64)


def _used(codes: Codes) -> Matrix:
    codes = _finite(codes)
    return codes[:, codes.min(0) < codes.max(0)]


def _standardised(codes: Codes, kl: NDArray[np.floating] | None) -> Matrix:
    used = _used(codes if kl is None else codes[:, np.asarray(kl) > USED])
    standardised: Matrix = (used - used.mean(0)) / used.std(0)
    return standardised


def _lasso(a: Matrix, b: Matrix) -> Matrix:
    from sklearn.linear_model import Lasso

    if not a.shape[1] or not b.shape[1]:
        return np.zeros((a.shape[1], b.shape[1]))
    coefficients = Lasso(alpha=ALPHA).fit(a, b).coef_
    return np.abs(np.reshape(coefficients, (b.shape[1], a.shape[1]))).T


def _spearman(a: Matrix, b: Matrix) -> Matrix:
    from scipy.stats import rankdata

    if not a.shape[1] or not b.shape[1]:
        return np.zeros((a.shape[1], b.shape[1]))
    ranks = np.corrcoef(rankdata(a, axis=0).T, rankdata(b, axis=0).T)
    sizes: Matrix = np.abs(ranks[: a.shape[1], a.shape[1] :])
    return sizes


def _one_to_one(relations: Matrix) -> float:
    """Average largest^2 / sum over rows and over columns; 0 where all are 0."""
    if not relations.size:
        return 0.0
    means = []
    for rows in (relations, relations.T):
        total = rows.sum(1)
        means.append(float((rows.max(1) ** 2 / np.where(total > 0, total, 1.0)).mean()))
    return sum(means) / 2
