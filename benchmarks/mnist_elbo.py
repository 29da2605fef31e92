"""Test -ELBO of a VAE on MNIST: MLP 256-256, 20 codes, batch 128, Adam 1e-3, one code sample, in nats per image.

    python benchmarks/mnist_elbo.py [--root ../shared/data] [--replicas 3]

The trainings of 20 and of 30 epochs run side by side, one core each. The weights are those of the epoch with the
lowest val/loss, val being 5,000 of the 60,000 training images.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from table import print_table

from aesearch.datasets import MNIST
from aesearch.networks import MLP
from aesearch.objectives import VAE
from aesearch.train import TrainConfig, train

ASKED = {20: 102.6, 30: 101.2}


def losses(root: str, epochs: int, replicas: int) -> tuple[float, ...]:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    data = MNIST(root=root)
    config = TrainConfig(data, MLP((256, 256)), latent_dim=20, objective=VAE(), replicas=replicas, epochs=epochs)
    for epoch in train(config, data.load(Path("unused"))):
        result = epoch.result
    assert result is not None
    return tuple(-elbo for elbo in result.metrics["test/elbo"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default="../shared/data")
    parser.add_argument("--replicas", type=int, default=3)
    options = parser.parse_args()
    with ProcessPoolExecutor(2) as pool:
        running = {epochs: pool.submit(losses, options.root, epochs, options.replicas) for epochs in ASKED}
        found = {epochs: job.result() for epochs, job in running.items()}
    print_table(
        ["epochs", "asked: at most", "median over replicas", "least to most"],
        [
            [
                str(epochs),
                str(ASKED[epochs]),
                f"{sorted(values)[len(values) // 2]:.2f}",
                f"{min(values):.2f} to {max(values):.2f}",
            ]
            for epochs, values in found.items()
        ],
    )


if __name__ == "__main__":
    main()
