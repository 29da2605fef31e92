"""The findings of a study in sentences, each with its numbers."""

from collections import Counter

import numpy as np
import pandas as pd

from aesearch.report.analysis import Analysis, number
from aesearch.report.certainty import Certainty
from aesearch.report.judged import Judged

# Unlike MIG, a value below this says that a parameter hardly orders a metric at all.
WEAK = 0.4

STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}

PROTOCOL = [
    "A value is the median over a trial's replicas (seeds); brackets and bars give the least and the most.",
    "Each replica is scored with the weights of its epoch of lowest val/loss. The search sees val; test is measured "
    "once, at the end, with those weights. Images go in clean, unless the line on a metric says otherwise.",
]
CERTAINTY = (
    "Chances and 95 % intervals are of the medians over ever more seeds: 2,000 draws of each trial's median, with a "
    "spread drawn towards that of all trials (two degrees of freedom) and Student's tails. Seeds count as independent, "
    "though all trials share them; an interval knows nothing of a metric's bounds."
)


def protocol(analysis: Analysis) -> list[str]:
    """How to read the numbers of this study."""
    certain = [CERTAINTY] if Certainty(analysis).known else []
    return PROTOCOL + certain + _glossary(analysis) + Judged(analysis).definitions()


def _glossary(analysis: Analysis) -> list[str]:
    """Which direction of the reported metrics is better, their units, and a line on each."""
    kinds = Judged(analysis).kinds
    if not kinds:
        return []
    less = [name for name, kind in kinds.items() if kind.better == "less"]
    more = [name for name in kinds if name not in less]
    sides = [f"{side} is better of {', '.join(names)}" for side, names in (("Less", less), ("more", more)) if names]
    units: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        units.setdefault(kind.unit, []).append(name)
    pure = units.pop("", [])
    measured = [f"{unit} ({', '.join(names)})" for unit, names in units.items()]
    measured += ["the others are pure numbers"] if pure else []
    explained = [f"{name}: {kind.explanation}" for name, kind in kinds.items()]
    return [f"{'; '.join(sides)}.", f"Units: {'; '.join(measured)}.", *explained]


def outcome(analysis: Analysis) -> str:
    """What was run."""
    trials = analysis.results.trials
    states = Counter(trials["state"]) if len(trials) else Counter()
    parts = [f"{states[state]} {word}" for state, word in STATES.items() if states[state]]
    seconds = trials["seconds"].sum() if len(trials) else 0.0
    replicas = analysis.results.replicas.groupby("trial").size() if len(analysis.results.replicas) else None
    each = f", {_range(replicas)} replicas (seeds) each" if replicas is not None else ""
    return (
        f"{len(trials)} trials: {', '.join(parts) or 'none finished'}{each}; {seconds / 60:.1f} trial minutes in all."
    )


def _range(counts: "pd.Series[int]") -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"


def failures(analysis: Analysis) -> list[str]:
    """Why trials failed."""
    trials = analysis.results.trials
    if not len(trials):
        return []
    reasons = Counter(trials.loc[trials["state"] == "FAIL", "reason"])
    return [f"{times} failed: {reason}" for reason, times in reasons.most_common()]


def findings(analysis: Analysis) -> list[str]:
    """What was found, a sentence or two each."""
    if analysis.complete.empty:
        return ["No trial completed, so there is nothing to compare."]
    return [
        *_bounds(analysis),
        _choice(analysis),
        *_movements(analysis),
        *_baselines(analysis),
        *_spreads(analysis),
        *Certainty(analysis).sentences(),
        *_importances(analysis),
        *Judged(analysis).spread(),
        *Judged(analysis).agreements(),
    ]


def _bounds(analysis: Analysis) -> list[str]:
    if not analysis.constraints:
        return []
    bounds = " and ".join(f"{name} {kind} {number(bound)}" for name, kind, bound in analysis.constraints)
    kept = int(analysis.keeping.sum())
    rest = "" if kept else "; as none has, what follows is of all"
    return [f"{kept} of {len(analysis.complete)} complete trials have {bounds}{rest}."]


def _baselines(analysis: Analysis) -> list[str]:
    if "test/pca_mse" not in analysis.measured:
        return []
    ratios = (analysis.complete["test/mse"] / analysis.complete["test/pca_mse"]).dropna()
    return [
        f"test/mse is {number(ratios.min())} to {number(ratios.max())} times that of as many principal components "
        f"(median {number(ratios.median())})."
    ]


def _values(analysis: Analysis, key: int) -> str:
    row = analysis.complete.loc[key]
    tested = (analysis.test_name(metric) for metric in analysis.metrics)
    return ", ".join(
        f"{name} {number(row[name])} [{number(row[f'{name}_min'])} to {number(row[f'{name}_max'])}]" for name in tested
    )


def _setting(analysis: Analysis, key: int) -> str:
    row = analysis.complete.loc[key]
    values = {name: row[f"param:{name}"] for name in analysis.distributions if pd.notna(row[f"param:{name}"])}
    shown = (f"{n} = {number(v) if isinstance(v, int | float | np.number) else v}" for n, v in values.items())
    return ", ".join(shown) or "no swept parameter"


def _choice(analysis: Analysis) -> str:
    key = analysis.knee
    if len(analysis.metrics) == 1:
        return (
            f"The best trial on {analysis.metrics[0]} is {key} ({_setting(analysis, key)}): {_values(analysis, key)}."
        )
    named = ", ".join(map(str, analysis.front))
    return (
        f"{len(analysis.front)} of {len(analysis.complete)} complete trials are Pareto-optimal on val: {named}. "
        f"The knee, nearest to the best of both metrics on the front's scale, is trial {key} "
        f"({_setting(analysis, key)}): {_values(analysis, key)}; medians, and the range over the replicas."
    )


def _movements(analysis: Analysis) -> list[str]:
    sentences = []
    for parameter in filter(analysis.is_numeric, analysis.parameters):
        column = analysis.complete[f"param:{parameter}"].dropna().astype(float)
        if column.nunique() < 3:
            continue
        low, high = column.nsmallest(max(1, len(column) // 4)).index, column.nlargest(max(1, len(column) // 4)).index
        moves = []
        for metric in analysis.headlines:
            rho = analysis.rank_correlation(parameter, metric)
            if not np.isfinite(rho):
                continue
            values = analysis.complete[metric]
            if abs(rho) < WEAK:
                moves.append(f"{metric} hardly moves in order (Spearman {rho:+.2f})")
            else:
                a, b = number(values[low].median()), number(values[high].median())
                moves.append(f"{metric} {'rises' if rho > 0 else 'falls'} from {a} to {b} (Spearman {rho:+.2f})")
        if moves:
            ends = f"{number(column.min())} to {number(column.max())}"
            sentences.append(
                f"Along {parameter} ({ends}; medians of its lowest and its highest quarter): {'; '.join(moves)}."
            )
    return sentences


def _spreads(analysis: Analysis) -> list[str]:
    if analysis.results.replicas.groupby("trial").size().max() < 2:
        return ["Every trial has one replica, so nothing can be said of the spread over seeds: use --replicas."]
    sentences = []
    for metric in analysis.headlines:
        within, across = analysis.seed_spread(metric)
        share = f", {within / across:.0%} of it" if across > 0 else ""
        sentences.append(
            f"Over seeds alone {metric} spans {number(within)} in the median trial; over all settings it spans "
            f"{number(across)}{f' (seeds{share})' if share else ''}."
        )
    return sentences


def _importances(analysis: Analysis) -> list[str]:
    sentences = []
    for metric, row in analysis.importance.iterrows():
        ordered = row.dropna().sort_values(ascending=False)
        shares = ", ".join(f"{name} {share:.0%}" for name, share in ordered.items())
        sentences.append(f"Of the variance of {metric}, by fANOVA: {shares}.")
    return sentences
