"""Rank correlations and explained shares: against scipy, known cases and simulation."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from aesearch.statistics.trends import explained, spearman


def draw(rng, n, rho):
    x = rng.standard_normal(n)
    return x, rho * x + np.sqrt(1 - rho**2) * rng.standard_normal(n)


def test_rho_is_scipys_and_p_exact():
    x, y = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([2.0, 1.0, 4.0, 3.0, 5.0])
    found = spearman(x, y)
    assert found.rho == pytest.approx(spearmanr(x, y).statistic)
    # Of the 120 orders of five, 16 have a rho of .8 or more in absolute value.
    assert found.p == pytest.approx(16 / 120, abs=0.015)
    assert (found.n, found.clusters) == (5, 5)


def test_the_interval_of_bonett_and_wright():
    rng = np.random.default_rng(0)
    found = spearman(*draw(rng, 30, 0.6))
    half = 1.959964 * np.sqrt((1 + found.rho**2 / 2) / 27)
    assert (found.low, found.high) == pytest.approx(tuple(np.tanh(np.arctanh(found.rho) + half * np.array([-1, 1]))))


def test_few_in_perfect_order_are_not_sure():
    found = spearman(np.arange(6.0), np.arange(6.0))
    assert found.rho == pytest.approx(1)
    assert found.low < 0.8
    assert found.p == pytest.approx(2 / 720, abs=0.003)
    assert spearman(np.arange(6.0), np.ones(6)) is None
    assert spearman(np.arange(3.0), np.arange(3.0)) is None
    assert spearman(np.arange(9.0), np.arange(9.0), np.arange(9) // 3) is None, "three trials only"


@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_trials_are_clusters_of_replicas(rho):
    """Counting 48 replicas of 16 trials as independent would find a trend in every fourth study of noise."""
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(16), 3)
    true = 6 / np.pi * np.arcsin(0.8 * rho / 2)  # of normal numbers, four fifths of whose variance are of the trial
    covered, found, naive = 0, 0, 0
    for _ in range(200):
        pairs = np.stack(draw(rng, 16, rho))[:, clusters] * np.sqrt(0.8) + np.sqrt(0.2) * rng.standard_normal((2, 48))
        one = spearman(*pairs, clusters)
        covered += one.low <= true <= one.high
        found += one.p < 0.05
        naive += spearmanr(*pairs).pvalue < 0.05
    assert 0.92 < covered / 200 < 0.99
    assert rho > 0 or (found / 200 < 0.08 and naive / 200 > 0.15)


def test_without_a_cluster_ranks_are_anew():
    from aesearch.statistics.trends import _without_each

    rng = np.random.default_rng(0)
    x, y, groups = rng.integers(0, 9, 20).astype(float), rng.standard_normal(20), np.repeat(np.arange(5), 4)
    expected = [spearmanr(x[groups != g], y[groups != g]).statistic for g in range(5)]
    np.testing.assert_allclose(_without_each(x, y, groups, 5), expected)


def test_p_values_go_on_beyond_what_shuffles_tell():
    from aesearch.statistics.trends import _permuted

    rng = np.random.default_rng(0)
    pairs = draw(rng, 40, 0.95)
    found = spearman(*pairs)
    assert 0 < found.p < 1e-6, "900 trends of 300 parameters need p below .05 / 900"
    weak = draw(rng, 51, 0.2)
    ranks = np.argsort(np.argsort(np.stack(weak)), axis=1) + 1.0
    assert spearman(*weak).p == pytest.approx(_permuted(ranks, spearman(*weak).rho, 0), rel=0.1), "by Student's law"
    assert spearman(np.arange(60.0), np.arange(60.0)).p < 1e-20


def test_of_many_clusters_several_are_left_out_together():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(201), 2)
    pairs = np.stack(draw(rng, 201, 0.5))[:, clusters] + 0.5 * rng.standard_normal((2, 402))
    fewer, more = spearman(*pairs[:, :400], clusters[:400]), spearman(*pairs, clusters)
    assert (more.n, more.clusters) == (402, 201)
    assert (more.low, more.high) == pytest.approx((fewer.low, fewer.high), abs=0.02)


def test_noise_explains_nothing():
    rng = np.random.default_rng(0)
    found, together, shares = 0, 0, []
    for number in range(200):
        columns = [rng.uniform(size=16), rng.integers(4, 17, 16), np.array(["a", "b"], object)[rng.integers(0, 2, 16)]]
        one = explained(columns, rng.standard_normal(16), number)
        found += (one.p[:-1] < 0.05).any()
        together += one.p[-1] < 0.05
        shares.append(one.shares)
    assert 0.01 <= found / 200 < 0.09, "any of the three parameters"
    assert 0.01 <= together / 200 < 0.09
    assert np.mean(shares) < 0.06, "shares are not normalised: three of noise do not add up to 1"


def test_effects_are_found():
    rng = np.random.default_rng(0)
    x, name = rng.uniform(size=20), np.array(["a", "b", "c"], object)[rng.integers(0, 3, 20)]
    curve = explained([x, rng.uniform(size=20)], np.sin(6 * x) + 0.1 * rng.standard_normal(20))
    assert curve.shares[0] > 0.9
    assert curve.p[0] == pytest.approx(0.001)
    assert curve.p[1] > 0.05
    assert curve.noise[0] < 0.4
    named = explained([name], np.where(name == "b", 1.0, 0.0) + 0.1 * rng.standard_normal(20))
    assert named.shares[0] > 0.9
    assert named.p[0] == pytest.approx(0.001)


def test_many_parameters_together_are_a_sum():
    """A product of 1,100 kernels would be infinite, and like a trial's name: it could predict none from others."""
    rng = np.random.default_rng(0)
    columns = [rng.uniform(size=30) for _ in range(1100)]
    noise = explained(columns, rng.standard_normal(30))
    assert np.isfinite(noise.shares).all()
    assert (noise.p > 0.05).all()
    found = explained(columns[:12], sum(columns[:6]) + 0.05 * rng.standard_normal(30))
    assert found.shares[-1] > 0.5
    assert found.p[-1] < 0.05


def test_residuals_are_those_of_fitting_again():
    from aesearch.statistics.trends import MEAN, RIDGES, _kernel, _press_shares

    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=9), rng.standard_normal(9)
    kernel, errors = _kernel(x) + MEAN, {}
    for ridge in RIDGES:
        errors[ridge] = 0.0
        for i in range(9):
            kept = np.arange(9) != i
            weights = np.linalg.solve(kernel[np.ix_(kept, kept)] + ridge * np.eye(8), y[kept])
            errors[ridge] += (y[i] - kernel[i, kept] @ weights) ** 2
    of_mean = sum((y[i] - np.delete(y, i).mean()) ** 2 for i in range(9))
    assert _press_shares(_kernel(x), y[:, None])[0] == pytest.approx(1 - min(errors.values()) / of_mean)


def test_too_few_trials_explain_nothing():
    assert np.isnan(explained([np.arange(3.0)], np.arange(3.0)).p).all()
    assert np.isnan(explained([np.arange(5.0)], np.ones(5)).shares).all()
