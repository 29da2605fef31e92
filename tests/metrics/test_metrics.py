"""The oracles are those of disentanglement_lib's tests and values measured from the definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from aesearch.metrics import active_units, mig, mutual_information, sap, sap_svm

DSPRITES = (3, 6, 40, 32, 32)


@pytest.fixture(scope="module")
def factors() -> np.ndarray:
    """Ten independent factors with values 1 to 10, as in disentanglement_lib's tests."""
    return np.random.default_rng(0).integers(1, 11, (10_000, 10))


def draw(seed: int, n: int = 10_000) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """dSprites' factors, the same standardised, and the generator that drew them."""
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(0, size, n) for size in DSPRITES], axis=1)
    return factors, (factors - factors.mean(0)) / factors.std(0), rng


def perfect(seed: int) -> tuple[np.ndarray, np.ndarray]:
    factors, codes, rng = draw(seed)
    return np.hstack([codes, rng.normal(size=(len(codes), 5))]), factors


def test_codes_that_are_the_factors_score_high(factors):
    assert 0.9 <= mig(factors.astype(float), factors) <= 1
    assert 0.9 <= sap(factors.astype(float), factors) <= 1


def test_codes_that_are_zero_score_zero(factors):
    zeros = np.zeros((len(factors), 10))
    assert mig(zeros, factors) == sap(zeros, factors) == 0


def test_duplicated_codes_score_low(factors):
    twice = np.hstack([factors, factors]).astype(float)
    assert mig(twice, factors) <= 0.1
    assert sap(twice, factors) <= 0.2


@pytest.mark.parametrize("seed", [1, 2])
def test_floors_and_ceilings_on_the_sizes_of_dsprites(seed):
    codes, factors = perfect(seed)
    noise = np.random.default_rng(seed).normal(size=codes.shape)
    noisy = codes + 0.3 * np.random.default_rng(seed + 100).normal(size=codes.shape)
    assert mig(codes, factors) == pytest.approx(0.896, abs=0.02)
    assert sap(codes, factors) == pytest.approx(1, abs=0.02)
    assert mig(noise, factors) == pytest.approx(0, abs=0.02)
    assert sap(noise, factors) == pytest.approx(0, abs=0.02)
    assert mig(noisy[:, :5], factors) == pytest.approx(0.504, abs=0.02)
    assert sap(noisy[:, :5], factors) == pytest.approx(0.916, abs=0.02)


def test_a_rotation_loses_most_of_both():
    factors, codes, rng = draw(3)
    rotation, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(5, 5)))
    rotated = np.hstack([codes @ rotation, rng.normal(size=(len(codes), 5))])
    assert 0 < mig(rotated, factors) < 0.3
    assert 0 < sap(rotated, factors) < 0.5


def test_the_svm_form_of_sap_tops_out_near_a_quarter():
    codes, factors = perfect(4)
    test_codes, test_factors = perfect(5)
    score = sap_svm(codes, factors, test_codes[:5000], test_factors[:5000])
    assert score == pytest.approx(0.247, abs=0.02)


def test_mutual_information_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    factors = rng.integers(0, 5, (500, 2))
    codes = rng.normal(size=(500, 3)) + factors[:, [0]]
    ours = mutual_information(codes, factors)
    for j in range(3):
        edges = np.histogram(codes[:, j], 20)[1]
        binned = np.digitize(codes[:, j], edges[:-1])
        for k in range(2):
            assert ours[j, k] == pytest.approx(mutual_info_score(binned, factors[:, k]), abs=1e-9)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100), sign=st.sampled_from([-1, 1]))
def test_order_sign_scale_and_dead_codes_change_nothing(seed, scale, sign):
    rng = np.random.default_rng(seed)
    factors = rng.integers(0, 4, (300, 3))
    codes = rng.normal(size=(300, 4)) + factors[:, [0, 1, 2, 0]]
    changed = np.hstack([sign * scale * codes[:, rng.permutation(4)] + 3, np.full((300, 1), 7.0)])
    assert sap(changed, factors) == pytest.approx(sap(codes, factors), abs=1e-6)
    # A value on a bin's edge may change its bin when the code is mirrored or scaled.
    assert mig(changed, factors) == pytest.approx(mig(codes, factors), abs=0.02)


def test_constant_factors_are_left_out():
    codes, factors = perfect(6)
    padded = np.hstack([factors, np.zeros((len(factors), 1), int)])
    assert mig(codes, padded) == mig(codes, factors)
    assert sap(codes, padded) == sap(codes, factors)


def test_one_code_has_nothing_to_be_ahead_of():
    factors = np.arange(100)[:, None] % 4
    codes = factors.astype(float)
    assert mig(codes, factors) == pytest.approx(1)
    assert sap(codes, factors) == pytest.approx(1)


@pytest.mark.parametrize("metric", [mig, sap])
def test_unusable_input_is_refused(metric):
    codes, factors = np.random.default_rng(0).normal(size=(10, 2)), np.arange(10)[:, None] % 3
    with pytest.raises(ValueError, match="same N"):
        metric(codes[:5], factors)
    with pytest.raises(ValueError, match="codes must be finite, but 1 values are not"):
        metric(np.where(np.eye(10, 2) * [[1, 0]] > 0, np.nan, codes), factors)
    with pytest.raises(ValueError, match="all factors are constant"):
        metric(codes, np.zeros((10, 1), int))


def test_active_units_counts_codes_that_vary():
    rng = np.random.default_rng(0)
    assert active_units(rng.normal(size=(1000, 4)) * [1, 0.2, 0.05, 0]) == 2
