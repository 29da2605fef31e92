"""Measures of how much of its code a model uses.

None of them needs labels.
"""

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
    """Count the codes whose posterior mean varies over the data.

    A code j is active where the variance of E[z_j | x] over the images x is above ``threshold``.

    means: (N, L), posterior means.
    threshold: least variance of an active code.

    Range 0 to L. Blind to what the codes carry: noise in the means counts as activity.
    Source: Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016, section 5.
    """
    return int((np.var(means, axis=0, dtype=np.float64) > threshold).sum())


def active_codes(
    means: NDArray[np.floating], unit_kl: NDArray[np.floating] | None = None, threshold: float = 0.01
) -> NDArray[np.bool_]:
    """Mark the codes that carry something, (L,).

    means: (N, L), posterior means.
    unit_kl: (N, L), the KL of each unit from the standard normal in nats, or None. Where it is known a code is active
    with a mean KL above ``threshold``, else with a variance of its means above it.
    """
    size = np.var(means, axis=0, dtype=np.float64) if unit_kl is None else np.mean(unit_kl, axis=0, dtype=np.float64)
    return np.asarray(size > threshold)


def sparsity(codes: NDArray[np.floating], part: float = 0.01) -> float:
    """Compute the share of code values that are off.

    A value is off where its magnitude is at most ``part`` of the largest magnitude of its unit.

    codes: (N, L).
    part: the limit, as a share of the largest magnitude.

    Range 0 to 1. A uniform unit scores ``part``, a normal one of 10,000 values about 0.03. A unit that is always 0
    counts as off everywhere. Blind to what the other units carry.
    """
    magnitude = np.abs(codes)
    return float((magnitude <= part * magnitude.max(axis=0)).mean())


def perplexity(indices: NDArray[np.integer]) -> float:
    """Compute the perplexity of a codebook: exp(entropy) of the use of its entries.

    It is the number of entries that are effectively in use.

    indices: entries of the codebook, in an array of any shape.

    Range 1 (one entry only) to the codebook's size (all entries equally often).
    Source: van den Oord, Vinyals, Kavukcuoglu, NeurIPS 2017.
    """
    counts = np.bincount(indices.ravel())
    p = counts[counts > 0] / indices.size
    return float(np.exp(-(p * np.log(p)).sum()))
