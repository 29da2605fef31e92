"""Explicitness: the quality of a linear classifier of each factor on all codes."""

import numpy as np

from aesearch.metrics.kinds import FACTORS, NOISE, MetricKind
from aesearch.metrics.roc import auroc
from aesearch.metrics.tables import Codes, Factors, Indices, Matrix, checked_pair

EXPLICITNESS = MetricKind(
    name="explicitness",
    better="more",
    unit="",
    explanation="ROC-AUC of logistic regression from all codes to each factor.",
    floor=NOISE,
    ceiling=FACTORS,
    cost="fit",
    measure="explicitness",
)


def explicitness(codes: Codes, factors: Factors, test_codes: Codes, test_factors: Factors) -> float:
    """Compute explicitness: the test ROC-AUC of logistic regression on all codes.

    Each class of a factor is set against the rest. The score is the mean over the classes that test has, then over
    factors.

    codes, factors: (N, L) and (N, K), to fit on. Factors are value indices; real ones are cut into 20 bins, constant
    ones are ignored.
    test_codes, test_factors: (M, L) and (M, K), to test on. Codes are standardised with the moments of train.

    Range 0 to 1, 0.5 for noise; perfect codes of dSprites reach about 0.98. Rewards factors that are linear in the
    codes. Blind to a rotation and to copies. A dead code changes nothing.
    Raises ValueError as ``mig``, and where no factor varies in test.
    Source: Ridgeway and Mozer, NeurIPS 2018.
    """
    from sklearn.linear_model import LogisticRegression

    codes, factors, test_codes, test_factors = checked_pair(codes, factors, test_codes, test_factors)
    deviation = codes.std(0)
    scale = np.where(deviation > 0, deviation, 1.0)
    z, test_z = (codes - codes.mean(0)) / scale, (test_codes - codes.mean(0)) / scale
    areas = []
    for k in range(factors.shape[1]):
        if test_factors[:, k].min() < test_factors[:, k].max():
            model = LogisticRegression(max_iter=1000).fit(z, factors[:, k])
            # A logit is linear, so that of a class between others has no peak; its probability has one.
            areas.append(_mean_area(model.predict_proba(test_z), model.classes_, test_factors[:, k]))
    if not areas:
        raise ValueError("all factors are constant in test; give test factors with two values or more")
    return float(np.mean(areas))


def _mean_area(scores: Matrix, classes: Indices, target: Indices) -> float:
    present = [c for c, one in enumerate(classes) if (target == one).any()]
    return float(np.mean([auroc(scores[:, c], target == classes[c]) for c in present])) if present else 0.5
