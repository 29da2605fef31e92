"""How does beta trade reconstruction for disentanglement?

    python -m aesearch run studies/beta_sweep.py

14 trials of 4 replicas on rendered sprites, judged by all metrics of disentanglement at their end: about 8 minutes
on two CPU cores. The sprites move less along y than along x: where both are equal, x and y may be turned into each
other at no cost, and the seed decides whether a code tells one of them. The settings were chosen on other seeds.
Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework", ICLR 2017.
"""

from optuna import Trial

from aesearch import Maximize, Minimize, Sprites, Study, TrainConfig
from aesearch.networks import MLP
from aesearch.objectives import BetaVAE
from aesearch.protocols import fast
from aesearch.scores import UDR, Disentanglement, ModelCentrality


def space(trial: Trial) -> TrainConfig:
    return TrainConfig(
        data=Sprites(resolution=32, scales=3, orientations=4, positions=(16, 6)),
        network=MLP(hidden=(128, 128)),
        latent_dim=trial.suggest_int("latent_dim", 4, 16),
        objective=BetaVAE(beta=trial.suggest_float("beta", 0.1, 8.0, log=True)),
        replicas=4,
        epochs=60,
        batch_size=64,
        learning_rate=2e-3,
        scores=(Disentanglement(protocol=fast),),
    )


study = Study(
    "beta_sweep",
    space,
    metrics=(Minimize("val/mse"), Maximize("val/mig")),
    n_trials=14,
    seed=5,
    comparisons=(UDR(), ModelCentrality()),
)
