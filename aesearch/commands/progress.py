"""Progress of a study: a live line in a terminal, plain lines elsewhere."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TextIO

from aesearch.commands.time_left import TimeLeft
from aesearch.escapes import printable

TERMINAL_SECONDS, PLAIN_SECONDS = 0.2, 30.0


class Progress:
    """Progress line of a study.

    ``counts`` and ``best`` are asked at each line for what the ledger knows. total: the number of trials of the study.
    out: where to write, the standard output by default. clock: seconds, for tests.
    """

    def __init__(
        self,
        name: str,
        total: int,
        counts: Callable[[], Counter[str]],
        best: Callable[[], Mapping[str, float]],
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.total = total
        self.counts = counts
        self.best = best
        self.out = out or sys.stdout
        self.clock = clock
        self.live = self.out.isatty()
        self.started = clock()
        self.shown = float("-inf")
        self.time_left = TimeLeft()

    def update(self, shares: Mapping[str, float]) -> None:
        """Show the state, if the last line is old enough.

        shares: of its epochs that each running trial has done, by a name of its own.
        """
        now = self.clock()
        self.time_left.note(now, shares)
        if now - self.shown < (TERMINAL_SECONDS if self.live else PLAIN_SECONDS):
            return
        self.shown = now
        self._write(self.line(len(shares)))

    def line(self, running: int) -> str:
        """Write the state as one line: trials, best values, time elapsed and left.

        running: trials that train now.
        """
        counts = self.counts()
        finished = self._finished(counts)
        # Once all trials have ended, what runs are further replicas of some.
        what = "running" if finished < self.total or not running else "getting more replicas"
        parts = [f"{finished}/{self.total} trials", f"{running} {what}"]
        parts += [
            f"{counts[state]} {word}" for state, word in (("PRUNED", "pruned"), ("FAIL", "failed")) if counts[state]
        ]
        best = "  ".join(f"best {metric} {value:.4g}" for metric, value in self.best().items())
        now = self.clock()
        elapsed, waiting = now - self.started, self.total - finished - running
        # What runs once all trials have ended is not among them.
        left = self.time_left.left(now, max(waiting, 0)) if running and finished < self.total else None
        times = f"{_duration(elapsed)} elapsed" + (f", about {_duration(left)} left" if left is not None else "")
        return "  ".join(filter(None, [f"{self.name}:", ", ".join(parts), best, times]))

    def close(self) -> None:
        """Show the last state and end the live line."""
        self._write(self.line(0))
        if self.live:
            self.out.write("\n")
            self.out.flush()

    def _write(self, line: str) -> None:
        line = printable(line)
        self.out.write(f"\r\x1b[2K{line}" if self.live else f"{line}\n")
        self.out.flush()

    @staticmethod
    def _finished(counts: Counter[str]) -> int:
        return counts["COMPLETE"] + counts["PRUNED"] + counts["FAIL"]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
