"""A study: one question, written as a Python file that ends with ``study = Study(...)``."""

import hashlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler

from aesearch.errors import UserError, nearest
from aesearch.metrics import MetricKind
from aesearch.scores import Comparison, check_declared
from aesearch.study.goals import Adaptive, Constraint, Metric
from aesearch.study.space import PROBES, SAMPLERS, Space, combinations, contains, experimental
from aesearch.study.stopping import Plateau, Rule
from aesearch.train import TrainConfig


@dataclass(frozen=True)
class Best:
    """The best trials of another study below the same --home, ``most`` of them, to be tried first here.

    Its front comes first; of each point those parameters are taken that this study sweeps, where they are in range.
    """

    study: str
    most: int = 5

    def __post_init__(self) -> None:
        if self.most < 1:
            raise UserError(f"Best needs most >= 1 trial, but got {self}")


@dataclass(frozen=True)
class Study:
    """A question about a space of configurations.

    space: a define-by-run function of an ``optuna.Trial``. metrics: one or two, named ``val/...``: a search never
    sees test. n_trials: None only with the grid sampler, which then tries every combination. sampler: a name of
    ``SAMPLERS`` or an Optuna sampler. cpus, gpus: what a trial holds, fractions too; gpus None shares the GPUs that are
    there among the trials at once, a quarter of one each at the least (on a cluster that has yet to grow, give gpus).
    max_concurrent: trials at once, at the most; None: as many as fit, and on a cluster that may grow 16 at the least.
    constraints: bounds on metrics; tpe, nsga2 and gp learn from them, and the front holds only what keeps them.
    checkpoint_seconds: how often, at the most, a trial keeps what it can go on from after an interruption.
    epoch_seconds: a trial fails as hung when no epoch has ended for so long.
    enqueue: points that are tried first, such as {"beta": 4.0}, and the best of other studies, such as Best("earlier").
    keep: models are kept of the front and of so many best trials of each metric, the others are removed while the study
    runs; None keeps all, as a study with comparisons does.
    seed: of the sampler and of all replicas. replicas: seeds of every trial, or Adaptive(): as many as a trial turns
    out to need; None leaves it to the configurations. comparisons: of all models of the study, measured when it is
    finished.
    """

    name: str
    space: Space
    metrics: tuple[Metric, ...] | Metric
    n_trials: int | None = None
    sampler: str | BaseSampler = "tpe"
    early_stopping: Rule | Plateau | None = None
    cpus: float = 1
    gpus: float | None = None
    max_concurrent: int | None = None
    seed: int = 0
    replicas: int | Adaptive | None = None
    constraints: tuple[Constraint, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    checkpoint_seconds: float = 30.0
    epoch_seconds: float = 3600.0
    enqueue: tuple[Mapping[str, Any] | Best, ...] = ()
    keep: int | None = 10
    # What the command line sets for all trials: epochs, replicas.
    overrides: dict[str, int] = field(default_factory=dict)
    path: Path | None = None
    # The study that the command line made this one from.
    forked_from: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.metrics, Metric):
            object.__setattr__(self, "metrics", (self.metrics,))
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name):
            raise UserError(f"a study's name must be made of letters, digits, '_', '-' and '.', but got {self.name!r}")
        if len(self.searched) not in (1, 2):
            raise UserError(f"a study searches over one or two metrics, but got {len(self.searched)}")
        rule = self.early_stopping
        if not isinstance(rule, Rule | Plateau | None):
            raise UserError(f"early_stopping must be a rule, such as Pareto(), but got {rule!r}")
        if rule and len(self.searched) > (rule.most_metrics if isinstance(rule, Rule) else 1):
            kind = type(rule).__name__
            raise UserError(f"{kind} needs a single metric, but got two; write early_stopping=Pareto()")
        if isinstance(self.sampler, str) and self.sampler not in SAMPLERS:
            raise UserError(f"unknown sampler {self.sampler!r}: {nearest(self.sampler, SAMPLERS)}")
        if self.n_trials is None and self.sampler != "grid":
            raise UserError("n_trials must be given, but got None; only sampler='grid' knows it by itself")
        if self.n_trials is not None and self.n_trials < 1:
            raise UserError(f"n_trials must be at least 1, but got n_trials={self.n_trials}")
        if not (isinstance(self.comparisons, tuple) and all(isinstance(c, Comparison) for c in self.comparisons)):
            raise UserError(f"comparisons must be a tuple of them, such as (UDR(),), but got {self.comparisons!r}")
        if not (isinstance(self.constraints, tuple) and all(isinstance(c, Constraint) for c in self.constraints)):
            raise UserError(
                f'constraints must be a tuple of them, such as (AtMost("val/mse", 0.02),), but got {self.constraints!r}'
            )
        if not (self.checkpoint_seconds >= 0 and self.epoch_seconds > 0):
            raise UserError(
                "checkpoint_seconds >= 0 and epoch_seconds > 0 must hold, but got "
                f"checkpoint_seconds={self.checkpoint_seconds}, epoch_seconds={self.epoch_seconds}"
            )
        if not (isinstance(self.enqueue, tuple) and all(isinstance(one, Mapping | Best) for one in self.enqueue)):
            raise UserError(
                'enqueue must be a tuple of points and of Best(...), such as ({"beta": 4.0},), '
                f"but got {self.enqueue!r}"
            )
        counted = isinstance(self.replicas, int) and not isinstance(self.replicas, bool) and self.replicas >= 1
        if not (counted or isinstance(self.replicas, Adaptive | None)):
            raise UserError(
                f"replicas must be a whole number of at least 1, or Adaptive(), but got replicas={self.replicas!r}"
            )
        if self.keep is not None and self.keep < 0:
            raise UserError(f"keep must be a number of trials of at least 0, or None for all, but got {self.keep}")
        if not self.cpus > 0 or (self.gpus is not None and self.gpus < 0):
            raise UserError(f"a trial needs cpus > 0 and gpus >= 0, but got cpus={self.cpus}, gpus={self.gpus}")

    @property
    def searched(self) -> tuple[Metric, ...]:
        """The metrics as a tuple, however they were given."""
        return self.metrics if isinstance(self.metrics, tuple) else (self.metrics,)

    @property
    def signs(self) -> list[int]:
        """Of each searched metric: what makes it one to be minimised."""
        return [metric.sign for metric in self.searched]

    @property
    def adaptive(self) -> Adaptive | None:
        """The rule by which trials get replicas, where their number is not fixed."""
        return self.replicas if isinstance(self.replicas, Adaptive) and "replicas" not in self.overrides else None

    @property
    def directions(self) -> list[Literal["minimize", "maximize"]]:
        return [metric.direction for metric in self.searched]

    def make_sampler(self, number: int = 0) -> BaseSampler:
        """The Optuna sampler of the study's trial ``number``, seeded by both where it was given by name.

        A generator that ran on from trial to trial would begin again, and propose the same, after an interruption.
        """
        if not isinstance(self.sampler, str):
            return self.sampler
        warm = any(isinstance(one, Best) for one in self.enqueue)
        # What the other study drew, this one is not to draw again.
        entropy = (self.seed, number, *(self.name.encode() if warm else b""))
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        with experimental():
            return SAMPLERS[self.sampler](seed)

    def config(self, trial: optuna.trial.BaseTrial) -> TrainConfig:
        """The configuration of a trial, with the study's seed and overrides."""
        config = self.space(trial)  # type: ignore[arg-type]
        if not isinstance(config, TrainConfig):
            raise UserError(f"the space of {self.name} must return a TrainConfig, but got {config!r}")
        first = self.replicas.first if isinstance(self.replicas, Adaptive) else self.replicas
        replicas = {} if first is None else {"replicas": first}
        overrides: dict[str, Any] = {"seed": self.seed} | replicas | self.overrides
        return replace(config, **overrides)

    @cached_property
    def probes(self) -> list[tuple[optuna.trial.FrozenTrial, TrainConfig]]:
        """A fixed random sample of the space: (trial, configuration) pairs, the same in every process."""
        sample = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        asked = [sample.ask() for _ in range(PROBES)]
        configs = [self.config(trial) for trial in asked]
        return list(zip(sample.get_trials(), configs, strict=True))

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The swept parameters with their ranges, in the order in which the space asks for them."""
        found: dict[str, BaseDistribution] = {}
        for trial, _ in self.probes:
            found |= trial.distributions
        return found

    def shares(self, remaining: int, cpus: float, devices: float) -> tuple[float, float, int]:
        """(CPUs, GPUs) that a trial holds, and how many of the ``remaining`` run at once on so many CPUs and GPUs.

        Raises UserError where none would fit.
        """
        if self.cpus > cpus or (self.gpus or 0) > devices:
            raise UserError(
                f"a trial must fit on the machine, but it needs cpus={self.cpus}, gpus={self.gpus or 0} of "
                f"{cpus:g} CPUs and {devices:g} GPUs; lower them in the study"
            )
        concurrent = min(remaining, self.max_concurrent or remaining, int(cpus / self.cpus))
        gpus = self.gpu_share(devices, concurrent)
        return self.cpus, gpus, min(concurrent, int(devices / gpus)) if gpus else concurrent

    def gpu_share(self, devices: float, concurrent: int) -> float:
        """The GPUs of a trial: a quarter of one at the least, as memory is only shared, not divided."""
        if self.gpus is not None:
            return self.gpus
        return max(0.25, min(1.0, devices / concurrent)) if devices else 0.0

    def grid(self) -> list[dict[str, Any]]:
        """Every combination of a finite space, conditional parameters included, in the space's order.

        Raises UserError where a range is continuous or there are more than 10,000 combinations.
        """
        return self._combinations

    @cached_property
    def _combinations(self) -> list[dict[str, Any]]:
        return combinations(self.config, self.distributions)

    @property
    def question(self) -> str:
        """The docstring of the study file."""
        module = sys.modules.get(self.space.__module__)
        return (getattr(module, "__doc__", None) or "").strip()

    @property
    def kinds(self) -> tuple[MetricKind, ...]:
        """What the metrics of the study's own scores are: a report may be written where its file is not."""
        scores = [score for _, config in self.probes for score in (*config.monitored, *config.scores)]
        return tuple(dict.fromkeys(kind for score in (*scores, *self.comparisons) for kind in score.kinds))

    def source(self) -> dict[str, str]:
        """The study file: its path, its text and the text's sha256."""
        text = self.path.read_text() if self.path else ""
        return {"file": str(self.path), "file_sha256": hashlib.sha256(text.encode()).hexdigest(), "file_text": text}

    def check(self) -> None:
        """Try the space on a sample. Raises UserError for a metric that its configurations do not have."""
        for _, config in self.probes:
            self.check_metrics(config)
        hashes: dict[str, str] = {}
        for protocol in (protocol for _, config in self.probes for protocol in config.protocols):
            if hashes.setdefault(protocol.name, protocol.hash) != protocol.hash:
                raise UserError(
                    f"protocols that differ must have names that differ, but two are named {protocol.name!r}; "
                    'write replace(protocol, name="...")'
                )
        for comparison in self.comparisons:
            check_declared(comparison)
            for _, config in self.probes:
                comparison.check(config.data, config.objective)
        for point in self.enqueue:
            if isinstance(point, Mapping):
                self._check_point(point)
        compared = [score for _, config in self.probes for score in config.scores if isinstance(score, Comparison)]
        if self.adaptive and compared:
            raise UserError(
                f"{type(compared[0]).__name__} compares a fixed number of replicas, but got replicas={self.adaptive}; "
                "write Study(comparisons=...) to compare all models of a study"
            )
        if self.adaptive and isinstance(self.early_stopping, Plateau):
            raise UserError("Adaptive replicas need trials of one length, but Plateau() ends each at its own epoch")
        if self.sampler == "grid":
            self.grid()

    def check_metrics(self, config: TrainConfig) -> None:
        """Raises UserError for a metric that a trial of ``config`` would not measure when the study needs it."""
        known = [f"val/{name}" for name in config.final_names("val")]
        for name in [one.name for one in self.searched] + [one.name for one in self.constraints]:
            if name not in known:
                raise UserError(
                    f"unknown metric {name!r} (a study searches over metrics that every trial measures on val): "
                    f"{nearest(name, known)}"
                )
        for metric in self.searched:
            if self.early_stopping and metric.name.removeprefix("val/") not in config.metric_names():
                raise UserError(
                    f"early_stopping needs a metric that is measured at each epoch, but {metric.name} is measured at "
                    "the end; leave early_stopping out"
                )

    def _check_point(self, point: Mapping[str, Any]) -> None:
        for name, value in point.items():
            if name not in self.distributions:
                raise UserError(f"enqueue names an unknown parameter {name!r}: {nearest(name, self.distributions)}")
            if not contains(self.distributions[name], value):
                raise UserError(f"enqueue must stay in the space, {self.distributions[name]}, but got {name}={value!r}")
