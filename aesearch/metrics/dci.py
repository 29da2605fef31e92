"""DCI: disentanglement, completeness and informativeness, from what a classifier of each factor makes of the codes."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from aesearch.metrics.boosting import Fit, boosted_trees
from aesearch.metrics.kinds import FACTORS, NOISE, MetricKind
from aesearch.metrics.tables import Codes, Factors, Indices, Matrix, checked_pair

Regressor = Literal["boosted_trees", "sklearn_boosted_trees", "random_forest", "lasso"]
LASSO_ALPHA = 0.02


DISENTANGLEMENT = MetricKind(
    name="dci_disentanglement",
    better="more",
    unit="",
    explanation="1 - entropy of a code's importances over the factors, weighted by importance.",
    floor=NOISE,
    ceiling=FACTORS,
    cost="fit",
    measure="dci",
)
COMPLETENESS = MetricKind(
    name="dci_completeness",
    better="more",
    unit="",
    explanation="1 - entropy of a factor's importances over the codes, weighted by importance.",
    floor=NOISE,
    ceiling=FACTORS,
    cost="fit",
    measure="dci",
)
INFORMATIVENESS = MetricKind(
    name="dci_informativeness",
    better="more",
    unit="",
    explanation="accuracy with which all codes together tell the factors.",
    floor=NOISE,
    ceiling=FACTORS,
    cost="fit",
    measure="dci",
)


class DCI(NamedTuple):
    """The three scores, the accuracy on train, the importances (L, K), and the regressor that they belong to."""

    disentanglement: float
    completeness: float
    informativeness: float
    train_accuracy: float
    importances: Matrix
    regressor: str


def dci(
    codes: Codes,
    factors: Factors,
    test_codes: Codes,
    test_factors: Factors,
    regressor: Regressor = "boosted_trees",
    seed: int = 0,
) -> DCI:
    """DCI of (N, L) codes and (N, K) factors: one classifier per factor on all codes; see ``dci_from_importances``.

    Informativeness is its accuracy on the test pair, mean over factors. Factors are value indices (real ones are cut
    into 20 bins); constant ones are left out. The figure belongs to its regressor (perfect codes of dSprites: D = 1
    with boosted trees, 0.6 with a random forest), so name it:
    "boosted_trees": ``boosting.boosted_trees``; a code's importance is the decrease of squared error by its splits.
    It equals scikit-learn's to about 0.01, some 50 times faster at N = 10,000; above 1,024 points its codes are cut at
    256 quantiles, and between some 1,000 and 3,000 points codes with noise score up to 0.05 below it.
    "sklearn_boosted_trees": scikit-learn's GradientBoostingClassifier, the one of disentanglement_lib; minutes.
    "random_forest": scikit-learn's RandomForestClassifier of 100 trees.
    "lasso": scikit-learn's Lasso (alpha 0.02) from standardised codes to the standardised factor; a code's importance
    is the size of its coefficient, and what counts as right is the nearest value. Blind to unordered factors.
    Order, sign and scale of codes change nothing, but for ties drawn at random and for the bins' edges. A dead code
    changes D nothing and raises C, whose logarithm has base L.
    Eastwood and Williams, "A Framework for the Quantitative Evaluation of Disentangled Representations", ICLR 2018.
    """
    codes, factors, test_codes, test_factors = checked_pair(codes, factors, test_codes, test_factors)
    fit = REGRESSORS[regressor]
    fits = [fit(codes, factors[:, k], test_codes, test_factors[:, k], seed) for k in range(factors.shape[1])]
    importances = np.stack([one.importance for one in fits], axis=1)
    return DCI(
        *dci_from_importances(importances),
        float(np.mean([one.test_accuracy for one in fits])),
        float(np.mean([one.train_accuracy for one in fits])),
        importances,
        regressor,
    )


def dci_from_importances(importances: Matrix) -> tuple[float, float]:
    """Disentanglement and completeness of a matrix of importances (L, K), none below 0.

    D: for each code 1 - the entropy, in base K, of its importances over the factors; the mean weighted by the codes'
    total importance. C: the same for each factor over the codes, in base L. Both 0 to 1; 0 for a matrix of zeros.
    D rewards codes of one factor, C factors of one code; a rotation lowers both; a duplicated code costs D nothing and
    C log 2 / log L. With one factor D is 1, with one code C is 1, where anything is important.
    Raises ValueError where a value is negative or not finite.
    """
    if importances.ndim != 2 or not np.isfinite(importances).all() or (importances < 0).any():
        raise ValueError(f"importances must be (L, K), finite and not negative, but got {importances}")
    return _concentration(importances), _concentration(importances.T)


def _concentration(rows: Matrix) -> float:
    total = rows.sum(1)
    if total.sum() == 0:
        return 0.0
    p = rows / np.where(total > 0, total, 1.0)[:, None]
    entropy = -(p * np.log(np.where(p > 0, p, 1.0))).sum(1) / max(np.log(rows.shape[1]), 1e-300)
    return float(np.clip((total / total.sum() * (1 - entropy)).sum(), 0.0, 1.0))


def _sklearn_boosted_trees(codes: Matrix, labels: Indices, test_codes: Matrix, test_labels: Indices, seed: int) -> Fit:
    from sklearn.ensemble import GradientBoostingClassifier

    model = GradientBoostingClassifier(random_state=seed).fit(codes, labels)
    # Rounding may leave one just below 0.
    return Fit(np.abs(model.feature_importances_), model.score(codes, labels), model.score(test_codes, test_labels))


def _random_forest(codes: Matrix, labels: Indices, test_codes: Matrix, test_labels: Indices, seed: int) -> Fit:
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(random_state=seed).fit(codes, labels)
    return Fit(model.feature_importances_, model.score(codes, labels), model.score(test_codes, test_labels))


def _lasso(codes: Matrix, labels: Indices, test_codes: Matrix, test_labels: Indices, seed: int) -> Fit:  # noqa: ARG001
    from sklearn.linear_model import Lasso

    centre, spread = codes.mean(0), np.where(codes.std(0) > 0, codes.std(0), 1.0)
    mean, deviation = labels.mean(), labels.std()
    values = np.unique(labels)
    between = (values[:-1] + values[1:]) / 2
    model = Lasso(alpha=LASSO_ALPHA).fit((codes - centre) / spread, (labels - mean) / deviation)

    def accuracy(z: Matrix, known: Indices) -> float:
        predicted = model.predict((z - centre) / spread) * deviation + mean
        return float((values[np.searchsorted(between, predicted)] == known).mean())

    return Fit(np.abs(model.coef_), accuracy(codes, labels), accuracy(test_codes, test_labels))


REGRESSORS: dict[Regressor, Callable[[Matrix, Indices, Matrix, Indices, int], Fit]] = {
    "boosted_trees": boosted_trees,
    "sklearn_boosted_trees": _sklearn_boosted_trees,
    "random_forest": _random_forest,
    "lasso": _lasso,
}
