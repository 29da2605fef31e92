"""The likelihood of linear Gaussian models, where log p(x) is known exactly."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from aesearch.autoencoder import Autoencoder
from aesearch.bottlenecks import Gaussian, VampPrior
from aesearch.datasets import Data, Sprites
from aesearch.errors import UserError
from aesearch.metrics import total_correlation
from aesearch.networks import Network
from aesearch.objectives import VAE, Reconstruction
from aesearch.scores import Likelihood, Trained
from aesearch.scores.likelihood import importance_weighted_bound, importance_weights

SHAPE, CODES = (1, 2, 3), 2


@dataclass(frozen=True)
class Linear(Network):
    """One matrix each way."""

    @property
    def stateful(self) -> bool:
        return False

    def encoder(self, shape, outputs):
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), outputs))

    def decoder(self, latent_dim, shape):
        return nn.Sequential(nn.Linear(latent_dim, math.prod(shape)), nn.Unflatten(1, shape))


class Exact:
    """p(z) = N(0, 1), p(x | z) = N(Wz + b, 1): what is known of it in closed form."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.W, self.b = rng.normal(size=(6, CODES)), rng.normal(size=6)
        self.W[:, 1] -= self.W[:, 0] * (self.W[:, 0] @ self.W[:, 1]) / (self.W[:, 0] @ self.W[:, 0])
        z = rng.normal(size=(400, CODES))
        self.x = z @ self.W.T + self.b + rng.normal(size=(400, 6))
        # The columns of W are orthogonal, so the posterior has independent codes, as the encoder's has.
        self.precision = 1 + np.diag(self.W.T @ self.W)
        self.means = (self.x - self.b) @ self.W / self.precision

    def log_likelihood(self) -> np.ndarray:
        covariance = self.W @ self.W.T + np.eye(6)
        away = self.x - self.b
        quadratic = (away @ np.linalg.inv(covariance) * away).sum(1)
        return -0.5 * (quadratic + np.linalg.slogdet(covariance)[1] + 6 * np.log(2 * np.pi))

    def kl(self) -> np.ndarray:
        return 0.5 * (self.means**2 + 1 / self.precision - 1 + np.log(self.precision)).sum(1)

    def images(self) -> torch.Tensor:
        return torch.from_numpy(self.x).float().view(-1, *SHAPE)

    def model(self, shift: float = 0.0, widen: float = 1.0) -> Autoencoder:
        """With the exact posterior, or one that is off by ``shift`` and too wide."""
        model = Autoencoder(Linear(), SHAPE, CODES, Gaussian()).eval()
        weight = (self.W / self.precision).T
        with torch.no_grad():
            encoder, decoder = model.encoder[1], model.decoder[0]
            encoder.weight[:CODES] = torch.from_numpy(weight)
            encoder.bias[:CODES] = torch.from_numpy(shift - weight @ self.b)
            encoder.weight[CODES:] = 0
            encoder.bias[CODES:] = torch.from_numpy(np.log(widen**2 / self.precision))
            decoder.weight[:] = torch.from_numpy(self.W)
            decoder.bias[:] = torch.from_numpy(self.b)
        return model


OBJECTIVE = VAE(likelihood="gaussian")


def bound(model: Autoencoder, exact: Exact, samples: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    known, relative = importance_weights(model, OBJECTIVE, exact.images(), samples, generator)
    assert known.shape == relative.shape == (samples, 400)
    return importance_weighted_bound(known + relative).numpy()


@pytest.mark.parametrize("samples", [1, 7, 64])
def test_the_bound_is_exact_with_the_exact_posterior(samples):
    exact = Exact()
    np.testing.assert_allclose(bound(exact.model(), exact, samples), exact.log_likelihood(), atol=2e-3)


def test_the_bound_rises_with_samples_of_a_wrong_posterior():
    exact = Exact()
    model = exact.model(shift=0.4, widen=1.3)
    truth = exact.log_likelihood().mean()
    found = [bound(model, exact, samples).mean() for samples in (1, 2, 4, 16)]
    assert sorted(found) == found
    assert found[0] < truth - 0.3
    assert found[-1] < truth
    assert bound(model, exact, 1024).mean() == pytest.approx(truth, abs=0.005)


def test_the_bound_stays_below_the_likelihood_but_for_noise():
    exact = Exact()
    one = trained(exact.model(shift=0.4, widen=1.3), exact)
    truth = exact.log_likelihood().mean()
    found, noise = [], []
    for samples in (1, 4, 16, 64, 256):
        score = Likelihood(samples, images=400)
        repeats = [score.measure(replace(one, seed=seed), "val")[f"log_likelihood_{samples}"] for seed in range(6)]
        assert len(set(repeats)) == 6, "another seed draws other codes"
        found.append(np.mean(repeats))
        noise.append(np.std(repeats, ddof=1) / math.sqrt(6))
    assert found[:4] == sorted(found[:4])
    assert all(value < truth + 4 * error + 1e-3 for value, error in zip(found, noise, strict=True))
    assert found[0] < truth - 0.3
    assert found[-1] == pytest.approx(truth, abs=0.01)


def test_one_sample_is_the_evidence_lower_bound_in_closed_form():
    exact = Exact()
    shift, widen = 0.4, 1.3
    one = trained(exact.model(shift, widen), exact)
    found = Likelihood(1, images=400).measure(one, "val")
    assert found["log_likelihood_1"] == pytest.approx(-(found["rate"] + found["distortion"]), rel=1e-5)
    variance = widen**2 / exact.precision
    rate = 0.5 * ((exact.means + shift) ** 2 + variance - 1 - np.log(variance)).sum(1)
    away = exact.x - exact.b - (exact.means + shift) @ exact.W.T
    distortion = 0.5 * ((away**2).sum(1) + (exact.W**2 * variance).sum() + 6 * math.log(2 * math.pi))
    many = Likelihood(512, images=400).measure(one, "val")
    assert many["rate"] == pytest.approx(rate.mean(), abs=0.02)
    assert many["distortion"] == pytest.approx(distortion.mean(), abs=0.02)
    assert found["log_likelihood_1"] == pytest.approx(-(rate + distortion).mean(), abs=0.3)


def trained(model: Autoencoder, exact: Exact) -> Trained:
    places = np.arange(400)
    data = Data(exact.images().numpy(), train=places, val=places, test=places)
    return Trained(model, OBJECTIVE, data, lambda index: torch.from_numpy(data.images[index]), 0)


def test_rate_and_distortion_are_exact_and_sum_to_the_elbo():
    exact = Exact()
    found = Likelihood(samples=256, images=400).measure(trained(exact.model(), exact), "test")
    assert found["rate"] == pytest.approx(exact.kl().mean(), abs=0.02)
    assert -found["rate"] - found["distortion"] == pytest.approx(exact.log_likelihood().mean(), abs=2e-3)
    wrong = Likelihood(samples=256, images=400).measure(trained(exact.model(0.4, 1.3), exact), "test")
    assert -wrong["rate"] - wrong["distortion"] < wrong["log_likelihood_256"] - 0.2
    assert wrong["log_likelihood_256"] == pytest.approx(found["log_likelihood_256"], abs=0.05)


def test_bits_per_dimension_are_of_a_probability():
    """A model that ignores its code has P(x) in closed form: the mass of N(b, 1) around each of 256 values."""
    exact = Exact()
    exact.W, exact.b = np.zeros((6, CODES)), np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    exact.precision, exact.means = np.ones(CODES), np.zeros((400, CODES))
    levels = np.random.default_rng(0).integers(256, size=(400, 6))
    exact.x = levels / 255
    mass = [math.erf((k - 0.5) / 255 / 2**0.5) / 2 for k in range(-255, 257)]  # of N(0, 1), from 0 on
    chances = np.empty((400, 6))
    for column, b in enumerate((exact.b * 255).round().astype(int)):
        upper = [mass[k + 1 - b + 255] if k < 255 else 0.5 for k in range(256)]
        lower = [mass[k - b + 255] if k > 0 else -0.5 for k in range(256)]
        chances[:, column] = (np.array(upper) - lower)[levels[:, column]]
    found = Likelihood(samples=3, images=400).measure(trained(exact.model(), exact), "test")
    assert found["bits_per_dim_3"] == pytest.approx(-np.log2(chances).mean(), rel=1e-5)
    density = -found["log_likelihood_3"] / (6 * math.log(2))
    assert 1 < density < 2, "the density of values in [0, 1] says less than a quarter"
    assert 8 < found["bits_per_dim_3"] < 10, "of the 8 bits that random bytes take"


def test_the_bound_is_of_as_many_images_as_asked():
    exact = Exact()
    one = trained(exact.model(0.4), exact)
    few = Likelihood(samples=2, images=150)
    assert few.names == ("log_likelihood_2", "bits_per_dim_2", "rate", "distortion")
    assert few.measure(one, "val") == few.measure(one, "val")
    assert few.measure(one, "val") != Likelihood(samples=2, images=400).measure(one, "val")


def test_every_image_has_noise_of_its_own():
    exact = Exact()
    exact.x[100:200] = exact.x[:100]
    one = trained(exact.model(0.4), exact)
    once, twice = (Likelihood(1, images=images).measure(one, "val")["distortion"] for images in (100, 200))
    assert once != pytest.approx(twice, rel=1e-6)
    assert once == pytest.approx(twice, rel=0.1)


def test_a_conditional_model_is_told_the_label():
    exact = Exact()
    model = Autoencoder(Linear(), SHAPE, CODES, Gaussian(), classes=2).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.decoder[0].weight[:, CODES:] = torch.tensor([0.0, 3.0])
    labels = (np.arange(400) % 2).astype(np.int64)
    images = (3.0 * labels[:, None, None, None] + np.zeros((400, *SHAPE))).astype(np.float32)
    one = trained(model, exact)
    right = replace(one, data=replace(one.data, images=images, labels=labels))
    right = replace(right, images=lambda index: torch.from_numpy(images[index]))
    found = Likelihood(2).measure(right, "val")
    assert found["log_likelihood_2"] == pytest.approx(-3 * math.log(2 * math.pi), abs=1e-5), "no error at all"
    swapped = replace(right, data=replace(right.data, labels=1 - labels))
    assert Likelihood(2).measure(swapped, "val")["distortion"] == pytest.approx(27 + 3 * math.log(2 * math.pi))


def test_total_correlation_of_the_codes_is_its_closed_form():
    rng = np.random.default_rng(1)
    mix = np.array([[1.0, 0.8, 0.0], [0.0, 0.6, 0.5], [0.3, 0.0, 1.0]])
    codes = rng.normal(size=(200_000, 3)) @ mix
    covariance = mix.T @ mix
    expected = 0.5 * (np.log(np.diag(covariance)).sum() - np.linalg.slogdet(covariance)[1])
    assert total_correlation(codes) == pytest.approx(expected, abs=0.01)


def test_a_learned_prior_is_the_mixture_of_its_components():
    """With one component whose posterior is the standard normal, it is the standard normal prior."""
    exact = Exact()
    model = Autoencoder(Linear(), SHAPE, CODES, Gaussian(VampPrior(1, bounded=False))).eval()
    model.load_state_dict(exact.model().state_dict(), strict=False)
    with torch.no_grad():
        # u with encoder(u) = 0: the mean of the posterior at x = b is 0; its variance is 1 / precision.
        model.pseudo_inputs[:] = torch.from_numpy(exact.b).float().view(1, *SHAPE)
    generator = torch.Generator().manual_seed(0)
    known, relative = importance_weights(model, OBJECTIVE, exact.images(), 3, generator)
    plain, standard = importance_weights(exact.model(), OBJECTIVE, exact.images(), 3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(known, plain)
    # log N(z; 0, 1 / precision) in place of log N(z; 0, 1).
    noise = torch.randn((3, 400, CODES), generator=torch.Generator().manual_seed(0))
    z = torch.from_numpy(exact.means).float() + noise / torch.from_numpy(exact.precision).float().sqrt()
    precision = torch.from_numpy(exact.precision).float()
    difference = 0.5 * (precision.log() - (precision - 1) * z**2).sum(-1)
    torch.testing.assert_close(relative - standard, difference, rtol=1e-3, atol=1e-3)


def test_a_learned_prior_of_many_components_has_a_finite_bound():
    exact = Exact()
    torch.manual_seed(0)
    model = Autoencoder(Linear(), SHAPE, CODES, Gaussian(VampPrior(5))).eval()
    one, many = (
        Likelihood(samples, images=400).measure(trained(model, exact), "val")[f"log_likelihood_{samples}"]
        for samples in (1, 64)
    )
    assert math.isfinite(one)
    assert one < many < exact.log_likelihood().mean(), "no model is likelier on average than the one that made them"


def test_a_model_without_a_posterior_has_no_likelihood():
    with pytest.raises(UserError, match="Likelihood needs a variational objective"):
        Likelihood().check(Sprites(), Reconstruction())
    with pytest.raises(UserError, match="samples and images must be at least 1"):
        Likelihood(samples=0)
