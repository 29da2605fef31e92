"""``report``, ``sync`` and ``rescore``: what is made of a study that has been run."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from aesearch.commands.options import data_folder, named_study
from aesearch.errors import UserError

if TYPE_CHECKING:
    from aesearch.results import Results


def report(options: argparse.Namespace) -> int:
    """Write the report of a study again, from MLflow alone."""
    from aesearch.tracking import read_study

    name, _ = named_study(options.study)
    print(f"report: {write_report(read_study(options.tracking_uri, name), options.out)}")
    return 0


def sync(options: argparse.Namespace) -> int:
    """Send MLflow what it lacks of a study that is not being run, from the records alone."""
    name, _ = named_study(options.study)

    import json
    from dataclasses import replace

    from aesearch.ledger import hold_state
    from aesearch.results import local_results
    from aesearch.tracking import send_all, shown

    with hold_state(options.home, name) as folder:
        info = json.loads((folder / "study.json").read_text())
        sent = send_all(options.tracking_uri, info, folder / "trials")
        results = replace(local_results(folder), runs=sent.runs)
        if not results.trials.empty and (sent.trials or not sent.reported):
            with TemporaryDirectory() as out:
                sent.add_report(write_report(results, Path(out)).parent)
        if sent.finished:
            register_knee(options.tracking_uri, results)
    what = f"{sent.points:,} points of {sent.trials} trials sent" if sent.trials else "nothing was missing"
    print(f"{name}: {what}; {shown(options.tracking_uri)} has all of {len(sent.runs)} trials")
    return 0


def rescore(options: argparse.Namespace) -> int:
    """Measure metrics of the kept models, add them to their runs and records, and write the report again."""
    name, file = named_study(options.study)

    from aesearch.rescore import chosen, compare, default_workers
    from aesearch.rescore import rescore as score_models
    from aesearch.scores import Comparison
    from aesearch.tracking import read_study

    results = read_study(options.tracking_uri, name)
    wanted = chosen(options.metric, options.protocol, results.protocols)
    scores = [score for score in wanted if not isinstance(score, Comparison)]
    comparisons = [score for score in wanted if isinstance(score, Comparison)]
    data = data_folder(options.data)
    count = 0
    for key, found in score_models(results, scores, data, options.workers or default_workers(), file):
        count += 1
        if isinstance(found, UserError):
            print(f"{name}: trial {key} not scored: {found}")
            continue
        _keep_scores(options, results, key, found)
        print(f"{name}: trial {key} scored")
    if scores and not count:
        print(f"{name}: all complete trials have these metrics")
    for key, found in compare(results, comparisons, data, file):
        _keep_scores(options, results, key, found)
    if comparisons:
        print(f"{name}: all models compared")
    print(f"report: {write_report(read_study(options.tracking_uri, name), options.out)}")
    return 0


def _keep_scores(options: argparse.Namespace, results: "Results", key: int, found: dict[str, Any]) -> None:
    """Add metrics to a trial's run, and to its record where the study's state is at hand."""
    from aesearch.records import Record, merged
    from aesearch.tracking import add_scores

    known = Record(results.pictures[key].parent)
    scores = merged(known.read("scores.json"), found)
    own = Record(options.home.absolute() / results.info["name"] / "trials" / f"{key:05d}")
    if own.read("trial.json") == known.read("trial.json"):
        own.rescore(scores)
    add_scores(options.tracking_uri, results.runs[key], scores, known)


def write_report(results: "Results", out: Path) -> Path:
    import optuna

    from aesearch.report import write_report

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return write_report(results, out / results.info["name"])


def register_knee(uri: str, results: "Results") -> None:
    """Name the model of the knee in MLflow, where there is one."""
    from aesearch.report import best_trial
    from aesearch.tracking import register_knee

    name = results.info["name"]
    if results.trials.empty or "COMPLETE" not in set(results.trials["state"]):
        return
    key = best_trial(results)
    if (results.pictures[key] / "MLmodel").exists() and (remark := register_knee(uri, name, results.runs[key], key)):
        print(f"{name}: {remark}")
