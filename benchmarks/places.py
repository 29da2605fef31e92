"""Kill a command at each place where it writes, and compare its outcome.

python benchmarks/places.py [--of grid sync ...] [--from 1] [--every 1] [--again 0] [--processes 2]

A place is a commit of the ledger or of MLflow's store that wrote something, an operation on a file of the study, or a
call of the study's space. The process ends there by SIGKILL: before the operation, or in the middle of a file that is
not replaced as a whole. Then the same command is run to its end; with --again, it is killed a second time first, at
each place up to its first new trial. Trials are not trained and figures not drawn. All else is the code of the
commands, in one process.
"""

import argparse
import json
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import ledger_commands
import optuna
import tracking_commands
from killing import Command, forked, memory
from table import print_table

COMMANDS: Mapping[str, Command] = {**ledger_commands.commands(), **tracking_commands.commands()}
# Where MLflow's store has the paths of its files.
PATHS = (("experiments", "artifact_location"), ("runs", "artifact_uri"), ("model_versions", "source"))


class Job(NamedTuple):
    """Kill of a command at a place.

    again: the place at which the same command is killed after it, if any.
    """

    command: str
    at: int
    torn: bool = False
    again: int | None = None


@dataclass(frozen=True)
class Undisturbed:
    """Command that nothing harmed.

    folder: with what it found in ``home``. found: what it came to. passed: the places that it passes.
    """

    name: str
    folder: Path
    found: Mapping[str, Any]
    passed: list[str]

    def jobs(self, first: int, every: int, again: int) -> list[Job]:
        """List kills of the command.

        first, every: of its places, each n-th from the first on is tried. again: how many places of the next start are
        killed at, too.
        """
        places = range(first, len(self.passed) + 1, every)
        torn = [Job(self.name, at, torn=True) for at in places if self.passed[at - 1].startswith("open")]
        twice = [Job(self.name, at, again=second) for at in places for second in range(1, again + 1)]
        return [Job(self.name, at) for at in places] + torn + twice


def copied(home: Path, folder: Path) -> Path:
    """Copy a home into ``folder``.

    Of its files, only MLflow's store has absolute paths.
    """
    copy = Path(shutil.copytree(home, folder / "home"))
    if (copy / "mlflow.db").exists():
        with closing(sqlite3.connect(copy / "mlflow.db")) as store, store:
            for table, column in PATHS:
                store.execute(f"update {table} set {column} = replace({column}, ?, ?)", (str(home), str(copy)))
    return copy


def undisturbed(name: str, folder: Path) -> Undisturbed:
    """Run a command without any kill."""
    command, before = COMMANDS[name], folder / "home"
    before.mkdir(parents=True)
    # Both in this process, so that no fork needs to import or train anything.
    command.prepare(before)
    command.run(copied(before, folder / "warm"))
    done = forked(command, copied(before, folder / "whole"))
    assert done
    return Undisturbed(name, folder, done.found, done.passed)


def disturbed(job: Job, whole: Undisturbed) -> str:
    """Kill as the job says.

    Returns what differs from the undisturbed command; empty if nothing does.
    """
    command = COMMANDS[job.command]
    with tempfile.TemporaryDirectory(dir=memory()) as name:
        home = copied(whole.folder / "home", Path(name))
        try:
            if forked(command, home, job.at, job.torn):
                return "it was not killed"
            done = forked(command, home, job.again)
            while done is None:
                done = forked(command, home)
            return difference(whole.found, done.found)
        except RuntimeError as error:
            return str(error)


def difference(expected: Any, found: Any, place: str = "") -> str:
    """Say where two values differ first; empty where they are equal."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        keys = [*expected, *(key for key in found if key not in expected)]
        each = (difference(expected.get(key), found.get(key), f"{place} {key}".strip()) for key in keys)
        return next(filter(None, each), "")
    now, then = json.dumps(found)[:150], json.dumps(expected)[:150]
    return "" if expected == found else f"{place} differs: {now} and not {then}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", nargs="+", choices=COMMANDS, default=list(COMMANDS), help="the commands to kill")
    parser.add_argument("--from", type=int, default=1, dest="first", metavar="N", help="the first place to try")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="try each n-th place")
    parser.add_argument("--again", type=int, default=0, metavar="N", help="places of the next start to kill at, too")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows: list[list[object]] = []
    for name in asked.of:
        with tempfile.TemporaryDirectory(dir=memory()) as text:
            whole = undisturbed(name, Path(text))
            todo = whole.jobs(asked.first, asked.every, asked.again)
            with ProcessPoolExecutor(asked.processes, get_context("fork")) as pool:
                found = list(pool.map(partial(disturbed, whole=whole), todo, chunksize=4))
        wrong = [(job, text) for job, text in zip(todo, found, strict=True) if text]
        for job, text in wrong:
            print(whole.passed[job.at - 1], job, text[-400:], flush=True)
        rows.append([name, len(whole.passed), len(todo), len(wrong)])
    print_table(["command", "places", "kills", "another outcome"], rows)
    sys.exit(any(row[-1] for row in rows))


if __name__ == "__main__":
    main()
