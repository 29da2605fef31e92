"""Cohorts: replicas that train in one program, their metrics and best weights."""

from collections.abc import Iterable
from math import inf
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aesearch.autoencoder import Autoencoder, Output
from aesearch.datasets import Data
from aesearch.metrics.activity import active_units, perplexity, sparsity
from aesearch.objectives import Adversarial, Objective, Step, bernoulli_nll, kl, loss, pixels, reconstruction
from aesearch.scores import Posterior, Source
from aesearch.train.adam import Adam
from aesearch.train.config import TrainConfig
from aesearch.train.engine import Engine
from aesearch.train.feed import Feed, scaled
from aesearch.train.graph import Graphed
from aesearch.train.replicas import Models, Replicas

EVAL_BATCH = 1000

Values = tuple[float, ...]


class Batch(NamedTuple):
    """Batch of images of each replica, with the random numbers drawn for them.

    The first axis R of each part is over the replicas.

    corrupted: (R, B, C, H, W) the images to encode.
    target: (R, B, C, H, W) the clean images.
    noise: (R, S, B, L) standard normal numbers, for the samples of the codes.
    reference: (R, B, L) standard normal numbers, for objectives with ``draws``, else None.
    label: (R, B) int64, for a conditional model, else None.
    """

    corrupted: Tensor
    target: Tensor
    noise: Tensor
    reference: Tensor | None
    label: Tensor | None


class Cohort:
    """Replicas that train in one program.

    It has their optimizers, their random generators and their best weights so far.
    """

    def __init__(self, config: TrainConfig, data: Data, feed: Feed, seeds: list[int], engine: Engine) -> None:
        self.config = config
        self.data = data
        self.feed = feed
        self.seeds = seeds
        self.device = feed.device
        self.labels = torch.from_numpy(data.labels).to(self.device) if config.conditional else None
        self.generators = [torch.Generator(self.device).manual_seed(seed) for seed in seeds]
        built = [self._build(seed) for seed in seeds]
        self.replicas = Replicas({name: [modules[name] for modules in built] for name in built[0]})
        self.optimizers = self._optimizers()
        self.steps = config.epochs * -(-len(data.train) // config.batch_size)
        # Whole steps: a sum of 1 / steps in float32 is 0.9 % too high after a million.
        self.done = torch.zeros((), dtype=torch.int64, device=self.device)
        self.total = torch.zeros(len(seeds), device=self.device)
        self.step = Graphed(self._step, self.generators) if engine.graphed else self._step
        self.best_losses = [inf] * len(seeds)
        self.best_epochs = [0] * len(seeds)
        self.best = {name: tensor.clone() for name, tensor in self.replicas.state("model").items()}

    def _build(self, seed: int) -> dict[str, nn.Module]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            modules: dict[str, nn.Module] = {"model": self.config.build()}
            if isinstance(self.config.objective, Adversarial):
                modules["discriminator"] = self.config.objective.discriminator(self.config.latent_dim)
            return {name: module.to(self.device) for name, module in modules.items()}

    def _optimizers(self) -> dict[str, Adam]:
        optimizers = {"model": Adam(self.replicas.parameters("model"), self.config.learning_rate)}
        objective = self.config.objective
        if isinstance(objective, Adversarial):
            optimizers["discriminator"] = Adam(
                self.replicas.parameters("discriminator"), objective.discriminator_rate, objective.discriminator_betas
            )
        return optimizers

    def train_epoch(self, most_steps: int | None = None) -> Values:
        """Train for one epoch, and give the mean loss of each replica, in nats per image.

        Each replica takes the train split in an order of its own.

        most_steps: a limit of the steps, to measure the cost of one; the losses then have no meaning.
        """
        self.replicas.train(True)
        n = len(self.data.train)
        chosen = torch.from_numpy(self.data.train).to(self.device)
        orders = torch.stack([chosen[torch.randperm(n, generator=g, device=self.device)] for g in self.generators])
        indices = orders.split(self.config.batch_size, dim=1)[:most_steps]
        self.total.zero_()
        for index, raw in zip(indices, self.feed.batches(indices), strict=True):
            self.step(raw, self._label(index))
        return tuple((self.total / n).tolist())

    def _step(self, raw: Tensor, label: Tensor | None) -> None:
        """Update each replica once.

        raw: (R, B, C, H, W) its images, as stored.
        label: (R, B) int64, for a conditional model.
        """
        x = scaled(raw)
        noise = self._code_noise(x, self.config.objective.samples, self.generators)
        reference = self._reference(x, self.generators)
        batch = Batch(self._corrupt(x, self.generators), x, noise, reference, label)
        losses, samples = self.replicas(self._loss, batch)
        self._descend("model", losses)
        self.total += losses.detach() * raw.shape[1]
        self.done += 1
        if isinstance(self.config.objective, Adversarial):
            self._descend("discriminator", self.replicas(self._discriminator_loss, samples.detach(), reference))

    @property
    def progress(self) -> Tensor:
        """The part of the training that is done, (), from 0 to 1."""
        return self.done / self.steps

    def _descend(self, name: str, losses: Tensor) -> None:
        self.optimizers[name].clear()
        losses.sum().backward(inputs=self.replicas.parameters(name))
        self.optimizers[name].step()

    def _loss(self, models: Models, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute the mean loss of one replica on its batch, (), in nats per image.

        The second value is a sample of its codes, (B, L).
        """
        low = self.config.precision == "bfloat16"
        with torch.autocast(batch.target.device.type, torch.bfloat16, enabled=low):
            output = models["model"](batch.corrupted, batch.noise, batch.label)
        if low:
            output = Output(output.code.widened(), output.logits.float())
        warmup, progress = self.config.warmup, self.progress
        weight = warmup.weight(progress) if warmup else 1.0
        step = self._moment(models, batch, progress)
        return loss(self.config.objective, output, batch.target, step, weight).mean(), output.code.samples[0]

    def _discriminator_loss(self, models: Models, samples: Tensor, reference: Tensor) -> Tensor:
        assert isinstance(self.config.objective, Adversarial)
        return self.config.objective.discriminator_loss(models["discriminator"], samples, reference)

    def _moment(self, models: Models, batch: Batch, progress: Tensor) -> Step:
        def encode(x: Tensor) -> Tensor:
            codes: Tensor = models["model"](x, batch.noise[:0], batch.label).code.mean
            return codes

        discriminator = models.get("discriminator")
        return Step(progress, len(self.data.train), batch.reference, encode, batch.corrupted, discriminator)

    @torch.no_grad()
    def score(self, split: str) -> dict[str, Values]:
        """Measure all metrics on a split, a value for each replica.

        Their names are ``split/metric``.
        Only the loss and the denoising metrics are of corrupted images. elbo and loss decode samples of the code, mse
        and bce its mean. To make epochs comparable, the noise is the same at every call, and the loss takes a warm-up
        or a rising capacity at its final value.

        split: "val" or "test".
        """
        self.replicas.train(False)
        index: NDArray[np.int64] = getattr(self.data, split)
        generators = [torch.Generator(self.device).manual_seed(seed + 1) for seed in self.seeds]
        indices = [
            part.expand(len(self.seeds), -1) for part in torch.from_numpy(index).to(self.device).split(EVAL_BATCH)
        ]
        sums: dict[str, Tensor] = {}
        codes: list[Tensor] = []
        for places, raw in zip(indices, self.feed.batches(indices), strict=True):
            x = scaled(raw)
            # Drawing one sample fewer would change the numbers, and all val metrics since the first release with them.
            noise = self._code_noise(x, self.config.objective.samples + 1, generators)[:, :-1]
            corrupted, reference = self._corrupt(x, generators), self._reference(x, generators)
            batch = Batch(corrupted, x, noise, reference, self._label(places))
            terms, batch_codes = self.replicas(self._terms, batch)
            for name, values in terms.items():
                sums[name] = sums.get(name, 0) + values
            codes.append(batch_codes)
        metrics = {name: tuple((total / len(index)).tolist()) for name, total in sums.items()}
        metrics |= self._code_metrics(torch.cat(codes, dim=1).cpu().numpy(), index)
        return {f"{split}/{name}": metrics[name] for name in self.config.metric_names()}

    def _terms(self, models: Models, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Sum each metric over one replica's images; give the codes (B, L), too.

        With a codebook, its entries (B, G) take the place of the codes.
        """
        objective, x = self.config.objective, batch.target
        output = models["model"](x, batch.noise, batch.label, decode_mean=True)
        clean = output.mean_logits
        terms = {"mse": _mse(objective, clean, x)}
        if objective.likelihood == "bernoulli":
            terms["bce"] = bernoulli_nll(clean, x)
        if objective.variational:
            terms["kl"] = kl(output)
            terms["elbo"] = -(reconstruction(objective, output, x) + terms["kl"])
        seen = output
        if self.config.corrupts:
            seen = models["model"](batch.corrupted, batch.noise, batch.label, decode_mean=True)
            terms["denoising_mse"] = _mse(objective, seen.mean_logits, x)
            noisy = ((batch.corrupted.clamp(0, 1) - x) ** 2).flatten(1).mean(1)
            terms["psnr_gain"] = 10 * torch.log10((noisy + 1e-12) / (terms["denoising_mse"] + 1e-12))
        step = self._moment(models, batch, torch.ones_like(self.progress))
        terms["loss"] = loss(objective, seen, x, step)
        codes = output.code.mean if output.code.indices is None else output.code.indices
        return {name: values.sum() for name, values in terms.items()}, codes

    def _code_metrics(self, codes: NDArray[Any], index: NDArray[np.int64]) -> dict[str, Values]:
        """Measure the metrics on codes.

        codes: (R, N, L) of the images at ``index``; with a codebook, its entries (R, N, G).
        """
        if self.config.code.spatial:
            return {"perplexity": tuple(perplexity(of_one) for of_one in codes)}
        metrics = {
            "active_units": tuple(float(active_units(of_one)) for of_one in codes),
            "sparsity": tuple(sparsity(of_one) for of_one in codes),
        }
        for monitor in self.config.monitored:
            found = [monitor.of_source(self._source(of_one, index)) for of_one in codes]
            metrics |= {name: tuple(values[name] for values in found) for name in monitor.names}
        return metrics

    def _source(self, codes: NDArray[np.floating], index: NDArray[np.int64]) -> Source:
        """Make the source from which a monitor draws.

        codes: (N, L) of the images at ``index``, already encoded.
        """

        def encode(places: NDArray[np.int64]) -> Posterior:
            return Posterior(codes[places])

        factors = None if self.data.factors is None else self.data.factors[index]
        return Source(encode, len(index), factors, tuple(self.config.data.factor_sizes))

    def keep_best(self, epoch: int, val_losses: Values) -> None:
        """Remember each replica's weights if its val loss is its lowest so far.

        Where losses of two epochs cannot be compared, the newest weights are remembered.
        """
        for r, value in enumerate(val_losses):
            # A diverged loss of -inf would stay the lowest for ever, so only finite ones count.
            if -inf < value < self.best_losses[r] or not self.config.objective.comparable:
                self.best_losses[r], self.best_epochs[r] = value, epoch
                for name, tensor in self.replicas.state("model").items():
                    self.best[name][r].copy_(tensor[r])

    def restore_best(self) -> None:
        """Put the remembered weights back into the models."""
        for name, tensor in self.replicas.state("model").items():
            tensor.copy_(self.best[name])

    def models(self) -> Iterable[Autoencoder]:
        """Yield each replica as a separate module, in evaluation mode."""
        state = self.replicas.state("model")
        for r in range(len(self.seeds)):
            with torch.random.fork_rng(devices=[]):
                model = self.config.build().to(self.device)
            model.load_state_dict({name: tensor[r] for name, tensor in state.items()})
            yield model.eval()

    def _label(self, index: Tensor) -> Tensor | None:
        return None if self.labels is None else self.labels[index.to(self.device)]

    def _corrupt(self, x: Tensor, generators: list[torch.Generator]) -> Tensor:
        corruption = self.config.corrupts
        if corruption is None:
            return x
        return torch.stack([corruption.corrupt(of_one, g) for of_one, g in zip(x, generators, strict=True)])

    def _code_noise(self, x: Tensor, samples: int, generators: list[torch.Generator]) -> Tensor:
        shape = (samples, x.shape[1], self.config.latent_dim)
        if not self.config.objective.variational:
            return x.new_zeros(len(generators), *shape)
        return _normal(shape, self.device, generators)

    def _reference(self, x: Tensor, generators: list[torch.Generator]) -> Tensor | None:
        if not self.config.objective.draws:
            return None
        return _normal((x.shape[1], self.config.latent_dim), self.device, generators)


def _normal(shape: tuple[int, ...], device: torch.device, generators: list[torch.Generator]) -> Tensor:
    """Draw standard normal (R, *shape), each replica's part from its own generator."""
    return torch.stack([torch.randn(shape, generator=generator, device=device) for generator in generators])


def _mse(objective: Objective, logits: Tensor, x: Tensor) -> Tensor:
    """Compute the squared error per pixel of each image, (B,)."""
    return ((pixels(logits, objective.likelihood) - x) ** 2).flatten(1).mean(1)
