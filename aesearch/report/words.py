"""Findings of a study as sentences with their numbers."""

from collections import Counter

import numpy as np
import pandas as pd

from aesearch.report.analysis import Analysis, number
from aesearch.report.certainty import certainty_of
from aesearch.report.judged import judged_of
from aesearch.report.limits import MOST_NAMED, MOST_PARAMETERS, MOST_REASONS, MOST_ROWS, joined

# The least absolute rank correlation with which a metric is said to rise or fall.
WEAK = 0.4

STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}

PROTOCOL = [
    "A value is the median over a trial's replicas (seeds). Brackets and bars give the least and the most.",
    "Each replica is measured with the weights of its epoch of lowest val/loss. The search sees only val; test is "
    "measured once, at the end, with the same weights. Inputs are clean, unless the line on a metric says otherwise.",
]
CERTAINTY = (
    "Chances and 95 % intervals are about the median that a trial would have with many more seeds. They come from "
    "2,000 draws of that median, with the tails of Student's t distribution. The spread over seeds of a trial is "
    "shrunk towards that of all trials, which counts as two degrees of freedom. Seeds count as independent, though all "
    "trials share the same ones. Intervals ignore the bounds of a metric, such as 0 and 1."
)


def protocol(analysis: Analysis) -> list[str]:
    """Explain how to read the numbers of this study, a line each."""
    certain = [CERTAINTY] if certainty_of(analysis).known else []
    return PROTOCOL + certain + _glossary(analysis) + judged_of(analysis).definitions()


def _glossary(analysis: Analysis) -> list[str]:
    """Explain the reported metrics: better directions, units, and a line on each."""
    kinds = judged_of(analysis).kinds
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
    """Count the trials by state, their replicas and their time, in a sentence."""
    trials = analysis.results.trials
    states = Counter(trials["state"]) if len(trials) else Counter()
    parts = [f"{states[state]} {word}" for state, word in STATES.items() if states[state]]
    seconds = trials["seconds"].sum() if len(trials) else 0.0
    replicas = analysis.results.replicas.groupby("trial").size() if len(analysis.results.replicas) else None
    each = f", {_range(replicas)} replicas (seeds) each" if replicas is not None else ""
    return (
        f"{len(trials)} trials: {', '.join(parts) or 'none finished'}{each}; {seconds / 60:.1f} minutes, summed over "
        "the trials."
    )


def _range(counts: "pd.Series[int]") -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"


def failures(analysis: Analysis) -> list[str]:
    """Give the reasons why trials failed, the most frequent first."""
    trials = analysis.results.trials
    if not len(trials):
        return []
    reasons = Counter(trials.loc[trials["state"] == "FAIL", "reason"])
    told = reasons.most_common(MOST_REASONS)
    others = reasons.total() - sum(times for _, times in told)
    more = [f"{others} failed for other reasons, which their runs in MLflow have"] if others else []
    return [*(f"{times} failed: {reason}" for reason, times in told), *more]


def cuts(analysis: Analysis) -> list[str]:
    """Say what the page's tables leave out of a large study, a sentence each."""
    trials, found = len(analysis.results.trials), []
    # Where no trial has ended well, no metric is known by which one could be better.
    front = 0 if analysis.complete.empty else len(analysis.front)
    if trials > MOST_ROWS:
        by = "Pareto rank" if len(analysis.metrics) == 2 else analysis.metrics[0]
        found.append(f"The table of trials has the best {MOST_ROWS} of {trials:,} by {by}; trials.csv has all.")
    if front > MOST_ROWS:
        kept = len(analysis.listed_front)
        found.append(f"The tables of the front have {kept} of its {front:,} trials, evenly along it.")
    if len(analysis.distributions) > MOST_PARAMETERS:
        known = ", those that explain most of the variance" if len(analysis.importance) else ""
        shown = f"{MOST_PARAMETERS} of {len(analysis.distributions):,} parameters{known}"
        found.append(f"Tables, sentences and figures have {shown}; trials.csv has all.")
    return found


def findings(analysis: Analysis) -> list[str]:
    """Write the findings, one or two sentences each."""
    if analysis.complete.empty:
        return ["No trial completed, so there is nothing to compare."]
    return [
        *_bounds(analysis),
        _choice(analysis),
        *_movements(analysis),
        *_baselines(analysis),
        *_spreads(analysis),
        *certainty_of(analysis).sentences(),
        *_importances(analysis),
        *judged_of(analysis).spread(),
        *judged_of(analysis).agreements(),
    ]


def _bounds(analysis: Analysis) -> list[str]:
    if not analysis.constraints:
        return []
    bounds = " and ".join(f"{name} {kind} {number(bound)}" for name, kind, bound in analysis.constraints)
    kept = int(analysis.keeping.sum())
    rest = "" if kept else "; none does, so what follows is about all complete trials"
    return [f"{kept} of {len(analysis.complete)} complete trials have {bounds}{rest}."]


def _baselines(analysis: Analysis) -> list[str]:
    if "test/pca_mse" not in analysis.measured:
        return []
    ratios = (analysis.complete["test/mse"] / analysis.complete["test/pca_mse"]).dropna()
    return [
        f"test/mse is {number(ratios.min())} to {number(ratios.max())} times the error of PCA with the same code size "
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
    values = {name: row[f"param:{name}"] for name in analysis.listed_parameters if pd.notna(row[f"param:{name}"])}
    shown = (f"{n} = {number(v) if isinstance(v, int | float | np.number) else v}" for n, v in values.items())
    return ", ".join(shown) or "no swept parameter"


def _choice(analysis: Analysis) -> str:
    key = analysis.knee
    if len(analysis.metrics) == 1:
        return (
            f"The best trial on {analysis.metrics[0]} is {key} ({_setting(analysis, key)}): {_values(analysis, key)}."
        )
    named = joined([*map(str, analysis.front)], MOST_NAMED)
    return (
        f"{len(analysis.front)} of {len(analysis.complete)} complete trials are Pareto-optimal on val: {named}. "
        f"The knee is trial {key} ({_setting(analysis, key)}): {_values(analysis, key)}; medians, with the range over "
        "the replicas. The knee is the trial of the front that is nearest to the best value of both metrics, each "
        "scaled to its range on the front."
    )


def _movements(analysis: Analysis) -> list[str]:
    sentences = []
    for parameter in filter(analysis.is_numeric, analysis.main_parameters):
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
                moves.append(f"{metric} shows no clear trend (Spearman {rho:+.2f})")
            else:
                a, b = number(values[low].median()), number(values[high].median())
                moves.append(f"{metric} {'rises' if rho > 0 else 'falls'} from {a} to {b} (Spearman {rho:+.2f})")
        if moves:
            ends = f"{number(column.min())} to {number(column.max())}"
            sentences.append(
                f"As {parameter} rises ({ends}; medians of its lowest and its highest quarter): {'; '.join(moves)}."
            )
    return sentences


def _spreads(analysis: Analysis) -> list[str]:
    if analysis.results.replicas.groupby("trial").size().max() < 2:
        return ["Every trial has one replica, so the spread over seeds is unknown; set --replicas to 2 or more."]
    sentences = []
    for metric in analysis.headlines:
        within, across = analysis.seed_spread(metric)
        share = f", {within / across:.0%} of that over settings" if across > 0 else ""
        sentences.append(
            f"The range of {metric} over seeds is {number(within)} in the median trial{share}; the range of its "
            f"medians over all settings is {number(across)}."
        )
    return sentences


def _importances(analysis: Analysis) -> list[str]:
    sentences = []
    for metric, row in analysis.importance.iterrows():
        ordered = row.dropna().sort_values(ascending=False)
        shares = joined([f"{name} {share:.0%}" for name, share in ordered.items()], MOST_PARAMETERS)
        sentences.append(f"Share of the variance of {metric} that each parameter explains (fANOVA): {shares}.")
    return sentences
