"""Estimates of the time left, over simulated studies whose trials take other times."""

import heapq
from itertools import product
from statistics import fmean

import numpy as np
import pytest

from aesearch.commands.time_left import TimeLeft

MOMENTS = 100
NEWS, END, BEGIN = range(3)  # at the same time in this order


def events(rng, trials: int, at_once: int, spread: float, epochs: int, beside: float, start: float) -> list[tuple]:
    """List what happens in a study: seconds, what, trial, share; trials take 10 s on average.

    spread: of their times, relative to the mean. beside: the share of a trial after its last epoch. start: seconds of
    a worker's start.
    """
    sigma = np.sqrt(np.log(1 + spread**2))
    workers, found = [(0.0, start)] * at_once, []
    for trial, seconds in enumerate(10 * rng.lognormal(-(sigma**2) / 2, sigma, trials)):
        begun, waits = heapq.heappop(workers)
        ended = begun + waits + seconds
        found.append((begun, BEGIN, trial, 0.0))
        for epoch in range(1, epochs + 1):
            when = begun + waits + seconds * (1 - beside) * epoch / epochs
            found.append((min(when, ended), NEWS, trial, epoch / epochs))
        found.append((ended, END, trial, 1.0))
        heapq.heappush(workers, (ended, 0.0))
    return sorted(found)


def ratios(rng: np.random.Generator, trials: int, **study) -> list[float | None]:
    """Divide the estimate by what remains, at moments between a tenth and the end; None where there is no estimate."""
    left = events(rng, trials, **study)
    end, time_left, shares, ended, found = left[-1][0], TimeLeft(), {}, 0, []
    for now in np.linspace(0, end, MOMENTS, endpoint=False):
        while left[0][0] <= now:
            when, what, trial, share = left.pop(0)
            if what == END:
                del shares[str(trial)]
                ended += 1
            else:
                shares[str(trial)] = share
            time_left.note(when, shares)
        estimate = time_left.left(now, trials - ended - len(shares))
        if now >= end / 10:
            found.append(None if estimate is None else estimate / (end - now))
    return found


@pytest.mark.parametrize("spread", [0.05, 0.3, 0.7, 1.5])
def test_what_is_told_is_within_a_factor_of_two(spread):
    rng, told = np.random.default_rng(0), []
    sizes, kinds = ((4, 2), (16, 2), (16, 8), (100, 4)), ((20, 0.0, 0.0), (3, 0.4, 3.0), (1, 0.1, 20.0))
    for (trials, at_once), (epochs, beside, start) in product(sizes, kinds):
        study = {"at_once": at_once, "spread": spread, "epochs": epochs, "beside": beside, "start": start}
        told += [one for _ in range(6) for one in ratios(rng, trials, **study) if one is not None]
    assert len(told) > 1000
    assert np.mean([0.5 <= one <= 2 for one in told]) >= 0.9


@pytest.mark.parametrize(("spread", "least"), [(0.05, 0.6), (0.3, 0.5)])
def test_an_ordinary_study_tells_how_long_it_takes(spread, least):
    rng = np.random.default_rng(1)
    study = {"trials": 16, "at_once": 2, "spread": spread, "epochs": 20, "beside": 0.1, "start": 8.0}
    assert fmean(one is not None for _ in range(5) for one in ratios(rng, **study)) > least


def test_one_trial_tells_nothing():
    time_left = TimeLeft()
    assert time_left.left(0.0, 16) is None
    time_left.note(0.0, {"0": 0.0})
    assert time_left.left(5.0, 15) is None
    time_left.note(10.0, {"0": 0.5})
    assert time_left.left(10.0, 15) is None
    time_left.note(20.0, {"1": 0.0})
    assert time_left.left(20.0, 14) is None
