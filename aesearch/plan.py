"""Plans: time, memory and disk of a study, from a probe of its models.

The smallest and the largest model of each kind are probed.
"""

import math
import os
import resource
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from heapq import heapreplace
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import cloudpickle
import numpy as np
import torch
from optuna.trial import FixedTrial
from torch.overrides import TorchFunctionMode

from aesearch.model import save_artifacts
from aesearch.statistics.components import POWER, smallest_told
from aesearch.study import Study
from aesearch.train import TrainConfig, probe

STEPS = 20
MOST_KINDS = 4  # of models that are probed
DOUBT = 0.15  # of the time that a probe of seconds says about hours, as a share
TRIAL_SECONDS = 0.15  # of a trial beside its training
START_SECONDS = 8.0  # of Ray, and of the report
OPERATIONS = 2e9  # a second, that any core manages
QUICK_STEPS = 3
MOST_DRAWS, MOST_DRAWN = 200, 200_000  # of whole studies, and of their trials in all
SEEDS = (3, 5, 10, 20)  # of a trial, for which a plan says what they tell
DRIVER_BYTES = 1.2e9  # of memory, of the driver and of Ray's own processes


@dataclass(frozen=True)
class Cost:
    """Cost of one trial, in seconds and bytes.

    Bytes are of its model, of a checkpoint, and of its process's and its GPU's memory.
    """

    seconds: float
    model: float
    checkpoint: float
    memory: float
    device_memory: float


@dataclass(frozen=True)
class Plan:
    """Plan of a study of ``trials`` trials on this machine, ``concurrent`` at once.

    seconds: of wall time; low, high: between these in 19 of 20 cases, as far as a probe can tell. sample: of a random
    sample of the space, or of each trial of a grid. hours: of the CPUs or GPUs that trials hold. disk, memory: bytes,
    at the most. probed: how many kinds of models of how many. device: whether trials run on GPUs.
    """

    trials: int
    concurrent: int
    seconds: float
    low: float
    high: float
    sample: Sequence[Cost]
    hours: float
    disk: float
    memory: float
    probed: tuple[int, int]
    device: bool


class _Products(TorchFunctionMode):
    """Counter of the operations of matrix products and convolutions.

    operations: so far. whole: False once something was called whose products are not counted here.
    """

    OTHERS = frozenset(
        [
            *("einsum", "tensordot", "bilinear", "addmm", "addbmm", "baddbmm", "cdist", "lstm", "gru", "rnn_tanh"),
            *("rnn_relu", "scaled_dot_product_attention", "multi_head_attention_forward"),
            "_transformer_encoder_layer_fwd",
        ]
    )

    def __init__(self) -> None:
        super().__init__()
        self.operations: int = 0
        self.whole = True

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        found, name = func(*args, **(kwargs or {})), getattr(func, "__name__", "")
        # Each number of the output, or of the input where a convolution is transposed, meets all weights of one unit.
        if name in ("linear", "conv1d", "conv2d", "conv3d"):
            self.operations += 2 * found.numel() * args[1][0].numel()
        elif name in ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"):
            self.operations += 2 * args[0].numel() * args[1][0].numel()
        elif name in ("matmul", "__matmul__", "mm", "bmm"):
            self.operations += 2 * found.numel() * args[0].shape[-1]
        self.whole &= name not in self.OTHERS
        return found


def operations(run: Callable[[], object]) -> int:
    """Count the floating-point operations of ``run``.

    PyTorch's own counter imports its compiler, which takes more than a second, so it is asked only where something is
    called that ``_Products`` does not count.
    """
    with _Products() as counter:
        run()
    if counter.whole:
        return int(counter.operations)
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as every:
        run()
    return int(every.get_total_flops())


def work(config: TrainConfig) -> float:
    """Count the floating-point operations of a training step of one replica.

    They follow from its forward pass.
    """
    model = config.build().eval()
    x = torch.zeros(2, *config.data.shape)
    label = torch.zeros(2, dtype=torch.long) if config.conditional else None
    noise = torch.zeros(config.objective.samples if config.objective.variational else 1, 2, config.latent_dim)
    with torch.no_grad():
        return float(3 * operations(lambda: model(x, noise, label)) * config.batch_size / 2)


def make_plan(study: Study, data: Path, trials: int) -> Plan:
    """Probe a study's smallest and largest models of each kind, and plan it.

    As many are probed at once as would train at once.
    """
    cpus, gpus, concurrent = study.shares(trials, os.cpu_count() or 1, torch.cuda.device_count())
    configs = _configs(study, trials)
    kinds: dict[str, list[TrainConfig]] = {}
    for config in configs:
        kinds.setdefault(_kind(config), []).append(config)
    common = sorted(kinds.values(), key=len, reverse=True)[:MOST_KINDS]
    cloudpickle.register_pickle_by_value(study.module)
    # Those that share a GPU slow each other down, and so do those that share a memory bus.
    together = math.ceil(concurrent / torch.cuda.device_count()) if gpus else concurrent
    device = "cuda" if gpus else "cpu"
    ends: dict[str, tuple[Measured, Measured]] = {}
    with ProcessPoolExecutor(together, get_context("spawn"), _threads, (max(1, int(cpus)),)) as pool:
        for of_kind in common:
            ordered = sorted(of_kind, key=work)
            small, large = (
                _together(list(pool.map(_measure, [(cloudpickle.dumps(config), data, device)] * together)))
                for config in (ordered[0], ordered[-1])
            )
            ends[_kind(of_kind[0])] = small, large
    known = [config for config in configs if _kind(config) in ends]
    sample = [_cost(config, ends[_kind(config)]) for config in known]
    return _summed(study, trials, concurrent, sample, (cpus, gpus), (len(common), len(kinds)))


def _configs(study: Study, trials: int) -> list[TrainConfig]:
    """List the configurations that a plan counts.

    Those of a grid in their order, or evenly some of a large one; of other searches a random sample.
    """
    if study.sampler != "grid":
        return [config for _, config in study.probes]
    points = study.grid()[:trials]
    kept = np.unique(np.linspace(0, len(points) - 1, min(len(points), len(study.probes))).round().astype(int))
    return [study.config(FixedTrial(points[place])) for place in kept]


@dataclass(frozen=True)
class Measured:
    """Measurements of a probe: work of a step, steps of an epoch, seconds, bytes."""

    work: float
    steps: int
    step: float
    epoch: float
    end: float
    model: float
    checkpoint: float
    memory: float
    device_memory: float


def _kind(config: TrainConfig) -> str:
    """Name what has costs of its own, apart from its size."""
    parts = (config.network, config.objective, config.code, config.data, config.corrupts)
    return f"{[type(part).__name__ for part in parts]} {config.precision} {config.scores}"


def _threads(count: int) -> None:
    torch.set_num_threads(count)
    torch.set_flush_denormal(True)


def _measure(task: tuple[bytes, Path, str]) -> Measured:
    """Probe a configuration, in a process as a trial has it."""
    content, root, device = task
    config: TrainConfig = cloudpickle.loads(content)
    data = config.data.load(root)
    costs = probe(config, data, device, STEPS, cache=root)
    assert costs.result is not None
    with tempfile.TemporaryDirectory() as name:
        save_artifacts(Path(name), config, costs.result, data)
        model = sum(file.stat().st_size for file in Path(name).iterdir())
    return Measured(
        work(config),
        -(-len(data.train) // config.batch_size),
        costs.step,
        costs.epoch,
        costs.end,
        model,
        sum(tensor.nbytes for tensor in costs.checkpoint.values()),
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        torch.cuda.max_memory_allocated() if device == "cuda" else 0,
    )


def _together(measured: Sequence[Measured]) -> Measured:
    """Merge probes of one configuration at once: mean times, largest sizes."""
    return replace(
        measured[0],
        step=fmean(one.step for one in measured),
        epoch=fmean(one.epoch for one in measured),
        end=fmean(one.end for one in measured),
        memory=max(one.memory for one in measured),
        device_memory=max(one.device_memory for one in measured),
    )


def _cost(config: TrainConfig, ends: tuple[Measured, Measured]) -> Cost:
    """Estimate the cost of a trial, by its work between the smallest and the largest.

    Both are of its kind.
    """
    small, large = ends
    share = (work(config) - small.work) / (large.work - small.work) if large.work > small.work else 0.5

    def between(name: str) -> float:
        low, high = float(getattr(small, name)), float(getattr(large, name))
        return low + share * (high - low)

    of_epoch = between("steps") * between("step") + between("epoch")
    return Cost(
        config.epochs * of_epoch + between("end") + TRIAL_SECONDS,
        between("model"),
        between("checkpoint"),
        between("memory"),
        between("device_memory"),
    )


def makespan(seconds: Sequence[float], concurrent: int) -> float:
    """Compute when the last of some trials ends.

    They take so many ``seconds`` and begin in turn, as soon as there is room.
    """
    ends = [0.0] * concurrent
    for one in seconds:
        heapreplace(ends, ends[0] + one)
    return max(ends)


def _summed(
    study: Study,
    trials: int,
    concurrent: int,
    sample: Sequence[Cost],
    held: tuple[float, float],
    probed: tuple[int, int],
) -> Plan:
    seconds = [cost.seconds for cost in sample]
    mean = fmean(seconds)
    rng = np.random.default_rng(0)
    if study.sampler == "grid" and len(seconds) == trials:
        spans = [makespan(seconds, concurrent)]
    else:
        draws = max(2, min(MOST_DRAWS, MOST_DRAWN // trials))
        spans = [makespan(rng.choice(seconds, trials).tolist(), concurrent) for _ in range(draws)]
    doubt = 2 * math.hypot(pstdev(spans) / fmean(spans), DOUBT / 2)
    most = study.adaptive.most / study.adaptive.first if study.adaptive else 1.0
    wall = START_SECONDS + fmean(spans)
    kept = (
        trials
        if study.keep is None or study.comparisons
        else min(trials, (study.keep + 5) * len(study.searched) * study.conditions)
    )
    return Plan(
        trials,
        concurrent,
        wall * (1 + most) / 2,
        wall * (1 - doubt),
        wall * most * (1 + doubt),
        sample,
        mean * trials * (held[1] or held[0]) / 3600,
        # MLflow has the models too; a trial has two checkpoints while it runs.
        2 * kept * max(cost.model for cost in sample) + 2 * concurrent * max(cost.checkpoint for cost in sample),
        DRIVER_BYTES + concurrent * max(cost.memory for cost in sample),
        probed,
        bool(held[1]),
    )


def quick(study: Study, data: Path, trials: int) -> float:
    """Estimate the seconds of a study from above.

    Counts of operations alone, or a few steps of the largest model, tell them.
    """
    _, gpus, concurrent = study.shares(trials, os.cpu_count() or 1, torch.cuda.device_count())
    largest = max((config for _, config in study.probes), key=lambda config: work(config) * config.epochs)
    loaded = largest.data.load(data)
    steps = largest.epochs * -(-len(loaded.train) // largest.batch_size) * trials / concurrent
    replicas = study.adaptive.most if study.adaptive else largest.replicas
    if work(largest) * replicas * steps / OPERATIONS < 60:
        return 60.0
    costs = probe(replace(largest, replicas=1), loaded, "cuda" if gpus else "cpu", QUICK_STEPS, ends=False)
    return replicas * (costs.step * steps + costs.epoch * largest.epochs * trials / concurrent)


def lines(plan: Plan, study: Study) -> list[str]:
    """Write a plan in words."""
    replicas = study.adaptive or study.probes[0][1].replicas
    holds = f"gpus={study.gpus:g}" if study.gpus else f"cpus={study.cpus:g}" if not plan.device else "a share of a GPU"
    sizes = sorted(plan.sample, key=lambda cost: cost.seconds)
    least, most = sizes[0], sizes[-1]
    middle = fmean(cost.seconds for cost in plan.sample)
    hours = f"{plan.hours:,.{0 if plan.hours >= 10 else 2}f} {'GPU' if plan.device else 'CPU'} hours"
    found = [
        f"{study.name}: {plan.trials} trials of {replicas} replicas by {study.sampler}, {plan.concurrent} at once, "
        f"each with {holds}",
        f"a trial: {span(middle)} on average, {span(least.seconds)} to {span(most.seconds)}; at most "
        f"{_amount(most.memory)} of memory"
        + (f", {_amount(most.device_memory)} of the GPU's" if plan.device else "")
        + f", {_amount(most.model)} of model",
        f"the study: about {span(plan.seconds)} ({span(plan.low)} to {span(plan.high)}), {hours}, "
        f"{_amount(plan.memory)} of memory, "
        f"at most {_amount(plan.disk)} of disk",
    ]
    own = study.adaptive.most if study.adaptive else study.probes[0][1].replicas
    told = [f"{smallest_told(seeds, 1.0):.2g} with {seeds} seeds" for seeds in sorted({own, *SEEDS}) if seeds > 1]
    found.append(
        f"a t test finds differences between two trials, in standard deviations over seeds, of {', '.join(told)} "
        f"({POWER:.0%} power)"
    )
    if study.early_stopping:
        found.append(f"{study.early_stopping} makes it less")
    if study.comparisons:
        found.append("comparisons of all models are not counted")
    if plan.probed[0] < plan.probed[1]:
        found.append(f"of {plan.probed[1]} kinds of models the {plan.probed[0]} most frequent were probed")
    return found


def span(seconds: float) -> str:
    """Write a time in two units at most."""
    if seconds < 90:
        return f"{seconds:.2g} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.1f} days"


def _amount(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
