"""Kill a study at each place where it writes, and compare its outcome.

python benchmarks/places.py [--of grid tpe ...] [--every 1] [--again 1] [--processes 2]

A place is a commit of the ledger, an operation on a file of the study, or a call of the study's space. The process ends
there by SIGKILL: before the operation, or in the middle of a file that is not replaced as a whole. Then the same
command is run to its end; with --again, it is killed a second time first, at each place up to its first new trial.
Trials are not trained: their epochs are a formula. All else is the code of driver and keeper, in one process.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from sqlalchemy import event
from sqlalchemy.engine import Engine
from table import print_table

from aesearch import Adaptive, Best, Maximize, Minimize, Sprites, Study, TrainConfig
from aesearch.networks import MLP
from aesearch.objectives import VAE
from aesearch.records import medians
from aesearch.search.keeper import Keeper
from aesearch.search.kept_models import KeptModels
from aesearch.search.ledger import Ledger
from aesearch.search.more_replicas import Parts, parts
from aesearch.search.state import move_aside, session_of
from aesearch.search.values import Outcome, Place

EPOCHS = 3
DATA = Sprites(resolution=16, scales=2, orientations=2, positions=8)
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
MODEL = ("config.json", "model.safetensors")
HALF = '{"epoch": 1, "met'


# Kills.


class Places:
    """Counter of the places that a process passes, which ends it at one of them.

    folder: whose files count. at: the place to end at, counted from 1; None to pass them all.
    torn: whether a file that is opened there is left half written.
    """

    def __init__(self, folder: Path, at: int | None, torn: bool) -> None:
        self.folder = str(folder)
        self.at = at
        self.torn = torn
        self.passed: list[str] = []
        self.inside = False

    def watch(self) -> None:
        """Begin to count. It cannot be ended, so it is for a process of its own."""
        sys.addaudithook(self._heard)
        event.listen(Engine, "commit", lambda _: self.at_place("commit"))

    def at_place(self, name: str) -> None:
        """Note a place, and end the process if it is the one."""
        self.passed.append(name)
        if len(self.passed) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _heard(self, name: str, arguments: tuple[Any, ...]) -> None:
        if self.inside or name not in CHANGES | {"open"} or not str(arguments[0]).startswith(self.folder):
            return
        path, mode = str(arguments[0]), arguments[1] if name == "open" else ""
        if name == "open" and (not isinstance(mode, str) or not set(mode) & set("wax+") or path.endswith("lock")):
            return
        if self.torn and name == "open" and len(self.passed) + 1 == self.at:
            self.inside = True
            with Path(path).open("a" if "a" in mode else "w") as file:
                file.write(HALF if "a" in mode else "")
        self.at_place(f"{name} {Path(path).name}")


def forked(action: Callable[[], object], folder: Path, at: int | None = None, torn: bool = False) -> list[str] | None:
    """Run ``action`` in a fork of this process, killed at a place.

    Returns the places that it passed, or None if it was killed. Raises RuntimeError where it failed by itself.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            global here
            here = Places(folder, at, torn)
            here.watch()
            action()
            os.write(writer, json.dumps(here.passed).encode())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as said:
        text = said.read()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return None
    if status:
        raise RuntimeError("the command failed by itself")
    passed: list[str] = json.loads(text)
    return passed


here: Places


# A study whose trials are a formula.


def space(trial: optuna.Trial) -> TrainConfig:
    """Two parameters, and a place between them."""
    rate = trial.suggest_categorical("rate", [0.001, 0.01, 0.1])
    if "here" in globals() and isinstance(trial, optuna.Trial) and trial.study.study_name in ("s", "t"):
        here.at_place("space")
    return TrainConfig(DATA, MLP((8,)), trial.suggest_int("latent_dim", 2, 5), VAE(), epochs=EPOCHS, learning_rate=rate)


def pair(trial: optuna.Trial) -> TrainConfig:
    """Sweep a small grid."""
    return TrainConfig(DATA, MLP((8,)), trial.suggest_int("latent_dim", 2, 7), VAE(), epochs=EPOCHS)


def value(config: TrainConfig, epoch: int, replica: int) -> float:
    """Make up a metric."""
    wave = (config.latent_dim * 7 + config.learning_rate * 1000 + replica * 3) % 11
    return wave / 10 + 1 / epoch


def train(keeper: Keeper, place: Place, config: TrainConfig, searched: Sequence[str], healed: bool) -> Outcome:
    """Hand over what a worker would."""
    record = keeper._record(place)
    ended = bool(record.read("result.json")) or bool(record.read("state.json"))
    left = keeper.take_up(place, os.getpid(), "host")
    known = left.result.get("metrics")
    if known and len(known["val/mse"]) == config.replicas:
        return Outcome("COMPLETE", tuple(medians(known, searched)))
    if ended:
        raise RuntimeError(f"{place} had ended, and is trained again")
    replicas = place.replicas or range(config.replicas)
    of = (place, left.attempt)
    if config.latent_dim == 5 and not healed:
        keeper.fail(*of, "a latent_dim of 5", "")
        return Outcome("FAIL", reason="a latent_dim of 5")
    metrics: dict[str, list[float]] = {}
    for epoch in range(1, EPOCHS + 1):
        metrics = {name: [value(config, epoch, r) for r in replicas] for name in ("val/mse", "val/mig")}
        if epoch > len(left.history):
            keeper.add_epoch(*of, {"epoch": epoch, "elapsed": float(epoch), "metrics": metrics})
        if config.latent_dim == 4 and epoch == 2:
            return Outcome("PRUNED")
        names = [f"epoch-{epoch:06d}.{suffix}" for suffix in ("safetensors", "json")]
        for name in names:
            keeper.receive(*of, name, 0, b"{}")
        keeper.keep_checkpoint(*of, names, names)
    for name in MODEL:
        keeper.receive(*of, name, 0, b"{}")
    if place.replicas:
        assert known is not None
        metrics = {name: [*known[name][: place.start], *values] for name, values in metrics.items()}
    finish = keeper.join if place.replicas else keeper.finish
    of_all = {"metrics": metrics, "selected_epochs": [EPOCHS] * config.replicas, "references": {}, "protocols": {}}
    finish(*of, MODEL, of_all | {"seconds": 1.0})
    return Outcome("COMPLETE", tuple(medians(metrics, searched)))


def run(study: Study, home: Path, retry: bool = False, fresh: bool = False) -> None:
    """Run a study as its driver does, one trial at a time."""
    if fresh:
        move_aside(study, home)
    ledger = Ledger.open(replace(study), home)
    if retry:
        ledger.retry_failed()
    keeper = Keeper(ledger.folder, session_of(ledger.folder))
    kept = KeptModels(ledger)
    while ledger.left:
        key, config = ledger.ask()
        assert isinstance(config, TrainConfig)
        outcome = train(keeper, Place(key), config, ledger.searched, retry)
        ledger.tell(key, outcome)
        if not study.adaptive:
            kept.discard()
    while further := parts(ledger):
        queue = Parts(ledger, deque(further))
        while queue.left:
            part, whole = queue.ask()
            queue.tell(part, train(keeper, part, whole, ledger.searched, healed=True))
    kept.discard()
    ledger.close()


def table(study: Study, home: Path) -> dict[str, Any]:
    """Read what a study came to.

    That is of each trial its parameters, how it ended, its values and its files.
    """
    ledger = Ledger.open(replace(study), home)
    found = {}
    for key, trial in sorted(ledger.trials().items()):
        record = ledger.record(key)
        files = sorted(str(path.relative_to(record.folder)) for path in record.folder.rglob("*") if path.is_file())
        found[str(key)] = [
            trial.params,
            trial.state.name,
            trial.values,
            sorted(map(str, trial.intermediate_values.items())),
            [[line["epoch"], line["metrics"]] for line in record.history()],
            record.read("result.json").get("metrics"),
            [name for name in files if name != "worker.json"],
        ]
    count = len(ledger.table.trials())
    ledger.close()
    return {"trials": found, "begun": count}


# What is killed.


@dataclass(frozen=True)
class Command:
    """Command to kill.

    study: that it runs. before: what was run undisturbed before it. options: of ``run``.
    """

    study: Study
    before: Callable[[Path], None] | None = None
    retry: bool = False
    fresh: bool = False

    def run(self, home: Path) -> None:
        """Run it."""
        run(self.study, home, self.retry, self.fresh)


def _study(sampler: str, trials: int | None = 6, **fields: Any) -> Study:
    metrics = (Minimize("val/mse"), Maximize("val/mig")) if sampler in ("nsga2", "random") else (Minimize("val/mse"),)
    return Study("s", pair if sampler == "grid" else space, metrics, n_trials=trials, sampler=sampler, **fields)


def commands() -> dict[str, Command]:
    """Name the commands."""
    grid = _study("grid", None, keep=1)
    first = ({"rate": 0.01}, {"rate": 0.001, "latent_dim": 3})
    fork = replace(_study("random", 4), name="t", enqueue=(Best("s", 2),), forked_from="s")
    return {
        "grid": Command(grid),
        "tpe": Command(_study("tpe", enqueue=first)),
        "nsga2": Command(_study("nsga2")),
        "gp": Command(_study("gp")),
        "random": Command(_study("random", enqueue=first)),
        "retry": Command(grid, partial(run, grid), retry=True),
        "more trials": Command(_study("tpe", 6), partial(run, _study("tpe", 3))),
        "fork": Command(fork, partial(run, _study("random", 4))),
        "fresh": Command(_study("grid", 3), partial(run, _study("grid", 3)), fresh=True),
        "replicas": Command(_study("grid", 3, replicas=Adaptive(1, 3), keep=1)),
    }


class Job(NamedTuple):
    """Kill of a command at a place.

    again: the place at which the same command is killed after it, if any.
    """

    command: str
    at: int
    torn: bool
    again: int | None


def prepared(command: Command, folder: Path) -> Path:
    """Make the home that a command finds."""
    home = folder / "home"
    home.mkdir(parents=True)
    if command.before:
        forked(partial(command.before, home), home)
    return home


def copied(home: Path, folder: Path) -> Path:
    """Copy a home; what is below it names no absolute path."""
    return Path(shutil.copytree(home, folder / "home"))


def outcome(command: Command, home: Path) -> dict[str, Any]:
    """Run a command to its end, and read what it comes to."""
    forked(partial(command.run, home), home)
    path = home.with_name("table.json")
    forked(lambda: path.write_text(json.dumps(table(command.study, home))), home)
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def undisturbed(name: str, folder: Path) -> tuple[dict[str, Any], list[str], int]:
    """Run a command without any kill; what it found is then in ``folder``.

    Returns its table, the places that it passes, and how many it passes when there is nothing left to do.
    """
    command = commands()[name]
    before = prepared(command, folder)
    # Here first, so that no fork needs to import anything.
    command.run(copied(before, folder / "warm"))
    home = copied(before, folder / "whole")
    passed = forked(partial(command.run, home), home)
    found = outcome(replace(command, retry=False, fresh=False), home)
    idle = forked(partial(command.run, home), home)
    assert passed is not None
    assert idle is not None
    return found, passed, len(idle)


def disturbed(job: Job, folder: Path, expected: dict[str, Any]) -> str:
    """Kill as the job says.

    folder: of the undisturbed study. Returns what differs from it; empty if nothing does.
    """
    command = commands()[job.command]
    with tempfile.TemporaryDirectory(dir=memory()) as name:
        home = copied(folder / "home", Path(name))
        try:
            if forked(partial(command.run, home), home, job.at, job.torn) is not None:
                return "it was not killed"
            if job.again:
                forked(partial(command.run, home), home, job.again)
            found = outcome(command, home)
        except RuntimeError as error:
            return str(error)
    differing = [key for key, trial in expected["trials"].items() if found["trials"].get(key) != trial]
    if differing:
        return f"trials {', '.join(differing)} differ; the first is {found['trials'].get(differing[0])}"
    return "" if found == expected else f"{found['begun']} trials begun, not {expected['begun']}"


def memory() -> str | None:
    """Name a folder in memory where there is one: a place is soon reached there."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def jobs(name: str, count: int, every: int, again: int) -> list[Job]:
    """List the kills of a command.

    every: of its places, each n-th is tried. again: how many places of the next start are killed at, too.
    """
    places = range(1, count + 1, every)
    once = [Job(name, at, torn, None) for at in places for torn in (False, True)]
    return once + [Job(name, at, False, second) for at in places for second in range(1, again + 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", nargs="+", choices=commands(), default=list(commands()), help="the commands to kill")
    parser.add_argument("--every", type=int, default=1, help="try each n-th place")
    parser.add_argument("--again", type=int, default=0, help="places of the next start to kill at, too")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows: list[list[object]] = []
    for name in asked.of:
        with tempfile.TemporaryDirectory(dir=memory()) as text:
            folder = Path(text)
            expected, passed, idle = undisturbed(name, folder)
            todo = jobs(name, len(passed), asked.every, asked.again)
            with ProcessPoolExecutor(asked.processes, get_context("fork")) as pool:
                found = list(pool.map(partial(disturbed, folder=folder, expected=expected), todo, chunksize=4))
        wrong = [(job, text) for job, text in zip(todo, found, strict=True) if text]
        for job, text in wrong:
            print(job, text[:300])
        rows.append([name, len(passed), idle, len(todo), len(wrong)])
    print_table(["command", "places", "places of an ended study", "kills", "another outcome"], rows)
    sys.exit(any(row[-1] for row in rows))


if __name__ == "__main__":
    main()
