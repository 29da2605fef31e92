"""Detection of anomalies by reconstruction errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aesearch.autoencoder import Autoencoder
from aesearch.bottlenecks import RandomCode
from aesearch.datasets import Dataset, OneClass
from aesearch.errors import UserError
from aesearch.metrics.roc import auroc, average_precision, fpr_at_tpr
from aesearch.objectives import NLL, Objective, pixels
from aesearch.scores.score import Score, Trained, batches

DRAWS = 64  # samples of a code, to estimate a KL that has no closed form


@torch.no_grad()
def anomaly_scores(
    model: Autoencoder, objective: Objective, x: Tensor, label: Tensor | None = None
) -> dict[str, Tensor]:
    """Compute anomaly scores (B,) of images, higher for more anomalous ones.

    model: in evaluation mode.
    objective: its likelihood gives the scale of the errors.
    x: images (B, C, H, W).
    label: (B,), the classes for a conditional model.

    ``error`` is the squared error per pixel of the reconstruction at the code mean. ``elbo``, where codes have a
    posterior, is the negative evidence lower bound in nats per image. The image is decoded from the code mean, so that
    it has no sampling noise. A KL without a closed form, as with a VampPrior or a flow, is estimated from 64 samples,
    with the same noise for each image.
    """
    output = model(x, x.new_empty(0, len(x), model.latent_dim), label, decode_mean=True)
    assert output.mean_logits is not None
    scores = {"error": ((pixels(output.mean_logits, objective.likelihood) - x) ** 2).flatten(1).mean(1)}
    if isinstance(output.code, RandomCode):
        kl = output.code.exact_kl()
        if kl is None:
            generator = torch.Generator(x.device).manual_seed(0)
            noise = torch.randn(DRAWS, 1, model.latent_dim, generator=generator, device=x.device)
            code = model.code(x, noise.expand(-1, len(x), -1), label)
            assert isinstance(code, RandomCode)
            kl = code.kl()
        scores["elbo"] = NLL[objective.likelihood](output.mean_logits, x) + kl
    return scores


def score_split(trained: Trained, index: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Compute the anomaly scores of the items at ``index``, each (N,)."""
    parts = [
        anomaly_scores(trained.model, trained.objective, trained.images(i), trained.label_tensor(i))
        for i in batches(index)
    ]
    return {name: torch.cat([part[name] for part in parts]).double().cpu().numpy() for name in parts[0]}


@dataclass(frozen=True)
class Detection(Score):
    """AUROC, average precision and false positive rate of anomaly detection.

    Items are ranked by the squared error of their reconstruction. The false positive rate is that at 95 % true
    positives. AUROC is also given for the negative ELBO of a model that has one.
    The data must have anomalies in test, such as OneClass(MNIST(), normal=3).
    """

    estimator: ClassVar[int] = 2

    @property
    def splits(self) -> tuple[str, ...]:
        return ("test",)

    @property
    def names(self) -> tuple[str, ...]:
        return ("auroc", "average_precision", "fpr_at_95_tpr", "elbo_auroc")

    def names_for(self, data: Dataset, objective: Objective) -> tuple[str, ...]:  # noqa: ARG002
        return tuple(name for name in self.names if objective.variational or name != "elbo_auroc")

    def check(self, data: Dataset, objective: Objective) -> None:  # noqa: ARG002
        if not isinstance(data, OneClass):
            raise UserError(f"{data} has no anomalies for Detection; write OneClass({data}, normal=0)")

    def measure(self, trained: Trained, split: str) -> Mapping[str, float]:
        assert trained.data.anomalous is not None
        index = trained.index(split)
        anomalous = trained.data.anomalous[index]
        scores = score_split(trained, index)
        error = scores["error"]
        found = {
            "auroc": auroc(error, anomalous),
            "average_precision": average_precision(error, anomalous),
            "fpr_at_95_tpr": fpr_at_tpr(error, anomalous),
        }
        return found | ({"elbo_auroc": auroc(scores["elbo"], anomalous)} if "elbo" in scores else {})
