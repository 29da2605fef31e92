"""What are codes worth when few labels are there? A linear head on codes, a fine-tuned encoder, one from scratch.

    python -m aesearch run studies/semi_supervised.py --data DIR_OF_MNIST

Three objectives on MNIST with 10, 100 and 1,000 labels, 2 replicas: about 6 minutes on two CPU cores. probe is a linear
head on codes, raw_probe on pixels; fine_tuned and scratch train the encoder too. --size gpu: larger, 5 replicas.
Kingma et al., "Semi-supervised Learning with Deep Generative Models", NeurIPS 2014, call the first M1.
"""

from optuna import Trial

from aesearch import MNIST, Maximize, Study, TrainConfig, size
from aesearch.networks import Conv
from aesearch.objectives import VAE, Reconstruction
from aesearch.scores import FineTuned, Probe

LABELS = (10, 100, 1000)
KINDS = {"autoencoder": (Reconstruction(), 0.0), "denoising": (Reconstruction(), 0.5), "VAE": (VAE(), 0.0)}
NETWORK, EPOCHS, REPLICAS = {"cpu": (Conv((16, 32), dense=128), 3, 2), "gpu": (Conv((32, 64, 128)), 30, 5)}[size()]


def space(trial: Trial) -> TrainConfig:
    objective, noise = KINDS[trial.suggest_categorical("kind", list(KINDS))]
    return TrainConfig(
        data=MNIST(),
        network=NETWORK,
        latent_dim=16,
        objective=objective,
        noise_factor=noise,
        replicas=REPLICAS,
        epochs=EPOCHS,
        scores=(Probe(LABELS, draws=3, raw=True), FineTuned(LABELS)),
    )


study = Study("semi_supervised", space, metrics=Maximize("val/probe_100"), sampler="grid")
