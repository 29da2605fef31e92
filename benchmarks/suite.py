"""Time the dlib protocol on dSprites' grid, and measure the memory to encode it.

python benchmarks/suite.py          737,280 codes of 10 entries, every metric: a minute
python benchmarks/suite.py --grid   renders the grid (3 GB on disk) and encodes it in batches: some minutes
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from metric_answers import SIZES
from table import print_table

from aesearch.datasets import Sprites
from aesearch.metrics import grid_factors
from aesearch.networks import Conv
from aesearch.objectives import VAE
from aesearch.protocols import dlib
from aesearch.scores import Disentanglement, Posterior, Source, Trained
from aesearch.train import TrainConfig

RENDER = (
    "import sys; from pathlib import Path; from aesearch.datasets import Sprites; Sprites().load(Path(sys.argv[1]))"
)
NAMES = ("shape", "scale", "orientation", "x", "y")


def noisy_codes() -> Source:
    """Make codes of the whole grid: factors with noise of 0.3 sd, and five of noise."""
    factors = grid_factors(tuple(SIZES))
    rng = np.random.default_rng(0)
    carried = (factors - factors.mean(0)) / factors.std(0) + 0.3 * rng.normal(size=factors.shape)
    codes = np.hstack([carried, rng.normal(size=factors.shape)]).astype(np.float32)
    return Source(lambda places: Posterior(codes[places]), len(codes), factors, NAMES)


def time_suite() -> None:
    source = noisy_codes()
    Disentanglement(("explicitness",), dlib).of_source(source)  # imports
    rows, total = [], 0.0
    for metric in dlib.metrics:
        started = time.perf_counter()
        found = Disentanglement((metric,), dlib).of_source(source)
        seconds = time.perf_counter() - started
        total += seconds
        rows.append([metric, f"{seconds:.1f} s", ", ".join(f"{value:.3f}" for value in found.values())])
    rows.append(["together", f"{total:.1f} s", "asked: under 60 s on two cores"])
    print_table(["metric, one core", "time", "value"], rows)


class Anonymous(threading.Thread):
    """Thread that knows the most memory of this process without pages of files."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.wait(0.05):
            status = Path("/proc/self/status").read_text()
            self.most = max(self.most, int(status.split("RssAnon:")[1].split()[0]))


def measure_grid() -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = Sprites()
        # In a process of its own: what is measured is the encoding.
        subprocess.run([sys.executable, "-c", RENDER, folder], check=True)
        data = dataset.load(Path(folder))
        config = TrainConfig(dataset, Conv(), latent_dim=10, objective=VAE())
        model = config.build().eval()
        watch = Anonymous()
        watch.start()
        trained = Trained(
            model,
            config.objective,
            data,
            lambda index: torch.from_numpy(np.array(data.images[index])).float().div_(255),
            0,
            NAMES,
        )
        started = time.perf_counter()
        found = Disentanglement(("mig", "factor_vae", "beta_vae"), dlib).measure(trained, "test")
        seconds = time.perf_counter() - started
        watch.stop.set()
        watch.join()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rows = [
        ["encode 737,280 images, then MIG, FactorVAE, BetaVAE", f"{seconds:.0f} s", ""],
        ["most memory of its own", f"{watch.most / 2**20:.2f} GiB", "under 4 GiB"],
        ["with the pages of the 3 GB file that it had mapped", f"{most:.2f} GiB", "under 4 GiB"],
    ]
    print_table([f"an untrained Conv(), {len(found)} metrics", "measured", "asked"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", action="store_true", help="the memory of the grid instead")
    torch.set_num_threads(1)
    measure_grid() if parser.parse_args().grid else time_suite()


if __name__ == "__main__":
    main()
