"""Report of a study: its findings in words, tables and figures.

No other room may import seaborn.
"""

from pathlib import Path

from aesearch.errors import UserError
from aesearch.escapes import write_csv
from aesearch.records.results import Results
from aesearch.report.analysis import analyse, best_trial, registered_trials
from aesearch.report.figures import draw_figures
from aesearch.report.page import write_pages

__all__ = ["best_trial", "registered_trials", "write_report"]


def write_report(results: Results, folder: Path) -> Path:
    """Write the report of a study and return the path of its HTML page.

    results: tables of the study.
    folder: where ``index.html``, ``report.md``, ``trials.csv``, ``replicas.csv`` and ``figures/*.png`` are written.

    Raises UserError where no trial has ended.
    """
    if results.trials.empty:
        raise UserError(f"no trial of {results.info['name']} has ended, so there is nothing to report; run the study")
    folder.mkdir(parents=True, exist_ok=True)
    analysis = analyse(results)
    write_csv(analysis.trials_table(), folder / "trials.csv")
    write_csv(results.replicas, folder / "replicas.csv")
    figures = draw_figures(analysis, folder / "figures")
    return write_pages(analysis, figures, folder)
