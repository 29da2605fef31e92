"""Pages of a report: one self-contained HTML file, and the same as Markdown."""

import base64
from collections.abc import Callable, Iterable
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from aesearch.escapes import escaped_table, fenced, markdown, printable
from aesearch.report import words
from aesearch.report.analysis import Analysis
from aesearch.report.certainty import Certainty, certainty_of
from aesearch.report.judged import judged_of


def write_pages(analysis: Analysis, figures: dict[str, str], folder: Path) -> Path:
    """Write ``index.html`` and ``report.md``, and return the path of the HTML page.

    figures: captions by the name of a PNG file in ``folder/figures``.
    folder: where the pages are written.
    """
    content = {
        "info": analysis.results.info,
        "outcome": words.outcome(analysis),
        "whole": len(analysis.listed_trials) == len(analysis.results.trials),
        "cuts": words.cuts(analysis),
        "failures": words.failures(analysis),
        "headlines": words.headlines(analysis),
        "details": words.details(analysis),
        "figures": figures,
        "protocol": words.protocol(analysis),
        "front_title": _front_title(analysis),
    }
    tables = {
        "front": _conditions_table(analysis) if analysis.per else _front_table(analysis),
        "certainty": certainty_of(analysis).table() if len(analysis.complete) else pd.DataFrame(),
        "judged": _judged_table(analysis),
        "trials": _trials_table(analysis),
    }
    page = folder / "index.html"
    kinds = (("html", page, _lines, _html), ("md", folder / "report.md", markdown, _markdown))
    for template, path, escape, write in kinds:
        environment = _environment(folder / "figures", escape)
        written = {name: write(table) for name, table in tables.items()}
        path.write_text(environment.get_template(f"page.{template}.jinja").render(content, **written))
    return page


def _environment(figures: Path, escape: Callable[[str], str]) -> jinja2.Environment:
    """Make the environment of a page, which escapes all text that is no ``Markup``."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("aesearch.report"),
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        finalize=lambda value: escape(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["embed"] = lambda name: Markup(_embed(figures / name))
    environment.filters["fenced"] = lambda text: Markup(fenced(text))
    return environment


def _lines(text: str) -> str:
    return printable(text, kept="\n")


def _embed(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _front_table(analysis: Analysis) -> pd.DataFrame:
    """Make the table of the front: parameters, and metrics as median [least to most]."""
    rows = []
    for key in analysis.listed_front if len(analysis.complete) else []:
        role = next((what for what, k in analysis.shown.items() if k == key), "")
        searched = [analysis.test_name(metric) for metric in analysis.metrics]
        rows.append(_front_row(analysis, key, role, dict.fromkeys([*searched, *analysis.bare])))
    return pd.DataFrame(rows)


def _front_row(analysis: Analysis, key: int, role: str, metrics: Iterable[str]) -> dict[str, str]:
    """Make the cells of a trial: its role, parameters, and metrics with their ranges."""
    row = analysis.complete.loc[key]
    cells = {"trial": str(key), "": role}
    cells |= {name: _cell(row[f"param:{name}"]) for name in analysis.listed_parameters}
    for metric in metrics:
        low, high = row[f"{metric}_min"], row[f"{metric}_max"]
        measured = pd.notna(row[metric])
        cells[metric] = f"{_cell(row[metric])} [{_cell(low)} to {_cell(high)}]" if measured else ""
    return cells


def _front_title(analysis: Analysis) -> str:
    what = "The Pareto-optimal trials" if len(analysis.metrics) == 2 else "The best trial"
    return f"{what} of each condition" if analysis.per else what


def _conditions_table(analysis: Analysis) -> pd.DataFrame:
    """Make the table of the front of each condition, with how certain it is.

    It has the condition, the headline metrics, the expected values of the searched metrics with their intervals, and
    the chances. Of a long table some rows are left out, evenly.
    """
    rows = []
    for condition, part in analysis.parts.items():
        certainty = Certainty(part)
        for key in part.front:
            if key not in analysis.listed_front:
                continue
            role = part.role if key == part.chosen else ""
            cells = {name: str(value) for name, value in condition.values}
            cells |= _front_row(analysis, key, role, analysis.headlines) | certainty.row(key)
            if part.knee and part.knee[1] and key == part.chosen:
                cells["the knee"] = f"{part.knee[1].chance:.0%}"
            rows.append(cells)
    return pd.DataFrame(rows).fillna("")


def _judged_table(analysis: Analysis) -> pd.DataFrame:
    """Make the table of all metrics; empty where none has a floor and a ceiling."""
    judged = judged_of(analysis)
    return judged.table() if len(analysis.complete) and judged.labelled else pd.DataFrame()


def _trials_table(analysis: Analysis) -> pd.DataFrame:
    """Make the table of the trials: state, parameters, medians of the metrics."""
    table = analysis.trials_table()
    table = table[table["trial"].isin(analysis.listed_trials)]
    metrics = [*analysis.metrics, *analysis.bare]
    columns = ["trial", "state", "epochs", "seconds", *analysis.per, *analysis.listed_parameters]
    kept = [name for name in [*columns, *metrics] if name in table.columns]
    return table[kept].map(_cell)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.4g}"
    return str(value)


def _html(table: pd.DataFrame) -> Markup:
    shown = escaped_table(table, printable)
    return Markup("" if table.empty else shown.to_html(index=False, border=0, escape=True))


def _markdown(table: pd.DataFrame) -> Markup:
    shown = escaped_table(table, markdown)
    return Markup("" if table.empty else shown.to_markdown(index=False, disable_numparse=True))
