"""State what a study aims at: metrics with directions, bounds on metrics, and how many seeds a trial gets."""

import math
from dataclasses import dataclass
from typing import Literal

from aesearch.errors import UserError


@dataclass(frozen=True)
class Metric:
    """A metric that a study searches over, such as ``val/mse``, and the direction that is better."""

    name: str
    direction: Literal["minimize", "maximize"]

    @property
    def sign(self) -> int:
        """1 where less is better, else -1: ``sign * value`` is always to be minimised."""
        return 1 if self.direction == "minimize" else -1


def Minimize(name: str) -> Metric:
    """A metric of which less is better."""
    return Metric(name, "minimize")


def Maximize(name: str) -> Metric:
    """A metric of which more is better."""
    return Metric(name, "maximize")


@dataclass(frozen=True)
class Constraint:
    """A bound that a metric, such as ``val/mse``, must keep at the end of a trial."""

    name: str
    bound: float
    kind: Literal["at most", "at least"]

    def violation(self, value: float) -> float:
        """By how much ``value`` breaks the bound; 0 or less where it is kept. What is not a number breaks any."""
        if math.isnan(value):
            return math.inf
        return value - self.bound if self.kind == "at most" else self.bound - value


def AtMost(name: str, bound: float) -> Constraint:
    """A metric must not end above ``bound``."""
    return Constraint(name, bound, "at most")


def AtLeast(name: str, bound: float) -> Constraint:
    """A metric must not end below ``bound``."""
    return Constraint(name, bound, "at least")


@dataclass(frozen=True)
class Adaptive:
    """Every trial is given ``first`` replicas; those that could still be on the front, up to ``most``.

    When all trials have ended, each that is on the front, or whose chance of being there, had all of them ``most``
    replicas, is not below ``unlikely``, gets half as many again (one at the least), until there is none. So all of the
    last front have ``most``. The search learns from the first only. Where ``unlikely`` is larger, more trials are
    ruled out early, and more of the true front with them.
    """

    first: int = 1
    most: int = 8
    unlikely: float = 0.1

    def __post_init__(self) -> None:
        if not (isinstance(self.first, int) and isinstance(self.most, int) and 1 <= self.first < self.most):
            raise UserError(f"Adaptive needs whole numbers 1 <= first < most, but got {self}")
        if not 0 < self.unlikely < 1:
            raise UserError(f"Adaptive needs a chance 0 < unlikely < 1, but got {self}")
