"""DCI: disentanglement, completeness and informativeness of codes.

All three are read off classifiers that predict each factor from the codes.
"""

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
    explanation="accuracy with which all codes together predict the factors.",
    floor=NOISE,
    ceiling=FACTORS,
    cost="fit",
    measure="dci",
)


class DCI(NamedTuple):
    """Result of ``dci``.

    disentanglement, completeness, informativeness: the three scores, 0 to 1.
    train_accuracy: the accuracy on the points that the classifiers are fitted to.
    importances: (L, K), of each code for each factor.
    regressor: the one that the scores belong to.
    """

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
    """Compute DCI with one classifier per factor, on all codes.

    ``dci_from_importances`` defines disentanglement (D) and completeness (C). Informativeness (I) is the accuracy of
    the classifiers on the test pair, mean over factors.

    codes, factors: (N, L) and (N, K), to fit on. Factors are value indices; real ones are cut into 20 bins, constant
    ones are ignored.
    test_codes, test_factors: (M, L) and (M, K), to test on.
    regressor: one of those below.
    seed: of the classifiers.

    Name the regressor beside the scores, because they depend on it: perfect codes of dSprites have D = 1 with boosted
    trees and 0.6 with a random forest.
    "boosted_trees": ``boosting.boosted_trees``. The importance of a code is the decrease of squared error by its
    splits. The trees are those of scikit-learn but for draws between equal splits, so that scores equal within 0.01;
    some 10 times faster.
    "sklearn_boosted_trees": scikit-learn's GradientBoostingClassifier, which disentanglement_lib uses. It takes
    minutes.
    "random_forest": scikit-learn's RandomForestClassifier of 100 trees.
    "lasso": scikit-learn's Lasso (alpha 0.02) from standardised codes to the standardised factor. The importance of a
    code is the magnitude of its coefficient. The predicted class is the nearest value. Blind to unordered factors.

    Order, sign and scale of codes change nothing, except ties drawn at random and the edges of bins. A dead code
    leaves D as it is and raises C, whose logarithm has base L.
    Raises ValueError as ``mig``.
    Source: Eastwood and Williams, "A Framework for the Quantitative Evaluation of Disentangled Representations", ICLR
    2018.
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
    """Compute disentanglement (D) and completeness (C) of a matrix of importances.

    D: for each code 1 - the entropy, in base K, of its importances over the factors. The mean over codes is weighted
    by their total importance. C: the same for each factor over the codes, in base L.

    importances: (L, K), none below 0.

    Range of both 0 to 1; 0 for a matrix of zeros. D rewards codes of one factor, C factors of one code. A rotation
    lowers both. A duplicated code leaves D as it is and lowers C by log 2 / log L. With one factor D is 1, and with
    one code C is 1, unless all importances are 0.
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
