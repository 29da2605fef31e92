"""Connect the ledger with Ray Tune: ask for trials, tell how they ended, stop those that the study's rule stops."""

import errno
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ray import cloudpickle
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from aesearch.errors import UserError
from aesearch.records import Record
from aesearch.search.budgets import Budget
from aesearch.search.ledger import Ledger
from aesearch.study import Judge, Rule, Study
from aesearch.train import (
    TrainConfig,
)

MOST_ATTEMPTS = 3  # of a trial whose worker dies
NO_ROOM = os.strerror(errno.ENOSPC)
LEAST_ROOM = 64 * 1024  # bytes that the ledger needs to say how a trial ended
# Called with (trials running, each one's share done) whenever something has happened.
Watcher = Callable[[int, float], None]


def check_room(folder: Path, broken: str = "") -> None:
    """Raise UserError where the disk of ``folder`` is full, or was when the search broke."""
    if NO_ROOM in broken or shutil.disk_usage(folder).free < LEAST_ROOM:
        raise UserError(
            f"a study must have room to write, but the disk of {folder} is full; free some, and the same command goes "
            "on with what is missing"
        )


class Queue(Protocol):
    """What there is to train: a ledger's trials, or the parts of a race. ``left`` counts what has not ended."""

    @property
    def study(self) -> Study: ...
    @property
    def folder(self) -> Path: ...
    @property
    def searched(self) -> list[str]: ...
    @property
    def left(self) -> int: ...
    @property
    def running(self) -> Mapping[int, object]: ...
    def record(self, key: int) -> Record: ...
    def trial(self, key: int) -> Record: ...
    def ask(self) -> tuple[int, TrainConfig | Exception]: ...
    def report(self, key: int, value: float, epoch: int) -> None: ...
    def tell(self, key: int, state: str, values: list[float] | None = None, reason: str = "") -> None: ...
    def put_back(self, key: int) -> None: ...
    def discard(self) -> list[int]: ...
    def settle(self, lost: Mapping[int, str]) -> None: ...


class QueueSearcher(Searcher):
    """Asks a queue for configurations and tells it, truthfully, how each trial ended.

    Ray's own OptunaSearch tells an early-stopped trial as complete, and leaves one with a NaN running for ever.
    """

    def __init__(
        self, queue: Queue, changed: Callable[[int], None], watch: Watcher, budget: Budget, crashes: Counter[int]
    ) -> None:
        super().__init__()
        self.budget = budget
        self.queue = queue
        self.crashes = crashes
        self.put_back: set[int] = set()
        self.task: dict[str, Any] = {}
        self.changed = changed
        self.watch = watch
        self.keys: dict[str, int] = {}
        self.shares: dict[int, float] = {}
        self.reported: dict[int, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        key, config = self.queue.ask()
        self.keys[trial_id] = key
        self.shares[key] = 0.0
        self._notify(key)
        # As bytes: a configuration may hold classes of the study file, which workers cannot import.
        return self.task | {"folder": str(self.queue.record(key).folder), "config": cloudpickle.dumps(config)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        key = self.keys[trial_id]
        if not result.get("final", True):
            self._report(key, result)
        self.shares[key] = result.get("share", self.shares[key])
        self._notify(key)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        key = self.keys[trial_id]
        reason = self.queue.record(key).read("failure.json").get("reason") or (result or {}).get("failed", "")
        if reason or error or not result:
            # The trial is not to blame: it is tried again once there is room.
            check_room(self.queue.folder, reason)
            if reason or not self._puts_back(key):
                unknown = "the worker process of the trial ended, killed or out of memory"
                self.queue.tell(key, "FAIL", reason=reason or unknown)
        elif result["final"]:
            values = [result[f"value{i}"] for i in range(len(self.queue.searched))]
            self.queue.tell(key, "COMPLETE", values)
        else:
            # Tune does not pass the result at which it stops a trial to on_trial_result.
            self._report(key, result)
            self.queue.tell(key, "PRUNED")
        del self.keys[trial_id], self.shares[key]
        self._notify(key)
        discarded = [] if self.queue.study.adaptive else self.queue.discard()
        for other in discarded:
            self.changed(other)
        self.budget.ended(self.queue.trial(key).folder, [self.queue.trial(other).folder for other in discarded])

    def _puts_back(self, key: int) -> bool:
        """Whether a trial is to be tried in another search, since its worker died before it took the trial up.

        Tune gives the next trial to a worker that has ended one, and takes that one's death for a failure of the trial.
        """
        self.crashes[key] += 1
        begun = self.queue.record(key).read("worker.json").get("attempts", 0)
        if begun + self.crashes[key] > MOST_ATTEMPTS:
            return False
        self.queue.put_back(key)
        self.put_back.add(key)
        return True

    def _report(self, key: int, result: dict[str, Any]) -> None:
        """Tell an epoch's value; a trial that goes on from a checkpoint does some epochs again."""
        if result["epoch"] > self.reported.get(key, 0):
            self.reported[key] = result["epoch"]
            self.queue.report(key, result["value0"], result["epoch"])

    def _notify(self, key: int) -> None:
        self.changed(key)
        self.watch(len(self.shares), sum(self.shares.values()))

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles the searcher into snapshots that are never read."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the queue holds all state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the queue holds all state."""


def scheduler(queue: Queue, keys: Mapping[str, int]) -> TrialScheduler:
    rule = queue.study.early_stopping
    if not isinstance(rule, Rule) or not isinstance(queue, Ledger):
        return FIFOScheduler()
    return JudgedScheduler(queue, keys, rule.judge(max(config.epochs for _, config in queue.study.probes)))


class JudgedScheduler(FIFOScheduler):
    """Stops trials as the study's rule says; the ledger's records say what others reached before this driver."""

    def __init__(self, ledger: Ledger, keys: Mapping[str, int], judge: Judge) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys = keys
        self.judge = judge
        self.signs = ledger.study.signs
        for key, values in ledger.intermediate().items():
            for epoch, of_epoch in values.items():
                judge.record(key, epoch, self._costs(of_epoch))

    def _costs(self, values: Sequence[float]) -> tuple[float, ...]:
        return tuple(sign * value for sign, value in zip(self.signs, values, strict=True))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ARG002
        if result.get("final", True):
            return str(TrialScheduler.CONTINUE)
        values = [result[f"value{i}"] for i in range(len(self.signs))]
        stops = self.judge.stops(self.keys[trial.trial_id], result["epoch"], self._costs(values))
        return str(TrialScheduler.STOP if stops else TrialScheduler.CONTINUE)
