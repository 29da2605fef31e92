"""A study: one question, written as a Python file that ends with ``study = Study(...)``."""

import hashlib
import importlib.util
import math
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler

from aesearch.errors import UserError, nearest
from aesearch.scores import Comparison
from aesearch.seeds import Adaptive
from aesearch.stopping import Plateau, Rule
from aesearch.train import TrainConfig

Space = Callable[[optuna.Trial], TrainConfig]

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    # multivariate with group: a conditional parameter is sampled with those that it appears with.
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    # The combinations of Study.grid are enqueued, so nothing is left to sample.
    "grid": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}
PROBES = 64
MOST_COMBINATIONS = 10_000


@dataclass(frozen=True)
class Metric:
    """A metric that a study searches over, such as ``val/mse``, and the direction that is better."""

    name: str
    direction: Literal["minimize", "maximize"]

    @property
    def sign(self) -> int:
        """1 where less is better, else -1: ``sign * value`` is always to be minimised."""
        return 1 if self.direction == "minimize" else -1


def Minimize(name: str) -> Metric:
    """A metric of which less is better."""
    return Metric(name, "minimize")


def Maximize(name: str) -> Metric:
    """A metric of which more is better."""
    return Metric(name, "maximize")


@dataclass(frozen=True)
class Constraint:
    """A bound that a metric, such as ``val/mse``, must keep at the end of a trial."""

    name: str
    bound: float
    kind: Literal["at most", "at least"]

    def violation(self, value: float) -> float:
        """By how much ``value`` breaks the bound; 0 or less where it is kept. What is not a number breaks any."""
        if math.isnan(value):
            return math.inf
        return value - self.bound if self.kind == "at most" else self.bound - value


def AtMost(name: str, bound: float) -> Constraint:
    """A metric must not end above ``bound``."""
    return Constraint(name, bound, "at most")


def AtLeast(name: str, bound: float) -> Constraint:
    """A metric must not end below ``bound``."""
    return Constraint(name, bound, "at least")


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
    seed: of the sampler and of all replicas. comparisons: of all models of the study, measured when it is finished.
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
        rule = self.probes[0][1].replicas
        return rule if isinstance(rule, Adaptive) else None

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
        with _experimental():
            return SAMPLERS[self.sampler](seed)

    def config(self, trial: optuna.trial.BaseTrial) -> TrainConfig:
        """The configuration of a trial, with the study's seed and overrides."""
        config = self.space(trial)  # type: ignore[arg-type]
        if not isinstance(config, TrainConfig):
            raise UserError(f"the space of {self.name} must return a TrainConfig, but got {config!r}")
        overrides: dict[str, Any] = {"seed": self.seed} | self.overrides
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
        for name, distribution in self.distributions.items():
            if isinstance(distribution, optuna.distributions.FloatDistribution) and distribution.step is None:
                raise UserError(
                    f"the grid sampler needs finite choices, but {name} is continuous; "
                    f"write trial.suggest_categorical({name!r}, [...]) or give it a step"
                )
        with _experimental():
            walk = optuna.create_study(sampler=optuna.samplers.BruteForceSampler(seed=0))
        walk.optimize(lambda trial: float(bool(self.config(trial))), n_trials=MOST_COMBINATIONS + 1)
        if len(walk.trials) > MOST_COMBINATIONS:
            raise UserError(f"the grid must have at most {MOST_COMBINATIONS} combinations, but it has more")
        places = {name: _places(distribution) for name, distribution in self.distributions.items()}

        def place(params: dict[str, Any]) -> list[int]:
            return [_nearest_place(places[name], params[name]) if name in params else -1 for name in places]

        return sorted((trial.params for trial in walk.trials), key=place)

    @property
    def question(self) -> str:
        """The docstring of the study file."""
        module = sys.modules.get(self.space.__module__)
        return (getattr(module, "__doc__", None) or "").strip()

    def source(self) -> dict[str, str]:
        """The study file: its path, its text and the text's sha256."""
        text = self.path.read_text() if self.path else ""
        return {"file": str(self.path), "file_sha256": hashlib.sha256(text.encode()).hexdigest(), "file_text": text}

    def spec(self) -> dict[str, str]:
        """What must not change while a study goes on, by name: metrics, space, and what every configuration shares."""
        fields_of = [dict(_flat("config", config)) for _, config in self.probes]
        shared = fields_of[0].items() - {
            item for other in fields_of[1:] for item in fields_of[0].items() - other.items()
        }
        return {
            "metrics": ", ".join(f"{metric.direction} {metric.name}" for metric in self.searched),
            "early_stopping": repr(self.early_stopping),
            "constraints": ", ".join(f"{one.name} {one.kind} {one.bound:g}" for one in self.constraints) or "none",
            **{f"space.{name}": str(distribution) for name, distribution in self.distributions.items()},
            "protocols": ", ".join(
                sorted({f"{p.name} {p.hash}" for _, config in self.probes for p in config.protocols})
            ),
            **dict(sorted(shared)),
            "configurations": hashlib.sha256(repr([config for _, config in self.probes]).encode()).hexdigest(),
        }

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
            for _, config in self.probes:
                comparison.check(config.data, config.objective)
        for point in self.enqueue:
            if isinstance(point, Mapping):
                self._check_point(point)
        if self.adaptive and {config.replicas for _, config in self.probes} != {self.adaptive}:
            raise UserError(f"all configurations must have the same replicas={self.adaptive}, but some have others")
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


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a parameter may have that value."""
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except ValueError:
        return False


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """The fields of nested dataclasses as (dotted name, text); a dataclass itself is its type's name."""
    if not is_dataclass(value):
        yield name, repr(value)
        return
    yield name, type(value).__name__
    for each in fields(value):
        yield from _flat(f"{name}.{each.name}", getattr(value, each.name))


@contextmanager
def _experimental() -> Iterator[None]:
    """What Optuna calls experimental, and has kept for years, is used without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _nearest_place(values: list[Any], value: Any) -> int:
    """Where ``value`` is among ``values``; steps of a float add up to a rounding error."""
    if isinstance(value, float):
        return min(range(len(values)), key=lambda i: abs(float(values[i]) - value))
    return values.index(value)


def _places(distribution: BaseDistribution) -> list[Any]:
    """All values of a finite distribution, in order."""
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, optuna.distributions.IntDistribution | optuna.distributions.FloatDistribution)
    count = round((distribution.high - distribution.low) / (distribution.step or 1)) + 1
    return [distribution.low + i * (distribution.step or 1) for i in range(count)]


def size() -> Literal["cpu", "gpu"]:
    """What ``run --size`` asked for: studies that two CPU cores finish in minutes, or larger ones for a GPU."""
    return "gpu" if os.environ.get("AESEARCH_SIZE") == "gpu" else "cpu"


def load_study(path: Path) -> Study:
    """The ``study`` of a study file, which this executes, tried on a sample of its space.

    Raises UserError, naming the line, for a file that is missing, fails, or names what does not exist.
    """
    if not path.is_file():
        studies = [str(file) for file in sorted(path.parent.glob("*.py"))] or ["studies/beta_sweep.py"]
        raise UserError(f"there is no study file {path}: {nearest(str(path), studies)}")
    spec = importlib.util.spec_from_file_location(f"aesearch_study_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    try:
        spec.loader.exec_module(module)
        study = getattr(module, "study", None)
        if not isinstance(study, Study):
            raise UserError("a study file must end with study = Study(...)")
        study = replace(study, path=path)
        study.check()
    except Exception as error:
        raise UserError(f"{_place(error, path)}: {_explain(error)}") from error
    return study


def _place(error: Exception, path: Path) -> str:
    """The study file, with the line of it that the error came from, if any."""
    if isinstance(error, SyntaxError):
        return f"{path}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path.absolute()]
    return f"{path}:{frames[-1].lineno}" if frames else str(path)


def _explain(error: Exception) -> str:
    """An error of a study file as one line, with the nearest valid names where a name is unknown."""
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    if match := re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", text):
        value = next((v for m in _modules() if is_dataclass(v := getattr(m, match[1], None))), None)
        if value is not None:
            names = [f.name for f in fields(value) if f.init]
            return f"{match[1]} has no field {match[2]!r}: {nearest(match[2], names)}"
    if match := re.search(r"cannot import name '(\w+)' from '(aesearch[\w.]*)'", text):
        known = [name for name in dir(sys.modules[match[2]]) if not name.startswith("_")]
        return f"{match[2]} has no {match[1]!r}: {nearest(match[1], known)}"
    return f"{type(error).__name__}: {text}"


def _modules() -> list[ModuleType]:
    return [module for name, module in sys.modules.items() if name.startswith("aesearch.")]
