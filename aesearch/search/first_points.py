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
from aesearch.pareto import Costs, ranked
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
    per = dict.fromkeys([*other.user_attrs.get("spec", {}).get("per", "").split(", "), *study.per])
    space = study.distributions
    return [
        {
            name: value
            for name, value in complete[place].params.items()
            if name in space and contains(space[name], value)
        }
        for place in _best_first(costs, [tuple(trial.params.get(name) for name in per) for trial in complete])[
            : best.most
        ]
    ]


def _best_first(costs: list[Costs], conditions: list[tuple[Any, ...]]) -> list[int]:
    """Order trials from the best on, by their place within their condition.

    Costs of different conditions are not compared, so the best of each come before all second ones.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, condition in enumerate(conditions):
        groups.setdefault(condition, []).append(place)
    positions: dict[int, int] = {}
    for group in groups.values():
        found = ranked([costs[place] for place in group])
        positions |= {place: position for place, (_, position) in zip(group, found, strict=True)}
    return sorted(positions, key=positions.__getitem__)
