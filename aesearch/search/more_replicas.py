"""Add replicas to the trials that could still be on the front.

That is done when a search with adaptive replicas is over.

A part of a trial, its replicas from ``start`` on, trains with a record of its own below the trial's, and is then joined
to it. What is joined counts; a part that was interrupted goes on from its checkpoint.
"""

import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from aesearch.discarding import is_discarded
from aesearch.pareto import ranked
from aesearch.records import Record
from aesearch.search.ledger import Ledger
from aesearch.search.values import Outcome, Place
from aesearch.statistics.posterior import Values, chances, true_means
from aesearch.study import Adaptive
from aesearch.train import TrainConfig


def parts(ledger: Ledger) -> list[Place]:
    """List the parts of trials that are to be trained next.

    The list is empty when no trial deserves more replicas.
    """
    rule = ledger.study.adaptive
    if rule is None or ledger.left:
        return []
    known = {key: ledger.replicas(key) for key in ledger.rivals()}
    for key, of_trial in known.items():
        _remove_joined(ledger.record(key), len(next(iter(of_trial.values()))))
    conditions: dict[tuple[Any, ...], list[int]] = {}
    for key in known:
        conditions.setdefault(ledger.condition(key), []).append(key)
    found = []
    for keys in conditions.values():
        wanted = more([np.stack(list(known[key].values()), axis=1) * ledger.study.signs for key in keys], rule)
        found += [Place(keys[i], len(next(iter(known[keys[i]].values()))), stop) for i, stop in wanted.items()]
    return [part for part in found if not _record(ledger, part).read("state.json") and _has_model(ledger, part.key)]


def _has_model(ledger: Ledger, key: int) -> bool:
    """Tell whether a trial has the model that further replicas are joined to.

    The trials of a study that was ended and then extended may have none.
    """
    record = ledger.record(key)
    if not is_discarded(record.artifacts):
        return True
    record.remark("it gets no further replicas, as its model was not kept")
    return False


@dataclass
class Parts:
    """Queue of the parts of trials that are to be trained.

    left: how many have not ended.
    """

    ledger: Ledger
    waiting: deque[Place]
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.waiting)

    def ask(self) -> tuple[Place, TrainConfig]:
        """Hand out the next part.

        Its configuration has as many replicas as the trial will have.
        """
        part = self.waiting.popleft()
        begun = {"key": part.key, "start": part.start, "stop": part.stop}
        _record(self.ledger, part).begin(begun, again=True)
        config = self.ledger.study.config(self.ledger.trials()[part.key])
        return part, replace(config, replicas=part.stop)

    def report(self, key: int, value: float, epoch: int) -> None:
        """Ignore an epoch: the sampler sees the first replicas only."""

    def tell(self, part: Place, outcome: Outcome) -> None:
        """Note how a part ended.

        One that failed is not tried again. Its trial keeps the replicas that it has.
        """
        self.left -= 1
        record = _record(self.ledger, part)
        if outcome.state == "COMPLETE":
            shutil.rmtree(record.folder)
            return
        record.close(outcome.state, outcome.reason)
        remark = f"of replicas {part.start} to {part.stop - 1} nothing came: {outcome.reason}"
        self.ledger.record(part.key).remark(remark)


def _remove_joined(trial: Record, replicas: int) -> None:
    """Remove what a driver that was killed has left of parts that the trial has.

    replicas: the number of those that it has.
    """
    for folder in (trial.folder / "more").glob("[0-9]*-[0-9]*"):
        if int(folder.name.partition("-")[0]) < replicas:
            shutil.rmtree(folder)


def _record(ledger: Ledger, part: Place) -> Record:
    return Record(part.folder(ledger.folder / "trials"))


def more(costs: Sequence[Values], rule: Adaptive) -> Mapping[int, int]:
    """Choose the trials (R_i, M) of one condition that are to get more seeds.

    Returns how many each then has, by the place of the trial.

    Where no trial has two seeds, no spread is known: the first two fronts get another one.
    """
    if not costs:
        return {}
    fronts = [front for front, _ in ranked([tuple(np.median(of_one, axis=0).tolist()) for of_one in costs])]
    if max(map(len, costs)) < 2:
        chosen = [i for i, front in enumerate(fronts) if front < 2]
    else:
        of_each = chances(true_means(costs))
        # One that is on the front by luck alone must not stay there untried.
        chosen = [i for i, chance in enumerate(of_each) if chance >= rule.unlikely or fronts[i] == 0]
    return {i: min(rule.most, len(costs[i]) + max(1, len(costs[i]) // 2)) for i in chosen if len(costs[i]) < rule.most}
