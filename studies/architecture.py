"""Which network, at an equal number of parameters? MLP, convolutions and a residual network.

    python -m aesearch run studies/architecture.py

Each kind with 50,000 and with 150,000 parameters, a beta-VAE with 10 codes on rendered sprites, 2 replicas:
about 6 minutes on two CPU cores. --size gpu: 5 replicas, 50 epochs. The seconds of a trial are in trials.csv.
"""

from optuna import Trial

from aesearch import Maximize, Minimize, Sprites, Study, TrainConfig, size
from aesearch.networks import MLP, Conv, ResNet
from aesearch.objectives import BetaVAE

# Parameters of each model with 10 codes on 32 x 32 images, to 2 %.
NETWORKS = {
    "MLP 50k": MLP((23, 23)),
    "Conv 50k": Conv((8, 16, 16), dense=68),
    "ResNet 50k": ResNet((12, 18, 18)),
    "MLP 150k": MLP((68, 68)),
    "Conv 150k": Conv((16, 32, 32), dense=96),
    "ResNet 150k": ResNet((24, 32, 32)),
}
EPOCHS, REPLICAS = {"cpu": (3, 2), "gpu": (50, 5)}[size()]


def space(trial: Trial) -> TrainConfig:
    return TrainConfig(
        data=Sprites(resolution=32, scales=3, orientations=8, positions=16),
        network=NETWORKS[trial.suggest_categorical("network", list(NETWORKS))],
        latent_dim=10,
        objective=BetaVAE(beta=2.0),
        replicas=REPLICAS,
        epochs=EPOCHS,
        batch_size=64,
    )


study = Study("architecture", space, metrics=(Minimize("val/mse"), Maximize("val/mig")), sampler="grid")
