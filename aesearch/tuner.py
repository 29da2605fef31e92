"""The search: a Ray Tune trainable around the training loop, fed from the ledger. The only file that imports Ray."""

import errno
import faulthandler
import gc
import logging
import math
import os
import re
import shutil
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

# Read by Ray when it is imported: its own snapshots, loggers and tables are not used.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "86400")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "auto")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
import torch
from ray import cloudpickle, tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from aesearch.budgets import Budget
from aesearch.errors import UserError
from aesearch.ledger import Ledger
from aesearch.model import save_artifacts
from aesearch.race import Race, join, parts
from aesearch.records import Record, medians, summary
from aesearch.stopping import Judge, Plateau, Rule
from aesearch.study import Study
from aesearch.train import (
    Checkpoint,
    Epoch,
    NonFiniteLossError,
    TrainConfig,
    Values,
    read_checkpoint,
    train,
    write_checkpoint,
)

MOST_ATTEMPTS = 3  # of a trial whose worker dies
LEAST_ON_CLUSTER = 16  # trials at once or waiting
NO_ROOM = os.strerror(errno.ENOSPC)
LEAST_ROOM = 64 * 1024  # bytes that the ledger needs to say how a trial ended
OBJECT_STORE_BYTES = 128 * 1024**2  # on a local Ray: trials share data through the file system


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


@dataclass(frozen=True)
class Where:
    """Where a study runs: Ray's address (None: $RAY_ADDRESS, else a local Ray), the folder of the data sets."""

    address: str | None
    data: Path
    verbose: bool = False


# Called with (trials running, each one's share done) whenever something has happened.
Watcher = Callable[[int, float], None]


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
        with _ray(where), _sigterm_as_sigint(), budget.running():
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
        _check_room(queue.folder, broken)
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
    cpus, gpus, concurrent = _resources(study, remaining, grows=where.address not in (None, "local"))
    searcher.task = {
        "searched": queue.searched,
        "data": str(where.data),
        "threads": _threads(cpus),
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
            scheduler=_scheduler(queue, searcher.keys),
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
        with _handler_kept(signal.SIGINT):
            tuner.fit()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return ""


def _check_room(folder: Path, broken: str = "") -> None:
    """Raise UserError where the disk of ``folder`` is full, or was when the search broke."""
    if NO_ROOM in broken or shutil.disk_usage(folder).free < LEAST_ROOM:
        raise UserError(
            f"a study must have room to write, but the disk of {folder} is full; free some, and the same command goes "
            "on with what is missing"
        )


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


def _scheduler(queue: Queue, keys: Mapping[str, int]) -> TrialScheduler:
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


def _resources(study: Study, remaining: int, grows: bool) -> tuple[float, float, int]:
    """(CPUs, GPUs) of a trial, and the number of trials at once.

    A cluster ``grows`` with what waits for it, so nothing is said of what it has not yet. Raises UserError where a
    trial would wait for ever.
    """
    cluster = ray.cluster_resources()
    cpus, devices = cluster.get("CPU", 0), cluster.get("GPU", 0)
    if not grows:
        return study.shares(remaining, cpus, devices)
    # A sampler learns nothing from trials that wait, so only some do, for a cluster to see that it may grow.
    fits = int(min(cpus / study.cpus, devices / study.gpus if study.gpus else math.inf))
    concurrent = min(remaining, study.max_concurrent or max(fits, LEAST_ON_CLUSTER))
    return study.cpus, study.gpu_share(devices, concurrent), concurrent


def _threads(cpus: float) -> int:
    """Of a trial: its CPUs, but no more than $OMP_NUM_THREADS, where a person has set it."""
    most = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return max(1, min(int(cpus), int(most) if most.isdigit() else int(cpus)))


def _probe(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=5).close()


@contextmanager
def _ray(where: Where) -> Any:
    # Without an address Ray would join any cluster that was started on this machine.
    options: dict[str, Any] = {"address": where.address or os.environ.get("RAY_ADDRESS", "local")}
    if options["address"] == "local":
        options |= {"object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    if not where.verbose:
        options |= {"log_to_driver": False, "logging_level": logging.CRITICAL}
        for name in ("ray", "ray.tune"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    started = not ray.is_initialized()
    if started:
        try:
            _probe(options["address"])
            with _handler_kept(signal.SIGTERM):
                ray.init(**options)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"Ray must be reachable, but {options['address']}: {' '.join(str(error).split())[:300]}"
            ) from error
    try:
        yield
    finally:
        if started:
            with _handler_kept(signal.SIGTERM), _nothing_collected():
                ray.shutdown()


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """While Ray shuts down, another thread's garbage collection that meets a handle of Ray's ends the whole process."""
    gc.disable()
    gc.collect()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _handler_kept(number: signal.Signals) -> Iterator[None]:
    """Put a signal's handler back: Ray takes SIGTERM when it starts and leaves none when it stops; Tune leaves its own
    for SIGINT, which would swallow the next Ctrl-C."""
    before = signal.getsignal(number)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(number, before)


@contextmanager
def _sigterm_as_sigint() -> Any:
    """Let SIGTERM stop a study as cleanly as SIGINT, which Tune handles by returning from fit()."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
            _check_room(self.queue.folder, reason)
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


class StoppedByTune(SystemExit):
    """How Tune ends a trial at its report: no failure of the trial, whose own sys.exit is one."""


def run_trial(task: dict[str, Any]) -> None:
    """The trainable, in a worker: train one configuration, write its record, report each epoch to Tune."""
    record = Record(Path(task["folder"]))
    if not record.folder.exists():
        lacks = f"{socket.gethostname()} lacks {record.folder}"
        tune.report({"failed": f"--home must be on a file system that all nodes share, but {lacks}"})
        return
    hung = record.folder / "hung.txt"
    if hung.exists() and hung.stat().st_size:
        record.fail_for(f"hung: no epoch ended within {task['epoch_seconds']:g} s", hung.read_text())
    if failure := record.read("failure.json"):
        # What raised once would do so again; only a worker that died is worth another one.
        tune.report({"failed": failure["reason"]})
        return
    try:
        _train_trial(record, task)
    except NonFiniteLossError as error:
        # A normal outcome of a search: the worker stays.
        tune.report({"failed": record.fail(error)})
    except StoppedByTune:
        raise
    except SystemExit as error:
        # Ray would let it end the process, and try the trial again in another.
        record.fail(error)
        raise RuntimeError("the trial called sys.exit") from error
    except Exception as error:
        record.fail(error)
        raise
    finally:
        # The next trial of this worker starts with the whole device.
        if task["device"] == "cuda":
            gc.collect()
            torch.cuda.empty_cache()


def _train_trial(record: Record, task: dict[str, Any]) -> None:
    started = time.perf_counter()
    torch.set_num_threads(task["threads"])
    # Denormals in the moments of dead codes' weights cost more than they are worth.
    torch.set_flush_denormal(True)
    # First of all: a process that Ray ends for its memory is known by its pid.
    attempt = record.attempt()
    config = cloudpickle.loads(task["config"])
    if isinstance(config, Exception):
        raise config
    begun = record.read("trial.json")
    part = range(begun["start"], begun["stop"]) if "start" in begun else None
    whole = Record(record.folder.parents[1]) if part else record
    ended = whole.read("result.json").get("metrics")
    if ended and len(ended["val/loss"]) == config.replicas:
        # A process that ended after the last epoch, but before Tune knew of it.
        _report(config.epochs, config, ended, task["searched"], final=True)
        return
    data = config.data.load(Path(task["data"]))
    done = record.history()
    before = done[-1]["elapsed"] if done else 0.0
    start, remarks = read_checkpoint(record.checkpoints, config, len(done))
    if attempt > 1:
        remarks.append(f"its process ended; another one goes on after epoch {start.epoch if start else 0}")
    for remark in remarks:
        record.remark(remark)
    kept = time.perf_counter()
    ends = _plateau(task, done[: start.epoch if start else 0])
    cache = Path(task["data"])
    epochs = train(config, data, task["device"], cache=cache, start=start, ends=ends, replicas=part)
    for epoch in _watched(epochs, task["epoch_seconds"], record.folder / "hung.txt"):
        # What an interrupted attempt did after its checkpoint is done again, but known already.
        if epoch.number > len(done):
            record.append(epoch, before + time.perf_counter() - started)
        if epoch.checkpoint and not epoch.result and time.perf_counter() - kept >= task["checkpoint_seconds"]:
            _keep(record, epoch.checkpoint(), config)
            kept = time.perf_counter()
        if epoch.result and part:
            join(whole, record, part.start, config, epoch.result, data)
        elif epoch.result:
            save_artifacts(record.artifacts, config, epoch.result, data)
            record.finish(summary(epoch.result, before + time.perf_counter() - started))
        # A score is measured at the end only: until then its value is not known.
        metrics = epoch.result.metrics if epoch.result else epoch.metrics
        _report(epoch.number, config, metrics, task["searched"], final=bool(epoch.result))


def _report(
    epoch: int, config: TrainConfig, metrics: Mapping[str, Values], searched: Sequence[str], final: bool
) -> None:
    values = {f"value{i}": value for i, value in enumerate(medians(metrics, searched))}
    try:
        tune.report({"epoch": epoch, "share": epoch / config.epochs, "final": final, **values})
    except SystemExit as error:
        raise StoppedByTune(error.code) from error


def _plateau(task: dict[str, Any], before: Sequence[dict[str, Any]]) -> Callable[[Mapping[str, Values]], bool] | None:
    """Whether the searched metric has come to rest, told each epoch after those of the history ``before``."""
    if task["plateau"] is None:
        return None

    def cost(metrics: Mapping[str, Values]) -> float:
        return float(task["sign"] * medians(metrics, task["searched"])[0])

    costs = [cost(line["metrics"]) for line in before]

    def ends(metrics: Mapping[str, Values]) -> bool:
        costs.append(cost(metrics))
        return bool(task["plateau"].reached(costs))

    return ends


def _keep(record: Record, checkpoint: Checkpoint, config: TrainConfig) -> None:
    """Keep a checkpoint. Where there is no room for it, the trial goes on without."""
    try:
        write_checkpoint(record.checkpoints, checkpoint, config)
    except OSError as error:
        record.remark(f"no checkpoint was kept after epoch {checkpoint.epoch}: {error}")


def _watched(epochs: Iterator[Epoch], seconds: float, path: Path) -> Iterator[Epoch]:
    """``epochs``, but where none ends for so many ``seconds``, the process ends and leaves its stacks in ``path``."""
    with path.open("w") as file:
        try:
            faulthandler.dump_traceback_later(seconds, exit=True, file=file)
            for epoch in epochs:
                faulthandler.cancel_dump_traceback_later()
                yield epoch
                faulthandler.dump_traceback_later(seconds, exit=True, file=file)
        finally:
            faulthandler.cancel_dump_traceback_later()
