"""A study: one question, and all that is needed to answer it."""

import hashlib
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler

from aesearch.errors import UserError, nearest
from aesearch.metrics import MetricKind
from aesearch.scores import Comparison, check_declared
from aesearch.study.goals import Adaptive, Constraint, Metric
from aesearch.study.space import (
    PROBES,
    SAMPLERS,
    UNLEARNING,
    Space,
    combinations,
    condition_values,
    contains,
    experimental,
)
from aesearch.study.stopping import Plateau, Rule
from aesearch.train import TrainConfig


@dataclass(frozen=True)
class Best:
    """The best trials of another study, to be tried first in this one.

    study: the name of the other study, whose state is below the same --home.
    most: the number of trials to take. Those of its front come first.

    A parameter of such a trial is used where this study sweeps it and its value is in range.
    """

    study: str
    most: int = 5

    def __post_init__(self) -> None:
        if self.most < 1:
            raise UserError(f"Best needs most >= 1 trial, but got {self}")


@dataclass(frozen=True)
class Study:
    """A question about a space of configurations, and how to search it.

    name: the name of the study, of its MLflow experiment and of its folders.
    space: a define-by-run function that takes an ``optuna.Trial`` and returns a ``TrainConfig``.
    metrics: one or two metrics to search over, named ``val/...``. The search never sees test.
    n_trials: the number of trials. None is for the grid sampler only, which tries every combination.
    sampler: a name in ``SAMPLERS``, or an Optuna sampler.
    early_stopping: a rule that ends trials before their last epoch, or None.
    cpus: CPUs that a trial holds, fractions too.
    gpus: GPUs that a trial holds, fractions too. None shares the GPUs that are there among the concurrent trials, at
    least a quarter of one each. On a cluster that has yet to grow, give a number.
    max_concurrent: the most concurrent trials. None is as many as fit; at least 16 on a cluster that may grow.
    seed: the seed of the sampler and of all replicas.
    replicas: seeds of every trial. Adaptive() gives more seeds where they matter; None leaves it to the configurations.
    constraints: bounds on metrics. The samplers tpe, nsga2 and gp learn from them; only trials that keep them can be on
    the front.
    comparisons: measures that compare all models of the study, taken when it is finished.
    checkpoint_seconds: the least time between two checkpoints of a trial, in seconds.
    epoch_seconds: the timeout of an epoch, in seconds. A trial that exceeds it fails as hung.
    enqueue: points that are tried first, such as {"beta": 4.0}, and the best of other studies, such as Best("earlier").
    keep: the number of best trials of each metric whose models are kept, beside those of the front. The others are
    removed while the study runs. None keeps all models, and so does a study with comparisons.
    per: swept parameters that are conditions and no question, such as the data set. Trials are compared within each of
    their combinations only: each has its own best trials, early stopping, further replicas, kept models and findings.
    The sampler must be grid or random, as one that learns would prefer the easiest condition.
    overrides: fields of all configurations that the command line sets, such as epochs.
    path: the study file.
    forked_from: the name of the study that the command line made this one from.

    Raises UserError for a value that is not valid.
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
    per: tuple[str, ...] = ()
    overrides: dict[str, int] = field(default_factory=dict)
    path: Path | None = None
    forked_from: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.metrics, Metric):
            object.__setattr__(self, "metrics", (self.metrics,))
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name):
            raise UserError(
                f"{self.name!r} is not a name of a study; begin with a letter or digit and use only letters, digits, "
                "'_', '-' and '.'"
            )
        if len(self.searched) not in (1, 2):
            raise UserError(f"{self.name} has {len(self.searched)} metrics to search over; give one or two")
        rule = self.early_stopping
        if not isinstance(rule, Rule | Plateau | None):
            raise UserError(f"early_stopping={rule!r} is not a rule; write one such as Pareto()")
        if rule and len(self.searched) > (rule.most_metrics if isinstance(rule, Rule) else 1):
            kind = type(rule).__name__
            raise UserError(f"{kind} takes one metric, but the study has two; write early_stopping=Pareto()")
        if isinstance(self.sampler, str) and self.sampler not in SAMPLERS:
            raise UserError(f"unknown sampler {self.sampler!r}: {nearest(self.sampler, SAMPLERS)}")
        if not (isinstance(self.per, tuple) and all(isinstance(name, str) for name in self.per)):
            raise UserError(f"per={self.per!r} is not a tuple of names; write one such as ('data',)")
        if self.per and not (self.sampler in ("grid", "random") or isinstance(self.sampler, UNLEARNING)):
            raise UserError(
                f"per={self.per!r} compares trials within a condition, but sampler={self.sampler!r} learns from all of "
                "them and would prefer the easiest; write sampler='grid' or 'random'"
            )
        if self.n_trials is None and self.sampler != "grid":
            raise UserError(
                "n_trials is missing; give a number of trials, or use sampler='grid', which counts them itself"
            )
        if self.n_trials is not None and self.n_trials < 1:
            raise UserError(f"n_trials={self.n_trials} is too small; give at least 1")
        if not (isinstance(self.comparisons, tuple) and all(isinstance(c, Comparison) for c in self.comparisons)):
            raise UserError(
                f"comparisons={self.comparisons!r} is not a tuple of comparisons; write one such as (UDR(),)"
            )
        if not (isinstance(self.constraints, tuple) and all(isinstance(c, Constraint) for c in self.constraints)):
            raise UserError(
                f"constraints={self.constraints!r} is not a tuple of bounds; write one such as "
                '(AtMost("val/mse", 0.02),)'
            )
        if not (self.checkpoint_seconds >= 0 and self.epoch_seconds > 0):
            raise UserError(
                f"checkpoint_seconds={self.checkpoint_seconds}, epoch_seconds={self.epoch_seconds} are not both valid; "
                "give checkpoint_seconds >= 0 and epoch_seconds > 0"
            )
        if not (isinstance(self.enqueue, tuple) and all(isinstance(one, Mapping | Best) for one in self.enqueue)):
            raise UserError(
                f"enqueue={self.enqueue!r} is not a tuple of points and of Best(...); write one such as "
                '({"beta": 4.0},)'
            )
        counted = isinstance(self.replicas, int) and not isinstance(self.replicas, bool) and self.replicas >= 1
        if not (counted or isinstance(self.replicas, Adaptive | None)):
            raise UserError(
                f"replicas={self.replicas!r} is not valid; give a whole number of at least 1, or Adaptive()"
            )
        if self.keep is not None and self.keep < 0:
            raise UserError(f"keep={self.keep} is below 0; give a number of trials, or None to keep all")
        if not self.cpus > 0 or (self.gpus is not None and self.gpus < 0):
            raise UserError(
                f"cpus={self.cpus}, gpus={self.gpus} are not valid for a trial; give cpus > 0 and gpus >= 0"
            )

    @property
    def searched(self) -> tuple[Metric, ...]:
        """The metrics as a tuple, however they were given."""
        return self.metrics if isinstance(self.metrics, tuple) else (self.metrics,)

    @property
    def signs(self) -> list[int]:
        """The sign of each searched metric, which turns it into a cost: 1 or -1."""
        return [metric.sign for metric in self.searched]

    @property
    def adaptive(self) -> Adaptive | None:
        """The rule that adds replicas; None where their number is fixed."""
        return self.replicas if isinstance(self.replicas, Adaptive) and "replicas" not in self.overrides else None

    @property
    def directions(self) -> list[Literal["minimize", "maximize"]]:
        """The direction of each searched metric that is better."""
        return [metric.direction for metric in self.searched]

    def make_sampler(self, number: int = 0) -> BaseSampler:
        """Make the Optuna sampler that proposes trial ``number``.

        A sampler given by name is seeded by the study's seed and by ``number``. One generator for all trials would
        start again after an interruption and propose the same points.
        """
        if not isinstance(self.sampler, str):
            return self.sampler
        warm = any(isinstance(one, Best) for one in self.enqueue)
        # With the seed alone, a study would draw again the points of the study that it starts from.
        entropy = (self.seed, number, *(self.name.encode() if warm else b""))
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        with experimental():
            return SAMPLERS[self.sampler](seed)

    def config(self, trial: optuna.trial.BaseTrial) -> TrainConfig:
        """Make the configuration of a trial, with the study's seed and overrides.

        Raises UserError where the space returns anything but a ``TrainConfig``.
        """
        config = self.space(trial)  # type: ignore[arg-type]
        if not isinstance(config, TrainConfig):
            raise UserError(f"the space of {self.name} returned {config!r}; return a TrainConfig")
        first = self.replicas.first if isinstance(self.replicas, Adaptive) else self.replicas
        replicas = {} if first is None else {"replicas": first}
        overrides: dict[str, Any] = {"seed": self.seed} | replicas | self.overrides
        return replace(config, **overrides)

    @cached_property
    def probes(self) -> list[tuple[optuna.trial.FrozenTrial, TrainConfig]]:
        """A random sample of the space, as pairs of trial and configuration.

        It is the same in every process.
        """
        sample = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        asked = [sample.ask() for _ in range(PROBES)]
        configs = [self.config(trial) for trial in asked]
        return list(zip(sample.get_trials(), configs, strict=True))

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The swept parameters with their ranges, in the order of the space."""
        found: dict[str, BaseDistribution] = {}
        for trial, _ in self.probes:
            found |= trial.distributions
        return found

    @cached_property
    def conditions(self) -> int:
        """The number of combinations of the parameters in ``per``; 1 without any."""
        return math.prod(len(condition_values(name, self.distributions)) for name in self.per)

    def condition(self, params: Mapping[str, Any]) -> tuple[Any, ...]:
        """Take the values of the parameters in ``per`` from those of a trial.

        Raises UserError where one is missing.
        """
        if missing := [name for name in self.per if name not in params]:
            raise UserError(
                f"per names {missing[0]!r}, which a trial with {dict(params)} does not have; suggest it in every "
                "trial, or leave it out of per"
            )
        return tuple(params[name] for name in self.per)

    def shares(self, remaining: int, cpus: float, devices: float) -> tuple[float, float, int]:
        """Compute what a trial holds, and how many trials run at once.

        remaining: trials that are still to run.
        cpus, devices: the CPUs and GPUs that are there.

        Returns the CPUs of a trial, the GPUs of a trial and the number of concurrent trials. Raises UserError where a
        trial does not fit.
        """
        if self.cpus > cpus or (self.gpus or 0) > devices:
            raise UserError(
                f"a trial does not fit on the machine: it needs cpus={self.cpus}, gpus={self.gpus or 0} of "
                f"{cpus:g} CPUs and {devices:g} GPUs; lower them in the study"
            )
        concurrent = min(remaining, self.max_concurrent or remaining, int(cpus / self.cpus))
        gpus = self.gpu_share(devices, concurrent)
        return self.cpus, gpus, min(concurrent, int(devices / gpus)) if gpus else concurrent

    def gpu_share(self, devices: float, concurrent: int) -> float:
        """Compute the GPUs of a trial.

        It is at least a quarter of one, as trials on one GPU share its memory.
        """
        if self.gpus is not None:
            return self.gpus
        return max(0.25, min(1.0, devices / concurrent)) if devices else 0.0

    def grid(self) -> list[dict[str, Any]]:
        """List every combination of a finite space, conditional parameters included.

        They are in the order of the space. Raises UserError where a range is continuous or there are more than 10,000
        combinations.
        """
        return self._combinations

    @cached_property
    def _combinations(self) -> list[dict[str, Any]]:
        return combinations(self.config, self.distributions)

    @property
    def question(self) -> str:
        """The docstring of the study file."""
        return (self.module.__doc__ or "").strip()

    @property
    def module(self) -> ModuleType:
        """The module of the study file, which defines the space."""
        space: Any = self.space
        while isinstance(space, partial):
            space = space.func
        return sys.modules[space.__module__]

    @property
    def kinds(self) -> tuple[MetricKind, ...]:
        """The descriptions of the metrics that the study's scores measure.

        The study keeps them, as a report may be written where the study file is missing.
        """
        scores = [score for _, config in self.probes for score in (*config.monitored, *config.scores)]
        return tuple(dict.fromkeys(kind for score in (*scores, *self.comparisons) for kind in score.kinds))

    def source(self) -> dict[str, str]:
        """Describe the study file: its path, its text and the SHA-256 of the text."""
        text = self.path.read_text() if self.path else ""
        return {"file": str(self.path), "file_sha256": hashlib.sha256(text.encode()).hexdigest(), "file_text": text}

    def check(self) -> None:
        """Check the study on a sample of its space, before any training.

        Raises UserError for an unknown metric, and for parts of the study that do not fit together.
        """
        for _, config in self.probes:
            self.check_metrics(config)
        hashes: dict[str, str] = {}
        for protocol in (protocol for _, config in self.probes for protocol in config.protocols):
            if hashes.setdefault(protocol.name, protocol.hash) != protocol.hash:
                raise UserError(
                    f"two protocols that differ are both named {protocol.name!r}; give one another name: "
                    'replace(protocol, name="...")'
                )
        for comparison in self.comparisons:
            check_declared(comparison)
            for _, config in self.probes:
                comparison.check(config.data, config.objective)
        for point in self.enqueue:
            if isinstance(point, Mapping):
                self._check_point(point)
        for name in self.per:
            condition_values(name, self.distributions)
        for trial, _ in self.probes:
            self.condition(trial.params)
        compared = [score for _, config in self.probes for score in config.scores if isinstance(score, Comparison)]
        if self.adaptive and compared:
            raise UserError(
                f"{type(compared[0]).__name__} compares a fixed number of replicas, but got replicas={self.adaptive}; "
                "write Study(comparisons=...) to compare all models of a study"
            )
        if self.adaptive and isinstance(self.early_stopping, Plateau):
            raise UserError(
                "Adaptive replicas need trials of one length, but Plateau() ends each at its own epoch; leave one of "
                "them out"
            )
        if self.sampler == "grid":
            self.grid()

    def check_metrics(self, config: TrainConfig) -> None:
        """Check that a trial of ``config`` measures each metric when the study needs it.

        Raises UserError where it does not.
        """
        known = [f"val/{name}" for name in config.final_names("val")]
        for name in [one.name for one in self.searched] + [one.name for one in self.constraints]:
            if name not in known:
                raise UserError(
                    f"unknown metric {name!r} (only a metric that every trial measures on val can be searched over): "
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
                raise UserError(
                    f"enqueue has {name}={value!r}, which is not in the space, {self.distributions[name]}; choose a "
                    "value that is"
                )
