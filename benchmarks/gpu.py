"""Time the training core on a GPU against a textbook loop.

Replicas are vmapped or in turn, as CUDA graphs or eagerly.

    python benchmarks/gpu.py [--rounds 5] [--check]

Needs PyTorch and a CUDA GPU, no Ray. Images are random numbers in the shape of MNIST and of dSprites, on which the
speed does not depend. Each time is of 200 steps of all replicas; rounds alternate, and the table has medians.
--check also trains on rendered sprites and compares the losses of every way with those of the CPU.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

from aesearch.datasets import Data, Dataset, Sprites
from aesearch.networks import MLP, Burgess, Conv, Network
from aesearch.objectives import BetaVAE, FactorVAE, Objective
from aesearch.train import Engine, TrainConfig, train
from aesearch.train.cohort import Cohort
from aesearch.train.feed import Feed

STEPS = 200
# What a step of vmap + graph is held against; "compiled" is the textbook loop with torch.compile.
COLUMNS = ("vmap, eager", "in turn + graph", "in turn, eager", "textbook", "compiled")
BATCH = 128


@dataclass(frozen=True)
class Noise(Dataset):
    """Random images of a shape."""

    size: int = 28

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, self.size, self.size)

    @property
    def factor_sizes(self) -> Mapping[str, int]:
        return {}

    @property
    def classes(self) -> tuple[str, ...]:
        return ()

    def load(self, root: Path) -> Data:
        n = STEPS * BATCH
        images = np.random.default_rng(0).integers(0, 256, (n + 20, *self.shape), dtype=np.uint8)
        index = np.arange(n + 20)
        return Data(images, train=index[:n], val=index[n : n + 10], test=index[n + 10 :])


def ours(config: TrainConfig, data: Data, engine: Engine) -> Callable[[], None]:
    feed = Feed(data.images, torch.device("cuda"))
    seeds = list(range(config.replicas))
    cohorts = [
        Cohort(config, data, feed, group, engine) for group in ([seeds] if engine.vmapped else [[s] for s in seeds])
    ]

    def epoch() -> None:
        for cohort in cohorts:
            cohort.train_epoch()

    return epoch


def textbook(config: TrainConfig, data: Data, compiled: bool) -> Callable[[], None]:
    """Make a loop of replicas in turn, with copied batches and loss.item() each step."""
    images = torch.from_numpy(data.images[data.train]).float() / 255
    assert isinstance(config.objective, BetaVAE)
    beta = config.objective.beta

    def loop(_: int) -> Iterator[None]:
        model: Any = config.build().cuda()
        optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
        if compiled:
            model = torch.compile(model)
        while True:
            for index in torch.randperm(len(images)).split(BATCH):
                x = images[index].cuda()
                optimizer.zero_grad()
                output = model(x, torch.randn(1, len(x), config.latent_dim, device="cuda"))
                mean, log_var = output.code.mean, output.code.log_var
                rec = nn.functional.binary_cross_entropy_with_logits(output.logits[0], x, reduction="sum")
                kl = -0.5 * torch.sum(1 + log_var - mean.pow(2) - log_var.exp())
                loss = (rec + beta * kl) / len(x)
                loss.backward()
                optimizer.step()
                loss.item()
            yield

    loops = [loop(r) for r in range(config.replicas)]

    def epoch() -> None:
        for one in loops:
            next(one)

    return epoch


def timed(systems: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for number in range(rounds + 1):
        for name, epoch in systems.items():
            torch.cuda.synchronize()
            started = time.perf_counter()
            epoch()
            torch.cuda.synchronize()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return {name: median(times) for name, times in seconds.items()}


def speed(rounds: int) -> None:
    cases: dict[str, tuple[int, Network, Objective]] = {
        "MLP 256-256, 28 px": (28, MLP((256, 256)), BetaVAE()),
        "Conv 32-64, 28 px": (28, Conv((32, 64)), BetaVAE()),
        "Burgess, 64 px": (64, Burgess(), BetaVAE()),
        "MLP 256-256, FactorVAE": (28, MLP((256, 256)), FactorVAE()),
    }
    print(
        "| network | replicas | vmap + graph | vmap, eager | in turn + graph | in turn, eager | textbook | compiled |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, (size, network, objective) in cases.items():
        for replicas in (1, 3, 8):
            config = TrainConfig(Noise(size), network, 10, objective, replicas=replicas, epochs=1, batch_size=BATCH)
            data = config.data.load(Path())
            systems = {
                "vmap + graph": ours(config, data, Engine(vmapped=True, graphed=True)),
                "vmap, eager": ours(config, data, Engine(vmapped=True)),
                "in turn + graph": ours(config, data, Engine(graphed=True)),
                "in turn, eager": ours(config, data, Engine()),
            }
            if isinstance(objective, BetaVAE):
                systems["textbook"] = textbook(config, data, compiled=False)
                systems["compiled"] = textbook(config, data, compiled=True)
            taken = timed(systems, rounds)
            best = taken["vmap + graph"]
            cells = [f"{taken[n] / best:.1f} x" if n in taken else "" for n in COLUMNS]
            print(f"| {name} | {replicas} | {1000 * best / STEPS:.3f} ms | " + " | ".join(cells) + " |", flush=True)


def check(objectives: list[Objective]) -> None:
    sprites = Sprites(resolution=32, scales=2, orientations=4, positions=8)
    data = sprites.load(Path(tempfile.mkdtemp()))
    for objective in objectives:
        for network in (MLP((64,), dropout=0.1), Conv((8, 16), dense=32, norm="batch")):
            config = TrainConfig(sprites, network, 6, objective, epochs=3, batch_size=64)
            losses = {}
            for name, (device, engine) in {
                "cpu": ("cpu", Engine()),
                "vmap + graph": ("cuda", Engine(vmapped=True, graphed=True)),
                "vmap": ("cuda", Engine(vmapped=True)),
                "in turn + graph": ("cuda", Engine(graphed=True)),
                "streamed": ("cuda", Engine(vmapped=True, graphed=True, streaming=True)),
            }.items():
                last = list(train(config, data, device, engine=engine))[-1]
                losses[name] = last.metrics["val/loss"]
            gpu = losses["vmap + graph"]
            worst = {name: max(abs(a / b - 1) for a, b in zip(gpu, v, strict=True)) for name, v in losses.items()}
            print(
                type(objective).__name__, type(network).__name__, {k: f"{v:.1e}" for k, v in worst.items()}, flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    properties = torch.cuda.get_device_properties(0)
    print(f"{properties.name}, torch {torch.__version__}")
    if options.check:
        check([BetaVAE(), FactorVAE(hidden=(64, 64))])
    speed(options.rounds)


if __name__ == "__main__":
    main()
