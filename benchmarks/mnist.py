"""Train each kind of autoencoder on MNIST; compare with a textbook and goals.

    python benchmarks/mnist.py [--root ../shared/data] [--jobs 2] [--device cpu] [--only NAME ...]

Each system trains on 55,000 images (val has 5,000, which choose the epoch) and is measured on the 10,000 of test; batch
128 and Adam 1e-3 unless the row says otherwise. Rows are printed as they end, a core each; the values are of all
replicas. One core takes about an hour.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from table import print_table
from torch import nn

from aesearch.bottlenecks import Plain, VectorQuantized
from aesearch.datasets import MNIST, BreastCancer, Data, Dataset, OneClass
from aesearch.networks import MLP, Conv
from aesearch.objectives import VAE, BetaVAE, Reconstruction, Sparse
from aesearch.scores import Detection, Probe
from aesearch.train import Result, TrainConfig, train

Fields = dict[str, Any]  # of a TrainConfig
Row = tuple[str, str, str]  # what was measured, what was asked, what came out


@dataclass(frozen=True)
class Place:
    """A folder with MNIST, and the device that trains."""

    root: str
    device: str

    @property
    def data(self) -> MNIST:
        return MNIST(root=self.root)

    def trained(self, data: Dataset | None = None, **fields: Any) -> Result:
        given: Fields = {"data": data or self.data, "replicas": 3} | fields
        return self.result(TrainConfig(**given))

    def result(self, config: TrainConfig) -> Result:
        for epoch in train(config, config.data.load(Path("unused")), self.device):
            result = epoch.result
        assert result is not None
        return result


def shown(values: tuple[float, ...], digits: int = 4) -> str:
    """Write the median, and the range over the replicas."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def plain(place: Place) -> list[Row]:
    rows = []
    for likelihood in ("gaussian", "bernoulli"):
        fields: Fields = {
            "network": MLP((256, 128, 64)),
            "latent_dim": 32,
            "objective": Reconstruction(likelihood),
        }
        result = place.trained(epochs=20, replicas=2, **fields)
        rows.append((f"test MSE, {likelihood}", "at most 0.0110", shown(result.metrics["test/mse"])))
    return rows


def conv(place: Place) -> list[Row]:
    network = Conv((32, 64), dense=0, norm="batch")
    fields: Fields = {
        "network": network,
        "latent_dim": 64,
        "objective": Reconstruction(),
        "learning_rate": 3e-3,
    }
    result = place.trained(epochs=3, **fields)
    return [("test MSE, Adam 3e-3", "at most 0.0032", shown(result.metrics["test/mse"]))]


def denoising(place: Place) -> list[Row]:
    fields: Fields = {"network": MLP((512,), dropout=0.2), "latent_dim": 64, "objective": Reconstruction()}
    metrics = place.trained(epochs=20, replicas=2, noise_factor=0.5, **fields).metrics
    return [
        ("test MSE against clean", "at most 0.0162", shown(metrics["test/denoising_mse"])),
        ("PSNR gained, dB, over the noisy image clipped to [0, 1]", "at least 9", shown(metrics["test/psnr_gain"], 2)),
    ]


def vae(place: Place, epochs: int, asked: float) -> list[Row]:
    fields: Fields = {"network": MLP((256, 256)), "latent_dim": 20, "objective": VAE()}
    metrics = place.trained(epochs=epochs, **fields).metrics
    negative = tuple(-elbo for elbo in metrics["test/elbo"])
    return [(f"test -ELBO, {epochs} epochs", f"at most {asked}", shown(negative, 2))]


def vae_20(place: Place) -> list[Row]:
    return vae(place, 20, 102.6)


def vae_30(place: Place) -> list[Row]:
    return vae(place, 30, 101.2)


def conv_vae(place: Place) -> list[Row]:
    found = {}
    for name, network in {"conv": Conv((32, 64, 128)), "MLP": MLP((256, 256))}.items():
        result = place.trained(epochs=5, replicas=2, network=network, latent_dim=32, objective=VAE())
        found[name] = tuple(-elbo for elbo in result.metrics["test/elbo"])
    asked = f"below the MLP's {shown(found['MLP'], 2)}"
    return [("test -ELBO, 5 epochs", asked, shown(found["conv"], 2))]


def beta(place: Place) -> list[Row]:
    found = {}
    for strength in (1.0, 4.0):
        fields: Fields = {"network": MLP((256, 256)), "latent_dim": 10, "objective": BetaVAE(strength)}
        found[strength] = place.trained(epochs=10, **fields).metrics
    rows = []
    for name, comparison, digits in (("test/kl", "below", 2), ("test/mse", "above", 4)):
        one, four = found[1.0][name], found[4.0][name]
        asked = f"{comparison} beta = 1's {shown(one, digits)}, each replica"
        holds = all(b < a if comparison == "below" else b > a for a, b in zip(one, four, strict=True))
        rows.append((f"{name[5:]} at beta = 4", asked, f"{shown(four, digits)}: {'all' if holds else 'NOT all'}"))
    return rows


def conditional(place: Place) -> list[Row]:
    config = TrainConfig(
        place.data, MLP((256, 256)), latent_dim=10, objective=VAE(), conditional=True, replicas=2, epochs=20
    )
    data = config.data.load(Path("unused"))
    result = place.result(config)
    judge, accuracy = classifier(data, place.device)
    shares = []
    for replica in range(config.replicas):
        model = config.build()
        model.load_state_dict({name: tensor[replica] for name, tensor in result.weights.items()})
        model = model.to(place.device).eval()
        generator = torch.Generator().manual_seed(replica)
        label = torch.arange(10).repeat_interleave(1000).to(place.device)
        with torch.no_grad():
            codes = torch.randn(len(label), config.latent_dim, generator=generator).to(place.device)
            guesses = judge(torch.sigmoid(model.decode(codes, label))).argmax(1)
        shares.append((guesses == label).float().mean().item())
    asked = f"at least 95 % by a classifier of 98 % (this one: {100 * accuracy:.1f} %)"
    return [("samples of the class asked for, %", asked, shown(tuple(100 * share for share in shares), 1))]


def classifier(data: Data, device: str) -> tuple[nn.Module, float]:
    """Train a small convolutional classifier; give it and its test accuracy."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(1600, 10)).to(device)
    optimizer = torch.optim.Adam(model.parameters())
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    for _ in range(3):
        for index in torch.from_numpy(data.train)[torch.randperm(len(data.train))].split(128):
            optimizer.zero_grad()
            guesses = model(images[index].to(device) / 255)
            nn.functional.cross_entropy(guesses, labels[index].to(device)).backward()
            optimizer.step()
    with torch.no_grad():
        guesses = torch.cat([model(images[i].to(device) / 255).argmax(1).cpu() for i in _parts(data.test)])
    return model, float((guesses == labels[torch.from_numpy(data.test)]).float().mean())


def _parts(index: Any) -> Any:
    return torch.from_numpy(index).split(1000)


def vq(place: Place) -> list[Row]:
    bottleneck = VectorQuantized(512, codebook="gradient")
    fields: Fields = {"network": Conv((32, 64)), "latent_dim": 64, "objective": Reconstruction("gaussian")}
    metrics = place.trained(epochs=4, replicas=2, bottleneck=bottleneck, **fields).metrics
    return [
        ("test MSE, a 7 x 7 grid, 4 epochs", "at most 0.004", shown(metrics["test/mse"])),
        ("perplexity", "at least 64", shown(metrics["test/perplexity"], 1)),
    ]


def sparse(place: Place) -> list[Row]:
    fields: Fields = {
        "network": MLP((256,)),
        "latent_dim": 256,
        "objective": Sparse(0.3),
        "bottleneck": Plain(True),
    }
    metrics = place.trained(epochs=15, replicas=2, **fields).metrics
    return [
        (
            "units under 1 % of their maximum, %",
            "at least 70",
            shown(tuple(100 * s for s in metrics["test/sparsity"]), 1),
        ),
        ("test MSE", "at most 0.02", shown(metrics["test/mse"])),
    ]


def anomaly(place: Place) -> list[Row]:
    fields: Fields = {"network": MLP((256, 128)), "latent_dim": 8, "objective": Reconstruction()}
    found = []
    for digit in range(10):
        data = OneClass(place.data, digit)
        result = place.trained(data, epochs=20, replicas=3, scores=(Detection(),), **fields)
        found.append(result.metrics["test/auroc"])
    means = tuple(mean(values) for values in zip(*found, strict=True))
    each = ", ".join(f"{digit}: {median(values):.3f}" for digit, values in enumerate(found))
    return [(f"AUROC, mean of ten ({each})", "at least 0.95", shown(means))]


def table(place: Place) -> list[Row]:
    fields: Fields = {"network": MLP((64, 32)), "latent_dim": 8, "objective": VAE("gaussian")}
    data = OneClass(BreastCancer(), "benign")
    result = place.trained(data, epochs=100, batch_size=32, replicas=5, scores=(Detection(),), **fields)
    return [("AUROC, malignant as anomaly", "at least 0.90", shown(result.metrics["test/auroc"]))]


def few_labels(place: Place) -> list[Row]:
    fields: Fields = {"network": Conv((32, 64, 128)), "latent_dim": 16, "objective": Reconstruction()}
    probe = Probe((100,), draws=5, raw=True)
    metrics = place.trained(epochs=6, replicas=2, noise_factor=0.5, scores=(probe,), **fields).metrics
    raw = metrics["test/raw_probe_100"][0]
    gained = tuple(100 * (value - raw) for value in metrics["test/probe_100"])
    asked = f"at least 10 points over raw pixels ({100 * raw:.1f} %)"
    return [("points gained, mean of 5 draws of labels", asked, shown(gained, 1))]


SYSTEMS: dict[str, tuple[str, str, Callable[[Place], list[Row]]]] = {
    "few_labels": ("100 labels: denoising conv 32-64-128, z = 16, linear head", "-", few_labels),
    "conv_vae": ("conv VAE 32-64-128, z = 32", "-", conv_vae),
    "vq": ("VQ-VAE K = 512, D = 64, conv 32-64", "-", vq),
    "conv": ("conv autoencoder 32-64, batch norm, z = 64, 3 epochs", "-", conv),
    "vae_30": ("VAE 256-256, z = 20", "total 127.9", vae_30),
    "vae_20": ("VAE 256-256, z = 20", "-", vae_20),
    "denoising": ("denoising 784-512, noise 0.5, z = 64, dropout 0.2, 20 epochs", "-", denoising),
    "plain": ("autoencoder 784-256-128-64-32, 20 epochs", "train MSE 0.01452", plain),
    "conditional": ("conditional VAE 256-256, z = 10, 20 epochs", "-", conditional),
    "beta": ("beta-VAE 256-256, z = 10, 10 epochs", "-", beta),
    "sparse": ("sparse autoencoder 784-256, 256 codes, 15 epochs", "-", sparse),
    "anomaly": ("anomaly, one digit normal: 784-256-128-8, 20 epochs", "0.91, 0.948 (Deep SVDD)", anomaly),
    "table": ("anomaly, breast cancer table: VAE 64-32, z = 8, 100 epochs", "-", table),
}


def measure(name: str, place: Place) -> tuple[list[Row], float]:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    started = time.perf_counter()
    rows = SYSTEMS[name][2](place)
    return rows, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="../shared/data")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="*", choices=SYSTEMS, default=list(SYSTEMS))
    options = parser.parse_args()
    place = Place(options.root, options.device)
    headers = ["system", "textbook", "measured", "asked", "reached", "seconds"]
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(measure, name, place): name for name in options.only}
        done = {}
        for job in as_completed(jobs):
            name = jobs[job]
            rows, seconds = job.result()
            title, textbook, _ = SYSTEMS[name]
            done[name] = [[title, textbook, *row, f"{seconds:.0f}"] for row in rows]
            print(name, *done[name], sep="\n  ", flush=True)
    print_table(headers, [row for name in options.only for row in done[name]])


if __name__ == "__main__":
    main()
