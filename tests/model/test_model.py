import gc
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.small import TINY
from PIL import Image

from aesearch.bottlenecks import Gaussian, Plain, VampPrior, VectorQuantized
from aesearch.corruptions import Masking
from aesearch.datasets import Data, Digits, OneClass, Table
from aesearch.errors import UserError
from aesearch.model import Model, from_json, load_model, restore, save_grid, save_model, to_json, traversals
from aesearch.model.artifacts import save_artifacts
from aesearch.networks import MLP, Burgess, Conv, ResNet
from aesearch.objectives import (
    IWAE,
    VAE,
    WAE,
    BetaVAE,
    Contractive,
    Cyclical,
    FactorVAE,
    KLSparse,
    Reconstruction,
    Sparse,
)
from aesearch.protocols import chen, epoch
from aesearch.scores import PCA, UDR, Denoising, Detection, Disentanglement, Likelihood
from aesearch.train import Result, TrainConfig
from aesearch.use.program import export_program

CONFIG = TrainConfig(TINY, MLP((8,)), latent_dim=3, objective=BetaVAE(2.0), replicas=2)


def weights(config: TrainConfig) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    states = [config.build().state_dict() for _ in range(config.replicas)]
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


def result(config: TrainConfig) -> Result:
    losses = tuple(float(config.replicas - r) for r in range(config.replicas))
    return Result({"val/loss": losses, "test/mse": losses}, (1,) * config.replicas, weights(config))


def model(config: TrainConfig) -> Model:
    info = {"classes": list(config.data.classes), "replica": 0, "fitted": {}}
    return Model(restore(config, weights(config), 0), config, info, {}, 0)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        TrainConfig(TINY, Conv((4, 8), dense=16), latent_dim=2, objective=Reconstruction("gaussian"), noise_factor=0.1),
        TrainConfig(TINY, ResNet((4,)), 2, Sparse(), Plain(nonnegative=True), corruption=Masking(), scores=(PCA(),)),
        TrainConfig(TINY, Conv((4,)), 2, Reconstruction(), VectorQuantized(16), scores=(Denoising((0.1, 0.2)),)),
        TrainConfig(TINY, Conv((4, 4)), 2, FactorVAE(hidden=(5, 6)), warmup=Cyclical()),
        TrainConfig(
            TINY,
            MLP((8,)),
            2,
            IWAE(),
            monitors=(Disentanglement(("modularity",), epoch),),
            scores=(Disentanglement(protocol=replace(chen, name="own", seed=3)), Likelihood(4), UDR()),
        ),
        TrainConfig(OneClass(Digits(), (1, 3)), Burgess(), 2, VAE(), Gaussian(VampPrior(3)), scores=(Detection(),)),
    ],
    ids=lambda config: type(config.objective).__name__,
)
def test_a_configuration_survives_json(config):
    assert from_json(json.loads(json.dumps(to_json(config)))) == config


@pytest.mark.parametrize("objective", [VAE(), Reconstruction()])
@pytest.mark.parametrize("network", [MLP((8,)), Conv((4,), dense=8, norm="batch")])
def test_a_saved_model_gives_the_same_output(tmp_path, tiny, objective, network):
    config = TrainConfig(TINY, network, latent_dim=3, objective=objective, replicas=2)
    finished = result(config)
    save_artifacts(tmp_path, config, finished, tiny)
    x, noise = torch.rand(4, 1, 16, 16), torch.randn(1, 4, 3)
    for replica in range(2):
        loaded = load_model(tmp_path, replica)
        assert loaded.config == config
        expected = restore(config, finished.weights, replica)(x, noise)
        torch.testing.assert_close(loaded.network(x, noise).logits, expected.logits, rtol=0, atol=0)
    assert load_model(tmp_path).replica == 1, "the lowest val/loss"
    assert {file.name for file in tmp_path.iterdir()} == {
        "config.json",
        "info.json",
        "model.safetensors",
        "reference.safetensors",
        "reconstructions.png",
        "traversals.png",
    }


@pytest.mark.parametrize("likelihood", ["gaussian_global", "gaussian_pixel", "logistic"])
@pytest.mark.parametrize("network", [MLP((8,)), Conv((4,))])
def test_a_model_with_a_scale_is_saved_and_used(tmp_path, tiny, likelihood, network):
    config = TrainConfig(TINY, network, 3, VAE(likelihood), replicas=2)
    save_artifacts(tmp_path, config, result(config), tiny)
    loaded, images = load_model(tmp_path), np.array(tiny.images[:5])
    assert loaded.config == config
    for items in (loaded.reconstruct(images), loaded.sample(5), loaded.sample(5, prior="mixture")):
        assert items.shape == (5, 1, 16, 16)
        assert likelihood != "logistic" or (items.min() >= 0 and items.max() <= 1)
    assert {name: values.shape for name, values in loaded.score(images).items()} == {"error": (5,), "elbo": (5,)}
    (tmp_path / "exported").mkdir()
    export_program(loaded, tmp_path / "exported" / "model.pt2")
    program = torch.export.load(tmp_path / "exported" / "model.pt2").module()
    codes, rebuilt = program(torch.from_numpy(images).float() / 255)
    np.testing.assert_allclose(codes.detach(), loaded.encode(images), atol=1e-5)
    np.testing.assert_allclose(rebuilt.detach(), loaded.reconstruct(images), atol=1e-5)


def test_bounded_codes_stay_bounded_in_use(tmp_path, tiny):
    """A mixture of Gaussians and a traversal go beyond the codes of val."""
    config = TrainConfig(TINY, MLP((8,)), 3, KLSparse(), replicas=2)
    save_artifacts(tmp_path, config, result(config), tiny)
    loaded, images, seen = load_model(tmp_path), np.array(tiny.images[:5]), []
    loaded.network.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    loaded.sample(50, prior="mixture")
    traversals(loaded, images)
    loaded.decode(np.array([[-3.0, 0.25, 3.0]], np.float32))
    assert min(map(torch.min, seen)) >= 0
    assert max(map(torch.max, seen)) <= 1
    assert seen[-1].tolist() == [[0.0, 0.25, 1.0]]
    codes = loaded.encode(images)
    assert 0 < codes.min() < codes.max() < 1


OF_BEFORE = [
    (TrainConfig(TINY, MLP((8,)), 3, KLSparse(decoded="logit")), "objective", "decoded"),
    (TrainConfig(TINY, MLP((8,)), 3, Contractive(normalised=False)), "objective", "normalised"),
    (TrainConfig(TINY, MLP((8,)), 3, VAE(), Gaussian(VampPrior(4, bounded=False))), "bottleneck", "bounded"),
]


@pytest.mark.parametrize(("config", "of", "field"), OF_BEFORE, ids=lambda value: str(value).split("(")[0])
def test_an_older_model_does_what_it_did(tmp_path, tiny, config, of, field):
    """Its configuration lacks the field, whose default does something else today."""
    larger = 20 if of == "objective" else 1
    trained = {name: tensor * (3 if name == "pseudo_inputs" else larger) for name, tensor in weights(config).items()}
    save_model(tmp_path, config, trained)
    content = json.loads((tmp_path / "config.json").read_text())
    del content["format"]
    node = content[of] if of == "objective" else content[of]["prior"]
    del node[field]
    (tmp_path / "config.json").write_text(json.dumps(content))
    loaded = load_model(tmp_path)
    assert loaded.config == config
    images = np.array(tiny.images[:9])
    codes = loaded.encode(images)
    if of == "objective":
        assert codes.min() < 0 or codes.max() > 1, "no sigmoid is before the decoder"
    else:
        assert loaded.network.pseudo_inputs.max() > 1
        features = loaded.network.encoder(loaded.network.pseudo_inputs).chunk(2, dim=1)[0]
        drawn = loaded.network.from_prior(torch.zeros(4, 3), torch.arange(4))
        torch.testing.assert_close(drawn, features)
    for wrong in (1, 99, "3", True, None):
        (tmp_path / "config.json").write_text(json.dumps(content | {"format": wrong}))
        with pytest.raises(UserError, match=r"format of config.json must be from 2 to \d+, but is"):
            load_model(tmp_path)


def test_types_that_are_not_ours_are_never_made(tmp_path):
    save_model(tmp_path, CONFIG, weights(CONFIG))
    for content in ({"type": "Popen", "args": "true"}, {"type": "TrainConfig", "data": {"type": "system"}}):
        (tmp_path / "config.json").write_text(json.dumps(content))
        with pytest.raises(UserError):
            load_model(tmp_path)
    with pytest.raises(UserError, match="type 'Popen' of a saved configuration is not one of aesearch's own types"):
        from_json({"type": "Popen", "args": "true"})


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "info.json", "reference.safetensors"])
def test_missing_and_damaged_files_are_one_error(tmp_path: Path, tiny, file):
    with pytest.raises(UserError, match="has no complete model"):
        load_model(tmp_path)
    save_artifacts(tmp_path, CONFIG, result(CONFIG), tiny)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="has no complete model"):
        load_model(tmp_path)


def test_weights_of_another_configuration_are_refused(tmp_path):
    save_model(tmp_path, replace(CONFIG, latent_dim=4), weights(CONFIG))
    with pytest.raises(UserError, match="weights do not fit the configuration"):
        load_model(tmp_path)


def test_a_replica_that_is_not_there_is_refused(tmp_path):
    save_model(tmp_path, CONFIG, weights(CONFIG))
    with pytest.raises(UserError, match="replica must be from 0 to 1, but got 2"):
        load_model(tmp_path, replica=2)


def test_a_model_works_without_the_file_that_it_was_trained_on(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(5, 2, 60), "b": rng.normal(size=60), "kind": ["x", "y"] * 30})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    config = TrainConfig(Table(str(tmp_path / "rows.csv"), label="kind"), MLP((4,)), 2, VAE("gaussian"), replicas=1)
    data = config.data.load(tmp_path)
    (tmp_path / "model").mkdir()
    save_artifacts(tmp_path / "model", config, result(config), data)
    expected = load_model(tmp_path / "model").encode(data.images)
    (tmp_path / "rows.csv").unlink()
    away = load_model(tmp_path / "model", open_data=True)
    np.testing.assert_array_equal(away.encode(data.images), expected)
    assert away.classes == ("x", "y")
    with pytest.raises(UserError, match="the data that the model was trained on is missing"):
        away.config.data.load(tmp_path)


def test_a_traversal_moves_one_code_per_row_by_variance(tiny):
    one = model(CONFIG)
    with torch.no_grad():
        one.network.encoder[-1].weight[1] *= 100
    images = np.array(tiny.images[:64])
    rows = traversals(one, images)
    assert rows.shape == (3, 9, 1, 16, 16)
    means = one.encode(images)
    code = means[0].copy()
    code[1] = means[:, 1].mean() - 2.5 * means[:, 1].std(ddof=1)
    np.testing.assert_allclose(rows[0, 0], one.decode(code[None])[0], atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_is_a_picture_of_its_images(tmp_path, channels):
    grid = np.zeros((2, 3, channels, 10, 10), np.float32)
    grid[1, 2] = 1
    save_grid(tmp_path / "grid.png", grid, least_pixels=20)
    picture = np.asarray(Image.open(tmp_path / "grid.png"))
    assert picture.shape[:2] == (2 * 12 * 2, 3 * 12 * 2)
    assert picture[36, 60].max() == 255
    assert picture[12, 12].max() == 0


def test_a_grid_whose_writing_is_interrupted_is_closed(tmp_path, monkeypatch):
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    Image.init()
    monkeypatch.setitem(Image.SAVE, "PNG", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_grid(tmp_path / "grid.png", np.zeros((1, 1, 1, 10, 10), np.float32))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        gc.collect()
    assert [str(one.message) for one in seen if one.category is ResourceWarning] == []


def test_bytes_and_floats_are_the_same_image(tiny):
    one = model(CONFIG)
    images = np.array(tiny.images[:20])
    np.testing.assert_allclose(one.encode(images), one.encode(images.astype(np.float32) / 255), atol=1e-6)
    np.testing.assert_array_equal(one.reconstruct(images), one.decode(one.encode(images)))


def test_scores_are_the_error_and_the_negative_elbo(tiny):
    one = model(CONFIG)
    images = np.array(tiny.images[:700])
    x, rebuilt = images / 255, one.reconstruct(images).astype(float)
    scores = one.score(images)
    np.testing.assert_allclose(scores["error"], ((rebuilt - x) ** 2).mean((1, 2, 3)), rtol=1e-4)
    bce = -(x * np.log(rebuilt) + (1 - x) * np.log(1 - rebuilt)).sum((1, 2, 3))
    np.testing.assert_allclose(scores["elbo"] - bce, np.log(2) * one.rate(images), rtol=1e-3, atol=1e-3)
    assert set(model(replace(CONFIG, objective=Reconstruction())).score(images)) == {"error"}


def test_interpolations_begin_and_end_at_their_items(tiny):
    one = model(CONFIG)
    a, b = np.array(tiny.images[:3]), np.array(tiny.images[100:103])
    for spherical in (False, True):
        strip = one.interpolate(a, b, 5, spherical)
        assert strip.shape == (3, 5, 1, 16, 16)
        np.testing.assert_allclose(strip[:, 0], one.reconstruct(a), atol=1e-4)
        np.testing.assert_allclose(strip[:, -1], one.reconstruct(b), atol=1e-4)
    middle = one.interpolate(a, b, 3)[:, 1]
    np.testing.assert_allclose(middle, one.decode((one.encode(a) + one.encode(b)) / 2), atol=1e-5)


def test_samples_of_the_prior_are_decoded_normal_codes():
    one = model(CONFIG)
    noise = np.random.default_rng(3).standard_normal((9, 3), dtype=np.float32)
    np.testing.assert_array_equal(one.sample(9, seed=3), one.decode(noise))
    wae = model(replace(CONFIG, objective=WAE()))
    assert wae.sample(4).shape == (4, 1, 16, 16)
    with pytest.raises(UserError, match="has no prior to sample from; write --prior mixture"):
        model(replace(CONFIG, objective=Reconstruction())).sample(4)
    vamp = model(replace(CONFIG, bottleneck=Gaussian(VampPrior(3))))
    assert vamp.sample(5).shape == (5, 1, 16, 16)


def with_codes(config: TrainConfig, codes: np.ndarray, labels: np.ndarray | None = None) -> Model:
    reference = {"codes": torch.from_numpy(codes.astype(np.float32))}
    if labels is not None:
        reference["labels"] = torch.from_numpy(labels)
    return replace(model(config), reference=reference)


def test_a_mixture_is_fitted_to_all_codes_or_to_a_class(monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    codes = rng.normal(size=(400, 3)) * 0.1 + np.where(labels[:, None] == 0, -5, 5)
    one = with_codes(replace(CONFIG, data=Digits(), objective=Reconstruction()), codes, labels)
    drawn = one._from_mixture(500, None, 0)
    assert abs(abs(drawn) - 5).max() < 1
    assert (drawn[:, 0] > 0).mean() == pytest.approx(0.5, abs=0.1)
    assert (one._from_mixture(100, 1, 0) > 0).all()
    with pytest.raises(UserError, match="at least 2 codes of val, but got 0 for label=7"):
        one._from_mixture(100, 7, 0)
    with pytest.raises(UserError, match="label must be from 0 to 9"):
        one.sample(3, label=10, prior="mixture")


def test_a_codebook_is_sampled_by_place_and_rated_by_choices():
    config = TrainConfig(TINY, Conv((4, 4)), 2, Reconstruction(), VectorQuantized(16), replicas=1)
    one = model(config)
    known = np.tile(np.arange(16), (3, 1))
    known[0] = 5
    sampled = replace(one, reference={"indices": torch.from_numpy(known)})
    drawn = sampled._from_mixture(300, None, 0).reshape(300, 2, 16).transpose(0, 2, 1)
    vectors = one.network.bottleneck.vectors.numpy()
    shares = np.isclose(drawn, vectors[5]).all(2).mean(0)
    assert shares[5] == 1
    np.testing.assert_allclose(np.delete(shares, 5), 1 / 3, atol=0.12)
    assert one.rate(np.zeros((2, 1, 16, 16), np.float32)).tolist() == [64.0, 64.0]


def test_a_conditional_model_needs_its_labels():
    config = TrainConfig(Digits(), MLP((8,)), 3, VAE(), conditional=True, replicas=1)
    one = model(config)
    images = np.zeros((4, 1, 8, 8), np.uint8)
    assert one.encode(images, np.array([0, 1, 2, 9])).shape == (4, 3)
    assert one.sample(6, label=3).shape == (6, 1, 8, 8)
    for labels, message in ((None, "it needs labels"), (np.array([0, 1, 2, 10]), "from 0 to 9")):
        with pytest.raises(UserError, match=message):
            one.encode(images, labels)
    with pytest.raises(UserError, match="it takes no labels"):
        model(CONFIG).encode(np.zeros((1, 1, 16, 16), np.uint8), np.array([0]))


@pytest.mark.parametrize("shape", [(2, 1, 8, 16), (1, 16, 16), (2, 3, 16, 16)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(UserError, match=r"images must be \(N, 1, 16, 16\), but got"):
        model(CONFIG).encode(np.zeros(shape, np.uint8))


def test_codes_of_another_length_are_refused():
    with pytest.raises(UserError, match=r"codes must be \(N, 3\), but got \(2, 4\)"):
        model(CONFIG).decode(np.zeros((2, 4)))


def test_the_reference_is_what_the_model_says_of_val(tmp_path, tiny: Data):
    save_artifacts(tmp_path, CONFIG, result(CONFIG), tiny)
    loaded = load_model(tmp_path)
    images = np.array(tiny.images[tiny.val])
    np.testing.assert_allclose(loaded.reference["codes"].numpy(), loaded.encode(images), atol=1e-6)
    np.testing.assert_allclose(loaded.clean_scores()["elbo"], loaded.score(images)["elbo"], rtol=1e-5)
    assert np.array_equal(loaded.reference["factors"], tiny.factors[tiny.val])
    kl = loaded.reference["kl"].numpy()
    assert kl.shape == (CONFIG.latent_dim,)
    assert kl.sum() * np.log2(np.e) == pytest.approx(loaded.rate(images).mean(), rel=1e-4)
    np.testing.assert_array_equal(model(replace(CONFIG, objective=Reconstruction())).code_kl(images), 0)
