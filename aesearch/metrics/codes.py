"""How much of its code a model uses; no labels needed."""

import numpy as np
from numpy.typing import NDArray


def active_units(means: NDArray[np.floating], threshold: float = 0.01) -> int:
    """The number of codes whose posterior mean varies over the data: Var_x(E[z_j | x]) > ``threshold``.

    means: (N, L) posterior means. Range 0 to L. Blind to what the codes carry: noise in the means counts.
    Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016, section 5.
    """
    return int((np.var(means, axis=0, dtype=np.float64) > threshold).sum())
