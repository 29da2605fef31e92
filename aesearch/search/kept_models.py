"""Remove the models that a study does not keep."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from aesearch.discarding import discard
from aesearch.pareto import front
from aesearch.search.ledger import Ledger


@dataclass
class KeptModels:
    """Models of a study's trials, of which some are kept.

    Those of the front and of the ``keep`` best of each searched metric stay, in each condition.

    gone: keys of trials whose models were removed, so that each is looked at once.
    """

    ledger: Ledger
    gone: set[int] = field(default_factory=set)

    def discard(self) -> list[int]:
        """Remove what is not kept.

        Returns the keys of trials whose models were removed now.
        """
        ledger, study = self.ledger, self.ledger.study
        if study.keep is None or study.comparisons:
            return []
        conditions: dict[tuple[Any, ...], dict[int, FrozenTrial]] = {}
        for key, trial in ledger.rivals().items():
            conditions.setdefault(study.condition(trial.params), {})[key] = trial
        kept = {key for rivals in conditions.values() for key in self._kept(rivals)}
        complete = {key for key, trial in ledger.trials().items() if trial.state == TrialState.COMPLETE}
        reason = f"the trial was neither on the front nor one of the {study.keep} best of a metric (keep)"
        going = complete - kept - self.gone
        self.gone |= going
        return [key for key in sorted(going) if discard(ledger.record(key).artifacts, reason)]

    def _kept(self, rivals: Mapping[int, FrozenTrial]) -> set[int]:
        """Choose whose models are kept among the trials of one condition."""
        keys = list(rivals)
        costs = [self._costs(key, trial) for key, trial in rivals.items()]
        kept = {keys[place] for place in front(costs)}
        for i in range(len(self.ledger.study.searched)):
            of_one = sorted((cost[i], key) for cost, key in zip(costs, keys, strict=True))
            kept |= {key for _, key in of_one[: self.ledger.study.keep]}
        return kept

    def _costs(self, key: int, trial: FrozenTrial) -> tuple[float, ...]:
        """Read the searched metrics of a trial, signed so that less is better.

        Optuna knows those of a trial's first replicas only.
        """
        values = trial.values
        if self.ledger.study.adaptive:
            values = [float(np.median(of_one)) for of_one in self.ledger.replicas(key).values()]
        return tuple(sign * value for sign, value in zip(self.ledger.study.signs, values, strict=True))
