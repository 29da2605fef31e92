"""Trials of a study as Optuna knows them.

They are in memory, for the samplers, and on SQLite, for the next driver. A sampler draws a trial in memory; then the
trial is written to SQLite. A new trial is one transaction. Of one that is there already, the state is written last:
what stands there of it before is made again, with the same outcome.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from aesearch.errors import UserError
from aesearch.study import Study


@dataclass
class TrialTable:
    """Trials by number, as they were begun.

    disk: the storage on SQLite; ids: of its trials, by number. memory: a copy that samplers work with. bare: the
    numbers of trials whose parameters the disk refuses.
    """

    disk: RDBStorage
    study_id: int
    ids: list[int]
    memory: InMemoryStorage
    optuna_study: optuna.Study
    bare: set[int] = field(default_factory=set)

    @classmethod
    def open(cls, study: Study, path: Path) -> "TrialTable":
        """Read the trials at ``path``, where a file without any is made if there is none.

        Raises UserError for a file that is no such database.
        """
        try:
            disk = RDBStorage(f"sqlite:///{path}")
            known = optuna.create_study(
                storage=disk, study_name=study.name, directions=study.directions, load_if_exists=True
            )
            study_id = disk.get_study_id_from_name(study.name)
            trials = sorted(disk.get_all_trials(study_id), key=lambda trial: trial.number)
        except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
            raise UserError(
                f"a study's ledger must be an Optuna database, but {path}: {str(error).splitlines()[0]}; "
                "restore it, or start over with --fresh, which moves it aside"
            ) from error
        memory = InMemoryStorage()
        copy = optuna.create_study(storage=memory, study_name=study.name, directions=known.directions)
        table = cls(disk, study_id, [trial._trial_id for trial in trials], memory, copy)
        redrawn = isinstance(study.sampler, str)
        for trial in trials:
            copied = _undrawn(trial, redrawn) if trial.state == TrialState.WAITING else trial
            memory.create_new_trial(copy._study_id, copied)
        return table

    @property
    def attrs(self) -> dict[str, Any]:
        """Notes of the study, by name."""
        return self.disk.get_study_user_attrs(self.study_id)

    def set_attr(self, name: str, value: Any) -> None:
        """Note something of the study."""
        self.disk.set_study_user_attr(self.study_id, name, value)

    def trials(self) -> list[FrozenTrial]:
        """List all trials. They must not be changed."""
        return self.optuna_study.get_trials(deepcopy=False)

    # What happens to a trial. Each of these ends with its trial on the disk, but for ``ask`` and ``note``.

    def queue(self, params: Mapping[str, Any], unless_there: bool = False, **attrs: Any) -> None:
        """Add a trial that is to be asked before any is drawn.

        params: of it; what they leave open is drawn when it is asked.
        unless_there: whether to add none where a trial has these parameters.
        """
        count = len(self.ids)
        self.optuna_study.enqueue_trial(dict(params), user_attrs=attrs, skip_if_exists=unless_there)
        if len(self.trials()) > count:
            self.write(count)

    def ask(self, sampler: BaseSampler) -> optuna.Trial:
        """Begin the next trial in memory.

        Its caller writes it once its parameters are drawn.
        """
        self.optuna_study.sampler = sampler
        return self.optuna_study.ask()

    def resume(self, number: int, sampler: BaseSampler) -> optuna.Trial:
        """Take up a trial that is RUNNING; parameters that it lacks are drawn."""
        self.optuna_study.sampler = sampler
        return optuna.Trial(self.optuna_study, self._id(number))

    def note(self, number: int, **attrs: Any) -> None:
        """Note something of a trial in memory, to be written with the trial."""
        for name, value in attrs.items():
            self.memory.set_trial_user_attr(self._id(number), name, value)

    def report(self, number: int, epoch: int, value: float) -> None:
        """Note the value of a trial after an epoch, unless one is noted."""
        if epoch not in self.trials()[number].intermediate_values:
            self.memory.set_trial_intermediate_value(self._id(number), epoch, value)
            self.disk.set_trial_intermediate_value(self.ids[number], epoch, value)

    def tell(
        self, number: int, state: TrialState, values: Sequence[float] | None, constraints: Mapping[str, float]
    ) -> None:
        """End a trial. Its state is the last that is written.

        constraints: by how much it breaks each bound.
        """
        for name, value in create_trial(state=TrialState.FAIL, constraints=dict(constraints)).system_attrs.items():
            self.memory.set_trial_system_attr(self._id(number), name, value)
        self.optuna_study.tell(number, values, state=state)
        self.write(number)

    def write(self, number: int) -> None:
        """Write to the disk what a trial has in memory.

        Raises ValueError for a parameter that other trials have with other choices.
        """
        trial = self.trials()[number]
        if number in self.bare:
            trial = deepcopy(trial)
            trial.params, trial.distributions = {}, {}
        if number == len(self.ids):
            self.ids.append(self.disk.create_new_trial(self.study_id, trial))
            return
        there, known = self.ids[number], self.disk.get_trial(self.ids[number])
        for name in trial.params.keys() - known.params.keys():
            distribution = trial.distributions[name]
            internal = distribution.to_internal_repr(trial.params[name])
            self.disk.set_trial_param(there, name, internal, distribution)
        for name, value in _news(trial.user_attrs, known.user_attrs):
            self.disk.set_trial_user_attr(there, name, value)
        for name, value in _news(trial.system_attrs, known.system_attrs):
            self.disk.set_trial_system_attr(there, name, value)
        for epoch, value in _news(trial.intermediate_values, known.intermediate_values):
            self.disk.set_trial_intermediate_value(there, epoch, value)
        if trial.state != known.state:
            self.disk.set_trial_state_values(there, trial.state, trial.values)

    def _id(self, number: int) -> int:
        """Give the id of a trial in memory."""
        return self.trials()[number]._trial_id


def _undrawn(trial: FrozenTrial, redrawn: bool) -> FrozenTrial:
    """Take from a waiting trial what a driver had written of it when it died.

    redrawn: whether the sampler draws the same again; what any other drew stays.
    """
    fixed = {name: value for name, value in trial.system_attrs.items() if name == "fixed_params"}
    # A trial that is tried again has its key from the start.
    attrs = trial.user_attrs if "again_for" in trial.user_attrs else {}
    return create_trial(
        state=TrialState.WAITING,
        params={} if redrawn else trial.params,
        distributions={} if redrawn else trial.distributions,
        system_attrs=fixed,
        user_attrs=attrs,
    )


def _news(now: Mapping[Any, Any], known: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    """List the entries that are not known."""
    return [(name, value) for name, value in now.items() if name not in known or known[name] != value]
