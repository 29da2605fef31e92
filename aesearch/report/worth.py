"""Worth of a study: what its seeds tell, and what its search gained."""

import numpy as np
from numpy.typing import NDArray

from aesearch.report.analysis import Analysis, number, shown_p
from aesearch.statistics.components import LEVEL, POWER, Components, seeds_needed, smallest_told
from aesearch.statistics.fronts import Estimate, gain, lost, volume, worst
from aesearch.statistics.posterior import true_means
from aesearch.study.space import FIRST_RANDOM

Values = NDArray[np.float64]

MOST_SEEDS = 1000  # beyond which a number of seeds is no advice
MOST_VALUES = 2_000_000  # of draws whose hypervolumes are measured
LEAST_DRAWS = 200
TYPICAL = 2 / np.sqrt(np.pi)  # of two normal values, the mean difference in standard deviations


def told_by_seeds(analysis: Analysis) -> list[str]:
    """Say which differences the seeds tell, and how many seeds would tell more."""
    found = []
    for metric in analysis.headlines:
        one = analysis.components(metric)
        # Of conditions only shares are known, as the seeds of each have a spread of their own.
        if not isinstance(one, Components) or not one.seeds > 0:
            continue
        deviation = float(np.sqrt(one.seeds))
        seeds = int(np.median([len(of_one) for of_one in analysis.seeds(metric).values()]))
        told = number(smallest_told(seeds, deviation)) if seeds > 1 else ""
        finds = f", so with {seeds} each a t test finds a difference of {told} in {POWER:.0%} of cases" if told else ""
        found.append(
            f"How many seeds tell: seeds of one trial differ by {number(deviation)} in {metric} (SD){finds}. "
            f"{_usual(one.settings, one.p, deviation)}"
        )
    return found


def _usual(settings: float, p: float, deviation: float) -> str:
    """Say how many seeds tell two trials apart that differ as trials usually do."""
    if p >= LEVEL or not settings > 0:
        return "How far trials differ is not told from noise, so no number of seeds follows."
    usual = TYPICAL * float(np.sqrt(settings))
    seeds = seeds_needed(usual, deviation)
    many = f"{seeds:.0f} seeds each" if seeds <= MOST_SEEDS else f"more than {MOST_SEEDS} seeds each"
    return f"Two trials differ by {number(usual)} on average, beyond the noise of seeds: {many} would tell that."


def gained_by_search(analysis: Analysis) -> list[str]:
    """Say how large the front is, and what the search gained.

    Say what choosing on val lost, too.
    """
    draws = analysis.draws
    if draws is None:
        return []
    draws = _some(draws)
    corner = worst(draws)
    found = []
    if len(analysis.metrics) == 2:
        ends = " and ".join(
            f"{name} = {number(sign * end)}"
            for name, sign, end in zip(analysis.metrics, analysis.signs, corner, strict=True)
        )
        found.append(
            f"The front has a hypervolume of {_interval(volume(draws, corner))} on val, up to the worst expected "
            f"values ({ends}); its interval is of 95 % over seeds."
        )
    return [*found, *_gain(analysis, draws, corner), *_lost(analysis)]


def _some(draws: Values) -> Values:
    """Take as many of the draws (D, N, M) as can be measured in a moment."""
    return draws[: max(LEAST_DRAWS, MOST_VALUES // draws.shape[1])]


def _gain(analysis: Analysis, draws: Values, corner: tuple[float, ...]) -> list[str]:
    """Compare the first trials, which are drawn at random, with all."""
    most = FIRST_RANDOM.get(analysis.results.info.get("sampler", ""), 0)
    order = np.argsort(analysis.feasible.index.to_numpy(), kind="stable")
    first = int((analysis.feasible.index.to_numpy() < most).sum())
    found = gain(draws[:, order], first, corner)
    if not found:
        return []
    learned = "were better than" if found.p < LEVEL else "are not told from"
    what = "hypervolume" if len(analysis.metrics) == 2 else f"gain in {analysis.metrics[0]} over the worst trial"
    return [
        f"Of the whole {what}, the first {first} trials, which the sampler drew at random, reach "
        f"{_interval(found.first, '.0%')}, and as many taken at random from all trials {found.chance:.0%}: the trials "
        f"that it chose {learned} random ones ({shown_p(found.p)})."
    ]


def _lost(analysis: Analysis) -> list[str]:
    """Say what is lost on test because the front was chosen on val."""
    tested = [analysis.test_name(metric) for metric in analysis.metrics]
    of_each = [analysis.seeds(metric) for metric in tested]
    keys = analysis.feasible.index.tolist()
    if len(analysis.metrics) != 2 or any(set(keys) - set(one) for one in of_each):
        return []
    if any(len({len(one[key]) for one in of_each}) > 1 for key in keys):
        return []
    values = [np.stack([sign * one[key] for one, sign in zip(of_each, analysis.signs, strict=True)], 1) for key in keys]
    draws = _some(true_means(values))
    found = lost(draws, [keys.index(key) for key in analysis.front], worst(draws))
    if not found:
        return []
    return [
        f"Choosing the front on val lost {_interval(found, '.0%')} of the hypervolume that all trials have on test."
    ]


def _interval(found: Estimate, form: str = ".4g") -> str:
    return f"{found.value:{form}} [{found.low:{form}} to {found.high:{form}}]"
