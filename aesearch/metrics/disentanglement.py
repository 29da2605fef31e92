"""How far each ground-truth factor sits in one code of its own. Constants follow disentanglement_lib's study.

Locatello et al., "Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations",
ICML 2019.
"""

import numpy as np
from numpy.typing import NDArray

BINS = 20

Codes = NDArray[np.floating]
Factors = NDArray[np.integer]
Matrix = NDArray[np.float64]


def mutual_information(codes: Codes, factors: Factors, bins: int = BINS) -> Matrix:
    """Plug-in mutual information in nats between each binned code and each factor: (L, K).

    codes: (N, L) real; each is cut into ``bins`` equal widths between its own least and largest value.
    factors: (N, K) integer value indices. Biased upwards by about (bins - 1)(values - 1) / 2N.
    Raises ValueError where the lengths differ or a code is not finite.
    """
    codes, factors = _checked(codes, factors)
    binned = _bin(codes, bins)
    information = np.zeros((codes.shape[1], factors.shape[1]))
    for k in range(factors.shape[1]):
        values, value = np.unique(factors[:, k], return_inverse=True)
        for j in range(codes.shape[1]):
            joint = np.bincount(binned[:, j] * len(values) + value, minlength=bins * len(values))
            information[j, k] = _information(joint.reshape(bins, len(values)))
    return information


def mig(codes: Codes, factors: Factors, bins: int = BINS) -> float:
    """Mutual information gap: mean over factors of (largest - second largest I(code; factor)) / H(factor).

    codes: (N, L), by custom posterior means; factors: (N, K) integer value indices; factors with one value are
    left out. Range 0 to 1, 0 for noise. With fewer bins than factor values even perfect codes stay below 1
    (log 20 / log 32 for 32 values). Rewards one code per factor; a duplicated code or a rotation brings it
    to 0; blind to codes that carry several factors. Invariant to order, sign and scale of the codes.
    Raises ValueError as ``mutual_information``, and where every factor is constant.
    Chen et al., "Isolating Sources of Disentanglement in VAEs", NeurIPS 2018; binned on means as disentanglement_lib.
    """
    factors = _varying(factors)
    information = mutual_information(codes, factors, bins)
    entropies = np.array([_entropy(np.unique(column, return_counts=True)[1]) for column in factors.T])
    return float(np.mean(_gap(information) / entropies))


def sap(codes: Codes, factors: Factors) -> float:
    """Separated attribute predictability, R^2 form: mean over factors of the gap between the two best codes.

    A code's score for a factor is their squared Pearson correlation (0 for a code with variance below 1e-12).
    codes: (N, L); factors: (N, K) integer value indices; factors with one value are left out. Range 0 to 1.
    Rewards a code that is linear in a factor; blind to periodic and unordered factors (an orientation, a shape).
    Never in one table with ``sap_svm``, whose perfect score is far lower. Raises ValueError as ``mig``.
    Kumar, Sattigeri, Balakrishnan, "DIP-VAE", ICLR 2018, section 3.
    """
    codes, factors = _checked(codes, _varying(factors))
    z = codes - codes.mean(0)
    v = factors - factors.mean(0)
    variance = (z**2).mean(0)
    covariance = z.T @ v / len(z)
    safe = np.where(variance > 1e-12, variance, np.inf)
    return float(np.mean(_gap(covariance**2 / (safe[:, None] * (v**2).mean(0)))))


def sap_svm(codes: Codes, factors: Factors, test_codes: Codes, test_factors: Factors) -> float:
    """Separated attribute predictability, classification form: the gap in test accuracy of one-code linear SVMs.

    Each is scikit-learn's LinearSVC (C 0.01, balanced classes), trained on (N, L) codes and (N, K) factors and
    scored on the test pair. Perfect codes of dSprites reach about 0.25, not 1. Takes about a second for 10
    codes, 5 factors and 10,000 points. Raises ValueError as ``mig``. Kumar et al., ICLR 2018, section 3.
    """
    from sklearn.svm import LinearSVC

    codes, factors = _checked(codes, factors)
    test_codes, test_factors = _checked(test_codes, test_factors)
    varying = [k for k in range(factors.shape[1]) if len(np.unique(factors[:, k])) > 1]
    if not varying:
        raise ValueError("at least one factor must have two values or more, but all are constant")
    accuracy = np.zeros((codes.shape[1], len(varying)))
    for column, k in enumerate(varying):
        for j in range(codes.shape[1]):
            svm = LinearSVC(C=0.01, class_weight="balanced", random_state=0)
            svm.fit(codes[:, [j]], factors[:, k])
            accuracy[j, column] = svm.score(test_codes[:, [j]], test_factors[:, k])
    return float(np.mean(_gap(accuracy)))


def _checked(codes: Codes, factors: Factors) -> tuple[Matrix, Factors]:
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or len(codes) < 2:
        raise ValueError(
            "codes (N, L) and factors (N, K) must be matrices of the same N >= 2, "
            f"but got shapes {codes.shape} and {factors.shape}"
        )
    if not np.isfinite(codes).all():
        raise ValueError(f"codes must be finite, but {int((~np.isfinite(codes)).sum())} values are not")
    return codes.astype(np.float64), factors


def _varying(factors: Factors) -> Factors:
    kept = factors[:, factors.min(0) < factors.max(0)]
    if not kept.shape[1]:
        raise ValueError("at least one factor must have two values or more, but all are constant")
    return kept


def _bin(codes: Matrix, bins: int) -> NDArray[np.int64]:
    low, high = codes.min(0), codes.max(0)
    width = np.where(high > low, high - low, 1.0)
    binned: NDArray[np.int64] = np.minimum((codes - low) / width * bins, bins - 1).astype(np.int64)
    return binned


def _entropy(counts: NDArray[np.integer]) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def _information(joint: NDArray[np.integer]) -> float:
    """I = H(row) + H(column) - H(row, column), in nats, from a table of counts; never below 0."""
    return max(0.0, _entropy(joint.sum(1)) + _entropy(joint.sum(0)) - _entropy(joint.ravel()))


def _gap(scores: Matrix) -> Matrix:
    """Largest minus second largest over the codes (rows) for each factor; with one code, the largest."""
    ordered = np.sort(scores, axis=0)
    gap: Matrix = ordered[-1] - (ordered[-2] if len(ordered) > 1 else 0.0)
    return gap
