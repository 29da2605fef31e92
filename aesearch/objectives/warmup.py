"""How the weight of a regulariser grows over a training, from 0 to 1."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from aesearch.objectives.objective import must


class Warmup(ABC):
    """A frozen value: the weight of the regulariser at each moment of a training."""

    @abstractmethod
    def weight(self, progress: Tensor) -> Tensor:
        """From 0 to 1, for ``progress`` (the part of the training that is done) from 0 to 1."""


@dataclass(frozen=True)
class Linear(Warmup):
    """From 0 to 1 over the first part ``over`` of the training. Bowman et al., CoNLL 2016."""

    over: float = 0.25

    def __post_init__(self) -> None:
        must(0 < self.over <= 1, "0 < over <= 1", self)

    def weight(self, progress: Tensor) -> Tensor:
        return (progress / self.over).clamp(max=1)


@dataclass(frozen=True)
class Cyclical(Warmup):
    """``cycles`` times from 0 to 1, over the first part ``rise`` of each cycle. Fu et al., NAACL 2019, equation 6."""

    cycles: int = 4
    rise: float = 0.5

    def __post_init__(self) -> None:
        must(self.cycles >= 1 and 0 < self.rise <= 1, "cycles >= 1 and 0 < rise <= 1", self)

    def weight(self, progress: Tensor) -> Tensor:
        return ((progress * self.cycles).frac() / self.rise).clamp(max=1)
