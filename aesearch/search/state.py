"""Hold the state folder of a study, or move it aside.

lock          held by the driver that runs the study
driver.json   that driver: its process, its host, its session
ledger.db     what was tried and how it ended, an Optuna study on SQLite
study.json    what the state means without the study file
trials/       a record per trial
"""

import json
import os
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

import aesearch
from aesearch.errors import UserError, nearest

if TYPE_CHECKING:
    # Not imported when this runs: the process that writes records for workers needs no PyTorch.
    from aesearch.study import Study


def take_lock(folder: Path) -> FileLock:
    """Become the only process that changes a study's state, in a session of its own.

    Raises UserError, naming the other process, where there is one.
    """
    lock = FileLock(folder / "lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        driver = _driver(folder)
        raise UserError(
            f"only one driver may run a study, but {folder.name} is being run by process {driver.get('pid', '?')} on "
            f"{driver.get('host', '?')}; wait for it or end it"
        ) from None
    driver = {"pid": os.getpid(), "host": socket.gethostname(), "session": uuid.uuid4().hex}
    (folder / "driver.json").write_text(json.dumps(driver))
    return lock


def session_of(folder: Path) -> str:
    """Read which session holds a study's state, or held it last.

    It is empty where that is not known.
    """
    return str(_driver(folder).get("session", ""))


def _driver(folder: Path) -> dict[str, Any]:
    try:
        driver = json.loads((folder / "driver.json").read_text())
    except (OSError, ValueError):
        return {}
    return driver if isinstance(driver, dict) else {}


@contextmanager
def hold_state(home: Path, name: str) -> Iterator[Path]:
    """Hold the state folder of the study of that ``name``, as its driver does.

    Raises UserError where there is none, or a driver has it.
    """
    folder = home.absolute() / name
    if not (folder / "study.json").exists():
        known = [path.parent.name for path in home.absolute().glob("*/study.json")]
        raise UserError(f"there is no study {name!r} in {home}: {nearest(name, known)}")
    lock = take_lock(folder)
    try:
        yield folder
    finally:
        lock.release()


def move_aside(study: "Study", home: Path) -> Path | None:
    """Move a study's state out of the way, to ``NAME.old-1`` and so on.

    Nothing is deleted. Returns the new folder; None if there was no state.
    """
    folder = home.absolute() / study.name
    if not any((folder / name).exists() for name in ("ledger.db", "trials")):
        return None
    lock = take_lock(folder)
    number = 1
    while (aside := folder.with_name(f"{study.name}.old-{number}")).exists():
        number += 1
    folder.rename(aside)
    lock.release()
    return aside


def code_version() -> str:
    """Name aesearch's version and, in a checkout, its commit.

    ``-dirty`` says that files differ from the commit.
    """
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    git = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return f"{aesearch.__version__}+{git.stdout.strip()}" if git.returncode == 0 else aesearch.__version__
