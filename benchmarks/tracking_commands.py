"""Commands that write to MLflow, to the report and to the scores.

Models are trained once and copied, each figure is a small empty one, and scores are measured in the command's own
process.
"""

import hashlib
import re
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, chdir, closing, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import optuna
from killing import Command
from ledger_commands import DATA, run, search
from matplotlib.figure import Figure
from mlflow.tracking._tracking_service import utils

from aesearch import Minimize, Study, TrainConfig
from aesearch.__main__ import main
from aesearch.model import save_artifacts
from aesearch.networks import MLP
from aesearch.objectives import VAE
from aesearch.records import Record
from aesearch.report.figures.style import ReportFigure
from aesearch.scores import UDR
from aesearch.search.budgets import Budget
from aesearch.search.cluster import Where
from aesearch.search.driver import Ended
from aesearch.search.ledger import Ledger
from aesearch.tracking import Tracker, create_store
from aesearch.train import train

STATE, STORE = Path(".aesearch"), "mlflow.db"
# Of the home, what differs each time or is no file of the study.
UNREAD = ("lock", "driver.json", "worker.json", "ledger.db", STORE)
UPLOADING = ".artifact.uploading."  # of MLflow, which does not show it
UUID = r"\b[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\b"
CHANGING = re.compile(rf"(?<=time_ms\": )\d+|(?<=_time_created: ).*|(?<=stamp\": \[).*|{UUID}")
RUNS = "select run_uuid, name, status, lifecycle_stage, artifact_uri from runs"
OF_RUNS = {
    # The digest of a report has the times at which trials ended.
    "tags": "select run_uuid, key, case key when 'aesearch.report' then '' else value end from tags",
    "params": "select run_uuid, key, value from params",
    "metrics": "select run_uuid, key, step || ': ' || value || ' ' || is_nan from metrics order by step, value",
    "latest": "select run_uuid, key, step || ': ' || value || ' ' || is_nan from latest_metrics",
    "versions": "select run_id, name || ' ' || version, current_stage || ' ' || status from model_versions",
    "aliases": "select run_id, name || ' ' || alias, version from registered_model_aliases join model_versions "
    "using (name, version)",
}
OTHERS = (
    "select name, lifecycle_stage from experiments",
    "select name from registered_models",
)


def space(trial: optuna.Trial) -> TrainConfig:
    """Sweep what completes, is stopped, fails, and completes with the best value."""
    size = trial.suggest_categorical("latent_dim", [2, 4, 5, 3])
    return TrainConfig(DATA, MLP((8,)), size, VAE(), replicas=2, epochs=2)


study = Study("s", space, Minimize("val/mse"), sampler="grid")
few = replace(study, n_trials=3)
compared = replace(study, comparisons=(UDR(points=50),))


# What stands in for what is slow.


@cache
def trained(config: TrainConfig) -> Mapping[str, bytes]:
    """Train a model for one epoch, and read its files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = config.data.load(folder)
        *_, last = train(replace(config, epochs=1), data)
        assert last.result
        model = folder / "model"
        model.mkdir()
        save_artifacts(model, config, last.result, data)
        return {path.name: path.read_bytes() for path in model.iterdir()}


@cache
def empty_store() -> bytes:
    """Make a store of MLflow, which takes seconds."""
    with tempfile.TemporaryDirectory() as name:
        create_store(f"sqlite:///{name}/{STORE}")
        return (Path(name) / STORE).read_bytes()


def run_study(
    ledger: Ledger,
    where: Where,
    changed: Callable[[int], None],
    watch: object,
    budget: Budget,
) -> Ended:
    """Run the missing trials; what they leave is sent before the next is asked for."""
    tracker: Tracker = changed.__self__  # type: ignore[attr-defined]

    def sent(key: int | None) -> None:
        if key is not None:
            changed(key)
        while tracker._backlog or tracker._under_way:
            time.sleep(0.0005)

    sent(None)
    search(ledger, trained, changed=sent)
    return Ended.FINISHED


class Pool:
    """Pool of no processes."""

    def __init__(self, *_: object) -> None:
        self.shutdown = mock.Mock()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, call: Callable[..., object], *arguments: object) -> Future[object]:
        future: Future[object] = Future()
        try:
            future.set_result(call(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def quickly() -> Iterator[None]:
    """Put the stand-ins in their places."""
    figures = {name: ReportFigure(0, name, "Nothing.", lambda _: Figure((0.1, 0.1))) for name in ("front", "sweeps")}
    with ExitStack() as stack:
        for name, what in {
            "search.driver.run_study": run_study,
            "report.figures.FIGURES": figures,
            "rescore.ProcessPoolExecutor": Pool,
            "tracking.tracker.GATHERED_SECONDS": 0,
        }.items():
            stack.enter_context(mock.patch(f"aesearch.{name}", what))
        yield


# What a command comes to.


def read_files(folder: Path) -> dict[str, str]:
    """Map the path of each file to a digest of its content.

    Those of MLflow's runs are left out, unless ``folder`` is of one.
    """
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.name not in UNREAD and not path.name.startswith(UPLOADING) and folder / "mlruns" not in path.parents:
            content = CHANGING.sub("", path.read_bytes().decode(errors="surrogateescape"))
            found[str(path.relative_to(folder))] = hashlib.sha256(content.encode(errors="surrogateescape")).hexdigest()
    return found


def read_store(path: Path) -> dict[str, Any]:
    """Read all of MLflow's runs, by name: of two, both show."""
    with closing(sqlite3.connect(path)) as store:
        names: dict[str, str] = {}
        found: dict[str, Any] = {"others": [store.execute(query).fetchall() for query in OTHERS]}
        for run_id, name, status, stage, artifacts in sorted(store.execute(RUNS), key=lambda row: row[1]):
            names[run_id] = f"{name} ({list(names.values()).count(name)})" if name in names.values() else name
            found[names[run_id]] = {"status": status, "stage": stage, "files": read_files(Path(artifacts))}
        for kind, query in OF_RUNS.items():
            for run_id, key, value in store.execute(query):
                of_kind = found[names[run_id]].setdefault(kind, {})
                of_kind.setdefault(key, []).append(CHANGING.sub("", str(value)))
    return found


@dataclass(frozen=True)
class Line(Command):
    """Command line.

    before: what was done undisturbed before it.
    """

    arguments: str
    before: tuple[Callable[[Path], None], ...]

    def prepare(self, home: Path) -> None:
        for step in self.before:
            step(home)

    def run(self, home: Path) -> None:
        line(self.arguments, home)

    def read(self, home: Path) -> dict[str, Any]:
        return {"MLflow": read_store(home / STORE), "files": read_files(home)}


# What is killed.


def line(arguments: str, home: Path) -> None:
    """Run a command line in the folder ``home``."""
    # By runs, which copies of a store share.
    utils._artifact_repos_cache.clear()
    with chdir(home), quickly(), redirect_stdout(StringIO()):
        if status := main(arguments.split()):
            raise RuntimeError(f"its exit status is {status}")


def begun(home: Path) -> None:
    """Make an empty store of MLflow, the data, and a study file."""
    DATA.load(home / "data")
    (home / STORE).write_bytes(empty_store())
    (home / "s.py").write_text("from tracking_commands import compared as study\n")


def searched(home: Path, of: Study = study, retry: bool = False) -> None:
    """Run a study without MLflow."""
    run(of, home / STATE, retry, files=trained)


def interrupted(home: Path) -> None:
    """Begin the last trial."""

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    ledger = Ledger.open(study, home / STATE)
    with suppress(KeyboardInterrupt):
        search(ledger, changed=stop)
    ledger.close()


def rescored(home: Path) -> None:
    """Measure something else of the first trial, where no MLflow is."""
    metrics = {"val/psnr": [20.0, 21.0], "test/psnr": [19.0, 20.0]}
    Record(home / STATE / "s" / "trials" / "00000").rescore({"metrics": metrics, "references": {}, "protocols": {}})


def older_report(home: Path) -> None:
    """Leave a figure of an earlier release."""
    line("report s", home)
    (home / "reports" / "s" / "figures" / "old.png").write_bytes(b"")


@cache
def commands() -> dict[str, Line]:
    """Name the commands."""
    sync = partial(line, "sync s")
    all_sent = (begun, searched, sync)
    later = (interrupted, sync, partial(searched, of=replace(study, keep=1), retry=True), rescored)
    run_here = "run s.py --yes --data data"
    return {
        "report": Line("report s", (*all_sent, older_report)),
        "rescore": Line("rescore s --metric mig --metric quality --protocol fast --data data", all_sent),
        "compare": Line("rescore s --metric udr --data elsewhere", all_sent),
        "sync": Line("sync s", (begun, partial(searched, of=replace(study, keep=1)), rescored)),
        "sync again": Line("sync s", (begun, partial(searched, of=few), sync, *later)),
        "run": Line(run_here, (begun,)),
        "run on": Line(run_here, (begun, partial(line, f"{run_here} --trials 3"))),
        "store": Line("sync s", (partial(searched, of=few),)),
    }
