"""Limit the time and the disk that a call of ``run`` may use.

When either is used up, the study stops as after Ctrl-C.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import getpid, kill
from pathlib import Path
from signal import SIGINT
from threading import Timer

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
BYTES = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def duration(text: str) -> float:
    """Seconds of a text such as ``2h``, ``90m`` or ``1h30m``. Raises ValueError."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"must be a time such as 2h, 90m or 1h30m, but got {text!r}")
    seconds = sum(float(number) * SECONDS[unit] for number, unit in parts)
    if not seconds > 0:
        raise ValueError(f"must be a time above 0, but got {text!r}")
    return seconds


def size(text: str) -> int:
    """Bytes of a text such as ``20GB`` or ``500MiB``. Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([MGT]i?B)", text)
    if not match or not float(match[1]) > 0:
        raise ValueError(f"must be a size such as 20GB, 500MB or 1TiB, but got {text!r}")
    return int(float(match[1]) * BYTES[match[2]])


@dataclass
class Budget:
    """Limits of a search, and which of them is used up.

    seconds: from the begin of the search. bytes: on disk. reached: "time", "disk", or empty.

    The bytes are those of the study's folder, and of its models once more for MLflow's copies.
    """

    seconds: float | None = None
    bytes: int | None = None
    reached: str = ""
    used: dict[Path, int] = field(default_factory=dict)

    @contextmanager
    def running(self) -> Iterator[None]:
        """While the search runs, interrupt it when the time is used up."""
        if self.seconds is None:
            yield
            return
        timer = Timer(self.seconds, self._stop, ["time"])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def ended(self, trial: Path, others: list[Path]) -> None:
        """Note that a ``trial`` has ended, and that files of ``others`` were removed."""
        if self.bytes is None or self.reached:
            return
        for folder in (trial, *others):
            self.used[folder] = _bytes(folder) + _bytes(folder / "artifacts")
        if sum(self.used.values()) > self.bytes:
            self._stop("disk")

    def _stop(self, what: str) -> None:
        self.reached = what
        # Tune stops on this signal, and trials keep their checkpoints.
        kill(getpid(), SIGINT)


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.exists() else 0
