"""Run ``rescore``: measure metrics of models that are kept."""

import argparse
from typing import TYPE_CHECKING, Any

from aesearch.commands.options import data_folder, named_study
from aesearch.commands.report import write_report
from aesearch.errors import UserError
from aesearch.escapes import say
from aesearch.rights import private_files

if TYPE_CHECKING:
    from aesearch.records.results import Results


@private_files()
def rescore(options: argparse.Namespace) -> int:
    """Measure metrics of the kept models, keep them, and write the report again.

    They are kept in MLflow's runs and in the records.
    """
    name, file = named_study(options.study)

    from aesearch.rescore import chosen, compare, default_workers
    from aesearch.rescore import rescore as score_models
    from aesearch.scores import Comparison
    from aesearch.tracking import read_study

    results = read_study(options.tracking_uri, name)
    wanted = chosen(options.metric, options.protocol, results.protocols, set(results.replicas.columns))
    scores = [score for score in wanted if not isinstance(score, Comparison)]
    comparisons = [score for score in wanted if isinstance(score, Comparison)]
    data = data_folder(options.data)
    count = 0
    for key, found in score_models(results, scores, data, options.workers or default_workers(), file):
        count += 1
        if isinstance(found, UserError):
            say(f"{name}: trial {key} not scored: {found}")
            continue
        _keep_scores(options, results, key, found)
        say(f"{name}: trial {key} scored")
    if scores and not count:
        say(f"{name}: all complete trials have these metrics")
    for key, found in compare(results, comparisons, data, file):
        _keep_scores(options, results, key, found)
    if comparisons:
        say(f"{name}: all models compared")
    say(f"report: {write_report(read_study(options.tracking_uri, name), options.out)}")
    return 0


def _keep_scores(options: argparse.Namespace, results: "Results", key: int, found: dict[str, Any]) -> None:
    """Add metrics to a trial's run, and to its record where the state is at hand."""
    from aesearch.records import Record, merged
    from aesearch.tracking import add_scores

    known = Record(results.pictures[key].parent)
    scores = merged(known.read("scores.json"), found)
    own = Record(options.home.absolute() / results.info["name"] / "trials" / f"{key:05d}")
    if own.read("trial.json") == known.read("trial.json"):
        own.rescore(scores)
    add_scores(options.tracking_uri, results.runs[key], scores, known)
