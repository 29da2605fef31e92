"""Measure the gain and the loss of early stopping by two metrics.

python benchmarks/stopping.py     5 searches of 16 trials of one replica: about 15 minutes on one core

The space is that of studies/beta_sweep.py.

Every trial is trained to its end once. As random search proposes the same whatever came before, a search with stopping
is then replayed exactly, one trial at a time: its epochs, and the hypervolume of the trials that it lets finish.
"""

import argparse
from itertools import product
from pathlib import Path
from statistics import median

import optuna
import torch
from table import print_table

from aesearch import Pareto, load_study
from aesearch.pareto import hypervolume
from aesearch.train import train

STUDY = Path(__file__).parents[1] / "studies" / "beta_sweep.py"
RULES = [Pareto(grace, factor) for grace, factor in product((1, 2, 4), (2, 3))]

Curve = list[tuple[float, float]]


def curves(seed: int, trials: int, data_root: Path) -> list[Curve]:
    """Train a random search; give val/mse and -val/mig of each trial, each epoch."""
    study = load_study(STUDY)
    sampler = optuna.samplers.RandomSampler(seed=seed)
    search = optuna.create_study(sampler=sampler, directions=study.directions)
    found = []
    for _ in range(trials):
        config = study.config(search.ask())
        config = type(config)(**{**vars(config), "replicas": 1, "scores": (), "seed": seed})
        data = config.data.load(data_root)
        epochs = train(config, data)
        found.append([(one.metrics["val/mse"][0], -one.metrics["val/mig"][0]) for one in epochs])
    return found


def replay(found: list[Curve], rule: Pareto | None) -> tuple[int, list[tuple[float, float]]]:
    """Replay a search; give its epochs, and the last values of trials that finish."""
    most = max(map(len, found))
    judge = rule.judge(most) if rule else None
    spent, finished = 0, []
    for key, curve in enumerate(found):
        for epoch, costs in enumerate(curve, start=1):
            spent += 1
            if judge and epoch < len(curve) and judge.stops(key, epoch, costs):
                break
        else:
            finished.append(curve[-1])
    return spent, finished


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--data", type=Path, default=Path(".stopping"))
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    searches = []
    for seed in range(asked.seeds):
        searches.append(curves(seed, asked.trials, asked.data))
        print(f"search {seed + 1} of {asked.seeds} trained", flush=True)
    rows = []
    for rule in RULES:
        shares, volumes, complete = [], [], []
        for found in searches:
            worst = (max(curve[-1][0] for curve in found), 0.0)
            all_epochs, everything = replay(found, None)
            epochs, finished = replay(found, rule)
            shares.append(epochs / all_epochs)
            volumes.append(hypervolume(finished, worst) / hypervolume(everything, worst))
            complete.append(len(finished))
        rows.append(
            [
                repr(rule),
                f"{median(shares):.0%} [{min(shares):.0%} to {max(shares):.0%}]",
                f"{median(volumes):.1%} [{min(volumes):.1%} to {max(volumes):.1%}]",
                f"{median(complete):g} of {asked.trials}",
            ]
        )
    asked_row = ["asked, in each search", "at most 50%", "at least 95%", ""]
    print_table(
        ["rule", "epochs, of those without it", "hypervolume, of that without it", "finish"], [*rows, asked_row]
    )


if __name__ == "__main__":
    main()
