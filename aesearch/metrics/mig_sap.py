"""How far each ground-truth factor sits in one code of its own. Constants follow disentanglement_lib's study.

Locatello et al., "Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations",
ICML 2019.
"""

import numpy as np
from numpy.typing import NDArray

from aesearch.metrics.kinds import FACTORS, NOISE, MetricKind
from aesearch.metrics.tables import (
    BINS,
    Codes,
    Factors,
    Indices,
    Matrix,
    binned,
    checked,
    checked_pair,
    entropies,
    entropy,
    gap,
    indices,
    which_vary,
)

MIG = MetricKind(
    name="mig",
    better="more",
    unit="",
    explanation=(
        "gap between the two codes that know a factor best, as a share of its entropy, mean over the "
        "factors; with B bins a factor of more than B values cannot reach 1."
    ),
    floor=NOISE,
    ceiling=FACTORS,
    cost="codes",
    measure="mig",
)
SAP = MetricKind(
    name="sap",
    better="more",
    unit="",
    explanation=(
        "gap between the two codes that predict a factor best, mean over the factors; by squared "
        "correlations or by SVMs, which its protocol says: the two do not compare."
    ),
    floor=NOISE,
    ceiling=FACTORS,
    cost="codes",
    measure="sap",
)


def mutual_information(codes: Codes, factors: Factors, bins: int = BINS) -> Matrix:
    """Plug-in mutual information in nats between each binned code and each factor: (L, K).

    codes: (N, L) real; each is cut into ``bins`` equal widths between its own least and largest value.
    factors: (N, K), integer value indices, or real and then cut as the codes are. Biased upwards by about
    (bins - 1)(values - 1) / 2N, so never compare different N where N is small.
    Raises ValueError where the lengths differ or a value is not finite.
    """
    codes, factors = checked(codes, factors)
    cut, factors = binned(codes, bins), indices(factors, bins)
    information = np.zeros((codes.shape[1], factors.shape[1]))
    for k in range(factors.shape[1]):
        values, value = np.unique(factors[:, k], return_inverse=True)
        for j in range(codes.shape[1]):
            joint = np.bincount(cut[:, j] * len(values) + value, minlength=bins * len(values))
            information[j, k] = _information(joint.reshape(bins, len(values)))
    return information


def mig(codes: Codes, factors: Factors, bins: int = BINS) -> float:
    """Mutual information gap: mean over factors of (largest - second largest I(code; factor)) / H(factor).

    codes: (N, L), by custom posterior means; factors: (N, K) as of ``mutual_information``; factors with one value are
    left out. Range 0 to 1, 0 for noise. With fewer bins than factor values even perfect codes stay below 1
    (log 20 / log 32 for 32 values). Rewards one code per factor; a duplicated code or a rotation brings it
    to 0; blind to codes that carry several factors. Invariant to order, sign and scale of the codes.
    Raises ValueError as ``mutual_information``, and where every factor is constant.
    Chen et al., "Isolating Sources of Disentanglement in VAEs", NeurIPS 2018; binned on means as disentanglement_lib.
    """
    codes, factors = checked(codes, factors)
    factors = factors[:, which_vary(factors)]
    return float(np.mean(gap(mutual_information(codes, factors, bins)) / entropies(indices(factors, bins))))


def sap(codes: Codes, factors: Factors) -> float:
    """Separated attribute predictability, R^2 form: mean over factors of the gap between the two best codes.

    A code's score for a factor is their squared Pearson correlation (0 for a code with variance below 1e-12).
    codes: (N, L); factors: (N, K) value indices or real; factors with one value are left out. Range 0 to 1.
    Rewards a code that is linear in a factor; blind to periodic and unordered factors (an orientation, a shape).
    A duplicated code brings it to 0. Never in one table with ``sap_svm``, whose perfect score is far lower.
    Raises ValueError as ``mig``. Kumar, Sattigeri, Balakrishnan, "DIP-VAE", ICLR 2018, section 3.
    """
    codes, factors = checked(codes, factors)
    return float(np.mean(gap(_squared_correlations(codes, factors[:, which_vary(factors)]))))


def sap_svm(codes: Codes, factors: Factors, test_codes: Codes, test_factors: Factors) -> float:
    """Separated attribute predictability, classification form: the gap in test accuracy of one-code linear SVMs.

    Each is scikit-learn's LinearSVC (C 0.01, balanced classes), trained on (N, L) codes and (N, K) factors and
    scored on the test pair. Range 0 to 1, but perfect codes of dSprites reach about 0.25: a line cannot cut one code
    into many classes. A duplicated code brings it to 0. Takes about a second for 10 codes, 5 factors and 10,000
    points. Raises ValueError as ``mig``. Kumar et al., ICLR 2018, section 3.
    """
    return float(np.mean(gap(_svm_accuracies(*checked_pair(codes, factors, test_codes, test_factors)))))


def sap_mixed(
    codes: Codes, factors: Factors, test_codes: Codes, test_factors: Factors, unordered: NDArray[np.bool_]
) -> float:
    """Separated attribute predictability with both forms: ``sap_svm`` for ``unordered`` factors, ``sap`` for others.

    unordered: (K,). All else as of the two; a mean of two scales, so the least comparable of the three.
    Lin, Thekumparampil, Fanti, Oh, "InfoGAN-CR and ModelCentrality", ICML 2020 (there of dSprites only the shape).
    """
    checked_codes, checked_factors = checked(codes, factors)
    kept = which_vary(checked_factors)
    train, known, test, target = checked_pair(codes, factors, test_codes, test_factors)
    by_svm = np.asarray(unordered)[kept]
    gaps = np.empty(len(by_svm))
    gaps[by_svm] = gap(_svm_accuracies(train, known[:, by_svm], test, target[:, by_svm]))
    gaps[~by_svm] = gap(_squared_correlations(checked_codes, checked_factors[:, kept][:, ~by_svm]))
    return float(gaps.mean())


def _squared_correlations(codes: Matrix, factors: Factors) -> Matrix:
    """Of each code with each factor, (L, K)."""
    z = codes - codes.mean(0)
    v = factors - factors.mean(0)
    variance = (z**2).mean(0)
    covariance = z.T @ v / len(z)
    safe = np.where(variance > 1e-12, variance, np.inf)
    squared: Matrix = covariance**2 / (safe[:, None] * (v**2).mean(0))
    return squared


def _svm_accuracies(codes: Matrix, factors: Indices, test_codes: Matrix, test_factors: Indices) -> Matrix:
    """On test, of a linear SVM on each code alone for each factor, (L, K)."""
    from sklearn.svm import LinearSVC

    accuracy = np.zeros((codes.shape[1], factors.shape[1]))
    for k in range(factors.shape[1]):
        for j in range(codes.shape[1]):
            svm = LinearSVC(C=0.01, class_weight="balanced", random_state=0)
            svm.fit(codes[:, [j]], factors[:, k])
            accuracy[j, k] = svm.score(test_codes[:, [j]], test_factors[:, k])
    return accuracy


def _information(joint: NDArray[np.integer]) -> float:
    """I = H(row) + H(column) - H(row, column), in nats, from a table of counts; never below 0."""
    return max(0.0, entropy(joint.sum(1)) + entropy(joint.sum(0)) - entropy(joint.ravel()))
