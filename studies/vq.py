"""How large should a codebook be? Error against the number of entries that are in use.

    python -m aesearch run studies/vq.py

A VQ-VAE on rendered sprites with an 8 x 8 grid of codes, 2 replicas: 5 codebook sizes, about 4 minutes on two CPU
cores. --size gpu: 64 x 64 sprites, a residual network, 5 replicas.
van den Oord, Vinyals, Kavukcuoglu, "Neural Discrete Representation Learning", NeurIPS 2017.
"""

from optuna import Trial

from aesearch import Minimize, Sprites, Study, TrainConfig, size
from aesearch.bottlenecks import VectorQuantized
from aesearch.networks import Conv, ResNet
from aesearch.objectives import Reconstruction

CODES = {"cpu": [8, 32, 128, 256, 512], "gpu": [8, 32, 128, 512, 2048]}[size()]
DATA = {"cpu": Sprites(resolution=32, scales=3, orientations=8, positions=16), "gpu": Sprites()}[size()]
NETWORK, EPOCHS, REPLICAS = {"cpu": (Conv((16, 32)), 3, 2), "gpu": (ResNet((32, 64, 128)), 20, 5)}[size()]


def space(trial: Trial) -> TrainConfig:
    return TrainConfig(
        data=DATA,
        network=NETWORK,
        latent_dim=16,
        objective=Reconstruction("gaussian"),
        bottleneck=VectorQuantized(codes=trial.suggest_categorical("codes", CODES), codebook="gradient"),
        replicas=REPLICAS,
        epochs=EPOCHS,
        batch_size=64,
    )


study = Study("vq", space, metrics=Minimize("val/mse"), sampler="grid")
