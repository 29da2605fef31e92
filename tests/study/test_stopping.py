"""Which trials are stopped at a rung."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aesearch import ASHA, Hyperband, Median, Pareto, Plateau
from aesearch.errors import UserError
from aesearch.pareto import hypervolume, ranked

points = st.lists(st.tuples(st.integers(0, 5).map(float), st.integers(0, 5).map(float)), min_size=1, max_size=12)


def dominates(a, b) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


@given(points)
def test_fronts_are_peeled_off_one_by_one(costs):
    order = ranked(costs)
    assert sorted(position for _, position in order) == list(range(len(costs)))
    for (front, position), cost in zip(order, costs, strict=True):
        better = [f for (f, _), other in zip(order, costs, strict=True) if dominates(other, cost)]
        assert front == (max(better) + 1 if better else 0)
        assert all(p < position for f, p in order if f < front)


def test_on_one_front_what_adds_most_comes_first():
    # Two ends, and between them one that adds much and one that adds next to nothing.
    costs = [(0.0, 10.0), (10.0, 0.0), (3.0, 3.0), (3.1, 2.9)]
    positions = [position for _, position in ranked(costs)]
    assert positions.index(3) in (2, 3)
    assert set(positions[:2]) == {0, 1}, "the ends"
    alone = hypervolume(costs, (11.0, 11.0))
    without = {i: alone - hypervolume(costs[:i] + costs[i + 1 :], (11.0, 11.0)) for i in (2, 3)}
    assert (without[2] > without[3]) == (positions[2] < positions[3])


def test_with_one_metric_it_is_the_order():
    assert [position for _, position in ranked([(3.0,), (1.0,), (2.0,)])] == [2, 0, 1]


@given(points.filter(lambda costs: len(costs) > 1), st.integers(2, 4))
def test_nothing_on_the_front_of_its_rung_is_stopped(costs, factor):
    rungs = Pareto(2, factor).judge(100)
    for key, cost in enumerate(costs):
        stopped = rungs.stops(key, 2, cost)
        so_far = costs[: key + 1]
        if not any(dominates(other, cost) for other in so_far):
            assert not stopped
        if stopped:
            assert len(so_far) >= factor
            front = [other for other in so_far if not any(dominates(third, other) for third in so_far)]
            assert any(dominates(other, cost) for other in front)


def test_a_dominated_trial_is_stopped_at_its_rung_only():
    rungs = Pareto(1, 3).judge(10)
    assert sorted(rungs.reached) == [1, 3, 9]
    assert not rungs.stops(0, 1, (1.0, 1.0))
    assert not rungs.stops(1, 1, (2.0, 2.0)), "too few have come"
    assert not rungs.stops(2, 2, (9.0, 9.0)), "no rung"
    assert rungs.stops(2, 1, (9.0, 9.0))
    assert rungs.stops(3, 1, (3.0, 3.0))
    assert not rungs.stops(4, 1, (0.0, 9.0)), "on the front"
    assert not rungs.stops(5, 1, (0.5, 0.5))
    # Six have come: the front of two (0.5, 0.5), (0, 9), so nobody else goes on.
    assert rungs.stops(6, 1, (1.0, 1.5))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_no_rival(value):
    rungs = Pareto(1, 3).judge(10)
    assert not any(rungs.stops(key, 1, (value, 0.0)) for key in range(5))
    assert rungs.reached[1] == {}
    averages = Median(1, 1).judge(10)
    assert not any(averages.stops(key, 1, (value,)) for key in range(5))
    assert averages.curves == {}


def test_what_is_not_finite_is_no_gain_and_hides_none():
    nan, inf = float("nan"), float("inf")
    rule = Plateau(patience=2)
    assert rule.reached([3.0, nan, inf])
    assert rule.reached([nan, nan, nan]), "it will come to nothing"
    assert rule.reached([3.0, -inf, 3.0])
    assert not rule.reached([3.0, nan, 2.0])
    assert not rule.reached([nan, 3.0, nan])
    assert not rule.reached([-inf, 3.0, 2.0])


def test_what_other_drivers_saw_is_recorded():
    first, second = (Pareto(1, 3).judge(10) for _ in range(2))
    for key, cost in enumerate([(0.0, 0.0), (1.0, 1.0), (2.0, 2.0)]):
        first.stops(key, 1, cost)
        second.record(key, 1, cost)
    assert first.reached == second.reached
    assert first.stops(3, 1, (3.0, 3.0)) == second.stops(3, 1, (3.0, 3.0)) is True


def test_hypervolume_by_hand():
    assert hypervolume([(1.0, 1.0)], (3.0, 3.0)) == 4.0
    assert hypervolume([(1.0, 2.0), (2.0, 1.0)], (3.0, 3.0)) == 3.0
    assert hypervolume([(1.0, 2.0), (2.0, 1.0), (2.5, 2.5), (4.0, 0.0)], (3.0, 3.0)) == 3.0
    for order in itertools.permutations([(0.0, 2.0), (1.0, 1.0), (2.0, 0.0)]):
        assert hypervolume(list(order), (3.0, 3.0)) == 6.0
    assert hypervolume([], (1.0, 1.0)) == 0.0


@pytest.mark.parametrize("rule", [ASHA, Hyperband, Pareto])
@pytest.mark.parametrize("fields", [{"grace": 0}, {"factor": 1}])
def test_a_rule_that_cannot_be_is_refused(rule, fields):
    with pytest.raises(UserError, match=f"{rule.__name__} needs grace >= 1 epoch and factor >= 2"):
        rule(**fields)


@given(st.lists(st.integers(0, 9).map(float), min_size=1, max_size=20), st.integers(2, 4))
def test_asha_keeps_the_best_share_of_each_rung(values, factor):
    judge = ASHA(1, factor).judge(10)
    for key, value in enumerate(values):
        stopped = judge.stops(key, 1, (value,))
        so_far = sorted(values[: key + 1])
        kept = so_far[-(-len(so_far) // factor) - 1]
        if value < kept or value == so_far[0]:
            assert not stopped
        if value > kept and len(so_far) >= factor:
            assert stopped


def test_hyperband_deals_its_brackets_as_the_paper_does():
    """As in its table 1, R = 81 and factor 3: 81, 34, 15, 8 and 5 trials that begin at 1, 3, 9, 27 and 81 epochs."""
    judge = Hyperband(1, 3).judge(81)
    assert [judge.dealt.count(bracket) for bracket in range(5)] == [81, 34, 15, 8, 5]
    assert [sorted(rungs.reached) for rungs in judge.brackets] == [[1, 3, 9, 27], [3, 9, 27], [9, 27], [27], []]
    first, last = judge.dealt.index(0), judge.dealt.index(4)
    for key in range(30):
        judge.record(key, 1, (0.0,))
    assert judge.stops(first, 1, (9.0,))
    assert not judge.stops(last, 1, (9.0,)), "the last bracket stops nothing"
    assert not judge.stops(last, 27, (9.0,))
    # The next round of trials is dealt in the same way.
    assert judge.stops(first + len(judge.dealt), 1, (9.0,))


def test_the_median_rule_compares_best_with_running_averages():
    judge = Median(grace=2, least=3).judge(10)
    for key, curve in enumerate([(4.0, 2.0), (6.0, 4.0), (8.0, 6.0)]):
        for epoch, value in enumerate(curve, start=1):
            assert not judge.stops(key, epoch, (value,)), "too few others"
    # Their averages by epoch 2 are 3, 5, 7.
    assert not judge.stops(3, 1, (9.0,)), "within the grace"
    assert judge.stops(3, 2, (5.5,))
    assert not judge.stops(4, 2, (4.9,))
    assert not judge.stops(5, 2, (5.0,)), "as good as the median"
    judge.record(6, 1, (1.0,))
    assert not judge.stops(6, 2, (50.0,)), "its best epoch counts"
    nan = float("nan")
    assert not judge.stops(7, 2, (nan,))


@given(st.lists(st.integers(0, 9).map(float), min_size=1, max_size=30), st.integers(1, 5), st.integers(0, 2))
def test_a_plateau_is_where_nothing_became_better_for_so_long(costs, patience, gain):
    rule = Plateau(patience, gain)
    if rule.reached(costs):
        best = min(costs[:-patience])
        assert all(cost >= best - gain for cost in costs[-patience:])
    else:
        assert len(costs) <= patience or min(costs[-patience:]) < min(costs[:-patience]) - gain


@pytest.mark.parametrize("make", [lambda: Median(least=0), lambda: Median(grace=0)])
def test_a_median_of_nobody_is_refused(make):
    with pytest.raises(UserError, match=r"Median needs grace >= 1 epoch and least >= 1 trial, but got Median\("):
        make()


@pytest.mark.parametrize("fields", [{"patience": 0}, {"gain": -1.0}, {"gain": float("nan")}])
def test_a_plateau_that_cannot_be_is_refused(fields):
    with pytest.raises(UserError, match="Plateau needs patience >= 1 epoch and gain >= 0"):
        Plateau(**fields)
