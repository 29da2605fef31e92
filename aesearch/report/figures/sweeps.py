"""Figures of metrics against parameters, and against the number in their name."""

import re
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aesearch.report.analysis import Analysis
from aesearch.report.figures.style import (
    COLOURS,
    MARK,
    MOST_LINES,
    coloured_conditions,
    colouring,
    condition_colours,
    condition_legend,
    error_bars,
    label_log,
    log_where_wide,
    report_figure,
)
from aesearch.report.limits import MOST_METRICS

# The baseline that is drawn beside a metric: its own metric, and its label.
BASELINES = {"test/mse": ("test/pca_mse", "PCA of the same code size")}


def _metrics(analysis: Analysis) -> list[str]:
    """List the metrics on test that no other figure shows, and the headlines."""
    hidden = {"test/loss", "test/bce", *(baseline for baseline, _ in BASELINES.values())}
    hidden |= {metric for members in _families(analysis).values() for _, metric in members}
    # The figure of normalised scores shows the metrics of a protocol, so they are left out here.
    hidden |= set(analysis.tested) - set(analysis.bare) - set(analysis.headlines)
    return [metric for metric in analysis.tested if metric not in hidden]


def _cut(analysis: Analysis) -> str:
    count = len(_metrics(analysis))
    cut = f"{MOST_METRICS} of {count} metrics are drawn; trials.csv has all." if count > MOST_METRICS else ""
    return f"{coloured_conditions(analysis)} {cut}".strip()


@report_figure(
    20,
    "Each metric on test against each swept parameter. The circle marks the knee, or the trial that is registered.",
    cut=_cut,
)
def sweeps(analysis: Analysis) -> Figure | None:
    """Draw every metric on test against every parameter.

    With conditions each has a line, over the parameters that are questions.
    """
    metrics, parameters = _metrics(analysis)[:MOST_METRICS], analysis.main_parameters or list(analysis.per)
    size = (max(5.5, 4.2 * len(parameters)), 2.6 * len(metrics))
    figure, axes = plt.subplots(
        len(metrics), len(parameters), figsize=size, layout="constrained", squeeze=False, sharex="col", sharey="row"
    )
    for row, metric in zip(axes, metrics, strict=True):
        for axis, parameter in zip(row, parameters, strict=True):
            if analysis.per:
                _sweep_of_each(analysis, axis, parameter, metric)
            else:
                _sweep(analysis, axis, parameter, metric)
            axis.set_xlabel(parameter if metric == metrics[-1] else "")
        row[0].set_ylabel(metric)
    condition_legend(figure, condition_colours(analysis))
    return figure


def _sweep_of_each(analysis: Analysis, axis: Axes, parameter: str, metric: str) -> None:
    """Draw a metric against a parameter, with a colour and a line per condition."""
    numeric = analysis.is_numeric(parameter)
    for condition, colour in condition_colours(analysis).items():
        part = analysis.parts[condition]
        frame = part.complete.dropna(subset=[f"param:{parameter}"])
        if numeric:
            frame = frame.sort_values(f"param:{parameter}")
        x = frame[f"param:{parameter}"] if numeric else frame[f"param:{parameter}"].astype(str)
        form = "o-" if numeric and x.is_unique else "o"
        axis.errorbar(
            x, frame[metric], yerr=error_bars(frame, metric), fmt=form, ms=5, lw=1, color=colour, ecolor="0.7"
        )
        if part.chosen in frame.index:
            axis.plot(x[part.chosen], frame[metric][part.chosen], "o", ms=10, mfc="none", mec=MARK, mew=1.4)
    log_where_wide(axis.yaxis, analysis.complete[metric], axis.set_yscale)
    _finish(analysis, axis, parameter, metric)


def _sweep(analysis: Analysis, axis: Axes, parameter: str, metric: str) -> None:
    frame = analysis.complete.dropna(subset=[f"param:{parameter}"])
    numeric = analysis.is_numeric(parameter)
    x = frame[f"param:{parameter}"] if numeric else frame[f"param:{parameter}"].astype(str)
    axis.errorbar(x, frame[metric], yerr=error_bars(frame, metric), fmt="o", ms=5, color="#0072b2", ecolor="0.7")
    if metric in BASELINES and BASELINES[metric][0] in frame:
        baseline, label = BASELINES[metric]
        axis.plot(x, frame[baseline], "s", ms=5, mfc="none", mec="0.35", label=label)
        axis.legend(fontsize=9)
    if analysis.chosen in frame.index:
        axis.plot(x[analysis.chosen], frame[metric][analysis.chosen], "o", ms=11, mfc="none", mec=MARK, mew=1.8)
    _finish(analysis, axis, parameter, metric)


def _finish(analysis: Analysis, axis: Axes, parameter: str, metric: str) -> None:
    """Set the scale and the labels of a parameter, and the title of its correlation."""
    numeric = analysis.is_numeric(parameter)
    if not numeric:
        axis.tick_params(axis="x", rotation=40)
        plt.setp(axis.get_xticklabels(), ha="right", rotation_mode="anchor")
    if analysis.is_log(parameter):
        axis.set_xscale("log")
        label_log(axis.xaxis)
    if numeric:
        found = analysis.rank_correlation(parameter, metric)
        if found:
            title = f"Spearman {found.rho:+.2f} [{found.low:+.2f} to {found.high:+.2f}]"
            axis.set_title(title, fontsize=10, loc="right")


def _families(analysis: Analysis) -> dict[str, list[tuple[float, str]]]:
    """Group the metrics on test that end in a number, such as probe_10 and probe_100.

    The key is the part of the name before the number.
    """
    found: dict[str, list[tuple[float, str]]] = {}
    for metric in analysis.tested:
        if match := re.fullmatch(r"test/(.+)_([0-9.]+)", metric):
            found.setdefault(match[1], []).append((float(match[2]), metric))
    return {name: sorted(members) for name, members in found.items() if len(members) > 1}


def _named(analysis: Analysis, row: "pd.Series[Any]") -> str:
    """Name a trial by its parameters."""
    values = {parameter: row[f"param:{parameter}"] for parameter in analysis.main_parameters}
    return ", ".join(f"{p} = {v:.3g}" if isinstance(v, float) else f"{p} = {v}" for p, v in values.items())


@report_figure(
    30,
    "Metrics with a number in their name, against that number (count of labels, noise on test): median and range over "
    "the replicas.",
)
def families(analysis: Analysis) -> Figure | None:
    """Draw each family of metrics over its number, with a line per trial."""
    found = _families(analysis)
    if not found or len(analysis.complete) > MOST_LINES:
        return None
    labels = [_named(analysis, row) for _, row in analysis.complete.iterrows()]
    size = (4.1 * len(found) + 0.9 + 0.09 * max(map(len, labels)), 4.4)
    figure, axes = plt.subplots(1, len(found), figsize=size, layout="constrained", squeeze=False, sharey=True)
    colours = sns.color_palette(COLOURS if colouring(analysis) else "colorblind", len(analysis.complete))
    for axis, (name, members) in zip(axes[0], found.items(), strict=True):
        numbers, metrics = zip(*members, strict=True)
        for colour, label, (_, row) in zip(colours, labels, analysis.complete.iterrows(), strict=True):
            values = row[list(metrics)].to_numpy(dtype=float)
            ends = row[[f"{metric}_{end}" for end in ("min", "max") for metric in metrics]].to_numpy(dtype=float)
            errors = np.abs(ends.reshape(2, -1) - values)
            axis.errorbar(numbers, values, yerr=errors, fmt="o-", ms=4, color=colour, label=label)
        if numbers[-1] > 8 * numbers[0] > 0:
            axis.set_xscale("log")
        axis.set_xticks(numbers, [f"{value:g}" for value in numbers])
        axis.minorticks_off()
        axis.set_title(name)
    axes[0][0].set_ylabel("on test")
    figure.supxlabel("the number in the metric's name")
    axes[0][-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)
    return figure
