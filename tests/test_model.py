import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image

from aesearch.errors import UserError
from aesearch.model import from_json, load_model, restore, save_artifacts, save_grid, to_json, traversals
from aesearch.networks import MLP, Conv
from aesearch.objectives import VAE, BetaVAE, Reconstruction
from aesearch.train import TrainConfig

CONFIG = TrainConfig(TINY, MLP((8,)), latent_dim=3, objective=BetaVAE(2.0), replicas=2)


def weights(config: TrainConfig) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    states = [config.build().state_dict() for _ in range(config.replicas)]
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        TrainConfig(TINY, Conv((4, 8), dense=16), latent_dim=2, objective=Reconstruction("gaussian"), noise_factor=0.1),
    ],
)
def test_a_configuration_survives_json(config):
    assert from_json(json.loads(json.dumps(to_json(config)))) == config


@pytest.mark.parametrize("objective", [VAE(), Reconstruction()])
@pytest.mark.parametrize("network", [MLP((8,)), Conv((4,), dense=8)])
def test_a_saved_model_gives_the_same_output(tmp_path, tiny, objective, network):
    config = TrainConfig(TINY, network, latent_dim=3, objective=objective, replicas=2)
    state = weights(config)
    save_artifacts(tmp_path, config, state, tiny.images[:50], replica=1)
    x, noise = torch.rand(4, 1, 16, 16), torch.randn(1, 4, 3)
    for replica in range(2):
        model, loaded = load_model(tmp_path, replica)
        assert loaded == config
        expected = restore(config, state, replica)(x, noise)
        torch.testing.assert_close(model(x, noise).logits, expected.logits, rtol=0, atol=0)
    assert {file.name for file in tmp_path.iterdir()} == {
        "config.json",
        "model.safetensors",
        "reconstructions.png",
        "traversals.png",
    }


def test_types_that_are_not_ours_are_never_made(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"type": "Popen", "args": "true"}))
    with pytest.raises(UserError, match="aesearch's own types, but got type 'Popen'"):
        load_model(tmp_path)


def test_missing_and_damaged_weights_are_one_error(tmp_path: Path, tiny):
    with pytest.raises(UserError, match="a model folder must hold"):
        load_model(tmp_path)
    save_artifacts(tmp_path, CONFIG, weights(CONFIG), tiny.images[:50], replica=0)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="a model folder must hold"):
        load_model(tmp_path)


def test_a_replica_that_is_not_there_is_refused(tmp_path, tiny):
    save_artifacts(tmp_path, CONFIG, weights(CONFIG), tiny.images[:50], replica=0)
    with pytest.raises(UserError, match="replica must be from 0 to 1, but got 2"):
        load_model(tmp_path, replica=2)


def test_a_traversal_moves_one_code_per_row_and_starts_with_the_most_varying(tiny):
    model = restore(CONFIG, weights(CONFIG), 0)
    with torch.no_grad():
        model.encoder[-1].weight[1] *= 100
    x = torch.from_numpy(np.array(tiny.images[:64])).float() / 255
    rows = traversals(model, CONFIG, x)
    assert rows.shape == (3, 9, 1, 16, 16)
    with torch.no_grad():
        means = model.encode(x)
        code = means[0].clone()
        code[1] = means[:, 1].mean() - 2.5 * means[:, 1].std()
        expected = torch.sigmoid(model.decoder(code[None]))[0]
    np.testing.assert_allclose(rows[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_is_a_picture_of_its_images(tmp_path, channels):
    grid = np.zeros((2, 3, channels, 10, 10), np.float32)
    grid[1, 2] = 1
    save_grid(tmp_path / "grid.png", grid, least_pixels=20)
    picture = np.asarray(Image.open(tmp_path / "grid.png"))
    assert picture.shape[:2] == (2 * 12 * 2, 3 * 12 * 2)
    assert picture[36, 60].max() == 255
    assert picture[12, 12].max() == 0
