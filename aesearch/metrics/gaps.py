"""Metrics of whether each code carries one factor only.

They read the matrix of mutual information code by code.
"""

import numpy as np

from aesearch.metrics.kinds import FACTORS, NOISE, MetricKind
from aesearch.metrics.mig_sap import mutual_information
from aesearch.metrics.tables import BINS, Codes, Factors, Matrix, checked, entropies, gap, indices, which_vary

MODULARITY = MetricKind(
    name="modularity",
    better="more",
    unit="",
    explanation="how close a code is to having information on one factor only, mean over the codes.",
    floor=NOISE,
    ceiling=FACTORS,
    cost="codes",
    measure="modularity",
)
MIG_SUP = MetricKind(
    name="mig_sup",
    better="more",
    unit="",
    explanation="gap between the two factors that a code knows best, mean over the codes.",
    floor=NOISE,
    ceiling=FACTORS,
    cost="codes",
    measure="mig_sup",
)
DCIMIG = MetricKind(
    name="dcimig",
    better="more",
    unit="",
    explanation="the largest gap of a code, as in mig_sup, for each factor, as a share of the factors' entropies.",
    floor=NOISE,
    ceiling=FACTORS,
    cost="codes",
    measure="dcimig",
)


def modularity(codes: Codes, factors: Factors, bins: int = BINS) -> float:
    """Compute modularity: how close each code is to carrying one factor only.

    The score is the mean over codes of 1 - R / ((K - 1) m^2). Here m is the code's largest mutual information with a
    factor, and R is the sum of its squared mutual information with the other K - 1 factors.

    codes: (N, L).
    factors: (N, K), as for ``mutual_information``; constant ones are ignored.
    bins: number of bins of equal width.

    Range 0 to 1. A code without any information scores 0. With finite N, though, noise has small random values and
    scores about 0.67 on the factor sizes of dSprites, so show a column of chance scores beside it. One more dead code
    lowers the score. Rewards codes of one factor each. A duplicated code costs nothing. Blind to factors that no code
    carries.
    Raises ValueError as ``mig``.
    Source: Ridgeway and Mozer, "Learning Deep Disentangled Embeddings with the F-Statistic Loss", NeurIPS 2018.
    """
    information, _ = _table(codes, factors, bins)
    return modularity_from_information(information)


def modularity_from_information(information: Matrix) -> float:
    """Compute ``modularity`` from a matrix of mutual information.

    information: (L, K), in nats; a matrix of zeros scores 0.
    """
    size = information.shape[1]
    most = information.max(1)
    rest = (information**2).sum(1) - most**2
    deviation = rest / (np.where(most > 0, most, 1.0) ** 2 * max(size - 1, 1))
    return float(np.where(most > 0, 1 - deviation, 0.0).mean())


def mig_sup(codes: Codes, factors: Factors, bins: int = BINS) -> float:
    """Compute MIG-sup: the gap between the two factors that each code knows best.

    The score is the mean over codes of the largest minus the second largest I(code; factor) / H(factor) over the
    factors.

    codes: (N, L).
    factors: (N, K), as for ``mig``.
    bins: number of bins of equal width.

    Range 0 to 1, 0 for noise. The mean is over all codes: 5 perfect codes beside 5 of noise reach one half, and one
    more dead code lowers the score. Rewards codes that carry one factor. A duplicated code costs nothing, a rotation
    much. Blind to a factor that is spread over several codes, which MIG sees: the two complement each other.
    Raises ValueError as ``mig``.
    Source: Li, Murkute, Gyawali, Wang, "Progressive Learning and Disentanglement of Hierarchical Representations",
    ICLR 2020.
    """
    information, entropy = _table(codes, factors, bins)
    return float(np.mean(gap((information / entropy).T)))


def dcimig(codes: Codes, factors: Factors, bins: int = BINS) -> float:
    """Compute DCIMIG: the largest gap of each factor, by the sum of the entropies.

    The gap of a code is its largest minus its second largest mutual information over the factors. It counts for the
    factor of the largest. The score is the sum over factors of the largest gap that counts for them, divided by the
    sum of the factors' entropies.

    codes: (N, L).
    factors: (N, K), as for ``mig``.
    bins: number of bins of equal width.

    Range 0 to 1, 0 for noise; below 1 with fewer bins than values. Rewards a code of its own for each factor. A
    duplicated or dead code changes nothing, a rotation costs much.
    Raises ValueError as ``mig``.
    Source: Sepliarskaia, Kiseleva, de Rijke, "How to Not Measure Disentanglement", 2019.
    """
    information, entropy = _table(codes, factors, bins)
    gaps = np.zeros_like(information)
    rows = np.arange(len(information))
    gaps[rows, information.argmax(1)] = gap(information.T)
    return float(gaps.max(0).sum() / entropy.sum())


def _table(codes: Codes, factors: Factors, bins: int) -> tuple[Matrix, Matrix]:
    """Compute mutual information (L, K) and entropies (K,) of the factors that vary."""
    codes, factors = checked(codes, factors)
    factors = factors[:, which_vary(factors)]
    return mutual_information(codes, factors, bins), entropies(indices(factors, bins))
