"""IRS: the move of each code while one factor is fixed and the others change."""

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
    """Compute the interventional robustness score (IRS).

    It is 1 - (largest move of a code while a factor is fixed) / (largest move of the code at all). For each code and
    each value of a factor, the move is the 0.99 quantile of |code - its mean over the points with that value|. The
    moves are averaged over the values, and divided by the code's largest distance from its mean over all points. Each
    code counts with its best factor. The mean over codes is weighted by that largest distance.

    codes: (N, L); constant ones are ignored.
    factors: (N, K), cut into 20 bins; constant ones are ignored.

    Range 0 to 1; 0 where all codes are constant. Noise is not 0 (0.37 for normal codes of dSprites' sizes), so show a
    column of chance scores beside it. A dead code changes nothing. Scaling single codes changes their weights. Rewards
    codes that other factors do not move. A duplicated code costs nothing, a rotation much. Blind to factors that no
    code carries.
    Raises ValueError as ``mig``.
    Source: Suter, Miladinovic, Schoelkopf, Bauer, "Robustly Disentangled Causal Mechanisms", ICML 2019 (there with the
    maximum; the 0.99 quantile is that of disentanglement_lib).
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
    """Measure the move of each code from its mean while the factor is fixed, (L,)."""
    groups = [codes[factor == value] for value in np.unique(factor)]
    moves = [np.quantile(np.abs(group - group.mean(0)), QUANTILE, axis=0) for group in groups]
    mean: Matrix = np.mean(moves, axis=0)
    return mean
