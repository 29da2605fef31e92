"""Hold the state of a study: its lock, its identity, and moving it aside."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import aesearch
from aesearch.errors import UserError, nearest
from aesearch.study import Study


def move_aside(study: Study, home: Path) -> Path | None:
    """Move a study's state out of the way, to ``NAME.old-1`` and so on; nothing is deleted. None if there is none."""
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
    """aesearch's version and, in a checkout, its commit, with ``-dirty`` where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    git = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return f"{aesearch.__version__}+{git.stdout.strip()}" if git.returncode == 0 else aesearch.__version__


@contextmanager
def hold_state(home: Path, name: str) -> Iterator[Path]:
    """The state folder of the study of that ``name``, held as its driver holds it.

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


def take_lock(folder: Path) -> FileLock:
    """Be the only process that changes a study's state. Raises UserError, naming the other one, where there is one."""
    lock = FileLock(folder / "lock", blocking=False)
    holder = folder / "driver.json"
    try:
        lock.acquire()
    except Timeout:
        try:
            driver: dict[str, Any] = json.loads(holder.read_text())
        except (OSError, ValueError):
            driver = {}
        raise UserError(
            f"only one driver may run a study, but {folder.name} is being run by process {driver.get('pid', '?')} on "
            f"{driver.get('host', '?')}; wait for it or end it"
        ) from None
    holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    return lock
