"""How much of its code a model uses; no labels needed."""

import numpy as np
from numpy.typing import NDArray

from aesearch.metrics.kinds import MetricKind

ACTIVE_UNITS = MetricKind(
    name="active_units",
    better="more",
    unit="codes",
    explanation="codes whose mean has a variance above 0.01.",
    floor=None,
    ceiling=None,
    cost="pass",
)
PERPLEXITY = MetricKind(
    name="perplexity",
    better="more",
    unit="codebook entries",
    explanation="exp(entropy) of how often the split uses each entry of the codebook.",
    floor=None,
    ceiling=None,
    cost="pass",
)
SPARSITY = MetricKind(
    name="sparsity",
    better="more",
    unit="",
    explanation="the share of code values of at most 1 % of their unit's largest magnitude.",
    floor=None,
    ceiling=None,
    cost="pass",
)


def active_units(means: NDArray[np.floating], threshold: float = 0.01) -> int:
    """The number of codes whose posterior mean varies over the data: Var_x(E[z_j | x]) > ``threshold``.

    means: (N, L) posterior means. Range 0 to L. Blind to what the codes carry: noise in the means counts.
    Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016, section 5.
    """
    return int((np.var(means, axis=0, dtype=np.float64) > threshold).sum())


def sparsity(codes: NDArray[np.floating], part: float = 0.01) -> float:
    """The share of the code's values that are off: at most ``part`` of the largest magnitude of their unit.

    codes: (N, L). Range 0 to 1; ``part`` for a uniform unit, about 0.03 for a normal one of 10,000 values. A unit that
    is always 0 counts as off everywhere. Blind to what the units that are on carry.
    """
    magnitude = np.abs(codes)
    return float((magnitude <= part * magnitude.max(axis=0)).mean())


def perplexity(indices: NDArray[np.integer]) -> float:
    """exp(entropy) of how often each entry of a codebook is used: the number of entries that are effectively in use.

    indices: entries in any shape. From 1 (one entry only) to the codebook's size (all alike).
    van den Oord, Vinyals, Kavukcuoglu, NeurIPS 2017.
    """
    counts = np.bincount(indices.ravel())
    p = counts[counts > 0] / indices.size
    return float(np.exp(-(p * np.log(p)).sum()))
