"""Goals of a study: metrics with directions, bounds, and the number of seeds."""

import math
from dataclasses import dataclass
from typing import Literal

from aesearch.errors import UserError


@dataclass(frozen=True)
class Metric:
    """A metric that a study searches over.

    name: such as ``val/mse``.
    direction: the direction that is better.
    """

    name: str
    direction: Literal["minimize", "maximize"]

    @property
    def sign(self) -> int:
        """1 where less is better, else -1, so that ``sign * value`` is always a cost."""
        return 1 if self.direction == "minimize" else -1


def Minimize(name: str) -> Metric:
    """Search for a low value of a metric, such as ``val/mse``."""
    return Metric(name, "minimize")


def Maximize(name: str) -> Metric:
    """Search for a high value of a metric, such as ``val/mig``."""
    return Metric(name, "maximize")


@dataclass(frozen=True)
class Constraint:
    """A bound on a metric, such as ``val/mse``, at the end of a trial."""

    name: str
    bound: float
    kind: Literal["at most", "at least"]

    def violation(self, value: float) -> float:
        """Measure by how much ``value`` breaks the bound; 0 or less where it keeps it.

        NaN breaks every bound, infinitely.
        """
        if math.isnan(value):
            return math.inf
        return value - self.bound if self.kind == "at most" else self.bound - value


def AtMost(name: str, bound: float) -> Constraint:
    """Bound a metric from above: a trial keeps the bound if it ends at most there."""
    return Constraint(name, bound, "at most")


def AtLeast(name: str, bound: float) -> Constraint:
    """Bound a metric from below: a trial keeps the bound if it ends at least there."""
    return Constraint(name, bound, "at least")


@dataclass(frozen=True)
class Adaptive:
    """A rule that gives more replicas to the trials that may be on the front.

    first: replicas of every trial. The sampler learns from these only.
    most: replicas that a trial may get in all.
    unlikely: the chance of being on the front of the true means, those of endless seeds, below which a trial gets no
    more replicas. A larger value rules out more trials early, and with them more trials of the true front.

    The rule works in rounds, once all trials have ended. In each round, every trial that is on the front, or is not
    ``unlikely`` to be, gets half as many replicas again, at least one. It ends when no trial gets more. So each trial
    of the final front has ``most`` replicas.
    """

    first: int = 1
    most: int = 8
    unlikely: float = 0.1

    def __post_init__(self) -> None:
        if not (isinstance(self.first, int) and isinstance(self.most, int) and 1 <= self.first < self.most):
            raise UserError(f"Adaptive needs whole numbers 1 <= first < most, but got {self}")
        if not 0 < self.unlikely < 1:
            raise UserError(f"Adaptive needs a chance 0 < unlikely < 1, but got {self}")
