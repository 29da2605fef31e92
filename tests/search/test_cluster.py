"""A cluster that loses a node; cluster.yaml against Ray's own schema, and closed to the world.

Launching it is not tested here.
"""

import ipaddress
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from helpers.command_line import STUDY, start
from jsonschema import ValidationError
from optuna.trial import FixedTrial
from ray.cluster_utils import Cluster

from aesearch.errors import UserError
from aesearch.search.cluster import _protect_token, ray_folder
from aesearch.study import load_study
from aesearch.train import train

CONFIG = Path(__file__).parents[2] / "cluster.yaml"


@pytest.fixture(scope="module")
def config() -> dict:
    return yaml.safe_load(CONFIG.read_text())


def test_rays_own_check_accepts_it(config):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))
    with pytest.raises(ValidationError):
        validate_config(prepare_config(config | {"max_worker": 4}))


def test_every_ray_that_it_starts_wants_the_token(config):
    commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "/home/ubuntu/.ray/auth_token" in config["file_mounts"]


def test_nothing_is_open_to_the_world(config):
    [rule] = config["provider"]["security_group"]["IpPermissions"]
    assert (rule["FromPort"], rule["ToPort"]) == (22, 22)
    networks = [ipaddress.ip_network(block["CidrIp"]) for block in rule["IpRanges"]]
    assert all(network.prefixlen >= 16 for network in networks)
    text = CONFIG.read_text()
    assert "0.0.0.0" not in text
    assert "--dashboard-host=127.0.0.1" in text


def test_the_folder_of_a_local_ray_is_the_users_own(short, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(short))
    own = short / f"ray-{os.getuid()}"
    assert ray_folder() == ray_folder() == own / "ray"
    assert own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o755)
    with pytest.raises(UserError, match=f"with mode 0700, but {own} is not; remove it, or set RAY_TMPDIR"):
        ray_folder()
    own.rename(short / "elsewhere")
    (short / "elsewhere").chmod(0o700)
    own.symlink_to(short / "elsewhere")
    with pytest.raises(UserError, match="must be this user's own"):
        ray_folder()


def test_a_path_that_is_too_long_for_a_socket_is_not_taken(short, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(short / ("x" * 30)))
    assert ray_folder() == Path(f"/tmp/ray-{os.getuid()}/ray")


def test_rays_token_is_taken_from_other_users(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    _protect_token()
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.touch(0o644)
    token.chmod(0o644)
    _protect_token()
    assert token.stat().st_mode & 0o777 == 0o600


@pytest.fixture
def cluster(monkeypatch) -> Iterator[Cluster]:
    """Of one node with one CPU, at the machine's own address."""
    # Where this process has a Ray, on loopback as every local one, the nodes would take its address.
    monkeypatch.setattr("ray._private.worker._global_node", None)
    node = {"num_cpus": 1, "object_store_memory": 128 * 1024**2}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    yield cluster
    cluster.shutdown()


def trial_below(folder: Path, raylet: int) -> str:
    """A trial that a process of this node trains and that has a checkpoint; empty where there is none."""
    for path in folder.glob("trials/*/checkpoints/*.json"):
        trial = path.parents[1]
        try:
            parents = psutil.Process(json.loads((trial / "worker.json").read_text())["pid"]).parents()
        except psutil.NoSuchProcess:
            continue
        if raylet in {parent.pid for parent in parents} and not (trial / "result.json").exists():
            return trial.name
    return ""


def test_a_trial_of_a_node_that_is_lost_goes_on_at_another(cluster, in_tmp, data_root, monkeypatch):
    """Oracle: what the trial's configuration comes to when it is trained here, at one go."""
    monkeypatch.setenv("AESEARCH_DATA", str(data_root))
    options = 'sampler="random", n_trials=3, checkpoint_seconds=0, cpus=1'
    text = STUDY.replace("n_trials=4, max_concurrent=2", options).replace("epochs=3", "epochs=60")
    (in_tmp / "small.py").write_text(text)
    lost = cluster.add_node(num_cpus=1, object_store_memory=128 * 1024**2)
    raylet = lost.all_processes["raylet"][0].process.pid
    state = in_tmp / ".aesearch" / "small"
    with start("run", "small.py", "--address", cluster.address) as driver:
        deadline = time.monotonic() + 120
        while not (name := trial_below(state, raylet)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        cluster.remove_node(lost, allow_graceful=False)
        output = driver.communicate(timeout=120)[0]
    assert driver.returncode == 0, output
    results = [json.loads(path.read_text()) for path in sorted(state.glob("trials/*/result.json"))]
    assert len(results) == 3
    assert (
        "its process ended; another one goes on after epoch " in (state / "trials" / name / "remarks.txt").read_text()
    )
    study = load_study(Path("small.py"))
    trial = json.loads((state / "trials" / name / "trial.json").read_text())
    config = study.config(FixedTrial(trial["params"]))
    *_, last = train(config, config.data.load(data_root))
    assert results[int(name)]["metrics"] == {name: list(values) for name, values in last.result.metrics.items()}
