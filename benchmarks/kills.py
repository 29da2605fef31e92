"""Harm a study at a random moment, give its command again, and count faults.

python benchmarks/kills.py                  kill -9 of the driver: 20 rounds of a study of 12 trials, about 20 minutes
python benchmarks/kills.py --of interrupt   Ctrl-C
python benchmarks/kills.py --of worker      kill -9 of the process that trains
python benchmarks/kills.py --of server      kill -9 of the MLflow server, which is started again 3 seconds later
python benchmarks/kills.py --rounds 3
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import optuna
import pandas as pd
import psutil
from mlflow import MlflowClient
from server import Server
from table import print_table

TRIALS, EPOCHS, REPLICAS = 12, 10, 2
WRONG = (
    "finished trials lost",
    "finished trials run again",
    "MLflow runs too many",
    "MLflow runs that dangle",
    "curves with a point too many or too few",
    "Optuna trials left running",
    "Optuna trials complete, too many or too few",
    "tables that differ from an uninterrupted study's",
)
STUDY = '''"""Killed?"""
from dataclasses import dataclass
from pathlib import Path

from aesearch import Maximize, Minimize, Sprites, Study, TrainConfig
from aesearch.networks import MLP
from aesearch.objectives import BetaVAE

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Traced(BetaVAE):
    """Writes down what is trained, apart from all that aesearch writes."""

    def regulariser(self, output, target, step):
        if output.logits.requires_grad:
            with open("{trace}", "a") as file:
                file.write(f"{{self.beta!r}} {{float(step.progress):.6f}}\\n")
        return super().regulariser(output, target, step)


def space(trial):
    return TrainConfig(
        Sprites(resolution=16, scales=2, orientations=2, positions=8),
        MLP((32,)),
        latent_dim=trial.suggest_int("latent_dim", 2, 6),
        objective=Traced(trial.suggest_float("beta", 0.5, 8.0, log=True)),
        replicas={replicas},
        epochs={epochs},
    )


study = Study(
    "killed",
    space,
    (Minimize("val/mse"), Maximize("val/mig")),
    n_trials={trials},
    max_concurrent=1,
    checkpoint_seconds=0.2,
)
'''


def begin(folder: Path) -> list[str]:
    """Make a folder with the study, and the command that runs it."""
    folder.mkdir()
    text = STUDY.format(trace=folder / "trace.txt", replicas=REPLICAS, epochs=EPOCHS, trials=TRIALS)
    (folder / "killed.py").write_text(text)
    return [sys.executable, "-m", "aesearch", "run", "killed.py", "--data", str(folder.parent / "data")]


def run(command: list[str], folder: Path) -> float:
    """Run a command to its end; give its seconds."""
    started = time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"status {done.returncode}: {done.stdout[-500:]} {done.stderr[-2000:]}")
    return time.monotonic() - started


def harm(what: str, command: list[str], folder: Path, after: float, trained: bool, server: Server | None) -> float:
    """Do harm ``after`` so many seconds of the driver or of its training."""
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        while trained and not (folder / "trace.txt").exists():
            time.sleep(0.01)
        time.sleep(after)
        if server:
            server.kill()
            time.sleep(3)
            server.start()
        elif what == "worker":
            kill_worker(driver)
        else:
            driver.send_signal(signal.SIGINT if what == "interrupt" else signal.SIGKILL)
        done = time.monotonic()
        driver.wait(timeout=300)
    seconds = time.monotonic() - done
    if what == "driver":
        # What Ray started ends by itself once the driver is gone.
        time.sleep(3)
    elif what in ("worker", "server") and driver.returncode:
        raise RuntimeError(f"the study ended with status {driver.returncode}")
    return seconds


def kill_worker(driver: subprocess.Popen[bytes]) -> None:
    """Kill the process that trains, or the next one; none if the study ends before."""
    while driver.poll() is None:
        for process in psutil.Process(driver.pid).children(recursive=True):
            with suppress(psutil.Error):
                if re.search(r"ray::\w*ImplicitFunc", " ".join(process.cmdline())):
                    process.kill()
                    return
        time.sleep(0.01)


def finished(folder: Path) -> dict[str, bytes]:
    """Read the results of the trials that have ended."""
    trials = folder / ".aesearch" / "killed" / "trials"
    return {path.parent.name: path.read_bytes() for path in trials.glob("*/result.json")}


def table(folder: Path) -> str:
    trials = pd.read_csv(folder / "reports" / "killed" / "trials.csv")
    return trials.drop(columns=["seconds"]).to_csv(index=False)


def trained_seconds(folder: Path) -> float:
    """Measure the seconds from the first trial's begin to the last one's end."""
    trials = sorted((folder / ".aesearch" / "killed" / "trials").iterdir())
    return (trials[-1] / "state.json").stat().st_mtime - (trials[0] / "trial.json").stat().st_mtime


def judge(folder: Path, uri: str, before: dict[str, bytes], expected: str) -> Counter[str]:
    """Count faults and facts of a study that was harmed."""
    found: Counter[str] = Counter()
    after = finished(folder)
    found["finished trials when killed"] = len(before)
    found["finished trials lost"] = sum(name not in after for name in before)
    found["finished trials run again"] = sum(after.get(name) != content for name, content in before.items())
    trace = Counter((folder / "trace.txt").read_text().splitlines())
    found["steps trained"] = trace.total()
    found["steps trained twice"] = sum(count - REPLICAS for count in trace.values() if count > REPLICAS)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("killed")
    assert experiment is not None, "MLflow lacks the study"
    runs = client.search_runs([experiment.experiment_id])
    keys = [run.data.tags["aesearch.trial"] for run in runs if "aesearch.trial" in run.data.tags]
    found["MLflow runs too many"] = len(runs) - TRIALS - 1 + len(keys) - len(set(keys))
    found["MLflow runs that dangle"] = sum(run.info.status != "FINISHED" for run in runs)
    for run_of_trial in (run for run in runs if "aesearch.trial" in run.data.tags):
        points = client.get_metric_history(run_of_trial.info.run_id, "val/mse")
        found["curves with a point too many or too few"] += [p.step for p in points] != list(range(1, EPOCHS + 1))
    storage = f"sqlite:///{folder}/.aesearch/killed/ledger.db"
    states = [trial.state.name for trial in optuna.load_study(study_name="killed", storage=storage).trials]
    found["Optuna trials left running"] = states.count("RUNNING") + states.count("WAITING")
    found["Optuna trials complete, too many or too few"] = abs(states.count("COMPLETE") - TRIALS)
    found["tables that differ from an uninterrupted study's"] = table(folder) != expected
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--of", choices=["driver", "interrupt", "worker", "server"], default="driver")
    asked = parser.parse_args()
    os.environ.pop("RAY_ADDRESS", None)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rng = random.Random(asked.seed)
    total: Counter[str] = Counter()
    ended: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        whole = root / "whole"
        seconds = run(begin(whole), whole)
        expected = table(whole)
        training = trained_seconds(whole)
        for number in range(asked.rounds):
            folder = root / f"round{number}"
            command = begin(folder)
            server, uri = None, f"sqlite:///{folder}/mlflow.db"
            if asked.of == "server":
                server = Server(folder)
                server.start()
                uri = server.uri
                command += ["--tracking-uri", uri]
            # Every other round while it trains, which is the shorter part of so small a study.
            trained = number % 2 == 0
            after = rng.uniform(0, training if trained else seconds)
            ended.append(harm(asked.of, command, folder, after, trained, server))
            before = finished(folder)
            run(command, folder)
            found = judge(folder, uri, before, expected)
            if server:
                server.kill()
            total.update(found)
            what = f"{after:.1f} s {'of training' if trained else 'of all'}, {len(before)} finished"
            print(f"round {number + 1}: after {what}; {'; '.join(what for what in WRONG if found[what])}", flush=True)
    rows = [[what, f"{total[what]:,}", "0" if what in WRONG else ""] for what in total]
    if asked.of == "interrupt":
        rows.append(["seconds from Ctrl-C to the end of the command, at most", f"{max(ended):.1f}", "10"])
    print_table([f"{asked.rounds} rounds of {TRIALS} trials, harm to the {asked.of}", "measured", "asked"], rows)


if __name__ == "__main__":
    main()
