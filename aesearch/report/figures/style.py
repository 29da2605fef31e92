"""Registration, colours, error bars and scales that all figures share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from aesearch.report.analysis import Analysis
from aesearch.report.conditions import Condition

DPI = 110
MARK = "#d55e00"  # vermillion and black of the colour-blind safe Okabe-Ito palette
COLOURS = "viridis"
MOST_LINES = 16
WIDE = 8  # times the least value is the largest of conditions that lie far apart
MOST_PLAIN = 10  # colours of seaborn's palette for the colour-blind


Draw = Callable[[Analysis], Figure | None]
Cut = Callable[[Analysis], str]


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the report.

    place: its place; a report shows figures in the order of their places.
    name: the name of its PNG file, without ending.
    caption: the sentence below it.
    draw: the function that draws it, or returns None where it has nothing to show.
    cut: the function that says what it leaves out of a large study, after the caption; "" where it has all.
    """

    place: int
    name: str
    caption: str
    draw: Draw
    cut: Cut = lambda _: ""


def report_figure(place: int, caption: str, cut: Cut = lambda _: "") -> Callable[[Draw], ReportFigure]:
    """Register a function of the analysis as a figure, named like the function."""
    return lambda draw: ReportFigure(place, draw.__name__, caption, draw, cut)


def save(figure: Figure, path: Path) -> None:
    """Lay a figure out, write it as PNG, and forget it.

    Matplotlib would lay it out twice while it writes, which takes longer than drawing.
    """
    figure.set_dpi(DPI)
    if layout := figure.get_layout_engine():
        layout.execute(figure)
        figure.set_layout_engine("none")
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def error_bars(frame: pd.DataFrame, metric: str) -> NDArray[np.float64]:
    """Compute the distances from the median to the least and the most, (2, N)."""
    ends = frame[[f"{metric}_min", f"{metric}_max"]].to_numpy(dtype=float)
    return np.asarray(np.abs(ends - frame[[metric]].to_numpy(dtype=float)).T)


def colouring(analysis: Analysis) -> tuple[str, Normalize] | None:
    """Choose the most important numeric parameter, and the scale of its colours.

    Returns None where no parameter is numeric, known of all trials and varied.
    """
    for parameter in analysis.parameters:
        values = analysis.complete[f"param:{parameter}"]
        if analysis.is_numeric(parameter) and values.notna().all() and values.nunique() > 1:
            scale = LogNorm if analysis.is_log(parameter) else Normalize
            return parameter, scale(float(values.min()), float(values.max()))
    return None


def colour_bar(figure: Figure, axes: Any, coloured: tuple[str, Normalize] | None) -> None:
    """Draw the scale of ``colouring`` beside the axes, if there is one."""
    if coloured:
        parameter, norm = coloured
        bar = figure.colorbar(plt.cm.ScalarMappable(norm, COLOURS), ax=axes, label=parameter)
        if isinstance(norm, LogNorm):
            label_log(bar.ax.yaxis)


def condition_colours(analysis: Analysis) -> dict[Condition, Any]:
    """Choose a colour for each condition; empty without conditions."""
    count = len(analysis.parts)
    palette = sns.color_palette("colorblind" if count <= MOST_PLAIN else COLOURS, count)
    return dict(zip(analysis.parts, palette, strict=True))


def condition_legend(figure: Figure, colours: dict[Condition, Any]) -> None:
    """Name the conditions right of the figure, if they are few enough."""
    if 0 < len(colours) <= MOST_LINES:
        lines = [Line2D([], [], color=colour, marker="o") for colour in colours.values()]
        figure.legend(lines, list(map(str, colours)), loc="outside right upper", frameon=False, fontsize=9)


def log_where_wide(axis: Axis, values: "pd.Series[Any]", set_scale: Callable[[str], None]) -> None:
    """Give an axis a log scale where conditions lie far apart on it.

    axis, set_scale: such as ``axes.xaxis`` and ``axes.set_xscale``. values: that are drawn.
    """
    known = values.dropna()
    if len(known) and known.min() > 0 and known.max() > WIDE * known.min():
        set_scale("log")
        label_log(axis)


def coloured_conditions(analysis: Analysis) -> str:
    """Say what colours mean where they are of conditions."""
    return f"A colour is a condition ({', '.join(analysis.per)})." if analysis.per else ""


def label_log(axis: Axis) -> None:
    """Label 1, 2 and 5 of each decade as plain numbers.

    A range is often less than a decade, where labels at powers of ten would say little.
    """
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
