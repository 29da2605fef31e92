"""Protocols: how metrics are estimated; values of two are never compared."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from aesearch.errors import UserError, nearest
from aesearch.metrics.registry import KINDS

# Raised whenever the answers of an estimator change, and part of every protocol's hash.
ESTIMATORS = 2
# The version in which the answers of each metric changed last; 1 where it is not named. Studies of others go on.
# 2: DCI's trees are cut between all values.
CHANGED: Mapping[str, int] = {"dci": 2}

# What the ready protocols define.
METRICS = (
    "mig",
    "sap",
    "dci",
    "factor_vae",
    "beta_vae",
    "modularity",
    "explicitness",
    "irs",
    "mig_sup",
    "dcimig",
    "infomec",
    "total_correlation",
    "mutual_information",
)
# The fields that decide which codes and factors any metric gets, and those that the estimator of each metric reads. A
# metric that is not named here counts as one that reads all.
DRAWN = ("draws", "points", "test_points", "codes", "without", "seed")
READ: Mapping[str, tuple[str, ...]] = {
    "mig": ("bins", "mig", "samples", "images"),
    "sap": ("sap", "unordered"),
    "dci": ("regressor",),
    "factor_vae": ("votes", "test_votes", "vote_size", "active"),
    "beta_vae": ("votes", "test_votes", "pair_size", "pairs"),
    "modularity": ("bins",),
    "explicitness": (),
    "irs": (),
    "mig_sup": ("bins",),
    "dcimig": ("bins",),
    "infomec": (),
    "total_correlation": (),
    "mutual_information": ("bins",),
}
# The protocols of older figures keep their hashes: the fields of 0.1.0 are always in the hash, one that was added since
# only where it differs from its default.
HASHED = (
    *("draws", "points", "test_points", "codes", "without", "bins", "mig", "samples", "images", "sap", "unordered"),
    *("regressor", "votes", "test_votes", "vote_size", "pair_size", "pairs", "active", "seed"),
)
# What a protocol can define.
MEASURES = frozenset(kind.measure for kind in KINDS.values() if kind.measure)
REGRESSORS = ("boosted_trees", "sklearn_boosted_trees", "random_forest", "lasso")


@dataclass(frozen=True)
class Protocol:
    """Protocol: how codes and factors are drawn, and how metrics are estimated.

    Write a variant as ``replace(dlib, name=...)``.
    Write a variant as ``replace(dlib, name=...)``.
    draws: "all" draws points with replacement from all images, whatever their split, so that each combination of the
    factors is equally likely; "split" without replacement from the split that is measured, as many as it has at most.
    points, test_points: to fit on, and to judge on; with no test_points, the former are judged on themselves.
    codes: posterior means, or one sample of the posterior per image. without: factors that are left out.
    bins: of equal width for mutual information. mig: from bins, or from ``samples`` of the posteriors in mixtures of
    ``images`` (None: all). sap: squared correlations, or linear SVMs; ``unordered`` factors always by SVMs.
    regressor: of DCI. votes, test_votes: of the FactorVAE and BetaVAE scores, of ``vote_size`` images (FactorVAE)
    or pairs (BetaVAE, ``pair_size``) each, from all images that ``draws`` names; with no test_votes judged on
    themselves. pairs: whether each pair of BetaVAE has a value of the factor to itself, or all of a vote the same.
    active: least deviation of a code that votes. metrics: those that the protocol defines.
    """

    name: str
    metrics: tuple[str, ...] = METRICS
    draws: Literal["all", "split"] = "all"
    points: int = 10_000
    test_points: int = 5_000
    codes: Literal["mean", "sampled"] = "mean"
    without: tuple[str, ...] = ()
    bins: int = 20
    mig: Literal["binned", "posteriors"] = "binned"
    samples: int = 10_000
    images: int | None = 10_000
    sap: Literal["r2", "svm"] = "svm"
    unordered: tuple[str, ...] = ()
    regressor: Literal["boosted_trees", "sklearn_boosted_trees", "random_forest", "lasso"] = "boosted_trees"
    votes: int = 10_000
    test_votes: int = 5_000
    vote_size: int = 64
    pair_size: int = 64
    pairs: Literal["own_value", "one_value"] = "own_value"
    active: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("metrics", "without", "unordered"):
            names = getattr(self, field)
            if not (isinstance(names, tuple) and all(isinstance(one, str) for one in names)):
                raise UserError(f"{field} must be a tuple of names, such as ('shape',), but got {field}={names!r}")
        if not isinstance(self.name, str) or not self.name.replace("_", "").replace("-", "").isalnum():
            raise UserError(f"a protocol's name must be made of letters, digits, '_' and '-', but got {self.name!r}")
        for metric in self.metrics:
            if metric not in MEASURES:
                raise UserError(f"unknown metric {metric!r}: {nearest(metric, MEASURES)}")
        kinds = {
            "draws": ("all", "split"),
            "codes": ("mean", "sampled"),
            "mig": ("binned", "posteriors"),
            "sap": ("r2", "svm"),
            "regressor": REGRESSORS,
            "pairs": ("own_value", "one_value"),
        }
        for field, known in kinds.items():
            if getattr(self, field) not in known:
                raise UserError(
                    f"unknown {field} {getattr(self, field)!r}: {nearest(str(getattr(self, field)), known)}"
                )
        least = {"points": 2, "test_points": 0, "bins": 2, "samples": 1, "votes": 1, "test_votes": 0, "seed": 0}
        least |= {"vote_size": 2, "pair_size": 1} | ({} if self.images is None else {"images": 1})
        for field, low in least.items():
            value = getattr(self, field)
            if not (isinstance(value, int) and value >= low):
                raise UserError(f"{field} must be a whole number of at least {low}, but got {field}={value!r}")
        if not (isinstance(self.active, int | float) and 0 <= self.active < float("inf")):
            raise UserError(f"active must be a deviation of at least 0, but got active={self.active!r}")

    @property
    def hash(self) -> str:
        """Eight hexadecimal digits that identify the estimates.

        They change with the estimators and with every field but the name and the set of metrics.
        """
        return self.hash_of(ESTIMATORS)

    def hash_of(self, version: int) -> str:
        """Compute the hash that the protocol has with the estimators of a version."""
        defaults = {each.name: each.default for each in fields(self)}
        hashed = {
            name: value
            for name, value in asdict(self).items()
            if name in HASHED or (name not in ("name", "metrics") and value != defaults[name])
        }
        hashed["active"] = float(self.active)  # 0 and 0.0 are equal, but written differently
        return hashlib.sha256(repr((version, sorted(hashed.items()))).encode()).hexdigest()[:8]

    def decides(self, metric: str) -> tuple[str, ...]:
        """Name the fields that decide the values of a metric."""
        every = tuple(each.name for each in fields(self) if each.name not in ("name", "metrics"))
        return DRAWN + READ[metric] if metric in READ else every

    @property
    def posterior(self) -> bool:
        """True where codes must have a posterior."""
        return self.codes == "sampled" or self.mig == "posteriors"

    def counts(self, factor: str) -> bool:
        """Tell whether a factor of that name counts."""
        return factor not in self.without

    @property
    def prefix(self) -> str:
        """Beginning of its metrics' names; empty for the protocol of every epoch."""
        return "" if self.name == epoch.name else f"{self.name}."

    def describe(self) -> dict[str, Any]:
        """All that a reader needs to repeat it, as plain JSON."""
        return asdict(self) | {"estimators": ESTIMATORS, "hash": self.hash}


# What every epoch of a training is judged by: the held-out images of val, at most 10,000.
epoch = Protocol("epoch", draws="split", test_points=0, sap="r2")

# The end of a trial within a second or two: 2,000 held-out images to fit on and 1,000 to judge.
fast = Protocol("fast", draws="split", points=2_000, test_points=1_000, sap="r2", votes=2_000, test_votes=1_000)

# disentanglement_lib's study. Locatello et al., "Challenging Common Assumptions in the Unsupervised Learning of
# Disentangled Representations", ICML 2019. Its metrics, and the newer ones on the same points.
dlib = Protocol("dlib")

# Chen et al., "Isolating Sources of Disentanglement in VAEs", NeurIPS 2018: sampled codes, dSprites' shape left out.
# There a mixture is of all images, which takes an hour on a CPU: write replace(chen, name="chen-all", images=None).
chen = Protocol("chen", metrics=("mig",), codes="sampled", mig="posteriors", without=("shape",))

# Lin, Thekumparampil, Fanti, Oh, "InfoGAN-CR and ModelCentrality", ICML 2020: a tenth of dSprites, judged on itself.
infogan_cr = Protocol(
    "infogan_cr",
    metrics=("mig", "sap", "dci", "factor_vae", "beta_vae", "modularity", "explicitness"),
    points=73_728,
    test_points=0,
    sap="r2",
    unordered=("shape",),
    regressor="lasso",
    votes=500,
    test_votes=0,
    vote_size=100,
    pair_size=50,
    pairs="one_value",
    active=0.0,
)

READY = {protocol.name: protocol for protocol in (epoch, fast, dlib, chen, infogan_cr)}


def estimator(metric: str) -> int:
    """Return the version in which the answers of a metric's estimator changed last."""
    return CHANGED.get(metric, 1)


def ready(name: str) -> Protocol:
    """One of the ready protocols. Raises UserError for another name."""
    if name not in READY:
        raise UserError(f"unknown protocol {name!r}: {nearest(name, READY)}")
    return READY[name]
