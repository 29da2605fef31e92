"""Early stopping: which trials are not worth their remaining epochs."""

from collections.abc import Sequence
from dataclasses import dataclass

from aesearch.errors import UserError

Costs = tuple[float, ...]


@dataclass(frozen=True)
class ASHA:
    """Asynchronous successive halving: at each rung (grace, grace * factor, ... epochs) the best 1/factor go on.

    Of one metric. Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020.
    """

    grace: int = 1
    factor: int = 3

    def __post_init__(self) -> None:
        _check(self.grace, self.factor, self)


@dataclass(frozen=True)
class Pareto:
    """Asynchronous successive halving of two metrics, by Pareto rank; with one metric it is by order.

    At each rung (grace, grace * factor, ... epochs) a trial goes on if it is among the best 1/factor of those that have
    come so far: by the front that it is on, and on one front by how much hypervolume is lost without it. One that
    no other dominates there always goes on. Search metrics that do not fall and rise again, as a loss under KL warm-up.
    """

    grace: int = 2
    factor: int = 2

    def __post_init__(self) -> None:
        _check(self.grace, self.factor, self)


def _check(grace: int, factor: int, given: object) -> None:
    if grace < 1 or factor < 2:
        raise UserError(f"{type(given).__name__} needs grace >= 1 epoch and factor >= 2, but got {given}")


class Rungs:
    """What each trial had reached at each rung. Costs are to be minimised."""

    def __init__(self, rule: Pareto, most_epochs: int) -> None:
        self.factor = rule.factor
        self.reached: dict[int, dict[int, Costs]] = {}
        epoch = rule.grace
        while epoch < most_epochs:
            self.reached[epoch] = {}
            epoch *= rule.factor

    def record(self, key: int, epoch: int, costs: Costs) -> None:
        """Note what a trial has after an epoch, if there is a rung."""
        if epoch in self.reached and all(cost == cost for cost in costs):
            self.reached[epoch][key] = costs

    def stops(self, key: int, epoch: int, costs: Costs) -> bool:
        """Whether a trial should stop after this epoch; it is recorded."""
        self.record(key, epoch, costs)
        rung = self.reached.get(epoch, {})
        if key not in rung or len(rung) < self.factor:
            return False
        order = ranked(list(rung.values()))
        place = list(rung).index(key)
        front, position = order[place]
        return front > 0 and position >= -(-len(rung) // self.factor)


def ranked(costs: Sequence[Costs]) -> list[tuple[int, int]]:
    """For each of the costs (N, M) the front that it is on, 0 for the first, and its position in the order of all.

    On one front those come first without which the most hypervolume would be lost; the ends of a front come first.
    """
    left = list(range(len(costs)))
    found: dict[int, tuple[int, int]] = {}
    front = 0
    while left:
        best = [i for i in left if not any(_dominates(costs[j], costs[i]) for j in left)]
        lost = _contributions([costs[i] for i in best])
        for i, _ in sorted(zip(best, lost, strict=True), key=lambda pair: -pair[1]):
            found[i] = (front, len(found))
        left = [i for i in left if i not in found]
        front += 1
    return [found[i] for i in range(len(costs))]


def _dominates(a: Costs, b: Costs) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def _contributions(front: list[Costs]) -> list[float]:
    """The area that only each point of a front of two costs dominates; infinite at its ends, which nothing bounds."""
    if not front or len(front[0]) == 1:
        return [0.0] * len(front)
    order = sorted(range(len(front)), key=lambda i: front[i])
    areas = [float("inf")] * len(front)
    for before, i, after in zip(order, order[1:], order[2:], strict=False):
        areas[i] = (front[after][0] - front[i][0]) * (front[before][1] - front[i][1])
    return areas


def hypervolume(costs: Sequence[Costs], reference: Costs) -> float:
    """The area that points of two costs (N, 2) dominate, up to ``reference``. Zitzler and Thiele, PPSN 1998."""
    inside = sorted({cost for cost in costs if all(x < r for x, r in zip(cost, reference, strict=True))})
    area, height = 0.0, reference[1]
    for x, y in inside:
        if y < height:
            area += (reference[0] - x) * (height - y)
            height = y
    return area
