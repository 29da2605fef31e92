"""Run the trials that a study lacks, through as many searches as break down."""

import gc
import math
import re
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from functools import partial
from tempfile import TemporaryDirectory

from ray import cloudpickle, tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from aesearch.errors import UserError
from aesearch.rights import private_files
from aesearch.search.alone import run_alone
from aesearch.search.budgets import Budget
from aesearch.search.cluster import Where, connected, handler_kept, resources, sigterm_as_sigint, threads
from aesearch.search.keeper import Keeper, keeping
from aesearch.search.kept_models import KeptModels
from aesearch.search.ledger import Ledger
from aesearch.search.more_replicas import Parts, parts
from aesearch.search.searcher import (
    MOST_ATTEMPTS,
    Attempts,
    JudgedScheduler,
    Listener,
    Queue,
    QueueSearcher,
    Trials,
    record_of,
)
from aesearch.search.state import session_of
from aesearch.search.surroundings import check_folder
from aesearch.search.values import Outcome, Place, Task
from aesearch.search.worker import run_trial
from aesearch.study import Plateau, Rule, Study


class Ended(Enum):
    """The end of a search."""

    FINISHED = "nothing is left to do"
    INTERRUPTED = "a signal, or the budget, ended it"


def run_study(
    ledger: Ledger,
    where: Where,
    changed: Callable[[int], None],
    watch: Callable[[Mapping[str, float]], None],
    budget: Budget | None = None,
) -> Ended:
    """Run the trials that the ledger lacks, then further replicas of some.

    changed: told the key of each trial whose record has news. watch: told the share of its epochs that each running
    trial has done, by a name of its own.
    Raises UserError where Ray cannot be reached, a trial can never run, or the disk is full.
    """
    budget, kept = budget or Budget(), KeptModels(ledger)

    def ended(key: int) -> None:
        discarded = [] if ledger.study.adaptive else kept.discard()
        for other in discarded:
            changed(other)
        budget.ended(ledger.record(key).folder, [ledger.record(other).folder for other in discarded])

    try:
        end = _answer(ledger, where, Listener(changed, watch, ended), budget)
    except KeyboardInterrupt:
        return Ended.INTERRUPTED
    # Further replicas are joined to the models that are there, so those stay until no trial gets more.
    for key in kept.discard() if end is Ended.FINISHED or not ledger.study.adaptive else []:
        changed(key)
    return end


def _answer(ledger: Ledger, where: Where, listener: Listener, budget: Budget) -> Ended:
    """Run what is left of the search, then of the further replicas."""
    if not ledger.left and not parts(ledger):
        return Ended.FINISHED
    # The study file's own classes and functions go to the workers by value: they cannot import it.
    cloudpickle.register_pickle_by_value(ledger.study.module)
    with _keeper(ledger, where) as keeper, sigterm_as_sigint(), budget.running():
        for key in ledger.trials():
            budget.ended(ledger.record(key).folder, [])
        end = _work_off(Trials(ledger), where, keeper, listener)
        while end is Ended.FINISHED and (further := parts(ledger)):
            end = _work_off(Parts(ledger, deque(further)), where, keeper, listener)
    return end


@contextmanager
def _keeper(ledger: Ledger, where: Where) -> Iterator[Keeper | str]:
    """Connect to Ray and run a keeper there.

    Where the study runs without Ray, make one for this process.
    """
    if where.alone:
        with private_files():
            yield Keeper(ledger.folder, session_of(ledger.folder))
        return
    with connected(where, ledger.study), keeping(ledger.folder) as name:
        yield name


def _work_off(queue: Queue, where: Where, keeper: Keeper | str, listener: Listener) -> Ended:
    """Run all of ``queue``, through as many searches as break down."""
    attempts = Attempts()
    while queue.left:
        searcher, broken = _search(queue, where, keeper, attempts, listener)
        if not broken:
            # After SIGINT fit() returns normally, and something is left.
            return Ended.INTERRUPTED if queue.left else Ended.FINISHED
        check_folder(queue.ledger.folder, broken)
        if not searcher.live:
            raise RuntimeError(broken)
        lost = _lost(queue, searcher, broken)
        for task in searcher.live.values():
            if task.place in lost:
                queue.tell(task.place, Outcome("FAIL", reason=lost[task.place]))
            else:
                attempts.again.append(task)
            listener.changed(task.place.key)
        # What is left of the broken search holds workers until it is collected.
        del searcher
        gc.collect()
    return Ended.FINISHED


def _search(
    queue: Queue, where: Where, keeper: Keeper | str, attempts: Attempts, listener: Listener
) -> tuple[QueueSearcher, str]:
    """Run what is left of a queue in one Tune run.

    Returns the searcher, and why Tune broke down; empty if it did not. It does when Ray ends a worker for its memory.
    """
    study = queue.ledger.study
    cpus, gpus, concurrent = resources(study, queue.left, where)
    searcher = QueueSearcher(
        queue, _task(study, where, threads(cpus), "cuda" if gpus else "cpu", keeper), attempts, listener
    )
    if where.alone:
        run_alone(searcher, _scheduler(queue, searcher))
        return searcher, ""
    with TemporaryDirectory(prefix="aesearch-tune-") as unused:
        tuner = tune.Tuner(
            tune.with_resources(run_trial, {"cpu": cpus, "gpu": gpus}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=_scheduler(queue, searcher),
                num_samples=-1,  # until the searcher has no more
                max_concurrent_trials=concurrent,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="ray",
                storage_path=unused,
                verbose=3 if where.verbose else 0,
                # A trial whose worker dies is handed out again by the searcher.
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        )
        try:
            with handler_kept(signal.SIGINT):
                tuner.fit()
        except UserError:
            raise
        except Exception as error:
            return searcher, f"{type(error).__name__}: {' '.join(str(error).split())}"
    return searcher, ""


def _task(study: Study, where: Where, own_threads: int, device: str, keeper: Keeper | str) -> Task:
    """Make what all tasks of a study share.

    The searcher fills in place and configuration.
    """
    rule = study.early_stopping
    return Task(
        place=Place(-1),
        config=b"",
        searched=tuple(metric.name for metric in study.searched),
        sign=study.searched[0].sign,
        plateau=rule if isinstance(rule, Plateau) else None,
        data=where.data,
        threads=own_threads,
        device=device,
        checkpoint_seconds=study.checkpoint_seconds,
        # Whoever debugs a trial in this process takes as long as they like.
        epoch_seconds=math.inf if where.alone else study.epoch_seconds,
        keeper=keeper,
    )


def _scheduler(queue: Queue, searcher: QueueSearcher) -> TrialScheduler:
    study = queue.ledger.study
    if not isinstance(study.early_stopping, Rule) or not isinstance(queue, Trials):
        return FIFOScheduler()
    make = partial(study.early_stopping.judge, max(config.epochs for _, config in study.probes))
    return JudgedScheduler(queue.ledger, searcher.live, make)


def _lost(queue: Queue, searcher: QueueSearcher, broken: str) -> Mapping[Place, str]:
    """Name the trials that a broken search lost for good, and why.

    Ray names the process that it ended for its memory; where it names none, it is those that were there too often.
    """
    places = [task.place for task in searcher.live.values()]
    ended = re.search(
        r"was (\S+) used / (\S+) limit.* Selected to kill: .*?pid=(\d+), actual memory used=(\S+),", broken
    )
    if ended:
        used, limit, pid, own = ended.groups()
        reason = f"out of memory: Ray ended its process, which used {own}, when {used} of {limit} were in use"
        lost = {place: reason for place in places if record_of(queue, place).read("worker.json").get("pid") == int(pid)}
        if lost:
            return lost
    return {place: broken[:2000] for place in places if searcher.attempts.made[place] >= MOST_ATTEMPTS}
