"""A SQLite store is whole or not there: made by many at once, by one that is killed."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from aesearch.tracking import create_store


@pytest.fixture
def uri(in_tmp: Path) -> str:
    return f"sqlite:///{in_tmp}/mlflow.db"


def making(uri: str) -> subprocess.Popen[bytes]:
    """A process that makes the store when it is told to."""
    code = f"from aesearch.tracking import create_store; print('ready', flush=True); input(); create_store({uri!r})"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], **pipes)


def tell(process: subprocess.Popen[bytes]) -> None:
    process.stdin.write(b"\n")
    process.stdin.flush()


def test_four_processes_make_a_store_at_once(uri, in_tmp):
    started = [making(uri) for _ in range(4)]
    assert [process.stdout.readline() for process in started] == [b"ready\n"] * 4
    for process in started:
        tell(process)
    assert [(process.communicate()[1], process.returncode) for process in started] == [(b"", 0)] * 4
    MlflowClient(uri).create_experiment("it works")
    assert not list(in_tmp.glob("*.tmp"))


def test_a_store_that_is_there_is_left_alone(uri, in_tmp):
    create_store(uri)
    before = (in_tmp / "mlflow.db").read_bytes()
    create_store(uri)
    assert (in_tmp / "mlflow.db").read_bytes() == before


def test_a_store_whose_making_is_killed_is_not_there_and_is_made_again(uri, in_tmp):
    rng = random.Random(0)
    left = 0
    for _ in range(3):
        with making(uri) as process:
            tell(process)
            deadline = time.monotonic() + 30
            while not list(in_tmp.glob("*.tmp")):
                assert time.monotonic() < deadline
                time.sleep(0.005)
            # Of the one to three seconds that the migrations take.
            time.sleep(rng.uniform(0, 0.8))
            process.send_signal(signal.SIGKILL)
        left += not (in_tmp / "mlflow.db").exists()
    assert left, "it was never killed in the making"
    create_store(uri)
    MlflowClient(uri).create_experiment("it works")
    assert sorted(path.name for path in in_tmp.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
