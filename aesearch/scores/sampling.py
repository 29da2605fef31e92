"""Samples of a model: the codes that new items are decoded from.

``use sample`` shows what ``Frechet`` measures.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aesearch.autoencoder import Autoencoder
from aesearch.bottlenecks import Codebook
from aesearch.objectives import Objective

COMPONENTS = 10  # Gaussians in the mixture that is fitted to codes
KNOWN = 2000  # items of val whose codes a mixture is fitted to


def has_prior(objective: Objective) -> bool:
    """Tell whether training gives a model a prior to sample from."""
    return objective.variational or objective.draws


@torch.no_grad()
def prior_codes(model: Autoencoder, count: int, seed: int) -> Tensor:
    """Draw codes (count, L) from the prior of a model, on its device."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, model.latent_dim), dtype=np.float32)
    component = rng.integers(2**31, size=count)
    device = next(model.parameters()).device
    return model.from_prior(torch.from_numpy(noise).to(device), torch.from_numpy(component).to(device))


@torch.no_grad()
def known_codes(model: Autoencoder, images: Tensor, label: Tensor | None = None) -> Tensor:
    """Encode images (B, C, H, W) to what a mixture is fitted to.

    It is their codes (B, L), or with a codebook the entries at each place, (B, places).
    label: (B,), the classes for a conditional model.
    """
    if not isinstance(model.bottleneck, Codebook):
        return model.encode(images, label)
    indices = model.code(images, images.new_zeros(1, len(images), model.latent_dim)).indices
    assert indices is not None
    return indices


def mixture_codes(model: Autoencoder, known: NDArray[np.generic], count: int, seed: int) -> NDArray[np.float32]:
    """Draw codes (count, L) like known ones, which every model has.

    known: those of ``known_codes``, of two items or more. Ten Gaussians are fitted to codes. Of the entries of a
    codebook, each place has one as often as it has it in ``known``.
    """
    from sklearn.mixture import GaussianMixture

    rng = np.random.default_rng(seed)
    if isinstance(model.bottleneck, Codebook):
        places = np.arange(known.shape[1])
        entries = torch.from_numpy(known[rng.integers(len(known), size=(count, len(places))), places])
        vectors = model.bottleneck.vectors.detach().cpu()[entries]
        codes: NDArray[np.float32] = vectors.movedim(2, 1).flatten(1).numpy()
        return codes
    mixture = GaussianMixture(min(COMPONENTS, len(known) // 2 or 1), reg_covar=1e-4, random_state=seed).fit(known)
    drawn, _ = mixture.sample(count)
    return rng.permutation(drawn).astype(np.float32)
