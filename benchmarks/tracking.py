"""Measure the cost of MLflow: a study with tracking and without it, in turn.

    python benchmarks/tracking.py [--rounds 5] [--trials 8] [--long]

Trials of some five seconds, or ``--long``, nearly as long as the main job's. Two trials run at once on two cores, so
that what the sender takes, training lacks; over HTTP the server is on the same cores too. The sender is a thread of the
driver: its processor time is given beside the wall time, which other work disturbs.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import optuna
import psutil
import ray
from server import Server
from table import print_table

from aesearch import Maximize, Minimize, Sprites, Study, TrainConfig
from aesearch.networks import MLP
from aesearch.objectives import BetaVAE
from aesearch.search.cluster import Where, start_local
from aesearch.search.driver import run_study
from aesearch.search.ledger import Ledger
from aesearch.tracking import Tracker, create_store

ASKED = {"SQLite": "under 2%", "HTTP": "under 5%"}
SHORT = Sprites(resolution=32, scales=3, orientations=4, positions=8)
LONG = Sprites(resolution=32, scales=3, orientations=8, positions=16)


def space(trial: optuna.Trial, data: Sprites = SHORT) -> TrainConfig:
    return TrainConfig(
        data=data,
        network=MLP((128, 128)),
        latent_dim=trial.suggest_int("latent_dim", 4, 16),
        objective=BetaVAE(trial.suggest_float("beta", 0.25, 16.0, log=True)),
        replicas=3,
        epochs=20,
        batch_size=64,
    )


class Timed(Tracker):
    """Tracker that knows its thread's processor seconds since it found its study."""

    begun = seconds = 0.0

    def _connect(self) -> None:
        super()._connect()
        self.begun = time.thread_time()

    def _run(self) -> None:
        super()._run()
        self.seconds = time.thread_time() - self.begun


@dataclass
class Measured:
    """Seconds per trial: wall time, and processor time of the sender and the server."""

    wall: float
    sender: float = 0.0
    server: float = 0.0


def processor_seconds(process: psutil.Process) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True)))


def long_space(trial: optuna.Trial) -> TrainConfig:
    return space(trial, LONG)


def measure(study: Study, data: Path, uri: str, process: psutil.Process | None) -> Measured:
    """Run a study of its own, tracked at ``uri``; an empty one means no tracking."""
    trials = study.n_trials or 0
    ledger = Ledger.open(study, Path(tempfile.mkdtemp()))
    tracker = Timed(uri or "sqlite:///unused.db", ledger.describe(), ledger.folder / "trials")
    before = processor_seconds(process) if process else 0.0
    if uri:
        tracker.open()
    ended: list[float] = []

    def watch(shares: Mapping[str, float]) -> None:
        if len(ledger.finished()) > len(ended):
            ended.append(time.perf_counter())

    run_study(ledger, Where(None, data), tracker.notify if uri else lambda key: None, watch)
    if uri:
        tracker.close("FINISHED")
        ended[-1] = time.perf_counter()
        assert not tracker.problem, tracker.problem
    ledger.close()
    after = processor_seconds(process) if process else 0.0
    # The first two begin with the start of their workers.
    wall = (ended[-1] - ended[1]) / (len(ended) - 2)
    return Measured(wall, tracker.seconds / trials, (after - before) / trials)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--long", action="store_true")
    asked = parser.parse_args()

    def study(name: str, trials: int) -> Study:
        made = long_space if asked.long else space
        return Study(name, made, (Minimize("val/mse"), Maximize("val/mig")), n_trials=trials)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    start_local(num_cpus=2, log_to_driver=False, logging_level=40)
    found: dict[str, list[Measured]] = {"none": [], "SQLite": [], "HTTP": []}
    with tempfile.TemporaryDirectory() as name:
        server = Server(Path(name))
        server.start()
        assert server.process is not None
        process = psutil.Process(server.process.pid)
        data = Path(name) / "data"
        stores = {"none": "", "SQLite": f"sqlite:///{name}/mlflow.db", "HTTP": server.uri}
        os.chdir(name)
        create_store(stores["SQLite"])
        measure(study("warm_up", 3), data, "", None)
        for number in range(asked.rounds):
            for store, uri in stores.items():
                own = process if store == "HTTP" else None
                found[store].append(measure(study(f"tracking_{number}", asked.trials), data, uri, own))
                print(f"round {number + 1}, {store}: {found[store][-1]}", flush=True)
        server.kill()
    print_table(
        [
            "MLflow's store",
            "wall time per trial",
            "over the same without",
            "sender's processor time",
            "asked",
            "server's",
        ],
        [row(store, found) for store in found],
    )
    ray.shutdown()


def row(store: str, found: dict[str, list[Measured]]) -> list[str]:
    walls = [one.wall for one in found[store]]
    if store == "none":
        return ["none", f"{median(walls):.2f} s [{min(walls):.2f} to {max(walls):.2f}]", "", "", "", ""]
    ratios = [one.wall / none.wall - 1 for one, none in zip(found[store], found["none"], strict=True)]
    sender, server_ = (median(getattr(one, name) for one in found[store]) for name in ("sender", "server"))
    # Two trials share the time: a trial has one core.
    share = sender / (2 * median(one.wall for one in found["none"]))
    return [
        store,
        f"{median(walls):.2f} s [{min(walls):.2f} to {max(walls):.2f}]",
        f"{median(ratios):+.1%} [{min(ratios):+.1%} to {max(ratios):+.1%}]",
        f"{sender:.3f} s, {share:.1%}",
        ASKED[store],
        f"{server_:.2f} s" if server_ else "",
    ]


if __name__ == "__main__":
    main()
