"""The oracles of the disentanglement metrics: disentanglement_lib's, and codes of known quality."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aesearch.metrics import (
    beta_vae_score,
    dci,
    dci_from_importances,
    dcimig,
    explicitness,
    factor_vae_score,
    frechet,
    frechet_gaussian,
    infomec,
    irs,
    mean_mutual_information,
    mig,
    mig_chen,
    mig_sup,
    model_centrality,
    modularity,
    modularity_from_information,
    sap,
    ssim,
    total_correlation,
    udr,
    wasserstein_dependence,
)

SIZES = np.array([3, 6, 40, 32, 32])


def factors(n: int, seed: int, sizes=SIZES) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, size, n) for size in sizes], axis=1)


def standardised(values: np.ndarray) -> np.ndarray:
    return (values - (SIZES - 1) / 2) / np.sqrt((SIZES**2 - 1) / 12)


F, G = factors(10_000, 0), factors(5_000, 1)
ROTATION = np.linalg.qr(np.random.default_rng(7).normal(size=(5, 5)))[0]


def codes(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Codes of the train and test factors, (N, 10)."""
    rng = np.random.default_rng(2)
    noise = [rng.normal(size=(len(f), 10)) for f in (F, G)]
    if kind == "noise":
        return noise[0], noise[1]
    perfect = [standardised(f) for f in (F, G)]
    if kind == "rotated":
        perfect = [p @ ROTATION for p in perfect]
    if kind == "noisy":
        perfect = [p + 0.3 * n[:, 5:] for p, n in zip(perfect, noise, strict=True)]
    second = perfect if kind == "duplicated" else [n[:, :5] for n in noise]
    return np.hstack([perfect[0], second[0]]), np.hstack([perfect[1], second[1]])


# metrics.md b3: MIG20, modularity, explicitness, FactorVAE, BetaVAE.
TABLE = {
    "noise": (0.000, 0.666, 0.501, 0.207, 0.197),
    "perfect": (0.896, 0.830, 0.982, 1.000, 1.000),
    "noisy": (0.504, 0.830, 0.920, 1.000, 1.000),
    "duplicated": (0.000, 1.000, 0.991, 1.000, 1.000),
}


@pytest.mark.parametrize("kind", TABLE)
def test_codes_of_known_quality_score_as_published(kind):
    train, test = codes(kind)
    found = (
        mig(train, F),
        modularity(train, F),
        explicitness(train, F, test, G),
        factor_vae_score(train, F),
        beta_vae_score(train, F),
    )
    assert found == pytest.approx(TABLE[kind], abs=0.02)


def test_a_rotation_costs_mig_much_and_the_voting_scores_little():
    train, test = codes("rotated")
    perfect, _ = codes("perfect")
    assert mig(train, F) < 0.4 * mig(perfect, F)
    assert sap(train, F) < 0.6 * sap(perfect, F)
    assert 0.7 < factor_vae_score(train, F) < 1
    assert 0.7 < beta_vae_score(train, F) < 1
    assert explicitness(train, F, test, G) > 0.95


def test_dci_of_boosted_trees_is_near_scikit_learns():
    """At n = 1,000 scikit-learn's GradientBoostingClassifier gives 1.000 and 0.241 (other noise)."""
    for kind, disentanglement in {"perfect": 1.0, "rotated": 0.241}.items():
        train, test = codes(kind)
        found = dci(train[:1000], F[:1000], test[:1000], G[:1000])
        assert found.disentanglement == pytest.approx(disentanglement, abs=0.03), kind
        assert found.regressor == "boosted_trees"


TEN = np.random.default_rng(0).integers(1, 11, (2000, 10))


def test_the_identity_scores_near_one():
    perfect = TEN.astype(float)
    for score in (mig, sap, modularity, irs, mig_sup, dcimig, factor_vae_score, beta_vae_score):
        assert 0.9 <= score(perfect, TEN) <= 1 + 1e-9, score.__name__


def test_zero_codes_score_near_nothing():
    dead = np.zeros((2000, 10))
    for score in (mig, sap, factor_vae_score, modularity, mig_sup, dcimig):
        assert 0 <= score(dead, TEN) <= 0.2, score.__name__
    assert irs(dead, TEN) <= 0.1


def test_duplicated_codes_have_no_gap_and_stay_modular():
    twice = np.hstack([TEN, TEN]).astype(float)
    assert mig(twice, TEN) <= 0.1
    assert sap(twice, TEN) <= 0.2
    assert modularity(twice, TEN) >= 0.9


def test_the_matrix_cores_are_their_closed_forms():
    assert dci_from_importances(np.eye(10)) == pytest.approx((1, 1))
    d, c = dci_from_importances(np.vstack([np.eye(10), np.eye(10)]))
    assert (d, c) == pytest.approx((1, 1 - math.log(2) / math.log(20)), abs=0.1)
    shared = np.kron(np.eye(5), np.ones((1, 2)))
    assert dci_from_importances(shared) == pytest.approx((1 - math.log(2) / math.log(10), 1))
    assert modularity_from_information(shared) == pytest.approx(1 - 1 / 9)
    assert modularity_from_information(np.vstack([np.eye(2), np.zeros((1, 2))])) == pytest.approx(2 / 3)
    assert modularity_from_information(np.zeros((3, 2))) == 0


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 1000))
def test_order_sign_and_scale_of_codes_change_nothing(seed):
    rng = np.random.default_rng(seed)
    small = factors(400, seed, (3, 4, 5))
    z = np.hstack([small + 0.5 * rng.normal(size=small.shape), rng.normal(size=(400, 2))])
    other = z[:, rng.permutation(5)] * rng.choice([-3.0, 0.5, 2.0], 5)
    for score in (mig, modularity, mig_sup, dcimig, sap):
        assert score(other, small) == pytest.approx(score(z, small), abs=0.02), score.__name__
    # IRS weighs codes by how far they reach, so their scale is part of it.
    assert irs(-z[:, ::-1], small) == pytest.approx(irs(z, small), abs=1e-6)
    for score in (mig, dcimig, irs, sap):
        dead = np.hstack([z, np.full((400, 1), 3.0)])
        assert score(dead, small) == pytest.approx(score(z, small), abs=1e-9), score.__name__


def test_chens_mig_rates_certain_posteriors_and_not_the_prior():
    small = factors(2000, 3, (4, 5))
    means = (small - small.mean(0)) / small.std(0)
    sure = np.hstack([means, np.zeros((2000, 1))])
    tight = np.hstack([np.full((2000, 2), -8.0), np.zeros((2000, 1))])
    assert mig_chen(sure, tight, small, samples=2000) > 0.9
    assert mig_chen(np.zeros((2000, 3)), np.zeros((2000, 3)), small, samples=2000) < 0.02


def test_infomec_of_perfect_copied_and_random_codes():
    small = factors(3000, 5, (4, 5, 6))
    perfect = small + 0.01 * np.random.default_rng(0).normal(size=small.shape)
    found = infomec(perfect, small)
    assert min(found.modularity, found.compactness) > 0.9
    assert found.explicitness > 0.6, "of the classes between others a linear classifier is not certain"
    copied = infomec(np.hstack([perfect, perfect + 0.01]), small)
    assert copied.modularity == pytest.approx(found.modularity, abs=0.05)
    assert copied.compactness < found.compactness - 0.3
    assert infomec(np.random.default_rng(1).normal(size=(3000, 3)), small).explicitness < 0.05


def test_total_correlation_and_wasserstein_of_a_gaussian():
    rng = np.random.default_rng(0)
    for rho in (0.0, 0.5, 0.9):
        z = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], 200_000)
        assert total_correlation(z) == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.01)
        distance, share = wasserstein_dependence(z)
        exact = 4 - 2 * (math.sqrt(1 + rho) + math.sqrt(1 - rho))
        assert distance == pytest.approx(exact, abs=0.01)
        assert share == pytest.approx(exact / 2, abs=0.01)
    assert mean_mutual_information(rng.normal(size=(50_000, 3))) < 0.01


def test_models_that_agree_rank_above_one_that_does_not():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(1000, 4))
    same = [truth[:, rng.permutation(4)] * rng.choice([-1, 1], 4) for _ in range(3)]
    odd = truth @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
    for relation in ("lasso", "spearman"):
        scores = udr([*same, odd], relation=relation)
        assert scores[:3].min() > scores[3] + 0.1
        assert scores[:3].min() > 0.85
    agreement = np.array([[1, 0.9, 0.2], [0.7, 1, 0.4], [0.2, 0.4, 1]])
    assert model_centrality(agreement) == pytest.approx([(0.8 + 0.2) / 2, (0.8 + 0.4) / 2, (0.2 + 0.4) / 2])


def test_frechet_is_the_closed_form_of_gaussians():
    a, b = np.diag([1.0, 4.0]), np.diag([9.0, 1.0])
    exact = 25 + (1 - 3) ** 2 + (2 - 1) ** 2
    assert frechet_gaussian(np.zeros(2), a, np.array([3.0, 4.0]), b) == pytest.approx(exact)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 2)) * [1, 2]
    y = rng.normal(size=(20_000, 2)) * [3, 1] + [3, 4]
    assert frechet(x, y) == pytest.approx(exact, rel=0.03)
    assert frechet(x, x) == pytest.approx(0, abs=1e-6)


def test_ssim_is_one_for_equal_images_and_falls_with_noise():
    rng = np.random.default_rng(0)
    images = rng.random((3, 1, 28, 28))
    np.testing.assert_allclose(ssim(images, images), 1)
    flat = np.full((1, 1, 28, 28), 0.3), np.full((1, 1, 28, 28), 0.6)
    exact = (2 * 0.3 * 0.6 + 1e-4) / (0.3**2 + 0.6**2 + 1e-4)
    assert ssim(*flat)[0] == pytest.approx(exact), "only the light differs"
    noisy = [ssim(images, images + s * rng.normal(size=images.shape)).mean() for s in (0.05, 0.2, 0.8)]
    assert noisy[0] > noisy[1] > noisy[2]
