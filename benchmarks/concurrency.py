"""Compare two trials at once on two cores with one alone, as a study runs them.

    python benchmarks/concurrency.py [--rounds 5]

The last column is what the machine itself allows: the same trainings in two bare processes of one thread each.
"""

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import optuna
import torch
from table import print_table

from aesearch import Minimize, Sprites, Study, TrainConfig
from aesearch.networks import MLP
from aesearch.objectives import BetaVAE
from aesearch.search.cluster import Where
from aesearch.search.driver import run_study
from aesearch.search.ledger import Ledger
from aesearch.train import train

DATA = Path.home() / ".cache" / "aesearch"


def space(trial: optuna.trial.BaseTrial) -> TrainConfig:
    return TrainConfig(
        data=Sprites(resolution=32, scales=3, orientations=8, positions=16),
        network=MLP((128, 128)),
        latent_dim=10,
        objective=BetaVAE(trial.suggest_float("beta", 1, 4)),
        epochs=4,
        batch_size=64,
    )


def seconds_per_trial(at_once: int) -> float:
    """Measure the mean time of a trial, training and metrics, with so many at once."""
    study = Study("concurrency", space, Minimize("val/mse"), n_trials=2 * at_once, max_concurrent=at_once)
    ledger = Ledger.open(study, Path(tempfile.mkdtemp()))
    run_study(ledger, Where(None, DATA), lambda key: None, lambda shares: None)
    # Each worker's first trial also warms it up.
    warm = [ledger.record(key).history() for key in range(at_once, 2 * at_once)]
    ledger.close()
    seconds = sum(line["train_seconds"] + line["metric_seconds"] for history in warm for line in history)
    return float(seconds / at_once)


def bare_training(_: int) -> float:
    """Time the same training without Ray, on one thread, in seconds."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    config = space(optuna.trial.FixedTrial({"beta": 2.0}))
    epochs = list(train(config, config.data.load(DATA)))
    return sum(epoch.train_seconds + epoch.metric_seconds for epoch in epochs)


def bare_ratio(pool: ProcessPoolExecutor) -> float:
    [alone] = pool.map(bare_training, range(1))
    together = list(pool.map(bare_training, range(2)))
    return 2 * alone / (sum(together) / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pairs, bare = [], []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(bare_training, range(2)))
        for _ in range(rounds):
            pairs.append((seconds_per_trial(1), seconds_per_trial(2)))
            bare.append(bare_ratio(pool))
    ratios = [2 * one / two for one, two in pairs]
    print_table(
        ["one alone", "two at once, each", "throughput of two over one", "asked", "two bare processes"],
        [
            [
                f"{median(one for one, _ in pairs):.1f} s",
                f"{median(two for _, two in pairs):.1f} s",
                f"{median(ratios):.2f} [{min(ratios):.2f} to {max(ratios):.2f}]",
                "at least 1.8",
                f"{median(bare):.2f} [{min(bare):.2f} to {max(bare):.2f}]",
            ]
        ],
    )


if __name__ == "__main__":
    main()
