"""Helpers of the metrics on codes and factors: checks, bins, entropies, gaps."""

import numpy as np
from numpy.typing import NDArray

BINS = 20

Codes = NDArray[np.floating]
Factors = NDArray[np.integer] | NDArray[np.floating]
Indices = NDArray[np.int64]
Matrix = NDArray[np.float64]


def checked(codes: Codes, factors: Factors) -> tuple[Matrix, Factors]:
    """Check codes and factors; give the codes as float64, and the factors.

    codes: (N, L).
    factors: (N, K).

    Raises ValueError for unequal lengths and for values that are not finite.
    """
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or len(codes) < 2:
        raise ValueError(
            "codes (N, L) and factors (N, K) must be matrices of the same N >= 2, "
            f"but got shapes {codes.shape} and {factors.shape}"
        )
    for name, values in (("codes", codes), ("factors", factors)):
        if not values.shape[1]:
            raise ValueError(f"{name} must have one column at least, but got shape {values.shape}")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite, but {int((~np.isfinite(values)).sum())} values are not")
    return codes.astype(np.float64), factors


def checked_pair(
    codes: Codes, factors: Factors, test_codes: Codes, test_factors: Factors, bins: int = BINS
) -> tuple[Matrix, Indices, Matrix, Indices]:
    """Check a train and a test pair; give the factors that vary in train, as indices.

    codes, factors: (N, L) and (N, K).
    test_codes, test_factors: (M, L) and (M, K).
    bins: number of bins of real factors; their edges are those of train.

    Raises ValueError as ``checked``, where the columns of the two pairs differ, and where no factor varies.
    """
    codes, factors = checked(codes, factors)
    test_codes, test_factors = checked(test_codes, test_factors)
    if codes.shape[1] != test_codes.shape[1] or factors.shape[1] != test_factors.shape[1]:
        raise ValueError(
            "train and test must have the same codes and factors, "
            f"but got {codes.shape[1]} and {test_codes.shape[1]}, {factors.shape[1]} and {test_factors.shape[1]}"
        )
    both = np.concatenate([factors, test_factors])
    kept = which_vary(factors)
    if np.issubdtype(factors.dtype, np.floating):
        both = binned(both, bins, factors)
    both = both[:, kept].astype(np.int64)
    return codes, both[: len(codes)], test_codes, both[len(codes) :]


def which_vary(factors: Factors) -> NDArray[np.bool_]:
    """Mark the factors that have two values or more, (K,).

    Raises ValueError where none has.
    """
    kept: NDArray[np.bool_] = factors.min(0) < factors.max(0)
    if not kept.any():
        raise ValueError("all factors are constant; give factors with two values or more")
    return kept


def indices(factors: Factors, bins: int = BINS) -> Indices:
    """Give integer factors as they are, and real ones cut into bins of equal width."""
    return binned(factors, bins) if np.issubdtype(factors.dtype, np.floating) else factors.astype(np.int64)


def binned(values: Factors, bins: int, like: Factors | None = None) -> Indices:
    """Compute the bin of each value, 0 to ``bins`` - 1, in equal widths.

    values: (N, K).
    bins: number of bins.
    like: (M, K). A column is cut between the least and largest value of its column in ``like``, by default in
    ``values``.
    """
    low, high = (values if like is None else like).min(0), (values if like is None else like).max(0)
    width = np.where(high > low, high - low, 1.0)
    found: Indices = ((values - low) / width * bins).astype(np.int64).clip(0, bins - 1)
    return found


def entropy(counts: NDArray[np.integer]) -> float:
    """Estimate an entropy in nats from counts (the plug-in estimate)."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def entropies(factors: Indices) -> Matrix:
    """Estimate the entropy in nats of each column, (K,), by ``entropy``."""
    return np.array([entropy(np.unique(column, return_counts=True)[1]) for column in factors.T])


def gap(scores: Matrix) -> Matrix:
    """Compute the largest minus the second largest value of each column.

    With one row it is the largest.
    """
    ordered = np.sort(scores, axis=0)
    difference: Matrix = ordered[-1] - (ordered[-2] if len(ordered) > 1 else 0.0)
    return difference
