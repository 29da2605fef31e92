"""Metrics that read the table of mutual informations by code: does a code speak of one factor only?"""

import numpy as np

from aesearch.metrics.kinds import FACTORS, NOISE, MetricKind
from aesearch.metrics.mig_sap import mutual_information
from aesearch.metrics.tables import BINS, Codes, Factors, Matrix, checked, entropies, gap, indices, which_vary

MODULARITY = MetricKind(
    name="modularity",
    better="more",
    unit="",
    explanation="how far a code's informations are from those of one factor only, mean over the codes.",
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
    explanation="the best such gap of each factor, as a share of the factors' entropies.",
    floor=NOISE,
    ceiling=FACTORS,
    cost="codes",
    measure="dcimig",
)


def modularity(codes: Codes, factors: Factors, bins: int = BINS) -> float:
    """Modularity: mean over codes of 1 - (how far its informations are from those of a code with one factor).

    codes: (N, L), factors: (N, K) as of ``mutual_information``; constant factors are left out. Range 0 to 1; an
    exactly uninformative code scores 0, but for finite N its tiny informations are all alike or not by chance, so
    noise scores about 0.67 on the factor sizes of dSprites: print a chance column. One more dead code lowers it.
    Rewards codes of one factor each; a duplicated code costs nothing; blind to whether factors are covered.
    Ridgeway and Mozer, "Learning Deep Disentangled Embeddings with the F-Statistic Loss", NeurIPS 2018.
    """
    information, _ = _table(codes, factors, bins)
    return modularity_from_information(information)


def modularity_from_information(information: Matrix) -> float:
    """``modularity`` from the mutual informations (L, K) themselves; 0 for a matrix of zeros."""
    size = information.shape[1]
    most = information.max(1)
    rest = (information**2).sum(1) - most**2
    deviation = rest / (np.where(most > 0, most, 1.0) ** 2 * max(size - 1, 1))
    return float(np.where(most > 0, 1 - deviation, 0.0).mean())


def mig_sup(codes: Codes, factors: Factors, bins: int = BINS) -> float:
    """MIG-sup: mean over codes of (largest - second largest I(code; factor) / H(factor) over the factors).

    codes: (N, L), factors: (N, K) as of ``mig``. Range 0 to 1, 0 for noise; the mean is over all codes, so 5 perfect
    codes beside 5 of noise reach half, and one more dead code lowers it. Rewards codes that speak of one factor; a
    duplicated code costs nothing, a rotation much; blind to a factor that is spread over several codes: the
    complement of MIG. Li, Murkute, Gyawali, Wang, "Progressive Learning and Disentanglement of Hierarchical
    Representations", ICLR 2020.
    """
    information, entropy = _table(codes, factors, bins)
    return float(np.mean(gap((information / entropy).T)))


def dcimig(codes: Codes, factors: Factors, bins: int = BINS) -> float:
    """DCIMIG: for each factor the largest gap of the codes that know it best, summed, by the sum of the entropies.

    The gap of a code is its largest minus its second largest information over the factors; it counts for the factor
    of the largest. codes: (N, L), factors: (N, K) as of ``mig``. Range 0 to 1, 0 for noise, below 1 with fewer bins
    than values. Rewards that each factor has some code of its own; a duplicated or dead code changes nothing, a
    rotation costs much. Sepliarskaia, Kiseleva, de Rijke, "How to Not Measure Disentanglement", 2019.
    """
    information, entropy = _table(codes, factors, bins)
    gaps = np.zeros_like(information)
    rows = np.arange(len(information))
    gaps[rows, information.argmax(1)] = gap(information.T)
    return float(gaps.max(0).sum() / entropy.sum())


def _table(codes: Codes, factors: Factors, bins: int) -> tuple[Matrix, Matrix]:
    """The mutual informations (L, K) with the factors that vary, and the entropies of those (K,)."""
    codes, factors = checked(codes, factors)
    factors = factors[:, which_vary(factors)]
    return mutual_information(codes, factors, bins), entropies(indices(factors, bins))
