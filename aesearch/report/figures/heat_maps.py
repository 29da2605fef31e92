"""Figures of tables of numbers, as heat maps."""

from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from seaborn.utils import relative_luminance

from aesearch.report.analysis import Analysis
from aesearch.report.code_maps import code_map
from aesearch.report.figures.style import COLOURS, report_figure
from aesearch.report.judged import judged_of
from aesearch.report.limits import MOST_NUMBERS, MOST_SCORED, spaced

BINS = 4
MOST_CODES = 16


def _draw_table(
    axis: Axes,
    table: pd.DataFrame,
    form: str,
    colours: str,
    ends: tuple[float | None, float | None] = (None, None),
    size: float | None = None,
    label: str = "",
    shades: pd.DataFrame | None = None,
) -> None:
    """Draw a table as cells of colour; NaN stays empty.

    Unless they are too many, each has its number.

    It looks like seaborn's heatmap, which draws the whole figure each time to see whether labels overlap.

    form, size: of the numbers. ends: of the scale of colours. label: of the colour bar; without one there is none.
    shades: what the colours are of, if not the numbers.
    """
    values = np.ma.masked_invalid(table.to_numpy(dtype=float))
    rows, columns = values.shape
    shown = values if shades is None else np.ma.masked_invalid(shades.to_numpy(dtype=float))
    cells = axis.pcolormesh(shown, cmap=colours, vmin=ends[0], vmax=ends[1])
    axis.set_xticks(np.arange(columns) + 0.5, table.columns)
    axis.set_yticks(np.arange(rows) + 0.5, table.index)
    axis.set_ylim(rows, 0)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    numbered = ~np.ma.getmaskarray(values) & (values.size <= MOST_NUMBERS)
    for i, j in zip(*np.nonzero(numbered), strict=True):
        light = relative_luminance(cells.cmap(cells.norm(shown[i, j]))) > 0.408
        # The numbers lie inside the axes, so the layout need not look at each.
        number = axis.text(j + 0.5, i + 0.5, f"{values[i, j]:{form}}", ha="center", va="center", size=size)
        number.set(color=".15" if light else "w", in_layout=False)
    if label:
        axis.figure.colorbar(cells, ax=axis, label=label).outline.set_linewidth(0)


def _kept(analysis: Analysis) -> list[int]:
    """Choose the trials whose scores fit on a page.

    They are chosen evenly along the most important parameter, and with those whose pictures are shown.
    """
    parameter = analysis.parameters[0]
    numeric = analysis.is_numeric(parameter)
    ordered = analysis.complete.sort_values(f"param:{parameter}") if numeric else analysis.complete
    return spaced([int(str(key)) for key in ordered.index], MOST_SCORED, analysis.shown.values())


def _thinned(analysis: Analysis) -> str:
    kept, complete = len(_kept(analysis)), len(analysis.complete)
    thinned = f"{kept} of {complete:,} complete trials are drawn, evenly chosen." if kept < complete else ""
    return f"{thinned} {_unnumbered(kept * len(judged_of(analysis).labelled))}".strip()


def _unnumbered(cells: int) -> str:
    return f"The {cells:,} cells have no room for numbers." if cells > MOST_NUMBERS else ""


@report_figure(
    40,
    "Each metric that has a protocol, on a scale from its floor, 0 % (codes of noise), to its ceiling, 100 % (the "
    "factors themselves as codes). Values are medians over the replicas.",
    cut=_thinned,
)
def scores(analysis: Analysis) -> Figure | None:
    """Draw every metric that has a floor and a ceiling, normalised between them.

    A row is a trial. Rows are in the order of the most important parameter.
    """
    judged = judged_of(analysis)
    parameter = analysis.parameters[0] if analysis.parameters else None
    if not judged.labelled or parameter is None:
        return None
    kept = _kept(analysis)
    table = pd.DataFrame(
        {metric.removeprefix("test/"): [judged.normalised(key, metric) for key in kept] for metric in judged.labelled},
        index=pd.Index([_row_name(analysis, key, parameter) for key in kept]),
    )
    size = (3.2 + 0.62 * table.shape[1], 2.6 + 0.32 * len(table))
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    _draw_table(axis, 100 * table, ".0f", COLOURS, (0, 100), 9, "% of the way from floor to ceiling")
    axis.tick_params(axis="x", rotation=50)
    plt.setp(axis.get_xticklabels(), ha="right", rotation_mode="anchor")
    axis.tick_params(axis="y", rotation=0)
    return figure


def _row_name(analysis: Analysis, key: int, parameter: str) -> str:
    value = analysis.complete.loc[key, f"param:{parameter}"]
    what = next((f", {what}" for what, k in analysis.shown.items() if k == key), "")
    shown = f"{value:.3g}" if isinstance(value, float) else str(value)
    return f"trial {key}, {parameter} {shown}{what}"


@report_figure(
    50,
    "Which code informs about which factor. Left: mutual information as a share of the factor's entropy (20 bins, at "
    "most 2,000 images of val). Right: importance of the code to boosted trees that predict the factor. Codes are in "
    "the order of their KL.",
)
def code_maps(analysis: Analysis) -> Figure | None:
    """Draw the information of codes about factors, for each shown trial."""
    # The same trial may be shown for two reasons.
    found = {key: code_map(analysis.results.pictures[key]) for key in set(analysis.shown.values())}
    maps = {what: one for what, key in analysis.shown.items() if (one := found[key]) is not None}
    if not maps:
        return None
    rows = [min(MOST_CODES, len(one.kl)) for one in maps.values()]
    widest = max(len(one.names) for one in maps.values())
    figure, axes = plt.subplots(
        len(maps),
        2,
        figsize=(3.4 + 1.5 * widest, sum(0.34 * count + 1.1 for count in rows)),
        squeeze=False,
        height_ratios=rows,
        layout="constrained",
    )
    for line, (what, one), count in zip(axes, maps.items(), rows, strict=True):
        order = np.argsort(-one.kl, kind="stable")[:count]
        codes = [f"code {j} ({one.kl[j]:.2g} nats)" for j in order]
        for axis, values, title in zip(
            line, (one.information, one.importance), ("mutual information", "importance (DCI)"), strict=True
        ):
            table = pd.DataFrame(values[order], index=pd.Index(codes), columns=pd.Index(one.names))
            _draw_table(axis, table, ".2f", "Blues", (0, 1), 9)
            if values is not one.information:
                axis.set_yticks([])
            key = analysis.shown[what]
            axis.set_title(f"{what}: trial {key}, {title}" if values is one.information else title, fontsize=11)
            axis.tick_params(axis="x", rotation=0)
            axis.tick_params(axis="y", rotation=0)
    return figure


@report_figure(
    60,
    "Rank correlations between metrics. Each replica of each complete trial counts as one model.",
    cut=lambda analysis: _unnumbered(judged_of(analysis).correlations.size),
)
def agreement(analysis: Analysis) -> Figure | None:
    """Draw the rank correlations between the metrics over all models."""
    table = judged_of(analysis).correlations
    if table.empty:
        return None
    names = [str(name).removeprefix("test/") for name in table.columns]
    side = 2.6 + 0.46 * len(names)
    figure, axis = plt.subplots(figsize=(side + 1, side), layout="constrained")
    named = table.set_axis(names, axis=0).set_axis(names, axis=1)
    _draw_table(axis, named, ".1f", "vlag", (-1, 1), 8, "Spearman's rho over the models")
    axis.set_aspect("equal")
    axis.tick_params(axis="x", rotation=50)
    plt.setp(axis.get_xticklabels(), ha="right", rotation_mode="anchor")
    axis.tick_params(axis="y", rotation=0)
    return figure


def _shaded(analysis: Analysis) -> str:
    what = "One side are the conditions. Colours go from the least to the most of each, so they do not compare them."
    return what if analysis.per else ""


@report_figure(
    70,
    "The searched metrics on test over the two most important parameters. A cell is a mean over trials.",
    cut=_shaded,
)
def heat_map(analysis: Analysis) -> Figure | None:
    """Draw the searched metrics over the two most important parameters, in cells.

    With conditions these are one side.
    """
    conditions = [", ".join(analysis.per)] if analysis.per else []
    sides = [*conditions, *analysis.parameters][:2]
    if len(sides) < 2:
        return None
    first, second = sides
    metrics = analysis.headlines
    cells = pd.DataFrame({second: _cells(analysis, second)})
    cells[first] = _condition_cells(analysis) if conditions else _cells(analysis, first)
    width = max(6.4, 2.2 + 0.72 * cells[first].nunique())
    figure, axes = plt.subplots(
        1, len(metrics), figsize=(width * len(metrics), 4.6), layout="constrained", squeeze=False
    )
    for axis, metric in zip(axes[0], metrics, strict=True):
        table = cells.assign(value=analysis.complete[metric]).pivot_table(
            index=second, columns=first, values="value", observed=False, dropna=False
        )
        if conditions:
            spans = table.max() - table.min()
            shades = (table - table.min()) / spans.where(spans > 0)
            _draw_table(axis, table.iloc[::-1], ".3g", COLOURS, (0, 1), shades=shades.fillna(0.5).iloc[::-1])
        else:
            _draw_table(axis, table.iloc[::-1], ".3g", COLOURS, label=metric)
        axis.set(xlabel=first, ylabel=second, title=metric)
        axis.tick_params(axis="x", rotation=30)
        axis.tick_params(axis="y", rotation=0)
    return figure


def _condition_cells(analysis: Analysis) -> "pd.Series[Any]":
    """Name the condition of each complete trial, by its values."""
    names = [", ".join(str(value) for _, value in condition.values) for condition in analysis.parts]
    places = {condition: place for place, condition in enumerate(analysis.parts)}
    codes = [places[analysis.condition[key]] for key in analysis.complete.index]
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index(names), ordered=True), index=analysis.complete.index)


def _cells(analysis: Analysis, parameter: str) -> "pd.Series[Any]":
    """Cut a parameter's values into a few ranges of equal width on its own scale."""
    values = analysis.complete[f"param:{parameter}"]
    if not analysis.is_numeric(parameter) or values.nunique() <= BINS:
        return values.astype("category")
    numbers = values.astype(float)
    space = np.geomspace if analysis.is_log(parameter) else np.linspace
    edges = space(numbers.min(), numbers.max(), BINS + 1)
    edges[-1] = np.nextafter(edges[-1], np.inf)
    whole = bool((numbers == numbers.round()).all())
    ends = [(np.ceil(a), np.ceil(b) - 1) if whole else (a, b) for a, b in pairwise(edges)]
    if whole:
        ends[-1] = (ends[-1][0], numbers.max())
    labels = [f"{a:.3g} to {b:.3g}" for a, b in ends]
    cell = np.searchsorted(edges, numbers, side="right") - 1
    return pd.Series(pd.Categorical.from_codes(cell, pd.Index(labels), ordered=True), index=numbers.index)
