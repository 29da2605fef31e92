"""Findings of a study as sentences with their numbers."""

from collections import Counter

import numpy as np
import pandas as pd

from aesearch.report.analysis import Analysis, number, shown_p
from aesearch.report.certainty import Certainty, certainty_of
from aesearch.report.conditions import Condition
from aesearch.report.judged import judged_of
from aesearch.report.limits import (
    MOST_CONDITIONS,
    MOST_EXPLAINED,
    MOST_NAMED,
    MOST_PARAMETERS,
    MOST_PICTURED,
    MOST_REASONS,
    MOST_ROWS,
    joined,
)
from aesearch.report.worth import gained_by_search, told_by_seeds
from aesearch.statistics.components import LEVEL, Components, ComponentsWithin, holm
from aesearch.statistics.trends import Explained

MOST_HEADLINES = 2  # parameters whose trends stand before the first figure
STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}

PROTOCOL = [
    "A value is the median over a trial's replicas (seeds). Brackets and bars give the least and the most.",
    "Each replica is measured with the weights of its epoch of lowest val/loss. The search sees only val; test is "
    "measured once, at the end, with the same weights. Inputs are clean, unless the line on a metric says otherwise.",
]
CERTAINTY = (
    "Chances, expected values and 95 % intervals are about the mean that a trial would have over endless seeds. They "
    "come from 2,000 draws of a model of two levels: trials vary around a common mean, seeds around their trial. So "
    "what looks best is drawn towards the other trials by as much as seeds move it (the winner's curse), and an "
    "interval need not hold the median of the seeds. Trials share one variance over seeds; one whose seeds vary more "
    "has more. Seeds count as independent, though trials share them. Intervals ignore the bounds of a metric, such as "
    "0 and 1."
)


TESTS = (
    "Brackets after Spearman's rho are 95 % intervals. p-values of trends are of permutations of the trials, or of "
    "Student's law with more than 50 trials, with Holm's correction for the number of trends of all parameters. The "
    "share that a parameter explains is cross-validated (1 - PRESS / PRESS of the mean), so that noise explains next "
    "to nothing. 'Noise up to' is what shuffled values stay below in 95 % of cases. p-values of single parameters are "
    "corrected for their number. 'All together' has their interactions, unless there are more than 8 parameters."
)


WITHIN = (
    "Trials are compared {within} only: chances, fronts and knees are those of its own trials. Rank correlations are "
    "of ranks {within}, weighted alike, less the mean rank. The shares that parameters explain are of values {within}, "
    "centred and scaled to one variance, and of an effect that all have in common. Shuffles are {within}. The "
    "intraclass correlation is one that all have in common; each may have a level and a spread of its own."
)


def protocol(analysis: Analysis) -> list[str]:
    """Explain how to read the numbers of this study, a line each."""
    parts = list(analysis.parts.values()) or [analysis]
    certain = [CERTAINTY] if any(part.draws is not None for part in parts) else []
    within = [WITHIN.format(within=analysis.within)] if analysis.per else []
    return [*PROTOCOL, *certain, TESTS, *within, *_glossary(analysis), *judged_of(analysis).definitions()]


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
    front = len(analysis.front)
    if trials > MOST_ROWS:
        by = "Pareto rank" if len(analysis.metrics) == 2 else analysis.metrics[0]
        by += f" {analysis.within}" if analysis.per else ""
        found.append(f"The table of trials has the best {MOST_ROWS} of {trials:,} by {by}; trials.csv has all.")
    if front > MOST_ROWS:
        kept = len(analysis.listed_front)
        found.append(f"The tables of the front have {kept} of its {front:,} trials, evenly along it.")
    if analysis.per and len(analysis.parts) > MOST_PICTURED:
        shown = f"{len(analysis.shown)} of {len(analysis.parts)} conditions"
        found.append(f"Pictures, and columns of the table of all metrics, are of {shown}, evenly chosen.")
    if len(analysis.asked) > MOST_PARAMETERS:
        known = ", those that explain most of the variance" if len(analysis.importance) else ""
        shown = f"{MOST_PARAMETERS} of {len(analysis.asked):,} parameters{known}"
        found.append(f"Tables, sentences and figures have {shown}; trials.csv has all.")
    complete = len(analysis.complete)
    if complete > MOST_EXPLAINED and analysis.explained:
        found.append(
            f"What parameters explain is computed over {MOST_EXPLAINED} of {complete:,} complete trials, evenly chosen."
        )
    return found


def headlines(analysis: Analysis) -> list[str]:
    """Write the main findings, one or two sentences each.

    They stand before the first figure, on one screen with it.
    """
    if analysis.complete.empty:
        return ["No trial completed, so there is nothing to compare."]
    told, _ = _movements(analysis)
    return [*_bounds(analysis), *_choices(analysis), *told[:MOST_HEADLINES], *_spreads(analysis)]


def details(analysis: Analysis) -> list[str]:
    """Write all other findings, one or two sentences each."""
    if analysis.complete.empty:
        return []
    told, others = _movements(analysis)
    return [
        *told[MOST_HEADLINES:],
        *others,
        *_baselines(analysis),
        *told_by_seeds(analysis),
        *certainty_of(analysis).sentences(),
        *gained_by_search(analysis),
        *_importances(analysis),
        *judged_of(analysis).spread(),
        *judged_of(analysis).agreements(),
    ]


def _bounds(analysis: Analysis) -> list[str]:
    if not analysis.constraints:
        return []
    bounds = " and ".join(f"{name} {kind} {number(bound)}" for name, kind, bound in analysis.constraints)
    kept = int(analysis.keeping.sum())
    none = [str(condition) for condition, part in analysis.parts.items() if not part.keeping.any()]
    rest = f"; none of ({joined(none, MOST_NAMED)}) does, so all of these are compared" if none else ""
    rest = rest if kept else "; none does, so what follows is about all complete trials"
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


def _choices(analysis: Analysis) -> list[str]:
    """Name the chosen trial, or that of each condition."""
    if not analysis.per:
        return [_choice(analysis)]
    found = [_choice_in(analysis, condition) for condition in list(analysis.parts)[:MOST_CONDITIONS]]
    more = [f"{condition}: {part.chosen}" for condition, part in list(analysis.parts.items())[MOST_CONDITIONS:]]
    what = "best" if len(analysis.metrics) == 1 else "registered"
    return [*found, *([f"The {what} trials of {len(more)} more: {joined(more, MOST_NAMED)}."] if more else [])]


def _choice_in(analysis: Analysis, condition: Condition) -> str:
    """Name the chosen trial of a condition, with its chance."""
    part = analysis.parts[condition]
    key, complete = part.chosen, len(part.complete)
    setting = f" ({_setting(analysis, key)})" if analysis.parameters else ""
    trial = f"{key}{setting}: {_values(analysis, key)}"
    if complete == 1:
        return f"{condition}: its only complete trial is {trial}."
    if len(analysis.metrics) == 1:
        sure = f"; it is the best with a chance of {Certainty(part).chances[key]:.0%}" if part.draws is not None else ""
        return f"{condition}: the best of {complete} trials on {analysis.metrics[0]} is {trial}{sure}."
    named = joined([*map(str, part.front)], MOST_NAMED)
    knee = part.knee[1] if part.knee else None
    sure = f"; it is the knee with a chance of {knee.chance:.0%}" if knee else ""
    what = "the knee is trial" if part.knee else "registered is the model of trial"
    return (
        f"{condition}: {len(part.front)} of {complete} trials are Pareto-optimal on val: {named}; {what} {trial}{sure}."
    )


def _choice(analysis: Analysis) -> str:
    key = analysis.chosen
    values = f"trial {key} ({_setting(analysis, key)}): {_values(analysis, key)}"
    if len(analysis.metrics) == 1:
        return (
            f"The best trial on {analysis.metrics[0]} is {key} ({_setting(analysis, key)}): {_values(analysis, key)}."
        )
    named = joined([*map(str, analysis.front)], MOST_NAMED)
    front = f"{len(analysis.front)} of {len(analysis.complete)} complete trials are Pareto-optimal on val: {named}."
    if not analysis.knee:
        rule = "the likeliest on the front" if analysis.draws is not None else "the best in the first metric"
        return (
            f"{front} A front of {len(analysis.front)} has no knee; registered is the model of {values}; medians, with "
            f"the range over the replicas. It is {rule}."
        )
    found = analysis.knee[1]
    sure = (
        f" It is the knee with a chance of {found.chance:.0%}, and trial {analysis.front[found.second]} with "
        f"{found.second_chance:.0%}."
        if found
        else ""
    )
    return (
        f"{front} The knee is {values}; medians, with the range over the replicas.{sure} The knee is the trial of the "
        "front that is nearest to the best value of both metrics, each scaled to its range on the front."
    )


def _movements(analysis: Analysis) -> tuple[list[str], list[str]]:
    """Say how the headlines move with each numeric parameter.

    Gives the sentences on parameters with a trend that is told from noise, and those on the others.
    """
    if analysis.per and not analysis.parameters:
        return [], []
    numeric = [name for name in filter(analysis.is_numeric, analysis.parameters) if _values_of(analysis, name) > 2]
    swept = [name for name in numeric if name in analysis.main_parameters]
    pairs = {(name, metric): analysis.rank_correlation(name, metric) for name in swept for metric in analysis.headlines}
    found = {pair: one for pair, one in pairs.items() if one}
    # The main parameters are the most promising of all, so all count.
    tests = len(found) + (len(numeric) - len(swept)) * len(analysis.headlines)
    adjusted = dict(zip(found, holm([one.p for one in found.values()], tests), strict=True))
    trends: list[str] = []
    others: list[str] = []
    for parameter in swept:
        column = analysis.complete[f"param:{parameter}"].dropna().astype(float)
        low, high = column.nsmallest(max(1, len(column) // 4)).index, column.nlargest(max(1, len(column) // 4)).index
        moves = []
        for metric in analysis.headlines:
            if (one := found.get((parameter, metric))) is None:
                continue
            p = adjusted[parameter, metric]
            rho = f"(Spearman {one.rho:+.2f} [{one.low:+.2f} to {one.high:+.2f}], {one.n} trials, {shown_p(p)})"
            if p >= LEVEL:
                moves.append(f"{metric} shows no trend that is told from noise {rho}")
            elif analysis.per:
                way = "rises" if one.rho > 0 else "falls"
                moves.append(f"{metric} {way} in {one.same} of {one.conditions} {rho}")
            else:
                values = analysis.complete[metric]
                a, b = number(values[low].median()), number(values[high].median())
                moves.append(f"{metric} {'rises' if one.rho > 0 else 'falls'} from {a} to {b} {rho}")
        if moves:
            ends = f"{number(column.min())} to {number(column.max())}"
            tells = any(adjusted.get((parameter, metric), 1.0) < LEVEL for metric in analysis.headlines)
            begin = f"As {parameter} rises ({ends}; medians of its lowest and its highest quarter)"
            if analysis.per:
                begin = analysis.begun(f"as {parameter} rises ({ends})")
            (trends if tells else others).append(f"{begin}: {'; '.join(moves)}.")
    return trends, others


def _values_of(analysis: Analysis, parameter: str) -> int:
    return int(analysis.complete[f"param:{parameter}"].nunique())


def _spreads(analysis: Analysis) -> list[str]:
    if analysis.results.replicas.groupby("trial").size().max() < 2:
        return ["Every trial has one replica, so the spread over seeds is unknown; set --replicas to 2 or more."]
    found = {metric: analysis.components(metric) for metric in analysis.headlines}
    return [_spread(analysis, metric, one) for metric, one in found.items() if one]


def _spread(analysis: Analysis, metric: str, found: Components | ComponentsWithin) -> str:
    """Say what part of a metric's variance is of the settings, and what that means."""
    if found.p >= LEVEL:
        meaning = "differences between settings are not told from differences between seeds"
    elif found.share < 0.5:
        meaning = "settings differ, but one seed of a setting tells more of the seed than of the setting"
    else:
        meaning = "settings differ, and one seed of a setting tells more of the setting than of the seed"
    if isinstance(found, ComponentsWithin):
        return (
            analysis.begun(f"settings explain {found.share:.0%} [{found.low:.0%} to {found.high:.0%}] of the variance ")
            + f"of {metric} over the {found.models} models of {found.trials} trials in {found.conditions} conditions, "
            "and seeds the rest (intraclass correlation with its 95 % interval; F tests of all conditions together, "
            f"{shown_p(found.p)}): {meaning}."
        )
    return (
        f"Settings explain {found.share:.0%} [{found.low:.0%} to {found.high:.0%}] of the variance of {metric} over "
        f"the {found.models} models of {found.trials} trials, and seeds the rest (intraclass correlation with its "
        f"95 % interval; F({found.between}, {found.within}) = {found.statistic:.3g}, {shown_p(found.p)}): {meaning}."
    )


def _importances(analysis: Analysis) -> list[str]:
    return [
        _importance(analysis, metric, one) for metric, one in analysis.explained.items() if np.isfinite(one.p).all()
    ]


def _importance(analysis: Analysis, metric: str, found: Explained) -> str:
    """Say what share of a metric's variance the main parameters explain."""
    listed = {*analysis.main_parameters, "all together"}
    shares = [
        f"{share:.0%}" if p < LEVEL else "not told from noise" for share, p in zip(found.shares, found.p, strict=True)
    ]
    named = [
        f"{name} {share} (noise up to {noise:.0%}, {shown_p(p)})"
        for name, share, noise, p in zip(
            [*analysis.everywhere, "all together"], shares, found.noise, found.p, strict=True
        )
        if name in listed
    ]
    spread = analysis.components(metric)
    most = f" At most {spread.reliability:.0%} could be explained; the rest is of the seeds." if spread else ""
    within = f" {analysis.within}" if analysis.per else ""
    return (
        f"Share of the variance of {metric} over the trials' means{within} that a parameter alone explains, each trial "
        f"predicted from the others: {', '.join(named if len(analysis.everywhere) > 1 else named[:1])}.{most}"
    )
