"""Early stopping: rules that end trials before their last epoch."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from statistics import mean, median

from aesearch.errors import UserError
from aesearch.pareto import Costs, ranked


class Judge(ABC):
    """State of a rule: the costs of all trials so far. A lower cost is better.

    A judge is deterministic: its decisions depend only on the recorded costs. So a driver that replays the records
    after an interruption stops the same trials.
    """

    @abstractmethod
    def record(self, key: int, epoch: int, costs: Costs) -> None:
        """Record the costs of a trial after an epoch, unless one is not finite.

        Recording is idempotent.
        key: the trial. epoch: epochs done. costs: one number per searched metric.
        """

    @abstractmethod
    def stops(self, key: int, epoch: int, costs: Costs) -> bool:
        """Record the costs of a trial after an epoch, and tell whether it should stop.

        key: the trial. epoch: epochs done. costs: one number per searched metric.
        """


class Rule(ABC):
    """A rule of early stopping, a frozen value. A trial that it stops is PRUNED."""

    most_metrics = 1

    @abstractmethod
    def judge(self, most_epochs: int) -> Judge:
        """Make a judge without records, for trials of at most ``most_epochs`` epochs."""


@dataclass(frozen=True)
class ASHA(Rule):
    """Asynchronous successive halving for one metric.

    At each rung (grace, grace * factor, ... epochs) a trial continues if it is among the best 1/factor so far.

    grace: epochs until the first rung.
    factor: the ratio of successive rungs, and the share that continues is 1/factor.

    Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020.
    """

    grace: int = 1
    factor: int = 3

    def __post_init__(self) -> None:
        _check(self.grace, self.factor, self)

    def judge(self, most_epochs: int) -> "Rungs":
        return Rungs(self.grace, self.factor, most_epochs)


@dataclass(frozen=True)
class Pareto(Rule):
    """Asynchronous successive halving for two metrics, by Pareto rank.

    At each rung (grace, grace * factor, ... epochs) a trial continues if it is among the best 1/factor of the trials
    that have reached it. Trials are ordered by their non-dominated front, and within a front by the hypervolume that is
    lost without them. A trial that no other dominates always continues. With one metric the order is that of the
    metric.

    A metric that falls and rises again during training, such as a loss under KL warm-up, misleads it.

    grace: epochs until the first rung.
    factor: the ratio of successive rungs, and the share that continues is 1/factor.
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
    """ASHA in several brackets, for metrics whose early epochs may mislead.

    The first rung is later in each bracket than in the one before; the last bracket stops nothing. Trials are dealt to
    the brackets so that each bracket trains about the same number of epochs.

    grace: epochs until the first rung of the first bracket.
    factor: the ratio of successive rungs, and the share that continues is 1/factor.

    Source: Li et al., "Hyperband", JMLR 2018, algorithm 1.
    """

    grace: int = 1
    factor: int = 3

    def __post_init__(self) -> None:
        _check(self.grace, self.factor, self)

    def judge(self, most_epochs: int) -> "Brackets":
        return Brackets(self.grace, self.factor, most_epochs)


@dataclass(frozen=True)
class Median(Rule):
    """The median stopping rule, for one metric.

    It stops a trial whose best value so far is worse than the median, over the other trials, of their running averages
    up to the same epoch.

    grace: epochs in which no trial is stopped.
    least: other trials that must have reached the epoch.

    Source: Golovin et al., "Google Vizier", KDD 2017, section 3.2.
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
    """The end of a trial whose metric improves no more.

    patience: epochs without an improvement after which the trial ends.
    gain: the improvement, in the unit of the metric, that is too small to count.

    The decision depends on this trial alone. So the trial is measured as after its last epoch, and is COMPLETE.
    """

    patience: int = 5
    gain: float = 0.0

    def __post_init__(self) -> None:
        if self.patience < 1 or not self.gain >= 0:
            raise UserError(f"Plateau needs patience >= 1 epoch and gain >= 0, but got {self}")

    def reached(self, costs: Sequence[float]) -> bool:
        """Tell whether the costs improve no more.

        costs: one number after each epoch so far; a lower one is better.
        """
        if len(costs) <= self.patience:
            return False
        # With NaN, the result of min() depends on the order.
        costs = [cost if isfinite(cost) else inf for cost in costs]
        before, after = costs[: -self.patience], costs[-self.patience :]
        return not min(after) < min(before) - self.gain


def _check(grace: int, factor: int, given: object) -> None:
    if grace < 1 or factor < 2:
        raise UserError(f"{type(given).__name__} needs grace >= 1 epoch and factor >= 2, but got {given}")


class Rungs(Judge):
    """Judge of successive halving: the costs of each trial at each rung."""

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
    """Judge of Hyperband: the rungs of each bracket.

    ``dealt`` is the cycle of brackets that successive trials get.
    """

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
    """Judge of the median rule: the cost of each trial after each epoch."""

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
