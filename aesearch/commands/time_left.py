"""Estimate of the time that a study still takes, from its own trials."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# An estimate is told where twice its standard error lies within a factor of two.
MOST_ERROR = math.log(2) / 2
# Spreads before anything is known, relative to the mean: of the times of trials, and of the part beside their epochs.
# Each counts as much as two trials.
SPREAD, SPREAD_BESIDE, PRIOR = 1.0, 0.3, 2


@dataclass
class _Trial:
    """Times of a trial that runs.

    begun: when it was handed out. starts: whether that time includes the start of a worker.
    first, last: the shares of its epochs that it had done, and when, at its first news and its last.
    """

    begun: float
    starts: bool
    first: tuple[float, float]
    last: tuple[float, float]

    def note(self, now: float, share: float) -> None:
        if share != self.last[0]:
            self.last = share, now
            if self.starts and not self.first[0]:
                self.first = self.last

    @property
    def by_epochs(self) -> float:
        """Seconds of all its epochs, at the speed so far; 0 where that is unknown."""
        share = self.last[0] - self.first[0]
        return (self.last[1] - self.first[1]) / share if share else 0.0

    def taken(self, now: float) -> float:
        """Compute its seconds so far, without the start of its worker where known."""
        return self.by_epochs * self.last[0] + now - self.last[1]


class TimeLeft:
    """Estimate of the time that the trials of a study still take.

    A running trial takes as long as its epochs so far tell, and others as long as the mean. The first trial of each
    worker waits for the start of its process, so only its epochs count.
    """

    def __init__(self) -> None:
        self._running: dict[str, _Trial] = {}
        self._ended: list[tuple[float, float]] = []  # seconds of a trial, and those that its epochs told
        self._begun: float | None = None
        self._busy = 0.0
        self._any_ended = False

    def note(self, now: float, shares: Mapping[str, float]) -> None:
        """Note the share of its epochs that each running trial has done, by its name."""
        if shares and self._begun is None:
            self._begun = now
        for name in self._running.keys() - shares.keys():
            trial = self._running.pop(name)
            self._any_ended = True
            self._busy += now - trial.begun
            if trial.by_epochs:
                self._ended.append((trial.taken(now), trial.by_epochs))
            elif not trial.starts:
                self._ended.append((now - trial.begun, now - trial.begun))
        for name, share in shares.items():
            new = _Trial(now, not self._any_ended, (0.0, now), (0.0, now))
            self._running.setdefault(name, new).note(now, share)

    def left(self, now: float, waiting: int) -> float | None:
        """Estimate the seconds until all trials have ended.

        waiting: trials that are not begun.
        Returns None where what is known of this study's trials tells too little.
        """
        if not self._ended or self._begun is None:
            return None
        times, by_epochs = (list(part) for part in zip(*self._ended, strict=True))
        # Each trial also takes time that its epochs do not tell, such as that of its last metrics.
        beside = sum(times) / sum(by_epochs)
        known = [trial for trial in self._running.values() if trial.by_epochs]
        fresh = [trial for trial in self._running.values() if not trial.by_epochs]
        wholes = [trial.by_epochs * beside for trial in known]
        taken = [min(trial.taken(now), whole) for trial, whole in zip(known, wholes, strict=True)]
        done = sum(part / whole for part, whole in zip(taken, wholes, strict=True))
        mean = (sum(times) + sum(taken)) / (len(times) + done)
        rest = [whole - part for whole, part in zip(wholes, taken, strict=True)]
        rest += [max(mean - (now - trial.begun), mean / 2) for trial in fresh]
        work, others = sum(rest) + waiting * mean, len(fresh) + waiting
        spread = _spread([time / mean for time in times], SPREAD)
        of_beside = _spread([a / b / beside for a, b in self._ended], SPREAD_BESIDE)
        error = math.hypot(spread * mean * math.sqrt(others + others**2 / len(times)), of_beside * math.hypot(*wholes))
        if error >= MOST_ERROR * work:
            return None
        busy = self._busy + sum(now - trial.begun for trial in self._running.values())
        at_once = max(1.0, busy / (now - self._begun))
        # The last trials do not end together.
        uneven = mean / 2 * (1 - 1 / at_once) if waiting else 0.0
        return float(max([work / at_once + uneven, *rest]))


def _spread(ratios: Sequence[float], prior: float) -> float:
    """Estimate the relative standard deviation of ratios whose mean is about 1."""
    squares = sum((ratio - 1) ** 2 for ratio in ratios)
    return math.sqrt((PRIOR * prior**2 + squares) / (PRIOR + len(ratios) - 1))
