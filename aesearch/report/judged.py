"""Comparison of metrics with their floors and ceilings, and with each other."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd

from aesearch.metrics.kinds import FACTORS, NOISE, MetricKind
from aesearch.report.analysis import Analysis
from aesearch.statistics.components import LEVEL, holm, pooled_deviation
from aesearch.statistics.trends import Correlation, spearman

# Disentanglement trades against these metrics, and agreement tracks the last, so the rank correlations include them.
ACTIVE = "test/active_units"
TRADED = ("test/mse", "test/elbo", ACTIVE)
# Standard deviations of a draw above its floor, below which a value is as that of noise.
ABOVE = 2
LEAST_MODELS = 4


@dataclass(frozen=True)
class Judged:
    """Comparison of the metrics of a study's models.

    A column is one metric under one protocol.
    """

    analysis: Analysis

    @cached_property
    def protocols(self) -> dict[str, str]:
        """The protocol of each metric that has one, by name, such as ``test/mig``."""
        return {
            f"{split}/{name}": protocol
            for protocol, known in self.analysis.results.protocols.items()
            if "draws" in known
            for name in known["measured"]
            for split in ("val", "test")
        }

    @cached_property
    def without_labels(self) -> list[str]:
        """The metrics of agreement between models, which need no factors.

        Those over the whole study come first.
        """
        kinds = {name: self.analysis.kind(name) for name in self.analysis.measured}
        found = [name for name, kind in kinds.items() if kind and kind.compares]
        return sorted(found, key=lambda name: "." not in name)

    @cached_property
    def columns(self) -> list[str]:
        """All reported metrics: those on test, and those of agreement between models."""
        return [*self.analysis.tested, *self.without_labels]

    @cached_property
    def kinds(self) -> dict[str, MetricKind]:
        """The descriptions of the reported metrics.

        Their names are without split, protocol and number.
        """
        found = filter(None, map(self.analysis.kind, self.columns))
        return {kind.name: kind for kind in found}

    @cached_property
    def labelled(self) -> list[str]:
        """The metrics on test that have a floor and a ceiling."""
        known = set(self.analysis.results.references["metric"])
        return [name for name in self.analysis.tested if name in known]

    @cached_property
    def references(self) -> dict[tuple[int, str], tuple[float, float, float]]:
        """The floor, the ceiling and the spread of the floor by trial and metric.

        The spread is the standard deviation of a draw. The floor depends on the code size, so trials differ.
        """
        rows = self.analysis.results.references.to_dict("records")
        return {
            (row["trial"], row["metric"]): (float(row["floor"]), float(row["ceiling"]), float(row["spread"]))
            for row in rows
        }

    def normalised(self, trial: int, metric: str) -> float:
        """Scale a trial's value so that the floor is 0 and the ceiling is 1.

        Returns NaN unless the ceiling is above the floor.
        """
        floor, ceiling, _ = self.references.get((trial, metric), (0.0, 0.0, 0.0))
        if not ceiling > floor:
            return float("nan")
        return (float(self.analysis.complete[metric][trial]) - floor) / (ceiling - floor)

    def table(self) -> pd.DataFrame:
        """Make the table of all reported metrics, with a row per metric.

        It has the protocol, the values of each shown trial beside the floor and the ceiling of that trial, the pooled
        standard deviation over seeds, and the share of the variance that settings explain, within conditions.
        """
        rows = []
        for metric in self.columns:
            row = {"metric": metric, "protocol": self.protocols.get(metric, "")}
            for what, key in self.analysis.shown.items():
                row[f"{what}: trial {key}"] = self._cell(key, metric)
                row[f"trial {key}: floor to ceiling"] = self._range(key, metric)
            found = self.analysis.components(metric)
            row["SD over seeds"] = (
                _number(pooled_deviation(list(self.analysis.seeds(metric).values()))) if found else ""
            )
            row[f"settings explain {self.analysis.within}".strip()] = (
                f"{found.share:.0%} [{found.low:.0%} to {found.high:.0%}]" if found else ""
            )
            rows.append(row)
        return pd.DataFrame(rows)

    def _cell(self, trial: int, metric: str) -> str:
        value, low, high = (
            float(self.analysis.complete[name][trial]) for name in (metric, f"{metric}_min", f"{metric}_max")
        )
        if np.isnan(value):
            return ""
        share = self.normalised(trial, metric)
        beside = f" = {share:.0%}" if np.isfinite(share) else ""
        if beside and self.noisy(trial, metric):
            beside += ", as noise"
        return f"{_number(value)} [{_number(low)} to {_number(high)}]{beside}"

    def noisy(self, trial: int, metric: str) -> bool:
        """Tell whether a trial's value is no better than draws of noise may be."""
        floor, _, spread = self.references[trial, metric]
        return bool(self.analysis.complete[metric][trial] <= floor + ABOVE * spread)

    def _range(self, trial: int, metric: str) -> str:
        """Write the floor, with the spread of its draws, and the ceiling of a trial."""
        if (trial, metric) not in self.references:
            return ""
        floor, ceiling, spread = self.references[trial, metric]
        around = "" if np.isnan(spread) else f" ± {_number(spread)}"
        return f"{_number(floor)}{around} to {_number(ceiling)}"

    @cached_property
    def models(self) -> pd.DataFrame:
        """The metrics of each model: a row per replica of each complete trial."""
        replicas = self.analysis.results.replicas
        return replicas[replicas["trial"].isin(self.analysis.complete.index)]

    @cached_property
    def correlations(self) -> pd.DataFrame:
        """Spearman's rho between metrics over the models.

        Empty with fewer than two metrics or fewer than 4 models, and with conditions: models of several are not
        compared.
        """
        if self.analysis.per:
            return pd.DataFrame()
        traded = [name for name in TRADED if name in self.models and self.labelled]
        names = [name for name in [*self.labelled, *self.without_labels, *traded] if name in self.models]
        values = self.models[names].dropna(axis=1).astype(float)
        values = values.loc[:, values.nunique() > 1]
        if len(values) < LEAST_MODELS or values.shape[1] < 2:
            return pd.DataFrame()
        return values.corr(method="spearman")

    def spread(self) -> list[str]:
        """Summarise what settings explain of each metric with a protocol, in a sentence."""
        found = [one for one in map(self.analysis.components, self.labelled) if one]
        if not found:
            return []
        shares = [one.share for one in found]
        blind = sum(p >= LEVEL for p in holm([one.p for one in found]))
        return [
            self.analysis.begun(
                f"settings explain {min(shares):.0%} to {max(shares):.0%} of the variance over models of "
            )
            + f"the {len(found)} metrics with a protocol (median {np.median(shares):.0%}), and seeds the rest. For "
            f"{blind} of them the differences between settings are not told from differences between seeds (F tests at "
            "5 %, Holm's correction over the metrics)."
        ]

    def agreements(self) -> list[str]:
        """Compare each metric without labels with the labelled ones, a sentence each."""
        sentences = []
        for name in self.without_labels:
            if name not in self.correlations:
                continue
            found = self._agreement(name)
            if not found:
                continue
            rho = [one.rho for one in found.values()]
            values = self.models[name].astype(float)
            best = self.models.iloc[int(values.to_numpy().argmax())]
            places = [self._place(metric, float(best[metric])) for metric in found]
            told = sum(p < LEVEL for p in holm([one.p for one in found.values()]))
            most = max(found, key=lambda metric: found[metric].rho)
            first = found[most]
            sentences.append(
                f"{name}, which needs no labels, correlates over the {first.n} models of {first.clusters} trials with "
                f"the {len(found)} labelled metrics by Spearman {min(rho):+.2f} to {max(rho):+.2f} (median "
                f"{np.median(rho):+.2f}, most with {most}: [{first.low:+.2f} to {first.high:+.2f}]); {told} of these "
                "are told from none (trials as clusters, Holm's correction). "
                f"{self._tracks(name)}Its best model, of trial "
                f"{int(best['trial'])}, has the median rank {int(np.median(places))} of {len(self.models)} by the "
                "labelled metrics."
            )
        return sentences

    def _tracks(self, name: str) -> str:
        """Say how a metric without labels goes with the number of active codes."""
        if ACTIVE not in self.correlations:
            return ""
        both = self.models[[name, ACTIVE]].to_numpy(dtype=float)
        found = spearman(both[:, 0], both[:, 1], self.models["trial"].to_numpy())
        if not found:
            return ""
        return (
            f"With the number of active codes, which it tracks by its definition, it correlates by {found.rho:+.2f} "
            f"[{found.low:+.2f} to {found.high:+.2f}]. "
        )

    def _agreement(self, name: str) -> dict[str, Correlation]:
        """Correlate a metric without labels with each labelled one, trials as clusters."""
        trials = self.models["trial"].to_numpy()
        pairs = {metric: self.models[[name, metric]].to_numpy(dtype=float) for metric in self.labelled}
        found = {
            metric: spearman(both[:, 0], both[:, 1], trials)
            for metric, both in pairs.items()
            if metric in self.correlations
        }
        return {metric: one for metric, one in found.items() if one}

    def _place(self, metric: str, value: float) -> int:
        """Compute the rank of a value of a metric among all models; 1 is the best."""
        others = self.models[metric].astype(float)
        sign = self.analysis.sign(metric)
        return 1 + int((sign * others < sign * value).sum())

    def definitions(self) -> list[str]:
        """Define each protocol in a line."""
        lines = []
        for name, known in self.analysis.results.protocols.items():
            if "draws" not in known:
                continue  # It is the version of a score that has no protocol.
            drawn = "all images, with replacement" if known["draws"] == "all" else "the split's images"
            judged = f"{known['test_points']:,} others" if known["test_points"] else "the same"
            left = f", {', '.join(known['without'])} left out" if known["without"] else ""
            mig = f"{known['bins']} bins" if known["mig"] == "binned" else "samples of the posteriors"
            votes = f"{known['votes']:,} votes of {known['vote_size']}"
            lines.append(
                f"Protocol {name} ({known['hash']}): fitted on at most {known['points']:,} of {drawn}, judged on "
                f"{judged}; {known['codes']} codes{left}; MIG from {mig}; SAP by {known['sap']}; DCI by "
                f"{known['regressor']}; FactorVAE and BetaVAE by {votes}. Floor: {NOISE}, mean ± "
                f"standard deviation of several draws; ceiling: {FACTORS}. A percentage gives the place of a value "
                f"between its trial's floor (0 %) and ceiling (100 %); up to {ABOVE} standard deviations above the "
                'floor it is "as noise".'
            )
        return lines


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.3g}"


@lru_cache(maxsize=1)
def judged_of(analysis: Analysis) -> Judged:
    """Make the comparison of an analysis, once for its tables, sentences and figures."""
    return Judged(analysis)
