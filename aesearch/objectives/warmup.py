"""Warm-ups: schedules of the regulariser's weight, from 0 to 1."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from aesearch.objectives.objective import must


class Warmup(ABC):
    """Schedule of the regulariser's weight over a training, as a frozen value."""

    @abstractmethod
    def weight(self, progress: Tensor) -> Tensor:
        """Compute the weight, from 0 to 1, in the shape of ``progress``.

        progress: the part of the training that is done, from 0 to 1.
        """


@dataclass(frozen=True)
class Linear(Warmup):
    """Linear rise from 0 to 1, then constant.

    over: the first part of the training, in which the weight rises, above 0 and at most 1.
    Raises UserError for values out of range.
    Source: Bowman et al., CoNLL 2016.
    """

    over: float = 0.25

    def __post_init__(self) -> None:
        must(0 < self.over <= 1, "0 < over <= 1", self)

    def weight(self, progress: Tensor) -> Tensor:
        return (progress / self.over).clamp(max=1)


@dataclass(frozen=True)
class Cyclical(Warmup):
    """Repeated linear rise from 0 to 1.

    cycles: the number of rises, at least 1.
    rise: the first part of each cycle, in which the weight rises, above 0 and at most 1.
    Raises UserError for values out of range.
    Source: Fu et al., NAACL 2019, equation 6.
    """

    cycles: int = 4
    rise: float = 0.5

    def __post_init__(self) -> None:
        must(self.cycles >= 1 and 0 < self.rise <= 1, "cycles >= 1 and 0 < rise <= 1", self)

    def weight(self, progress: Tensor) -> Tensor:
        return ((progress * self.cycles).frac() / self.rise).clamp(max=1)
