"""MIG and SAP: whether each ground-truth factor sits in one code of its own.

Constants follow disentanglement_lib's study: Locatello et al., "Challenging Common Assumptions in the Unsupervised
Learning of Disentangled Representations", ICML 2019.
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
    """Estimate mutual information (L, K) in nats of each binned code and each factor.

    The estimate is the plug-in one, from counts. It is biased upwards by about (bins - 1)(values - 1) / 2N, so do not
    compare different N where N is small.

    codes: (N, L), real. Each is cut into bins of equal width between its own least and largest value.
    factors: (N, K), integer value indices; or real, and then cut as the codes are.
    bins: number of bins.

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
    """Compute the mutual information gap (MIG) between a factor's two best codes.

    The score is the mean over factors of the largest minus the second largest I(code; factor), divided by H(factor).

    codes: (N, L), usually posterior means.
    factors: (N, K), as for ``mutual_information``; constant ones are ignored.
    bins: number of bins of equal width.

    Range 0 to 1, 0 for noise. With fewer bins than factor values even perfect codes stay below 1 (log 20 / log 32 for
    32 values). Rewards one code per factor. A duplicated code or a rotation brings it to 0. Blind to codes that carry
    several factors. Invariant to order, sign and scale of the codes.
    Raises ValueError as ``mutual_information``, and where every factor is constant.
    Source: Chen et al., "Isolating Sources of Disentanglement in VAEs", NeurIPS 2018; binned means as
    disentanglement_lib.
    """
    codes, factors = checked(codes, factors)
    factors = factors[:, which_vary(factors)]
    return float(np.mean(gap(mutual_information(codes, factors, bins)) / entropies(indices(factors, bins))))


def sap(codes: Codes, factors: Factors) -> float:
    """Compute separated attribute predictability (SAP) from squared correlations.

    A code's score for a factor is their squared Pearson correlation, 0 for a code with variance below 1e-12. SAP is
    the mean over factors of the gap between the two best codes.

    codes: (N, L).
    factors: (N, K), value indices or real; constant ones are ignored.

    Range 0 to 1. Rewards a code that is linear in a factor. Blind to periodic and unordered factors, such as an
    orientation or a shape. A duplicated code brings it to 0. Do not compare it with ``sap_svm``, whose perfect score
    is far lower.
    Raises ValueError as ``mig``.
    Source: Kumar, Sattigeri, Balakrishnan, "DIP-VAE", ICLR 2018, section 3.
    """
    codes, factors = checked(codes, factors)
    return float(np.mean(gap(_squared_correlations(codes, factors[:, which_vary(factors)]))))


def sap_svm(codes: Codes, factors: Factors, test_codes: Codes, test_factors: Factors) -> float:
    """Compute separated attribute predictability (SAP) by SVMs on single codes.

    A code's score for a factor is the test accuracy of scikit-learn's LinearSVC (C 0.01, balanced classes). SAP is the
    mean over factors of the gap between the two best codes.

    codes, factors: (N, L) and (N, K), to fit on.
    test_codes, test_factors: (M, L) and (M, K), to test on.

    Range 0 to 1, but perfect codes of dSprites reach about 0.25: a linear SVM cannot cut one code into many classes. A
    duplicated code brings it to 0. It takes about a second for 10 codes, 5 factors and 10,000 points.
    Raises ValueError as ``mig``.
    Source: Kumar et al., ICLR 2018, section 3.
    """
    return float(np.mean(gap(_svm_accuracies(*checked_pair(codes, factors, test_codes, test_factors)))))


def sap_mixed(
    codes: Codes, factors: Factors, test_codes: Codes, test_factors: Factors, unordered: NDArray[np.bool_]
) -> float:
    """Compute SAP by ``sap_svm`` for unordered factors and by ``sap`` for the others.

    codes, factors: (N, L) and (N, K), to fit on.
    test_codes, test_factors: (M, L) and (M, K), to test on.
    unordered: (K,), true for factors without an order.

    It is a mean of two scales, so it is the least comparable of the three.
    Raises ValueError as ``mig``.
    Source: Lin, Thekumparampil, Fanti, Oh, "InfoGAN-CR and ModelCentrality", ICML 2020 (there of dSprites only the
    shape).
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
    """Compute the squared correlation of each code with each factor, (L, K)."""
    z = codes - codes.mean(0)
    v = factors - factors.mean(0)
    variance = (z**2).mean(0)
    covariance = z.T @ v / len(z)
    safe = np.where(variance > 1e-12, variance, np.inf)
    squared: Matrix = covariance**2 / (safe[:, None] * (v**2).mean(0))
    return squared


def _svm_accuracies(codes: Matrix, factors: Indices, test_codes: Matrix, test_factors: Indices) -> Matrix:
    """Measure the test accuracy of a linear SVM on each code for each factor, (L, K)."""
    from sklearn.svm import LinearSVC

    accuracy = np.zeros((codes.shape[1], factors.shape[1]))
    for k in range(factors.shape[1]):
        for j in range(codes.shape[1]):
            svm = LinearSVC(C=0.01, class_weight="balanced", random_state=0)
            svm.fit(codes[:, [j]], factors[:, k])
            accuracy[j, k] = svm.score(test_codes[:, [j]], test_factors[:, k])
    return accuracy


def _information(joint: NDArray[np.integer]) -> float:
    """Compute mutual information in nats from a table of counts; never below 0.

    It is H(row) + H(column) - H(row, column).
    """
    return max(0.0, entropy(joint.sum(1)) + entropy(joint.sum(0)) - entropy(joint.ravel()))
