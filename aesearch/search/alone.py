"""Run trials in this process, one at a time, without Ray.

Searcher and scheduler hear what Tune would tell them. For a debugger or a profiler, and for machines where Ray cannot
run.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from types import FrameType, SimpleNamespace

import torch
from ray.tune.schedulers import TrialScheduler

from aesearch.search.searcher import QueueSearcher
from aesearch.search.values import Outcome, Progress, Task
from aesearch.search.worker import StoppedError, train_trial


def run_alone(searcher: QueueSearcher, scheduler: TrialScheduler) -> None:
    """Run trials until the searcher has no more.

    After SIGINT it returns normally, as Tune does.
    """
    with suppress(KeyboardInterrupt), _own_arithmetic(), interrupts_kept() as check:
        for number in count():
            check()
            config = searcher.suggest(str(number))
            if not isinstance(config, dict):
                return
            _run_one(str(number), config["task"], searcher, scheduler, check)


@contextmanager
def interrupts_kept() -> Iterator[Callable[[], None]]:
    """Keep SIGINT from being lost.

    Python ignores what a handler raises in a destructor. The function that is yielded raises it again.
    """
    before, came = signal.getsignal(signal.SIGINT), threading.Event()

    def check() -> None:
        if came.is_set():
            raise KeyboardInterrupt

    def heard(number: int, frame: FrameType | None) -> None:
        came.set()
        if callable(before):
            before(number, frame)

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    signal.signal(signal.SIGINT, heard)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _own_arithmetic() -> Iterator[None]:
    """Put back what a training changes: the threads, and how denormals are treated."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)


def _run_one(
    trial_id: str, task: Task, searcher: QueueSearcher, scheduler: TrialScheduler, check: Callable[[], None]
) -> None:
    """Train a trial, and tell searcher and scheduler what Tune would tell them."""
    last: dict[str, Progress | Outcome] = {}

    def tell(told: Progress | Outcome) -> None:
        last["told"] = told
        if isinstance(told, Progress):
            trial = SimpleNamespace(trial_id=trial_id)
            if scheduler.on_trial_result(None, trial, last) == TrialScheduler.STOP:  # type: ignore[arg-type]
                raise StoppedError
            searcher.on_trial_result(trial_id, last)
        check()

    failed = False
    try:
        train_trial(task, tell)
    except StoppedError:
        pass
    except Exception:
        # Its failure was handed over.
        failed = True
    searcher.on_trial_complete(trial_id, last, error=failed)
