"""Analysis of a study: Pareto front, knee, correlations and importances."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, json_to_distribution

from aesearch.errors import UserError, nearest
from aesearch.metrics import MetricKind
from aesearch.metrics.registry import find_metric
from aesearch.pareto import on_front, ranked
from aesearch.records.results import Results
from aesearch.report.conditions import Condition, chosen_condition, conditions_of
from aesearch.report.limits import MOST_EXPLAINED, MOST_PARAMETERS, MOST_PICTURED, MOST_ROWS, spaced
from aesearch.statistics.components import Components, ComponentsWithin, components, components_within
from aesearch.statistics.fronts import Knee, likely_knee
from aesearch.statistics.posterior import chances, true_means
from aesearch.statistics.trends import Correlation, Explained, explained, spearman, spearman_within

LEAST_FOR_IMPORTANCE = 4
ALIAS = "knee"  # of the registered model of a study without conditions
HEADLINES = ("test/auroc", "test/perplexity")


def shown_p(p: float) -> str:
    """Write a p-value as ``p = .043`` or ``p < .001``."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)


def number(value: Any) -> str:
    """Format a number with four significant digits."""
    return f"{value:.4g}"


@dataclass(frozen=True, eq=False)
class Analysis:
    """Findings about a study, each computed on first use and then kept.

    A trial is named by its key. Only complete trials are compared. Where the study has conditions (``per``), trials are
    compared within each; ``parts`` has the analysis of each by itself.
    """

    results: Results

    @property
    def per(self) -> tuple[str, ...]:
        """The swept parameters that are conditions; studies of old have none."""
        return tuple(self.results.info.get("per", ()))

    @property
    def within(self) -> str:
        """Say within what trials are compared; "" where all are."""
        names = " and ".join(self.per)
        combination = "combination of " if len(self.per) > 1 else ""
        return f"within each {combination}{names}" if self.per else ""

    def begun(self, text: str) -> str:
        """Begin a sentence: "Within each normal, settings ..." or "Settings ..."."""
        return f"W{self.within[1:]}, {text}" if self.per else text[0].upper() + text[1:]

    @cached_property
    def parts(self) -> dict[Condition, "Analysis"]:
        """The analysis of each condition's complete trials; empty without conditions."""
        if not self.per or self.complete.empty:
            return {}
        known = {name: text for name, text in self.results.distributions.items() if name not in self.per}
        trials, replicas = self.results.trials, self.results.replicas
        return {
            condition: Analysis(
                replace(
                    self.results,
                    info={**self.results.info, "per": []},
                    trials=trials[trials["trial"].isin(keys)],
                    replicas=replicas[replicas["trial"].isin(keys)],
                    distributions=known,
                )
            )
            for condition, keys in conditions_of(self.complete, self.distributions, self.per).items()
        }

    @cached_property
    def condition(self) -> dict[int, Condition]:
        """The condition of each complete trial, by key; empty without conditions."""
        return {int(key): condition for condition, part in self.parts.items() for key in part.complete.index}

    def _conditions(self, trials: Iterable[Any]) -> NDArray[np.int64]:
        """Give each of N complete trials the number of its condition (N,)."""
        numbers = {condition: number for number, condition in enumerate(self.parts)}
        return np.array([numbers[self.condition[int(key)]] for key in trials], dtype=np.int64)

    @property
    def metrics(self) -> list[str]:
        """The searched metrics, such as val/mse."""
        return [name for name, _ in self.results.info["metrics"]]

    @property
    def signs(self) -> list[int]:
        """The sign of each searched metric: 1 where less is better, else -1."""
        return [1 if direction == "minimize" else -1 for _, direction in self.results.info["metrics"]]

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The range of each swept parameter that some trial has, by name."""
        texts = self.results.distributions.items()
        return {name: json_to_distribution(text) for name, text in texts if f"param:{name}" in self.results.trials}

    @cached_property
    def complete(self) -> pd.DataFrame:
        """A row per complete trial, indexed by its key."""
        trials = self.results.trials
        return trials[trials["state"] == "COMPLETE"].set_index("trial")

    @cached_property
    def measured(self) -> list[str]:
        """All metrics that complete trials have, such as val/mse and test/mse."""
        names = [str(c) for c in self.complete.columns if "/" in str(c) and not str(c).startswith("param:")]
        return [name for name in names if not name.endswith(("_min", "_max"))]

    @property
    def tested(self) -> list[str]:
        """The metrics on test, which are measured once, at the end of a trial."""
        return [name for name in self.measured if name.startswith("test/")]

    @property
    def bare(self) -> list[str]:
        """The metrics on test whose names have no prefix of a protocol.

        These are measured of every trial.
        """
        prefixes = tuple(f"test/{protocol}." for protocol in self.results.protocols)
        return [name for name in self.tested if not name.startswith(prefixes)]

    @cached_property
    def own_kinds(self) -> tuple[MetricKind, ...]:
        """The descriptions of the metrics that the study file itself defines."""
        return tuple(MetricKind(**known) for known in self.results.info.get("kinds", []))

    def kind(self, metric: str) -> MetricKind | None:
        """Find the description of a metric: its direction, unit and explanation.

        Returns None for a metric of the study file whose study ran before scores declared their kinds.
        """
        return find_metric(metric, self.own_kinds)

    def sign(self, metric: str) -> int:
        """Return 1 where less of a metric is better, else -1.

        A searched metric has the direction of the search; any other that of its description.

        Raises UserError where the metric has neither.
        """
        searched = dict(zip(self.metrics, self.signs, strict=True))
        name = metric.replace("test/", "val/", 1)
        if name in searched:
            return searched[name]
        kind = self.kind(metric)
        if kind is None:
            raise UserError(
                f"no MetricKind describes {metric}, so its better direction is unknown; give its score "
                "kinds = (MetricKind(...),) and run the study again"
            )
        return kind.sign

    def test_name(self, metric: str) -> str:
        """Rename a metric on val to the same metric on test."""
        return metric.replace("val/", "test/", 1)

    @property
    def headlines(self) -> list[str]:
        """The metrics on test that the sentences and the heat map are about.

        These are the searched metrics and, where they were measured, those of ``HEADLINES``.
        """
        searched = [self.test_name(metric) for metric in self.metrics]
        return list(dict.fromkeys([*searched, *(metric for metric in HEADLINES if metric in self.measured)]))

    @property
    def constraints(self) -> list[tuple[str, str, float]]:
        """The bounds on metrics: name, "at most" or "at least", bound."""
        return [tuple(one) for one in self.results.info.get("constraints", [])]

    @cached_property
    def keeping(self) -> NDArray[np.bool_]:
        """A mask of the complete trials, true where a trial keeps all bounds."""
        kept = np.ones(len(self.complete), bool)
        for name, kind, bound in self.constraints:
            values = self.complete[name].to_numpy(dtype=float)
            kept &= values <= bound if kind == "at most" else values >= bound
        return kept

    @property
    def feasible(self) -> pd.DataFrame:
        """The complete trials that keep all bounds; all of them where none does.

        With conditions that is decided in each.
        """
        if self.per:
            return self.complete.loc[[key for part in self.parts.values() for key in part.feasible.index]]
        return self.complete[self.keeping] if self.keeping.any() else self.complete

    @cached_property
    def front(self) -> list[int]:
        """The Pareto-optimal feasible trials, in the order of the first searched metric.

        With one searched metric this is the best trial. With conditions these are the fronts of all.
        """
        if self.complete.empty:
            # No metric may be known at all.
            return []
        if self.per:
            return [key for part in self.parts.values() for key in part.front]
        chosen = self.feasible[on_front(self._costs(self.feasible))]
        return [int(key) for key in chosen.sort_values(self.metrics[0]).index]

    @cached_property
    def costs(self) -> list[NDArray[np.float64]]:
        """The costs of each feasible trial (R_i, M): its replicas by metrics."""
        if self.complete.empty:
            return []
        costs = self.results.replicas[self.metrics].to_numpy(dtype=float) * self.signs
        return [costs[self._rows[key]] for key in self.feasible.index]

    @cached_property
    def _rows(self) -> dict[Any, NDArray[np.intp]]:
        """The rows of each trial's replicas, by key."""
        groups = self.results.replicas.groupby("trial").indices
        return {key: np.asarray(rows, dtype=np.intp) for key, rows in groups.items()}

    @cached_property
    def draws(self) -> NDArray[np.float64] | None:
        """Draws of the true costs of the feasible trials, (D, N, M).

        None where no trial has two seeds, so that no spread over seeds is known, and with conditions, each of which has
        its own.
        """
        if self.per:
            return None
        return true_means(self.costs) if max(map(len, self.costs), default=0) > 1 else None

    @cached_property
    def knee(self) -> tuple[int, Knee | None] | None:
        """The trial at the knee of the front, with the chances of it and the next.

        The places of the chances are on the front. None where the front has fewer than three trials, or with one
        searched metric. The chances are None where no spread over seeds is known.
        """
        if len(self.metrics) == 1:
            return None
        keys = [int(str(key)) for key in self.feasible.index]
        places = [keys.index(key) for key in self.front]
        draws = self._costs(self.feasible)[None] if self.draws is None else self.draws
        found = likely_knee(draws, places)
        if found is None:
            return None
        known = None if self.draws is None else replace(found, second=places.index(found.second))
        return keys[found.place], known

    @cached_property
    def chosen(self) -> int:
        """The trial whose model is registered and exported.

        With one searched metric it is the best trial, else the knee. Of a front without knee it is the member that is
        likeliest on the front; without a spread over seeds the best in the first metric. Each condition has its own.
        """
        assert not self.per
        if self.knee:
            return self.knee[0]
        if len(self.front) < 2 or self.draws is None:
            return self.front[0]
        likely = dict(zip(self.feasible.index, chances(self.draws), strict=True))
        return max(self.front, key=lambda key: likely[key])

    @property
    def choices(self) -> dict[str, int]:
        """The trials whose models are registered, by alias; one, or one a condition."""
        if not self.per:
            return {ALIAS: self.chosen}
        return {condition.alias: part.chosen for condition, part in self.parts.items()}

    @property
    def role(self) -> str:
        """Name what the chosen trial is: the best, the knee, or merely registered."""
        return "best" if len(self.metrics) == 1 else "knee" if self.knee else "registered"

    @cached_property
    def shown(self) -> dict[str, int]:
        """The trials whose pictures are shown, by their role; the chosen one first.

        With conditions these are the chosen ones of some conditions, evenly along them.
        """
        if self.per:
            some = spaced(list(self.parts.items()), MOST_PICTURED)
            return {f"{part.role} of {condition}": part.chosen for condition, part in some}
        if len(self.metrics) == 1:
            return {"best": self.chosen}
        ends = {f"best {self.metrics[i]}": self._best(i) for i in range(2)}
        if self.knee:
            return {"knee": self.chosen} | ends
        return dict(sorted(ends.items(), key=lambda end: end[1] != self.chosen))

    def _best(self, i: int) -> int:
        return int(self.feasible.index[int(self._costs(self.feasible)[:, i].argmin())])

    def _costs(self, trials: pd.DataFrame) -> NDArray[np.float64]:
        return np.array(trials[self.metrics] * self.signs, dtype=float).reshape(-1, len(self.metrics))

    @cached_property
    def explained(self) -> dict[str, Explained]:
        """The share of each metric's variance that parameters explain, and noise.

        It is of the searched metrics on test, as means over the seeds of a trial; of a large study over some trials,
        evenly along their keys. Entries are in the order of ``everywhere``, then of all together. Empty with fewer
        than 4 complete trials or without such a parameter.
        """
        if len(self.complete) < LEAST_FOR_IMPORTANCE or not self.everywhere:
            return {}
        taken = spaced(self.complete.index.tolist(), MOST_EXPLAINED)
        columns = [self._column(name, taken) for name in self.everywhere]
        means = {metric: self.seeds(metric) for metric in map(self.test_name, self.metrics)}
        return {
            metric: explained(
                columns,
                np.array([of_trial[key].mean() for key in taken]),
                conditions=self._conditions(taken) if self.per else None,
            )
            for metric, of_trial in means.items()
            if set(of_trial) == set(self.complete.index)
        }

    @property
    def asked(self) -> list[str]:
        """The swept parameters, conditions left out, in the order of the space."""
        return [name for name in self.distributions if name not in self.per]

    @cached_property
    def everywhere(self) -> list[str]:
        """The swept parameters that all complete trials have, conditions left out.

        Names of which no two trials share one are left out, too: no trial tells anything of the next.
        """
        columns = {name: self.complete[f"param:{name}"] for name in self.asked}
        told = {name: self.is_numeric(name) or values.duplicated().any() for name, values in columns.items()}
        return [name for name, values in columns.items() if values.notna().all() and told[name]]

    def _column(self, parameter: str, trials: list[int]) -> NDArray[Any]:
        """Take a parameter of N complete trials, on its scale or as names (N,)."""
        values = self.complete[f"param:{parameter}"].loc[trials]
        if not self.is_numeric(parameter):
            return values.astype(str).to_numpy(dtype=object)
        numbers = values.to_numpy(dtype=float)
        return np.log(numbers) if self.is_log(parameter) else numbers

    @cached_property
    def importance(self) -> pd.DataFrame:
        """The share of each metric's variance that each parameter alone explains.

        A row per searched metric on test, a column per parameter. Empty with one parameter.
        """
        if len(self.asked) < 2:
            return pd.DataFrame(columns=self.asked)
        return pd.DataFrame(
            {metric: one.shares[:-1] for metric, one in self.explained.items()}, index=self.everywhere
        ).T

    @cached_property
    def parameters(self) -> list[str]:
        """The swept parameters, the most important first, conditions left out."""
        if self.importance.empty:
            return self.asked
        order = self.importance.mean().sort_values(ascending=False).index
        return [*order, *(name for name in self.asked if name not in order)]

    @property
    def main_parameters(self) -> list[str]:
        """The most important parameters, as many as a figure has room for."""
        return self.parameters[:MOST_PARAMETERS]

    @property
    def listed_parameters(self) -> list[str]:
        """The main parameters in the order of the space, for tables and sentences."""
        main = set(self.main_parameters)
        return [name for name in self.distributions if name in main]

    @property
    def listed_front(self) -> list[int]:
        """The trials of the front that a table has room for.

        Of a long front, these are some evenly along it, and those whose pictures are shown.
        """
        return spaced(self.front, MOST_ROWS, self.shown.values())

    @cached_property
    def listed_trials(self) -> list[int]:
        """The trials that a table has room for, in the order of their keys.

        The feasible of the best Pareto ranks come first; with one searched metric those of its best values. Ranks are
        within conditions.
        """
        keys = self.results.trials["trial"].tolist()
        if len(keys) <= MOST_ROWS:
            return keys
        places = {key: place for part in self.parts.values() or [self] for place, key in enumerate(part._ranked())}
        best = sorted(places, key=places.__getitem__)
        listed = set([*best, *(key for key in keys if key not in set(best))][:MOST_ROWS])
        return [key for key in keys if key in listed]

    def _ranked(self) -> list[int]:
        """List the feasible trials of finite metrics, the best first."""
        costs = self._costs(self.feasible)
        known = np.flatnonzero(np.isfinite(costs).all(1))
        if costs.shape[1] == 2:
            places = np.array([place for _, place in ranked(list(map(tuple, costs[known].tolist())))])
        else:
            places = costs[known].ravel()
        return [int(key) for key in self.feasible.index[known][np.argsort(places, kind="stable")]]

    def is_numeric(self, parameter: str) -> bool:
        """Tell whether all values of a parameter are numbers."""
        distribution = self.distributions[parameter]
        choices = distribution.choices if isinstance(distribution, CategoricalDistribution) else ()
        return all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices)

    def is_log(self, parameter: str) -> bool:
        """Tell whether a parameter belongs on a log axis.

        It does where it is searched on a log scale, or where its choices span a factor of 16 or more.
        """
        distribution = self.distributions[parameter]
        if isinstance(distribution, CategoricalDistribution) and self.is_numeric(parameter):
            choices = [float(choice) for choice in distribution.choices if choice is not None]
            return min(choices) > 0 and max(choices) >= 16 * min(choices)
        return bool(getattr(distribution, "log", False))

    def rank_correlation(self, parameter: str, metric: str) -> Correlation | None:
        """Compute Spearman's rho of a numeric parameter with a metric.

        It is taken over the complete trials, within conditions. Returns None where it is undefined.
        """
        both = self.complete[[f"param:{parameter}", metric]].dropna()
        x, y = both.to_numpy(dtype=float).T
        return spearman_within(x, y, self._conditions(both.index)) if self.per else spearman(x, y)

    def seeds(self, metric: str) -> dict[int, NDArray[np.float64]]:
        """Collect a metric over the seeds of each complete trial that has it, by key."""
        if metric not in self.results.replicas:
            return {}
        values = self.results.replicas[metric].to_numpy(dtype=float)
        of_each = {int(key): values[self._rows[key]] for key in self.complete.index}
        known = {key: of_one[~np.isnan(of_one)] for key, of_one in of_each.items()}
        return {key: of_one for key, of_one in known.items() if len(of_one)}

    def components(self, metric: str) -> Components | ComponentsWithin | None:
        """Estimate the variance of a metric between settings and between seeds.

        With conditions it is that within each. Returns None where one of them is unknown.
        """
        seeds = self.seeds(metric)
        if self.per:
            return components_within(list(seeds.values()), self._conditions(seeds).tolist())
        return components(list(seeds.values()))

    def trials_table(self) -> pd.DataFrame:
        """Make the table of trials.csv, with a row per trial.

        It has the trial's state, its parameters under their own names, and each metric with its range.
        """
        columns = ["trial", "state", "epochs", "seconds"]
        hidden = {*columns, "reason", "train_seconds", "metric_seconds"}
        renamed = {str(c): str(c).removeprefix("param:") for c in self.results.trials.columns if str(c) not in hidden}
        return self.results.trials[[*columns, *renamed]].rename(columns=renamed)


def analyse(results: Results) -> Analysis:
    """Analyse the results of a study; each finding is computed on first use."""
    return Analysis(results)


def registered_trials(results: Results) -> dict[str, int]:
    """Find the trials whose models are registered, by their alias in MLflow.

    It is the one of ``best_trial``, or one of each condition; none where no trial is complete.
    """
    analysis = analyse(results)
    return {} if analysis.complete.empty else analysis.choices


def best_trial(results: Results, metric: str | None = None, per: Sequence[str] = ()) -> int:
    """Find the best complete trial of a study and return its key.

    metric: the metric that decides. None takes the trial whose model is registered, such as the knee of the front.
    per: texts such as "normal=3", which choose the condition in a study that has conditions.

    Raises UserError where no trial is complete, where the metric or the condition is unknown, or where no complete
    trial has a value.
    """
    analysis, name = analyse(results), results.info["name"]
    if analysis.complete.empty:
        raise UserError(f"no trial of {name} is complete, so it has no model; run the study")
    if analysis.per:
        analysis = analysis.parts[chosen_condition(list(analysis.parts), per, name)]
    elif per:
        raise UserError(f"{name} compares all its trials, so --per {per[0]} chooses nothing; leave it out")
    if metric is None:
        return analysis.chosen
    if metric not in analysis.measured:
        raise UserError(f"unknown metric {metric!r}: {nearest(metric, analysis.measured)}")
    # A metric that was measured after the search, or is undefined for some models, is missing in some trials.
    costs = (analysis.complete[metric] * analysis.sign(metric)).dropna()
    if costs.empty:
        raise UserError(f"no complete trial has a value of {metric}, so none is best in it; choose another metric")
    return int(costs.index[int(costs.to_numpy().argmin())])
