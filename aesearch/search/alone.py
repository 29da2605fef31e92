"""Run trials in this process, one at a time, without Ray.

Searcher and scheduler hear what Tune would tell them. For a debugger or a profiler, and for machines
where Ray cannot run.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from types import SimpleNamespace

import torch
from ray.tune.schedulers import TrialScheduler

from aesearch.search.searcher import QueueSearcher
from aesearch.search.values import Outcome, Progress, Task
from aesearch.search.worker import StoppedError, train_trial


def run_alone(searcher: QueueSearcher, scheduler: TrialScheduler) -> None:
    """Run trials until the searcher has no more.

    After SIGINT it returns normally, as Tune does.
    """
    with suppress(KeyboardInterrupt), _own_arithmetic():
        for number in count():
            config = searcher.suggest(str(number))
            if not isinstance(config, dict):
                return
            _run_one(str(number), config["task"], searcher, scheduler)


@contextmanager
def _own_arithmetic() -> Iterator[None]:
    """Put back what a training changes: the threads, and how denormals are treated."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)


def _run_one(trial_id: str, task: Task, searcher: QueueSearcher, scheduler: TrialScheduler) -> None:
    """Train a trial, and tell searcher and scheduler what Tune would tell them."""
    last: dict[str, Progress | Outcome] = {}

    def tell(told: Progress | Outcome) -> None:
        last["told"] = told
        if isinstance(told, Progress):
            trial = SimpleNamespace(trial_id=trial_id)
            if scheduler.on_trial_result(None, trial, last) == TrialScheduler.STOP:  # type: ignore[arg-type]
                raise StoppedError
            searcher.on_trial_result(trial_id, last)

    failed = False
    try:
        train_trial(task, tell)
    except StoppedError:
        pass
    except Exception:
        # Its failure was handed over.
        failed = True
    searcher.on_trial_complete(trial_id, last, error=failed)
