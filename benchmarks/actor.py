"""Check that a worker of many trials stays as it was: its memory and results.

    python benchmarks/actor.py [--trials 100]

The first, the middle and the last trial are the same. The others differ in width, so that a leak would show.
"""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

import optuna
import psutil
from table import print_table

from aesearch import Minimize, Sprites, Study, TrainConfig
from aesearch.networks import MLP
from aesearch.objectives import BetaVAE
from aesearch.search.cluster import Where
from aesearch.search.driver import run_study
from aesearch.search.ledger import Ledger


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    count = parser.parse_args().trials
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    same = (0, count // 2, count - 1)

    def space(trial: optuna.Trial) -> TrainConfig:
        number = trial.suggest_int("number", 0, count - 1)
        return TrainConfig(
            data=Sprites(resolution=16, scales=2, orientations=2, positions=8),
            network=MLP((64 if number in same else 32 + 8 * (number % 32),), dropout=0.1),
            latent_dim=3,
            objective=BetaVAE(2.0 if number in same else 1.0 + number % 7),
            replicas=2,
            epochs=2,
        )

    folder = Path(tempfile.mkdtemp())
    study = Study("actor", space, Minimize("val/mse"), sampler="grid", n_trials=count, max_concurrent=1)
    ledger = Ledger.open(study, folder)
    memory: list[tuple[int, int]] = []

    def watch(shares: Mapping[str, float]) -> None:
        if len(ledger.finished()) > len(memory):
            pid = ledger.record(max(ledger.finished())).read("worker.json")["pid"]
            memory.append((pid, psutil.Process(pid).memory_info().rss))

    run_study(ledger, Where(None, folder / "data"), lambda key: None, watch)
    numbers = {trial.params["number"]: key for key, trial in ledger.trials().items()}
    metrics = [ledger.record(numbers[number]).read("result.json")["metrics"] for number in same]
    ledger.close()
    tenth = max(1, len(memory) // 10)
    sizes = [size / 2**20 for _, size in memory]
    rows = [
        ["workers", "1", str(len({pid for pid, _ in memory}))],
        ["memory after the first tenth of the trials, MiB", "", f"{sizes[tenth]:.0f}"],
        ["memory after half of the trials, MiB", "", f"{sizes[len(sizes) // 2]:.0f}"],
        ["memory after the last trial, MiB", "the same", f"{sizes[-1]:.0f}"],
        ["the same trial first, in the middle and last: different metrics", "0", str(_differences(metrics))],
    ]
    print_table([f"{count} trials in one worker", "asked", "measured"], rows)


def _differences(metrics: list[dict[str, list[float]]]) -> int:
    first, *others = metrics
    return sum(other[name] != first[name] for other in others for name in first)


if __name__ == "__main__":
    main()
