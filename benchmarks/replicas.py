"""Compare three replicas in one training with three trainings in turn, on a CPU.

python benchmarks/replicas.py [--rounds 5]
"""

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from table import print_table

from aesearch.datasets import Data, Sprites
from aesearch.networks import MLP, Conv, Network
from aesearch.objectives import BetaVAE
from aesearch.train import Engine, TrainConfig, train

SPRITES = Sprites(resolution=32, scales=3, orientations=8, positions=16)
NETWORKS: dict[str, Network] = {"MLP 128-128": MLP((128, 128)), "Conv 16-32": Conv((16, 32), dense=128)}


def seconds(config: TrainConfig, data: Data, engine: Engine | None = None) -> float:
    return sum(epoch.train_seconds for epoch in train(config, data, engine=engine))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    loaded = SPRITES.load(Path.home() / ".cache" / "aesearch")
    data = replace(loaded, train=loaded.train[:3200], val=loaded.val[:100], test=loaded.test[:100])
    rows = []
    for name, network in NETWORKS.items():
        config = TrainConfig(SPRITES, network, latent_dim=10, objective=BetaVAE(), epochs=1, batch_size=64)
        single = replace(config, replicas=1)
        seconds(config, data)
        together, alone, vmapped = [], [], []
        for _ in range(rounds):
            together.append(seconds(config, data))
            alone.append(sum(seconds(replace(single, seed=seed), data) for seed in range(3)))
            vmapped.append(seconds(config, data, Engine(vmapped=True)))
        ratios = [a / b for a, b in zip(together, alone, strict=True)]
        rows.append(
            [
                name,
                f"{median(together):.2f} s",
                f"{median(alone):.2f} s",
                f"{median(ratios):.3f} [{min(ratios):.3f} to {max(ratios):.3f}]",
                "at most 1.05",
                f"{median(a / b for a, b in zip(vmapped, together, strict=True)):.2f}",
            ]
        )
    print_table(["network", "3 together", "3 in turn", "ratio", "asked", "vmapped over looped"], rows)


if __name__ == "__main__":
    main()
