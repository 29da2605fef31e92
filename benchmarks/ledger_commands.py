"""Commands that change a study's ledger.

Trials are not trained: their epochs are a formula.
"""

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import alembic.util.pyfiles
import optuna
from killing import Command, at_call

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

DATA = Sprites(resolution=16, scales=2, orientations=2, positions=8)

load_anew = alembic.util.pyfiles.load_module_py
load_once = cache(load_anew)
# Optuna and MLflow execute all their migrations whenever they open a store: once is enough for all forks. Their env.py
# does the work while it is loaded, so a second store would stay without tables.
vars(alembic.util.pyfiles)["load_module_py"] = lambda name, path: (
    load_anew if Path(path).name == "env.py" else load_once
)(name, path)

Files = Callable[[TrainConfig], Mapping[str, bytes]]


def space(trial: optuna.Trial) -> TrainConfig:
    """Two parameters, and a place between them."""
    rate = trial.suggest_categorical("rate", [0.001, 0.01, 0.1])
    if isinstance(trial, optuna.Trial) and trial.study.study_name in ("s", "t"):
        at_call("space")
    return TrainConfig(DATA, MLP((8,)), trial.suggest_int("latent_dim", 2, 5), VAE(), epochs=3, learning_rate=rate)


def pair(trial: optuna.Trial) -> TrainConfig:
    """Sweep a small grid."""
    return TrainConfig(DATA, MLP((8,)), trial.suggest_int("latent_dim", 2, 7), VAE(), epochs=3)


def empty_files(config: TrainConfig) -> Mapping[str, bytes]:
    """Stand in for a model that nobody reads."""
    return dict.fromkeys(("config.json", "model.safetensors"), b"{}")


def value(config: TrainConfig, epoch: int, replica: int) -> float:
    """Make up a metric."""
    wave = (config.latent_dim * 7 + config.learning_rate * 1000 + replica * 3) % 11
    return wave / 10 + 1 / epoch


def train(
    keeper: Keeper, place: Place, config: TrainConfig, searched: Sequence[str], healed: bool, files: Files
) -> Outcome:
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
    for epoch in range(1, config.epochs + 1):
        metrics = {name: [value(config, epoch, r) for r in replicas] for name in ("train/loss", "val/mse", "val/mig")}
        if epoch > len(left.history):
            times = {"elapsed": float(epoch), "time_ms": epoch, "train_seconds": 1.0, "metric_seconds": 0.0}
            keeper.add_epoch(*of, {"epoch": epoch, "metrics": metrics} | times)
        if config.latent_dim == 4 and epoch == 2:
            return Outcome("PRUNED")
        names = [f"epoch-{epoch:06d}.{suffix}" for suffix in ("safetensors", "json")]
        for name in names:
            keeper.receive(*of, name, 0, b"{}")
        keeper.keep_checkpoint(*of, names, names)
    model = files(config)
    for name, content in model.items():
        keeper.receive(*of, name, 0, content)
    metrics |= {"val/loss": metrics["val/mse"], "test/mse": metrics["val/mse"], "test/mig": metrics["val/mig"]}
    if place.replicas:
        assert known is not None
        metrics = {name: [*known[name][: place.start], *values] for name, values in metrics.items()}
    finish = keeper.join if place.replicas else keeper.finish
    of_all = {
        "metrics": metrics,
        "selected_epochs": [config.epochs] * config.replicas,
        "references": {},
        "protocols": {},
    }
    finish(*of, list(model), of_all | {"seconds": 1.0})
    return Outcome("COMPLETE", tuple(medians(metrics, searched)))


def search(
    ledger: Ledger, files: Files = empty_files, healed: bool = False, changed: Callable[[int], None] = lambda _: None
) -> None:
    """Run the trials that a ledger lacks as its driver does, one at a time.

    healed: whether no trial fails. changed: told the key of each trial whose record has news.
    """
    keeper = Keeper(ledger.folder, session_of(ledger.folder))
    kept = KeptModels(ledger)
    while ledger.left:
        key, config = ledger.ask()
        changed(key)
        assert isinstance(config, TrainConfig)
        outcome = train(keeper, Place(key), config, ledger.searched, healed, files)
        ledger.tell(key, outcome)
        for other in [key, *([] if ledger.study.adaptive else kept.discard())]:
            changed(other)
    while further := parts(ledger):
        queue = Parts(ledger, deque(further))
        while queue.left:
            part, whole = queue.ask()
            queue.tell(part, train(keeper, part, whole, ledger.searched, True, files))
            changed(part.key)
    for key in kept.discard():
        changed(key)


def run(study: Study, home: Path, retry: bool = False, fresh: bool = False, files: Files = empty_files) -> None:
    """Run a study."""
    if fresh:
        move_aside(study, home)
    ledger = Ledger.open(study, home)
    if retry:
        ledger.retry_failed()
    search(ledger, files, healed=retry)
    ledger.close()


def table(study: Study, home: Path) -> dict[str, Any]:
    """Read what a study came to.

    That is of each trial its parameters, how it ended, its values and its files.
    """
    ledger = Ledger.open(study, home)
    found: dict[str, Any] = {"begun": len(ledger.table.trials())}
    for key, trial in sorted(ledger.trials().items()):
        record = ledger.record(key)
        files = sorted(str(path.relative_to(record.folder)) for path in record.folder.rglob("*") if path.is_file())
        found[f"trial {key}"] = {
            "params": trial.params,
            "state": trial.state.name,
            "values": trial.values,
            "intermediate": sorted(map(str, trial.intermediate_values.items())),
            "history": [[line["epoch"], line["metrics"]] for line in record.history()],
            "metrics": record.read("result.json").get("metrics"),
            "files": [name for name in files if name != "worker.json"],
        }
    ledger.close()
    return found


@dataclass(frozen=True)
class Search(Command):
    """Search of a study.

    study: that it runs. before: what was run undisturbed before it. retry, fresh: of ``run``.
    """

    study: Study
    before: Callable[[Path], None] | None = None
    retry: bool = False
    fresh: bool = False

    def prepare(self, home: Path) -> None:
        if self.before:
            self.before(home)

    def run(self, home: Path) -> None:
        run(self.study, home, self.retry, self.fresh)

    def read(self, home: Path) -> dict[str, Any]:
        return table(self.study, home)


def _study(sampler: str, trials: int | None = 6, **fields: Any) -> Study:
    metrics = (Minimize("val/mse"), Maximize("val/mig")) if sampler in ("nsga2", "random") else (Minimize("val/mse"),)
    return Study("s", pair if sampler == "grid" else space, metrics, n_trials=trials, sampler=sampler, **fields)


@cache
def commands() -> dict[str, Search]:
    """Name the commands."""
    grid = _study("grid", None, keep=1)
    first = ({"rate": 0.01}, {"rate": 0.001, "latent_dim": 3})
    fork = replace(_study("random", 4), name="t", enqueue=(Best("s", 2),), forked_from="s")
    return {
        "grid": Search(grid),
        "tpe": Search(_study("tpe", enqueue=first)),
        "nsga2": Search(_study("nsga2")),
        "gp": Search(_study("gp")),
        "random": Search(_study("random", enqueue=first)),
        "retry": Search(grid, partial(run, grid), retry=True),
        "more trials": Search(_study("tpe", 6), partial(run, _study("tpe", 3))),
        "fork": Search(fork, partial(run, _study("random", 4))),
        "fresh": Search(_study("grid", 3), partial(run, _study("grid", 3)), fresh=True),
        "replicas": Search(_study("grid", 3, replicas=Adaptive(1, 3), keep=1)),
    }
