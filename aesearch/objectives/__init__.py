"""Objectives: training losses in nats per image.

Each is the reconstruction term rec = -log p(x | z) plus a regulariser:

| objective | rec + |
|---|---|
| Reconstruction | 0 |
| Sparse, KLSparse | weight sum |z|, weight KL(target || mean activation) |
| Contractive | weight sum_j |dz_j/dx|^2 / Var(z_j) |
| VAE, BetaVAE | KL, beta KL |
| FreeBits | beta sum_j max(nats, KL_j) |
| AnnealedVAE | gamma |KL - C(t)| |
| BetaTCVAE, FactorVAE | KL + (beta - 1) TC, KL + gamma TC |
| DIPVAE | KL + off_diagonal sum C_ij^2 + diagonal sum (C_ii - 1)^2 |
| InfoVAE, WAE | (1 - alpha) KL + (alpha + scale - 1) MMD, weight MMD |
| IWAE | the negative importance-weighted bound less rec |
"""

from aesearch.bottlenecks import gaussian_kl
from aesearch.objectives.deterministic import Contractive, KLSparse, Reconstruction, Sparse
from aesearch.objectives.likelihoods import (
    FAMILIES,
    NLL,
    Family,
    Likelihood,
    Nll,
    bernoulli_nll,
    discretised_nll,
    gaussian_nll,
    laplace_nll,
    logistic_nll,
    pixels,
    scaled_gaussian_nll,
)
from aesearch.objectives.matching import DIPVAE, WAE, InfoVAE, covariance, mmd
from aesearch.objectives.objective import Adversarial, Objective, Step, kl, loss, reconstruction
from aesearch.objectives.total_correlation import (
    BetaTCVAE,
    FactorVAE,
    log_importance_weights,
    log_marginals,
    permute_codes,
)
from aesearch.objectives.variational import IWAE, VAE, AnnealedVAE, BetaVAE, FreeBits, importance_weighted
from aesearch.objectives.warmup import Cyclical, Linear, Warmup

__all__ = [
    "DIPVAE",
    "FAMILIES",
    "IWAE",
    "NLL",
    "VAE",
    "WAE",
    "Adversarial",
    "AnnealedVAE",
    "BetaTCVAE",
    "BetaVAE",
    "Contractive",
    "Cyclical",
    "FactorVAE",
    "Family",
    "FreeBits",
    "InfoVAE",
    "KLSparse",
    "Likelihood",
    "Linear",
    "Nll",
    "Objective",
    "Reconstruction",
    "Sparse",
    "Step",
    "Warmup",
    "bernoulli_nll",
    "covariance",
    "discretised_nll",
    "gaussian_kl",
    "gaussian_nll",
    "importance_weighted",
    "kl",
    "laplace_nll",
    "log_importance_weights",
    "log_marginals",
    "logistic_nll",
    "loss",
    "mmd",
    "permute_codes",
    "pixels",
    "reconstruction",
    "scaled_gaussian_nll",
]
