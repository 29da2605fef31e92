"""Components of variance and power: against published examples, closed forms and simulation."""

import numpy as np
import pytest

from aesearch.statistics.components import components, holm, pooled_deviation, power, seeds_needed, smallest_told

# Six targets by four judges: Shrout and Fleiss, 1979, table 2. They give MS 11.24 and 6.26, and ICC(1, 1) = .17.
RATINGS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)


def test_the_correlation_is_shrouts_and_fleiss():
    found = components(list(RATINGS))
    assert (found.between, found.within, found.trials, found.models) == (5, 18, 6, 24)
    assert found.seeds == pytest.approx(6.26, abs=0.005)
    assert found.statistic == pytest.approx(11.24 / 6.26, abs=0.005)
    assert found.share == pytest.approx(0.17, abs=0.005)
    assert found.reliability == pytest.approx(0.44, abs=0.005), "ICC(1, 4) of the same table"
    # The closed form of the interval for equal numbers, in the same paper; its lower end is below 0.
    assert (found.low, found.high) == (0.0, pytest.approx(0.72, abs=0.005))


def test_one_seed_says_nothing_of_seeds():
    values = [np.array([1.0, 2.0]), np.array([4.0, 5.0])]
    more = components([*values, np.array([100.0])])
    assert components(values).seeds == more.seeds == 0.5
    assert pooled_deviation([*values, np.array([100.0])]) == pytest.approx(0.5**0.5)
    assert more.within == 2
    assert components([np.array([1.0]), np.array([2.0])]) is None
    assert np.isnan(pooled_deviation([np.array([1.0])]))


def test_extremes_of_the_components():
    exact = components([np.array([1.0, 1.0]), np.array([2.0, 2.0])])
    assert (exact.share, exact.low, exact.high, exact.p) == (1.0, 1.0, 1.0, 0.0)
    equal = components([np.array([0.0, 2.0]), np.array([0.0, 2.0])])
    assert (equal.share, equal.low, equal.p, equal.reliability) == (0.0, 0.0, 1.0, 0.0)
    assert components([np.ones(3), np.ones(3)]) is None
    assert components([np.array([1.0, 2.0])]) is None


@pytest.mark.parametrize("counts", [[3] * 16, [1, 1, 1, 2, 3, 5, 8, 8, 2, 1]], ids=["equal", "unequal"])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.8])
def test_intervals_of_shares_cover(counts, share):
    rng = np.random.default_rng(1)
    covered, found = 0, 0
    for _ in range(400):
        centres = np.sqrt(share) * rng.standard_normal(len(counts))
        one = components(
            [c + np.sqrt(1 - share) * rng.standard_normal(n) for c, n in zip(centres, counts, strict=True)]
        )
        covered += one.low <= share <= one.high
        found += one.p < 0.05
    # Without settings the lower end is 0, so only the upper one can miss.
    assert 0.925 < covered / 400 < (0.995 if share == 0 else 0.975)
    assert share > 0 or 0.025 < found / 400 < 0.085


@pytest.mark.parametrize(("difference", "seeds"), [(0.2, 394), (0.5, 64), (0.8, 26), (1.0, 17), (10.0, 2)])
def test_seeds_are_those_of_cohens_tables(difference, seeds):
    """Cohen, 1988, table 2.4.1, to one: .20 393, .50 64, .80 26, 1.00 17 at 5 %, two-sided, power .80."""
    assert seeds_needed(3 * difference, 3.0) == seeds


@pytest.mark.parametrize("seeds", [2, 3, 5, 64])
def test_the_least_that_is_told_needs_its_seeds(seeds):
    least = smallest_told(seeds, 3.0)
    assert power(seeds, least, 3.0) == pytest.approx(0.8)
    assert seeds_needed(1.001 * least, 3.0) == seeds
    assert smallest_told(seeds, 0.0) == 0.0


def test_nothing_tells_what_does_not_differ():
    assert seeds_needed(0.0, 1.0) == np.inf
    assert seeds_needed(1e-4, 1.0) == np.inf
    assert seeds_needed(1.0, 0.0) == 2


def test_as_many_seeds_tell_in_simulation():
    rng = np.random.default_rng(0)
    seeds = int(seeds_needed(1.2, 1.0))
    a, b = rng.standard_normal((2, 4000, seeds))
    a = a + 1.2
    t = (a.mean(1) - b.mean(1)) / np.sqrt((a.var(1, ddof=1) + b.var(1, ddof=1)) / seeds)
    # The two-sided critical value of t with 22 degrees of freedom.
    assert seeds == 12
    assert (abs(t) > 2.0739).mean() == pytest.approx(power(seeds, 1.2, 1.0), abs=0.02)
    assert power(seeds - 1, 1.2, 1.0) < 0.8 <= power(seeds, 1.2, 1.0)


def test_holm_is_his_example():
    """Of four p-values the first two are kept at 5 %."""
    assert holm([0.04, 0.01, 0.005, 0.03]) == pytest.approx([0.06, 0.03, 0.02, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.01, 0.005], 4) == pytest.approx([0.03, 0.02]), "the least two of the four"
