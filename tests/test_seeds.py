"""What is said of few seeds: against closed forms and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aesearch.pareto import front, on_front
from aesearch.search.more_replicas import more
from aesearch.seeds import forecasts, locations, spreads
from aesearch.study import Adaptive


def test_spreads_are_drawn_towards_the_common_one():
    values = [np.array([[0.0], [2.0]]), np.array([[0.0], [0.0], [0.0]]), np.array([[5.0]])]
    deviations, freedom = spreads(values)
    # Sums of squares 2, 0, 0 with 1, 2, 0 degrees of freedom: common variance 2/3, worth two degrees.
    assert freedom.tolist() == [3, 4, 2]
    np.testing.assert_allclose(deviations[:, 0] ** 2, [(4 / 3 + 2) / 3, (4 / 3) / 4, 2 / 3])


def test_without_two_seeds_no_spread_is_known():
    deviations, _ = spreads([np.array([[1.0]]), np.array([[2.0]])])
    assert np.isnan(deviations).all()


def test_intervals_cover_what_they_say():
    """Of 200 made-up studies of 12 trials of 4 seeds, 95 % intervals cover the true median in 95 % of cases."""
    rng = np.random.default_rng(0)
    covered = []
    for number in range(200):
        true = rng.normal(0, 3, 12)
        values = [centre + rng.standard_normal((4, 1)) for centre in true]
        low, high = np.percentile(locations(values, number)[..., 0], [2.5, 97.5], axis=0)
        covered += list((low <= true) & (true <= high))
    assert 0.93 < np.mean(covered) < 0.985


def test_a_forecast_of_what_is_known_is_what_is_known():
    values = [np.array([[1.0, 4.0], [2.0, 5.0], [9.0, 6.0]]), np.array([[0.0, 0.0], [1.0, 2.0], [1.0, 1.0]])]
    found = forecasts(values, 3)
    assert (found[:, 0] == [2.0, 5.0]).all()
    assert (found[:, 1] == [1.0, 1.0]).all()


def test_forecasts_are_calibrated():
    """The share of draws below the median of all 5 seeds is even over made-up trials of which two seeds are known."""
    rng = np.random.default_rng(1)
    ranks = []
    for number in range(60):
        full = rng.normal(0, 3, (12, 1, 1)) + rng.standard_normal((12, 5, 1))
        found = forecasts(list(full[:, :2]), 5, number)
        then = np.median(full, axis=1)[:, 0]
        # A known seed may be the median of all five, in the draws as in truth: such ties are broken by lot.
        ties = rng.uniform(size=12) * (found[..., 0] == then).mean(0)
        ranks += list((found[..., 0] < then).mean(0) + ties)
    deciles = np.histogram(ranks, bins=5, range=(0, 1))[0] / len(ranks)
    assert (abs(deciles - 0.2) < 0.06).all(), deciles


@given(arrays(float, (7, 2), elements=st.integers(0, 1000).map(float), unique=True))
def test_without_noise_the_chance_is_membership(costs):
    chances = on_front(costs[None]).mean(0)
    dominated = [any((other <= one).all() and (other < one).any() for other in costs) for one in costs]
    assert chances.tolist() == [0.0 if bad else 1.0 for bad in dominated]


@given(arrays(float, (6, 1), elements=st.integers(0, 1000).map(float), unique=True))
def test_with_one_metric_only_the_best_is_on_the_front(costs):
    assert on_front(costs[None]).mean(0).tolist() == [float(cost == costs.min()) for cost in costs[:, 0]]


def test_chances_are_those_of_two_equal_trials():
    values = [np.array([[0.0], [1.0]]), np.array([[0.0], [1.0]])]
    chances = on_front(locations(values)).mean(0)
    assert chances.sum() == pytest.approx(1.0)
    assert chances[0] == pytest.approx(0.5, abs=0.04)


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
    for _ in range(10):
        full = [rng.normal(0, 0.7, 2) + rng.standard_normal((5, 2)) for _ in range(12)]
        have = [1] * 12
        while wanted := more([costs[:count] for costs, count in zip(full, have, strict=True)], rule):
            assert all(count > have[i] for i, count in wanted.items())
            for i, count in wanted.items():
                have[i] = count
        on_front = front([tuple(np.median(costs[:count], 0)) for costs, count in zip(full, have, strict=True)])
        assert {have[i] for i in on_front} == {5}
        assert min(have) < 5
