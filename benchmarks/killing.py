"""Places at which a process can be killed, and processes that are killed there."""

import json
import os
import signal
import sys
import tempfile
import traceback
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
HALF = '{"epoch": 1, "met'


class Command(ABC):
    """Command that is killed, and given again."""

    def prepare(self, home: Path) -> None:  # noqa: B027
        """Make what the command finds in its folder."""

    @abstractmethod
    def run(self, home: Path) -> None:
        """Run it to its end. Raises RuntimeError where it fails."""

    @abstractmethod
    def read(self, home: Path) -> dict[str, Any]:
        """Read all that it came to, without what differs each time."""


class Places:
    """Counter of the places that a process passes, which ends it at one of them.

    folder: whose files count. at: the place to end at, counted from 1; None to pass them all.
    torn: whether a file that is opened there is left half written.
    """

    def __init__(self, folder: Path, at: int | None, torn: bool) -> None:
        self.folder = folder
        self.at = at
        self.torn = torn
        self.passed: list[str] = []
        self.inside = False

    def watch(self) -> None:
        """Begin to count. It cannot be ended, so it is for a process of its own."""
        sys.addaudithook(self._heard)
        event.listen(Engine, "commit", self._commits)

    def at_place(self, name: str) -> None:
        """Note a place, and end the process if it is the one."""
        self.passed.append(name)
        if len(self.passed) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _commits(self, connection: Connection) -> None:
        # Most commits of MLflow end what only read.
        if connection.connection.dbapi_connection.in_transaction:  # type: ignore[union-attr]
            self.at_place("commit")

    def _heard(self, name: str, arguments: tuple[Any, ...]) -> None:
        if self.inside or name not in CHANGES | {"open"} or isinstance(arguments[0], int):
            return
        # Files are removed with their folder by names relative to it.
        folder = next((part for part in arguments[1:] if name in ("os.remove", "os.rmdir") and part >= 0), None)
        path = Path(arguments[0]) if folder is None else Path(f"/proc/self/fd/{folder}").readlink() / arguments[0]
        if self.folder not in path.absolute().parents or path.name.endswith("lock"):
            return
        if name == "open":
            self._opened(path, *arguments[1:])
        else:
            self.at_place(f"{name} {path.name}")

    def _opened(self, path: Path, mode: str | None, flags: int) -> None:
        if not flags & (os.O_WRONLY | os.O_RDWR):
            return
        place = len(self.passed) + 1
        if self.torn and mode and place == self.at:
            self.inside = True
            with path.open("a" if "a" in mode else "w") as file:
                # Small files are written as they are closed, so that they are empty before.
                file.write(HALF if "a" in mode or place % 2 else "")
        self.at_place(f"{'open' if mode else 'create'} {path.name}")


here: Places | None = None


def at_call(name: str) -> None:
    """Note a place in the code that calls it."""
    if here:
        here.at_place(name)


class Done(NamedTuple):
    """End of a command that was not killed.

    passed: the places that it passed. found: what it came to.
    """

    passed: list[str]
    found: dict[str, Any]


def forked(command: Command, home: Path, at: int | None = None, torn: bool = False) -> Done | None:
    """Run a command in a fork of this process, killed at a place.

    Returns None if it was killed. Raises RuntimeError where it failed by itself.
    """
    log = home.with_name("output.txt")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
            os.dup2(1, 2)
            tempfile.tempdir = str(home.with_name("tmp"))
            Path(tempfile.tempdir).mkdir(exist_ok=True)
            global here
            here = Places(home, at, torn)
            here.watch()
            command.run(home)
            passed, here.at = list(here.passed), None
            with os.fdopen(writer, "w") as said:
                json.dump(Done(passed, command.read(home)), said)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as said:
        text = said.read()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return None
    if status:
        raise RuntimeError(f"it failed by itself: {log.read_text().strip()[-400:]}")
    return Done(*json.loads(text))


def memory() -> str | None:
    """Name a folder in memory where there is one: a place is soon reached there."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
