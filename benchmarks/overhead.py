"""Measure the cost of a study beside training, per trial with almost no training.

    python benchmarks/overhead.py [--trials 60]

Everything else is real: the ledger, Ray, the records, the models and pictures of each trial, MLflow.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import optuna
from table import print_table

from aesearch import Minimize, Sprites, Study, TrainConfig
from aesearch.networks import MLP
from aesearch.objectives import Reconstruction
from aesearch.search.cluster import Where
from aesearch.search.driver import run_study
from aesearch.search.ledger import Ledger
from aesearch.tracking import Tracker


def space(trial: optuna.Trial) -> TrainConfig:
    return TrainConfig(
        data=Sprites(resolution=8, shapes=("square",), scales=1, orientations=1, positions=8),
        network=MLP((4,)),
        latent_dim=trial.suggest_int("latent_dim", 1, 4),
        objective=Reconstruction(),
        replicas=1,
        epochs=1,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=60)
    count = parser.parse_args().trials
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = Path(tempfile.mkdtemp())
    ledger = Ledger.open(Study("overhead", space, Minimize("val/mse"), n_trials=count), folder)
    tracker = Tracker(f"sqlite:///{folder}/mlflow.db", ledger.describe(), ledger.folder / "trials")
    tracker.open()
    ended: list[float] = []

    def watch(shares: Mapping[str, float]) -> None:
        if len(ledger.finished()) > len(ended):
            ended.append(time.perf_counter())

    started = time.perf_counter()
    run_study(ledger, Where(None, folder / "data"), tracker.notify, watch)
    stopped = time.perf_counter()
    tracker.close("FINISHED")
    drained = time.perf_counter() - stopped
    ledger.close()
    each = (ended[-1] - ended[1]) / (len(ended) - 2)
    half = len(ended) // 2
    first, last = (ended[half] - ended[1]) / (half - 1), (ended[-1] - ended[half]) / (len(ended) - 1 - half)
    print_table(
        ["what", "asked", "measured"],
        [
            ["per trial after start-up", "under 0.3 s", f"{each:.3f} s"],
            ["per trial, first and second half", "", f"{first:.3f} s, {last:.3f} s"],
            ["start-up, to the end of the first trial", "", f"{ended[0] - started:.1f} s"],
            ["MLflow's backlog after the last trial", "", f"{drained:.2f} s"],
        ],
    )


if __name__ == "__main__":
    main()
