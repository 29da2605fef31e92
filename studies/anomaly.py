"""How well does the reconstruction error tell what a model has never seen, and how small must its code be?

    python -m aesearch run studies/anomaly.py --data DIR_OF_MNIST

Each digit in turn is normal and the other nine are anomalies; and a table: benign tumours normal, malignant ones
anomalies. Three code sizes, 2 replicas: 33 trials, about 4 minutes on two CPU cores. --size gpu: convolutions.
What is normal is a condition: an easy digit is no answer, so code sizes are compared within each.
Ruff et al., "Deep One-Class Classification", ICML 2018, table 1: 0.897 by a convolutional autoencoder, 0.948 by theirs.
"""

from optuna import Trial

from aesearch import MNIST, BreastCancer, Minimize, OneClass, Study, TrainConfig, size
from aesearch.networks import MLP, Conv
from aesearch.objectives import VAE, Reconstruction
from aesearch.scores import Detection

NETWORK, EPOCHS, REPLICAS = {"cpu": (MLP((256, 128)), 15, 2), "gpu": (Conv((32, 64)), 40, 5)}[size()]


def space(trial: Trial) -> TrainConfig:
    normal = trial.suggest_categorical("normal", [*"0123456789", "benign"])
    latent_dim = trial.suggest_categorical("latent_dim", [4, 8, 16])
    if normal == "benign":
        return TrainConfig(
            data=OneClass(BreastCancer(), normal="benign"),
            network=MLP((64, 32)),
            latent_dim=latent_dim,
            objective=VAE("gaussian"),
            replicas=REPLICAS,
            epochs=100,
            batch_size=32,
            scores=(Detection(),),
        )
    return TrainConfig(
        data=OneClass(MNIST(), normal=normal),
        network=NETWORK,
        latent_dim=latent_dim,
        objective=Reconstruction(),
        replicas=REPLICAS,
        epochs=EPOCHS,
        scores=(Detection(),),
    )


study = Study("anomaly", space, metrics=Minimize("val/mse"), sampler="grid", per=("normal",))
