"""Make small studies without training them."""

import optuna

from aesearch import Minimize, Study, TrainConfig
from aesearch.datasets import Sprites
from aesearch.networks import MLP
from aesearch.objectives import VAE, BetaVAE, Reconstruction

# 3 x 2 x 2 x 8 x 8 = 768 images of 16 x 16: rendered in a moment, with five varying factors.
TINY = Sprites(resolution=16, scales=2, orientations=2, positions=8)


def space(trial: optuna.Trial) -> TrainConfig:
    """Sample a conditional space: only a variational model has a beta."""
    variational = trial.suggest_categorical("variational", [False, True])
    objective = BetaVAE(trial.suggest_categorical("beta", [1.0, 4.0])) if variational else Reconstruction()
    latent_dim = trial.suggest_int("latent_dim", 2, 6, step=2)
    return TrainConfig(data=TINY, network=MLP((8,)), latent_dim=latent_dim, objective=objective, epochs=1)


def make(**fields) -> Study:
    return Study(**({"name": "s", "space": space, "metrics": Minimize("val/mse"), "n_trials": 3} | fields))


def smooth(trial: optuna.Trial) -> TrainConfig:
    return TrainConfig(TINY, MLP((8,)), 3, VAE(), learning_rate=trial.suggest_float("rate", 1e-4, 1e-1, log=True))
