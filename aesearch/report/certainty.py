"""Certainty of the front, given the spread over seeds.

Each trial gets a chance to be on the front, an interval and a comparison with its neighbour.
"""

from functools import cached_property, lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aesearch.report.analysis import Analysis, number
from aesearch.report.limits import MOST_NAMED, joined
from aesearch.statistics.posterior import chances, intervals

CONTENDERS = 3  # trials shown with one searched metric, where only one trial can be the best
LIKELY = 0.05  # the least chance of being on the front with which a trial is named


class Certainty:
    """Statistics over the seeds of the feasible trials.

    They are about the searched metrics on val, as costs: less is better.
    """

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self.keys = [int(key) for key in analysis.feasible.index]

    @property
    def known(self) -> bool:
        """True if some trial has two seeds or more, so that a spread over seeds is known."""
        return self.analysis.draws is not None

    @property
    def _draws(self) -> NDArray[np.float64]:
        assert self.analysis.draws is not None
        return self.analysis.draws

    @cached_property
    def chances(self) -> dict[int, float]:
        """The chance of each trial to be on the front, by key."""
        return dict(zip(self.keys, chances(self._draws).tolist(), strict=True))

    @property
    def shown(self) -> list[int]:
        """The listed front, along its first metric; with one metric the best few."""
        if len(self.analysis.metrics) == 2:
            return self.analysis.listed_front
        costs = self.analysis.complete[self.analysis.metrics[0]] * self.analysis.signs[0]
        return sorted(self.keys, key=costs.__getitem__)[:CONTENDERS]

    def table(self) -> pd.DataFrame:
        """Make the table of certainty, with a row per shown trial.

        It has the number of seeds, the chance to be on the front, the expected mean of each searched metric over more
        and more seeds with its 95 % interval, and the chance to be better than the trial of the next row. Empty where
        no spread over seeds is known.
        """
        if not self.known:
            return pd.DataFrame()
        shown, rows = self.shown, []
        for key, following in zip(shown, [*shown[1:], None], strict=True):
            row = {"trial": str(key)}
            for i, (name, cell) in enumerate(self.row(key).items()):
                row[name] = cell
                if i >= 2 and following is not None:
                    at, than = self.keys.index(key), self.keys.index(following)
                    better = (self._draws[:, at, i - 2] < self._draws[:, than, i - 2]).mean()
                    row[f"better {self.analysis.metrics[i - 2]} than the next"] = f"{better:.0%}"
            rows.append(row)
        return pd.DataFrame(rows).fillna("")

    def row(self, key: int) -> dict[str, str]:
        """Make the cells of a trial: its seeds, its chance, its expected metrics.

        Only the seeds where no spread over seeds is known.
        """
        at = self.keys.index(key)
        cells = {"seeds": str(len(self.analysis.costs[at]))}
        if not self.known:
            return cells
        cells["on the front" if len(self.analysis.metrics) == 2 else "the best"] = f"{self.chances[key]:.0%}"
        for i, (metric, sign) in enumerate(zip(self.analysis.metrics, self.analysis.signs, strict=True)):
            low, high = sorted(sign * self._ends[:, at, i])
            middle = sign * self._draws[:, at, i].mean()
            cells[f"{metric} expected [95 %]"] = f"{number(middle)} [{number(low)} to {number(high)}]"
        return cells

    @cached_property
    def _ends(self) -> NDArray[np.float64]:
        return intervals(self._draws)

    def sentences(self) -> list[str]:
        """Name the trials whose place on or off the front is uncertain."""
        if not self.known:
            return []
        others = {key: chance for key, chance in self.chances.items() if key not in self.analysis.front}
        likely = sorted((key for key in others if others[key] >= LIKELY), key=lambda key: -others[key])
        shaky = [key for key in self.analysis.front if self.chances[key] < 0.5]
        what = "on the front" if len(self.analysis.metrics) == 2 else "the best"
        found = []
        if shaky:
            names = joined([*map(str, shaky)], MOST_NAMED)
            found.append(
                f"Uncertain: with many more seeds, trial{'s' if len(shaky) > 1 else ''} {names} would be {what} with a "
                f"chance below 50 %{' each' * (len(shaky) > 1)}."
            )
        if likely:
            named = ", ".join(f"{key} ({others[key]:.0%})" for key in likely[:5])
            more = f" and {len(likely) - 5} more" if len(likely) > 5 else ""
            found.append(
                f"Other trials that could be {what}, with their chance: trial{'s' if len(likely) > 1 else ''} "
                f"{named}{more}."
            )
        return found


@lru_cache(maxsize=1)
def certainty_of(analysis: Analysis) -> Certainty:
    """Make the certainty of an analysis, once for its tables and its sentences."""
    return Certainty(analysis)
