"""Configuration of a trial."""

from dataclasses import dataclass
from typing import Literal

from aesearch.autoencoder import Autoencoder
from aesearch.bottlenecks import Bottleneck, Gaussian
from aesearch.corruptions import Corruption, GaussianNoise
from aesearch.datasets import Dataset, is_picture
from aesearch.errors import UserError, nearest
from aesearch.networks import Network
from aesearch.objectives import FAMILIES, Objective, Sparse, Warmup
from aesearch.protocols import Protocol, epoch
from aesearch.scores import CodeScore, Comparison, Disentanglement, Score, check_declared

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class TrainConfig:
    """Configuration of a trial: one point of the search space.

    data: the data set.
    network: the layers of encoder and decoder.
    latent_dim: the length of the code; with a codebook, of its vectors.
    objective: the training loss.
    bottleneck: the kind of code; by default Gaussian() for variational objectives, and Plain() for others.
    noise_factor: the standard deviation of Gaussian noise, added to the input (pixels in [0, 1]) before encoding; the
    target stays clean.
    corruption: another corruption of the input, instead of noise_factor.
    conditional: True gives the label to encoder and decoder.
    warmup: the schedule of the regulariser's weight; None keeps it at 1.
    replicas: the number of seeds, all trained at once.
    epochs: passes over the train split.
    batch_size: images of each replica in a step.
    learning_rate: that of Adam.
    precision: that of matrix products in training. bfloat16 is faster on GPUs, and on CPUs with instructions for it;
    metrics are always measured in float32.
    seed: replica r draws its weights, order of images and noise from (seed, r), so that trials with the same seed can
    be compared replica by replica.
    monitors: cheap metrics on codes and factors, measured at each epoch and at the end; by default mig and sap where
    the data has factors.
    scores: further metrics, measured once, on the kept weights.
    Raises UserError for values out of range, and for parts that do not combine.
    """

    data: Dataset
    network: Network
    latent_dim: int
    objective: Objective
    bottleneck: Bottleneck | None = None
    noise_factor: float = 0.0
    corruption: Corruption | None = None
    conditional: bool = False
    warmup: Warmup | None = None
    replicas: int = 3
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    monitors: tuple[CodeScore, ...] | None = None
    scores: tuple[Score | Comparison, ...] = ()

    def __post_init__(self) -> None:
        self._check_kinds()
        if not isinstance(self.replicas, int):
            raise UserError(
                f"replicas must be a whole number of at least 1, but got replicas={self.replicas!r}; "
                f"a study may have another rule: write Study(replicas={self.replicas!r})"
            )
        for name in ("latent_dim", "epochs", "batch_size", "replicas"):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) >= 1):
                raise UserError(f"{name} must be a whole number of at least 1, but got {name}={getattr(self, name)!r}")
        if not 0 <= self.noise_factor < float("inf"):
            raise UserError(f"noise_factor must be at least 0, but got noise_factor={self.noise_factor}")
        if not 0 < self.learning_rate < float("inf"):
            raise UserError(f"learning_rate must be above 0, but got learning_rate={self.learning_rate}")
        if self.precision not in PRECISIONS:
            raise UserError(f"unknown precision {self.precision!r}: {nearest(self.precision, PRECISIONS)}")
        self._check_combination()
        for score in (*self.monitored, *self.scores):
            self.check_score(score)
            check_declared(score)
            if isinstance(score, Comparison) and self.replicas < 2:
                raise UserError(
                    f"{type(score).__name__} compares a fixed number of replicas, but got replicas={self.replicas}; "
                    "write Study(comparisons=...) to compare all models of a study"
                )
        self._check_protocols()

    def check_score(self, score: Score | Comparison) -> None:
        """Raise UserError if a model of this configuration cannot have the ``score``."""
        score.check(self.data, self.objective)
        name = type(score).__name__
        if isinstance(score, CodeScore | Comparison) and self.code.spatial:
            raise UserError(f"{name} needs a code that is one vector, but got {self.code}")
        if isinstance(score, Score) and not issubclass(self.code.makes, score.needs):
            raise UserError(f"{name} needs {score.needs.kind}, as of Gaussian(), but got {self.code} for {score}")

    def _check_kinds(self) -> None:
        kinds = {
            "data": (Dataset, "Sprites()"),
            "network": (Network, "MLP()"),
            "objective": (Objective, "VAE()"),
            "bottleneck": (Bottleneck | None, "VectorQuantized()"),
            "corruption": (Corruption | None, "Masking()"),
            "warmup": (Warmup | None, "Linear()"),
        }
        for name, (kind, example) in kinds.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                expected = getattr(kind, "__name__", name.capitalize())
                raise UserError(f"{name} must be a {expected}, such as {example}, but got {value!r}")
        if not (isinstance(self.scores, tuple) and all(isinstance(s, Score | Comparison) for s in self.scores)):
            raise UserError(f"scores must be a tuple of scores, such as (Probe(),), but got {self.scores!r}")
        if self.monitors is not None and not (
            isinstance(self.monitors, tuple) and all(isinstance(monitor, CodeScore) for monitor in self.monitors)
        ):
            raise UserError(
                f"monitors must be a tuple of scores on codes, such as (Disentanglement(),), but got {self.monitors!r}"
            )

    def _check_combination(self) -> None:
        objective, code = self.objective, self.code
        kind = type(objective).__name__
        if code.variational != objective.variational:
            wanted = "Gaussian()" if objective.variational else "Plain() or VectorQuantized()"
            raise UserError(f"{kind} needs a bottleneck of {wanted}, but got {code}")
        if not issubclass(code.makes, objective.needs):
            usual = f"bottleneck={type(objective.usual_bottleneck).__name__}()"
            others = ", or VAE() or IWAE()" if objective.variational else ""
            raise UserError(f"{kind} needs {objective.needs.kind}, but got {code}; write {usual}{others}")
        if self.noise_factor and self.corruption:
            raise UserError(
                f"noise_factor={self.noise_factor} and corruption={self.corruption} exclude each other; "
                f"write corruption={self.corruption} alone"
            )
        if self.conditional and not self.data.classes:
            raise UserError(f"conditional=True needs data with labels, such as MNIST(), but got {self.data}")
        if FAMILIES[objective.likelihood].pictures and not is_picture(self.data.shape):
            *some, last = (f'"{name}"' for name, family in FAMILIES.items() if not family.pictures)
            raise UserError(f"a table needs likelihood={', '.join(some)} or {last}, but got {objective}")
        if self.network.stateful and objective.differentiates:
            raise UserError(f"{kind} needs a network without batch norm or dropout, but got {self.network}")
        if isinstance(code, Gaussian) and code.prior:
            if not objective.any_prior:
                raise UserError(f"{kind} needs the standard normal prior, but got {code.prior}")
            if self.network.stateful or self.conditional:
                raise UserError(
                    f"{type(code.prior).__name__} needs a network without batch norm or dropout, and no labels, "
                    f"but got {self.network}{' and conditional=True' if self.conditional else ''}"
                )
        if objective.draws and code.spatial:
            raise UserError(f"{kind} needs a code that is one vector, but got {code}")

    def _check_protocols(self) -> None:
        for monitor in self.monitored:
            if monitor.protocol.draws == "all" or monitor.protocol.posterior or "val" not in monitor.splits:
                raise UserError(
                    f"monitors need a protocol that draws the means of a split, such as fast, but got "
                    f"{monitor.protocol.name}; move it to scores"
                )
        names = [name for score in (*self.monitored, *self.scores) for name in score.names]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"{', '.join(twice)} would be measured twice; remove one of the two scores")
        known: dict[str, Protocol] = {}
        for protocol in self.protocols:
            if known.setdefault(protocol.name, protocol).hash != protocol.hash:
                raise UserError(
                    f"two protocols that differ are named {protocol.name!r}; "
                    'write replace(protocol, name="...") for one of them'
                )

    @property
    def monitored(self) -> tuple[CodeScore, ...]:
        """Metrics on codes and factors of each epoch: those given, or the data's default."""
        if self.monitors is not None:
            return self.monitors
        known = any(size > 1 for size in self.data.factor_sizes.values()) and not self.code.spatial
        return (Disentanglement(("mig", "sap"), epoch),) if known else ()

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """Protocols of its monitors and scores."""
        scores = (score for score in (*self.monitored, *self.scores) if isinstance(score, CodeScore))
        return tuple(score.protocol for score in scores)

    @property
    def code(self) -> Bottleneck:
        """Bottleneck: the one given, or the objective's default."""
        return self.bottleneck or self.objective.usual_bottleneck

    @property
    def corrupts(self) -> Corruption | None:
        """Corruption of the input before encoding, or None."""
        return GaussianNoise(self.noise_factor) if self.noise_factor else self.corruption

    def build(self) -> Autoencoder:
        """Build the untrained model, with weights from torch's global generator."""
        classes = len(self.data.classes) if self.conditional else 0
        scale = FAMILIES[self.objective.likelihood].scale
        return Autoencoder(self.network, self.data.shape, self.latent_dim, self.code, classes, scale)

    def metric_names(self) -> list[str]:
        """List the metrics of each epoch, without their split."""
        names = ["loss", "mse", "perplexity" if self.code.spatial else "active_units"]
        if self.objective.likelihood == "bernoulli":
            names.append("bce")
        if self.objective.variational:
            names += ["elbo", "kl"]
        if self.corrupts:
            names += ["denoising_mse"] + (["psnr_gain"] if is_picture(self.data.shape) else [])
        if isinstance(self.objective, Sparse):
            names.append("sparsity")
        return names + [name for monitor in self.monitored for name in monitor.names]

    def _names(self, score: Score | Comparison) -> tuple[str, ...]:
        return score.names_for(self.data, self.objective) if isinstance(score, Score) else score.names

    def final_names(self, split: str) -> list[str]:
        """List all metrics of the kept weights on ``split``, without their split."""
        scored = [name for score in self.scores if split in score.splits for name in self._names(score)]
        return self.metric_names() + scored
