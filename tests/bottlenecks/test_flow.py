"""A flow's density is that of its Gaussian less the volume that its steps change."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.small import TINY
from torch.distributions import Normal

from aesearch.bottlenecks import FlowCode, Gaussian, InverseAutoregressive
from aesearch.errors import UserError
from aesearch.model import load_model, save_artifacts
from aesearch.networks import MLP
from aesearch.objectives import VAE
from aesearch.scores import UDR, Likelihood, ModelCentrality
from aesearch.train import Engine, TrainConfig, train
from aesearch.use.program import export

FLOW = InverseAutoregressive(steps=2, hidden=16)
CONFIG = TrainConfig(TINY, MLP((32,)), 3, VAE(), FLOW, replicas=2, epochs=3)


def moved(dim: int, steps: int = 2) -> torch.nn.Module:
    """A flow whose steps are not the identity."""
    torch.manual_seed(0)
    flow = InverseAutoregressive(steps, hidden=8).build(dim)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.normal_(0, 0.7)
    return flow


def test_a_flow_at_its_start_is_the_gaussian():
    torch.manual_seed(1)
    features, noise = torch.randn(5, 9), torch.randn(4, 5, 3)
    code = FLOW.build(3)(features, noise)
    gaussian = Gaussian().build(3)(features[:, :6], noise)
    assert torch.equal(code.samples, gaussian.samples)
    assert torch.equal(code.mean, gaussian.mean)
    assert torch.equal(code.log_q(), gaussian.log_q())
    assert torch.equal(code.log_p(), gaussian.log_p())


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_log_q_is_the_base_density_less_the_volume(dim, steps):
    flow, features, noise = moved(dim, steps), torch.randn(3 * dim), torch.randn(dim)

    def sample(epsilon: torch.Tensor) -> torch.Tensor:
        return flow(features[None], epsilon[None, None]).samples[0, 0]

    jacobian = torch.autograd.functional.jacobian(sample, noise)
    exact = Normal(0.0, 1.0).log_prob(noise).sum() - torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(flow(features[None], noise[None, None]).log_q()[0, 0], exact, rtol=1e-4, atol=1e-4)


def test_each_step_is_triangular_in_turn():
    flow = moved(4)
    z, context = torch.randn(4), torch.randn(1, 4)
    for step, triangle in zip(flow, (torch.triu, torch.tril), strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda at, one=step: one(at[None, None], context)[0][0, 0], z)
        assert torch.equal(triangle(jacobian, 1 if triangle is torch.triu else -1), torch.zeros(4, 4))
        assert (torch.diagonal(jacobian) > 0).all()
        assert jacobian.count_nonzero() == 10, "every unit hears of all before it"


def test_the_density_sums_to_one():
    """The mean of r / q over samples of q is 1 for any density r: here for a narrow one in their middle."""
    code = moved(2)(torch.tensor([[0.3, -0.2, 0.4, 0.1, 1.0, -1.0]]), torch.randn(200_000, 1, 2))
    z = code.samples.detach()
    narrow = Normal(z.mean(0), 0.4 * z.std(0)).log_prob(z).sum(-1)
    assert (narrow - code.log_q()).exp().mean().item() == pytest.approx(1, abs=0.03)


def test_the_kl_is_the_mean_log_ratio_of_the_samples():
    code = moved(3)(torch.randn(4, 9), torch.randn(7, 4, 3))
    assert code.exact_kl() is None
    torch.testing.assert_close(code.kl(), (code.log_q() - code.log_p()).mean(0))


def test_the_mean_is_what_no_noise_leads_to():
    flow = moved(3)
    features = torch.randn(4, 9)
    code = flow(features, torch.zeros(2, 4, 3))
    torch.testing.assert_close(code.samples, code.mean.expand(2, 4, 3))
    none = flow(features, torch.zeros(0, 4, 3))
    torch.testing.assert_close(none.mean, code.mean)
    assert none.log_q().shape == (0, 4)


def test_a_trained_flow_is_saved_loaded_used_and_exported(tiny, tmp_path):
    *_, last = train(CONFIG, tiny)
    assert all(np.isfinite(values).all() for values in last.result.metrics.values())
    saved = tmp_path / "saved"
    saved.mkdir()
    save_artifacts(saved, CONFIG, last.result, tiny)
    model = load_model(saved)
    assert model.config == CONFIG
    images = tiny.images[tiny.test[:20]]
    codes = model.encode(images)
    assert codes.shape == (20, 3)
    np.testing.assert_allclose(model.reconstruct(images), model.decode(codes))
    assert model.sample(5).shape == model.sample(5, prior="mixture").shape == (5, 1, 16, 16)
    scores = model.score(images)
    assert set(scores) == {"error", "elbo"}, "the KL is estimated, as it has no closed form"
    np.testing.assert_array_equal(scores["elbo"], model.score(images)["elbo"])
    np.testing.assert_array_equal(model.rate(images), model.rate(images))
    kl = last.result.metrics["test/kl"][model.replica]
    assert model.rate(tiny.images[tiny.test]).mean() * np.log(2) == pytest.approx(kl, abs=0.1)
    lines = export(model, tmp_path)
    assert "model.pt2" in lines[0]


def test_the_elbo_bounds_the_likelihood_from_below(tiny):
    *_, last = train(replace(CONFIG, scores=(Likelihood(8, 50), UDR(50), ModelCentrality(8, 8))), tiny)
    metrics = last.result.metrics
    assert all(np.isfinite(metrics[f"val/{name}"]).all() for name in ("udr_lasso", "model_centrality"))
    for replica in range(2):
        assert metrics["test/log_likelihood_8"][replica] > -(
            metrics["test/rate"][replica] + metrics["test/distortion"][replica]
        )


def test_vmapped_flows_have_the_numbers_of_looped_ones(tiny):
    looped, vmapped = (list(train(CONFIG, tiny, engine=Engine(vmapped=vmapped))) for vmapped in (False, True))
    for one, other in zip(looped, vmapped, strict=True):
        for metric in ("train/loss", "val/loss", "val/kl"):
            assert one.metrics[metric] == pytest.approx(other.metrics[metric], rel=1e-3), metric


def test_a_flow_in_bfloat16_keeps_its_density_in_float32(tiny):
    exact, low = (
        list(train(replace(CONFIG, precision=precision), tiny))[-1].metrics["val/loss"]
        for precision in ("float32", "bfloat16")
    )
    assert low == pytest.approx(exact, rel=0.02)
    with torch.autocast("cpu", torch.bfloat16):
        code = moved(3)(torch.randn(4, 9).bfloat16(), torch.randn(2, 4, 3))
    assert isinstance(code, FlowCode)
    assert code.log_q().dtype == code.mean.dtype == torch.float32


@pytest.mark.parametrize("fields", [{"steps": 0}, {"hidden": 0}])
def test_empty_flows_are_refused(fields):
    with pytest.raises(UserError, match="steps >= 1 and hidden >= 1 must hold, but got"):
        InverseAutoregressive(**fields)
