"""What is said of the true means of settings: against closed forms and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aesearch.pareto import front, on_front
from aesearch.search.more_replicas import more
from aesearch.statistics.posterior import chances, intervals, normal_scale, summary, true_means
from aesearch.study import Adaptive


def test_variances_are_pooled():
    rng = np.random.default_rng(0)
    values = [rng.standard_normal((4, 1)) for _ in range(30)]
    found = summary([*values, np.array([[5.0]])])
    squares = sum(((one - one.mean()) ** 2).sum() for one in values)
    np.testing.assert_allclose(found.variances, squares / 90)
    assert found.freedom == 90
    assert np.isinf(found.own).all()


def test_no_variance_is_below_the_pooled_one():
    rng = np.random.default_rng(0)
    deviations = np.repeat([0.1, 3.0], 20)
    values = [deviation * rng.standard_normal((6, 1)) for deviation in deviations]
    found = summary(values).variances[:, 0]
    pooled = np.mean([one.var(ddof=1) for one in values])
    np.testing.assert_allclose(found[:20], pooled)
    assert found[20:].max() > 1.5 * pooled
    assert np.isfinite(summary(values).own).all()


def test_one_setting_has_students_interval():
    values = [np.array([[1.0], [2.0], [4.0], [5.0]])]
    low, high = intervals(true_means(values, count=40_000))[:, 0, 0]
    half = 3.1824 * values[0].std(ddof=1) / 2  # t with 3 degrees of freedom
    assert (low, high) == pytest.approx((3 - half, 3 + half), abs=0.1)


def test_settings_are_shrunk_as_in_theory():
    """With known variances the posterior mean is centre + B (mean - centre), B = 1 / (1 + 1 / R)."""
    rng = np.random.default_rng(0)
    values = [centre + rng.standard_normal((3, 1)) for centre in rng.standard_normal(300)]
    means = np.array([one.mean() for one in values])
    slope = np.polyfit(means, true_means(values, count=500).mean(0)[:, 0], 1)[0]
    assert slope == pytest.approx(1 / (1 + 1 / 3), abs=0.06)


def test_many_settings_are_taken_in_parts(monkeypatch):
    rng = np.random.default_rng(0)
    values = [centre + rng.standard_normal((3, 2)) for centre in rng.standard_normal((20, 2))]
    whole = true_means(values, count=50)
    monkeypatch.setattr("aesearch.statistics.posterior.AT_ONCE", 999)
    np.testing.assert_allclose(true_means(values, count=50), whole)


def test_plain_differences_are_not_shrunk():
    rng = np.random.default_rng(0)
    values = [1000 * centre + rng.standard_normal((3, 2)) for centre in rng.standard_normal((16, 2))]
    means = np.array([one.mean(0) for one in values])
    assert abs(true_means(values).mean(0) - means).max() < 0.3


def test_a_scale_makes_a_law_normal():
    means = np.exp(np.random.default_rng(0).standard_normal(200))
    scale = normal_scale(means, 0.01)
    scores = scale.there(means)
    assert abs(np.mean((scores - scores.mean()) ** 3)) / scores.std() ** 3 < 1, "the skewness of exp is above 3"
    np.testing.assert_allclose(scale.back(scores), means, rtol=1e-9)


@pytest.mark.parametrize("seeds", [3, 8])
@pytest.mark.parametrize("trade", [False, True])
def test_what_is_said_of_a_front_is_true(seeds, trade):
    """The benchmark calibration.py has the tables; this holds fifths of few studies within what chance allows."""
    rng = np.random.default_rng(2)
    said, true, covered = [], [], []
    for number in range(40):
        means = rng.standard_normal((16, 2))
        if trade:
            means = means[:, :1] * [1, -1] + 0.5 * abs(means[:, 1:])
        noise = rng.uniform(0.3, 1.2)
        draws = true_means([mean + noise * rng.standard_normal((seeds, 2)) for mean in means], number, 300)
        said.append(chances(draws))
        true.append(on_front(means))
        low, high = intervals(draws)
        covered.append((low <= means) & (means <= high))
    said, true = np.concatenate(said), np.concatenate(true)
    for fifth in range(5):
        inside = np.minimum((said * 5).astype(int), 4) == fifth
        error = np.sqrt(0.25 / inside.sum())
        assert abs(said[inside].mean() - true[inside].mean()) < 0.05 + 2 * error, fifth
    assert 0.92 < np.mean(covered) < 0.98


def test_the_best_of_equal_trials_is_covered():
    """The best of 16 equal trials only looks better: without shrinkage three of four intervals would cover."""
    rng = np.random.default_rng(0)
    covered = 0
    for number in range(100):
        values = [rng.standard_normal((8, 1)) for _ in range(16)]
        best = int(np.argmin([one.mean() for one in values]))
        low, high = intervals(true_means(values, number, 300))[:, best, 0]
        covered += low <= 0 <= high
    assert covered / 100 > 0.9


@settings(max_examples=20, deadline=None)
@given(arrays(float, (7, 2), elements=st.integers(0, 1000).map(float), unique=True))
def test_without_noise_the_chance_is_membership(costs):
    found = chances(true_means([np.tile(one, (2, 1)) for one in costs], count=50))
    dominated = [any((other <= one).all() and (other < one).any() for other in costs) for one in costs]
    assert found.tolist() == [0.0 if bad else 1.0 for bad in dominated]


def test_chances_to_be_the_best_sum_to_one():
    values = [np.array([[0.0], [1.0]]), np.array([[0.0], [1.0]]), np.array([[50.0], [51.0]])]
    found = chances(true_means(values))
    assert found.sum() == pytest.approx(1.0)
    assert found[0] == pytest.approx(0.5, abs=0.04)
    assert found[2] < 0.02


def test_without_two_seeds_nothing_is_known():
    assert np.isnan(true_means([np.array([[1.0]]), np.array([[2.0]])])).all()


def test_first_the_first_two_fronts_get_another_seed():
    costs = [np.array([[x, y]], float) for x, y in [(0, 3), (3, 0), (1, 4), (4, 1), (9, 9)]]
    assert more(costs, Adaptive(1, 8)) == {0: 2, 1: 2, 2: 2, 3: 2}


def test_then_those_that_may_be_on_the_front():
    spread = np.array([[-0.1, -0.1], [0.1, 0.1]])
    at = [(0, 3), (3, 0), (3.02, 0.02), (9, 9), (3.25, 0.25)]
    costs = [np.array([x, y]) + spread for x, y in at]
    # The fourth is sure not to be; the last is unlikely to be.
    assert more(costs, Adaptive(1, 8, unlikely=0.01)) == {0: 3, 1: 3, 2: 3, 4: 3}
    assert more(costs, Adaptive(1, 8, unlikely=0.2)) == {0: 3, 1: 3, 2: 3}


def test_seeds_grow_by_half_and_end_at_the_most():
    rng = np.random.default_rng(0)
    for have, then in ((2, 3), (3, 4), (4, 6), (6, 8)):
        costs = [rng.standard_normal((have, 1)) for _ in range(3)]
        assert set(more(costs, Adaptive(1, 8)).values()) <= {then}
        assert more(costs, Adaptive(1, have)) == {}
    assert more([], Adaptive()) == {}


def test_in_the_end_all_on_the_front_have_the_most():
    rng = np.random.default_rng(1)
    rule = Adaptive(1, 5, unlikely=0.4)
    for _ in range(3):
        full = [rng.normal(0, 0.7, 2) + rng.standard_normal((5, 2)) for _ in range(12)]
        have = [1] * 12
        while wanted := more([costs[:count] for costs, count in zip(full, have, strict=True)], rule):
            assert all(count > have[i] for i, count in wanted.items())
            for i, count in wanted.items():
                have[i] = count
        members = front([tuple(np.median(costs[:count], 0)) for costs, count in zip(full, have, strict=True)])
        assert {have[i] for i in members} == {5}
        assert min(have) < 5
