"""Results of a study that nobody ran, of which all is known."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import distribution_to_json
from PIL import Image
from safetensors.numpy import save_file

from aesearch.protocols import epoch, fast
from aesearch.records.results import Results

DISTRIBUTIONS = {
    "beta": optuna.distributions.FloatDistribution(0.25, 16, log=True),
    "latent_dim": optuna.distributions.IntDistribution(4, 16),
    "network": optuna.distributions.CategoricalDistribution(["mlp", "conv"]),
}


def make(folder: Path, metrics: int = 2, complete: int = 12, replicas: int = 3) -> Results:
    """Make a study of which all is known.

    mse grows with log beta, mig too; latent_dim does nothing.
    """
    rng = np.random.default_rng(0)
    trials, rows, history, pictures, references = [], [], [], {}, []
    for key in range(complete + 2):
        state = "COMPLETE" if key < complete else ["FAIL", "PRUNED"][key - complete]
        beta = 0.25 * 64 ** (key / max(1, complete + 1))
        params = {"beta": beta, "latent_dim": int(rng.integers(4, 17)), "network": ["mlp", "conv"][key % 2]}
        spread = np.linspace(-1, 1, replicas) if replicas > 1 else np.zeros(1)
        base = {"val/mse": 0.01 + 0.002 * np.log(beta), "val/mig": 0.2 + 0.05 * np.log(beta), "val/loss": 9 + beta}
        base |= {"val/fast.mig": 0.2 + 0.04 * np.log(beta), "val/study.udr_lasso": 0.5 + 0.01 * beta}
        base |= {"val/probe_10": 0.5, "val/probe_100": 0.7 + 0.01 * beta, "val/pca_mse": 0.02}
        values = {
            name: value * (1 + 0.02 * spread)
            for split in ("val", "test")
            for name, value in ((name.replace("val", split), value) for name, value in base.items())
            if not name.startswith("test/study")
        }
        seen = {} if state == "FAIL" else values
        if state == "PRUNED":
            seen = {name: value for name, value in values.items() if name.startswith("val/")}
        summary = {}
        for name, of_replicas in seen.items():
            summary |= {name: np.median(of_replicas), f"{name}_min": min(of_replicas), f"{name}_max": max(of_replicas)}
        reason = "it broke <b>" if state == "FAIL" else ""
        seconds = {"seconds": 60.0, "train_seconds": 50.0, "metric_seconds": 5.0}
        trials.append(
            {"trial": key, "state": state, "epochs": 3, "reason": reason}
            | seconds
            | {f"param:{name}": value for name, value in params.items()}
            | summary
        )
        for r in range(replicas if seen else 0):
            of_one = {name: of_replicas[r] for name, of_replicas in seen.items()}
            rows.append({"trial": key, "replica": r, "epoch": 3} | of_one)
            history += [{"trial": key, "epoch": e, "replica": r} | of_one for e in (1, 2, 3)]
        pictures[key] = folder / str(key)
        pictures[key].mkdir(parents=True)
        for name in ("reconstructions", "traversals"):
            Image.fromarray(rng.integers(0, 255, (40, 120), np.uint8)).save(pictures[key] / f"{name}.png")
        keep_codes(pictures[key])
        if state == "COMPLETE":
            references += [
                {"trial": key, "metric": f"test/{name}", "floor": 0.1, "ceiling": 0.9, "spread": 0.01}
                for name in ("mig", "fast.mig")
            ]
    info = {
        "name": "known",
        "question": "What does <beta> do?",
        "metrics": [["val/mse", "minimize"], ["val/mig", "maximize"]][:metrics],
        "version": "0.1.0",
        "seed": 0,
        "file": "known.py",
        "file_sha256": "0" * 64,
    }
    texts = {name: distribution_to_json(distribution) for name, distribution in DISTRIBUTIONS.items()}
    known = pd.DataFrame(references, columns=["trial", "metric", "floor", "ceiling", "spread"])
    protocols = {
        "epoch": epoch.describe() | {"measured": ["mig"]},
        "fast": fast.describe() | {"measured": ["fast.mig"]},
    }
    frames = (pd.DataFrame(rows) for rows in (trials, rows, history))
    return Results(info, *frames, texts, pictures, known, protocols)


def keep_codes(folder: Path, factors_named: Sequence[str] = ("shape", "constant", "x")) -> None:
    """Keep two codes: the second factor that varies, and noise."""
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(0, 3, 600), np.zeros(600, np.int64), rng.integers(0, 4, 600)], axis=1)
    codes = np.stack([factors[:, 2].astype(np.float32), rng.normal(size=600).astype(np.float32)], axis=1)
    kept = {"codes": codes, "factors": factors, "kl": np.array([0.5, 2.0], np.float32)}
    save_file({name: np.ascontiguousarray(array) for name, array in kept.items()}, folder / "reference.safetensors")
    info = {"shape": [1, 8, 8], "classes": [], "replica": 0, "factors": list(factors_named)}
    (folder / "info.json").write_text(json.dumps(info))
