"""Run ``report``: write the report of a study again."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aesearch.commands.options import named_study
from aesearch.escapes import say
from aesearch.rights import shared_files

if TYPE_CHECKING:
    from aesearch.records.results import Results


def report(options: argparse.Namespace) -> int:
    """Write the report of a study again, from MLflow alone."""
    from aesearch.tracking import read_study

    name, _ = named_study(options.study)
    say(f"report: {write_report(read_study(options.tracking_uri, name), options.out)}")
    return 0


def write_report(results: "Results", out: Path) -> Path:
    """Write the report of a study; give the path of its page."""
    import optuna

    from aesearch.report import write_report

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with shared_files():
        return write_report(results, out / results.info["name"])


def register_chosen(uri: str, results: "Results") -> None:
    """Name the model of the knee in MLflow, or the best one of each condition."""
    from aesearch.report import registered_trials
    from aesearch.tracking import register_model

    name = results.info["name"]
    if results.trials.empty:
        return
    for alias, key in registered_trials(results).items():
        there = (results.pictures[key] / "MLmodel").exists()
        if there and (remark := register_model(uri, name, results.runs[key], key, alias)):
            # It is the store that is lost, so the others are not tried.
            say(f"{name}: {remark}")
            return
