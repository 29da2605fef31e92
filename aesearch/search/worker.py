"""Train one trial, and hand over what it comes to.

That is in a Ray worker or, without Ray, in the driver's own process.

What a trial computes with stands in a scratch folder of this machine; the study's own folder need not be there.
"""

import faulthandler
import gc
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile, gettempdir, mkdtemp
from typing import Any

import torch
from ray import cloudpickle, tune

from aesearch.datasets import Data
from aesearch.model import read_model, save_artifacts
from aesearch.records import epoch_line, failure_of, join_replicas, medians, summary
from aesearch.rights import shared_files
from aesearch.search.handover import Handover
from aesearch.search.keeper import SupersededError
from aesearch.search.time_limit import limited
from aesearch.search.values import Outcome, Progress, Task
from aesearch.train import (
    Checkpoint,
    Epoch,
    NonFiniteLossError,
    Result,
    TrainConfig,
    Values,
    read_checkpoint,
    train,
    write_checkpoint,
)

SCRATCH = "aesearch-"  # begin of the names of scratch folders, which a process id follows


class StoppedError(SystemExit):
    """The end of a trial by the search, at its report.

    It is no failure; a trial's own sys.exit is one.
    """


def run_trial(config: dict[str, Task]) -> None:
    """Train the trial of ``config["task"]`` as Tune's trainable."""
    train_trial(config["task"], _tell_tune)


def train_trial(task: Task, tell: Callable[[Progress | Outcome], None]) -> None:
    """Train a trial and hand over what it comes to.

    tell: told of each epoch, and of the end; it raises StoppedError to end the trial there. Raises what the trial
    raised, once its failure was handed over.
    """
    handover = Handover(task.keeper, task.place)
    try:
        with _scratch() as folder:
            _train(task, handover, folder, tell)
    except NonFiniteLossError as error:
        # A normal outcome of a search: the worker stays.
        reason = _failed(handover, error)
        tell(Outcome("FAIL", reason=reason))
    except (StoppedError, SupersededError):
        raise
    except SystemExit as error:
        # Ray would end the process with it.
        _failed(handover, error)
        raise RuntimeError("the trial called sys.exit") from error
    except Exception as error:
        _failed(handover, error)
        raise
    finally:
        # The next trial of this worker starts with the whole device.
        if task.device == "cuda":
            gc.collect()
            torch.cuda.empty_cache()


def _failed(handover: Handover, error: BaseException) -> str:
    reason, details = failure_of(error)
    handover.failure(reason, details)
    return reason


def _train(task: Task, handover: Handover, folder: Path, tell: Callable[[Progress | Outcome], None]) -> None:
    started = time.perf_counter()
    torch.set_num_threads(task.threads)
    # Denormals in the moments of dead codes' weights cost more than they are worth.
    torch.set_flush_denormal(True)
    config = cloudpickle.loads(task.config)
    if isinstance(config, Exception):
        raise config
    left = handover.left
    ended = left.result.get("metrics")
    if ended and len(ended["val/loss"]) == config.replicas:
        # A process that ended after the last epoch, but before Tune knew of it.
        tell(Outcome("COMPLETE", tuple(medians(ended, task.searched))))
        return
    with shared_files():
        data = config.data.load(task.data)
    before = left.history[-1]["elapsed"] if left.history else 0.0
    start = _start(handover, folder / "checkpoints", config)
    kept = time.perf_counter()
    ends = _plateau(task, left.history[: start.epoch if start else 0])
    epochs = train(config, data, task.device, cache=task.data, start=start, ends=ends, replicas=task.place.replicas)
    for epoch in _watched(epochs, task.epoch_seconds, handover):
        elapsed = before + time.perf_counter() - started
        # What an interrupted attempt did after its checkpoint is done again, but known already.
        if epoch.number > len(left.history):
            handover.epoch(epoch_line(epoch, elapsed))
        if epoch.result:
            _finish(handover, folder / "artifacts", config, epoch.result, data, elapsed)
            # A score is measured at the end only: until then its value is not known.
            tell(Outcome("COMPLETE", tuple(medians(epoch.result.metrics, task.searched))))
            return
        if epoch.checkpoint and time.perf_counter() - kept >= task.checkpoint_seconds:
            _keep(handover, folder / "checkpoints", epoch.checkpoint(), config)
            kept = time.perf_counter()
        tell(Progress(epoch.number, epoch.number / config.epochs, tuple(medians(epoch.metrics, task.searched))))


def _tell_tune(told: Progress | Outcome) -> None:
    """Report to Tune, which may end the trial here."""
    try:
        tune.report({"told": told})
    except SystemExit as error:
        raise StoppedError(error.code) from error


def _start(handover: Handover, folder: Path, config: TrainConfig) -> Checkpoint | None:
    """Fetch the newest whole checkpoint; None if there is none."""
    left, part = handover.left, handover.place
    below = part.folder(Path()).relative_to(part.trial(Path()))
    handover.fetch([str(below / "checkpoints" / name) for name in left.checkpoints], folder)
    start, remarks = read_checkpoint(folder, config, len(left.history))
    if left.attempt > 1:
        remarks.append(f"its process ended; another one goes on after epoch {start.epoch if start else 0}")
    for remark in remarks:
        handover.remark(remark)
    return start


def _keep(handover: Handover, folder: Path, checkpoint: Checkpoint, config: TrainConfig) -> None:
    """Hand over a checkpoint.

    Where there is no room for it, the trial goes on without.
    """
    try:
        write_checkpoint(folder, checkpoint, config)
        handover.checkpoint(folder, f"epoch-{checkpoint.epoch:06d}")
    except OSError as error:
        handover.remark(f"no checkpoint was kept after epoch {checkpoint.epoch}: {error}")


def _finish(handover: Handover, folder: Path, config: TrainConfig, result: Result, data: Data, elapsed: float) -> None:
    """Hand over what the trial came to.

    The replicas of a part are joined to those that the trial had before.
    """
    folder.mkdir()
    if not handover.place.replicas:
        save_artifacts(folder, config, result, data)
        handover.result(folder, summary(result, elapsed))
        return
    known, start = handover.left.result, handover.place.start
    handover.fetch(["artifacts/model.safetensors", "artifacts/info.json"], folder.with_name("before"))
    before = read_model(folder.with_name("before"), config).weights
    whole = Result(
        join_replicas(known["metrics"], result.metrics, start),
        (*known["selected_epochs"][:start], *result.epochs),
        {name: torch.cat([before[name][:start], tensor]) for name, tensor in result.weights.items()},
        known["references"],
        known["protocols"],
    )
    save_artifacts(folder, config, whole, data)
    first = {"first_replicas": known.get("first_replicas", start)}
    if others := sorted(known["metrics"].keys() ^ result.metrics.keys()):
        handover.remark(f"not all replicas have {', '.join(others)}, so the trial has them no more")
    handover.joined(folder, summary(whole, known["seconds"] + elapsed) | first)


def _plateau(task: Task, before: Sequence[Mapping[str, Any]]) -> Callable[[Mapping[str, Values]], bool] | None:
    """Make a test of whether the searched metric has come to rest.

    before: the history so far. The test is told each epoch after it.
    """
    plateau = task.plateau
    if plateau is None:
        return None

    def cost(metrics: Mapping[str, Values]) -> float:
        return float(task.sign * medians(metrics, task.searched)[0])

    costs = [cost(line["metrics"]) for line in before]

    def ends(metrics: Mapping[str, Values]) -> bool:
        costs.append(cost(metrics))
        return plateau.reached(costs)

    return ends


def _watched(epochs: Iterator[Epoch], seconds: float, handover: Handover) -> Iterator[Epoch]:
    """Pass ``epochs`` on, and end this process where none ends in ``seconds``.

    Its stacks are handed over first. Time in which the process itself is stopped, as by Ctrl-Z, does not count.
    """
    if seconds == math.inf:
        yield from epochs
        return

    def end() -> None:
        with TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file)
            file.seek(0)
            handover.failure(f"hung: no epoch ended within {seconds:g} s", file.read())
        os._exit(1)

    while True:
        with limited(seconds, end):
            epoch = next(epochs, None)
        if epoch is None:
            return
        yield epoch


@contextmanager
def _scratch() -> Iterator[Path]:
    """Make a folder for the files of one attempt.

    Folders of processes that are gone are removed.
    """
    for left in Path(gettempdir()).glob(f"{SCRATCH}*-*"):
        pid = left.name.removeprefix(SCRATCH).split("-")[0]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    """Tell whether a process exists; another user's does, and may not be touched."""
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True
