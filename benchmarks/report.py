"""Time ``report`` over a study whose values are drawn, not trained.

python benchmarks/report.py                                        1,000 trials of 40 metrics and 3 replicas
python benchmarks/report.py --trials 30 --parameters 300           many swept parameters
python benchmarks/report.py --trials 16 --metrics 25 --rounds 3    as large as the main job
python benchmarks/report.py --trials 3 --metrics 9 --epochs 2      as large as in tests
python benchmarks/report.py --folder FOLDER                        keep the study there, or take the one that is there

The records and MLflow on SQLite are written by the functions that a search calls. The command runs in a process of its
own, with its imports.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import chdir
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import distribution_to_json
from safetensors.numpy import save_file
from table import print_table

from aesearch import Maximize, Minimize, Sprites, Study, TrainConfig
from aesearch.metrics.registry import KINDS
from aesearch.model import save_grid
from aesearch.networks import MLP
from aesearch.objectives import BetaVAE
from aesearch.pareto import front
from aesearch.protocols import dlib, epoch, fast
from aesearch.records import Record
from aesearch.search.ledger import Ledger
from aesearch.tracking.sender import send_all
from aesearch.train import Epoch

PAGES = ("index.html", "report.md", "trials.csv")
# The peak is read where the process ends: what the kernel says of a child counts the memory of its parent.
COMMAND = """
from pathlib import Path
from aesearch.__main__ import main
assert main(["report", "drawn"]) == 0
print(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""
AT_EACH_EPOCH = ("loss", "mse", "bce", "elbo", "kl", "active_units", "mig", "sap")
JUDGED = [kind.name for kind in KINDS.values() if kind.measure and kind.ceiling]
# As many of these as are asked for, the first first.
METRICS = [*AT_EACH_EPOCH, "pca_mse", *(f"{one.name}.{name}" for one in (fast, dlib) for name in JUDGED)]
DATA = Sprites(resolution=32)
FACTORS = {"shape": 3, "scale": 3, "orientation": 8, "x": 16, "y": 16}
CODES = 10


def space(trial: optuna.Trial, more: int) -> TrainConfig:
    for i in range(more):
        trial.suggest_float(f"unused_{i}", 0.0, 1.0)
    beta = trial.suggest_float("beta", 0.25, 16.0, log=True)
    return TrainConfig(DATA, MLP((8,)), trial.suggest_int("latent_dim", 4, 16), BetaVAE(beta), replicas=3, epochs=20)


def values_of(params: dict[str, float], names: list[str], asked: argparse.Namespace) -> dict[str, NDArray[np.float64]]:
    """Draw each metric of each replica: it moves with beta, by seed and by setting."""
    rng = np.random.default_rng(int(params["beta"] * 1e9))
    place = np.log(params["beta"] / 0.25) / np.log(64)
    moves = np.array([-1.0 if KINDS[name.rpartition(".")[2]].better == "less" else 1.0 for name in names])
    setting = 0.3 + 0.4 * place * np.where(np.arange(len(names)) % 3, 1, -1) + rng.normal(0, 0.05, len(names))
    drawn = setting + rng.normal(0, 0.02, (asked.replicas, len(names)))
    return dict(zip(names, (np.abs(drawn) + 0.01 * (moves < 0)).T, strict=True))


def lists(values: dict[str, NDArray[np.float64]], split: str, scale: float = 1.0) -> dict[str, tuple[float, ...]]:
    return {f"{split}/{name}": tuple((scale * of_one).tolist()) for name, of_one in values.items()}


def write_pictures(folder: Path) -> None:
    """Write pictures of discs, as large as those of the main job."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(32), np.arange(32))
    for name, rows, columns in (("reconstructions", 2, 8), ("traversals", 10, 9)):
        left, top = rng.integers(8, 24, (2, rows, columns, 1, 1, 1))
        save_grid(folder / f"{name}.png", 1 / (1 + np.exp(((x - left) ** 2 + (y - top) ** 2 - 36) / 9)))


def write_codes(folder: Path) -> None:
    """Write codes of which half tell a factor."""
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(0, size, 2000) for size in FACTORS.values()], axis=1)
    codes = rng.normal(size=(2000, CODES)).astype(np.float32)
    codes[:, : len(FACTORS)] += (4 * factors / factors.max(0)).astype(np.float32)
    kl = np.linspace(3, 0, CODES, dtype=np.float32)
    save_file({"codes": codes, "factors": factors, "kl": kl}, folder / "reference.safetensors")
    info = {"shape": list(DATA.shape), "classes": [], "replica": 0, "factors": list(FACTORS)}
    (folder / "info.json").write_text(json.dumps(info))


def write_trial(record: Record, params: dict[str, float], texts: dict[str, str], asked: argparse.Namespace) -> None:
    names = METRICS[: asked.metrics]
    values = values_of(params, names, asked)
    record.begin({"key": int(record.folder.name), "params": params, "distributions": texts, "config": "..."})
    curves = {name: values[name] for name in names if name in AT_EACH_EPOCH}
    for number in range(1, asked.epochs + 1):
        metrics = {"train/loss": tuple(values["loss"].tolist())} | lists(curves, "val", 1 + 1 / number)
        record.append(Epoch(number, metrics, 1.0, 0.2), float(number))
    protocols = {one.name: one.describe() | {"measured": []} for one in (epoch, fast, dlib)}
    references = {}
    for name in names:
        if name.rpartition(".")[2] in JUDGED:
            protocols[name.partition(".")[0] if "." in name else "epoch"]["measured"].append(name)
            references[f"test/{name}"] = [0.1, 1.0]
    write_pictures(record.artifacts)
    record.finish(
        {
            "metrics": lists(values, "val") | lists(values, "test", 1.01),
            "selected_epochs": [asked.epochs] * asked.replicas,
            "references": references,
            "protocols": {name: known for name, known in protocols.items() if known["measured"]},
            "seconds": 1.2 * asked.epochs,
        }
    )


def write_study(folder: Path, asked: argparse.Namespace) -> None:
    """Write the study's records, and send them to MLflow.

    As a search does, it keeps the pictures of all trials, and the codes of those on the front.
    """
    own = partial(space, more=asked.parameters - 2)
    study = Study("drawn", own, (Minimize("val/mse"), Maximize("val/mig")), n_trials=asked.trials)
    ledger = Ledger.open(study, folder)
    sampler = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    costs = []
    for key in range(asked.trials):
        trial = sampler.ask()
        own(trial)
        texts = {name: distribution_to_json(one) for name, one in trial.distributions.items()}
        write_trial(ledger.record(key), trial.params, texts, asked)
        found = ledger.record(key).measured()["metrics"]
        costs.append((float(np.median(found["val/mse"])), -float(np.median(found["val/mig"]))))
    for key in front(costs):
        write_codes(ledger.record(key).artifacts)
    for key in range(asked.trials):
        ledger.record(key).close("COMPLETE", "")
    ledger.close()
    send_all("sqlite:///mlflow.db", ledger.describe(), ledger.folder / "trials")


def run_report(folder: Path, limit: float) -> tuple[float, float, float]:
    """Measure the command: its seconds, those of the CPU, its peak memory in GiB.

    The seconds are infinite where it was ended at the limit.
    """
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run(
            [sys.executable, "-c", COMMAND], cwd=folder, timeout=limit, check=True, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired:
        return math.inf, math.nan, math.nan
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return seconds, busy, int(done.stdout.split()[-2]) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--metrics", type=int, default=40, help=f"at most {len(METRICS)}")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--parameters", type=int, default=2, help="how many are swept, at least 2")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--limit", type=float, default=900, help="seconds after which the command is ended")
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = (asked.folder or Path(name)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "mlflow.db").exists():
            with chdir(folder):
                write_study(folder, asked)
        taken = [run_report(folder, asked.limit) for _ in range(asked.rounds)]
        report = folder / "reports" / "drawn"
        sizes = {one: (report / one).stat().st_size / 1e6 for one in PAGES if (report / one).exists()}
        figures = len(list(report.glob("figures/*.png")))
    seconds = median(one[0] for one in taken)
    rows: list[list[object]] = [
        ["seconds, imports included", f"{seconds:.1f}" if seconds < math.inf else f"over {asked.limit:.0f}", "30"],
        ["of them on the CPU", f"{median(one[1] for one in taken):.1f}", ""],
        ["peak memory, GiB", f"{max(one[2] for one in taken):.2f}", ""],
        ["figures", figures, ""],
    ]
    rows += [[f"{one}, MB", f"{size:.2f}", "5" if one == PAGES[0] else ""] for one, size in sizes.items()]
    what = f"{asked.trials} trials, {asked.metrics} metrics, {asked.replicas} replicas, {asked.parameters} parameters"
    print_table([what, "measured", "asked, at most"], rows)


if __name__ == "__main__":
    main()
