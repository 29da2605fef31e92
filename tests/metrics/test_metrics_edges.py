"""Disentanglement metrics where input is odd: a defined value or a clear error, never a silent NaN."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.feature_selection import mutual_info_classif

from aesearch.metrics import (
    beta_vae_score,
    dci,
    dci_from_importances,
    dcimig,
    explicitness,
    factor_vae_score,
    grid_factors,
    infomec,
    irs,
    mean_mutual_information,
    mig,
    mig_chen,
    mig_sup,
    modularity,
    sap,
    sap_svm,
    total_correlation,
    udr,
    wasserstein_dependence,
)
from aesearch.metrics.boosting import boosted_trees
from aesearch.metrics.infomec import neighbour_information

SCORES = {
    "mig": mig,
    "mig_chen": lambda z, v: mig_chen(z, np.full(z.shape, -6.0), v, samples=200),
    "sap": sap,
    "sap_svm": lambda z, v: sap_svm(z, v, z, v),
    "dci": lambda z, v: dci(z, v, z, v)[:3],
    "factor_vae": lambda z, v: factor_vae_score(z, v, 200, 100),
    "beta_vae": lambda z, v: beta_vae_score(z, v, 200, 100),
    "modularity": modularity,
    "explicitness": lambda z, v: explicitness(z, v, z, v),
    "irs": irs,
    "mig_sup": mig_sup,
    "dcimig": dcimig,
    "infomec": lambda z, v: infomec(z, v)[:3],
}
RNG = np.random.default_rng(0)
ODD = {
    "one code": (RNG.normal(size=(40, 1)), RNG.integers(0, 3, (40, 3))),
    "one factor": (RNG.normal(size=(40, 3)), RNG.integers(0, 3, (40, 1))),
    "one of each": (RNG.normal(size=(40, 1)), RNG.integers(0, 2, (40, 1))),
    "fewer points than bins": (RNG.normal(size=(6, 3)), np.arange(18).reshape(6, 3) % 4),
    "dead codes": (np.zeros((40, 3)), RNG.integers(0, 3, (40, 2))),
    "a dead code and a constant factor": (
        RNG.normal(size=(40, 3)) * [1, 0, 1],
        RNG.integers(0, 3, (40, 3)) * [1, 0, 1],
    ),
    "each point its own value": (RNG.normal(size=(12, 2)), np.stack([np.arange(12), np.arange(12) % 2], 1)),
    "real factors": (RNG.normal(size=(300, 3)), RNG.random((300, 2))),
    "single precision": (RNG.normal(size=(40, 3)).astype(np.float32), RNG.integers(0, 3, (40, 2)).astype(np.uint8)),
}


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("score", SCORES)
def test_odd_input_has_a_defined_score(score, case):
    codes, factors = ODD[case]
    found = np.array(SCORES[score](codes, factors))
    assert ((found >= 0) & (found <= 1 + 1e-9)).all(), found


@pytest.mark.parametrize("score", SCORES)
def test_what_cannot_be_scored_is_refused(score):
    codes, factors = ODD["one of each"]
    with pytest.raises(ValueError, match="all factors are constant"):
        SCORES[score](codes, np.zeros((40, 2), int))
    with pytest.raises(ValueError, match="codes must be finite"):
        SCORES[score](np.where(np.arange(40)[:, None] == 3, np.nan, codes), factors)
    with pytest.raises(ValueError, match="same N"):
        SCORES[score](codes[:7], factors)


@pytest.mark.parametrize("score", SCORES)
def test_constant_factors_are_left_out(score):
    rng = np.random.default_rng(1)
    factors = rng.integers(0, 3, (120, 2))
    codes = factors + 0.3 * rng.normal(size=factors.shape)
    padded = np.insert(factors, 1, 5, axis=1)
    np.testing.assert_allclose(SCORES[score](codes, padded), SCORES[score](codes, factors), atol=1e-9)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000))
def test_what_invariances_the_docstrings_promise(seed):
    rng = np.random.default_rng(seed)
    factors = rng.integers(0, 4, (600, 3))
    codes = np.hstack([factors + 0.4 * rng.normal(size=factors.shape), rng.normal(size=(600, 1))])
    order, signs = rng.permutation(4), rng.choice([-1.0, 1.0], 4)
    turned = (codes * signs)[:, order]
    scaled = codes * [3, 0.5, 2, 5]
    dead = np.hstack([codes, np.full((600, 1), 2.0)])
    kept = {"order and sign": turned, "scale": scaled, "a dead code": dead}
    for score, changing in {
        "factor_vae": (turned, scaled, dead),
        "beta_vae": (turned, dead),
        "infomec": (turned, dead),
        "explicitness": kept.values(),
    }.items():
        for changed in changing:
            np.testing.assert_allclose(
                SCORES[score](changed, factors), SCORES[score](codes, factors), atol=0.03, err_msg=score
            )


def test_dci_ignores_order_sign_scale_and_a_dead_code():
    rng = np.random.default_rng(0)
    factors = rng.integers(0, 4, (400, 2))
    codes = np.hstack([factors + 0.4 * rng.normal(size=factors.shape), rng.normal(size=(400, 1))])
    found = dci(codes, factors, codes, factors)
    turned = dci(codes[:, [2, 0, 1]] * [-1, 3, -0.2], factors, codes[:, [2, 0, 1]] * [-1, 3, -0.2], factors)
    dead = dci(np.insert(codes, 1, 2.0, axis=1), factors, np.insert(codes, 1, 2.0, axis=1), factors)
    # Equal splits are drawn between at random.
    assert turned[:3] == pytest.approx(found[:3], abs=0.01)
    assert dead.disentanglement == pytest.approx(found.disentanglement, abs=0.01)
    assert dead.completeness > found.completeness


def test_dci_from_importances_has_its_edges():
    assert dci_from_importances(np.zeros((3, 4))) == (0, 0)
    assert dci_from_importances(np.ones((3, 1))) == pytest.approx((1, 0))
    assert dci_from_importances(np.ones((1, 3))) == pytest.approx((0, 1))
    for wrong in (np.array([[1, -1.0]]), np.array([[np.nan, 1]]), np.ones(3)):
        with pytest.raises(ValueError, match="not negative"):
            dci_from_importances(wrong)


@pytest.mark.parametrize("classes", [2, 5])
def test_boosted_trees_are_those_of_scikit_learn(classes):
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, classes, 400) * 3
    codes = labels[:, None] * [0.5, 0.2, 0.0] + rng.normal(size=(400, 3))
    ours = boosted_trees(codes[:300], labels[:300], codes[300:], labels[300:])
    theirs = GradientBoostingClassifier(random_state=0).fit(codes[:300], labels[:300])
    np.testing.assert_allclose(ours.importance, theirs.feature_importances_, atol=0.01)
    assert ours.train_accuracy == pytest.approx(theirs.score(codes[:300], labels[:300]), abs=0.01)
    assert ours.test_accuracy == pytest.approx(theirs.score(codes[300:], labels[300:]), abs=0.06)


@pytest.mark.parametrize("classes", [2, 5])
def test_trees_of_two_thousand_points_are_cut_everywhere(classes):
    """With 256 bins the importance of noise is too small, and the train accuracy too low."""
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, classes, 3000)
    codes = (labels[:, None] * [0.5, 0.2, 0.0] + rng.normal(size=(3000, 3))).astype(np.float32).astype(float)
    ours = boosted_trees(codes[:2000], labels[:2000], codes[2000:], labels[2000:])
    theirs = GradientBoostingClassifier(random_state=0).fit(codes[:2000], labels[:2000])
    np.testing.assert_allclose(ours.importance, theirs.feature_importances_, atol=0.002)
    assert ours.train_accuracy == pytest.approx(theirs.score(codes[:2000], labels[:2000]), abs=0.003)
    assert ours.test_accuracy == pytest.approx(theirs.score(codes[2000:], labels[2000:]), abs=0.005)


def test_a_copy_shares_the_importance_of_a_code():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 500)
    code = labels + 0.1 * rng.normal(size=500)
    fit = boosted_trees(np.stack([code, code], 1), labels, np.stack([code, code], 1), labels)
    np.testing.assert_allclose(fit.importance, 0.5, atol=0.1)


def test_information_of_neighbours_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 5, 1000)
    for code in (rng.normal(size=1000), label + rng.normal(size=1000), label + 0.01 * rng.normal(size=1000)):
        theirs = mutual_info_classif(code[:, None], label, discrete_features=False, n_neighbors=10, random_state=0)
        assert neighbour_information(code, label) == pytest.approx(theirs[0], abs=1e-6)


def test_chens_mig_is_the_information_of_a_gaussian_channel():
    """A binary factor at -3 and 3 through noise of 1: both entropies are known to quadrature."""
    factors = np.random.default_rng(0).integers(0, 2, (4000, 1))
    means = 6.0 * factors - 3
    grid = np.linspace(-12, 12, 20_001)
    density = sum(np.exp(-((grid - m) ** 2) / 2) for m in (-3, 3)) / 2 / math.sqrt(2 * math.pi)
    information = -np.trapezoid(density * np.log(density), grid) - 0.5 * math.log(2 * math.pi * math.e)
    found = mig_chen(means, np.zeros(means.shape), factors)
    assert found == pytest.approx(information / math.log(2), abs=0.03)


def test_votes_from_a_grid_are_those_from_a_sample():
    sizes = (3, 4, 5)
    grid = grid_factors(sizes)
    assert grid.shape == (60, 3)
    np.testing.assert_array_equal(grid[:6, 2], [0, 1, 2, 3, 4, 0])
    mixed = grid @ np.array([[1, 0.6, 0], [0, 1, 0.6], [0.6, 0, 1]])
    sample = np.random.default_rng(0).integers(0, 60, 20_000)
    for score in (factor_vae_score, beta_vae_score):
        assert score(mixed, grid) == pytest.approx(score(mixed[sample], grid[sample]), abs=0.05)


def test_codes_without_labels_have_their_edges():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200, 2))
    assert total_correlation(np.hstack([z, z])) == math.inf
    assert total_correlation(z[:, :1]) == total_correlation(np.zeros((5, 3))) == 0
    assert wasserstein_dependence(np.zeros((5, 3))) == (0, 0)
    assert mean_mutual_information(z[:, :1]) == 0
    dead = np.hstack([z, np.ones((200, 1))])
    assert total_correlation(dead) == pytest.approx(total_correlation(z))
    for relation in ("lasso", "spearman"):
        np.testing.assert_allclose(udr([z, dead], relation=relation), udr([z, z], relation=relation), atol=1e-9)
        assert udr([z, np.zeros((200, 2))], relation=relation).tolist() == [0, 0]
    shrunk = udr([z, np.hstack([z, rng.normal(size=(200, 1))])], kl=[np.ones(2), np.array([1, 1, 0.001])])
    np.testing.assert_allclose(shrunk, udr([z, z]), atol=1e-9)
    with pytest.raises(ValueError, match="two models"):
        udr([z])
