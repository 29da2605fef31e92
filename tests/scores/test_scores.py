from dataclasses import replace

import numpy as np
import pytest
import torch

from aesearch.autoencoder import Autoencoder
from aesearch.bottlenecks import Gaussian, InverseAutoregressive, Plain, VampPrior
from aesearch.datasets import BreastCancer, Data, Digits, OneClass, Sprites
from aesearch.errors import UserError
from aesearch.metrics.downstream import labelled
from aesearch.networks import MLP
from aesearch.objectives import VAE, Reconstruction
from aesearch.scores import PCA, Denoising, Detection, FineTuned, Probe, Trained, measure, score_split
from aesearch.train import TrainConfig, train


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Data:
    return Digits().load(tmp_path_factory.mktemp("data"))


def trained(data: Data, objective=None, latent_dim: int = 8) -> Trained:
    torch.manual_seed(0)
    objective = objective or Reconstruction()
    bottleneck = Gaussian() if objective.variational else Plain()
    model = Autoencoder(MLP((32,)), (1, 8, 8), latent_dim, bottleneck).eval()
    return Trained(model, objective, data, lambda index: torch.from_numpy(data.images[index]).float() / 255, 0)


def test_scores_are_measured_once_at_the_end_and_named_by_split(digits):
    config = TrainConfig(
        OneClass(Digits(), (0, 1)),
        MLP((16,)),
        latent_dim=4,
        objective=VAE(),
        replicas=2,
        epochs=2,
        scores=(Detection(), PCA(), Denoising((0.2,))),
    )
    epochs = list(train(config, config.data.load(None)))
    assert not any("pca" in name for epoch in epochs for name in epoch.metrics)
    found = set(epochs[-1].result.metrics)
    assert {"test/auroc", "test/elbo_auroc", "val/pca_mse", "test/pca_mse", "val/psnr_gain_0.2"} <= found
    assert "val/auroc" not in found
    assert all(len(values) == 2 for values in epochs[-1].result.metrics.values())


def test_the_reconstruction_error_is_the_squared_error(digits):
    one = trained(digits)
    scores = score_split(one, digits.test[:20])
    x = torch.from_numpy(digits.images[digits.test[:20]]).float() / 255
    with torch.no_grad():
        expected = ((torch.sigmoid(one.model(x, torch.zeros(1, 20, 8)).logits[0]) - x) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(scores["error"], expected, rtol=1e-5)
    assert "elbo" not in scores
    assert "elbo" in score_split(trained(digits, VAE()), digits.test[:20])


@pytest.mark.parametrize(
    ("bottleneck", "objective", "has"),
    [
        (Plain(), Reconstruction(), False),
        (Gaussian(), VAE(), True),
        (Gaussian(VampPrior(5)), VAE(), True),
        (InverseAutoregressive(), VAE(), True),
    ],
)
def test_the_elbo_tells_anomalies_only_where_there_is_one(bottleneck, objective, has):
    data = OneClass(Digits(), 3).load(None)
    torch.manual_seed(0)
    model = Autoencoder(MLP((32,)), (1, 8, 8), 4, bottleneck).eval()
    one = replace(trained(data), model=model, objective=objective)
    found = measure((Detection(),), [one, one])
    names = {"test/auroc", "test/average_precision", "test/fpr_at_95_tpr"}
    assert set(found) == names | ({"test/elbo_auroc"} if has else set())
    if has:
        index = data.test[:30]
        x, elbo = one.images(index), score_split(one, index)["elbo"]
        noise = torch.randn(4000, 1, 4, generator=torch.Generator().manual_seed(1)).expand(-1, 30, -1)
        with torch.no_grad():
            code = model.code(x, noise)
            rate = (code.log_q() - code.log_p()).mean(0).numpy()
        with torch.no_grad():
            logits = model(x, torch.zeros(0, 30, 4), decode_mean=True).mean_logits
            nats = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)
        np.testing.assert_allclose(elbo, nats.numpy() + rate, atol=0.8)
        np.testing.assert_allclose(score_split(one, index[:7])["elbo"], elbo[:7], rtol=1e-5)


def test_a_linear_probe_reads_perfect_codes_and_not_noise(digits, monkeypatch):
    one = trained(digits)
    perfect = np.eye(10, dtype=np.float32)[digits.labels]
    one._codes = {split: perfect[one.index(split)] for split in ("train", "test")}
    score = Probe((10, 100), draws=2)
    assert score.measure(one, "test") == {"probe_10": 1.0, "probe_100": 1.0, "knn_10": 1.0, "knn_100": 1.0}
    noise = np.random.default_rng(0).normal(size=(len(digits.labels), 8)).astype(np.float32)
    one._codes = {split: noise[one.index(split)] for split in ("train", "test")}
    assert score.measure(one, "test")["probe_100"] < 0.2


def test_a_probe_may_have_all_labels_or_tell_a_factor(digits):
    one = trained(digits)
    perfect = np.eye(10, dtype=np.float32)[digits.labels]
    one._codes = {split: perfect[one.index(split)] for split in ("train", "test")}
    assert Probe(("all",)).measure(one, "test") == {"probe_all": 1.0, "knn_all": 1.0}
    factors = np.stack([np.zeros_like(digits.labels), digits.labels % 2], axis=1)
    parity = replace(one, data=replace(digits, factors=factors), factor_names=("nothing", "parity"))
    score = Probe((50,), factor="parity")
    assert score.names == ("parity_probe_50", "parity_knn_50")
    assert score.measure(parity, "test")["parity_probe_50"] == 1.0
    score = Probe((10,), factor="x")
    with pytest.raises(UserError, match="labels must be at least 32, one per class"):
        score.check(Sprites(), VAE())
    with pytest.raises(UserError, match=r"unknown factor 'shap'.*did you mean shape"):
        Probe(factor="shap").check(Sprites(), VAE())


def test_the_raw_probe_is_of_the_pixels(digits):
    found = Probe((100,), draws=2, raw=True).measure(trained(digits), "test")
    assert set(found) == {"probe_100", "knn_100", "raw_probe_100"}
    assert found["raw_probe_100"] > 0.8


def test_labels_are_drawn_evenly():
    labels = np.repeat(np.arange(4), [500, 300, 150, 50])
    chosen = labelled(labels, 40, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [10] * 4
    assert len(set(chosen)) == 40
    assert not np.array_equal(chosen, labelled(labels, 40, seed=1))
    assert np.bincount(labels[labelled(labels, 400, seed=0)]).tolist()[3] == 50
    with pytest.raises(ValueError, match="from 4 to 1000 labels, but got 3"):
        labelled(labels, 3, seed=0)


def test_fine_tuning_leaves_the_model_alone_and_beats_chance(digits):
    one = trained(digits)
    before = {name: tensor.clone() for name, tensor in one.model.state_dict().items()}
    found = FineTuned((100,)).measure(one, "test")
    assert all(torch.equal(tensor, before[name]) for name, tensor in one.model.state_dict().items())
    assert found["fine_tuned_100"] > 0.7
    assert found["scratch_100"] > 0.7
    assert found == FineTuned((100,)).measure(one, "test")


def test_pca_is_the_error_of_its_components(digits):
    from sklearn import decomposition

    found = PCA().measure(trained(digits), "test")["pca_mse"]
    x = digits.images.reshape(len(digits.images), -1) / 255
    fitted = decomposition.PCA(8).fit(x[digits.train])
    test = x[digits.test]
    expected = ((fitted.inverse_transform(fitted.transform(test)) - test) ** 2).mean()
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_model_that_returns_its_input_gains_nothing(digits):
    class Identity(torch.nn.Module):
        classes, latent_dim = 0, 64

        def encode(self, x, label=None):
            return x.flatten(1)

        def decode(self, codes, label=None):
            return codes.view(-1, 1, 8, 8)

    same = Trained(Identity(), Reconstruction("gaussian"), digits, trained(digits).images, 0)
    found = Denoising((0.1, 0.5)).measure(same, "test")
    assert found["psnr_gain_0.1"] == pytest.approx(0, abs=1e-6)
    assert found["psnr_gain_0.5"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("score", "data", "message"),
    [
        (Detection(), Digits(), r"has no anomalies for Detection; write OneClass\("),
        (Probe(), Sprites(resolution=16, scales=2), "has no labels; use data with labels"),
        (Probe((5,)), Digits(), "labels must be at least 10"),
        (Denoising((0.0,)), Digits(), "noise must be standard deviations above 0"),
        (Denoising(), BreastCancer(), "Denoising needs images"),
    ],
)
def test_undefined_scores_are_refused_before_any_training(score, data, message):
    likelihood = "gaussian" if data == BreastCancer() else "bernoulli"
    with pytest.raises(UserError, match=message):
        TrainConfig(data, MLP((8,)), 2, Reconstruction(likelihood), scores=(score,))
