"""Make studies whose training dies, raises, hangs or takes all memory."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import optuna
from helpers.small import TINY

from aesearch import Minimize, Study, TrainConfig
from aesearch.networks import MLP
from aesearch.objectives import BetaVAE
from aesearch.tracking import read_study


@dataclass(frozen=True)
class Faulty(BetaVAE):
    """Objective with a fault in mid-training: once, or always without a ``marker``."""

    fault: str = ""
    marker: str = ""

    def regulariser(self, output, target, step):
        if self.fault and 0.5 < float(step.progress) < 1:
            marker = Path(self.marker) if self.marker else None
            if marker is None or not marker.exists():
                if marker:
                    marker.touch()
                getattr(self, self.fault)()
        return super().regulariser(output, target, step)

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def blow(self):
        raise RuntimeError("blown")

    def hang(self):
        time.sleep(600)

    def hunger(self):
        hoard = []
        while True:
            hoard.append(bytearray(os.urandom(1024) * 64 * 1024))
            time.sleep(0.02)


def study(name: str, fault: str = "", marker: str = "", **fields) -> Study:
    """Make a study of three trials of 8 epochs, the second with the fault."""

    def space(trial: optuna.Trial) -> TrainConfig:
        beta = trial.suggest_categorical("beta", [1.0, 2.0, 4.0])
        objective = Faulty(beta, fault=fault if beta == 2.0 else "", marker=marker)
        return TrainConfig(TINY, MLP((16,)), latent_dim=3, objective=objective, replicas=2, epochs=8)

    options = {"sampler": "grid", "checkpoint_seconds": 0, "max_concurrent": 1} | fields
    return Study(name, space, Minimize("val/mse"), **options)


def table(uri: str, name: str):
    """Read everything of the results but times."""
    results = read_study(uri, name)
    trials = results.trials.drop(columns=[c for c in results.trials if "seconds" in c])
    return trials.set_index("param:beta"), results.history
