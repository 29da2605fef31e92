"""How far a code moves while one factor is held fixed and the others change."""

import numpy as np

from aesearch.metrics.kinds import FACTORS, NOISE, MetricKind
from aesearch.metrics.tables import Codes, Factors, Indices, Matrix, binned, checked, which_vary

QUANTILE = 0.99


IRS = MetricKind(
    name="irs",
    better="more",
    unit="",
    explanation="how little a code moves while a factor is fixed, by its largest move.",
    floor=NOISE,
    ceiling=FACTORS,
    cost="codes",
    measure="irs",
)


def irs(codes: Codes, factors: Factors) -> float:
    """Interventional robustness score: 1 - (largest move of a code while a factor is fixed) / (its largest move ever).

    For each code and factor: the 0.99 quantile of |code - its mean in the group| for each value of the factor (cut
    into 20 bins), averaged over the values, by the code's largest distance from its mean; the best factor of each
    code; the mean over codes, weighted by that largest distance. codes: (N, L), factors: (N, K). Range 0 to 1; noise
    is not 0 (0.37 for normal codes of dSprites' sizes: print a chance column). Constant codes are left out, so a
    dead code changes nothing; with none left 0. Not invariant to scaling single codes, which changes their weights.
    Rewards codes that other factors do not move; a duplicated code costs nothing, a rotation much; blind to factors
    that no code carries. Suter, Miladinovic, Schoelkopf, Bauer, "Robustly Disentangled Causal Mechanisms", ICML
    2019 (there with the maximum; the 0.99 quantile is disentanglement_lib's).
    """
    codes, factors = checked(codes, factors)
    factors = factors[:, which_vary(factors)]
    codes = codes[:, codes.min(0) < codes.max(0)]
    if not codes.shape[1]:
        return 0.0
    most = np.abs(codes - codes.mean(0)).max(0)
    moves = np.stack([_moves(codes, column) for column in binned(factors, 20).T], axis=1)
    robust = (1 - moves / most[:, None]).max(1)
    return float(np.average(robust.clip(0.0, 1.0), weights=most))


def _moves(codes: Matrix, factor: Indices) -> Matrix:
    """How far each code moves from its mean while the factor is fixed, (L,)."""
    groups = [codes[factor == value] for value in np.unique(factor)]
    moves = [np.quantile(np.abs(group - group.mean(0)), QUANTILE, axis=0) for group in groups]
    mean: Matrix = np.mean(moves, axis=0)
    return mean
