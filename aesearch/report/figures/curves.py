"""Figures of importances and learning curves."""

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure

from aesearch.report.analysis import Analysis
from aesearch.report.figures.style import (
    COLOURS,
    MARK,
    colour_bar,
    coloured_conditions,
    colouring,
    condition_colours,
    condition_legend,
    label_log,
    report_figure,
)
from aesearch.report.limits import MOST_CURVES, spaced


@report_figure(
    80,
    "Share of the variance of each searched metric over trials that each parameter alone explains, cross-validated. "
    "The line is what noise stays below in 95 % of cases.",
    cut=lambda analysis: f"All {analysis.within}." if analysis.per else "",
)
def importance(analysis: Analysis) -> Figure | None:
    """Draw the share of each searched metric's variance that each parameter explains."""
    if analysis.importance.empty:
        return None
    shares = analysis.importance
    shares = shares.loc[:, shares.columns.isin(analysis.main_parameters)]
    table = shares.rename_axis("metric").reset_index()
    table = table.melt("metric", var_name="parameter", value_name="importance")
    figure, axis = plt.subplots(figsize=(7, 1.6 + 0.7 * len(shares.columns)), layout="constrained")
    sns.barplot(table, x="importance", y="parameter", hue="metric", palette="colorblind", ax=axis)
    drawn = [analysis.everywhere.index(name) for name in shares.columns]
    for bars, found in zip(axis.containers, analysis.explained.values(), strict=True):
        for bar, noise in zip(bars, found.noise[drawn], strict=True):
            axis.vlines(noise, bar.get_y(), bar.get_y() + bar.get_height(), color=MARK, lw=2)
    axis.set(xlabel="share of the variance explained, cross-validated", ylabel="", xlim=(0, 1))
    sns.move_legend(axis, "upper left", bbox_to_anchor=(1, 1), title=None, frameon=False)
    return figure


def _drawn(analysis: Analysis) -> list[int]:
    """Choose the trials that are drawn, evenly, and those that are registered."""
    return spaced(analysis.results.history["trial"].unique().tolist(), MOST_CURVES, analysis.choices.values())


def _thinned(analysis: Analysis) -> str:
    drawn, trials = len(_drawn(analysis)), analysis.results.history["trial"].nunique()
    thinned = f"{drawn} of {trials:,} trials are drawn, evenly chosen." if drawn < trials else ""
    thick = f"{coloured_conditions(analysis)} The registered trial of each is thick." if analysis.per else ""
    return f"{thick} {thinned}".strip()


@report_figure(
    90, "The searched metrics after each epoch: a line per trial, the median over its replicas.", cut=_thinned
)
def learning_curves(analysis: Analysis) -> Figure | None:
    """Draw the searched metrics over the epochs.

    A line is the median over the replicas of a trial; the chosen trial also has its range. With conditions each has a
    colour.
    """
    history = analysis.results.history
    history = history[history["trial"].isin(_drawn(analysis))]
    metrics = [metric for metric in analysis.metrics if metric in history] or ["val/loss"]
    figure, axes = plt.subplots(1, len(metrics), figsize=(6.2 * len(metrics), 4.4), layout="constrained", squeeze=False)
    coloured, of_condition = None if analysis.per else colouring(analysis), condition_colours(analysis)
    for axis, metric in zip(axes[0], metrics, strict=True):
        spread = history.groupby(["trial", "epoch"])[metric].agg(["median", "min", "max"])
        for key in spread.index.unique("trial"):
            colour: object = "0.6"
            if coloured and key in analysis.complete.index:
                parameter, norm = coloured
                colour = plt.colormaps[COLOURS](norm(float(analysis.complete.loc[key, f"param:{parameter}"])))
            if key in analysis.condition:
                colour = of_condition[analysis.condition[key]]
            axis.plot(spread.loc[key].index, spread.loc[key]["median"], color=colour, lw=1.2, alpha=0.9)
        for key in analysis.choices.values():
            chosen = spread.loc[key]
            colour = of_condition[analysis.condition[key]] if analysis.per else MARK
            label = "" if analysis.per else f"{next(iter(analysis.shown))}: trial {key}"
            axis.plot(chosen.index, chosen["median"], color=colour, lw=2.2, label=label)
            axis.fill_between(chosen.index, chosen["min"], chosen["max"], color=colour, alpha=0.2, lw=0)
        axis.set(xlabel="epoch", ylabel=metric)
        axis.xaxis.get_major_locator().set_params(integer=True)
        values = history[metric].dropna()
        if values.min() > 0 and values.max() / values.min() > 5:
            axis.set_yscale("log")
            label_log(axis.yaxis)
    if analysis.per:
        condition_legend(figure, of_condition)
    else:
        axes[0][0].legend(loc="best")
    colour_bar(figure, axes, coloured)
    return figure
