"""Training loop: from a configuration to the metrics of each epoch.

All replicas of a trial train at once.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aesearch.datasets import Data
from aesearch.scores import Reference, Trained, measure, protocols, references
from aesearch.train.checkpoint import Checkpoint, resume, snapshot
from aesearch.train.cohort import Cohort, Values
from aesearch.train.config import TrainConfig
from aesearch.train.engine import Engine, checked, engine_for
from aesearch.train.feed import Feed, scaled

REPEATS = 3  # measurements of a probe, whose median is taken


@dataclass(frozen=True)
class Result:
    """Result of a finished training.

    Each replica keeps the weights of its epoch with the lowest val/loss.

    metrics: val/* and test/* of those weights, a value for each replica.
    epochs: the selected epoch of each replica.
    weights: parameters and buffers by name, each (R, ...), on the CPU.
    references: scores of noise and of the true factors, for metrics that have a protocol.
    protocols: those protocols by name, with their metrics.
    """

    metrics: Mapping[str, Values]
    epochs: tuple[int, ...]
    weights: Mapping[str, Tensor]
    references: Mapping[str, Reference] = field(default_factory=dict)
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Epoch:
    """Epoch of a trial that has ended.

    number: counted from 1.
    metrics: a value for each replica, by name.
    train_seconds, metric_seconds: the times of its training and of its metrics.
    result: set on the last epoch of a training, else None.
    checkpoint: function that takes a checkpoint of this epoch; call it before asking for the next epoch.
    """

    number: int
    metrics: Mapping[str, Values]
    train_seconds: float
    metric_seconds: float
    result: Result | None = None
    checkpoint: Callable[[], Checkpoint] | None = field(default=None, compare=False, repr=False)


class NonFiniteLossError(ArithmeticError):
    """Loss of a replica that became NaN or infinite, which ends its trial."""


def train(
    config: TrainConfig,
    data: Data,
    device: torch.device | str = "cpu",
    *,
    engine: Engine | None = None,
    cache: Path | None = None,
    start: Checkpoint | None = None,
    ends: Callable[[Mapping[str, Values]], bool] | None = None,
    replicas: range | None = None,
) -> Iterator[Epoch]:
    """Train all replicas of ``config`` on ``data``, and yield each epoch.

    engine: by default the fast one for the device. On a GPU, all replicas train in one vmapped program, replayed as a
    CUDA graph; on a CPU each replica trains by itself, with the same numbers.
    cache: a folder for values that scores compute once for many trials.
    start: a checkpoint from which to resume. On a CPU, the epochs after it are bit for bit those of a training
    without interruption.
    ends: function that gets the metrics of each epoch before the last, and returns True to end the training there.
    replicas: the numbers of the replicas to train; by default all.

    Raises NonFiniteLossError at the end of the epoch in which a training loss diverged, and at the last epoch where a
    replica never had a finite val/loss. Raises ValueError for a checkpoint of another training, and UserError for an
    engine that the device cannot run.
    """
    members = replicas or range(config.replicas)
    cohorts = _cohorts(config, data, torch.device(device), members, engine)
    groups = [cohort.seeds for cohort in cohorts]
    if start:
        resume(cohorts, start.state)
    for number in range(start.epoch + 1 if start else 1, config.epochs + 1):
        started = time.perf_counter()
        losses = _joined([{"train/loss": cohort.train_epoch()} for cohort in cohorts])
        for replica, loss in enumerate(losses["train/loss"]):
            if not np.isfinite(loss):
                raise NonFiniteLossError(f"the training loss of replica {members[replica]} is {loss} in epoch {number}")
        trained = time.perf_counter()
        metrics = losses | _joined([cohort.score("val") for cohort in cohorts])
        for cohort, val_losses in zip(cohorts, _split(metrics["val/loss"], groups), strict=True):
            cohort.keep_best(number, val_losses)
        last = number == config.epochs or (ends is not None and ends(metrics))
        if last:
            _check_kept(cohorts, members)
        result = _result(cohorts, cache) if last else None
        checkpoint = partial(_checkpoint, number, cohorts)
        yield Epoch(number, metrics, trained - started, time.perf_counter() - trained, result, checkpoint)
        if last:
            return


def _check_kept(cohorts: list[Cohort], replicas: range) -> None:
    """Raise NonFiniteLossError if a replica never had a finite val/loss."""
    epochs = [epoch for cohort in cohorts for epoch in cohort.best_epochs]
    if 0 in epochs:
        raise NonFiniteLossError(f"the val loss of replica {replicas[epochs.index(0)]} was not finite after any epoch")


def _cohorts(
    config: TrainConfig,
    data: Data,
    device: torch.device,
    replicas: range,
    engine: Engine | None = None,
) -> list[Cohort]:
    engine = checked(engine, device) if engine else engine_for(device)
    feed = Feed(data.images, device, engine.streaming)
    seeds = [replica_seed(config.seed, replica) for replica in replicas]
    groups = [seeds] if engine.vmapped else [[seed] for seed in seeds]
    return [Cohort(config, data, feed, group, engine) for group in groups]


@dataclass(frozen=True)
class Costs:
    """Costs of a training, as measured by a probe.

    step: seconds of a step of all replicas.
    epoch: seconds of an epoch without its steps.
    end: seconds of all that follows the last epoch.
    result: the result of the probe, whose size is that of a training's; None where the end was not measured.
    checkpoint: the state of the probe, whose size is that of a training's checkpoint.
    """

    step: float
    epoch: float
    end: float
    result: Result | None
    checkpoint: Mapping[str, Tensor]


def probe(
    config: TrainConfig,
    data: Data,
    device: torch.device | str = "cpu",
    steps: int = 20,
    cache: Path | None = None,
    ends: bool = True,
) -> Costs:
    """Measure the costs of a training of ``config`` by a few steps.

    Three steps before them warm up.

    steps: the number of steps to measure, or an epoch's, if that is smaller.
    cache: a folder for values that scores compute once for many trials.
    ends: True measures the end too, on models that have learned almost nothing.
    """
    device = torch.device(device)
    cohorts = _cohorts(config, data, device, range(config.replicas))

    def timed(work: Callable[[], Any]) -> tuple[float, Any]:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        done = work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started, done

    _epochs(cohorts, 3)
    possible = max(1, min(steps, -(-len(data.train) // config.batch_size) - 1))
    # Each epoch has a fixed cost, so the difference of a long and a short one gives the cost of a step.
    few, many = (median(timed(partial(_epochs, cohorts, n))[0] for _ in range(REPEATS)) for n in (1, 1 + possible))
    step = max(many - few, 0.0) / possible
    metrics, losses = timed(lambda: _joined([cohort.score("val") for cohort in cohorts]))
    for cohort, values in zip(cohorts, _split(losses["val/loss"], [c.seeds for c in cohorts]), strict=True):
        cohort.keep_best(1, values)
    if ends and cache:
        # The references are computed once for many trials, so they are no cost of this one.
        references((*config.monitored, *config.scores), list(_trained(cohorts[0], cache)))
    end, result = timed(lambda: _result(cohorts, cache)) if ends else (0.0, None)
    return Costs(step, max(few - step, 0.0) + metrics, end, result, snapshot(cohorts))


def _epochs(cohorts: list[Cohort], most_steps: int) -> None:
    for cohort in cohorts:
        cohort.train_epoch(most_steps)


def _checkpoint(epoch: int, cohorts: list[Cohort]) -> Checkpoint:
    return Checkpoint(epoch, snapshot(cohorts))


def replica_seed(seed: int, replica: int) -> int:
    """Compute the seed of a replica.

    From it the replica draws its weights, the order of images, and noise.

    seed: that of the configuration.
    replica: the number of the replica, from 0.
    """
    return int(np.random.SeedSequence((seed, replica)).generate_state(1, np.uint64)[0] >> 1)


def _joined(parts: list[dict[str, Values]]) -> dict[str, Values]:
    """Join the values of all cohorts, in the order of the replicas."""
    return {name: tuple(value for part in parts for value in part[name]) for name in parts[0]}


def _split(values: Values, groups: list[list[int]]) -> Iterator[Values]:
    ends = np.cumsum([len(group) for group in groups])
    return (values[end - len(group) : end] for end, group in zip(ends, groups, strict=True))


def _result(cohorts: list[Cohort], cache: Path | None) -> Result:
    for cohort in cohorts:
        cohort.restore_best()
    config = cohorts[0].config
    replicas = [trained for cohort in cohorts for trained in _trained(cohort, cache)]
    metrics = _joined([cohort.score("val") | cohort.score("test") for cohort in cohorts])
    states = [cohort.replicas.state("model") for cohort in cohorts]
    return Result(
        metrics | measure(config.scores, replicas),
        tuple(epoch for cohort in cohorts for epoch in cohort.best_epochs),
        {name: torch.cat([state[name] for state in states]).cpu() for name in states[0]},
        references((*config.monitored, *config.scores), replicas),
        protocols((*config.monitored, *config.scores)),
    )


def _trained(cohort: Cohort, cache: Path | None) -> Iterator[Trained]:
    """Yield each replica of a cohort in the form that scores take."""

    def images(index: NDArray[np.int64]) -> Tensor:
        (raw,) = cohort.feed.batches([torch.from_numpy(index)[None]])
        return scaled(raw[0])

    config = cohort.config
    for model, seed in zip(cohort.models(), cohort.seeds, strict=True):
        yield Trained(model, config.objective, cohort.data, images, seed, tuple(config.data.factor_sizes), cache)
