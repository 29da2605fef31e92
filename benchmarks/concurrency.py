"""Two trials at once on two cores against one trial alone, through Ray as a study runs them.

python benchmarks/concurrency.py [--rounds 3]
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median

import optuna
from table import print_table

from aesearch import Minimize, Sprites, Study, TrainConfig
from aesearch.ledger import Ledger
from aesearch.networks import MLP
from aesearch.objectives import BetaVAE
from aesearch.tuner import Where, run_study

DATA = Path.home() / ".cache" / "aesearch"


def space(trial: optuna.Trial) -> TrainConfig:
    return TrainConfig(
        data=Sprites(resolution=32, scales=3, orientations=8, positions=16),
        network=MLP((128, 128)),
        latent_dim=10,
        objective=BetaVAE(trial.suggest_float("beta", 1, 4)),
        epochs=4,
        batch_size=64,
    )


def seconds_per_trial(at_once: int) -> float:
    """The mean time in which a trial trains and is measured, with so many at once."""
    study = Study("concurrency", space, Minimize("val/mse"), n_trials=2 * at_once, max_concurrent=at_once)
    ledger = Ledger.open(replace(study), Path(tempfile.mkdtemp()))
    run_study(ledger, Where(None, DATA), lambda key: None, lambda running, shares: None)
    # Each worker's first trial also warms it up.
    warm = [ledger.record(key).history() for key in range(at_once, 2 * at_once)]
    ledger.close()
    return sum(line["train_seconds"] + line["metric_seconds"] for history in warm for line in history) / at_once


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    pairs = [(seconds_per_trial(1), seconds_per_trial(2)) for _ in range(parser.parse_args().rounds)]
    ratios = [2 * one / two for one, two in pairs]
    print_table(
        ["one alone", "two at once, each", "throughput of two over one", "asked"],
        [
            [
                f"{median(one for one, _ in pairs):.1f} s",
                f"{median(two for _, two in pairs):.1f} s",
                f"{median(ratios):.2f} [{min(ratios):.2f} to {max(ratios):.2f}]",
                "at least 1.8",
            ]
        ],
    )


if __name__ == "__main__":
    main()
