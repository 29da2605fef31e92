"""Compare the samplers with random search at an equal budget.

python benchmarks/searcher.py     5 searches each of 32 trials by four samplers: about 30 minutes on one core

val/mse against val/mig of beta-VAEs on rendered sprites, over beta, code size, learning rate and width. The
hypervolume is of the trials' values as the search sees them, up to the worst of all searches of a seed.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import median

import optuna
import torch
from table import print_table

from aesearch import Maximize, Minimize, Sprites, Study, TrainConfig
from aesearch.networks import MLP
from aesearch.objectives import BetaVAE
from aesearch.pareto import hypervolume
from aesearch.train import train

SAMPLERS = ("tpe", "nsga2", "gp", "random")


def space(trial: optuna.Trial) -> TrainConfig:
    width = trial.suggest_int("width", 16, 128, log=True)
    return TrainConfig(
        data=Sprites(resolution=16, scales=3, orientations=8, positions=16),
        network=MLP((width, width)),
        latent_dim=trial.suggest_int("latent_dim", 2, 16),
        objective=BetaVAE(trial.suggest_float("beta", 0.25, 16.0, log=True)),
        learning_rate=trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        replicas=1,
        epochs=8,
        batch_size=64,
    )


def search(sampler: str, seed: int, trials: int, epochs: int, root: Path) -> list[tuple[float, float]]:
    """Train the trials that a sampler asks for; give val/mse and -val/mig of each."""
    study = Study("searcher", space, (Minimize("val/mse"), Maximize("val/mig")), trials, sampler, seed=seed)
    ledger = optuna.create_study(directions=study.directions)
    found = []
    for number in range(trials):
        ledger.sampler = study.make_sampler(number)
        trial = ledger.ask()
        # One seed of training for all searches, so that they differ in what they propose only.
        config = replace(study.config(trial), seed=0, epochs=epochs)
        *_, last = train(config, config.data.load(root))
        assert last.result is not None
        mse, mig = (last.result.metrics[name][0] for name in ("val/mse", "val/mig"))
        ledger.tell(trial, (mse, mig))
        found.append((mse, -mig))
    return found


def spread(values: list[float], form: str) -> str:
    return f"{median(values):{form}} [{min(values):{form}} to {max(values):{form}}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--data", type=Path, default=Path(".searcher"))
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    ratios: dict[str, list[float]] = {sampler: [] for sampler in SAMPLERS}
    volumes: dict[str, list[float]] = {sampler: [] for sampler in SAMPLERS}
    for seed in range(asked.seeds):
        found = {sampler: search(sampler, seed, asked.trials, asked.epochs, asked.data) for sampler in SAMPLERS}
        worst = (max(mse for values in found.values() for mse, _ in values), 0.0)
        for sampler, values in found.items():
            volumes[sampler].append(1000 * hypervolume(values, worst))
            ratios[sampler].append(volumes[sampler][-1] / (1000 * hypervolume(found["random"], worst)))
        print(f"seed {seed}: " + ", ".join(f"{name} {ratios[name][-1]:.3f}" for name in SAMPLERS), flush=True)
    rows = [
        [sampler, spread(volumes[sampler], ".2f"), spread(ratios[sampler], ".2f"), sum(r > 1 for r in ratios[sampler])]
        for sampler in SAMPLERS
    ]
    print_table(["sampler", "hypervolume x 1000", "of random search's", "seeds in which it is higher"], rows)


if __name__ == "__main__":
    main()
