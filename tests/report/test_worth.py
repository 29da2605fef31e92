"""What a report says of the worth of its seeds and of its search."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.results import make

from aesearch.records.results import Results
from aesearch.report.analysis import Analysis, analyse
from aesearch.report.worth import gained_by_search, told_by_seeds
from aesearch.statistics.components import seeds_needed, smallest_told
from aesearch.study.space import FIRST_RANDOM, SAMPLERS, experimental

METRICS = ("val/mse", "val/mig", "test/mse", "test/mig")


def redrawn(results: Results, means: np.ndarray, deviation: float, of_test: np.ndarray | None = None) -> Analysis:
    """Give each complete trial seeds of a normal law around its mean: of all metrics on val, and on test.

    means: (N,), of the error; the other metric is its negative.
    """
    rng = np.random.default_rng(0)
    trials, replicas = results.trials.copy(), results.replicas.copy()
    for name in METRICS:
        means_here = means if of_test is None or name.startswith("val") else of_test
        for key, mean in enumerate(means_here):
            rows = replicas.index[replicas["trial"] == key]
            sign = -1 if name.endswith("mig") else 1
            replicas.loc[rows, name] = sign * mean + deviation * rng.normal(size=len(rows))
            trials.loc[trials["trial"] == key, name] = replicas.loc[rows, name].median()
    return analyse(replace(results, trials=trials, replicas=replicas))


def test_the_seeds_that_would_tell_are_named(tmp_path):
    analysis = redrawn(make(tmp_path, complete=12, replicas=4), np.linspace(0, 5, 12), 1.0)
    said, _ = told_by_seeds(analysis)
    one = analysis.components("test/mse")
    deviation = np.sqrt(one.seeds)
    assert deviation == pytest.approx(1, rel=0.3)
    assert f"seeds of one trial differ by {deviation:.4g} in test/mse (SD), so with 4 each a t test finds a" in said
    assert f"a difference of {smallest_told(4, deviation):.4g} in 80% of cases" in said
    # Of two normal values of variance s, the mean difference is 2 sqrt(s / pi).
    usual = 2 * np.sqrt(one.settings / np.pi)
    seeds = seeds_needed(usual, deviation)
    assert f"differ by {usual:.4g} on average, beyond the noise of seeds: {seeds:.0f} seeds each would tell" in said


def test_no_number_of_seeds_follows_from_trials_that_are_equal(tmp_path):
    analysis = redrawn(make(tmp_path), np.zeros(12), 1.0)
    assert all("so no number of seeds follows" in said for said in told_by_seeds(analysis))
    assert told_by_seeds(analyse(make(tmp_path / "one", replicas=1))) == []


@pytest.mark.parametrize(("later", "said"), [(-8.0, "were better than random ones (p < .001)"), (0.0, "not told from")])
def test_what_a_search_gained_is_held_against_chance(tmp_path, later, said):
    """The sampler draws ten at random; those after them are far better, or as good."""
    results = make(tmp_path, complete=30)
    means = np.concatenate([np.random.default_rng(1).uniform(0, 1, 10), np.full(20, 0.5 + later)])
    analysis = redrawn(results, means, 0.05)
    analysis = analyse(replace(analysis.results, info=results.info | {"sampler": "tpe"}))
    volume, gained, lost = gained_by_search(analysis)
    assert "the first 10 trials, which the sampler drew at random, reach " in gained
    assert said in gained
    assert "up to the worst expected values (val/mse = " in volume
    assert lost.startswith("Choosing the front on val lost 0% [0% to ")
    grid = analyse(replace(analysis.results, info=results.info | {"sampler": "grid"}))
    assert len(gained_by_search(grid)) == 2, "no trial of a grid is drawn at random"


def test_what_is_lost_on_test_is_told(tmp_path):
    """What is best on val is worst on test: the best on test is not on the front."""
    analysis = redrawn(make(tmp_path), np.arange(12.0), 0.01, of_test=np.arange(12.0)[::-1])
    assert analysis.front == [0]
    assert gained_by_search(analysis)[-1].startswith("Choosing the front on val lost 100% [100% to 100%] of the")


def test_nothing_is_said_where_nothing_is_known(tmp_path):
    assert gained_by_search(analyse(make(tmp_path / "one", replicas=1))) == []
    assert gained_by_search(analyse(make(tmp_path / "none", complete=0))) == []
    assert all("hypervolume" not in said for said in gained_by_search(analyse(make(tmp_path / "single", metrics=1))))


def test_samplers_draw_at_random_as_often_as_is_said():
    for name, count in FIRST_RANDOM.items():
        with experimental():
            sampler = SAMPLERS[name](0)
        known = {"tpe": "_n_startup_trials", "gp": "_n_startup_trials", "nsga2": "_population_size"}[name]
        assert getattr(sampler, known) == count
