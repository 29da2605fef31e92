"""The ledger of a study: what was tried and how it ended, in an Optuna study on SQLite below ``--home``.

It outlives any driver: the same command again goes on with what is missing.
"""

import platform
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock
from optuna.distributions import distribution_to_json
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from aesearch.errors import UserError, nearest
from aesearch.pareto import front, ranked
from aesearch.records import Record, medians, write_json
from aesearch.search.state import code_version, take_lock
from aesearch.study import Best, Study, contains
from aesearch.train import TrainConfig

# Entries of a study's spec that mean something to a person when they change.
NAMED = ("metrics", "early_stopping", "constraints", "protocols")
# What decides what a training comes to, beside the code.
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "ray", "optuna", "mlflow", "pandas")
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass
class Ledger:
    """A study's Optuna trials and the folders of their records. One driver at a time holds it.

    A trial has a key that stays the same when an interrupted trial is tried again under a new Optuna number.
    """

    study: Study
    folder: Path
    lock: FileLock
    optuna_study: optuna.Study
    running: dict[int, optuna.Trial] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)  # whose models were removed, for looking at each once

    @classmethod
    def open(cls, study: Study, home: Path) -> "Ledger":
        """Take the study's ledger, made if there is none; trials that a dead driver left running are queued again.

        Raises UserError where another driver holds it, or where it was begun with another space, metrics or budget.
        """
        folder = home.absolute() / study.name
        folder.mkdir(parents=True, exist_ok=True)
        lock = take_lock(folder)
        try:
            ledger = cls(study, folder, lock, _open_optuna_study(study, folder / "ledger.db"))
            ledger._check_spec()
            for key in ledger.trials():
                ledger.record(key).check()
            ledger._enqueue_grid()
            ledger._enqueue_points(home)
            ledger.settle({})
            ledger.note()
            if ledger.trials() and not isinstance(study.sampler, str):
                # Whatever it drew before, it must not draw again.
                study.sampler.reseed_rng()
        except BaseException:
            lock.release()
            raise
        return ledger

    def _check_spec(self) -> None:
        spec, known = self.study.spec(), self.optuna_study.user_attrs.get("spec")
        if known is None:
            self._check_new()
            self.optuna_study.set_user_attr("spec", spec)
            self.optuna_study.set_user_attr("identity", uuid.uuid4().hex)
        elif known != spec:
            names = [name for name in {**known, **spec} if known.get(name) != spec.get(name)]
            changes = [
                f"{name} was {known.get(name)}, is {spec.get(name)}" for name in names if name in NAMED or "." in name
            ]
            raise UserError(
                f"the space, metrics and budget of a study must not change, but of {self.study.name} "
                f"{'; '.join(changes) or 'the configurations that its space makes differ'}; "
                "start a new one from it with --fork NAME, or start over with --fresh, which moves the old one aside"
            )

    def check_data(self, digests: Mapping[str, str]) -> None:
        """Remember the ``digests`` of the study's data sets, by name. Raises UserError where one is not as it was."""
        known = self.optuna_study.user_attrs.get("data", {})
        changed = [name for name in digests if known.get(name, digests[name]) != digests[name]]
        if changed:
            raise UserError(
                f"the data of a study must stay as they are, but of {self.study.name} {' and '.join(changed)} changed "
                "since it began; restore the files, start a new study from it with --fork NAME, or start over with "
                "--fresh"
            )
        if known != known | digests:
            self.optuna_study.set_user_attr("data", known | digests)
            self.note()

    def _check_new(self) -> None:
        """A ledger that holds nothing of the study must not be one that was lost: its trials would be overwritten."""
        kept = len(list((self.folder / "trials").glob("*/trial.json")))
        if kept or [d.name.lower() for d in self.optuna_study.directions] != self.study.directions:
            raise UserError(
                f"{self.folder / 'ledger.db'} must be the ledger of the study {self.study.name}, but it has none of "
                f"the {kept} trials in {self.folder / 'trials'}; restore it, or start over with --fresh, which moves "
                "both aside"
            )

    def _enqueue_grid(self) -> None:
        if self.study.sampler == "grid":
            for params in self.study.grid()[: self.study.n_trials]:
                self.optuna_study.enqueue_trial(params, skip_if_exists=True)

    def _enqueue_points(self, home: Path) -> None:
        for one in self.study.enqueue:
            for point in self._points_of(one, home) if isinstance(one, Best) else [one]:
                self.optuna_study.enqueue_trial(dict(point), skip_if_exists=True)

    def _points_of(self, best: Best, home: Path) -> list[dict[str, Any]]:
        """The parameters of another study's best trials that are in this one's space."""
        path = home.absolute() / best.study / "ledger.db"
        if not path.exists():
            known = [folder.parent.name for folder in home.absolute().glob("*/ledger.db")]
            raise UserError(f"there is no study {best.study!r} below {home}: {nearest(best.study, known)}")
        other = _read_optuna_study(best.study, path)
        complete = other.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        signs = [1 if direction == StudyDirection.MINIMIZE else -1 for direction in other.directions]
        costs = [tuple(sign * value for sign, value in zip(signs, trial.values, strict=True)) for trial in complete]
        places = [position for _, position in ranked(costs)]
        space = self.study.distributions
        return [
            {
                name: value
                for name, value in complete[places.index(position)].params.items()
                if name in space and contains(space[name], value)
            }
            for position in range(min(best.most, len(complete)))
        ]

    def settle(self, lost: Mapping[int, str]) -> None:
        """Trials that a dead driver, or a search that broke, left running: tell how they ended, or queue them again.

        lost: the reasons of those that are not to be tried again.
        """
        self.running.clear()
        for frozen in self.optuna_study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            key = frozen.user_attrs.get("key")
            ended = None if key is None else self._ended(key) or (("FAIL", None, lost[key]) if key in lost else None)
            if key is not None and ended:
                self.running[key] = optuna.trial.Trial(self.optuna_study, frozen._trial_id)
                self.tell(key, *ended)
                continue
            if key is not None:
                self._enqueue_again(key, frozen)
            self.optuna_study.tell(frozen.number, state=TrialState.FAIL)

    def put_back(self, key: int) -> None:
        """Queue a running trial again, to go on from what it has."""
        frozen = self.trials()[key]
        self._enqueue_again(key, frozen)
        self.optuna_study.tell(frozen.number, state=TrialState.FAIL)
        del self.running[key]

    def retry_failed(self) -> int:
        """Queue the failed trials again, under their keys, to go on from what they have; how many there are."""
        failed = {key: frozen for key, frozen in self.finished().items() if frozen.state == TrialState.FAIL}
        for key, frozen in failed.items():
            self._enqueue_again(key, frozen)
        return len(failed)

    def _enqueue_again(self, key: int, trial: FrozenTrial) -> None:
        """Queue a trial to be tried once more, under the same key and from what it has."""
        self.optuna_study.enqueue_trial(trial.params, user_attrs={"key": key, "again_for": trial.number})

    def _ended(self, key: int) -> tuple[str, list[float] | None, str] | None:
        """State, values and reason of a trial by its record alone; None if it was still running."""
        closed, result = self.record(key).read("state.json"), self.record(key).read("result.json")
        if result and closed.get("state", "COMPLETE") == "COMPLETE":
            return "COMPLETE", medians(result["metrics"], self.searched), ""
        return (closed["state"], None, closed["reason"]) if closed else None

    def trials(self) -> dict[int, FrozenTrial]:
        """The last attempt at each trial that has begun, by key."""
        trials = self.optuna_study.get_trials(deepcopy=False)
        begun = [trial for trial in trials if "key" in trial.user_attrs]
        return {trial.user_attrs["key"]: trial for trial in begun}

    def finished(self) -> dict[int, FrozenTrial]:
        return {key: trial for key, trial in self.trials().items() if trial.state in FINISHED}

    def record(self, key: int) -> Record:
        return Record(self.folder / "trials" / f"{key:05d}")

    def trial(self, key: int) -> Record:
        """Of a whole trial, where ``record`` may be that of a part."""
        return self.record(key)

    def ask(self) -> tuple[int, TrainConfig | Exception]:
        """The next trial: its key, and its configuration or why the space could not make it. Its record is begun."""
        following = max(self.trials(), default=-1) + 1
        self.optuna_study.sampler = self.study.make_sampler(following)
        trial = self.optuna_study.ask()
        key = trial.user_attrs.get("key")
        if key is None:
            key = following
            trial.set_user_attr("key", key)
        self.running[key] = trial
        config: TrainConfig | Exception
        try:
            config = self.study.config(trial)
            # The space was tried on a sample only.
            self.study.check_metrics(config)
        except Exception as error:
            config = error
        distributions = {name: distribution_to_json(d) for name, d in trial.distributions.items()}
        self.record(key).begin(
            {"key": key, "params": trial.params, "distributions": distributions, "config": repr(config)},
            again="again_for" in trial.user_attrs,
        )
        return key, config

    def intermediate(self) -> dict[int, dict[int, list[float]]]:
        """The searched metrics after each epoch of each trial that has begun, by key and epoch: medians of replicas."""
        return {key: self._values(key) for key in self.trials()}

    def _values(self, key: int) -> dict[int, list[float]]:
        values = {line["epoch"]: medians(line["metrics"], self.searched) for line in self.record(key).history()}
        return {epoch: found for epoch, found in values.items() if np.isfinite(found).all()}

    def rivals(self) -> list[int]:
        """The complete trials that keep all bounds, all of them where none does."""
        complete = {key: trial for key, trial in self.trials().items() if trial.state == TrialState.COMPLETE}
        keeping = [key for key, trial in complete.items() if all(value <= 0 for value in trial.constraints.values())]
        return keeping or list(complete)

    def discard(self) -> list[int]:
        """Remove the models that the study does not keep; the trials whose models were removed now.

        Kept are the front's and the best ``keep`` of each searched metric, of the trials that keep all bounds.
        """
        if self.study.keep is None or self.study.comparisons:
            return []
        trials, keys = self.trials(), self.rivals()
        costs = [self._costs(key, trials[key]) for key in keys]
        kept = {keys[place] for place in front(costs)}
        for i in range(len(self.searched)):
            of_one = sorted((cost[i], key) for cost, key in zip(costs, keys, strict=True))
            kept |= {key for _, key in of_one[: self.study.keep]}
        complete = {key for key, trial in trials.items() if trial.state == TrialState.COMPLETE}
        reason = f"the trial was neither on the front nor one of the {self.study.keep} best of a metric (keep)"
        going = complete - kept - self.gone
        self.gone |= going
        return [key for key in sorted(going) if self.record(key).discard(reason)]

    def _costs(self, key: int, trial: FrozenTrial) -> tuple[float, ...]:
        """The searched metrics of a complete trial, to be minimised; what Optuna knows is of its first replicas."""
        values = trial.values
        if self.study.adaptive:
            values = [float(np.median(of_one)) for of_one in self.replicas(key).values()]
        return tuple(sign * value for sign, value in zip(self.study.signs, values, strict=True))

    def replicas(self, key: int) -> dict[str, list[float]]:
        """The searched metrics of each replica of a complete trial."""
        metrics = self.record(key).read("result.json")["metrics"]
        return {name: metrics[name] for name in self.searched}

    @property
    def searched(self) -> list[str]:
        """The names of the searched metrics."""
        return [metric.name for metric in self.study.searched]

    def report(self, key: int, value: float, epoch: int) -> None:
        """An intermediate value of a single searched metric, for samplers that learn from stopped trials."""
        if len(self.study.searched) == 1 and np.isfinite(value):
            self.running[key].report(value, epoch)

    def tell(self, key: int, state: str, values: list[float] | None = None, reason: str = "") -> None:
        """How a trial ended. COMPLETE needs finite ``values`` of all searched metrics, or it is a FAIL."""
        if state == "COMPLETE" and not (values and np.isfinite(values).all()):
            state, reason = "FAIL", f"the searched metrics must be finite, but got {values}"
        trial = self.running.pop(key)
        if reason:
            trial.set_user_attr("reason", reason)
        if state == "PRUNED" and len(self.study.searched) > 1:
            # Optuna keeps intermediate values of single metrics only.
            trial.set_user_attr("intermediate_values", self._values(key))
        if state == "COMPLETE":
            for name, violation in self._violations(key).items():
                trial.set_constraint(name, violation)
        # The record first: a trial that the ledger calls finished must have all its files.
        self.record(key).close(state, reason)
        told = values if state == "COMPLETE" else None
        self.optuna_study.tell(trial, told, state=TrialState[state])

    def _violations(self, key: int) -> dict[str, float]:
        """By how much a finished trial breaks each bound."""
        metrics = self.record(key).read("result.json").get("metrics", {})
        values = medians(metrics, [one.name for one in self.study.constraints])
        return {
            f"{one.name} {one.kind}": one.violation(value)
            for one, value in zip(self.study.constraints, values, strict=True)
        }

    @property
    def left(self) -> int:
        """How many trials have not ended yet."""
        return self.total - len(self.finished())

    @property
    def total(self) -> int:
        """The number of trials that the study is to have, never less than it has finished."""
        return max(self.study.n_trials or len(self.study.grid()), len(self.finished()))

    def describe(self) -> dict[str, Any]:
        """What the parent run in MLflow says of the study; ``identity`` tells it from one begun afresh."""
        study = self.study
        return {
            "name": study.name,
            "identity": self.optuna_study.user_attrs["identity"],
            "question": study.question,
            "metrics": [[metric.name, metric.direction] for metric in study.searched],
            "constraints": [[one.name, one.kind, one.bound] for one in study.constraints],
            "kinds": [asdict(kind) for kind in study.kinds],
            "distributions": {name: distribution_to_json(d) for name, d in study.distributions.items()},
            "n_trials": self.total,
            "sampler": study.sampler if isinstance(study.sampler, str) else type(study.sampler).__name__,
            "seed": study.seed,
            "overrides": study.overrides,
            "forked_from": study.forked_from,
            "data": self.optuna_study.user_attrs.get("data", {}),
            **study.source(),
            "version": code_version(),
            "packages": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        }

    def note(self) -> None:
        """Write what the state means without the study file."""
        write_json(self.folder / "study.json", self.describe())

    def counts(self) -> Counter[str]:
        """How many trials are in each state."""
        return Counter(trial.state.name for trial in self.trials().values())

    def failures(self) -> Counter[str]:
        """The reasons of the failed trials, with their numbers."""
        failed = (trial for trial in self.trials().values() if trial.state == TrialState.FAIL)
        return Counter(trial.user_attrs.get("reason", "unknown") for trial in failed)

    def best(self) -> dict[str, float]:
        """The best value of each searched metric among the complete trials."""
        complete = [trial for trial in self.trials().values() if trial.state == TrialState.COMPLETE]
        return {
            metric.name: metric.sign * min(metric.sign * trial.values[i] for trial in complete)
            for i, metric in enumerate(self.study.searched)
            if complete
        }

    def close(self) -> None:
        self.lock.release()


def _read_optuna_study(name: str, path: Path) -> optuna.Study:
    try:
        return optuna.load_study(study_name=name, storage=f"sqlite:///{path}")
    except (SQLAlchemyError, KeyError, optuna.exceptions.OptunaError) as error:
        raise UserError(
            f"a study's ledger must be an Optuna database, but {path}: {str(error).splitlines()[0]}"
        ) from error


def _open_optuna_study(study: Study, path: Path) -> optuna.Study:
    try:
        return optuna.create_study(
            storage=f"sqlite:///{path}",
            study_name=study.name,
            directions=study.directions,
            sampler=study.make_sampler(),
            load_if_exists=True,
        )
    except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        raise UserError(
            f"a study's ledger must be an Optuna database, but {path}: {str(error).splitlines()[0]}; "
            "restore it, or start over with --fresh, which moves it aside"
        ) from error
