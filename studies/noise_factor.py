"""How much noise should a denoising autoencoder see in training? Each train noise against each test noise.

    python -m aesearch run studies/noise_factor.py --data DIR_OF_MNIST

6 trials of 2 replicas on MNIST, each measured at five test noises (dB of PSNR gained over the noisy image): about
3 minutes on two CPU cores. --size gpu: convolutions, 5 replicas, 30 epochs.
Vincent et al., "Extracting and Composing Robust Features with Denoising Autoencoders", ICML 2008.
"""

from optuna import Trial

from aesearch import MNIST, Maximize, Study, TrainConfig, size
from aesearch.networks import MLP, Conv
from aesearch.objectives import Reconstruction
from aesearch.scores import Denoising

NETWORK, EPOCHS, REPLICAS = {"cpu": (MLP((512,)), 5, 2), "gpu": (Conv((32, 64), norm="batch"), 30, 5)}[size()]


def space(trial: Trial) -> TrainConfig:
    return TrainConfig(
        data=MNIST(),
        network=NETWORK,
        latent_dim=64,
        objective=Reconstruction(),
        noise_factor=trial.suggest_categorical("noise_factor", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        replicas=REPLICAS,
        epochs=EPOCHS,
        scores=(Denoising(noise=(0.1, 0.2, 0.3, 0.4, 0.5)),),
    )


study = Study("noise_factor", space, metrics=Maximize("val/psnr_gain_0.3"), sampler="grid")
