"""The search: a Ray Tune trainable around the training loop, fed from the ledger. The only file that imports Ray."""

import gc
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read by Ray when it is imported: its own snapshots, loggers and tables are not used.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "86400")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "auto")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import numpy as np
import ray
import torch
from ray import cloudpickle, tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from aesearch.errors import UserError
from aesearch.ledger import Ledger
from aesearch.model import save_artifacts
from aesearch.records import Record
from aesearch.study import Study
from aesearch.train import Checkpoint, NonFiniteLossError, TrainConfig, read_checkpoint, train, write_checkpoint

OBJECT_STORE_BYTES = 128 * 1024**2  # on a local Ray: trials share data through the file system


@dataclass(frozen=True)
class Where:
    """Where a study runs: Ray's address (None: $RAY_ADDRESS, else a local Ray), the folder of the data sets."""

    address: str | None
    data: Path
    verbose: bool = False


# Called with (trials running, each one's share done) whenever something has happened.
Watcher = Callable[[int, float], None]


def run_study(ledger: Ledger, where: Where, changed: Callable[[int], None], watch: Watcher) -> None:
    """Run the trials that the ledger lacks. ``changed`` is told the key of each trial whose record has news.

    Raises KeyboardInterrupt after SIGINT or SIGTERM.
    """
    study = ledger.study
    remaining = ledger.total - len(ledger.finished())
    if not remaining:
        return
    # The study file's own classes and functions go to the workers by value: they cannot import it.
    cloudpickle.register_pickle_by_value(sys.modules[study.space.__module__])
    with _ray(where), _sigterm_as_sigint():
        cpus, gpus, concurrent = _resources(study, remaining, grows=where.address is not None)
        task = {
            "data": str(where.data),
            "threads": max(1, int(cpus)),
            "device": "cuda" if gpus else "cpu",
            "checkpoint_seconds": study.checkpoint_seconds,
        }
        searcher = LedgerSearcher(ledger, task, changed, watch)
        tuner = tune.Tuner(
            tune.with_resources(run_trial, {"cpu": cpus, "gpu": gpus}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=_scheduler(study),
                num_samples=remaining,
                max_concurrent_trials=concurrent,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="ray",
                storage_path=str(ledger.folder),
                verbose=3 if where.verbose else 0,
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        )
        tuner.fit()
    # After SIGINT fit() returns normally, so only the ledger tells.
    if len(ledger.finished()) < ledger.total:
        raise KeyboardInterrupt


def _scheduler(study: Study) -> TrialScheduler:
    if study.early_stopping is None:
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr="epoch",
        metric="value0",
        mode=study.searched[0].direction[:3],
        # One more than the longest trial: the last epoch must finish by itself, not be stopped.
        max_t=1 + max(config.epochs for _, config in study.probes),
        grace_period=study.early_stopping.grace,
        reduction_factor=study.early_stopping.factor,
    )


def _resources(study: Study, remaining: int, grows: bool) -> tuple[float, float, int]:
    """(CPUs, GPUs) of a trial, and the number of trials at once.

    A cluster ``grows`` with what waits for it, so nothing is said of what it has not yet. Raises UserError where a
    trial would wait for ever.
    """
    cluster = ray.cluster_resources()
    cpus, devices = cluster.get("CPU", 0), cluster.get("GPU", 0)
    concurrent = min(remaining, study.max_concurrent or remaining)
    if not grows:
        if study.cpus > cpus or (study.gpus or 0) > devices:
            raise UserError(
                f"a trial must fit on the machine, but it needs cpus={study.cpus}, gpus={study.gpus or 0} of "
                f"{cpus:g} CPUs and {devices:g} GPUs; lower them in the study"
            )
        concurrent = min(concurrent, int(cpus / study.cpus))
    # A quarter of a GPU at the least: memory is not divided by Ray, only shared.
    gpus = study.gpus if study.gpus is not None else max(0.25, min(1.0, devices / concurrent)) if devices else 0.0
    if gpus and not grows:
        concurrent = min(concurrent, int(devices / gpus))
    return study.cpus, gpus, concurrent


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
            ray.init(**options)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"Ray must be reachable, but {options['address']}: {' '.join(str(error).split())[:300]}"
            ) from error
    try:
        yield
    finally:
        if started:
            ray.shutdown()


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


class LedgerSearcher(Searcher):
    """Asks the ledger for configurations and tells it, truthfully, how each trial ended.

    Ray's own OptunaSearch tells an early-stopped trial as complete, and leaves one with a NaN running for ever.
    """

    def __init__(self, ledger: Ledger, task: dict[str, Any], changed: Callable[[int], None], watch: Watcher) -> None:
        super().__init__()
        self.ledger = ledger
        self.task = task | {"searched": [metric.name for metric in ledger.study.searched]}
        self.changed = changed
        self.watch = watch
        self.keys: dict[str, int] = {}
        self.shares: dict[int, float] = {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        key, config = self.ledger.ask()
        self.keys[trial_id] = key
        self.shares[key] = 0.0
        self._notify(key)
        # As bytes: a configuration may hold classes of the study file, which workers cannot import.
        return self.task | {"folder": str(self.ledger.record(key).folder), "config": cloudpickle.dumps(config)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        key = self.keys[trial_id]
        if not result.get("final", True):
            self.ledger.report(key, result["value0"], result["epoch"])
        self.shares[key] = result.get("share", self.shares[key])
        self._notify(key)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        key = self.keys.pop(trial_id)
        failure = self.ledger.record(key).read("failure.json")
        if failure or error or not result:
            reason = failure.get("reason", "the worker process of the trial ended, killed or out of memory")
            self.ledger.tell(key, "FAIL", reason=reason)
        elif result["final"]:
            values = [result[f"value{i}"] for i in range(len(self.ledger.study.searched))]
            self.ledger.tell(key, "COMPLETE", values)
        else:
            # Tune does not pass the result at which it stops a trial to on_trial_result.
            self.ledger.report(key, result["value0"], result["epoch"])
            self.ledger.tell(key, "PRUNED")
        del self.shares[key]
        self._notify(key)

    def _notify(self, key: int) -> None:
        self.changed(key)
        self.watch(len(self.shares), sum(self.shares.values()))

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles the searcher into snapshots that are never read."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger holds all state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger holds all state."""


def run_trial(task: dict[str, Any]) -> None:
    """The trainable, in a worker: train one configuration, write its record, report each epoch to Tune."""
    record = Record(Path(task["folder"]))
    if not record.folder.exists():
        raise RuntimeError(f"--home must be on a file system that all nodes share, but this one lacks {record.folder}")
    try:
        _train_trial(record, task)
    except NonFiniteLossError as error:
        # A normal outcome of a search: the worker stays.
        record.fail(error)
        tune.report({"failed": True})
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
    config = cloudpickle.loads(task["config"])
    if isinstance(config, Exception):
        raise config
    data = config.data.load(Path(task["data"]))
    done = record.history()
    before = done[-1]["elapsed"] if done else 0.0
    start, remarks = read_checkpoint(record.checkpoints, config)
    for remark in remarks:
        record.remark(remark)
    kept = time.perf_counter()
    for epoch in train(config, data, task["device"], cache=Path(task["data"]), start=start):
        metrics = epoch.metrics
        if epoch.result:
            metrics = epoch.result.metrics
            save_artifacts(record.artifacts, config, epoch.result, data)
        # What an interrupted attempt did after its checkpoint is done again, but known already.
        if epoch.number > len(done):
            record.append(epoch, before + time.perf_counter() - started)
        if epoch.checkpoint and not epoch.result and time.perf_counter() - kept >= task["checkpoint_seconds"]:
            _keep(record, epoch.checkpoint(), config)
            kept = time.perf_counter()
        if epoch.result:
            record.finish(
                {
                    "metrics": epoch.result.metrics,
                    "selected_epochs": epoch.result.epochs,
                    "references": epoch.result.references,
                    "protocols": epoch.result.protocols,
                    "pictured_replica": int(np.argmin(metrics["val/loss"])),
                    "seconds": before + time.perf_counter() - started,
                }
            )
        # A score is measured at the end only: until then its value is not known.
        known = [metrics.get(name, (math.nan,)) for name in task["searched"]]
        values = {f"value{i}": float(np.median(measured)) for i, measured in enumerate(known)}
        tune.report(
            {"epoch": epoch.number, "share": epoch.number / config.epochs, "final": bool(epoch.result), **values}
        )


def _keep(record: Record, checkpoint: Checkpoint, config: TrainConfig) -> None:
    """Keep a checkpoint. Where there is no room for it, the trial goes on without."""
    try:
        write_checkpoint(record.checkpoints, checkpoint, config)
    except OSError as error:
        record.remark(f"no checkpoint was kept after epoch {checkpoint.epoch}: {error}")
