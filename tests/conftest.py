"""What several tests share: small data, a local Ray, the real MNIST where it is."""

import os
from collections.abc import Iterator
from pathlib import Path

# One thread per process, commands that tests start included: several processes run at once, and threads of one
# that wait in a spin for those of another make small networks ten times slower. Read when torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"

import subprocess
from collections.abc import Callable
from dataclasses import replace
from tempfile import TemporaryDirectory

import pytest
from helpers.command_line import STUDY
from helpers.small import TINY
from helpers.stores import new_store
from hypothesis import settings

from aesearch.__main__ import main
from aesearch.datasets import Data

# An example takes longer than Hypothesis allows where the machine is loaded.
settings.register_profile("any load", deadline=None)
settings.load_profile("any load")

MNIST_ROOT = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def tiny(data_root: Path) -> Data:
    return TINY.load(data_root)


@pytest.fixture(scope="session")
def few(tiny: Data) -> Data:
    """Four batches of 32 images to train on: enough where a test is not of what is learnt."""
    return replace(tiny, train=tiny.train[:128], val=tiny.val[:64], test=tiny.test[:64])


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    if not (MNIST_ROOT / "MNIST" / "raw").exists():
        pytest.skip(f"the real MNIST is not below {MNIST_ROOT}")
    return MNIST_ROOT


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray of two CPUs for the tests of this session; tests must not stop any other."""
    import ray

    from aesearch.search.cluster import start_local

    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    start_local(num_cpus=2, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a path so short that the sockets of a Ray fit below it."""
    with TemporaryDirectory(prefix="r", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def folder(in_tmp: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AESEARCH_DATA", str(data_root))
    # The drivers of these tests start a Ray of their own, beside the one of the other tests.
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (in_tmp / "small.py").write_text(STUDY)
    return in_tmp


@pytest.fixture
def here(folder: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """As ``aesearch``, in this process and without Ray, which is much quicker."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        if arguments[:1] == ("run",):
            arguments = (*arguments, "--no-ray")
        capfd.readouterr()
        try:
            status = main(list(arguments))
        except SystemExit as ended:
            status = int(ended.code or 0)
        return subprocess.CompletedProcess(arguments, status, *capfd.readouterr())

    return run


@pytest.fixture
def uri(in_tmp: Path) -> str:
    """The address of an empty MLflow store in the working directory."""
    return new_store(in_tmp / "mlflow.db")


@pytest.fixture
def missing_uri(in_tmp: Path) -> str:
    """The address of a store that is not there yet."""
    return f"sqlite:///{in_tmp}/mlflow.db"
