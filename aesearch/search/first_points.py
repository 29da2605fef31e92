"""List the points that a study tries first.

They are those of a grid, those that the study names, and the best of other studies.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from aesearch.errors import UserError, nearest
from aesearch.pareto import ranked
from aesearch.study import Best, Study, contains

Point = dict[str, Any]


def first_points(study: Study, home: Path) -> Iterator[Point]:
    """List the points in the order in which they are tried.

    A parameter that a point leaves open is drawn by the sampler.

    Raises UserError where another study that is asked for its best trials cannot be read.
    """
    if study.sampler == "grid":
        yield from study.grid()[: study.n_trials]
    for one in study.enqueue:
        if isinstance(one, Best):
            yield from _best_of(one, study, home)
        else:
            yield dict(one)


def _best_of(best: Best, study: Study, home: Path) -> list[Point]:
    """List another study's best points, as far as they are in this one's space."""
    path = home.absolute() / best.study / "ledger.db"
    if not path.exists():
        known = [folder.parent.name for folder in home.absolute().glob("*/ledger.db")]
        raise UserError(f"there is no study {best.study!r} below {home}: {nearest(best.study, known)}")
    try:
        other = optuna.load_study(study_name=best.study, storage=f"sqlite:///{path}")
        complete = other.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    except (SQLAlchemyError, KeyError, optuna.exceptions.OptunaError) as error:
        raise UserError(
            f"a study's ledger must be an Optuna database, but {path}: {str(error).splitlines()[0]}"
        ) from error
    signs = [1 if direction == StudyDirection.MINIMIZE else -1 for direction in other.directions]
    costs = [tuple(sign * value for sign, value in zip(signs, trial.values, strict=True)) for trial in complete]
    positions = [position for _, position in ranked(costs)]
    space = study.distributions
    return [
        {
            name: value
            for name, value in complete[positions.index(position)].params.items()
            if name in space and contains(space[name], value)
        }
        for position in range(min(best.most, len(complete)))
    ]
