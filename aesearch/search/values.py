"""Define what driver and worker tell each other: frozen values that Ray pickles."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    # Not imported when this runs: the process that writes records for workers needs no PyTorch.
    from aesearch.search.keeper import Keeper
    from aesearch.study import Plateau

State = Literal["COMPLETE", "PRUNED", "FAIL"]


@dataclass(frozen=True)
class Place:
    """A trial, or some further replicas of it.

    key: of the trial. start, stop: the replicas from ``start`` on, before ``stop``; 0 and 0 for the trial as a whole.
    """

    key: int
    start: int = 0
    stop: int = 0

    @property
    def replicas(self) -> range | None:
        """The replicas that are added to the trial; None for the trial as a whole."""
        return range(self.start, self.stop) if self.stop else None

    def trial(self, trials: Path) -> Path:
        """Name the folder of the whole trial below the ``trials`` of a study."""
        return trials / f"{self.key:05d}"

    def folder(self, trials: Path) -> Path:
        """Name the folder of the trial, or of the part, below a study's ``trials``."""
        whole = self.trial(trials)
        return whole / "more" / f"{self.start:05d}-{self.stop:05d}" if self.stop else whole


@dataclass(frozen=True)
class Task:
    """Order to a worker: the trial to train, and how.

    config: the pickled TrainConfig, or the exception that the space raised. It is bytes, as it may hold classes of the
    study file, which a worker cannot import. searched: names of the searched metrics. sign: 1 where the first of them
    is minimised, else -1. data: folder of the data sets. device: "cpu" or "cuda". epoch_seconds: after which a trial
    without a new epoch hangs; inf for never. keeper: taker of what the worker hands over, or the name of the actor that
    is it.
    """

    place: Place
    config: bytes = field(repr=False)
    searched: tuple[str, ...]
    sign: int
    plateau: "Plateau | None"
    data: Path
    threads: int
    device: str
    checkpoint_seconds: float
    epoch_seconds: float
    keeper: "Keeper | str"


@dataclass(frozen=True)
class Left:
    """Remains of earlier attempts at a trial.

    attempt: number of this attempt, counted from 1. history: the epochs so far, a line of history.jsonl each.
    checkpoints: names of files that the keeper has. failure: reason of a failure, empty if there was none. result: what
    the whole trial came to, empty if it has not ended.
    """

    attempt: int
    history: tuple[dict[str, Any], ...]
    checkpoints: tuple[str, ...]
    failure: str
    result: Mapping[str, Any]


@dataclass(frozen=True)
class Progress:
    """An epoch of a trial, as the driver hears of it.

    epoch: counted from 1. share: of the trial's epochs that are done. values: the searched metrics, medians over
    replicas.
    """

    epoch: int
    share: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class Outcome:
    """The end of a trial.

    values: the searched metrics of a COMPLETE one. reason: of a FAIL.
    """

    state: State
    values: tuple[float, ...] = ()
    reason: str = ""
