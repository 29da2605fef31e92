"""What several tests share: small data, a local Ray, the real MNIST where it is."""

import os
from collections.abc import Iterator
from pathlib import Path

# One thread per process, commands that tests start included: several processes run at once, and threads of one
# that wait in a spin for those of another make small networks ten times slower. Read when torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest

from aesearch.datasets import Data, Sprites

MNIST_ROOT = Path(__file__).parents[2] / "shared" / "data"

# 3 x 2 x 2 x 8 x 8 = 768 images of 16 x 16: rendered in a moment, with five varying factors.
TINY = Sprites(resolution=16, scales=2, orientations=2, positions=8)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def tiny(data_root: Path) -> Data:
    return TINY.load(data_root)


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    if not (MNIST_ROOT / "MNIST" / "raw").exists():
        pytest.skip(f"the real MNIST is not below {MNIST_ROOT}")
    return MNIST_ROOT


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray of two CPUs for the tests of this session; tests must not stop any other."""
    import ray

    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=128 * 1024**2)
    yield
    ray.shutdown()


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
