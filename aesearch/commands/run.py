"""``run``: search, track, report."""

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aesearch.commands.options import DEFAULT_HOME, data_folder, overridden, store_option
from aesearch.commands.report import register_knee, write_report
from aesearch.errors import UserError

if TYPE_CHECKING:
    from aesearch.search.budgets import Budget
    from aesearch.search.cluster import Where
    from aesearch.search.ledger import Ledger
    from aesearch.study import Study
    from aesearch.tracking import Tracker

ASKED_SECONDS = 3600


def run(options: argparse.Namespace) -> int:
    """Search, then report. What is finished already, from an earlier call of the same command, is kept."""
    with _interrupted_in_order():
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    study = overridden(options)
    if options.fork:
        study = _forked(study, options.fork)

    # Only now: a wrong study file is to be told before the slow imports.
    from aesearch.datasets import contents_checked
    from aesearch.search.budgets import Budget
    from aesearch.search.cluster import Where
    from aesearch.search.ledger import Ledger
    from aesearch.search.state import move_aside
    from aesearch.tracking import Tracker

    data = data_folder(options.data)
    digests = {}
    for dataset in dict.fromkeys(config.data for _, config in study.probes):
        with contents_checked():
            loaded = dataset.load(data)
        digests[repr(dataset)] = loaded.digest()
        for remark in loaded.remarks:
            print(f"{study.name}: {remark}")
    if options.fresh and (aside := move_aside(study, options.home)):
        print(f"{study.name}: the old state is in {aside}")
    ledger = Ledger.open(study, options.home)
    try:
        ledger.check_data(digests)
        if options.retry_failed:
            print(f"{study.name}: {ledger.retry_failed()} failed trials are tried again")
        budget = Budget(options.time_budget, options.disk_budget)
        short = options.time_budget is not None and options.time_budget <= ASKED_SECONDS
        if not (options.yes or options.address or short or ledger.trials()):
            _ask(study, data, ledger.total)
        tracker = Tracker(options.tracking_uri, ledger.describe(), ledger.folder / "trials")
        tracker.open()
        status = "FAILED"
        try:
            status = _search(ledger, Where(options.address, data, options.verbose), tracker.notify, budget)
        finally:
            tracker.close(status)
        if tracker.problem:
            _tell_missing(options, study.name, tracker)
        if budget.reached:
            done = f"{len(ledger.finished())} of {ledger.total} trials"
            print(f"{study.name}: the {budget.reached} budget is used up after {done}; the same command goes on")
        elif status == "KILLED":
            print(f"{study.name}: interrupted; the same command goes on")
            return 130
        if not ledger.finished():
            print(f"{study.name}: no trial has ended, so there is no report")
            return 1
        _finish(options, ledger, tracker)
        return 0 if ledger.counts()["COMPLETE"] else 1
    finally:
        ledger.close()


def _search(ledger: "Ledger", where: "Where", notify: Callable[[int], None], budget: "Budget") -> str:
    """Run the trials that are missing and compare all models: FINISHED, or KILLED by a person or the budget."""
    from aesearch.commands.progress import Progress
    from aesearch.search.driver import run_study

    name, status = ledger.study.name, "KILLED"
    progress = Progress(name, ledger.total, ledger.counts, ledger.best)
    with suppress(KeyboardInterrupt):
        run_study(ledger, where, notify, progress.update, budget)
        status = "FINISHED"
    progress.close()
    _tell_remarks(ledger)
    if status == "FINISHED" and ledger.study.comparisons and ledger.counts()["COMPLETE"]:
        status = "KILLED"
        with suppress(KeyboardInterrupt):
            _compare(ledger, where.data, notify)
            status = "FINISHED"
    return status


def _compare(ledger: "Ledger", data: Path, notify: Callable[[int], None]) -> None:
    """Measure what a study asks of all its models together."""
    from aesearch.records import local_results, merged
    from aesearch.rescore import ACROSS, compare

    study, results = ledger.study, local_results(ledger.folder)
    complete = results.trials[results.trials["state"] == "COMPLETE"]
    names = [f"val/{ACROSS}{name}" for comparison in study.comparisons for name in comparison.names]
    if set(names) <= set(complete.columns) and complete[names].notna().all(axis=None):
        return
    print(f"{study.name}: comparing all models")
    for key, found in compare(results, study.comparisons, data, study.path):
        record = ledger.record(key)
        record.rescore(merged(record.read("scores.json"), found))
        notify(key)


def _tell_remarks(ledger: "Ledger") -> None:
    """Why trials failed, and what else a person should know of them."""
    name = ledger.study.name
    for reason, times in ledger.failures().items():
        print(f"{name}: {times} failed: {reason}")
    for key in sorted(ledger.trials()):
        for remark in ledger.record(key).remarks():
            print(f"{name}: trial {key}: {remark}")


def _tell_missing(options: argparse.Namespace, name: str, tracker: "Tracker") -> None:
    from aesearch.tracking import shown

    what = f"{tracker.missing} of its trials" if tracker.missing else "some of it"
    home = "" if options.home == DEFAULT_HOME else f" --home {options.home}"
    command = f"python -m aesearch sync {name}{home}{store_option(shown(options.tracking_uri))}"
    print(f"{name}: MLflow lacks {what}: {tracker.problem}; when it is back: {command}")


def _finish(options: argparse.Namespace, ledger: "Ledger", tracker: "Tracker") -> None:
    """The report of a study, from MLflow or, where that is lost, from the records; its knee is registered."""
    from aesearch.records import local_results
    from aesearch.tracking import read_study, shown

    name, results = ledger.study.name, None
    if not tracker.problem:
        try:
            results = read_study(options.tracking_uri, name)
        except UserError as error:
            print(f"{name}: the report is of the records here: {error}")
    page = write_report(results or local_results(ledger.folder), options.out)
    if results:
        if remark := tracker.add_report(page.parent):
            print(f"{name}: MLflow lacks the files of the report: {remark}")
        register_knee(options.tracking_uri, results)
    uri = shown(options.tracking_uri)
    print(f"report: {page}\nMLflow: {uri if uri.startswith('http') else f'python -m aesearch ui{store_option(uri)}'}")


@contextmanager
def _interrupted_in_order() -> Iterator[None]:
    """SIGINT or SIGTERM interrupts once. Those that come while things are put in order would leave them half done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _forked(study: "Study", name: str) -> "Study":
    """A study of that name, which begins with the best trials of the one that the file is named after."""
    from dataclasses import replace

    from aesearch.study import Best

    return replace(study, name=name, enqueue=(*study.enqueue, Best(study.name)), forked_from=study.name)


def _ask(study: "Study", data: Path, trials: int) -> None:
    """Have a person agree to more than an hour. Raises UserError where nobody does."""
    from aesearch.plan import lines, make_plan, quick

    if quick(study, data, trials) < ASKED_SECONDS:
        return
    plan = make_plan(study, data, trials)
    if plan.seconds < ASKED_SECONDS:
        return
    print("\n".join(lines(plan, study)))
    if sys.stdin.isatty() and input("Run it? [y/N] ").strip().lower() in ("y", "yes"):
        return
    raise UserError(
        f"more than an hour must be agreed to, but {study.name} takes longer; write --yes or --time-budget 1h"
    )
