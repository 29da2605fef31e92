"""Results of a study with conditions, of which all is known."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from helpers.results import make
from optuna.distributions import distribution_to_json

from aesearch.records.results import Results

NORMAL = optuna.distributions.CategoricalDistribution(["3", "1", "a b"])
LATENT = optuna.distributions.IntDistribution(2, 12, step=2)


def within(folder: Path, value: Callable[[int, int, int], float], metrics: int = 1, per: bool = True) -> Results:
    """Make 3 conditions of 6 code sizes and 3 seeds each.

    value: of val/mse, and of test/mse, by condition (0 to 2), code size (2 to 12) and seed. val/mig grows with mse.
    """
    made = make(folder, metrics=metrics, complete=16)
    trials, rows = [], []
    for key in range(18):
        condition, latent = divmod(key, 6)
        latent = 2 * latent + 2
        rng = np.random.default_rng(key)
        mse = [value(condition, latent, seed) for seed in range(3)]
        mig = [0.1 + 0.01 * latent * (1 + condition) + 0.001 * rng.standard_normal() for _ in range(3)]
        known = {
            f"{split}/{name}": of_one for split in ("val", "test") for name, of_one in (("mse", mse), ("mig", mig))
        }
        summary = {}
        for name, of_one in known.items():
            summary |= {name: np.median(of_one), f"{name}_min": min(of_one), f"{name}_max": max(of_one)}
        params = {"param:normal": NORMAL.choices[condition], "param:latent_dim": latent}
        times = {"epochs": 3, "seconds": 60.0, "train_seconds": 50.0, "metric_seconds": 5.0}
        trials.append({"trial": key, "state": "COMPLETE", "reason": ""} | times | params | summary)
        rows += [
            {"trial": key, "replica": r, "epoch": 3} | {name: of_one[r] for name, of_one in known.items()}
            for r in range(3)
        ]
    history = [row | {"epoch": epoch} for row in rows for epoch in (1, 2, 3)]
    texts = {"normal": distribution_to_json(NORMAL), "latent_dim": distribution_to_json(LATENT)}
    return replace(
        made,
        info={**made.info, "name": "sorts", "per": ["normal"] if per else []},
        trials=pd.DataFrame(trials),
        replicas=pd.DataFrame(rows),
        history=pd.DataFrame(history),
        distributions=texts,
        references=made.references.iloc[:0],
        protocols={},
    )
