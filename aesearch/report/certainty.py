"""How sure the front is, given the spread over seeds: chances, intervals, comparisons of neighbours."""

from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aesearch.pareto import on_front
from aesearch.report.analysis import Analysis, number
from aesearch.seeds import locations

CONTENDERS = 3  # trials that are shown where only one can be the best
LIKELY = 0.05  # a chance of being on the front that is worth a word


class Certainty:
    """What the seeds of the feasible trials say of the searched metrics on val. Costs are to be minimised."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self.keys = [int(key) for key in analysis.feasible.index]

    @cached_property
    def _replicas(self) -> list[NDArray[np.float64]]:
        """Costs (R_i, M) of each trial."""
        groups = dict(list(self.analysis.results.replicas.groupby("trial")))
        return [groups[key][self.analysis.metrics].to_numpy(dtype=float) * self.analysis.signs for key in self.keys]

    @property
    def known(self) -> bool:
        """Whether any trial has two seeds or more, which say how much seeds matter."""
        return bool(self.keys) and max(map(len, self._replicas)) > 1

    @cached_property
    def _draws(self) -> NDArray[np.float64]:
        return locations(self._replicas)

    @cached_property
    def chances(self) -> dict[int, float]:
        """How likely each trial is on the front."""
        return dict(zip(self.keys, on_front(self._draws).mean(0).tolist(), strict=True))

    @property
    def shown(self) -> list[int]:
        """The front along its first metric; with one metric the best few, the best first."""
        if len(self.analysis.metrics) == 2:
            return self.analysis.front
        medians = {key: float(np.median(costs)) for key, costs in zip(self.keys, self._replicas, strict=True)}
        return sorted(self.keys, key=medians.__getitem__)[:CONTENDERS]

    def table(self) -> pd.DataFrame:
        """A row per shown trial: its seeds, its chance, 95 % intervals, how likely it is better than the next row's."""
        if not self.known:
            return pd.DataFrame()
        shown, rows = self.shown, []
        best = "on the front" if len(self.analysis.metrics) == 2 else "the best"
        for key, following in zip(shown, [*shown[1:], None], strict=True):
            at = self.keys.index(key)
            row = {"trial": str(key), "seeds": str(len(self._replicas[at])), best: f"{self.chances[key]:.0%}"}
            for i, (metric, sign) in enumerate(zip(self.analysis.metrics, self.analysis.signs, strict=True)):
                low, high = sorted(sign * np.percentile(self._draws[:, at, i], [2.5, 97.5]))
                middle = sign * np.median(self._replicas[at][:, i])
                row[f"{metric} [95 %]"] = f"{number(middle)} [{number(low)} to {number(high)}]"
                if following is not None:
                    than = self._draws[:, self.keys.index(following), i]
                    row[f"better {metric} than the next"] = f"{(self._draws[:, at, i] < than).mean():.0%}"
            rows.append(row)
        return pd.DataFrame(rows).fillna("")

    def sentences(self) -> list[str]:
        """Which others could be on the front as well."""
        if not self.known:
            return []
        others = {key: chance for key, chance in self.chances.items() if key not in self.analysis.front}
        likely = sorted((key for key in others if others[key] >= LIKELY), key=lambda key: -others[key])
        shaky = [key for key in self.analysis.front if self.chances[key] < 0.5]
        what = "on the front" if len(self.analysis.metrics) == 2 else "the best"
        found = []
        if shaky:
            found.append(
                f"Given the spread over seeds it is less likely than not that trial{'s' if len(shaky) > 1 else ''} "
                f"{', '.join(map(str, shaky))} would be {what} with ever more of them."
            )
        if likely:
            named = ", ".join(f"{key} ({others[key]:.0%})" for key in likely[:5])
            more = f" and {len(likely) - 5} more" if len(likely) > 5 else ""
            found.append(f"Others that could be {what}: trial{'s' if len(likely) > 1 else ''} {named}{more}.")
        return found
