import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn import functional as F

from aesearch.errors import UserError
from aesearch.networks import Output
from aesearch.objectives import VAE, BetaVAE, Reconstruction, bernoulli_nll, gaussian_kl, gaussian_nll, pixels


@pytest.fixture
def output() -> Output:
    torch.manual_seed(0)
    return Output(torch.randn(6, 4), torch.randn(6, 4), 3 * torch.randn(1, 6, 1, 5, 5))


@pytest.fixture
def target() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.rand(6, 1, 5, 5)


def test_kl_is_that_of_torch_distributions(output):
    exact = kl_divergence(Normal(output.mean, (output.log_var / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(gaussian_kl(output.mean, output.log_var), exact)


def test_kl_of_the_prior_is_zero():
    assert gaussian_kl(torch.zeros(3, 2), torch.zeros(3, 2)).abs().max() == 0


def test_bernoulli_nll_is_that_of_torch_distributions_on_binary_targets(output, target):
    binary = (target > 0.5).float()
    exact = -Bernoulli(logits=output.logits[0]).log_prob(binary).sum((1, 2, 3))
    torch.testing.assert_close(bernoulli_nll(output.logits[0], binary), exact)


def test_bernoulli_nll_is_torchs_cross_entropy_on_grey_targets(output, target):
    exact = F.binary_cross_entropy_with_logits(output.logits[0], target, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(bernoulli_nll(output.logits[0], target), exact)


def test_bernoulli_nll_and_its_gradient_hold_at_extreme_logits():
    logits = torch.tensor([[-200.0, -20.0, 0.0, 20.0, 200.0]], requires_grad=True)
    loss = bernoulli_nll(logits, torch.ones(1, 5))
    torch.testing.assert_close(loss, -F.logsigmoid(logits).sum(1))
    loss.sum().backward()
    torch.testing.assert_close(logits.grad, torch.sigmoid(logits.detach()) - 1)


def test_bernoulli_nll_passes_gradcheck():
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: bernoulli_nll(a, torch.full((2, 3), 0.3, dtype=torch.float64)), logits)


def test_gaussian_nll_is_that_of_torch_distributions(output, target):
    exact = -Normal(output.logits[0], 1.0).log_prob(target).sum((1, 2, 3))
    torch.testing.assert_close(gaussian_nll(output.logits[0], target), exact)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_each_loss_is_its_line_of_the_table(output, target, likelihood):
    rec = Reconstruction(likelihood).loss(output, target)
    kl = gaussian_kl(output.mean, output.log_var).sum(1)
    torch.testing.assert_close(VAE(likelihood).loss(output, target), rec + kl)
    torch.testing.assert_close(BetaVAE(4.0, likelihood).loss(output, target), rec + 4 * kl)
    torch.testing.assert_close(BetaVAE(0.0, likelihood).loss(output, target), rec)


def test_pixels_are_means_of_the_likelihood(output):
    torch.testing.assert_close(pixels(output.logits, "bernoulli"), Bernoulli(logits=output.logits).mean)
    assert pixels(output.logits, "gaussian") is output.logits


def test_unknown_likelihoods_and_negative_betas_are_refused():
    with pytest.raises(UserError, match="did you mean bernoulli"):
        VAE(likelihood="bernouli")
    with pytest.raises(UserError, match="beta must be at least 0, but got beta=-1"):
        BetaVAE(beta=-1)
    with pytest.raises(UserError, match="beta=nan"):
        BetaVAE(beta=float("nan"))
