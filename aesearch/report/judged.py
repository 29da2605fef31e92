"""Metrics that have a protocol: beside floor and ceiling, beside each other, beside what needs no labels."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from aesearch.metrics.kinds import FACTORS, NOISE, MetricKind
from aesearch.report.analysis import Analysis

# What disentanglement is traded for, shown among the rank correlations.
TRADED = ("test/mse", "test/elbo")
LEAST_MODELS = 4


@dataclass(frozen=True)
class Judged:
    """What the metrics of a study's models are worth. A column is one metric under one protocol, never two."""

    analysis: Analysis

    @cached_property
    def protocols(self) -> dict[str, str]:
        """The protocol of each metric that has one, by the metric's name with its split."""
        return {
            f"{split}/{name}": protocol
            for protocol, known in self.analysis.results.protocols.items()
            for name in known["measured"]
            for split in ("val", "test")
        }

    @cached_property
    def without_labels(self) -> list[str]:
        """Metrics of how models agree with each other, which need no factors; those over the whole study come first."""
        kinds = {name: self.analysis.kind(name) for name in self.analysis.measured}
        found = [name for name, kind in kinds.items() if kind and kind.compares]
        return sorted(found, key=lambda name: "." not in name)

    @cached_property
    def columns(self) -> list[str]:
        """All metrics that are reported: those on test, and of the others those without labels."""
        return [*self.analysis.tested, *self.without_labels]

    @cached_property
    def kinds(self) -> dict[str, MetricKind]:
        """What the reported metrics are, by their names without split, protocol and number."""
        found = filter(None, map(self.analysis.kind, self.columns))
        return {kind.name: kind for kind in found}

    @cached_property
    def labelled(self) -> list[str]:
        """Metrics on test that have a floor and a ceiling."""
        known = set(self.analysis.results.references["metric"])
        return [name for name in self.analysis.tested if name in known]

    @cached_property
    def references(self) -> dict[tuple[int, str], tuple[float, float]]:
        """Floor and ceiling by (trial, metric): the floor depends on the size of the code."""
        rows = self.analysis.results.references.to_dict("records")
        return {(row["trial"], row["metric"]): (float(row["floor"]), float(row["ceiling"])) for row in rows}

    def normalised(self, trial: int, metric: str) -> float:
        """Where a trial's value is between the floor, 0, and the ceiling, 1; NaN where they do not differ."""
        floor, ceiling = self.references.get((trial, metric), (0.0, 0.0))
        if not ceiling > floor:
            return float("nan")
        return (float(self.analysis.complete[metric][trial]) - floor) / (ceiling - floor)

    def table(self) -> pd.DataFrame:
        """A row per metric: protocol, floor and ceiling of the first shown trial, each shown trial, both spreads."""
        rows = []
        first = next(iter(self.analysis.shown.values()))
        for metric in self.columns:
            floor, ceiling = self.references.get((first, metric), (float("nan"), float("nan")))
            row = {"metric": metric, "protocol": self.protocols.get(metric, "")}
            row |= {"floor": _number(floor), "ceiling": _number(ceiling)}
            for what, key in self.analysis.shown.items():
                row[f"{what}: trial {key}"] = self._cell(key, metric)
            within, across = self.analysis.seed_spread(metric)
            row |= {"span over seeds": _number(within), "span over settings": _number(across)}
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
        return f"{_number(value)} [{_number(low)} to {_number(high)}]{beside}"

    @cached_property
    def models(self) -> pd.DataFrame:
        """A row per model, every replica of every complete trial, with its metrics."""
        replicas = self.analysis.results.replicas
        return replicas[replicas["trial"].isin(self.analysis.complete.index)]

    @cached_property
    def correlations(self) -> pd.DataFrame:
        """Spearman's rho between metrics over the models; empty with fewer than two metrics or too few models."""
        traded = [name for name in TRADED if name in self.models and self.labelled]
        names = [name for name in [*self.labelled, *self.without_labels, *traded] if name in self.models]
        values = self.models[names].dropna(axis=1).astype(float)
        values = values.loc[:, values.nunique() > 1]
        if len(values) < LEAST_MODELS or values.shape[1] < 2:
            return pd.DataFrame()
        return values.corr(method="spearman")

    def spread(self) -> list[str]:
        """What the seeds' span is beside that of the settings, over all metrics that have a protocol."""
        shares = [within / across for within, across in map(self.analysis.seed_spread, self.labelled) if across > 0]
        if not shares or self.models.groupby("trial").size().max() < 2:
            return []
        return [
            f"Of the {len(shares)} metrics with a protocol the span over seeds in the median trial is "
            f"{min(shares):.0%} to {max(shares):.0%} of the span over all settings (median {np.median(shares):.0%}): "
            "settings that differ by less than their seeds are not told apart."
        ]

    def agreements(self) -> list[str]:
        """How well what needs no labels orders the models as the labelled metrics do, a sentence each."""
        sentences = []
        for name in self.without_labels:
            if name not in self.correlations:
                continue
            rho = self.correlations[name].drop([m for m in self.correlations if m not in self.labelled])
            if rho.empty:
                continue
            values = self.models[name].astype(float)
            best = self.models.iloc[int(values.to_numpy().argmax())]
            places = [self._place(str(metric), float(best[str(metric)])) for metric in rho.index]
            sentences.append(
                f"Without labels, {name} orders the {len(self.models)} models as the {len(rho)} labelled metrics do "
                f"with Spearman {rho.min():+.2f} to {rho.max():+.2f} (median {rho.median():+.2f}; most with "
                f"{rho.idxmax()}); the model that it would choose, of trial {int(best['trial'])}, is in the median "
                f"place {int(np.median(places))} of {len(self.models)} by them."
            )
        return sentences

    def _place(self, metric: str, value: float) -> int:
        """1 for the best model of a metric."""
        others = self.models[metric].astype(float)
        sign = self.analysis.sign(metric)
        return 1 + int((sign * others < sign * value).sum())

    def definitions(self) -> list[str]:
        """What each protocol is, in a line."""
        lines = []
        for name, known in self.analysis.results.protocols.items():
            drawn = "all images, with replacement" if known["draws"] == "all" else "the split's images"
            judged = f"{known['test_points']:,} others" if known["test_points"] else "the same"
            left = f", {', '.join(known['without'])} left out" if known["without"] else ""
            mig = f"{known['bins']} bins" if known["mig"] == "binned" else "samples of the posteriors"
            votes = f"{known['votes']:,} votes of {known['vote_size']}"
            lines.append(
                f"Protocol {name} ({known['hash']}): fitted on at most {known['points']:,} of {drawn}, judged on "
                f"{judged}; {known['codes']} codes{left}; MIG from {mig}; SAP by {known['sap']}; DCI by "
                f"{known['regressor']}; FactorVAE and BetaVAE by {votes}. Floor: {NOISE}; ceiling: {FACTORS}; a "
                "percentage says where between them a value is."
            )
        return lines


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.3g}"
