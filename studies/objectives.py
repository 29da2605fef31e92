"""Which objective disentangles, each at a strength that its authors published?

    python -m aesearch run studies/objectives.py

Eight objectives with 4 replicas each on the sprites of beta_sweep: about 7 minutes on two CPU cores. --size gpu: the
published network and discriminator, 64 x 64 sprites, 10 replicas. Strengths: beta 4 (Higgins et al. 2017), C 25
(Burgess et al. 2018), gamma 10 (Kim and Mnih 2018), beta 6 (Chen et al. 2018), lambda 10 (Kumar et al. 2018).
Locatello et al., "Challenging Common Assumptions", ICML 2019, compare them in this way.
"""

from optuna import Trial

from aesearch import Maximize, Minimize, Sprites, Study, TrainConfig, size
from aesearch.networks import MLP, Burgess
from aesearch.objectives import DIPVAE, VAE, AnnealedVAE, BetaTCVAE, BetaVAE, FactorVAE, InfoVAE

HIDDEN = {"cpu": (256,) * 3, "gpu": (1000,) * 6}[size()]
OBJECTIVES = {
    "VAE": VAE(),
    "beta-VAE": BetaVAE(4.0),
    "AnnealedVAE": AnnealedVAE(capacity=25.0, gamma=100.0),
    "FactorVAE": FactorVAE(gamma=10.0, hidden=HIDDEN),
    "beta-TCVAE": BetaTCVAE(6.0),
    "DIP-VAE-I": DIPVAE(off_diagonal=10.0, diagonal=100.0, kind=1),
    "DIP-VAE-II": DIPVAE(off_diagonal=10.0, diagonal=10.0, kind=2),
    "InfoVAE": InfoVAE(alpha=0.0, scale=100.0),
}
DATA, NETWORK, EPOCHS, REPLICAS, RATE = {
    "cpu": (Sprites(resolution=32, scales=3, orientations=4, positions=(16, 6)), MLP((128, 128)), 50, 4, 2e-3),
    "gpu": (Sprites(positions=(32, 12)), Burgess(), 60, 10, 1e-3),
}[size()]


def space(trial: Trial) -> TrainConfig:
    return TrainConfig(
        data=DATA,
        network=NETWORK,
        latent_dim=10,
        objective=OBJECTIVES[trial.suggest_categorical("objective", list(OBJECTIVES))],
        replicas=REPLICAS,
        epochs=EPOCHS,
        batch_size=64,
        learning_rate=RATE,
    )


study = Study("objectives", space, metrics=(Minimize("val/mse"), Maximize("val/mig")), sampler="grid")
