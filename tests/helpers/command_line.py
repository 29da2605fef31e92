"""Run aesearch as a command."""

import subprocess
import sys
import time
from pathlib import Path

STUDY = '''"""Small?"""
from aesearch import Maximize, Minimize, Sprites, Study, TrainConfig
from aesearch.networks import MLP
from aesearch.objectives import BetaVAE

def space(trial):
    return TrainConfig(
        data=Sprites(resolution=16, scales=2, orientations=2, positions=8),
        network=MLP((16,)),
        latent_dim=trial.suggest_int("latent_dim", 2, 6),
        objective=BetaVAE(trial.suggest_float("beta", 0.5, 8.0, log=True)),
        replicas=2,
        epochs=3,
    )

study = Study("small", space, (Minimize("val/mse"), Maximize("val/mig")), n_trials=4, max_concurrent=2)
'''


def aesearch(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aesearch", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "aesearch", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def finished(folder: Path) -> set[str]:
    return {path.parent.name for path in (folder / ".aesearch" / "small" / "trials").glob("*/state.json")}
