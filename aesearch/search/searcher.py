"""Connect a queue of trials with Ray Tune.

Trials are handed out, their ends are noted, and the rule for early stopping is applied.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ray import cloudpickle
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from aesearch.records import Record
from aesearch.search.ledger import Ledger
from aesearch.search.surroundings import check_folder
from aesearch.search.values import Outcome, Place, Progress, Task
from aesearch.study import Judge
from aesearch.train import TrainConfig

MOST_ATTEMPTS = 3  # at a trial whose worker dies
DIED = "the worker process of the trial ended, killed or out of memory"


class Queue(Protocol):
    """Queue of a ledger's trials, or of parts of them.

    left: how many have not ended.
    """

    @property
    def left(self) -> int:
        """Number of entries that have not ended."""
        ...

    @property
    def ledger(self) -> Ledger:
        """Ledger of the study."""
        ...

    def ask(self) -> tuple[Place, TrainConfig | Exception]:
        """Hand out the next entry: its place, and its configuration or the space's error."""
        ...

    def report(self, key: int, value: float, epoch: int) -> None:
        """Note the first searched metric of a trial after an epoch."""
        ...

    def tell(self, place: Place, outcome: Outcome) -> None:
        """Note how an entry ended."""
        ...


@dataclass
class Trials:
    """The trials that a ledger lacks, as a queue."""

    ledger: Ledger

    @property
    def left(self) -> int:
        """Number of trials that have not ended."""
        return self.ledger.left

    def ask(self) -> tuple[Place, TrainConfig | Exception]:
        """Hand out the next trial."""
        key, config = self.ledger.ask()
        return Place(key), config

    def report(self, key: int, value: float, epoch: int) -> None:
        """Note the searched metric after an epoch."""
        self.ledger.report(key, value, epoch)

    def tell(self, place: Place, outcome: Outcome) -> None:
        """Note how a trial ended."""
        self.ledger.tell(place.key, outcome)


@dataclass
class Listener:
    """Functions that are told how a search goes.

    changed: told the key of each trial whose record has news. watch: told the share of its epochs that each running
    trial has done, by a name of its own. ended: told the key of each trial that has ended.
    """

    changed: Callable[[int], None]
    watch: Callable[[Mapping[str, float]], None]
    ended: Callable[[int], None]


@dataclass
class Attempts:
    """Counts of how often each trial was handed out, and what to hand out again.

    What came back is handed out before anything else.

    It outlives the searches of a queue, which may break down.
    """

    made: Counter[Place] = field(default_factory=Counter)
    again: deque[Task] = field(default_factory=deque)


class QueueSearcher(Searcher):
    """Asks a queue for configurations and tells it, truthfully, how each trial ended.

    Ray's own OptunaSearch tells an early-stopped trial as complete, and leaves one with a NaN running for ever.
    live: what is under way, by Tune's identifier of the trial.
    """

    def __init__(self, queue: Queue, task: Task, attempts: Attempts, listener: Listener) -> None:
        super().__init__()
        self.queue = queue
        self.task = task
        self.attempts = attempts
        self.listener = listener
        self.live: dict[str, Task] = {}
        self.shares: dict[str, float] = {}

    def suggest(self, trial_id: str) -> dict[str, Task] | str | None:  # type: ignore[override]
        """Hand out the next trial; none while only trials that may come back are left."""
        task = self._next()
        if task is None:
            return None if self.live else Searcher.FINISHED
        self.attempts.made[task.place] += 1
        self.live[trial_id], self.shares[trial_id] = task, 0.0
        self._notify(task.place.key)
        return {"task": task}

    def _next(self) -> Task | None:
        if self.attempts.again:
            return self.attempts.again.popleft()
        if self.queue.left <= len(self.live):
            return None
        place, config = self.queue.ask()
        # By value: a configuration may hold classes of the study file, which workers cannot import.
        return replace(self.task, place=place, config=cloudpickle.dumps(config))

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note an epoch."""
        self._report(trial_id, result["told"])
        self._notify(self.live[trial_id].place.key)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Note how a trial ended, or hand it out again."""
        told = None if error or not result else result["told"]
        # Tune does not pass the result at which it stops a trial to on_trial_result.
        self._report(trial_id, told)
        task = self.live.pop(trial_id)
        del self.shares[trial_id]
        outcome = self._outcome(task.place, told)
        if outcome is None or outcome.state == "FAIL":
            # The trial may not be to blame: then it is tried again once that is mended.
            check_folder(self.queue.ledger.folder, outcome.reason if outcome else "")
        if outcome is None:
            self.attempts.again.append(task)
        else:
            self.queue.tell(task.place, outcome)
        self._notify(task.place.key)
        if outcome is not None:
            self.listener.ended(task.place.key)

    def _outcome(self, place: Place, told: Progress | Outcome | None) -> Outcome | None:
        """Decide how a trial ended; None if it is to be tried again.

        A failure that it handed over counts first, then what Tune heard last.
        """
        failure = record_of(self.queue, place).read("failure.json").get("reason", "")
        match failure, told:
            case "", Outcome():
                return told
            case "", Progress():
                # Only the rule ends a trial after an epoch that is not its last.
                return Outcome("PRUNED")
            case "", None:
                # Tune also ends a trial this way whose worker died before the trial began.
                return Outcome("FAIL", reason=DIED) if self.attempts.made[place] >= MOST_ATTEMPTS else None
            case _:
                # What raised would raise again: only a worker that died is worth another attempt.
                return Outcome("FAIL", reason=failure)

    def _report(self, trial_id: str, told: Progress | Outcome | None) -> None:
        if isinstance(told, Progress):
            self.shares[trial_id] = told.share
            self.queue.report(self.live[trial_id].place.key, told.values[0], told.epoch)

    def _notify(self, key: int) -> None:
        self.listener.changed(key)
        self.listener.watch(self.shares)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles the searcher into snapshots that are never read."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the queue holds all state."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the queue holds all state."""


def record_of(queue: Queue, place: Place) -> Record:
    """Name the record of a trial, or of a part of one."""
    return Record(place.folder(queue.ledger.folder / "trials"))


class JudgedScheduler(FIFOScheduler):
    """Scheduler that stops trials as the study's rule says, within each condition.

    The ledger's records say what trials of earlier drivers reached.
    make: of a judge without records.
    """

    def __init__(self, ledger: Ledger, live: Mapping[str, Task], make: Callable[[], Judge]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ledger = ledger
        self.live = live
        self.make = make
        self.judges: dict[tuple[Any, ...], Judge] = {}
        self.places: dict[int, tuple[tuple[Any, ...], int]] = {}
        self.signs = ledger.study.signs
        for key, values in ledger.intermediate().items():
            for epoch, of_epoch in values.items():
                judge, place = self._judge(key)
                judge.record(place, epoch, self._costs(of_epoch))

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles the scheduler into snapshots that are never read."""
        return {}

    def _judge(self, key: int) -> tuple[Judge, int]:
        """Find the judge of a trial's condition, and the trial's number there."""
        if key not in self.places:
            self.places[key] = self.ledger.place(key)
        condition, place = self.places[key]
        if condition not in self.judges:
            self.judges[condition] = self.make()
        return self.judges[condition], place

    def _costs(self, values: Iterable[float]) -> tuple[float, ...]:
        return tuple(sign * value for sign, value in zip(self.signs, values, strict=True))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ARG002
        """Decide whether a trial goes on after an epoch."""
        told = result["told"]
        if not isinstance(told, Progress):
            return str(TrialScheduler.CONTINUE)
        key = self.live[trial.trial_id].place.key
        judge, place = self._judge(key)
        stops = judge.stops(place, told.epoch, self._costs(told.values))
        return str(TrialScheduler.STOP if stops else TrialScheduler.CONTINUE)
