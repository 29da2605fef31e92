"""Trained model for use: it takes and gives NumPy arrays."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aesearch.autoencoder import Autoencoder
from aesearch.bottlenecks import Code, Codebook, FactorisedCode, RandomCode
from aesearch.errors import UserError
from aesearch.model.files import device_of, read_model, restore
from aesearch.objectives import pixels
from aesearch.scores import anomaly_scores
from aesearch.scores.sampling import has_prior, mixture_codes, prior_codes
from aesearch.train import TrainConfig

BATCH = 500
DRAWS = 64  # samples of a code, to estimate a KL that has no closed form

Images = NDArray[Any]
Codes = NDArray[np.float32]
Labels = NDArray[np.int64]
Prior = Literal["model", "mixture"]


@dataclass(frozen=True)
class Model:
    """Replica of a trained autoencoder.

    Images are (N, C, H, W), uint8 or floats in [0, 1]. Rows of a table are (N, 1, 1, columns), scaled as in training.
    A conditional model needs labels (N,), each a place in ``classes``; another model takes none. All methods raise
    UserError for arrays of another shape, and for labels that are missing, out of range or not needed.

    network: the model itself.
    config: the configuration that it was trained with.
    info: contents of info.json.
    reference: codes, labels and scores of val, by name.
    replica: the number of the replica, from 0.
    """

    network: Autoencoder
    config: TrainConfig
    info: Mapping[str, Any]
    reference: Mapping[str, Tensor]
    replica: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of an item."""
        return self.network.shape

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of the data; empty without classes."""
        return tuple(self.info["classes"])

    @torch.no_grad()
    def encode(self, images: Images, labels: Labels | None = None) -> Codes:
        """Encode images to codes (N, L).

        The code of a Gaussian posterior is its mean; the code of a codebook is the chosen vectors.
        """
        return _joined([self.network.encode(x, y) for x, y in self._batches(images, labels)])

    @torch.no_grad()
    def decode(self, codes: NDArray[np.floating], labels: Labels | None = None) -> NDArray[np.float32]:
        """Decode codes (N, L) to items (N, C, H, W).

        They are expected pixels, or expected entries of a table's row.
        """
        width = self._code_length
        if codes.ndim != 2 or codes.shape[1] != width:
            raise UserError(f"codes must be (N, {width}), but got {codes.shape}")
        self._check_labels(labels, len(codes))
        parts = []
        for start in range(0, len(codes), BATCH):
            z = torch.as_tensor(codes[start : start + BATCH], dtype=torch.float32, device=device_of(self.network))
            y = None if labels is None else torch.as_tensor(labels[start : start + BATCH], device=z.device)
            parts.append(self._pixels(self.network.decode(z, y)))
        return _joined(parts)

    @torch.no_grad()
    def reconstruct(self, images: Images, labels: Labels | None = None) -> NDArray[np.float32]:
        """Reconstruct images, (N, C, H, W); a denoising model removes noise."""
        return self.decode(self.encode(images, labels), labels)

    @torch.no_grad()
    def score(self, images: Images, labels: Labels | None = None) -> dict[str, NDArray[np.float32]]:
        """Compute anomaly scores by name, (N,) each; a higher one is more unusual.

        ``error`` is the squared error per pixel. Where codes have a posterior there is ``elbo`` too: the negative
        evidence lower bound in nats, with the code's mean decoded.
        """
        parts = [anomaly_scores(self.network, self.config.objective, x, y) for x, y in self._batches(images, labels)]
        return {name: _joined([part[name] for part in parts]) for name in parts[0]}

    @torch.no_grad()
    def rate(self, images: Images, labels: Labels | None = None) -> NDArray[np.float32]:
        """Compute the rate of each image, (N,), in bits.

        For a random code it is the KL to the prior; without a closed form, it is estimated from 64 samples of each
        code. For a codebook it is log2 of the number of possible codes.
        Raises UserError for a plain code, which has no rate.
        """
        parts = []
        for x, y in self._batches(images, labels):
            code = self._code(x, y)
            if isinstance(code, RandomCode) and code.exact_kl() is None:
                code = self._code(x, y, DRAWS)
            if isinstance(code, RandomCode):
                parts.append(code.kl() / np.log(2))
            elif code.indices is not None:
                bits = code.indices.shape[1] * float(np.log2(self._codebook.options.codes))
                parts.append(torch.full((len(x),), bits))
            else:
                raise UserError("the code is plain numbers, which have no rate; use a model with a prior or a codebook")
        return _joined(parts)

    @torch.no_grad()
    def code_kl(self, images: Images, labels: Labels | None = None) -> NDArray[np.float32]:
        """Compute each unit's mean KL to the standard normal, (L,), in nats.

        It is zeros for codes that have no KL of each unit.
        """
        total = np.zeros(self.network.latent_dim, np.float32)
        for x, y in self._batches(images, labels):
            code = self._code(x, y)
            if isinstance(code, FactorisedCode):
                total += code.unit_kl().sum(0).cpu().numpy()
        return total / np.float32(len(images))

    def _code(self, x: Tensor, label: Tensor | None, samples: int = 0) -> Code:
        """Encode images (B, C, H, W).

        samples: the number of samples of each code, which are the same at each call.
        """
        generator = torch.Generator(x.device).manual_seed(0)
        noise = torch.randn(samples, len(x), self.network.latent_dim, generator=generator, device=x.device)
        return self.network.code(x, noise, label)

    def sample(
        self, count: int, label: int | None = None, prior: Prior = "model", seed: int = 0
    ) -> NDArray[np.float32]:
        """Generate ``count`` new items, (count, C, H, W).

        label: the class of the items, for a conditional model or a mixture; a mixture is fitted to that class alone.
        prior: "model" draws codes from the prior of the training; "mixture", which any model has, from ten Gaussians
        fitted to the codes of val. With a codebook, "mixture" draws each place's entry as often as val has it there.
        seed: of the random numbers.
        Raises UserError for an unknown label, a model without a prior, and a class with fewer than two codes of val.
        """
        if label is not None and not 0 <= label < len(self.classes):
            raise UserError(f"label must be from 0 to {len(self.classes) - 1}, but got {label}")
        codes = self._from_mixture(count, label, seed) if prior == "mixture" else self._from_prior(count, label, seed)
        if not self.network.classes:
            return self.decode(codes)
        rng = np.random.default_rng(seed)
        labels = rng.integers(self.network.classes, size=count) if label is None else np.full(count, label)
        return self.decode(codes, labels.astype(np.int64))

    def _from_prior(self, count: int, label: int | None, seed: int) -> Codes:
        objective = self.config.objective
        if not has_prior(objective):
            raise UserError(f"{type(objective).__name__} has no prior to sample from; write --prior mixture")
        if label is not None and not self.network.classes:
            raise UserError(f"label={label} needs a conditional model, but this model is not; write --prior mixture")
        codes: Codes = prior_codes(self.network, count, seed).cpu().numpy()
        return codes

    def _from_mixture(self, count: int, label: int | None, seed: int) -> Codes:
        known = self._reference("indices" if "indices" in self.reference else "codes")
        if label is not None:
            known = known[self._reference("labels") == label]
        if len(known) < 2:
            raise UserError(f"a mixture needs at least 2 codes of val, but got {len(known)} for label={label}")
        return mixture_codes(self.network, known, count, seed)

    def interpolate(self, a: Images, b: Images, steps: int = 9, spherical: bool = False) -> NDArray[np.float32]:
        """Interpolate between the codes of images, and decode: (N, steps, C, H, W).

        a, b: (N, C, H, W) images at the start and at the end.
        steps: the number of images from start to end, both included.
        spherical: True moves along a great circle, which keeps the length that codes of a Gaussian prior have.
        Source of the great circle: Shoemake 1985.
        """
        start, end = self.encode(a), self.encode(b)
        weights = np.linspace(0, 1, steps, dtype=np.float32)[None, :, None]
        path = _slerp(start, end, weights) if spherical else (1 - weights) * start[:, None] + weights * end[:, None]
        return self.decode(path.reshape(-1, path.shape[2])).reshape(len(start), steps, *self.shape)

    @property
    def _codebook(self) -> Codebook:
        assert isinstance(self.network.bottleneck, Codebook)
        return self.network.bottleneck

    @cached_property
    def _code_length(self) -> int:
        blank = np.zeros((1, *self.shape), np.float32)
        return int(self.encode(blank, np.zeros(1, np.int64) if self.network.classes else None).shape[1])

    def _reference(self, name: str) -> NDArray[Any]:
        if name not in self.reference:
            raise UserError(f"the model has no {name} of val in reference.safetensors; copy that file from the trial")
        array: NDArray[Any] = self.reference[name].numpy()
        if not np.isfinite(array).all():
            raise UserError(f"{name} of val in reference.safetensors must be finite, but is not; use another trial")
        return array

    def clean_scores(self) -> dict[str, NDArray[np.float32]]:
        """Read the anomaly scores of the val split by name, (N,) each.

        Raises UserError where the model was saved without them.
        """
        names = ("error", "elbo") if "elbo" in self.reference else ("error",)
        return {name: self._reference(name) for name in names}

    def _pixels(self, logits: Tensor) -> Tensor:
        return pixels(logits, self.config.objective.likelihood)

    def _check_labels(self, labels: Labels | None, count: int) -> None:
        if bool(self.network.classes) != (labels is not None):
            state = "conditional: it needs labels" if self.network.classes else "not conditional: it takes no labels"
            raise UserError(f"the model is {state}")
        if labels is not None and (len(labels) != count or not ((labels >= 0) & (labels < len(self.classes))).all()):
            raise UserError(f"labels must be {count} numbers from 0 to {len(self.classes) - 1}")

    def _batches(self, images: Images, labels: Labels | None) -> Iterator[tuple[Tensor, Tensor | None]]:
        if images.ndim != 4 or images.shape[1:] != self.shape:
            raise UserError(f"images must be (N, {', '.join(map(str, self.shape))}), but got {images.shape}")
        self._check_labels(labels, len(images))
        device = device_of(self.network)
        for start in range(0, len(images), BATCH):
            part = np.array(images[start : start + BATCH])
            x = torch.from_numpy(part).to(device).float()
            y = None if labels is None else torch.as_tensor(labels[start : start + BATCH], device=device)
            yield (x / 255 if part.dtype == np.uint8 else x), y


def _joined(parts: list[Tensor]) -> NDArray[np.float32]:
    return torch.cat(parts).float().cpu().numpy()


def _slerp(start: Codes, end: Codes, weights: Codes) -> Codes:
    """Interpolate along the great circle between two directions, (N, S, L).

    The length changes linearly.

    start, end: (N, L).
    weights: (1, S, 1), from 0 at the start to 1 at the end.
    """
    lengths = [np.linalg.norm(codes, axis=1, keepdims=True).clip(1e-8) for codes in (start, end)]
    a, b = (codes / length for codes, length in zip((start, end), lengths, strict=True))
    angle = np.arccos((a * b).sum(1).clip(-1, 1)).clip(1e-4)[:, None, None]
    direction = (np.sin((1 - weights) * angle) * a[:, None] + np.sin(weights * angle) * b[:, None]) / np.sin(angle)
    path: Codes = direction * ((1 - weights) * lengths[0][:, None] + weights * lengths[1][:, None])
    return path


def load_model(
    folder: Path | str, replica: int | None = None, config: TrainConfig | None = None, open_data: bool = False
) -> Model:
    """Load a saved model, on the CPU.

    folder: the artifacts of a trial, or a folder that ``aesearch use MODEL export`` wrote.
    replica: from 0; by default the replica with the lowest val/loss.
    config: the configuration; needed only where the saved one has types of a study file.
    open_data: True lets data sets read the files that the saved configuration names. Use it for models of your own.
    Raises UserError for a model that is missing or damaged, for a replica that it does not have, and for one whose
    weights are not finite.
    """
    saved = read_model(Path(folder), config, open_data)
    replica = int(saved.info["replica"]) if replica is None else replica
    network = restore(saved.config, saved.weights, replica)
    if not all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values()):
        raise UserError(f"replica {replica} of {folder} has weights that are not finite; use another replica")
    return Model(network, saved.config, saved.info, saved.reference, replica)
