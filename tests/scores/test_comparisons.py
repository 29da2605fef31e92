"""How models agree with each other, and how their pictures compare with the data's."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aesearch.autoencoder import Autoencoder
from aesearch.bottlenecks import Gaussian, GaussianCode, VectorQuantized
from aesearch.datasets import BreastCancer, Data, Digits
from aesearch.errors import UserError
from aesearch.metrics import (
    beta_vae_score,
    chance_of_votes,
    dci,
    factor_vae_score,
    frechet,
    random_conv_features,
    sap,
    sap_mixed,
    sap_svm,
    votes_of_groups,
)
from aesearch.model import load_model, save_artifacts
from aesearch.networks import MLP, Conv
from aesearch.objectives import VAE, WAE, Reconstruction
from aesearch.scores import UDR, Frechet, Likelihood, ModelCentrality, Quality, Trained, drawn, measure
from aesearch.train import Result, TrainConfig

SIDE = 4


class Rotated(torch.nn.Module):
    """Images are codes, turned by a rotation of its own: p(x | z) and q(z | x) are each other's inverse."""

    def __init__(self, rotation: np.ndarray, used: int = SIDE) -> None:
        super().__init__()
        self.register_parameter("turn", torch.nn.Parameter(torch.from_numpy(rotation).float()))
        self.latent_dim, self.classes, self.used = SIDE, 0, used

    def forward(self, x, noise, label=None):
        mean = self.encode(x)
        log_var = torch.full_like(mean, -6.0)
        # Codes beyond those in use say next to nothing: their posterior is almost the prior.
        log_var[:, self.used :] = 0
        mean = torch.cat([mean[:, : self.used], 0.01 * mean[:, self.used :]], dim=1)
        return type("Output", (), {"code": GaussianCode(mean, noise, log_var)})

    def encode(self, x, label=None):
        return x.flatten(1) @ self.turn.T

    def decode(self, codes, label=None):
        return (codes @ self.turn).view(-1, 1, 2, 2)

    def from_prior(self, noise, component):
        return noise


def pictures() -> Data:
    rng = np.random.default_rng(0)
    # Codes of different shapes, so that a rotation is no symmetry of them.
    codes = np.stack([rng.normal(size=900), rng.uniform(-2, 2, 900), rng.laplace(size=900), rng.normal(size=900) ** 3])
    images = codes.T.reshape(-1, 1, 2, 2).astype(np.float32)
    places = np.arange(900)
    return Data(images, train=places, val=places, test=places)


def trained(model, objective=None, data: Data | None = None) -> Trained:
    held = data or pictures()
    return Trained(model, objective or VAE("gaussian"), held, lambda i: torch.from_numpy(held.images[i]).float(), 0)


def alike(seed: int, used: int = SIDE) -> Trained:
    """The identity but for the order and the signs of its codes."""
    rng = np.random.default_rng(seed)
    return trained(Rotated(np.eye(SIDE)[rng.permutation(SIDE)] * rng.choice([-1, 1], (SIDE, 1)), used))


def odd() -> Trained:
    """Each code is an even mixture of all."""
    return trained(Rotated(np.kron([[1, 1], [1, -1]], [[1, 1], [1, -1]]) / 2))


def test_udr_ranks_a_rotated_model_last():
    found = UDR(points=800).compare([alike(0), alike(1), odd(), alike(2)], "val")
    assert set(found) == {"udr_lasso", "udr_spearman"}
    for values in found.values():
        assert int(np.argmin(values)) == 2
        assert min(values[0], values[1], values[3]) > values[2] + 0.2
        assert min(values[0], values[1], values[3]) > 0.8


def test_codes_that_say_nothing_do_not_count_for_udr():
    whole = UDR().compare([alike(0), alike(1)], "val")["udr_spearman"]
    one_dead = UDR().compare([alike(0, used=3), alike(0, used=3)], "val")["udr_spearman"]
    assert one_dead == pytest.approx(whole, abs=0.1)
    assert UDR(points=20).compare([alike(0), odd()], "val") != UDR(points=21).compare([alike(0), odd()], "val")
    nothing = UDR().compare([alike(0, used=0), alike(1)], "val")["udr_lasso"]
    assert nothing == (0.0, 0.0)


def test_the_model_that_agrees_with_none_is_least_central():
    found = ModelCentrality(votes=80, size=32).compare([alike(0), odd(), alike(1), alike(2)], "val")
    values = found["model_centrality"]
    assert int(np.argmin(values)) == 1
    assert min(values[0], values[2], values[3]) > values[1] + 0.1
    pair = ModelCentrality(votes=80, size=32).compare([alike(0), alike(1)], "val")["model_centrality"]
    assert pair == (1.0, 1.0), "each tells every code of the other"


class Dead(torch.nn.Module):
    """A perfect model of four pixels with ``used`` codes, and more codes of which each is dead."""

    bottleneck = None

    def __init__(self, codes: int, used: int = SIDE) -> None:
        super().__init__()
        self.latent_dim, self.classes, self.used = codes, 0, used
        self.register_parameter("place", torch.nn.Parameter(torch.ones(1)))

    def forward(self, x, noise, label=None):
        mean = self.encode(x)
        log_var = torch.full_like(mean, -6.0)
        log_var[:, self.used :] = 0
        return type("Output", (), {"code": GaussianCode(mean, noise, log_var)})

    def encode(self, x, label=None):
        flat = x.flatten(1)
        spread = torch.linspace(1, 50, self.latent_dim - self.used)
        return torch.cat([flat[:, : self.used], 1e-3 * torch.sin(flat.sum(1, keepdim=True) * spread)], dim=1)

    def decode(self, codes, label=None):
        return torch.nn.functional.pad(codes[:, : self.used], (0, SIDE - self.used)).view(-1, 1, 2, 2)

    def from_prior(self, noise, component):
        return noise


@pytest.mark.parametrize("codes", [4, 8, 10, 16])
def test_dead_codes_do_not_vote_and_are_not_voted_on(codes):
    models = [trained(Dead(codes)), trained(Dead(codes))]
    assert ModelCentrality(votes=80, size=32).compare(models, "val")["model_centrality"] == (1.0, 1.0)
    (floor, ceiling, spread), _ = ModelCentrality(votes=80).floors(models, "val")["model_centrality"]
    assert (floor, ceiling) == pytest.approx((0.34, 1.0), abs=0.02), "chance of 4 codes, however many are dead"
    assert 0 < spread < 0.05


def test_agreement_tracks_active_codes_in_closed_form():
    """Where the fewer codes are told without fault and the others not at all: (1 + fewer / more) / 2 of the most."""
    most = UDR(points=900).compare([trained(Dead(SIDE)), trained(Dead(SIDE))], "val")
    for used in (1, 2, 3, 4):
        models = [trained(Dead(SIDE)), trained(Dead(SIDE, used))]
        expected = (1 + used / SIDE) / 2
        found = ModelCentrality(votes=80, size=64).compare(models, "val")["model_centrality"]
        assert found == pytest.approx((expected, expected), abs=0.01)
        for name, values in UDR(points=900).compare(models, "val").items():
            assert np.divide(values, most[name]) == pytest.approx((expected, expected), abs=0.06), name
    nothing = [trained(Dead(SIDE, 0)), trained(Dead(SIDE))]
    assert ModelCentrality(votes=8).compare(nothing, "val")["model_centrality"] == (0.0, 0.0)
    assert ModelCentrality(votes=8).floors(nothing, "val")["model_centrality"][0].floor == 0


def test_chance_of_votes_by_hand():
    assert chance_of_votes(1, np.arange(80) % 4) == (0.25, 0.0), "one code is right for the largest factor"
    assert chance_of_votes(0, np.arange(80) % 4) == (0.0, 0.0)
    fixed = np.arange(80) % 4
    noise = [votes_of_groups(np.random.default_rng(seed).normal(size=(80, 20, 4)), fixed) for seed in range(60)]
    mean, spread = chance_of_votes(4, fixed)
    assert mean == pytest.approx(np.mean(noise), abs=0.015)
    assert spread == pytest.approx(np.std(noise), rel=0.4)


def test_a_judge_is_shown_pixels_not_logits():
    shown = []

    class Watching(Rotated):
        def encode(self, x, label=None):
            shown.append(x)
            return super().encode(x, label)

    models = [trained(Watching(np.eye(SIDE)), VAE("bernoulli")) for _ in range(2)]
    ModelCentrality(votes=8, size=8).compare(models, "val")
    made = [x for x in shown if len(x) == 8 * 8]
    assert len(made) == 2, "and the items of val, which tell the active codes"
    assert 0 < torch.cat(made).min() < 0.4 < 0.6 < torch.cat(made).max() < 1


def test_comparisons_are_measured_of_all_replicas_at_once():
    found = measure((UDR(), Quality()), [alike(0), alike(1)])
    assert len(found["val/udr_lasso"]) == 2
    assert "test/udr_lasso" not in found
    assert found["test/psnr"][0] > 60, "they return their input"


def test_centrality_needs_a_prior():
    with pytest.raises(UserError, match="ModelCentrality needs a prior"):
        ModelCentrality().check(Digits(), Reconstruction())
    with pytest.raises(UserError, match="votes >= 1 and size >= 2"):
        ModelCentrality(size=1)
    with pytest.raises(UserError, match="points must be at least 2"):
        UDR(points=1)


def groups(fixed: np.ndarray, still: np.ndarray) -> np.ndarray:
    """Codes (V, 50, 3) of which, in each vote, the code ``still`` is constant."""
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(len(fixed), 50, 3))
    codes[np.arange(len(fixed)), :, still] = rng.normal(size=(len(fixed), 1))
    return codes


def test_votes_of_groups_by_hand():
    fixed = np.arange(60) % 3
    assert votes_of_groups(groups(fixed, fixed), fixed) == 1.0
    assert votes_of_groups(groups(fixed, (fixed + 1) % 3), fixed) == 1.0, "which code is which does not matter"
    assert votes_of_groups(groups(fixed, np.minimum(fixed, 1)), fixed) == pytest.approx(2 / 3), "two share a code"
    assert votes_of_groups(groups(fixed, np.zeros(60, int)), fixed) == pytest.approx(1 / 3)
    loud = groups(fixed, fixed) + 0.2 * np.random.default_rng(1).normal(size=(60, 50, 3))
    assert votes_of_groups(loud * [1, 1000, 0.001], fixed) == 1.0, "nor how far a code reaches"
    dead = np.concatenate([groups(fixed, fixed), np.zeros((60, 50, 1))], axis=2)
    assert votes_of_groups(dead, fixed) == 1.0, "a dead code has the least variance of all, and no vote"
    dead[:, :, 3] = 0.7
    assert votes_of_groups(dead, fixed) == 1.0, "nor has one whose deviation is a rounding error"
    assert votes_of_groups(np.zeros((60, 50, 3)), fixed) == 0.0
    with pytest.raises(ValueError, match="groups must be finite"):
        votes_of_groups(np.full((60, 50, 3), np.nan), fixed)
    with pytest.raises(ValueError, match="groups must be finite"):
        votes_of_groups(groups(fixed, fixed), fixed[:-1])
    with pytest.raises(ValueError, match="groups must be finite"):
        votes_of_groups(np.zeros((0, 50, 3)), np.zeros(0, int))


def factors(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, size, n) for size in (3, 6, 8)], axis=1)


F, G = factors(3000, 0), factors(1500, 1)
NOISE = np.random.default_rng(2).normal(size=(3000, 3))


def test_votes_without_a_test_are_judged_on_themselves():
    codes = np.hstack([F + 0.5 * NOISE, NOISE])
    new = factor_vae_score(codes, F, votes=400, test_votes=400)
    own = factor_vae_score(codes, F, votes=400, test_votes=0)
    assert own >= new - 0.02
    assert own > 0.9
    assert beta_vae_score(codes, F, points=400, test_points=0) > 0.9
    noise = factor_vae_score(NOISE, F, votes=60, test_votes=0)
    assert noise > factor_vae_score(NOISE, F, votes=60, test_votes=2000), "few votes of noise flatter themselves"


def test_pairs_of_one_value_tell_a_factor_as_others_do():
    codes = np.hstack([F, NOISE]) / [*F.std(0), 1, 1, 1]
    for one_value in (False, True):
        assert beta_vae_score(codes, F, 400, 200, 30, one_value=one_value) > 0.95
    bare = F[:, :2] / F[:, :2].std(0)
    found = [beta_vae_score(bare, F, 400, 200, 2, one_value=one_value) for one_value in (False, True)]
    assert found[0] != found[1]


@pytest.mark.parametrize("still", [0.0, 0.1, 0.7])
def test_a_constant_code_never_votes_even_where_every_other_may(still):
    codes = np.hstack([F, np.full((3000, 1), still)])
    votes = {"votes": 300, "test_votes": 0, "active": 0.0}
    assert factor_vae_score(codes, F, **votes) == factor_vae_score(F.astype(float), F, **votes) == 1.0
    assert factor_vae_score(np.full((3000, 2), still), F, **votes) == 0.0


def test_sap_of_both_forms_is_each_of_them_at_its_ends():
    codes, test_codes = F + 0.5 * NOISE, G + 0.5 * NOISE[:1500]
    pair = (codes, F, test_codes, G)
    assert sap_mixed(*pair, np.zeros(3, bool)) == pytest.approx(sap(codes, F))
    assert sap_mixed(*pair, np.ones(3, bool)) == pytest.approx(sap_svm(*pair))
    mixed = sap_mixed(*pair, np.array([True, False, False]))
    shape = sap_svm(codes, F[:, :1], test_codes, G[:, :1])
    assert mixed == pytest.approx((shape + 2 * sap(codes, F[:, 1:])) / 3)
    constant = np.hstack([F, np.ones((3000, 1), int)]), np.hstack([G, np.ones((1500, 1), int)])
    whole = sap_mixed(codes, constant[0], test_codes, constant[1], np.array([True, False, False, True]))
    assert whole == pytest.approx(mixed), "a constant factor is left out"


def test_dci_of_a_lasso_finds_codes_linear_in_the_factors():
    perfect = dci(F.astype(float), F, G.astype(float), G, "lasso")
    assert perfect.disentanglement > 0.99
    assert perfect.completeness > 0.99
    assert perfect.informativeness == 1.0
    assert perfect.regressor == "lasso"
    noise = dci(NOISE, F, NOISE[:1500], G, "lasso")
    assert noise.informativeness < 0.4
    squared = np.square(F - F.mean(0).round())
    bent = dci(squared, F, np.square(G - F.mean(0).round()), G, "lasso")
    assert bent.informativeness < 0.6, "a code that is not linear is not seen"


def test_a_lasso_is_right_where_the_nearest_value_is():
    tens = 10 * F
    noisy = tens + NOISE
    assert dci(noisy, tens, noisy, tens, "lasso").informativeness > 0.99, "not the nearest whole number"
    last = F[(F.max(0) == F).all(1)]
    assert dci(F.astype(float), F, last + 2.0, last, "lasso").informativeness == 1.0, "nothing lies beyond the last"


def test_quality_is_that_of_the_reconstructions():
    digits = Digits().load(None)
    scaled = replace(digits, images=(digits.images / 255).astype(np.float32))

    class Half(torch.nn.Module):
        classes, latent_dim, bottleneck = 0, 64, None

        def encode(self, x, label=None):
            return x.flatten(1)

        def decode(self, codes, label=None):
            return codes.view(-1, 1, 8, 8) + 0.1

    same = trained(Half(), Reconstruction("gaussian"), scaled)
    found = Quality().measure(same, "test")
    x = scaled.images[scaled.test]
    expected = -10 * np.log10(((np.clip(x + 0.1, 0, 1) - x) ** 2).mean((1, 2, 3)))
    assert found["psnr"] == pytest.approx(expected.mean(), rel=1e-5)
    assert 0.5 < found["ssim"] < 1
    with pytest.raises(UserError, match="Quality needs images"):
        Quality().check(BreastCancer(), Reconstruction("gaussian"))


def test_samples_of_an_untrained_model_are_far_from_the_data():
    digits = Digits().load(None)
    scaled = replace(digits, images=(digits.images / 255).astype(np.float32))
    torch.manual_seed(0)
    model = Autoencoder(MLP((16,)), (1, 8, 8), 4, Gaussian()).eval()
    one = trained(model, VAE(), scaled)
    found = Frechet(images=300).measure(one, "test")
    assert found["frechet_samples"] > 10 * found["frechet_data"] > 0
    assert found["frechet_reconstructions"] > 10 * found["frechet_data"]
    assert found == Frechet(images=300).measure(one, "test")
    expected = frechet(*(random_conv_features(scaled.images[drawn(i, 300)]) for i in (scaled.train, scaled.test)))
    assert found["frechet_data"] == pytest.approx(expected, rel=1e-6)
    with pytest.raises(UserError, match="Frechet needs images of 4 x 4 pixels"):
        Frechet().check(BreastCancer(), VAE("gaussian"))


KINDS = {
    "vae": TrainConfig(Digits(), MLP((16,)), 4, VAE(), replicas=1),
    "wae": TrainConfig(Digits(), MLP((16,)), 4, WAE(), replicas=1),
    "plain": TrainConfig(Digits(), MLP((16,)), 4, Reconstruction(), replicas=1),
    "vq": TrainConfig(Digits(), Conv((8,)), 4, Reconstruction(), VectorQuantized(16), replicas=1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_distance_is_that_of_the_samples_that_use_shows(kind, tmp_path):
    config, data = KINDS[kind], Digits().load(None)
    torch.manual_seed(0)
    network = config.build().eval()
    weights = {name: tensor[None] for name, tensor in network.state_dict().items()}
    metrics = {"val/loss": (0.0,)}
    save_artifacts(tmp_path, config, Result(metrics, (1,), weights), data)
    one = trained(network, config.objective, replace(data, images=(data.images / 255).astype(np.float32)))
    found = Frechet(images=200, seed=3).measure(one, "test")["frechet_samples"]
    prior = "model" if kind in ("vae", "wae") else "mixture"
    shown = load_model(tmp_path).sample(200, prior=prior, seed=3)
    real = one.data.images[drawn(data.test, 200, 3)]
    assert found == pytest.approx(frechet(*map(random_conv_features, (shown, real))), rel=1e-4)


def test_items_are_drawn_and_not_the_first():
    index = np.arange(100, 200)
    assert drawn(index, 100) is index
    some = drawn(index, 30)
    assert len(set(some)) == 30
    assert set(some) <= set(index)
    assert some.max() > 180
    assert (np.diff(some) > 0).all()
    assert not np.array_equal(some, drawn(index, 30, seed=1))


@pytest.mark.parametrize("score", [Frechet(images=50), Likelihood(2, images=50), UDR(points=50)])
def test_no_score_takes_the_first_items(score):
    asked = []
    digits = Digits().load(None)
    torch.manual_seed(0)
    model = Autoencoder(MLP((4,)), (1, 8, 8), 2, Gaussian()).eval()
    one = trained(model, VAE(), replace(digits, images=(digits.images / 255).astype(np.float32)))
    seen = replace(one, images=lambda index: asked.append(index) or one.images(index))
    measure((score,), [seen, seen])
    for split in score.splits:
        of_split = np.intersect1d(np.concatenate(asked), digits.val if split == "val" else digits.test)
        first = (digits.val if split == "val" else digits.test)[:50]
        assert len(np.setdiff1d(of_split, first)) > 20


def test_samples_of_a_constant_decoder_are_grey_pictures():
    digits = Digits().load(None)
    scaled = replace(digits, images=(digits.images / 255).astype(np.float32))
    model = Autoencoder(MLP((4,)), (1, 8, 8), 2, Gaussian()).eval()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.zero_()
    found = Frechet(images=200).measure(trained(model, VAE(), scaled), "test")
    grey = random_conv_features(np.full((200, 1, 8, 8), 0.5, np.float32))
    expected = frechet(grey, random_conv_features(scaled.images[drawn(scaled.test, 200)]))
    assert found["frechet_samples"] == pytest.approx(expected, rel=1e-4)
    assert found["frechet_reconstructions"] == pytest.approx(expected, rel=1e-4)


def test_a_model_without_prior_is_sampled_from_its_codes():
    """A linear model that keeps everything has samples of the data's first two moments."""
    digits = Digits().load(None)
    scaled = replace(digits, images=(digits.images / 255).astype(np.float32))

    class Same(torch.nn.Module):
        classes, latent_dim, bottleneck = 0, 64, None

        def __init__(self):
            super().__init__()
            self.register_parameter("place", torch.nn.Parameter(torch.ones(1)))

        def encode(self, x, label=None):
            return x.flatten(1)

        def decode(self, codes, label=None):
            decoded.append(codes.detach().clone())
            return codes.view(-1, 1, 8, 8)

    decoded = []
    found = Frechet(images=300).measure(trained(Same(), Reconstruction("gaussian"), scaled), "test")
    assert found["frechet_reconstructions"] == pytest.approx(0, abs=1e-6)
    drawn, known = decoded[0].numpy(), scaled.images[scaled.train].reshape(-1, 64)
    np.testing.assert_allclose(drawn.mean(0), known.mean(0), atol=0.1)
    assert np.trace(np.cov(drawn.T)) == pytest.approx(np.trace(np.cov(known.T)), rel=0.1)
    assert np.corrcoef(np.cov(drawn.T).ravel(), np.cov(known.T).ravel())[0, 1] > 0.9
    assert found["frechet_samples"] < 5 * found["frechet_data"], "an untrained model is at 70"
