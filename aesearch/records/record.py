"""Record of a trial: a folder of files that the study's driver writes.

Some say what the driver itself does. The others come from the trial's worker, which hands them over through Ray, so a
worker needs no access to this folder.

    trial.json        driver  key, parameters and their distributions, configuration
    state.json        driver  COMPLETE, PRUNED or FAIL, and the reason
    scores.json       driver  metrics that were measured after the trial, of its kept model
    worker.json       worker  the process that has the trial, and how many have had it
    history.jsonl     worker  a line per epoch
    checkpoints/      worker  of a trial that has not ended, what it can go on from
    incoming/         worker  files that are being handed over
    artifacts/        worker  the trained model and its pictures
    result.json       worker  final metrics, written last: a finished trial has it
    remarks.txt       worker  what went wrong without ending the trial
    failure.json      worker  the reason and traceback of a failure
    more/             worker  further replicas of a complete trial that are being trained, a folder like this one

Tracking reads these files only, so whatever is in them can be sent to MLflow later, and again.
"""

import json
import math
import os
import shutil
import socket
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aesearch.errors import UserError
from aesearch.escapes import printable

if TYPE_CHECKING:
    # Not imported when this runs: the process that writes records for workers needs no PyTorch.
    from aesearch.train import Epoch, Result

JSON_FILES = ("trial.json", "worker.json", "result.json", "scores.json", "failure.json", "state.json")
MOST_REASON = 1000  # characters; the traceback has all of it


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Merge two parts of a trial's metrics, references and protocols.

    Where both have an entry, the second wins.

    A protocol keeps the names of all metrics that were measured under it.
    """
    both = {name: {**first.get(name, {}), **second.get(name, {})} for name in ("metrics", "references", "protocols")}
    for name, known in both["protocols"].items():
        parts = (part.get("protocols", {}).get(name, {}).get("measured", []) for part in (first, second))
        both["protocols"][name] = known | {"measured": list(dict.fromkeys(metric for part in parts for metric in part))}
    return both


def medians(metrics: Mapping[str, Sequence[float]], names: Sequence[str]) -> list[float]:
    """Take the median of each named metric over its replicas.

    It is NaN for a metric that is not measured.
    """
    return [float(np.median(metrics.get(name, (math.nan,)))) for name in names]


def epoch_line(epoch: "Epoch", elapsed: float) -> dict[str, Any]:
    """Make the line of history.jsonl of an epoch.

    elapsed: seconds from the begin of the trial to the end of the epoch.
    """
    return {
        "epoch": epoch.number,
        "time_ms": int(time.time() * 1000),
        "elapsed": elapsed,
        "train_seconds": epoch.train_seconds,
        "metric_seconds": epoch.metric_seconds,
        "metrics": epoch.metrics,
    }


def failure_of(error: BaseException) -> tuple[str, str]:
    """Put an error into words: its reason in one line, and the traceback."""
    # The name of a file may have bytes that are no text, which neither MLflow nor a table takes.
    reason = printable(f"{type(error).__name__}: {' '.join(str(error).split())}")
    return reason, "".join(traceback.format_exception(error))


def summary(result: "Result", seconds: float) -> dict[str, Any]:
    """Make the content of result.json.

    Its values are plain, so that another process reads them without importing PyTorch.
    """
    return {
        "metrics": result.metrics,
        "selected_epochs": result.epochs,
        "references": {name: list(reference) for name, reference in result.references.items()},
        "protocols": result.protocols,
        "pictured_replica": int(np.argmin(result.metrics["val/loss"])),
        "seconds": seconds,
    }


def join_replicas(
    first: Mapping[str, Sequence[float]], more: Mapping[str, Sequence[float]], start: int
) -> dict[str, tuple[float, ...]]:
    """Join metrics of the replicas before ``start`` with those of later ones.

    A metric that one of both lacks is left out: a later release, by which a study goes on, may measure others.
    """
    return {name: (*first[name][:start], *values) for name, values in more.items() if name in first}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically: a reader sees the old content or the new."""
    _replace(path, json.dumps(content, indent=1))


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


@dataclass(frozen=True)
class Record:
    """The files of one trial below ``folder``."""

    folder: Path

    @property
    def artifacts(self) -> Path:
        """Folder of the model and its pictures."""
        return self.folder / "artifacts"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints"

    def begin(self, trial: dict[str, Any], again: bool = False) -> None:
        """Empty the folder and write trial.json.

        again: whether the epochs and checkpoints of an interrupted attempt are kept.
        """
        kept = {self.folder / "history.jsonl", self.checkpoints} if again else set()
        ended = self.folder / "state.json"
        there = sorted(self.folder.iterdir(), key=lambda path: path == ended) if self.folder.exists() else []
        # The state last: as long as it is there, the record is known to be another attempt's.
        for path in there:
            if path in kept:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        self.artifacts.mkdir(parents=True)
        self._write("trial.json", trial)

    def attempt(self, pid: int | None = None, host: str = "") -> int:
        """Note that a process takes up the trial, this one by default.

        Returns the number of attempts so far.
        """
        count = int(self.read("worker.json").get("attempts", 0)) + 1
        taken = {"attempts": count, "pid": pid or os.getpid(), "host": host or socket.gethostname()}
        self._write("worker.json", taken)
        path = self.folder / "history.jsonl"
        if path.exists():
            # A writer that was killed may have left half a line.
            self._write_history(self.history())
        return count

    def append(self, epoch: "Epoch", elapsed: float) -> None:
        """Add an epoch, ``elapsed`` seconds after the trial began."""
        self.add_line(epoch_line(epoch, elapsed))

    def add_line(self, line: Mapping[str, Any]) -> None:
        """Add a line to the history."""
        with (self.folder / "history.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def join_history(self, part: "Record", start: int) -> None:
        """Add the history of ``part`` to that of the replicas before ``start``."""
        lines = self.history()
        for line, other in zip(lines, part.history(), strict=True):
            line["metrics"] = join_replicas(line["metrics"], other["metrics"], start)
        self._write_history(lines)

    def _write_history(self, lines: list[dict[str, Any]]) -> None:
        _replace(self.folder / "history.jsonl", "".join(json.dumps(line) + "\n" for line in lines))

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result.

        Its time is later than that of any earlier one, even where the clock was set back.
        """
        known = (int(self.read(name).get("time_ms", 0)) for name in ("state.json", "result.json"))
        self._write("result.json", result | {"time_ms": max(int(time.time() * 1000), *(1 + ms for ms in known))})

    def fail(self, error: BaseException) -> str:
        """Write the ``error`` and its traceback as the reason of a failure.

        Returns the reason.
        """
        reason, details = failure_of(error)
        self.fail_for(reason, details)
        return reason

    def fail_for(self, reason: str, details: str = "") -> None:
        """Write why the trial failed."""
        self._write("failure.json", {"reason": reason[:MOST_REASON], "traceback": details})

    def rescore(self, scores: dict[str, Any]) -> None:
        """Keep metrics that were measured after the trial."""
        self._write("scores.json", scores)

    def place(self, source: str, name: str, folder: Path) -> None:
        """Move a file of the record's folder ``source`` into ``folder``.

        It is synced to disk first. Nothing is done if it was moved before.
        """
        path = self.folder / source / name
        if path.exists():
            with path.open("rb") as file:
                os.fsync(file.fileno())
            path.replace(folder / name)

    def remark(self, text: str) -> None:
        """Add a remark: what a person should know of the trial although it did not fail.

        One that is there is not added again.
        """
        line = printable(text)
        if line not in self.remarks():
            with (self.folder / "remarks.txt").open("a") as file:
                file.write(line + "\n")

    def close(self, state: str, reason: str, number: int | None = None) -> None:
        """Write how the trial ended, and remove its checkpoints.

        number: of the attempt, as the ledger counts them; None for a part of a trial.
        """
        self._write(
            "state.json", {"state": state, "reason": reason, "number": number, "time_ms": int(time.time() * 1000)}
        )
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def read(self, name: str) -> dict[str, Any]:
        """Read one of the JSON files; empty where there is none.

        Raises UserError where it is damaged.
        """
        path = self.folder / name
        return _parsed(path.read_text(errors="replace"), path) if path.exists() else {}

    def check(self) -> None:
        """Raise UserError where a file of the record is damaged."""
        for name in JSON_FILES:
            self.read(name)
        if not self.history() and self.read("result.json"):
            raise _damaged(self.folder / "history.jsonl", "is empty")

    def measured(self) -> dict[str, Any]:
        """Read all final metrics, with their references and protocols.

        Those that were measured after the trial are included.
        """
        return merged(self.read("result.json"), self.read("scores.json"))

    def remarks(self) -> list[str]:
        """Read the remarks, one a line."""
        path = self.folder / "remarks.txt"
        return path.read_text().splitlines() if path.exists() else []

    def history(self) -> list[dict[str, Any]]:
        """Read the epochs so far. A last line that is still being written is left out."""
        path = self.folder / "history.jsonl"
        if not path.exists():
            return []
        lines = path.read_text(errors="replace").splitlines(keepends=True)
        return [_parsed(line, path, f"in line {i} ") for i, line in enumerate(lines, start=1) if line.endswith("\n")]

    def _write(self, name: str, content: dict[str, Any]) -> None:
        write_json(self.folder / name, content)


def _parsed(text: str, path: Path, place: str = "") -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise _damaged(path, f"{place}is no JSON object")
    return content


def _damaged(path: Path, what: str) -> UserError:
    return UserError(
        f"{path} {what}; restore it (MLflow has a copy at the run of "
        "each trial that has ended), or start over with --fresh, which moves the study's state aside"
    )
