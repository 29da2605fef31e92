"""Keep what was tried and how it ended, in an Optuna study on SQLite.

It stands below ``--home``, beside the records of the trials.

It outlives any driver: the same command again goes on with what is missing. A trial goes this way:

    ask     a point is drawn in memory, written with its key, and its record begun    RUNNING on the disk
    tell    the record is closed first, then the state is written                     COMPLETE, PRUNED, FAIL

Whatever is RUNNING when a ledger is opened was under way when its driver died. Its record decides what becomes of it:

    state.json    result.json    then
    of it         -              it is told once more as what state.json says
    -             there          it is told as COMPLETE
    -             -              it is handed out again, under its key and with its parameters
    of another    any            the same: it tries a failed trial again, whose record is still there

So ``ask`` and ``tell`` may be interrupted anywhere: each step is either not done, or done again with the same outcome.
A point that was drawn but not written is drawn again, and is the same: the sampler is seeded by the trial's key.
"""

import platform
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from filelock import FileLock
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, TrialState

from aesearch.errors import UserError
from aesearch.records import Record, medians, write_json
from aesearch.search.first_points import first_points
from aesearch.search.state import code_version, take_lock
from aesearch.search.surroundings import check_folder
from aesearch.search.trial_table import TrialTable
from aesearch.search.values import Outcome, Place
from aesearch.study import Study, check_spec
from aesearch.train import TrainConfig

# What decides what a training comes to, beside the code.
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "ray", "optuna", "mlflow", "pandas")
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class Asked(NamedTuple):
    """Next trial: its key, and its configuration or the space's error."""

    key: int
    config: TrainConfig | Exception


@dataclass
class Ledger:
    """Trials of a study, in Optuna and in their records.

    One driver at a time holds them.

    A trial has a key that stays the same when a failed trial is tried again under a new Optuna number.
    table: what Optuna knows. running: the numbers there of trials that are handed out, by key. interrupted: those of
    trials that an earlier driver left behind, which are handed out first.
    """

    study: Study
    folder: Path
    lock: FileLock
    table: TrialTable
    running: dict[int, int] = field(default_factory=dict)
    interrupted: dict[int, int] = field(default_factory=dict)

    @classmethod
    def open(cls, study: Study, home: Path) -> "Ledger":
        """Take the study's ledger, made if there is none.

        Raises UserError where another driver holds it, where it was begun with another space, metrics or budget, or
        where a file is damaged.
        """
        folder = home.absolute() / study.name
        folder.mkdir(parents=True, exist_ok=True)
        lock = take_lock(folder)
        try:
            check_folder(folder)
            ledger = cls(study, folder, lock, TrialTable.open(study, folder / "ledger.db"))
            ledger._check_spec()
            for key in ledger.trials():
                ledger.record(key).check()
            for point in first_points(study, home):
                ledger.table.queue(point, unless_there=True)
            ledger._recover()
            ledger.note()
            if ledger.trials() and not isinstance(study.sampler, str):
                # Whatever it drew before, it must not draw again.
                study.sampler.reseed_rng()
        except BaseException:
            lock.release()
            raise
        return ledger

    def close(self) -> None:
        """Let another driver have the ledger."""
        self.lock.release()

    def _check_spec(self) -> None:
        known = self.table.attrs.get("spec")
        if known is None:
            self._check_new()
            # The spec last: a ledger that has one has all that was noted at its begin.
            self.table.set_attr("identity", uuid.uuid4().hex)
        spec = check_spec(self.study, known)
        if spec != known:
            self.table.set_attr("spec", spec)

    def _check_new(self) -> None:
        """Refuse an empty ledger beside existing trial folders, which it would overwrite."""
        kept = len(list((self.folder / "trials").glob("*/trial.json")))
        if kept or [d.name.lower() for d in self.table.optuna_study.directions] != self.study.directions:
            raise UserError(
                f"{self.folder / 'ledger.db'} must be the ledger of the study {self.study.name}, but it has none of "
                f"the {kept} trials in {self.folder / 'trials'}; restore it, or start over with --fresh, which moves "
                "both aside"
            )

    def check_data(self, digests: Mapping[str, str]) -> None:
        """Remember the ``digests`` of the study's data sets, by name.

        Raises UserError where one has changed.
        """
        known = self.table.attrs.get("data", {})
        changed = [name for name in digests if known.get(name, digests[name]) != digests[name]]
        if changed:
            raise UserError(
                f"the data of a study must stay as they are, but of {self.study.name} {' and '.join(changed)} changed "
                "since it began; restore the files, start a new study from it with --fork NAME, or start over with "
                "--fresh"
            )
        if known != known | digests:
            self.table.set_attr("data", known | digests)
            self.note()

    def describe(self) -> dict[str, Any]:
        """State what the study is without its file.

        This is the content of study.json, and of MLflow's parent run.

        ``identity`` tells it from one of the same name that is begun afresh, ``data`` are the digests of its data sets.
        """
        study, known = self.study, self.table.attrs
        return {
            "name": study.name,
            "identity": known["identity"],
            "question": study.question,
            "metrics": [[metric.name, metric.direction] for metric in study.searched],
            "constraints": [[one.name, one.kind, one.bound] for one in study.constraints],
            "per": list(study.per),
            "kinds": [asdict(kind) for kind in study.kinds],
            "distributions": {name: distribution_to_json(d) for name, d in study.distributions.items()},
            "n_trials": self.total,
            "sampler": study.sampler if isinstance(study.sampler, str) else type(study.sampler).__name__,
            "seed": study.seed,
            "overrides": study.overrides,
            "forked_from": study.forked_from,
            "data": known.get("data", {}),
            **study.source(),
            "version": code_version(),
            "packages": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        }

    def note(self) -> None:
        """Write study.json."""
        write_json(self.folder / "study.json", self.describe())

    # What happens to a trial. No other methods change Optuna's storage once a study has begun.

    def _recover(self) -> None:
        """Decide what becomes of each trial that was under way, by the table above."""
        for frozen in self.table.trials():
            if frozen.state != TrialState.RUNNING:
                continue
            key = frozen.user_attrs.get("key", self._following)
            self.table.note(frozen.number, key=key)
            if outcome := self._outcome(key, frozen):
                self.running[key] = frozen.number
                self.tell(key, outcome)
            else:
                self.interrupted[key] = frozen.number

    def _outcome(self, key: int, frozen: FrozenTrial) -> Outcome | None:
        """Read from the record alone how a trial ended; None if it was still running."""
        closed, result = self.record(key).read("state.json"), self.record(key).read("result.json")
        # Earlier versions noted no number: then it is taken for this attempt's, unless this tries a failed trial again.
        own = (
            "again_for" not in frozen.user_attrs if closed.get("number") is None else closed["number"] == frozen.number
        )
        if closed and not own:
            return None
        match closed.get("state"), bool(result):
            case ((None | "COMPLETE"), True):
                return Outcome("COMPLETE", tuple(medians(result["metrics"], self.searched)))
            case ("PRUNED" | "FAIL") as state, _:
                return Outcome(state, reason=closed["reason"])
            case _:
                return None

    def ask(self) -> Asked:
        """Hand out the next trial and begin its record.

        One that was under way goes on from what it has.
        """
        trial: optuna.Trial | FrozenTrial
        if self.interrupted:
            key = next(iter(self.interrupted))
            number, again = self.interrupted.pop(key), True
            trial, config = self._resumed(key, number)
        else:
            following = self._following
            trial = self.table.ask(self.study.make_sampler(following))
            number, again = trial.number, "again_for" in trial.user_attrs
            key = trial.user_attrs.get("key", following)
            self.table.note(number, key=key)
            config = self._config(trial)
        self.running[key] = number
        try:
            self.table.write(number)
        except ValueError as error:
            # Optuna on SQLite refuses a parameter whose choices are others than those of an earlier trial.
            config = error
            self.table.bare.add(number)
            self.table.write(number)
        distributions = {name: distribution_to_json(d) for name, d in trial.distributions.items()}
        self.record(key).begin(
            {"key": key, "params": trial.params, "distributions": distributions, "config": repr(config)}, again=again
        )
        return Asked(key, config)

    def _config(self, trial: optuna.trial.BaseTrial) -> TrainConfig | Exception:
        try:
            config = self.study.config(trial)
            # The space was tried on a sample only.
            self.study.check_metrics(config)
            self.study.condition(trial.params)
        except Exception as error:
            return error
        return config

    def _resumed(self, key: int, number: int) -> tuple[optuna.Trial | FrozenTrial, TrainConfig | Exception]:
        frozen = self.table.trials()[number]
        config = self._config(frozen)
        if not isinstance(config, Exception):
            return frozen, config
        # Earlier versions began a trial before all its parameters were drawn; and a space may ask more of a trial
        # than its parameters.
        trial = self.table.resume(number, self.study.make_sampler(key))
        return trial, self._config(trial)

    @property
    def _following(self) -> int:
        """The key of the next trial that is begun."""
        return max(self.trials(), default=-1) + 1

    def report(self, key: int, value: float, epoch: int) -> None:
        """Note the value of a single searched metric after an epoch.

        Samplers that learn from stopped trials use it. A trial that goes on from a checkpoint does some epochs again;
        they are noted once.
        """
        if len(self.study.searched) == 1 and np.isfinite(value):
            self.table.report(self.running[key], epoch, value)

    def tell(self, key: int, outcome: Outcome) -> None:
        """Note how a trial ended.

        COMPLETE needs finite values of all searched metrics, or it is a FAIL.
        """
        if outcome.state == "COMPLETE" and not (outcome.values and np.isfinite(outcome.values).all()):
            outcome = Outcome("FAIL", reason=f"the searched metrics must be finite, but got {list(outcome.values)}")
        number = self.running.pop(key)
        if outcome.reason:
            self.table.note(number, reason=outcome.reason)
        if outcome.state == "PRUNED":
            self._note_epochs(key, number)
        complete = outcome.state == "COMPLETE"
        # The record first: a trial that the ledger calls finished must have all its files.
        self.record(key).close(outcome.state, outcome.reason, number)
        self.table.tell(
            number,
            TrialState[outcome.state],
            list(outcome.values) if complete else None,
            self._violations(key) if complete else {},
        )

    def _note_epochs(self, key: int, number: int) -> None:
        """Note the searched metrics after each epoch of a stopped trial."""
        values = self._values(key)
        if len(self.study.searched) > 1:
            # Optuna keeps intermediate values of single metrics only.
            self.table.note(number, intermediate_values={str(epoch): found for epoch, found in values.items()})
            return
        # A driver may have died before it noted the last.
        for epoch, found in values.items():
            self.table.report(number, epoch, found[0])

    def retry_failed(self) -> int:
        """Queue the failed trials again, under their keys.

        They go on from what they have. Returns how many there are.
        """
        failed = {key: frozen for key, frozen in self.finished().items() if frozen.state == TrialState.FAIL}
        for key, frozen in failed.items():
            self.table.queue(frozen.params, key=key, again_for=frozen.number)
        return len(failed)

    # What the trials came to so far.

    @property
    def searched(self) -> list[str]:
        """The names of the searched metrics."""
        return [metric.name for metric in self.study.searched]

    @property
    def total(self) -> int:
        """Number of trials that the study is to have, at least those that ended."""
        return max(self.study.n_trials or len(self.study.grid()), len(self.finished()))

    @property
    def left(self) -> int:
        """The number of trials that have not ended yet."""
        return self.total - len(self.finished())

    def record(self, key: int) -> Record:
        """Name the record of a trial."""
        return Record(Place(key).folder(self.folder / "trials"))

    def trials(self) -> dict[int, FrozenTrial]:
        """Map each trial that has begun, by key, to the last attempt at it."""
        begun = [trial for trial in self.table.trials() if "key" in trial.user_attrs]
        return {trial.user_attrs["key"]: trial for trial in begun}

    def finished(self) -> dict[int, FrozenTrial]:
        """Map each trial that has ended, by key, to the last attempt at it."""
        return {key: trial for key, trial in self.trials().items() if trial.state in FINISHED}

    def rivals(self) -> dict[int, FrozenTrial]:
        """Map the complete trials that keep all bounds, by key.

        Where none keeps them, all complete trials count.
        """
        complete = {key: trial for key, trial in self.trials().items() if trial.state == TrialState.COMPLETE}
        keeping = {
            key: trial for key, trial in complete.items() if all(value <= 0 for value in trial.constraints.values())
        }
        return keeping or complete

    def replicas(self, key: int) -> dict[str, list[float]]:
        """Read the searched metrics of each replica of a complete trial."""
        metrics = self.record(key).read("result.json")["metrics"]
        return {name: metrics[name] for name in self.searched}

    def condition(self, key: int) -> tuple[Any, ...]:
        """Find the condition of a trial, within which it is compared; () without any."""
        return self.study.condition(self.trials()[key].params) if self.study.per else ()

    def place(self, key: int) -> tuple[tuple[Any, ...], int]:
        """Find the condition of a trial, and its number among that's trials.

        Without conditions the number is its key.
        """
        if not self.study.per:
            return (), key
        condition, names = self.condition(key), self.study.per
        params = [trial.params for other, trial in self.trials().items() if other < key]
        return condition, [tuple(one.get(name) for name in names) for one in params].count(condition)

    def intermediate(self) -> dict[int, dict[int, list[float]]]:
        """Read the searched metrics after each epoch, by key and epoch.

        They are medians over replicas.
        """
        return {key: self._values(key) for key in self.trials()}

    def _values(self, key: int) -> dict[int, list[float]]:
        values = {line["epoch"]: medians(line["metrics"], self.searched) for line in self.record(key).history()}
        return {epoch: found for epoch, found in values.items() if np.isfinite(found).all()}

    def _violations(self, key: int) -> dict[str, float]:
        """Measure by how much a finished trial breaks each bound."""
        metrics = self.record(key).read("result.json").get("metrics", {})
        values = medians(metrics, [one.name for one in self.study.constraints])
        return {
            f"{one.name} {one.kind}": one.violation(value)
            for one, value in zip(self.study.constraints, values, strict=True)
        }

    def counts(self) -> Counter[str]:
        """Count the trials in each state.

        Those that an earlier driver left behind are WAITING until they go on.
        """
        return Counter(
            "WAITING" if key in self.interrupted else trial.state.name for key, trial in self.trials().items()
        )

    def failures(self) -> Counter[str]:
        """Count the reasons of the failed trials."""
        failed = (trial for trial in self.trials().values() if trial.state == TrialState.FAIL)
        return Counter(trial.user_attrs.get("reason", "unknown") for trial in failed)

    def best(self) -> dict[str, float]:
        """Find the best value of each searched metric among the complete trials.

        It is empty where trials are compared within conditions only.
        """
        if self.study.per:
            return {}
        complete = [trial for trial in self.trials().values() if trial.state == TrialState.COMPLETE]
        return {
            metric.name: metric.sign * min(metric.sign * trial.values[i] for trial in complete)
            for i, metric in enumerate(self.study.searched)
            if complete
        }
