"""Time the driver over a thousand trials that train nothing.

python benchmarks/trials.py                 1,000 trials: a few minutes
python benchmarks/trials.py --sampler tpe   with a sampler that learns, whose own work grows with what it knows
python benchmarks/trials.py --trials 30 --parameters 300   with many swept parameters

Ray, the ledger on SQLite, MLflow on SQLite and the choice of models to keep are the real ones.
"""

import argparse
import os
import resource
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
import optuna
from ray import tune
from table import print_table

from aesearch import Maximize, Minimize, Sprites, Study, TrainConfig
from aesearch.commands.progress import Progress
from aesearch.networks import MLP
from aesearch.objectives import BetaVAE
from aesearch.records import epoch_line
from aesearch.search import driver
from aesearch.search.cluster import Where
from aesearch.search.driver import run_study
from aesearch.search.handover import Handover
from aesearch.search.ledger import Ledger
from aesearch.search.values import Outcome, Task
from aesearch.tracking import Tracker
from aesearch.train import Epoch

PART = 100


def space(trial: optuna.Trial, more: int = 0) -> TrainConfig:
    for i in range(more):
        trial.suggest_float(f"unused_{i}", 0.0, 1.0)
    beta = trial.suggest_float("beta", 0.25, 16.0, log=True)
    return TrainConfig(
        Sprites(), MLP((8,)), trial.suggest_int("latent_dim", 2, 16), BetaVAE(beta), replicas=1, epochs=1
    )


def nothing(config: dict[str, Task]) -> None:
    """Hand over and report what a trial does, without a training."""
    task = config["task"]
    handover = Handover(task.keeper, task.place)
    rng = np.random.default_rng(task.place.key)
    mse, mig = rng.uniform(), rng.uniform()
    metrics = {"train/loss": (mse,), "val/loss": (mse,), "val/mse": (mse,), "val/mig": (mig,)}
    handover.epoch(epoch_line(Epoch(1, metrics, 0.0, 0.0), 0.0))
    with tempfile.TemporaryDirectory() as folder:
        for name in ("model.safetensors", "reference.safetensors"):
            (Path(folder) / name).write_bytes(b"0" * 1000)
        result = {"metrics": metrics, "selected_epochs": [1], "references": {}, "protocols": {}, "seconds": 0.0}
        handover.result(Path(folder), result)
    tune.report({"told": Outcome("COMPLETE", (mse, mig))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--parameters", type=int, default=2, help="how many are swept")
    asked = parser.parse_args()
    os.environ.pop("RAY_ADDRESS", None)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    metrics = (Minimize("val/mse"), Maximize("val/mig"))
    own = partial(space, more=asked.parameters - 2)
    study = Study("nothing", own, metrics, n_trials=asked.trials, sampler=asked.sampler)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        ledger = Ledger.open(study, folder)
        tracker = Tracker("sqlite:///mlflow.db", ledger.describe(), ledger.folder / "trials")
        tracker.open()
        progress = Progress(study.name, ledger.total, ledger.counts, ledger.best)
        with patch.object(driver, "run_trial", nothing):
            run_study(ledger, Where("local", folder), tracker.notify, progress.update)
        ends = sorted((ledger.record(key).folder / "state.json").stat().st_mtime for key in ledger.trials())
        tracker.close("FINISHED")
        problem = tracker.problem
        ledger.close()
        os.chdir("/")
    gaps = np.diff(ends)
    first, last = (1000 * sum(part) / len(part) for part in (gaps[:PART], gaps[-PART:]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rows = [
        ["milliseconds per trial, first 100", f"{first:.0f}", ""],
        ["milliseconds per trial, last 100", f"{last:.0f}", "200"],
        ["last 100 over first 100", f"{last / first:.2f}", "1.3"],
        ["median trial, milliseconds", f"{1000 * median(gaps):.0f}", ""],
        ["peak memory of the driver, GiB", f"{peak:.2f}", "1.5"],
        ["what MLflow lacks", problem or "nothing", "nothing"],
    ]
    print_table([f"{asked.trials} trials of nothing, {asked.sampler}", "measured", "asked, at most"], rows)


if __name__ == "__main__":
    main()
