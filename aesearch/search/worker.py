"""Train one trial in a Ray worker."""

import faulthandler
import gc
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ray import cloudpickle, tune

from aesearch.model import save_artifacts
from aesearch.records import Record, medians, summary
from aesearch.search.more_replicas import join
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
