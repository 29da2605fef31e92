"""Show that the seed decides what a code tells where x and y vary equally.

python benchmarks/degenerate.py [--settings 14] [--replicas 3] [--seed 1000] [--processes 2]

The setting of studies/beta_sweep.py, on a grid of beta, on sprites whose positions reach as far along y as along x, and
on those of the study; as many steps of training each. Settings are told from seeds by a one-way F test. About 15
minutes on two CPU cores.
"""

import argparse
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from table import print_table

from aesearch.datasets import Sprites
from aesearch.objectives import BetaVAE
from aesearch.protocols import fast
from aesearch.scores import Disentanglement
from aesearch.statistics.components import components
from aesearch.statistics.trends import spearman
from aesearch.study import load_study
from aesearch.train import TrainConfig, train

ROOT = Path(__file__).parents[1]
POSITIONS: tuple[int | tuple[int, int], ...] = (16, (16, 6))
BETAS = (0.1, 8.0)
CODES = (4, 16)
METRICS = ("val/mse", "val/mig", "val/sap", "val/fast.mig_sup", "val/fast.dcimig", "val/fast.modularity")


def one(job: tuple[TrainConfig, Path]) -> Mapping[str, Any]:
    """Train a setting, and return its final metrics (R,) by name."""
    torch.set_num_threads(1)
    config, root = job
    *_, last = train(config, config.data.load(root))
    assert last.result is not None
    return last.result.metrics


def settings(positions: int | tuple[int, int], options: argparse.Namespace) -> list[TrainConfig]:
    """List the study's configuration at each beta, with code sizes in another order."""
    base = load_study(ROOT / "studies" / "beta_sweep.py").probes[0][1]
    assert isinstance(base.data, Sprites)
    data = replace(base.data, positions=positions)
    # As many steps on more images.
    epochs = max(1, round(base.epochs * _count(base.data) / _count(data)))
    n = options.settings
    sizes = np.random.default_rng(7).permutation(np.rint(np.linspace(*CODES, n)).astype(int))
    score = Disentanglement(metrics=("mig_sup", "dcimig", "modularity"), protocol=fast)
    change = partial(replace, base, data=data, epochs=epochs, replicas=options.replicas, scores=(score,))
    return [
        change(latent_dim=int(size), objective=BetaVAE(beta=float(beta)), seed=options.seed + i)
        for i, (beta, size) in enumerate(zip(np.geomspace(*BETAS, n), sizes, strict=True))
    ]


def _count(data: Sprites) -> int:
    return int(np.prod(list(data.factor_sizes.values())))


def main() -> None:
    """Train all settings on both, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, default=14)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1000, help="of the first setting; a study has 0")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AESEARCH_DATA", "data")))
    options = parser.parse_args()
    rows = []
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        for positions in POSITIONS:
            configs = settings(positions, options)
            configs[0].data.load(options.data)
            found = list(pool.map(one, [(config, options.data) for config in configs]))
            betas = np.array([config.objective.beta for config in configs])  # type: ignore[attr-defined]
            rows += [_row(positions, metric, betas, [one[metric] for one in found]) for metric in METRICS]
    print_table(["positions", "metric", "F", "p", "explained by settings", "Spearman with beta"], rows)


def _row(positions: object, metric: str, betas: Any, values: list[Any]) -> list[str]:
    spread = components(values)
    trend = spearman(betas, np.array([np.median(of_one) for of_one in values]))
    assert spread is not None
    assert trend is not None
    return [
        str(positions),
        metric,
        f"F({spread.between}, {spread.within}) = {spread.statistic:.3g}",
        f"{spread.p:.2g}",
        f"{spread.share:.0%} [{spread.low:.0%} to {spread.high:.0%}]",
        f"{trend.rho:+.2f} [{trend.low:+.2f} to {trend.high:+.2f}]",
    ]


if __name__ == "__main__":
    main()
