"""Run aesearch as a command."""

import stat
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


def rights(folder: Path) -> dict[str, set[str]]:
    """List the modes of the folders and files below a folder, itself included."""
    modes: dict[str, set[str]] = {"folders": set(), "files": set()}
    for path in (folder, *folder.rglob("*")):
        modes["folders" if path.is_dir() else "files"].add(f"{stat.S_IMODE(path.stat().st_mode):o}")
    return modes


PRIVATE = {"folders": {"700"}, "files": {"600"}}
SHARED = {"folders": {"755"}, "files": {"644"}}


def finished(folder: Path) -> set[str]:
    return {path.parent.name for path in (folder / ".aesearch" / "small" / "trials").glob("*/state.json")}
