"""Thread that sends a study's records while it runs.

What is lost on the way is tried again; nobody waits for it.
"""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aesearch.tracking.sender import Sender
from aesearch.tracking.store import LOST, first_line, is_local, is_refusal, unreachable

PAUSES = (1.0, 30.0)  # between tries, the first and the longest: each is twice the one before
GATHERED_SECONDS = 2.0  # news of so long are sent together: an epoch of its own costs as much as many
OPENING_SECONDS = 3.0  # how long a server may take to say at the start that it refuses
LAST_SECONDS = {"FINISHED": 15.0, "FAILED": 5.0, "KILLED": 3.0}  # how long a server is waited for at the end


@dataclass
class Tracker:
    """Sends the records of a study's trials to MLflow, off the training path.

    info: what the parent run says of the study, from ``Ledger.describe``. records: the folder of the trials' records,
    which hold all that MLflow is to have: a server that is down, slow or wrong costs the study nothing.
    problem: what went wrong in the last try, while something is not sent. missing: of how many trials, after ``close``.
    """

    uri: str
    info: dict[str, Any]
    records: Path
    problem: str = ""
    missing: int = 0

    def __post_init__(self) -> None:
        self.sender = Sender(self.uri, self.info, self.records)
        self._backlog: set[int] = set()
        self._under_way: set[int] = set()
        self._news = threading.Condition()
        self._tried = threading.Event()
        self._refused: Exception | None = None
        self._connected = self._finished = False
        self._status = ""
        self._until = 0.0
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)

    def open(self) -> None:
        """Begin to send. A server that cannot be reached is tried again later.

        Raises UserError for what time does not mend: an address that cannot be right, a store that cannot be read, a
        deleted experiment.
        """
        self._thread.start()
        self._tried.wait(None if is_local(self.uri) else OPENING_SECONDS)
        if self._refused:
            raise unreachable(self.uri, self._refused) from None

    def notify(self, key: int) -> None:
        """Note that the record of trial ``key`` has news, and return at once."""
        with self._news:
            self._backlog.add(key)
            self._news.notify()

    def close(self, status: str) -> None:
        """Send what is left, and end the parent run with ``status``.

        A server gets one last bounded try.
        """
        with self._news:
            self._status, self._until = status, time.monotonic() + LAST_SECONDS[status]
            self._news.notify()
        self._thread.join(None if is_local(self.uri) else LAST_SECONDS[status])
        with self._news:
            self.missing = len(self._backlog | self._under_way)
            if not self._finished:
                self.problem = self.problem or "it is too slow"

    def add_report(self, folder: Path) -> str:
        """Keep the report's files at the parent run; say why that failed, or nothing."""
        try:
            self.sender.add_report(folder)
        except LOST as error:
            return first_line(error, self.uri)
        return ""

    def _run(self) -> None:
        pause = PAUSES[0]
        while not self._refused:
            sent = self._try()
            self._tried.set()
            with self._news:
                if self._finished or (self._status and not sent and time.monotonic() + pause > self._until):
                    return
                if sent:
                    pause = PAUSES[0]
                    self._news.wait_for(lambda: self._backlog or self._status)
                    self._news.wait_for(lambda: self._status, GATHERED_SECONDS)
                else:
                    # News do not shorten a pause; the end does.
                    closing = bool(self._status)
                    self._news.wait_for(lambda: self._status and not closing, pause)  # noqa: B023
                    pause = min(2 * pause, PAUSES[1]) if bool(self._status) == closing else PAUSES[0]

    def _try(self) -> bool:
        """Send all that is not sent, until something is lost; whether nothing was."""
        try:
            if not self._connected:
                self._connect()
            refused = self._send_backlog()
            if self._status:
                self.sender.finish(self._status)
                self._finished = True
            if refused:
                raise refused
            self.problem = ""
            return True
        except Exception as error:
            # Whatever it is: this thread must live on, and what it was about is tried again.
            self._connected = False
            self.problem = first_line(error, self.uri)
            if not self._tried.is_set() and (is_refusal(error) or is_local(self.uri)):
                self._refused = error
            return False

    def _connect(self) -> None:
        lacking = self.sender.connect()
        with self._news:
            self._backlog |= lacking
            self._connected = True
        self._tried.set()

    def _send_backlog(self) -> Exception | None:
        """Send what can be sent; why a trial was refused, if one was."""
        failed: dict[int, Exception] = {}
        try:
            while self._take():
                try:
                    self.sender.send(*self._under_way)
                except Exception as error:
                    failed |= dict.fromkeys(self._under_way, error)
                    # What is wrong with one trial holds no other up; a server that is lost does.
                    if not is_refusal(error):
                        raise
        finally:
            with self._news:
                self._backlog |= failed.keys()
                self._under_way.clear()
        return next(iter(failed.values()), None)

    def _take(self) -> bool:
        """Take the next trial out of the backlog; whether there was one."""
        with self._news:
            self._under_way = set(sorted(self._backlog)[:1])
            self._backlog -= self._under_way
        return bool(self._under_way)
