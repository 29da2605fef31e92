"""The training loop: a configuration in, the metrics of each epoch out, all replicas of a trial at once."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from aesearch.datasets import Data, Dataset
from aesearch.errors import UserError, nearest
from aesearch.metrics import active_units, mig, sap
from aesearch.networks import Autoencoder, Network, Output
from aesearch.objectives import Objective, bernoulli_nll, kl, pixels, reconstruction

EVAL_BATCH = 1000
PRECISIONS = ("float32", "bfloat16")
MOST_SCORED = 10_000  # points for the metrics on codes and factors, as in disentanglement_lib

Values = tuple[float, ...]


@dataclass(frozen=True)
class TrainConfig:
    """One point of a search space: everything that decides what is trained, for ``replicas`` seeds at once.

    noise_factor: standard deviation of the Gaussian noise that is added to the input (pixels in [0, 1]) before
    encoding; the target stays clean. learning_rate: of Adam. precision: of the matrix products in training; bfloat16
    pays on GPUs and on CPUs that have its instructions, and metrics are always measured in float32. seed: replica r
    draws its weights, order of images and noise from (seed, r), so that trials of one seed compare replica by replica.
    """

    data: Dataset
    network: Network
    latent_dim: int
    objective: Objective
    noise_factor: float = 0.0
    replicas: int = 3
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        kinds = {"data": Dataset, "network": Network, "objective": Objective}
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise UserError(f"{name} must be a {kind.__name__}, such as MLP(), but got {getattr(self, name)!r}")
        for name in ("latent_dim", "replicas", "epochs", "batch_size"):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) >= 1):
                raise UserError(f"{name} must be a whole number of at least 1, but got {name}={getattr(self, name)!r}")
        if not 0 <= self.noise_factor < float("inf"):
            raise UserError(f"noise_factor must be at least 0, but got noise_factor={self.noise_factor}")
        if not 0 < self.learning_rate < float("inf"):
            raise UserError(f"learning_rate must be above 0, but got learning_rate={self.learning_rate}")
        if self.precision not in PRECISIONS:
            raise UserError(f"unknown precision {self.precision!r}: {nearest(self.precision, PRECISIONS)}")

    def build(self) -> Autoencoder:
        """The untrained model, with weights from torch's global generator."""
        return Autoencoder(self.network, self.data.shape, self.latent_dim, self.objective.variational)

    def metric_names(self) -> list[str]:
        """The names, without their split, of the metrics that this configuration yields."""
        names = ["loss", "mse", "active_units"]
        if self.objective.likelihood == "bernoulli":
            names.append("bce")
        if self.objective.variational:
            names += ["elbo", "kl"]
        if self.noise_factor > 0:
            names.append("denoising_mse")
        if any(size > 1 for size in self.data.factor_sizes.values()):
            names += ["mig", "sap"]
        return names


@dataclass(frozen=True)
class Result:
    """What a finished trial leaves. The weights are those of each replica's epoch with the lowest val/loss.

    metrics: val/* and test/* of those weights, a value per replica. epochs: the selected epoch of each replica.
    weights: parameters and buffers by name, each (R, ...), on the CPU.
    """

    metrics: Mapping[str, Values]
    epochs: tuple[int, ...]
    weights: Mapping[str, Tensor]


@dataclass(frozen=True)
class Epoch:
    """One epoch of a trial, counted from 1: its metrics (a value per replica) and what it cost in seconds.

    result is set on the last epoch of a training.
    """

    number: int
    metrics: Mapping[str, Values]
    train_seconds: float
    metric_seconds: float
    result: Result | None = None


class NonFiniteLossError(ArithmeticError):
    """A replica's loss became NaN or infinite, so its trial cannot be finished."""


def train(
    config: TrainConfig, data: Data, device: torch.device | str = "cpu", vmapped: bool | None = None
) -> Iterator[Epoch]:
    """Train all replicas of ``config`` on ``data``, yielding after each epoch.

    On a GPU one vmapped program trains all replicas; on a CPU each has its own (vmap costs 1.3 to 1.8 times
    as much there), with the same numbers. Raises NonFiniteLossError at the end of the epoch in which a loss diverged.
    """
    device = torch.device(device)
    together = device.type == "cuda" if vmapped is None else vmapped
    with warnings.catch_warnings():
        # A memory map is read-only, and so is what the loop does with it.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        images = torch.from_numpy(np.asarray(data.images)).to(device)
    seeds = [_seed(config.seed, replica) for replica in range(config.replicas)]
    groups = [seeds] if together else [[seed] for seed in seeds]
    cohorts = [Cohort(config, images, group) for group in groups]
    for number in range(1, config.epochs + 1):
        started = time.perf_counter()
        losses = _joined([{"train/loss": cohort.train_epoch(data.train)} for cohort in cohorts])
        for replica, loss in enumerate(losses["train/loss"]):
            if not np.isfinite(loss):
                raise NonFiniteLossError(f"the training loss of replica {replica} is {loss} in epoch {number}")
        trained = time.perf_counter()
        metrics = losses | _joined([cohort.score("val", data.val, data.factors) for cohort in cohorts])
        for cohort, val_losses in zip(cohorts, _split(metrics["val/loss"], groups), strict=True):
            cohort.keep_best(number, val_losses)
        result = _result(cohorts, data) if number == config.epochs else None
        yield Epoch(number, metrics, trained - started, time.perf_counter() - trained, result)


def _seed(seed: int, replica: int) -> int:
    return int(np.random.SeedSequence((seed, replica)).generate_state(1, np.uint64)[0] >> 1)


def _joined(parts: list[dict[str, Values]]) -> dict[str, Values]:
    """The values of all cohorts, in the order of the replicas."""
    return {name: tuple(value for part in parts for value in part[name]) for name in parts[0]}


def _split(values: Values, groups: list[list[int]]) -> Iterator[Values]:
    ends = np.cumsum([len(group) for group in groups])
    return (values[end - len(group) : end] for end, group in zip(ends, groups, strict=True))


def _result(cohorts: list["Cohort"], data: Data) -> Result:
    for cohort in cohorts:
        cohort.restore_best()
    metrics = _joined(
        [
            cohort.score("val", data.val, data.factors) | cohort.score("test", data.test, data.factors)
            for cohort in cohorts
        ]
    )
    states = [cohort.replicas.state() for cohort in cohorts]
    weights = {name: torch.cat([state[name] for state in states]).cpu() for name in states[0]}
    return Result(metrics, tuple(epoch for cohort in cohorts for epoch in cohort.best_epochs), weights)


class Replicas:
    """R models of one shape as one callable: a plain call for R = 1, one vmapped program for more."""

    def __init__(self, models: list[nn.Module]) -> None:
        self.count = len(models)
        self.model = models[0]
        if self.count > 1:
            self.params, self.buffers = stack_module_state(models)
            self.model = deepcopy(self.model).to("meta")

    def __call__(self, function: Callable[..., Any], *args: Tensor) -> Any:
        """``function(model, *args)`` for every replica; args and results have a leading axis R."""
        if self.count == 1:
            outputs = function(self.model, *(arg[0] for arg in args))
            return torch.utils._pytree.tree_map(lambda tensor: tensor[None], outputs)

        def one(params: dict[str, Tensor], buffers: dict[str, Tensor], *args: Tensor) -> Any:
            return function(lambda *inputs: functional_call(self.model, (params, buffers), inputs), *args)

        return vmap(one, randomness="different")(self.params, self.buffers, *args)

    def parameters(self) -> list[Tensor]:
        return list(self.model.parameters()) if self.count == 1 else list(self.params.values())

    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers, each (R, ...), sharing memory with the models."""
        if self.count == 1:
            return {name: tensor.detach()[None] for name, tensor in self.model.state_dict().items()}
        return {name: tensor.detach() for name, tensor in (self.params | self.buffers).items()}


class Cohort:
    """Replicas that train in one program, with their optimizer, random generators and best weights so far."""

    def __init__(self, config: TrainConfig, images: Tensor, seeds: list[int]) -> None:
        self.config = config
        self.images = images
        self.seeds = seeds
        self.generators = [torch.Generator(images.device).manual_seed(seed) for seed in seeds]
        self.replicas = Replicas([self._build(seed) for seed in seeds])
        self.optimizer = torch.optim.Adam(self.replicas.parameters(), lr=config.learning_rate, fused=True)
        self.best_losses = [float("inf")] * len(seeds)
        self.best_epochs = [0] * len(seeds)
        self.best = {name: tensor.clone() for name, tensor in self.replicas.state().items()}

    def _build(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.config.build().to(self.images.device)

    def train_epoch(self, index: NDArray[np.int64]) -> Values:
        """One pass over ``index`` in an order of each replica's own; the mean training loss of each replica."""
        self.replicas.model.train()
        device = self.images.device
        chosen = torch.from_numpy(index).to(device)
        orders = torch.stack([chosen[torch.randperm(len(index), generator=g, device=device)] for g in self.generators])
        total = torch.zeros(len(self.seeds), device=device)
        for batch in orders.split(self.config.batch_size, dim=1):
            x = self._images(batch)
            inputs = [self._corrupt(x, self.generators), x, self._code_noise(x, 1, self.generators)]
            losses = self.replicas(self._loss, *inputs)
            self.optimizer.zero_grad()
            losses.sum().backward()
            self.optimizer.step()
            total += losses.detach() * batch.shape[1]
        return tuple((total / len(index)).tolist())

    def _loss(self, model: Callable[..., Output], corrupted: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        low = self.config.precision == "bfloat16"
        with torch.autocast(x.device.type, torch.bfloat16, enabled=low):
            output = model(corrupted, noise)
        if low:
            log_var = None if output.log_var is None else output.log_var.float()
            output = Output(output.mean.float(), log_var, output.logits.float())
        return self.config.objective.loss(output, x).mean()

    @torch.no_grad()
    def score(self, split: str, index: NDArray[np.int64], factors: NDArray[np.int64] | None) -> dict[str, Values]:
        """All metrics of the replicas on the images of ``index``, named ``split/metric``, a value per replica.

        Images go in clean, except for the loss and denoising_mse of a denoising trial. elbo and loss decode one
        code sample per image, mse and bce the code mean. The noise is the same at every call, so that epochs compare.
        """
        self.replicas.model.eval()
        generators = [torch.Generator(self.images.device).manual_seed(seed + 1) for seed in self.seeds]
        sums: dict[str, Tensor] = {}
        means: list[Tensor] = []
        for batch in torch.from_numpy(index).to(self.images.device).split(EVAL_BATCH):
            x = self._images(batch.expand(len(self.seeds), -1))
            noise = self._code_noise(x, 2, generators)
            noise[:, 1] = 0
            terms, batch_means = self.replicas(self._terms, self._corrupt(x, generators), x, noise)
            for name, values in terms.items():
                sums[name] = sums.get(name, 0) + values
            means.append(batch_means)
        metrics = {name: tuple((total / len(index)).tolist()) for name, total in sums.items()}
        codes = torch.cat(means, dim=1).cpu().numpy()
        metrics |= self._code_metrics(codes, None if factors is None else factors[index])
        return {f"{split}/{name}": metrics[name] for name in self.config.metric_names()}

    def _terms(
        self, model: Callable[..., Output], corrupted: Tensor, x: Tensor, noise: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Sums over a batch of what is a mean per image, and the code means (B, L)."""
        objective = self.config.objective
        output = model(x, noise)
        at_mean = output.logits[1]
        terms = {"mse": _mse(objective, at_mean, x)}
        if objective.likelihood == "bernoulli":
            terms["bce"] = bernoulli_nll(at_mean, x)
        if objective.variational:
            terms["kl"] = kl(output)
            terms["elbo"] = -(reconstruction(objective, output, x) + terms["kl"])
        if self.config.noise_factor > 0:
            denoised = model(corrupted, noise)
            terms["denoising_mse"] = _mse(objective, denoised.logits[1], x)
            terms["loss"] = objective.loss(denoised, x)
        else:
            terms["loss"] = objective.loss(output, x)
        return {name: values.sum() for name, values in terms.items()}, output.mean

    @staticmethod
    def _code_metrics(codes: NDArray[np.float32], factors: NDArray[np.int64] | None) -> dict[str, Values]:
        """Metrics on the code means (R, N, L) and, where they are known and vary, the factors (N, K)."""
        metrics = {"active_units": tuple(float(active_units(of_one)) for of_one in codes)}
        if factors is not None:
            scored = codes[:, :MOST_SCORED].astype(np.float64)
            known = factors[:MOST_SCORED]
            if (known.min(0) < known.max(0)).any() and np.isfinite(scored).all():
                metrics["mig"] = tuple(mig(of_one, known) for of_one in scored)
                metrics["sap"] = tuple(sap(of_one, known) for of_one in scored)
        return metrics

    def keep_best(self, epoch: int, val_losses: Values) -> None:
        """Remember the weights of each replica whose val loss is its lowest so far."""
        for r, loss in enumerate(val_losses):
            if loss < self.best_losses[r]:
                self.best_losses[r], self.best_epochs[r] = loss, epoch
                for name, tensor in self.replicas.state().items():
                    self.best[name][r].copy_(tensor[r])

    def restore_best(self) -> None:
        """Put the remembered weights back into the models."""
        for name, tensor in self.replicas.state().items():
            tensor.copy_(self.best[name])

    def _images(self, index: Tensor) -> Tensor:
        """Images (R, B, C, H, W) in [0, 1] for indices (R, B)."""
        chosen = self.images.index_select(0, index.flatten())
        return chosen.view(*index.shape, *chosen.shape[1:]).to(torch.float32).div_(255)

    def _corrupt(self, x: Tensor, generators: list[torch.Generator]) -> Tensor:
        if self.config.noise_factor == 0:
            return x
        return x + self.config.noise_factor * _normal(x.shape[1:], x.device, generators)

    def _code_noise(self, x: Tensor, samples: int, generators: list[torch.Generator]) -> Tensor:
        shape = torch.Size((samples, x.shape[1], self.config.latent_dim))
        return _normal(shape, x.device, generators)


def _normal(shape: torch.Size, device: torch.device, generators: list[torch.Generator]) -> Tensor:
    """Standard normal (R, *shape), each replica's part from its own generator."""
    return torch.stack([torch.randn(shape, generator=generator, device=device) for generator in generators])


def _mse(objective: Objective, logits: Tensor, x: Tensor) -> Tensor:
    """Squared error per pixel of each image, (B,)."""
    return ((pixels(logits, objective.likelihood) - x) ** 2).flatten(1).mean(1)
