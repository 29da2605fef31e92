"""The report of a study: what was found, in words, tables and figures. The only place that imports seaborn."""

from pathlib import Path

from aesearch.errors import UserError
from aesearch.records.results import Results
from aesearch.report.analysis import analyse, best_trial
from aesearch.report.figures import draw_figures
from aesearch.report.page import write_pages

__all__ = ["best_trial", "write_report"]


def write_report(results: Results, folder: Path) -> Path:
    """Write ``index.html``, ``report.md``, ``trials.csv``, ``replicas.csv`` and ``figures/*.png``; the page's path.

    Raises UserError where no trial has ended.
    """
    if results.trials.empty:
        raise UserError(f"a report needs a trial that has ended, but {results.info['name']} has none; run the study")
    folder.mkdir(parents=True, exist_ok=True)
    analysis = analyse(results)
    analysis.trials_table().to_csv(folder / "trials.csv", index=False)
    results.replicas.to_csv(folder / "replicas.csv", index=False)
    figures = draw_figures(analysis, folder / "figures")
    return write_pages(analysis, figures, folder)
