"""FactorVAE and beta-VAE scores: accuracy of predicting the fixed factor.

The prediction comes from codes of images that share one factor.
Both scores take codes that exist already: of a whole grid, encoded once in row-major order (``grid_factors`` gives its
factors), or of any sample. Images that share a factor are drawn, with replacement, from those with the same value.
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from aesearch.metrics.kinds import FACTORS, NOISE, MetricKind
from aesearch.metrics.tables import Codes, Factors, Indices, Matrix, checked, indices, which_vary

CHUNK = 1000

T = TypeVar("T", bound=np.generic)


FACTOR_VAE = MetricKind(
    name="factor_vae",
    better="more",
    unit="",
    explanation="how often the code of least variance predicts which factor was fixed.",
    floor=NOISE,
    ceiling=FACTORS,
    cost="codes",
    measure="factor_vae",
)
BETA_VAE = MetricKind(
    name="beta_vae",
    better="more",
    unit="",
    explanation="how often a linear classifier of the mean differences of pairs predicts which factor was fixed.",
    floor=NOISE,
    ceiling=FACTORS,
    cost="codes",
    measure="beta_vae",
)


def grid_factors(sizes: tuple[int, ...]) -> NDArray[np.int64]:
    """List the factors (N, K) of a full grid in row-major order, the last fastest.

    sizes: number of values of each factor.
    """
    return np.stack(np.unravel_index(np.arange(int(np.prod(sizes))), sizes), axis=1)


def factor_vae_score(
    codes: Codes,
    factors: Factors,
    votes: int = 10_000,
    test_votes: int = 5_000,
    size: int = 64,
    active: float = 0.05,
    seed: int = 0,
) -> float:
    """Compute the FactorVAE score: accuracy of predicting the fixed factor by votes.

    Some images that share one factor cast a vote for a code: the one whose variance over these images, divided by its
    variance over all images, is the least. A code predicts the factor that it got most of the ``votes`` for. The score
    is the share of ``test_votes`` new votes that are predicted right.

    codes: (N, L). Constant codes, and those with a standard deviation below ``active``, never get a vote.
    factors: (N, K), value indices; real ones are cut into 20 bins, constant ones are ignored.
    votes: number of votes to learn from.
    test_votes: number of votes to test on; with 0, the first ones are used again.
    size: number of images of a vote.
    active: least standard deviation of a code.
    seed: of the draws.

    Range 0 to 1, about 1/K for noise; 0 where no code is active, so scaling codes down may change it. Rewards a code
    that is constant where a factor is. Blind to what else that code or other codes carry: a duplicated code costs
    nothing, a rotation little (0.85 on dSprites).
    Raises ValueError as ``mig``.
    Source: Kim and Mnih, "Disentangling by Factorising", ICML 2018; ``active`` as disentanglement_lib.
    """
    z, groups = _prepare(codes, factors)
    deviation = z.std(0, ddof=1)
    kept = (z.min(0) < z.max(0)) & (deviation >= active)
    if not kept.any():
        return 0.0
    z = z[:, kept] / deviation[kept]
    rng = np.random.default_rng(seed)

    def vote(group: _Group, count: int) -> Indices:
        winners: Indices = z[group.draw(_repeated(group.values(count, rng), size), rng)].var(1, ddof=1).argmin(1)
        return winners

    k, winner = _by_factor(groups, votes, vote, rng)
    table = np.zeros((z.shape[1], len(groups)), np.int64)
    np.add.at(table, (winner, k), 1)
    test_k, test_winner = _by_factor(groups, test_votes, vote, rng) if test_votes else (k, winner)
    return float((table.argmax(1)[test_winner] == test_k).mean())


def votes_of_groups(groups: NDArray[np.floating], fixed: NDArray[np.integer]) -> float:
    """Compute the FactorVAE score of codes that come in groups already.

    It is tested on the votes that it learns from. A code's variance is divided by its variance over all images. Codes
    that never vary get no vote; where none varies the score is 0.

    groups: (V, S, L), the codes of S images for each of V votes.
    fixed: (V,), the index of the factor that a group shares.

    Range from the largest share of a factor (noise) to 1. Else as ``factor_vae_score``.
    Raises ValueError where the lengths differ, nothing is given or a code is not finite.
    """
    if groups.ndim != 3 or groups.shape[:1] != fixed.shape or not groups.size or not np.isfinite(groups).all():
        raise ValueError(f"groups must be finite (V, S, L) and fixed (V,), but got {groups.shape} and {fixed.shape}")
    z = groups.astype(np.float64)
    deviation = z.std((0, 1))
    kept = z.min((0, 1)) < z.max((0, 1))
    if not kept.any():
        return 0.0
    winner = (z[:, :, kept] / deviation[kept]).var(1).argmin(1)
    _, factor = np.unique(fixed, return_inverse=True)
    table = np.zeros((int(kept.sum()), int(factor.max()) + 1), np.int64)
    np.add.at(table, (winner, factor), 1)
    return float(table.max(1).sum() / len(groups))


def chance_of_votes(codes: int, fixed: NDArray[np.integer], draws: int = 200, seed: int = 0) -> tuple[float, float]:
    """Compute the chance of ``votes_of_groups``: its value for codes of noise.

    Gives the mean and the standard deviation of a draw.

    codes: number of codes that vote, each as likely.
    fixed: (V,), the index of the factor that a group shares.
    draws: number of draws of the votes.

    Both are 0 where there is no code or no group. One code scores the largest share of a factor, exactly.
    """
    if not codes or not len(fixed):
        return 0.0, 0.0
    _, factor = np.unique(fixed, return_inverse=True)
    rng = np.random.default_rng(seed)
    scores = []
    for _ in range(draws):
        table = np.zeros((codes, int(factor.max()) + 1), np.int64)
        np.add.at(table, (rng.integers(codes, size=len(factor)), factor), 1)
        scores.append(table.max(1).sum() / len(factor))
    return float(np.mean(scores)), float(np.std(scores))


def beta_vae_score(
    codes: Codes,
    factors: Factors,
    points: int = 10_000,
    test_points: int = 5_000,
    size: int = 64,
    seed: int = 0,
    one_value: bool = False,
) -> float:
    """Compute the beta-VAE score: accuracy of predicting the fixed factor from pairs.

    A point is the mean over ``size`` pairs of |code - code'|, (L,). The two images of a pair share the factor's value.
    scikit-learn's default logistic regression learns from ``points`` to predict the factor, and is tested on
    ``test_points``.

    codes: (N, L). They are not standardised, so scaling single codes changes the score.
    factors: (N, K), as for ``factor_vae_score``.
    points: number of points to learn from.
    test_points: number of points to test on; with 0, the first ones are used again.
    size: number of pairs of a point.
    seed: of the draws.
    one_value: whether all pairs of a point share the same value.

    Range 0 to 1, about 1/K for noise. A dead code changes nothing. Rewards directions that are constant where a factor
    is. Blind to copies, and nearly blind to a rotation (0.89 on dSprites) and to a code of several factors.
    Raises ValueError as ``mig``.
    Source: Higgins et al., "beta-VAE", ICLR 2017.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    z, groups = _prepare(codes, factors)
    rng = np.random.default_rng(seed)
    if len(groups) == 1:
        return 1.0

    def differ(group: _Group, count: int) -> Matrix:
        drawn = group.values(count * (1 if one_value else size), rng)
        values = _repeated(drawn, size) if one_value else drawn.reshape(count, size)
        difference = z[group.draw(values, rng)]
        difference -= z[group.draw(values, rng)]
        mean: Matrix = np.abs(difference, out=difference).mean(1)
        return mean

    k, features = _by_factor(groups, points, differ, rng)
    test_k, test_features = _by_factor(groups, test_points, differ, rng) if test_points else (k, features)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression().fit(features, k)
    return float((model.predict(test_features) == test_k).mean())


class _Group:
    """Rows that share each value of one factor."""

    def __init__(self, factor: Indices) -> None:
        _, self.value, self.count = np.unique(factor, return_inverse=True, return_counts=True)
        self.order = np.argsort(self.value, kind="stable")
        self.start = np.cumsum(self.count) - self.count

    def values(self, count: int, rng: np.random.Generator) -> Indices:
        """Draw ``count`` values, each as often as it occurs."""
        drawn: Indices = self.value[rng.integers(len(self.value), size=count)]
        return drawn

    def draw(self, values: Indices, rng: np.random.Generator) -> Indices:
        """Draw a row of the codes for each of the values."""
        place = rng.random(values.shape) * self.count[values]
        rows: Indices = self.order[self.start[values] + place.astype(np.int64)]
        return rows


def _repeated(values: Indices, size: int) -> Indices:
    """Repeat each value for the images that share it, (V, size)."""
    return np.repeat(values[:, None], size, axis=1)


def _prepare(codes: Codes, factors: Factors) -> tuple[Matrix, list[_Group]]:
    codes, factors = checked(codes, factors)
    factors = indices(factors[:, which_vary(factors)])
    return codes, [_Group(column) for column in factors.T]


def _by_factor(
    groups: list[_Group], count: int, make: Callable[[_Group, int], NDArray[T]], rng: np.random.Generator
) -> tuple[Indices, NDArray[T]]:
    """Draw ``count`` factors, all equally likely, and apply ``make`` to each.

    It works in chunks to save memory.
    """
    k = np.sort(rng.integers(len(groups), size=count))
    parts = [
        make(group, min(CHUNK, int(n) - at))
        for group, n in zip(groups, np.bincount(k, minlength=len(groups)), strict=True)
        for at in range(0, int(n), CHUNK)
    ]
    return k, np.concatenate(parts)
