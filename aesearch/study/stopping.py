"""Early stopping: which trials are not worth their remaining epochs."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from statistics import mean, median

from aesearch.errors import UserError
from aesearch.pareto import Costs, ranked


class Judge(ABC):
    """What the trials of a study have reached so far, and which of them it stops. Costs are to be minimised.

    It knows only what it is told, so that another driver, told the same, stops the same.
    """

    @abstractmethod
    def record(self, key: int, epoch: int, costs: Costs) -> None:
        """Note what a trial has after an epoch; what is not finite is not noted."""

    @abstractmethod
    def stops(self, key: int, epoch: int, costs: Costs) -> bool:
        """Whether a trial should stop after this epoch; it is recorded."""


class Rule(ABC):
    """A frozen value: when a study stops a trial that is not worth its remaining epochs. Such a trial is PRUNED."""

    most_metrics = 1

    @abstractmethod
    def judge(self, most_epochs: int) -> Judge:
        """A judge of trials of at most ``most_epochs``, who knows nothing yet."""


@dataclass(frozen=True)
class ASHA(Rule):
    """Asynchronous successive halving: at each rung (grace, grace * factor, ... epochs) the best 1/factor go on.

    Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020.
    """

    grace: int = 1
    factor: int = 3

    def __post_init__(self) -> None:
        _check(self.grace, self.factor, self)

    def judge(self, most_epochs: int) -> "Rungs":
        return Rungs(self.grace, self.factor, most_epochs)


@dataclass(frozen=True)
class Pareto(Rule):
    """Asynchronous successive halving of two metrics, by Pareto rank; with one metric it is by order.

    At each rung (grace, grace * factor, ... epochs) a trial goes on if it is among the best 1/factor of those that have
    come so far: by the front that it is on, and on one front by how much hypervolume is lost without it. One that
    no other dominates there always goes on. Search metrics that do not fall and rise again, as a loss under KL warm-up.
    """

    grace: int = 2
    factor: int = 2
    most_metrics = 2

    def __post_init__(self) -> None:
        _check(self.grace, self.factor, self)

    def judge(self, most_epochs: int) -> "Rungs":
        return Rungs(self.grace, self.factor, most_epochs)


@dataclass(frozen=True)
class Hyperband(Rule):
    """ASHA in brackets whose first rung comes ever later, for when early epochs may mislead; the last stops nothing.

    Trials are dealt to the brackets in the shares that give each about the same number of epochs. Li et al.,
    "Hyperband", JMLR 2018, algorithm 1.
    """

    grace: int = 1
    factor: int = 3

    def __post_init__(self) -> None:
        _check(self.grace, self.factor, self)

    def judge(self, most_epochs: int) -> "Brackets":
        return Brackets(self.grace, self.factor, most_epochs)


@dataclass(frozen=True)
class Median(Rule):
    """Stops a trial whose best epoch so far is worse than the median of what the others had on average by then.

    grace: epochs that every trial is given. least: others that must have come as far. Golovin et al., "Google Vizier",
    KDD 2017, section 3.2.
    """

    grace: int = 1
    least: int = 5

    def __post_init__(self) -> None:
        if self.grace < 1 or self.least < 1:
            raise UserError(f"Median needs grace >= 1 epoch and least >= 1 trial, but got {self}")

    def judge(self, most_epochs: int) -> "Averages":  # noqa: ARG002
        return Averages(self.grace, self.least)


@dataclass(frozen=True)
class Plateau:
    """Ends a trial once its metric has not become better by more than ``gain`` for ``patience`` epochs.

    It looks at the trial alone, so nothing is thrown away: the trial is measured as after its last epoch, and COMPLETE.
    """

    patience: int = 5
    gain: float = 0.0

    def __post_init__(self) -> None:
        if self.patience < 1 or not self.gain >= 0:
            raise UserError(f"Plateau needs patience >= 1 epoch and gain >= 0, but got {self}")

    def reached(self, costs: Sequence[float]) -> bool:
        """Whether the costs after each epoch so far, to be minimised, have come to rest."""
        if len(costs) <= self.patience:
            return False
        # Of NaN, min() would depend on the order.
        costs = [cost if isfinite(cost) else inf for cost in costs]
        before, after = costs[: -self.patience], costs[-self.patience :]
        return not min(after) < min(before) - self.gain


def _check(grace: int, factor: int, given: object) -> None:
    if grace < 1 or factor < 2:
        raise UserError(f"{type(given).__name__} needs grace >= 1 epoch and factor >= 2, but got {given}")


class Rungs(Judge):
    """What each trial had reached at each rung."""

    def __init__(self, grace: int, factor: int, most_epochs: int) -> None:
        self.factor = factor
        self.reached: dict[int, dict[int, Costs]] = {}
        epoch = grace
        while epoch < most_epochs:
            self.reached[epoch] = {}
            epoch *= factor

    def record(self, key: int, epoch: int, costs: Costs) -> None:
        if epoch in self.reached and all(map(isfinite, costs)):
            self.reached[epoch][key] = costs

    def stops(self, key: int, epoch: int, costs: Costs) -> bool:
        self.record(key, epoch, costs)
        rung = self.reached.get(epoch, {})
        if key not in rung or len(rung) < self.factor:
            return False
        order = ranked(list(rung.values()))
        place = list(rung).index(key)
        front, position = order[place]
        return front > 0 and position >= -(-len(rung) // self.factor)


class Brackets(Judge):
    """Rungs of Hyperband's brackets. ``dealt`` says which bracket the trials get, over and over."""

    def __init__(self, grace: int, factor: int, most_epochs: int) -> None:
        self.brackets = [Rungs(grace, factor, most_epochs)]
        while self.brackets[-1].reached:
            first = min(self.brackets[-1].reached) * factor
            self.brackets.append(Rungs(first, factor, most_epochs))
        most = len(self.brackets) - 1
        shares = [-(-(most + 1) * factor**halvings // (halvings + 1)) for halvings in range(most, -1, -1)]
        self.dealt = [bracket for bracket, share in enumerate(shares) for _ in range(share)]

    def _of(self, key: int) -> Rungs:
        return self.brackets[self.dealt[key % len(self.dealt)]]

    def record(self, key: int, epoch: int, costs: Costs) -> None:
        self._of(key).record(key, epoch, costs)

    def stops(self, key: int, epoch: int, costs: Costs) -> bool:
        return self._of(key).stops(key, epoch, costs)


class Averages(Judge):
    """The cost of each trial after each epoch."""

    def __init__(self, grace: int, least: int) -> None:
        self.grace = grace
        self.least = least
        self.curves: dict[int, dict[int, float]] = {}

    def record(self, key: int, epoch: int, costs: Costs) -> None:
        if isfinite(costs[0]):
            self.curves.setdefault(key, {})[epoch] = costs[0]

    def stops(self, key: int, epoch: int, costs: Costs) -> bool:
        self.record(key, epoch, costs)
        others = [curve for other, curve in self.curves.items() if other != key and epoch in curve]
        if epoch < self.grace or len(others) < self.least or key not in self.curves:
            return False
        averages = [mean(cost for at, cost in curve.items() if at <= epoch) for curve in others]
        return min(self.curves[key].values()) > median(averages)
