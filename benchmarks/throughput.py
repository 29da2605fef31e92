"""Compare training throughput with the textbook loop and with pythae's trainer.

    python benchmarks/throughput.py [--root ../shared/data] [--rounds 5] [--threads 1] [--pythae DIR]

The same model (MLP 256-256, 20 codes, built by aesearch), batch 128 and Adam 1e-3 everywhere. The textbook loop is
torchvision's MNIST with ToTensor in a shuffling DataLoader, and loss.item() at each step. Rounds alternate, so that
the machine's drift hits all alike; the table has medians. pythae is no dependency; install it beside the project:

    python -m pip install --no-deps --target DIR pythae==0.1.2 imageio
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from table import print_table
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from aesearch.datasets import MNIST, Data
from aesearch.networks import MLP
from aesearch.objectives import VAE, bernoulli_nll, gaussian_kl
from aesearch.train import Engine, TrainConfig
from aesearch.train.cohort import Cohort
from aesearch.train.feed import Feed

IMAGES = 12_800  # of one timed round
BATCH = 128


def ours(config: TrainConfig, data: Data) -> Callable[[], None]:
    few = replace(data, train=data.train[:IMAGES])
    cohort = Cohort(config, few, Feed(few.images, torch.device("cpu")), [1], Engine())

    def epoch() -> None:
        cohort.train_epoch()

    return epoch


def textbook(config: TrainConfig, root: str) -> Callable[[], None]:
    images = Subset(datasets.MNIST(root, train=True, transform=transforms.ToTensor()), range(IMAGES))
    loader = DataLoader(images, batch_size=BATCH, shuffle=True)
    model = config.build()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)

    def epoch() -> None:
        total = 0.0
        model.train()
        for x, _ in loader:
            optimizer.zero_grad()
            mean, log_var = model.encoder(x).chunk(2, dim=1)
            code = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
            logits = model.decoder(code)
            rec = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
            kl = -0.5 * torch.sum(1 + log_var - mean.pow(2) - log_var.exp())
            loss = (rec + kl) / len(x)
            loss.backward()
            optimizer.step()
            total += loss.item()

    return epoch


def pythae(config: TrainConfig, data: Data) -> Callable[[], None]:
    from pythae import models
    from pythae.data.datasets import BaseDataset
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    logging.getLogger("pythae").setLevel(logging.ERROR)
    built = config.build()

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = built.encoder

        def forward(self, x: torch.Tensor) -> ModelOutput:
            mean, log_var = self.layers(x).chunk(2, dim=1)
            return ModelOutput(embedding=mean, log_covariance=log_var)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = built.decoder

        def forward(self, z: torch.Tensor) -> ModelOutput:
            # pythae's loss wants probabilities.
            return ModelOutput(reconstruction=torch.sigmoid(self.layers(z)))

    model = models.VAE(models.VAEConfig((1, 28, 28), latent_dim=20, reconstruction_loss="bce"), Encoder(), Decoder())
    x = torch.from_numpy(data.images[data.train[:IMAGES]]).float() / 255
    training = BaseTrainerConfig(
        output_dir=tempfile.mkdtemp(),
        num_epochs=1,
        learning_rate=config.learning_rate,
        per_device_train_batch_size=BATCH,
        optimizer_cls="Adam",
        no_cuda=True,
    )
    trainer = BaseTrainer(model, BaseDataset(x, torch.zeros(len(x))), training_config=training)
    trainer.prepare_training()

    def epoch() -> None:
        # Its progress bar goes nowhere.
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):  # noqa: PTH123
            trainer.train_step(epoch=1)

    return epoch


def check_same_loss(config: TrainConfig) -> None:
    """Check that the textbook's loss is ours: else the comparison means nothing."""
    torch.manual_seed(0)
    model, x = config.build(), torch.rand(8, 1, 28, 28)
    output = model(x, torch.randn(1, 8, 20))
    rec = nn.functional.binary_cross_entropy_with_logits(output.logits[0], x, reduction="sum")
    mean, log_var = output.code.mean, output.code.log_var
    kl = -0.5 * torch.sum(1 + log_var - mean.pow(2) - log_var.exp())
    same = bernoulli_nll(output.logits[0], x).sum() + gaussian_kl(mean, log_var).sum()
    torch.testing.assert_close(rec + kl, same)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="../shared/data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pythae", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    mnist = MNIST(root=options.root)
    data = mnist.load(Path("unused"))
    config = TrainConfig(mnist, MLP((256, 256)), latent_dim=20, objective=VAE(), batch_size=BATCH)
    check_same_loss(config)
    low = replace(config, precision="bfloat16")
    systems = {
        "aesearch": ours(config, data),
        "textbook loop": textbook(config, options.root),
        "aesearch, bfloat16": ours(low, data),
    }
    if options.pythae:
        sys.path.insert(0, str(options.pythae))
        systems["pythae 0.1.2"] = pythae(config, data)
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for number in range(options.rounds + 1):
        for name, epoch in systems.items():
            started = time.perf_counter()
            epoch()
            if number:  # the first is to warm up
                seconds[name].append(time.perf_counter() - started)
    asked = {"textbook loop": "at least 2.2", "pythae 0.1.2": "at least 3"}
    print_table(
        [f"{options.threads} thread(s)", "images per second", "aesearch is faster by", "with bfloat16", "asked"],
        [
            [
                name,
                f"{IMAGES / median(times):,.0f}",
                *(
                    f"{median(b / a for a, b in zip(seconds[mine], times, strict=True)):.2f}"
                    for mine in ("aesearch", "aesearch, bfloat16")
                ),
                asked.get(name, ""),
            ]
            for name, times in seconds.items()
        ],
    )


if __name__ == "__main__":
    main()
