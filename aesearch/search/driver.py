"""Run the trials that a study lacks, through as many searches as break down."""

import gc
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Mapping

from ray import cloudpickle, tune

from aesearch.records import Record
from aesearch.search.budgets import Budget
from aesearch.search.cluster import Where, connected, handler_kept, resources, sigterm_as_sigint, threads
from aesearch.search.ledger import Ledger
from aesearch.search.more_replicas import Race, parts
from aesearch.search.searcher import MOST_ATTEMPTS, Queue, QueueSearcher, Watcher, check_room, scheduler
from aesearch.search.worker import run_trial
from aesearch.study import Plateau


def run_study(
    ledger: Ledger, where: Where, changed: Callable[[int], None], watch: Watcher, budget: Budget | None = None
) -> None:
    """Run the trials that the ledger lacks. ``changed`` is told the key of each trial whose record has news.

    Raises KeyboardInterrupt after SIGINT or SIGTERM, or where the ``budget`` is used up.
    """
    if ledger.left or parts(ledger):
        # The study file's own classes and functions go to the workers by value: they cannot import it.
        cloudpickle.register_pickle_by_value(sys.modules[ledger.study.space.__module__])
        budget = budget or Budget()
        with connected(where), sigterm_as_sigint(), budget.running():
            for key in ledger.trials():
                budget.ended(ledger.record(key).folder, [])
            _work_off(ledger, where, changed, watch, budget)
            while further := parts(ledger):
                _work_off(Race(ledger, further), where, changed, watch, budget)
    for key in ledger.discard():
        changed(key)


def _work_off(queue: Queue, where: Where, changed: Callable[[int], None], watch: Watcher, budget: Budget) -> None:
    """Run all of ``queue``, through as many searches as break down. Raises KeyboardInterrupt where some is left."""
    crashes: Counter[int] = Counter()
    while queue.left:
        searcher = QueueSearcher(queue, changed, watch, budget, crashes)
        broken = _search(queue, where, searcher)
        # After SIGINT fit() returns normally, and more is left than what was put back.
        if not broken and queue.left == len(searcher.put_back):
            continue
        if not broken:
            raise KeyboardInterrupt
        check_room(queue.folder, broken)
        under_way = {key: queue.record(key) for key in queue.running}
        if not under_way:
            raise RuntimeError(broken)
        crashes.update(under_way.keys())
        queue.settle(_lost(under_way, broken, crashes))
        for key in under_way:
            changed(key)
        # What is left of the broken search holds workers until it is collected.
        del searcher
        gc.collect()


def _search(queue: Queue, where: Where, searcher: "QueueSearcher") -> str:
    """Run what is left. Why Tune broke down, which happens when Ray ends a worker for its memory; else empty."""
    study, remaining = queue.study, queue.left
    cpus, gpus, concurrent = resources(study, remaining, grows=where.address not in (None, "local"))
    searcher.task = {
        "searched": queue.searched,
        "data": str(where.data),
        "threads": threads(cpus),
        "device": "cuda" if gpus else "cpu",
        "checkpoint_seconds": study.checkpoint_seconds,
        "epoch_seconds": study.epoch_seconds,
        "plateau": study.early_stopping if isinstance(study.early_stopping, Plateau) else None,
        "sign": study.searched[0].sign,
    }
    tuner = tune.Tuner(
        tune.with_resources(run_trial, {"cpu": cpus, "gpu": gpus}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler(queue, searcher.keys),
            num_samples=remaining,
            max_concurrent_trials=concurrent,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="ray",
            storage_path=str(queue.folder),
            verbose=3 if where.verbose else 0,
            # A worker that dies: the trial goes on from its checkpoint in another one.
            failure_config=tune.FailureConfig(max_failures=MOST_ATTEMPTS - 1),
        ),
    )
    try:
        with handler_kept(signal.SIGINT):
            tuner.fit()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return ""


def _lost(under_way: Mapping[int, Record], broken: str, crashes: Counter[int]) -> dict[int, str]:
    """Of the trials that were ``under_way`` when the search broke, those that are not to be tried again, and why.

    Ray names the process that it ended for its memory; where it names none, those that were there too often.
    """
    ended = re.search(
        r"was (\S+) used / (\S+) limit.* Selected to kill: .*?pid=(\d+), actual memory used=(\S+),", broken
    )
    if ended:
        used, limit, pid, own = ended.groups()
        reason = f"out of memory: Ray ended its process, which used {own}, when {used} of {limit} were in use"
        lost = {key: reason for key, record in under_way.items() if record.read("worker.json").get("pid") == int(pid)}
        if lost:
            return lost
    return {key: broken[:2000] for key in under_way if crashes[key] >= MOST_ATTEMPTS}
