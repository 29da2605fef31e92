"""Run ``run``: prepare a study, search, report."""

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from aesearch.commands.options import DEFAULT_HOME, data_folder, overridden, store_option
from aesearch.commands.report import register_chosen, write_report
from aesearch.errors import UserError
from aesearch.escapes import say
from aesearch.rights import private_files, shared_files
from aesearch.search.surroundings import check_address_space, check_folder

if TYPE_CHECKING:
    from aesearch.search.budgets import Budget
    from aesearch.search.cluster import Where
    from aesearch.search.driver import Ended
    from aesearch.search.ledger import Ledger
    from aesearch.study import Study
    from aesearch.tracking import Tracker

ASKED_SECONDS = 3600
MOST_RESTARTS = 3
RESTARTS = "AESEARCH_RESTARTS"  # how often this process began anew, in its environment


@dataclass(frozen=True)
class Job:
    """Prepared parts that a call of ``run`` works with."""

    options: argparse.Namespace
    ledger: "Ledger"
    tracker: "Tracker"
    where: "Where"
    budget: "Budget"


def run(options: argparse.Namespace) -> int:
    """Search, then report.

    Trials that an earlier call of the same command has finished are kept.
    """
    with private_files(), _interrupted_in_order(), _prepared(options) as job:
        return _finish(job, _search(job))


@contextmanager
def _prepared(options: argparse.Namespace) -> Iterator[Job]:
    """Load the study and its data, and open its ledger and its MLflow store.

    Raises UserError before any training.
    """
    check_address_space()
    study = overridden(options)
    if options.fork:
        study = _forked(study, options.fork)

    # These imports take seconds, so a wrong study file is reported before them.
    from aesearch.search.budgets import Budget
    from aesearch.search.cluster import Where
    from aesearch.search.ledger import Ledger
    from aesearch.search.state import move_aside
    from aesearch.tracking import Tracker

    data = data_folder(options.data)
    digests = _load_data(study, data)
    if options.fresh and (aside := move_aside(study, options.home)):
        say(f"{study.name}: the old state is in {aside}")
    ledger = Ledger.open(study, options.home)
    try:
        ledger.check_data(digests)
        if options.retry_failed:
            say(f"{study.name}: {ledger.retry_failed()} failed trials will be tried again")
        short = options.time_budget is not None and options.time_budget <= ASKED_SECONDS
        if not (options.yes or options.address or short or ledger.trials()):
            _ask(replace(study, max_concurrent=1) if options.no_ray else study, data, ledger.total)
        tracker = Tracker(options.tracking_uri, ledger.describe(), ledger.folder / "trials")
        tracker.open()
        if tracker.sender.earlier and not options.fresh:
            what = f"it begins anew in {ledger.folder}, but MLflow knows an earlier one"
            say(f"{study.name}: {what}; if its folder was moved, name the new place with --home")
        budget = Budget(options.time_budget, options.disk_budget)
        where = Where(options.address, data, options.verbose, options.no_ray, _restarting(study.name, options))
        yield Job(options, ledger, tracker, where, budget)
    except UserError:
        raise
    except Exception as error:
        # Whatever it was, it is a folder that cannot be written any more.
        check_folder(ledger.folder, str(error))
        raise
    finally:
        ledger.close()


def _load_data(study: "Study", folder: Path) -> dict[str, str]:
    """Load each data set of a study once, so that it is there before any trial.

    Returns the digests of the data sets by name.
    """
    from aesearch.datasets import contents_checked

    digests = {}
    for dataset in dict.fromkeys(config.data for _, config in study.probes):
        with shared_files(), contents_checked():
            loaded = dataset.load(folder)
        digests[repr(dataset)] = loaded.digest()
        for remark in loaded.remarks:
            say(f"{study.name}: {remark}")
    return digests


def _search(job: Job) -> "Ended":
    """Run the missing trials and compare all models.

    When it returns, MLflow has all results, unless the tracker reports a problem.
    """
    from aesearch.commands.progress import Progress
    from aesearch.search.driver import Ended, run_study

    ledger, status = job.ledger, "FAILED"
    progress = Progress(ledger.study.name, ledger.total, ledger.counts, ledger.best)
    try:
        end = run_study(ledger, job.where, job.tracker.notify, progress.update, job.budget)
        progress.close()
        _tell_remarks(ledger)
        if end is Ended.FINISHED:
            end = _compare(ledger, job.where.data, job.tracker.notify)
        status = "FINISHED" if end is Ended.FINISHED else "KILLED"
    finally:
        job.tracker.close(status)
    return end


def _compare(ledger: "Ledger", data: Path, notify: Callable[[int], None]) -> "Ended":
    """Measure the comparisons of all models of a study, unless that is done."""
    from aesearch.records import merged
    from aesearch.records.results import local_results
    from aesearch.rescore import ACROSS, compare
    from aesearch.search.driver import Ended

    study = ledger.study
    if not study.comparisons or not ledger.counts()["COMPLETE"]:
        return Ended.FINISHED
    results = local_results(ledger.folder)
    complete = results.trials[results.trials["state"] == "COMPLETE"]
    names = [f"val/{ACROSS}{name}" for comparison in study.comparisons for name in comparison.names]
    if set(names) <= set(complete.columns) and complete[names].notna().all(axis=None):
        return Ended.FINISHED
    say(f"{study.name}: comparing all models")
    try:
        for key, found in compare(results, study.comparisons, data, study.path):
            record = ledger.record(key)
            record.rescore(merged(record.read("scores.json"), found))
            notify(key)
    except KeyboardInterrupt:
        return Ended.INTERRUPTED
    return Ended.FINISHED


def _tell_remarks(ledger: "Ledger") -> None:
    """Print why trials failed, and the remarks on trials."""
    name = ledger.study.name
    for reason, times in ledger.failures().items():
        say(f"{name}: {times} failed: {reason}")
    for key in sorted(ledger.trials()):
        for remark in ledger.record(key).remarks():
            say(f"{name}: trial {key}: {remark}")


def _finish(job: Job, end: "Ended") -> int:
    """Print how the search ended, write the report, and return the exit status."""
    from aesearch.search.driver import Ended

    ledger, name = job.ledger, job.ledger.study.name
    if job.tracker.problem:
        _tell_missing(job)
    if job.budget.reached:
        done = f"{len(ledger.finished())} of {ledger.total} trials"
        say(f"{name}: the {job.budget.reached} budget is used up after {done}; the same command goes on")
    elif end is Ended.INTERRUPTED:
        say(f"{name}: interrupted; the same command goes on")
        return 130
    if not ledger.finished():
        say(f"{name}: no trial has ended, so there is no report")
        return 1
    _report(job)
    return 0 if ledger.counts()["COMPLETE"] else 1


def _tell_missing(job: Job) -> None:
    """Print the trials that MLflow lacks, and the command that sends them later."""
    from aesearch.tracking import shown

    options, tracker, name = job.options, job.tracker, job.ledger.study.name
    what = f"{tracker.missing} of its trials" if tracker.missing else "some of it"
    home = "" if options.home == DEFAULT_HOME else f" --home {options.home}"
    command = f"python -m aesearch sync {name}{home}{store_option(shown(options.tracking_uri))}"
    say(f"{name}: MLflow lacks {what}: {tracker.problem}; once it is back, run {command}")


def _report(job: Job) -> None:
    """Write the report and register the chosen models.

    The report is made from MLflow or, where that cannot be reached, from the records.
    """
    from aesearch.records.results import local_results
    from aesearch.tracking import read_study, shown

    options, ledger, name, results = job.options, job.ledger, job.ledger.study.name, None
    if not job.tracker.problem:
        try:
            results = read_study(options.tracking_uri, name)
        except UserError as error:
            say(f"{name}: the report is made from the local records, as MLflow cannot be read: {error}")
    page = write_report(results or local_results(ledger.folder), options.out)
    if results:
        if remark := job.tracker.add_report(page.parent):
            say(f"{name}: MLflow lacks the files of the report: {remark}")
        register_chosen(options.tracking_uri, results)
    uri = shown(options.tracking_uri)
    shown_by = uri if uri.startswith("http") else f"python -m aesearch ui{store_option(uri)}"
    say(f"report: {page}", f"MLflow: {shown_by}")


def _restarting(name: str, options: argparse.Namespace) -> Callable[[Path, str, bool], None] | None:
    """Make a function that begins this process anew when its Ray is lost.

    It ends the process where Ray was asked to end. The state on disk is as after a SIGKILL, from which the same command
    goes on.
    Returns None where the process is another's, such as a notebook's.
    """
    main = sys.modules["__main__"].__spec__
    if main is None or main.name != "aesearch.__main__":
        return None
    begun, restarts = time.monotonic(), int(os.environ.get(RESTARTS, 0))

    def restart(session: Path, lost: str, asked: bool) -> None:
        if asked:
            # A signal to all processes of a job, as schedulers send it, or ``ray stop``.
            say(f"{name}: interrupted; the same command goes on")
            sys.stdout.flush()
            os._exit(130)
        if restarts == MOST_RESTARTS:
            text = f"Ray must stay alive, but its process {lost} ended {restarts + 1} times; see its logs in {session}"
            say(f"aesearch: {text}/logs, and the same command goes on", out=sys.stderr)
            sys.stdout.flush()
            os._exit(2)
        say(f"{name}: Ray's process {lost} ended; Ray is started again and the study goes on")
        sys.stdout.flush()
        os.environ[RESTARTS] = str(restarts + 1)
        command = [sys.executable, "-m", "aesearch", *_same(sys.argv[1:], options, time.monotonic() - begun)]
        os.execv(sys.executable, command)

    return restart


def _same(arguments: list[str], options: argparse.Namespace, seconds: float) -> list[str]:
    """Write the command that goes on.

    What was done once is left out, and what is left of the time is said.
    """
    kept = [argument for argument in arguments if argument not in ("--fresh", "--retry-failed")]
    # The last of an option counts.
    budget = [] if options.time_budget is None else ["--time-budget", f"{max(1.0, options.time_budget - seconds):.0f}s"]
    return [*kept, *budget, "--yes"]


@contextmanager
def _interrupted_in_order() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into KeyboardInterrupt, and ignore later ones.

    A second signal during the clean-up would leave the clean-up unfinished.
    """
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
    """Make a study of another name that begins with the best trials of this one."""
    from aesearch.study import Best

    return replace(study, name=name, enqueue=(*study.enqueue, Best(study.name)), forked_from=study.name)


def _ask(study: "Study", data: Path, trials: int) -> None:
    """Ask a person to confirm a study that takes more than an hour.

    Raises UserError where nobody confirms it.
    """
    from aesearch.plan import lines, make_plan, quick

    if quick(study, data, trials) < ASKED_SECONDS:
        return
    plan = make_plan(study, data, trials)
    if plan.seconds < ASKED_SECONDS:
        return
    say(*lines(plan, study))
    if sys.stdin.isatty() and input("Run it? [y/N] ").strip().lower() in ("y", "yes"):
        return
    raise UserError(
        f"{study.name} takes more than an hour, and nobody has confirmed it; write --yes or --time-budget 1h"
    )
