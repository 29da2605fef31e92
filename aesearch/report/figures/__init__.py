"""Figures of a report: the functions of this folder marked by ``report_figure``.

Such a function takes the analysis. It returns a matplotlib Figure, or None where it has nothing to show.
The report shows the figures in the order of their places.
"""

import warnings
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import matplotlib

matplotlib.use("Agg")
import seaborn as sns

from aesearch.escapes import plain_labels
from aesearch.report.analysis import Analysis
from aesearch.report.figures.style import ReportFigure, save


def _gathered() -> dict[str, ReportFigure]:
    """Collect the figures of all files of this folder, in the order of their places."""
    modules = [import_module(f"{__name__}.{found.name}") for found in iter_modules([str(Path(__file__).parent)])]
    figures = [value for module in modules for value in vars(module).values() if isinstance(value, ReportFigure)]
    found = {one.name: one for one in sorted(figures, key=lambda one: one.place)}
    if len(found) < len(figures):
        raise ValueError(f"two figures have the same name: {', '.join(one.name for one in figures)}; rename one")
    return found


FIGURES = _gathered()


def draw_figures(analysis: Analysis, folder: Path) -> dict[str, str]:
    """Draw every figure that has something to show into ``folder``.

    Removes the PNG files of an earlier report. Returns the captions by file name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    captions = {}
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"), plain_labels():
        # seaborn 0.13 still passes an argument that matplotlib 3.11 has renamed.
        warnings.filterwarnings("ignore", category=matplotlib.MatplotlibDeprecationWarning)
        for name, each in FIGURES.items():
            figure = each.draw(analysis) if len(analysis.complete) else None
            if figure is not None:
                save(figure, folder / f"{name}.png")
                captions[f"{name}.png"] = f"{each.caption} {each.cut(analysis)}".strip()
    return captions
