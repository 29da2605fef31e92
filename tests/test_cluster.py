"""cluster.yaml against Ray's own schema, and closed to the world. Launching it is not tested here."""

import ipaddress
from pathlib import Path

import pytest
import yaml
from jsonschema import ValidationError

CONFIG = Path(__file__).parents[1] / "cluster.yaml"


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
