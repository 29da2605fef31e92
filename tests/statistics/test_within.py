"""Statistics within conditions: what conditions explain is no finding, and what they hide is one."""

import numpy as np
import pytest

from aesearch.statistics.components import components, components_within
from aesearch.statistics.trends import explained, spearman, spearman_within

CONDITIONS = np.repeat(np.arange(6), 4)
SIZES = np.tile([2.0, 4.0, 8.0, 16.0], 6)
LEVELS = 10.0**CONDITIONS  # of each condition, with a spread to match
NOISE = np.random.default_rng(0).standard_normal(24)


def test_of_one_condition_all_is_as_without():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 12))
    whole, within = spearman(x, y), spearman_within(x, y, np.zeros(12))
    for name in ("rho", "low", "high", "p", "n"):
        assert getattr(within, name) == pytest.approx(getattr(whole, name)), name
    values = [rng.normal(i % 3, 1.0, 2 + i % 2) for i in range(6)]
    whole, within = components(values), components_within(values, [7] * 6)
    for name in ("low", "high", "p", "trials", "models"):
        assert getattr(within, name) == pytest.approx(getattr(whole, name)), name
    one, same = explained([x], y), explained([x], y, conditions=np.zeros(12))
    np.testing.assert_allclose(one.shares, same.shares, atol=1e-6)


def test_rho_is_that_of_ranks_less_the_mean_of_their_condition():
    found = spearman_within(np.array([1, 2, 3, 1, 2, 3.0]), np.array([1, 2, 3, 91, 93, 92.0]), np.repeat([0, 1], 3))
    # Ranks less their mean are -1, 0, 1 and -1, 1, 0: products 2 and 1 of squares 2 and 2.
    assert found.rho == pytest.approx(3 / 4)
    assert (found.n, found.conditions, found.same) == (6, 2, 2)


def test_what_conditions_explain_is_no_trend():
    """Levels differ a million times; within a condition no size is better than another on average."""
    values = LEVELS * (1 + 0.1 * np.tile([2, 4, 1, 3, 3, 1, 4, 2], 3))
    found = spearman_within(SIZES, values, CONDITIONS)
    assert (found.rho, found.p) == (pytest.approx(0.0), 1.0)
    assert explained([SIZES], values, conditions=CONDITIONS).shares[0] == pytest.approx(0.0)
    # Where the parameter goes along with the level, all trials together would show a trend.
    along = SIZES + 20 * CONDITIONS
    assert spearman(along, values).p < 0.05
    assert spearman_within(along, values, CONDITIONS).p > 0.05


def test_an_effect_that_conditions_hide_is_told():
    values = LEVELS * (1 + 0.02 * SIZES + 0.02 * NOISE)
    assert spearman(SIZES, values).p > 0.05
    found = spearman_within(SIZES, values, CONDITIONS)
    assert found.rho > 0.9
    assert found.p < 0.001
    assert (found.same, found.conditions) == (6, 6)
    assert explained([SIZES], values).p[0] > 0.05
    hidden = explained([SIZES], values, conditions=CONDITIONS)
    assert hidden.shares[0] > 0.8
    assert hidden.p[0] < 0.01


@pytest.mark.parametrize("share", [0.0, 0.8])
def test_components_ignore_the_level_and_scale_of_conditions(share):
    rng = np.random.default_rng(3)
    true = np.sqrt(share) * rng.standard_normal(24)
    seeds = true[:, None] + np.sqrt(1 - share) * rng.standard_normal((24, 3))
    plain = components_within(list(seeds), CONDITIONS)
    scaled = components_within(list(LEVELS[:, None] * (5 + seeds)), CONDITIONS)
    for name in ("share", "low", "high", "p"):
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name), rel=1e-6), name
    assert plain.low <= share <= plain.high
    assert (plain.p < 0.001) == (share > 0)
    assert (plain.conditions, plain.trials, plain.models) == (6, 24, 72)
    assert plain.reliability == pytest.approx(3 * plain.share / (1 + 2 * plain.share))


def test_intervals_within_conditions_cover_the_truth():
    """Of conditions that differ in level and scale, with three trials each; 95 % are promised."""
    rng = np.random.default_rng(4)
    conditions = np.repeat(np.arange(8), 3)
    scales = np.exp(rng.normal(0, 2, 8))[conditions][:, None]
    held = 0
    for _ in range(200):
        seeds = np.sqrt(0.8) * rng.standard_normal((24, 1)) + np.sqrt(0.2) * rng.standard_normal((24, 2))
        found = components_within(list(scales * (seeds + 10 * conditions[:, None])), conditions)
        held += found.low <= 0.8 <= found.high
    assert 0.91 <= held / 200 <= 0.985


def test_too_little_says_nothing():
    values = np.arange(6.0)
    assert spearman_within(values, values, np.arange(6)) is None, "one trial each"
    assert spearman_within(values, values, np.repeat([0, 1, 2], 2)).n == 6
    assert spearman_within(np.repeat([0.0, 1.0], 3), values, np.repeat([0, 1], 3)) is None, "constant within each"
    assert components_within([values, values + 1], [0, 1]) is None
    assert components_within([np.ones(2), np.ones(2)], [0, 0]) is None
    assert np.isnan(explained([values], values, conditions=np.repeat([0, 1, 2], 2)).shares).sum() == 0
    assert np.isnan(explained([values], values, conditions=np.arange(6)).shares).all()
