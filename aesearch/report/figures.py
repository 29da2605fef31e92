"""The figures of a report. Each is a function of the analysis; it returns None where it has nothing to show."""

import re
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from aesearch.report.analysis import Analysis
from aesearch.report.code_maps import code_map
from aesearch.report.judged import Judged

DPI = 110
MARK = "#d55e00"  # vermillion and black of the colour-blind safe Okabe-Ito palette
COLOURS = "viridis"
BINS = 4
MOST_LINES = 16
MOST_CODES = 16
MOST_ROWS = 40
# What a metric is held against, and what to call it.
BASELINES = {"test/mse": ("test/pca_mse", "PCA of the same code size")}


def draw_figures(analysis: Analysis, folder: Path) -> dict[str, str]:
    """Draw every figure that has something to show into ``folder``: captions by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    captions = {}
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"), warnings.catch_warnings():
        # seaborn 0.13 still passes an argument that matplotlib 3.11 has renamed.
        warnings.filterwarnings("ignore", category=matplotlib.MatplotlibDeprecationWarning)
        for name, (draw, caption) in FIGURES.items():
            figure = draw(analysis) if len(analysis.complete) else None
            if figure is not None:
                figure.savefig(folder / f"{name}.png", dpi=DPI)
                plt.close(figure)
                captions[f"{name}.png"] = caption
    return captions


def _errors(frame: pd.DataFrame, metric: str) -> NDArray[np.float64]:
    """Distances below and above the median, (2, N)."""
    ends = frame[[f"{metric}_min", f"{metric}_max"]].to_numpy(dtype=float)
    return np.asarray(np.abs(ends - frame[[metric]].to_numpy(dtype=float)).T)


def _colouring(analysis: Analysis) -> tuple[str, Normalize] | None:
    """The most important numeric parameter and the scale of its colours."""
    for parameter in analysis.parameters:
        values = analysis.complete[f"param:{parameter}"]
        if analysis.is_numeric(parameter) and values.notna().all() and values.nunique() > 1:
            scale = LogNorm if analysis.is_log(parameter) else Normalize
            return parameter, scale(float(values.min()), float(values.max()))
    return None


def _colour_bar(figure: Figure, axes: Any, colouring: tuple[str, Normalize] | None) -> None:
    if colouring:
        parameter, norm = colouring
        bar = figure.colorbar(plt.cm.ScalarMappable(norm, COLOURS), ax=axes, label=parameter)
        if isinstance(norm, LogNorm):
            _label_log(bar.ax.yaxis)


def _label_log(axis: Axis) -> None:
    """Labels at 1, 2 and 5 of each decade, as plain numbers: a range is often less than a decade."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def plane(analysis: Analysis) -> Figure | None:
    """Both searched metrics against each other, on val, where the front is found, and on test."""
    if len(analysis.metrics) != 2:
        return None
    figure, axes = plt.subplots(1, 2, figsize=(12, 5.2), layout="constrained")
    for axis, tested in zip(axes, (False, True), strict=True):
        x, y = (analysis.test_name(metric) if tested else metric for metric in analysis.metrics)
        _plane(analysis, axis, x, y)
        axis.set_title("test: measured once, at the end" if tested else "val: searched")
    axes[0].legend(loc="best")
    _colour_bar(figure, axes, _colouring(analysis))
    return figure


def _plane(analysis: Analysis, axis: Axes, x: str, y: str) -> None:
    complete = analysis.complete
    axis.errorbar(
        complete[x],
        complete[y],
        xerr=_errors(complete, x),
        yerr=_errors(complete, y),
        fmt="none",
        ecolor="0.7",
        elinewidth=1,
        zorder=1,
    )
    colouring = _colouring(analysis)
    colours: dict[str, Any] = (
        {"c": complete[f"param:{colouring[0]}"], "norm": colouring[1], "cmap": COLOURS} if colouring else {}
    )
    axis.scatter(complete[x], complete[y], s=55, edgecolor="white", zorder=3, **colours)
    if not colouring and len(analysis.parameters) == 1 and len(complete) <= MOST_LINES:
        for name, a, b in zip(complete[f"param:{analysis.parameters[0]}"], complete[x], complete[y], strict=True):
            axis.annotate(str(name), (a, b), xytext=(6, 5), textcoords="offset points", fontsize=9, zorder=5)
    front = complete.loc[analysis.front]
    axis.plot(front[x], front[y], color=MARK, lw=1.5, zorder=2, label="Pareto front on val")
    knee = complete.loc[analysis.knee]
    axis.scatter(
        knee[x], knee[y], s=190, facecolor="none", edgecolor=MARK, lw=2, zorder=4, label=f"knee: trial {analysis.knee}"
    )
    axis.set(xlabel=x, ylabel=y)


def sweeps(analysis: Analysis) -> Figure | None:
    """Every metric on test against every parameter."""
    hidden = {"test/loss", "test/bce", *(baseline for baseline, _ in BASELINES.values())}
    hidden |= {metric for members in _families(analysis).values() for _, metric in members}
    # What has a protocol of its own is in the figure of normalised scores.
    hidden |= set(analysis.tested) - set(analysis.bare) - set(analysis.headlines)
    metrics = [m for m in analysis.tested if m not in hidden]
    parameters = analysis.parameters
    size = (max(5.5, 4.2 * len(parameters)), 2.6 * len(metrics))
    figure, axes = plt.subplots(
        len(metrics), len(parameters), figsize=size, layout="constrained", squeeze=False, sharex="col", sharey="row"
    )
    for row, metric in zip(axes, metrics, strict=True):
        for axis, parameter in zip(row, parameters, strict=True):
            _sweep(analysis, axis, parameter, metric)
            axis.set_xlabel(parameter if metric == metrics[-1] else "")
        row[0].set_ylabel(metric)
    return figure


def _sweep(analysis: Analysis, axis: Axes, parameter: str, metric: str) -> None:
    frame = analysis.complete.dropna(subset=[f"param:{parameter}"])
    numeric = analysis.is_numeric(parameter)
    x = frame[f"param:{parameter}"] if numeric else frame[f"param:{parameter}"].astype(str)
    axis.errorbar(x, frame[metric], yerr=_errors(frame, metric), fmt="o", ms=5, color="#0072b2", ecolor="0.7")
    if metric in BASELINES and BASELINES[metric][0] in frame:
        baseline, label = BASELINES[metric]
        axis.plot(x, frame[baseline], "s", ms=5, mfc="none", mec="0.35", label=label)
        axis.legend(fontsize=9)
    if analysis.knee in frame.index:
        axis.plot(x[analysis.knee], frame[metric][analysis.knee], "o", ms=11, mfc="none", mec=MARK, mew=1.8)
    if not numeric:
        axis.tick_params(axis="x", rotation=40)
        plt.setp(axis.get_xticklabels(), ha="right", rotation_mode="anchor")
    if analysis.is_log(parameter):
        axis.set_xscale("log")
        _label_log(axis.xaxis)
    if numeric:
        rho = analysis.rank_correlation(parameter, metric)
        if np.isfinite(rho):
            axis.set_title(f"Spearman {rho:+.2f}", fontsize=10, loc="right")


def _families(analysis: Analysis) -> dict[str, list[tuple[float, str]]]:
    """Metrics on test that end in a number, such as probe_10 and probe_100: by what comes before it."""
    found: dict[str, list[tuple[float, str]]] = {}
    for metric in analysis.tested:
        if match := re.fullmatch(r"test/(.+)_([0-9.]+)", metric):
            found.setdefault(match[1], []).append((float(match[2]), metric))
    return {name: sorted(members) for name, members in found.items() if len(members) > 1}


def _named(analysis: Analysis, row: "pd.Series[Any]") -> str:
    """A trial by its parameters."""
    values = {parameter: row[f"param:{parameter}"] for parameter in analysis.parameters}
    return ", ".join(f"{p} = {v:.3g}" if isinstance(v, float) else f"{p} = {v}" for p, v in values.items())


def families(analysis: Analysis) -> Figure | None:
    """Each family of metrics over its number, a line per trial, in the colour of its parameters."""
    found = _families(analysis)
    if not found or len(analysis.complete) > MOST_LINES:
        return None
    labels = [_named(analysis, row) for _, row in analysis.complete.iterrows()]
    size = (4.1 * len(found) + 0.9 + 0.09 * max(map(len, labels)), 4.4)
    figure, axes = plt.subplots(1, len(found), figsize=size, layout="constrained", squeeze=False, sharey=True)
    colours = sns.color_palette(COLOURS if _colouring(analysis) else "colorblind", len(analysis.complete))
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


def heat_map(analysis: Analysis) -> Figure | None:
    """The searched metrics over the two most important parameters, averaged in cells."""
    if len(analysis.parameters) < 2:
        return None
    first, second = analysis.parameters[:2]
    metrics = analysis.headlines
    cells = pd.DataFrame({first: _cells(analysis, first), second: _cells(analysis, second)})
    width = max(6.4, 2.2 + 0.72 * cells[first].nunique())
    figure, axes = plt.subplots(
        1, len(metrics), figsize=(width * len(metrics), 4.6), layout="constrained", squeeze=False
    )
    for axis, metric in zip(axes[0], metrics, strict=True):
        table = cells.assign(value=analysis.complete[metric]).pivot_table(
            index=second, columns=first, values="value", observed=False, dropna=False
        )
        sns.heatmap(table.iloc[::-1], ax=axis, cmap=COLOURS, annot=True, fmt=".3g", cbar_kws={"label": metric})
        axis.set(xlabel=first, ylabel=second, title=metric)
        axis.grid(visible=False)
        axis.tick_params(axis="x", rotation=30)
        axis.tick_params(axis="y", rotation=0)
    return figure


def _cells(analysis: Analysis, parameter: str) -> "pd.Series[Any]":
    """The parameter's values cut into a few ranges, equal on its own scale."""
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


def learning_curves(analysis: Analysis) -> Figure | None:
    """The searched metrics over the epochs: a line per trial (median of its replicas), the knee with its range."""
    history = analysis.results.history
    metrics = [metric for metric in analysis.metrics if metric in history] or ["val/loss"]
    figure, axes = plt.subplots(1, len(metrics), figsize=(6.2 * len(metrics), 4.4), layout="constrained", squeeze=False)
    colouring = _colouring(analysis)
    for axis, metric in zip(axes[0], metrics, strict=True):
        spread = history.groupby(["trial", "epoch"])[metric].agg(["median", "min", "max"])
        for key in spread.index.unique("trial"):
            colour: object = "0.6"
            if colouring and key in analysis.complete.index:
                parameter, norm = colouring
                colour = plt.colormaps[COLOURS](norm(float(analysis.complete.loc[key, f"param:{parameter}"])))
            axis.plot(spread.loc[key].index, spread.loc[key]["median"], color=colour, lw=1.2, alpha=0.9)
        knee = spread.loc[analysis.knee]
        label = f"{next(iter(analysis.shown))}: trial {analysis.knee}"
        axis.plot(knee.index, knee["median"], color=MARK, lw=2.2, label=label)
        axis.fill_between(knee.index, knee["min"], knee["max"], color=MARK, alpha=0.2, lw=0)
        axis.set(xlabel="epoch", ylabel=metric)
        axis.xaxis.get_major_locator().set_params(integer=True)
        values = history[metric].dropna()
        if values.min() > 0 and values.max() / values.min() > 5:
            axis.set_yscale("log")
            _label_log(axis.yaxis)
    axes[0][0].legend(loc="best")
    _colour_bar(figure, axes, colouring)
    return figure


def importance(analysis: Analysis) -> Figure | None:
    """How much of each searched metric's variance each parameter explains."""
    if analysis.importance.empty:
        return None
    table = analysis.importance.rename_axis("metric").reset_index()
    table = table.melt("metric", var_name="parameter", value_name="importance")
    figure, axis = plt.subplots(figsize=(7, 1.6 + 0.7 * len(analysis.importance.columns)), layout="constrained")
    sns.barplot(table, x="importance", y="parameter", hue="metric", palette="colorblind", ax=axis)
    axis.set(xlabel="share of the variance explained (fANOVA)", ylabel="", xlim=(0, 1))
    sns.move_legend(axis, "upper left", bbox_to_anchor=(1, 1), title=None, frameon=False)
    return figure


def _pictures(analysis: Analysis, name: str) -> Figure | None:
    """One picture of each shown trial, below each other."""
    found = {
        what: analysis.results.pictures[key] / f"{name}.png"
        for what, key in analysis.shown.items()
        if (analysis.results.pictures[key] / f"{name}.png").exists()
    }
    if not found:
        return None
    pictures = {what: plt.imread(path) for what, path in found.items()}
    width = max(picture.shape[1] for picture in pictures.values())
    heights = [picture.shape[0] for picture in pictures.values()]
    inches = 8.0
    scale = inches / width
    figure, axes = plt.subplots(
        len(pictures),
        1,
        figsize=(inches, scale * sum(heights) + 0.42 * len(pictures)),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    for axis, (what, picture) in zip(axes[:, 0], pictures.items(), strict=True):
        key = analysis.shown[what]
        axis.imshow(picture, cmap="gray", interpolation="nearest")
        axis.set_axis_off()
        axis.set_title(f"{what}: trial {key}, {_describe(analysis, key)}", fontsize=11, loc="left")
    return figure


def _describe(analysis: Analysis, key: int) -> str:
    row = analysis.complete.loc[key]
    values = {name: row[f"param:{name}"] for name in analysis.distributions if pd.notna(row[f"param:{name}"])}
    return ", ".join(f"{n} {v:.3g}" if isinstance(v, int | float) else f"{n} {v}" for n, v in values.items())


def scores(analysis: Analysis) -> Figure | None:
    """Every metric that has a floor and a ceiling, normalised between them: a row per trial, along the parameter."""
    judged = Judged(analysis)
    parameter = analysis.parameters[0] if analysis.parameters else None
    if not judged.labelled or parameter is None:
        return None
    ordered = (
        analysis.complete.sort_values(f"param:{parameter}") if analysis.is_numeric(parameter) else analysis.complete
    )
    # Evenly along the parameter, where there are too many for a page.
    kept = ordered.iloc[np.unique(np.linspace(0, len(ordered) - 1, min(MOST_ROWS, len(ordered))).round().astype(int))]
    table = pd.DataFrame(
        {
            metric.removeprefix("test/"): [judged.normalised(int(str(key)), metric) for key in kept.index]
            for metric in judged.labelled
        },
        index=pd.Index([_row_name(analysis, int(str(key)), parameter) for key in kept.index]),
    )
    size = (3.2 + 0.62 * table.shape[1], 2.6 + 0.32 * len(table))
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    sns.heatmap(
        100 * table,
        ax=axis,
        cmap=COLOURS,
        vmin=0,
        vmax=100,
        annot=True,
        fmt=".0f",
        annot_kws={"size": 9},
        cbar_kws={"label": "% of the way from floor to ceiling"},
    )
    axis.set(xlabel="", ylabel="")
    axis.tick_params(axis="x", rotation=50)
    plt.setp(axis.get_xticklabels(), ha="right", rotation_mode="anchor")
    axis.tick_params(axis="y", rotation=0)
    return figure


def _row_name(analysis: Analysis, key: int, parameter: str) -> str:
    value = analysis.complete.loc[key, f"param:{parameter}"]
    what = next((f", {what}" for what, k in analysis.shown.items() if k == key), "")
    shown = f"{value:.3g}" if isinstance(value, float) else str(value)
    return f"trial {key}, {parameter} {shown}{what}"


def agreement(analysis: Analysis) -> Figure | None:
    """Rank correlations between the metrics over all models."""
    table = Judged(analysis).correlations
    if table.empty:
        return None
    names = [str(name).removeprefix("test/") for name in table.columns]
    side = 2.6 + 0.46 * len(names)
    figure, axis = plt.subplots(figsize=(side + 1, side), layout="constrained")
    sns.heatmap(
        table.set_axis(names, axis=0).set_axis(names, axis=1),
        ax=axis,
        cmap="vlag",
        vmin=-1,
        vmax=1,
        annot=True,
        fmt=".1f",
        annot_kws={"size": 8},
        square=True,
        cbar_kws={"label": "Spearman's rho over the models"},
    )
    axis.tick_params(axis="x", rotation=50)
    plt.setp(axis.get_xticklabels(), ha="right", rotation_mode="anchor")
    axis.tick_params(axis="y", rotation=0)
    return figure


def code_maps(analysis: Analysis) -> Figure | None:
    """Which code knows which factor, of the knee and both ends."""
    found = {what: code_map(analysis.results.pictures[key]) for what, key in analysis.shown.items()}
    maps = {what: one for what, one in found.items() if one is not None}
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
    )
    for line, (what, one), count in zip(axes, maps.items(), rows, strict=True):
        order = np.argsort(-one.kl, kind="stable")[:count]
        codes = [f"code {j} ({one.kl[j]:.2g} nats)" for j in order]
        for axis, values, title in zip(
            line, (one.information, one.importance), ("mutual information", "importance (DCI)"), strict=True
        ):
            sns.heatmap(
                pd.DataFrame(values[order], index=pd.Index(codes), columns=pd.Index(one.names)),
                ax=axis,
                cmap="Blues",
                vmin=0,
                vmax=1,
                annot=True,
                fmt=".2f",
                annot_kws={"size": 9},
                cbar=False,
                yticklabels=values is one.information,
            )
            key = analysis.shown[what]
            axis.set_title(f"{what}: trial {key}, {title}" if values is one.information else title, fontsize=11)
            axis.tick_params(axis="x", rotation=0)
            axis.tick_params(axis="y", rotation=0)
    # Only now: each of seaborn's heat maps draws the whole figure, to see whether labels overlap.
    figure.set_layout_engine("constrained")
    return figure


def reconstructions(analysis: Analysis) -> Figure | None:
    return _pictures(analysis, "reconstructions")


def traversals(analysis: Analysis) -> Figure | None:
    return _pictures(analysis, "traversals")


# In the order of the report. A figure is a function and a line here.
FIGURES: dict[str, tuple[Callable[[Analysis], Figure | None], str]] = {
    "plane": (plane, "The searched metrics of every trial: median over the replicas, bars from the least to the most."),
    "sweeps": (sweeps, "Each metric on test against each swept parameter; the circled trial is the chosen one."),
    "families": (
        families,
        "Metrics of one name over the number in it (of labels, of test noise): median and range over the replicas.",
    ),
    "scores": (
        scores,
        "Each metric that has a protocol, in % of the way from its floor (codes of noise) to its ceiling (the factors "
        "themselves as codes), medians over the replicas.",
    ),
    "code_maps": (
        code_maps,
        "Which code knows which factor: mutual information as a share of the factor's entropy (20 bins, at most 2,000 "
        "images of val), and the importance of the code to boosted trees that tell the factor; codes by their KL.",
    ),
    "agreement": (agreement, "Rank correlations between the metrics over all models, every replica of every trial."),
    "heat_map": (heat_map, "The searched metrics on test over the two most important parameters, averaged per cell."),
    "importance": (importance, "How much of the variance of each metric each parameter explains."),
    "learning_curves": (
        learning_curves,
        "The searched metrics over the epochs: median over the replicas of each trial.",
    ),
    "reconstructions": (reconstructions, "Test images (above) and their reconstructions (below)."),
    "traversals": (
        traversals,
        "One row per code, the most used first: the first image's code with one entry moved from -2.5 to +2.5 "
        "standard deviations.",
    ),
}
