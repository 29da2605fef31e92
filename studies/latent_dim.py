"""How small may a code be? An autoencoder's error against that of as many principal components.

    python -m aesearch run studies/latent_dim.py --data DIR_OF_MNIST

6 trials of 2 replicas on MNIST: about 3 minutes on two CPU cores. --size gpu: 9 code sizes, 5 replicas, 50 epochs.
Hinton and Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", Science 2006.
"""

from optuna import Trial

from aesearch import MNIST, Minimize, Study, TrainConfig, size
from aesearch.networks import MLP
from aesearch.objectives import Reconstruction
from aesearch.scores import PCA

SIZES = {"cpu": [2, 4, 8, 16, 32, 64], "gpu": [1, 2, 4, 8, 16, 32, 64, 128, 256]}[size()]
EPOCHS, REPLICAS = {"cpu": (8, 2), "gpu": (50, 5)}[size()]


def space(trial: Trial) -> TrainConfig:
    return TrainConfig(
        data=MNIST(),
        network=MLP(hidden=(256, 128)),
        latent_dim=trial.suggest_categorical("latent_dim", SIZES),
        objective=Reconstruction(),
        replicas=REPLICAS,
        epochs=EPOCHS,
        scores=(PCA(),),
    )


study = Study("latent_dim", space, metrics=Minimize("val/mse"), sampler="grid")
