"""What does a study leave that a later release must be able to read?"""

from aesearch import ASHA, Minimize, Sprites, Study, TrainConfig
from aesearch.networks import MLP
from aesearch.objectives import BetaVAE


def space(trial):
    rate = trial.suggest_categorical("rate", [1e-2, 1e9, 1e-6, 3e-3])
    data = Sprites(resolution=16, scales=2, orientations=2, positions=8)
    return TrainConfig(data, MLP((8,)), 2, BetaVAE(1.0), replicas=2, epochs=3, learning_rate=rate)


study = Study("old", space, Minimize("val/mse"), sampler="grid", early_stopping=ASHA(1, 2), max_concurrent=1)
