"""Figure of the plane of both searched metrics."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aesearch.report.analysis import Analysis
from aesearch.report.figures.style import (
    COLOURS,
    MARK,
    MOST_LINES,
    colour_bar,
    coloured_conditions,
    colouring,
    condition_colours,
    condition_legend,
    error_bars,
    log_where_wide,
    report_figure,
)


@report_figure(
    10,
    "The two searched metrics of each complete trial: median over its replicas, bars from least to most.",
    cut=coloured_conditions,
)
def plane(analysis: Analysis) -> Figure | None:
    """Draw both searched metrics against each other.

    The front is found on val, on the left; the same trials on test are on the right.
    """
    if len(analysis.metrics) != 2:
        return None
    figure, axes = plt.subplots(1, 2, figsize=(12, 5.2), layout="constrained")
    for axis, tested in zip(axes, (False, True), strict=True):
        x, y = (analysis.test_name(metric) if tested else metric for metric in analysis.metrics)
        if analysis.per:
            _fronts(analysis, axis, x, y)
        else:
            _plane(analysis, axis, x, y)
        axis.set_title("test: measured once, at the end" if tested else "val: searched")
    axes[0].legend(loc="best")
    if analysis.per:
        condition_legend(figure, condition_colours(analysis))
    else:
        colour_bar(figure, axes, colouring(analysis))
    return figure


def _fronts(analysis: Analysis, axis: Axes, x: str, y: str) -> None:
    """Draw the trials and the front of each condition in its colour."""
    for number, (condition, colour) in enumerate(condition_colours(analysis).items()):
        part = analysis.parts[condition]
        across, along = error_bars(part.complete, x), error_bars(part.complete, y)
        axis.errorbar(
            part.complete[x], part.complete[y], along, across, "o", ms=6, color=colour, ecolor="0.8", zorder=2
        )
        front, chosen = part.complete.loc[part.front], part.complete.loc[part.chosen]
        labels = (None, None) if number else ("Pareto front on val of a condition", "its knee, or what is registered")
        axis.plot(front[x], front[y], color=colour, lw=1.5, zorder=3, label=labels[0])
        axis.plot(chosen[x], chosen[y], "o", ms=13, mfc="none", mec=MARK, mew=1.8, zorder=4, label=labels[1], ls="")
    log_where_wide(axis.xaxis, analysis.complete[x], axis.set_xscale)
    log_where_wide(axis.yaxis, analysis.complete[y], axis.set_yscale)
    axis.set(xlabel=x, ylabel=y)


def _plane(analysis: Analysis, axis: Axes, x: str, y: str) -> None:
    complete = analysis.complete
    axis.errorbar(
        complete[x],
        complete[y],
        xerr=error_bars(complete, x),
        yerr=error_bars(complete, y),
        fmt="none",
        ecolor="0.7",
        elinewidth=1,
        zorder=1,
    )
    coloured = colouring(analysis)
    colours: dict[str, Any] = (
        {"c": complete[f"param:{coloured[0]}"], "norm": coloured[1], "cmap": COLOURS} if coloured else {}
    )
    axis.scatter(complete[x], complete[y], s=55, edgecolor="white", zorder=3, **colours)
    if not coloured and len(analysis.parameters) == 1 and len(complete) <= MOST_LINES:
        for name, a, b in zip(complete[f"param:{analysis.parameters[0]}"], complete[x], complete[y], strict=True):
            axis.annotate(str(name), (a, b), xytext=(6, 5), textcoords="offset points", fontsize=9, zorder=5)
    front = complete.loc[analysis.front]
    axis.plot(front[x], front[y], color=MARK, lw=1.5, zorder=2, label="Pareto front on val")
    chosen = complete.loc[analysis.chosen]
    label = f"{'knee' if analysis.knee else 'registered'}: trial {analysis.chosen}"
    axis.scatter(chosen[x], chosen[y], s=190, facecolor="none", edgecolor=MARK, lw=2, zorder=4, label=label)
    axis.set(xlabel=x, ylabel=y)
