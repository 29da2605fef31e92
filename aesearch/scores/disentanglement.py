"""Metrics on codes and factors under a protocol, with their floors and ceilings."""

import hashlib
import json
import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock

from aesearch import metrics as m
from aesearch.bottlenecks import Code, GaussianCode
from aesearch.datasets import Dataset
from aesearch.errors import UserError, nearest
from aesearch.objectives import Objective
from aesearch.protocols import Protocol, fast
from aesearch.rights import shared_files
from aesearch.scores.score import Reference, Score, Trained
from aesearch.scores.source import Places, Posterior, Sample, Source

# Standard deviation of a posterior that counts as certain, in steps from one value of a factor to the next.
NARROW = 0.01
# Draws of noise for a floor: they end where the standard error of their mean is near enough.
FEWEST, MOST, NEAR = 3, 12, 0.01


class Measure(NamedTuple):
    """Metric of a protocol, with one or more values.

    names: of the values.
    of: the function that measures them.
    labelled: whether it needs factors.
    whole: whether it needs the codes of all items.
    """

    names: tuple[str, ...]
    of: Callable[[Sample], tuple[float, ...]]
    labelled: bool = True
    whole: bool = False


def _pairs(sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return sample.codes, sample.factors, sample.test_codes, sample.test_factors


def _mig(sample: Sample) -> tuple[float, ...]:
    protocol = sample.protocol
    if protocol.mig == "binned":
        return (m.mig(sample.codes, sample.factors, protocol.bins),)
    means, variances = sample.posterior.means, sample.posterior.log_variances
    assert variances is not None
    return (m.mig_chen(means, variances, sample.all_factors, protocol.samples, protocol.images, protocol.seed),)


def _sap(sample: Sample) -> tuple[float, ...]:
    if sample.protocol.sap == "svm":
        return (m.sap_svm(*_pairs(sample)),)
    if sample.unordered.any():
        return (m.sap_mixed(*_pairs(sample), sample.unordered),)
    return (m.sap(sample.codes, sample.factors),)


def _dci(sample: Sample) -> tuple[float, ...]:
    return m.dci(*_pairs(sample), sample.protocol.regressor, sample.protocol.seed)[:3]


def _factor_vae(sample: Sample) -> tuple[float, ...]:
    p = sample.protocol
    votes = (p.votes, p.test_votes, p.vote_size, p.active, p.seed)
    return (m.factor_vae_score(sample.all_codes, sample.all_factors, *votes),)


def _beta_vae(sample: Sample) -> tuple[float, ...]:
    p = sample.protocol
    votes = (p.votes, p.test_votes, p.pair_size, p.seed, p.pairs == "one_value")
    return (m.beta_vae_score(sample.all_codes, sample.all_factors, *votes),)


def _on_bins(
    metric: Callable[[np.ndarray, np.ndarray, int], float],
) -> Callable[[Sample], tuple[float, ...]]:
    return lambda sample: (metric(sample.codes, sample.factors, sample.protocol.bins),)


# A new metric of protocols needs a line here.
MEASURES: dict[str, Measure] = {
    "mig": Measure(("mig",), _mig),
    "sap": Measure(("sap",), _sap),
    "dci": Measure(("dci_disentanglement", "dci_completeness", "dci_informativeness"), _dci),
    "factor_vae": Measure(("factor_vae",), _factor_vae, whole=True),
    "beta_vae": Measure(("beta_vae",), _beta_vae, whole=True),
    "modularity": Measure(("modularity",), _on_bins(m.modularity)),
    "explicitness": Measure(("explicitness",), lambda sample: (m.explicitness(*_pairs(sample)),)),
    "irs": Measure(("irs",), lambda sample: (m.irs(sample.codes, sample.factors),)),
    "mig_sup": Measure(("mig_sup",), _on_bins(m.mig_sup)),
    "dcimig": Measure(("dcimig",), _on_bins(m.dcimig)),
    "infomec": Measure(("infom", "infoe", "infoc"), lambda sample: tuple(m.infomec(sample.codes, sample.factors)[:3])),
    "total_correlation": Measure(
        ("total_correlation",), lambda sample: (m.total_correlation(sample.codes),), labelled=False
    ),
    "mutual_information": Measure(
        ("mutual_information",),
        lambda sample: (m.mean_mutual_information(sample.codes, sample.protocol.bins),),
        labelled=False,
    ),
}


class CodeScore(Score):
    """A score on the codes and factors of items, under a protocol.

    It needs nothing else, so any epoch can have it.
    """

    protocol: Protocol

    @abstractmethod
    def of_source(self, source: Source) -> Mapping[str, float]:
        """Measure a value for each of ``names``."""

    @abstractmethod
    def references(self, trained: Trained, split: str) -> Mapping[str, Reference]:
        """Measure floor and ceiling of those of ``names`` that have them."""


@dataclass(frozen=True)
class Disentanglement(CodeScore):
    """Metrics on codes and factors under a protocol.

    metrics: by default all that the protocol defines and the data allows.
    protocol: such as ``fast`` or ``dlib``.

    Names begin with the protocol's, such as test/dlib.mig; only those of the protocol ``epoch`` have no such prefix.
    A protocol that draws from all images is measured as test/ only, so its metrics cannot be searched.
    """

    metrics: tuple[str, ...] = ()
    protocol: Protocol = fast

    def __post_init__(self) -> None:
        if not isinstance(self.protocol, Protocol):
            raise UserError(f"protocol must be a Protocol, such as protocols.dlib, but got {self.protocol!r}")
        for metric in self.metrics:
            if metric not in self.protocol.metrics:
                known = nearest(metric, self.protocol.metrics)
                raise UserError(f"the protocol {self.protocol.name} does not define the metric {metric!r}: {known}")

    @property
    def splits(self) -> tuple[str, ...]:
        return ("test",) if self.protocol.draws == "all" else ("val", "test")

    @property
    def chosen(self) -> tuple[str, ...]:
        """Metrics that are measured: ``metrics``, or all of the protocol."""
        return self.metrics or self.protocol.metrics

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.protocol.prefix}{name}" for metric in self.chosen for name in MEASURES[metric].names)

    @property
    def needs(self) -> type[Code]:
        """Kind of code: a diagonal Gaussian where the protocol reads posteriors."""
        return GaussianCode if self.protocol.posterior else Code

    @property
    def _whole(self) -> bool:
        return self.protocol.mig == "posteriors" or any(MEASURES[metric].whole for metric in self.chosen)

    def check(self, data: Dataset, objective: Objective) -> None:
        counted = {n: s for n, s in data.factor_sizes.items() if s > 1 and self.protocol.counts(n)}
        labelled = [metric for metric in self.chosen if MEASURES[metric].labelled]
        if labelled and not counted:
            raise UserError(
                f"{', '.join(labelled)} need ground-truth factors that vary, as Sprites() has, but got {data}"
            )
        if self.protocol.posterior and not objective.variational:
            raise UserError(
                f"the protocol {self.protocol.name} needs posteriors, as VAE() has, but got {objective}; "
                'write replace(..., codes="mean", mig="binned")'
            )

    def measure(self, trained: Trained, split: str) -> Mapping[str, float]:
        return self.of_source(trained.source(None if self.protocol.draws == "all" else split))

    def of_source(self, source: Source) -> Mapping[str, float]:
        sample = Sample(source, self.protocol, self._whole)
        found: dict[str, float] = {}
        for metric in self.chosen:
            measure = MEASURES[metric]
            found |= dict(zip(measure.names, measure.of(sample), strict=True))
        return {f"{self.protocol.prefix}{name}": float(value) for name, value in found.items()}

    def references(self, trained: Trained, split: str) -> Mapping[str, Reference]:
        """Measure floor and ceiling of the labelled metrics.

        They are computed once for a data set and a code size, and then read from ``trained.cache``. A floor is the
        mean of several draws of noise. Splits of equal size share it.
        """
        labelled = [metric for metric in self.chosen if MEASURES[metric].labelled]
        if not labelled:
            return {}
        source = trained.source(None if self.protocol.draws == "all" else split)
        alike = self.protocol.draws == "split" and len(trained.index("val")) == len(trained.index("test"))
        beside = trained.source("test") if alike else source
        size, perfect = trained.model.latent_dim, _perfect(source, self.protocol)
        found: dict[str, Reference] = {}
        for one in (Disentanglement((metric,), self.protocol) for metric in labelled):
            floors = one._kept(_key(f"{size} of noise", beside), trained.cache, partial(one._floors, beside, size))
            (ceilings,) = one._kept(_key("perfect", source), trained.cache, partial(one._ceilings, perfect))
            for name, each, ceiling in zip(one.names, zip(*floors, strict=True), ceilings, strict=True):
                found[name] = Reference(float(np.mean(each)), ceiling, float(np.std(each, ddof=1)))
        return found

    def _floors(self, source: Source, size: int) -> list[list[float]]:
        """Score codes of noise, as often as their mean needs.

        Gives a row for each draw, which draws codes, points and votes.
        """
        rows: list[list[float]] = []
        while len(rows) < FEWEST or (len(rows) < MOST and _error(rows) > NEAR):
            drawn = replace(self, protocol=replace(self.protocol, seed=self.protocol.seed + len(rows)))
            noise = _noise(source, size, self.protocol.posterior, len(rows))
            rows.append(list(drawn.of_source(noise).values()))
        return rows

    def _ceilings(self, perfect: Source) -> list[list[float]]:
        return [list(self.of_source(perfect).values())]

    def _kept(
        self, made: tuple[object, ...], cache: Path | None, measure: Callable[[], list[list[float]]]
    ) -> list[list[float]]:
        """Read rows of values from the cache; measure them first where it has none.

        made: what the scored codes are made of.
        """
        key = hashlib.sha256(repr((self.metrics, self.protocol.hash, made)).encode()).hexdigest()[:24]
        path = None if cache is None else cache / "references" / f"{key}.json"
        if path is None or not _writable(path.parent):
            return measure()
        with shared_files(), FileLock(f"{path}.lock"):
            if not path.exists():
                # Under the lock, so one name is enough: what a process that was killed has left is replaced.
                unfinished = path.with_suffix(".tmp")
                unfinished.write_text(json.dumps(measure()))
                unfinished.replace(path)
            # A protocol under another name has the same values, so they are read by place.
            rows: list[list[float]] = json.loads(path.read_text())
            return rows


def _error(rows: list[list[float]]) -> float:
    """Compute the largest standard error of the means of the columns."""
    return float(np.std(rows, axis=0, ddof=1).max() / len(rows) ** 0.5)


def _writable(folder: Path) -> bool:
    try:
        with shared_files():
            folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _key(kind: str, source: Source) -> tuple[object, ...]:
    assert source.factors is not None
    return kind, source.names, source.size, hashlib.sha256(source.factors.tobytes()).hexdigest()


def _noise(source: Source, latent_dim: int, posterior: bool, seed: int) -> Source:
    """Make as many codes of noise as a model has, or posteriors equal to the prior."""

    def encode(places: Places) -> Posterior:
        if posterior:
            nothing = np.zeros((len(places), latent_dim), np.float32)
            return Posterior(nothing, nothing)
        noise = np.random.default_rng(seed).standard_normal((source.size, latent_dim), np.float32)
        return Posterior(noise[places])

    return source._replace(encode=encode)


def _perfect(source: Source, protocol: Protocol) -> Source:
    """Make a code for each counted factor that varies: its standardised value.

    Its posterior is far narrower than the step from one value to the next.
    """
    assert source.factors is not None
    counted = np.array([protocol.counts(name) for name in source.names])
    factors = source.factors[:, counted & (source.factors.min(0) < source.factors.max(0))]
    deviation = factors.std(0)
    codes = ((factors - factors.mean(0)) / deviation).astype(np.float32)
    narrow = (2 * np.log(NARROW / deviation)).astype(np.float32)

    def encode(places: Places) -> Posterior:
        return Posterior(codes[places], np.broadcast_to(narrow, (len(places), len(narrow))))

    return source._replace(encode=encode)
