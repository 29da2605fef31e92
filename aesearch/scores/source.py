"""Sources and samples of a protocol: codes and factors of the same items.

A protocol draws a sample from a source.
"""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aesearch.protocols import Protocol

Places = NDArray[np.int64]
Codes = NDArray[np.floating]


class Posterior(NamedTuple):
    """Codes of N items: their means, and their posteriors as far as known.

    means: (N, L).
    log_variances: (N, L) of diagonal Gaussian posteriors; None for codes of another kind.
    unit_kl: (N, L), the KL of each unit from the standard normal in nats; None where it is not defined or not asked
    for.
    """

    means: Codes
    log_variances: Codes | None = None
    unit_kl: Codes | None = None


class Source(NamedTuple):
    """Items that can be encoded: all of a data set, or those of a split.

    encode: gives for places (N,), from 0 to ``size`` - 1, their codes.
    size: number of items.
    factors: (size, K), or None.
    names: of the factors.
    """

    encode: Callable[[Places], Posterior]
    size: int
    factors: NDArray[np.int64] | None
    names: tuple[str, ...]


class Sample:
    """One draw of a protocol: points to fit on and points to test on.

    It also has the codes of all items, for metrics that vote over all.
    """

    def __init__(self, source: Source, protocol: Protocol, whole: bool) -> None:
        """Draw the points, and encode them.

        whole: whether the codes of all items will be needed; then all are encoded at once, not the points again.
        """
        self.source = source
        self.protocol = protocol
        rng = np.random.default_rng(protocol.seed)
        wanted = protocol.points + protocol.test_points
        if protocol.draws == "all":
            drawn = rng.integers(source.size, size=wanted)
        else:
            drawn = rng.permutation(source.size)[:wanted]
        fitted = max(1, round(len(drawn) * protocol.points / wanted))
        self.places = drawn[:fitted]
        self.test_places = drawn[fitted:] if protocol.test_points else self.places
        encoded = np.arange(source.size) if whole else np.unique(drawn)
        self.encoded = encoded
        self.posterior = source.encode(encoded)

    @cached_property
    def _codes(self) -> Codes:
        """Codes of the encoded items: means, or a sample of each posterior.

        The noise of a sample depends on its item only.
        """
        means, log_variances = self.posterior.means, self.posterior.log_variances
        if self.protocol.codes == "mean":
            return means
        assert log_variances is not None
        rng = np.random.default_rng(self.protocol.seed + 1)
        noise = rng.standard_normal((self.source.size, means.shape[1]), np.float32)[self.encoded]
        sampled: Codes = means + np.exp(0.5 * log_variances) * noise
        return sampled

    def _at(self, places: Places) -> Codes:
        return self._codes[np.searchsorted(self.encoded, places)]

    @property
    def codes(self) -> Codes:
        """Codes (N, L) to fit on."""
        return self._at(self.places)

    @property
    def test_codes(self) -> Codes:
        """Codes (M, L) to test on."""
        return self._at(self.test_places)

    @property
    def all_codes(self) -> Codes:
        """Codes (size, L) of all items."""
        return self._at(np.arange(self.source.size))

    @cached_property
    def kept(self) -> NDArray[np.bool_]:
        """Mask (K,) of the factors that the protocol counts."""
        return np.array([self.protocol.counts(name) for name in self.source.names])

    @property
    def factors(self) -> NDArray[np.int64]:
        """Factors (N, K) of ``codes``."""
        return self.all_factors[self.places]

    @property
    def test_factors(self) -> NDArray[np.int64]:
        """Factors (M, K) of ``test_codes``."""
        return self.all_factors[self.test_places]

    @cached_property
    def all_factors(self) -> NDArray[np.int64]:
        """Factors (size, K) of all items."""
        assert self.source.factors is not None
        return self.source.factors[:, self.kept]

    @property
    def unordered(self) -> NDArray[np.bool_]:
        """Mask (K,) of the counted factors that have no order."""
        names = np.array(self.source.names)[self.kept]
        return np.isin(names, self.protocol.unordered)
