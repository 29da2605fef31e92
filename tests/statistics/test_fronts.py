"""Knees, hypervolumes and gains under the noise of seeds: known cases and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aesearch.pareto import hypervolume, hypervolumes, on_front
from aesearch.statistics.fronts import gain, likely_knee, lost, volume, worst
from aesearch.statistics.posterior import true_means

ELBOW = np.array([[0.0, 100.0], [0.1, 10.0], [1.0, 0.0]])


def test_the_knee_is_nearest_to_the_best_of_both():
    found = likely_knee(ELBOW[None], [0, 1, 2])
    assert (found.place, found.chance, found.second_chance) == (1, 1.0, 0.0)


def test_a_front_of_two_has_no_knee():
    assert likely_knee(ELBOW[None], [0, 1]) is None
    assert likely_knee(ELBOW[None], []) is None


def test_two_elbows_share_the_chances():
    rng = np.random.default_rng(0)
    # Two equal elbows: half of the draws each. The last setting is dominated.
    centres = np.array([[0.0, 1.0], [0.2, 0.3], [0.3, 0.2], [1.0, 0.0], [0.9, 0.9]])
    found = likely_knee(centres + 0.03 * rng.standard_normal((4000, 5, 2)), [0, 1, 2, 3])
    assert {found.place, found.second} == {1, 2}
    assert found.chance == pytest.approx(0.5, abs=0.04)
    assert found.chance >= found.second_chance
    assert found.chance + found.second_chance == pytest.approx(1.0, abs=0.01)


def test_the_chance_of_the_knee_is_true():
    """Of made-up studies, the said knee is the truly nearest about as often as is said."""
    rng = np.random.default_rng(0)
    said, true = [], []
    for number in range(60):
        x = rng.standard_normal((12, 2))
        means = np.stack([x[:, 0], -x[:, 0] + 0.5 * abs(x[:, 1])], axis=1)
        values = [mean + 0.4 * rng.standard_normal((3, 2)) for mean in means]
        draws = true_means(values, number, 300)
        members = np.flatnonzero(on_front(np.array([one.mean(0) for one in values])))
        found = likely_knee(draws, members.tolist())
        if found:
            ends = draws.mean(0)[members]
            distances = (((means - ends.min(0)) / np.ptp(ends, axis=0)) ** 2).sum(1)
            said.append(found.chance)
            true.append(distances.argmin() == found.place)
    assert len(said) > 40
    assert np.mean(said) == pytest.approx(np.mean(true), abs=0.13)


@settings(max_examples=25, deadline=None)
@given(arrays(float, (3, 6, 2), elements=st.integers(0, 9).map(float)))
def test_hypervolumes_are_counted_squares(costs):
    squares = [[x, y] for x in range(8) for y in range(8)]
    expected = [sum((one <= square).all(1).any() for square in squares) for one in costs]
    assert hypervolumes(costs, (8.0, 8.0)).tolist() == expected
    assert hypervolume([tuple(cost) for cost in costs[0].tolist()], (8.0, 8.0)) == expected[0]


def test_one_metric_has_a_length():
    assert hypervolumes(np.array([[3.0], [1.0], [9.0]]), (4.0,)) == 3.0
    assert hypervolumes(np.array([[5.0], [6.0]]), (4.0,)) == 0.0


def test_a_hypervolume_has_an_interval():
    rng = np.random.default_rng(0)
    draws = rng.normal([[1.0], [3.0]], [[0.1], [0.1]], (4000, 2, 1))
    found = volume(draws, worst(draws))
    assert worst(draws) == pytest.approx((3.0,), abs=0.01)
    assert found.value == pytest.approx(2.0, abs=0.01)
    assert (found.low, found.high) == pytest.approx((2 - 0.196, 2 + 0.196), abs=0.02)


def test_a_search_that_learned_gained():
    rng = np.random.default_rng(0)
    learned = np.concatenate([rng.uniform(5, 9, (10, 2)), rng.uniform(0, 4, (10, 2))])[None]
    found = gain(learned, 10, (10.0, 10.0))
    assert found.first.value < found.chance < 1
    assert found.p < 0.01
    random = [gain(rng.uniform(0, 9, (1, 20, 2)), 10, (10.0, 10.0)).p < 0.05 for _ in range(100)]
    assert np.mean(random) < 0.12
    assert gain(learned, 20, (10.0, 10.0)) is None
    assert gain(learned, 10, (0.0, 0.0)) is None


def test_what_was_lost_is_not_reached():
    draws = np.array([[[0.0, 2.0], [2.0, 0.0], [1.0, 1.0]]])
    assert lost(draws, [0, 1, 2], (3.0, 3.0)).value == 0.0
    # All three reach 6 of 9 squares, without the third 5.
    assert lost(draws, [0, 1], (3.0, 3.0)).value == pytest.approx(1 / 6)
    assert lost(draws, [], (3.0, 3.0)) is None
