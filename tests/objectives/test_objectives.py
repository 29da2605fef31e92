import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch.distributions import Bernoulli, Laplace, MultivariateNormal, Normal, kl_divergence
from torch.nn import functional as F

from aesearch.autoencoder import Output
from aesearch.bottlenecks import BoundedCode, Code, GaussianCode
from aesearch.errors import UserError
from aesearch.objectives import (
    DIPVAE,
    FAMILIES,
    IWAE,
    NLL,
    VAE,
    WAE,
    AnnealedVAE,
    BetaTCVAE,
    BetaVAE,
    Contractive,
    Cyclical,
    FactorVAE,
    FreeBits,
    InfoVAE,
    KLSparse,
    Linear,
    Reconstruction,
    Sparse,
    Step,
    bernoulli_nll,
    covariance,
    gaussian_kl,
    gaussian_nll,
    importance_weighted,
    laplace_nll,
    log_importance_weights,
    log_marginals,
    logistic_nll,
    loss,
    mmd,
    permute_codes,
    pixels,
    reconstruction,
    scaled_gaussian_nll,
)


def make(samples: int = 1, batch: int = 6, codes: int = 4) -> Output:
    torch.manual_seed(0)
    mean, log_var = torch.randn(batch, codes), torch.randn(batch, codes)
    z = mean + (log_var / 2).exp() * torch.randn(samples, batch, codes)
    return Output(GaussianCode(mean, z, log_var), 3 * torch.randn(samples, batch, 1, 5, 5))


def moment(output: Output, progress: float = 1.0, discriminator=None, encode=lambda x: x.flatten(1)) -> Step:
    torch.manual_seed(2)
    batch, codes = output.code.mean.shape
    images = torch.rand(batch, 1, 5, 5)
    return Step(torch.tensor(progress), 1000, torch.randn(batch, codes), encode, images, discriminator)


@pytest.fixture
def output() -> Output:
    return make()


@pytest.fixture
def target() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.rand(6, 1, 5, 5)


def added(objective, output, target, **options) -> torch.Tensor:
    """What the objective adds to the reconstruction."""
    return loss(objective, output, target, moment(output, **options)) - reconstruction(objective, output, target)


def test_kl_is_that_of_torch_distributions(output):
    mean, log_var = output.code.mean, output.code.log_var
    exact = kl_divergence(Normal(mean, (log_var / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(gaussian_kl(mean, log_var), exact)


def test_kl_of_the_prior_is_zero():
    assert gaussian_kl(torch.zeros(3, 2), torch.zeros(3, 2)).abs().max() == 0


def test_bernoulli_nll_is_that_of_torch_distributions(output, target):
    binary = (target > 0.5).float()
    exact = -Bernoulli(logits=output.logits[0]).log_prob(binary).sum((1, 2, 3))
    torch.testing.assert_close(bernoulli_nll(output.logits[0], binary), exact)


def test_bernoulli_nll_is_torchs_cross_entropy_on_grey_targets(output, target):
    exact = F.binary_cross_entropy_with_logits(output.logits[0], target, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(bernoulli_nll(output.logits[0], target), exact)


def test_bernoulli_nll_and_its_gradient_hold_at_extreme_logits():
    logits = torch.tensor([[-200.0, -20.0, 0.0, 20.0, 200.0]], requires_grad=True)
    total = bernoulli_nll(logits, torch.ones(1, 5))
    torch.testing.assert_close(total, -F.logsigmoid(logits).sum(1))
    total.sum().backward()
    torch.testing.assert_close(logits.grad, torch.sigmoid(logits.detach()) - 1)


def test_bernoulli_nll_passes_gradcheck():
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: bernoulli_nll(a, torch.full((2, 3), 0.3, dtype=torch.float64)), logits)


@pytest.mark.parametrize(("nll", "exact"), [(gaussian_nll, Normal), (laplace_nll, Laplace)])
def test_the_other_likelihoods_are_those_of_torch_distributions(output, target, nll, exact):
    expected = -exact(output.logits[0], 1.0).log_prob(target).sum((1, 2, 3))
    torch.testing.assert_close(nll(output.logits[0], target), expected)


@pytest.mark.parametrize("likelihood", NLL)
def test_each_loss_is_its_line_of_the_table(output, target, likelihood):
    if FAMILIES[likelihood].scale != "none":
        output = output._replace(logits=torch.cat([output.logits, -output.logits], dim=2))
    step = moment(output)
    rec = loss(Reconstruction(likelihood), output, target, step)
    kl = gaussian_kl(output.code.mean, output.code.log_var).sum(1)
    torch.testing.assert_close(rec, NLL[likelihood](output.logits[0], target))
    torch.testing.assert_close(loss(VAE(likelihood), output, target, step), rec + kl)
    torch.testing.assert_close(loss(BetaVAE(4.0, likelihood), output, target, step), rec + 4 * kl)
    torch.testing.assert_close(loss(BetaVAE(0.0, likelihood), output, target, step), rec)
    l1 = output.code.mean.abs().sum(1)
    torch.testing.assert_close(loss(Sparse(0.5, likelihood), output, target, step), rec + 0.5 * l1)


def test_a_weight_scales_the_regulariser_and_no_penalty(output, target):
    step, rec = moment(output), reconstruction(VAE(), output, target)
    kl = gaussian_kl(output.code.mean, output.code.log_var).sum(1)
    torch.testing.assert_close(loss(VAE(), output, target, step, 0.25), rec + 0.25 * kl)
    penalised = output._replace(code=replace(output.code, penalty=torch.arange(6.0)))
    torch.testing.assert_close(loss(VAE(), penalised, target, step, 0.0), rec + torch.arange(6.0))


def everything(outputs, nll):
    """Give the 256 probabilities of each pixel, (256, pixels)."""
    flat = outputs.flatten(2).movedim(2, 0)[..., None, None]  # (pixels, 1, channels, 1, 1)
    flat = flat.flatten(0, 1)
    rows = [nll(flat, torch.full((len(flat), 1, 1, 1), k / 255)) for k in range(256)]
    return torch.stack(rows).neg().exp()


SHARP = torch.tensor([-9.0, -5.0, -3.0, -1.0, 0.0, 2.0])  # raw log scales, from a hundredth of a step to 7
WHERE = torch.tensor([-3.0, -0.2, 0.0, 0.5, 0.5021, 0.998, 1.0, 2.0])


def grid():
    """Give decoder outputs (1, 2, 6, 8) of all pairs of a mean and a raw log scale."""
    return torch.stack(torch.meshgrid(SHARP, WHERE, indexing="ij")).flip(0)[None]


@pytest.mark.parametrize("likelihood", [name for name in FAMILIES if name != "bernoulli"])
def test_the_256_probabilities_of_a_pixel_sum_to_one(likelihood):
    family = FAMILIES[likelihood]
    outputs = grid() if family.scale != "none" else grid()[:, :1]
    chances = everything(outputs, family.levels_nll)
    torch.testing.assert_close(chances.sum(0), torch.ones_like(chances[0]), rtol=1e-4, atol=0)
    assert (chances <= 1 + 1e-6).all(), "so bits per dimension are never below 0"


def test_a_level_has_the_mass_around_it():
    from torch.distributions import AffineTransform, SigmoidTransform, TransformedDistribution, Uniform

    mean, scale, x = torch.tensor(0.4), torch.tensor(0.07), torch.tensor([0.0, 1.0, 97.0, 180.0, 254.0, 255.0]) / 255
    logistic = TransformedDistribution(
        Uniform(torch.tensor(0.0), torch.tensor(1.0)), [SigmoidTransform().inv, AffineTransform(mean, scale)]
    )
    for density, likelihood, least in (
        (Normal(mean, scale), "gaussian_global", -6),
        (logistic, "logistic", -7),
    ):
        raw = least + torch.log(torch.expm1(scale.log() - least))
        outputs = torch.stack([mean, raw]).view(1, 2, 1, 1).expand(6, 2, 1, 1)
        upper = torch.where(x < 1, density.cdf((x + 0.5 / 255).clamp(max=1)), 1.0)
        lower = torch.where(x > 0, density.cdf((x - 0.5 / 255).clamp(min=0)), 0.0)
        found = FAMILIES[likelihood].levels_nll(outputs, x.view(6, 1, 1, 1)).neg().exp()
        torch.testing.assert_close(found.float(), upper - lower, rtol=2e-2, atol=1e-6)
    interior = torch.tensor([97.0]).view(1, 1, 1, 1) / 255
    for likelihood in ("gaussian", "laplace"):
        family, at = FAMILIES[likelihood], torch.tensor([0.1]).view(1, 1, 1, 1)
        nats = (family.levels_nll(at, interior) - family.nll(at, interior)).item()
        assert nats == pytest.approx(math.log(255), abs=1e-3), "a density on [0, 1] is 8 bits below a probability"


def test_the_best_global_scale_is_the_rmse():
    torch.manual_seed(0)
    mean, x = torch.rand(6, 3, 5, 5), torch.rand(6, 3, 5, 5)
    best = (x - mean).square().mean().sqrt()
    raw = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([raw], line_search_fn="strong_wolfe")

    def of():
        optimizer.zero_grad()
        total = scaled_gaussian_nll(torch.cat([mean, raw.expand_as(mean)], dim=1), x).mean()
        total.backward()
        return total

    for _ in range(5):
        optimizer.step(of)
    log_scale = -6 + F.softplus(raw + 6)
    assert log_scale.exp().item() == pytest.approx(best.item(), rel=1e-3)
    least = math.prod(x.shape[1:]) * (0.5 + math.log(best) + 0.5 * math.log(2 * math.pi))
    assert of().item() == pytest.approx(least, rel=1e-4)
    exact = -Normal(mean, best).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(
        scaled_gaussian_nll(torch.cat([mean, raw.detach().expand_as(mean)], dim=1), x), exact, rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize("likelihood", ["gaussian_global", "gaussian_pixel", "logistic"])
def test_scaled_likelihoods_hold_at_extremes(likelihood):
    outputs = torch.tensor([[-300.0, -1e3], [0.0, -1e3], [300.0, 20.0], [1.0, -50.0]]).view(4, 2, 1, 1)
    outputs.requires_grad_(True)
    for target in (0.0, 0.5, 1.0):
        total = NLL[likelihood](outputs, torch.full((4, 1, 1, 1), target))
        assert total.isfinite().all()
        total.sum().backward()
        assert outputs.grad.isfinite().all()
        assert FAMILIES[likelihood].levels_nll(outputs.detach(), torch.full((4, 1, 1, 1), target)).min() >= -1e-6


def test_the_logistic_likelihood_passes_gradcheck():
    torch.manual_seed(0)
    outputs = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    x = torch.randint(256, (3, 1, 2, 2), dtype=torch.float64) / 255
    x[0, 0, 0] = torch.tensor([0.0, 1.0])
    assert torch.autograd.gradcheck(lambda a: logistic_nll(a, x), outputs)


def test_logistic_pixels_are_means():
    outputs = grid()
    chances = everything(outputs, logistic_nll)
    expected = (torch.arange(256)[:, None] / 255 * chances).sum(0)
    found = pixels(outputs, "logistic").flatten()
    torch.testing.assert_close(found, expected, rtol=0, atol=0.6 / 255)
    soft = (grid()[:, 1] >= -3).flatten()
    torch.testing.assert_close(found[soft], expected[soft], rtol=0, atol=1e-5)


def test_pixels_are_means_of_the_likelihood(output):
    torch.testing.assert_close(pixels(output.logits, "bernoulli"), Bernoulli(logits=output.logits).mean)
    assert pixels(output.logits, "gaussian") is output.logits


@pytest.mark.parametrize("decoded", ["activation", "logit"])
def test_kl_sparsity_is_the_bernoulli_kl_to_its_target(decoded, target):
    def of(activation: float) -> float:
        bounded = decoded == "activation"
        code = torch.full((6, 3), activation if bounded else math.log(activation / (1 - activation)))
        output = Output((BoundedCode if bounded else Code)(code, code[None]), torch.zeros(1, 6, 1, 5, 5))
        return added(KLSparse(target=0.1, weight=2.0, decoded=decoded), output, target)[0].item()

    assert of(0.1) == pytest.approx(0, abs=1e-4)
    exact = kl_divergence(Bernoulli(0.1), Bernoulli(0.3)).item()
    assert of(0.3) == pytest.approx(2 * 3 * exact, rel=1e-4)


def test_the_contractive_penalty_is_the_known_jacobian(target):
    weight = torch.randn(4, 25)

    def encode(x):
        return torch.tanh(x.flatten(1) @ weight.T)

    output = make()
    step = moment(output, encode=encode)
    slope = 1 - encode(step.images) ** 2
    exact = ((slope[:, :, None] * weight) ** 2).sum((1, 2))
    published = Contractive(0.5, normalised=False)
    torch.testing.assert_close(published.regulariser(output, target, step), 0.5 * exact)


def test_no_scale_lowers_the_contractive_penalty(target):
    """A code that is 1,000 times smaller would else be 1,000,000 times cheaper, and decode as well."""
    weight, output = torch.randn(4, 25), make(batch=8)

    def of(scale, shift=0.0, batch=8):
        def encode(x):
            return scale * torch.tanh(x.flatten(1) @ weight.T) + shift

        step = moment(make(batch=batch), encode=encode)
        return Contractive(0.5).regulariser(output, target, step), encode(step.images)

    whole, codes = of(1.0)
    slope = 1 - codes**2
    squared = (slope[:, :, None] * weight).square().sum(2)
    torch.testing.assert_close(whole, 0.5 * (squared / codes.var(0, correction=0)).sum(1))
    for scale in (torch.tensor(1e-3), torch.tensor([1e-3, 10.0, 1.0, 1e-2])):
        torch.testing.assert_close(of(scale, shift=2.0)[0], whole, rtol=1e-3, atol=0)
    few, _ = of(1.0, batch=7)
    assert few.tolist() == [0.0] * 7, "the variance of few images says nothing"


def test_free_bits_cost_at_least_their_nats_and_the_kl(target):
    output = make()
    per_code = gaussian_kl(output.code.mean, output.code.log_var).mean(0)
    torch.testing.assert_close(added(FreeBits(0.0), output, target)[0], per_code.sum())
    torch.testing.assert_close(added(FreeBits(1e3), output, target)[0], torch.tensor(4e3))
    between = per_code.median().item()
    assert added(FreeBits(between), output, target)[0].item() == pytest.approx(
        sum(max(between, one) for one in per_code.tolist()), rel=1e-4
    )


@pytest.mark.parametrize(("progress", "capacity"), [(0.0, 0.0), (0.2, 10.0), (0.5, 25.0), (1.0, 25.0)])
def test_capacity_rises_and_then_stays(output, target, progress, capacity):
    kl = gaussian_kl(output.code.mean, output.code.log_var).sum(1).mean()
    extra = added(AnnealedVAE(25.0, gamma=10.0, over=0.5), output, target, progress=progress)
    torch.testing.assert_close(extra, (10 * (kl - capacity).abs()).expand(6), rtol=1e-4, atol=1e-3)


def test_warmups_are_their_curves():
    progress = torch.tensor([0.0, 0.1, 0.25, 0.6, 1.0])
    torch.testing.assert_close(Linear(0.5).weight(progress), torch.tensor([0.0, 0.2, 0.5, 1.0, 1.0]))
    cycle = Cyclical(cycles=2, rise=0.5).weight(torch.tensor([0.0, 0.125, 0.25, 0.49, 0.5, 0.625, 0.99]))
    torch.testing.assert_close(cycle, torch.tensor([0.0, 0.5, 1.0, 1.0, 0.0, 0.5, 1.0]))


def test_iwae_of_one_sample_is_the_elbo_and_more_are_tighter(target):
    one = make(samples=1)
    z, mean, std = one.code.samples[0], one.code.mean, (one.code.log_var / 2).exp()
    ratio = (Normal(mean, std).log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(1)
    torch.testing.assert_close(
        loss(IWAE(1), one, target, moment(one)), bernoulli_nll(one.logits[0], target) + ratio, rtol=1e-4, atol=1e-4
    )
    many = make(samples=50)
    bound = -loss(IWAE(50), many, target, moment(many))
    torch.testing.assert_close(bound, importance_weighted(IWAE(50), many, target), rtol=1e-4, atol=1e-3)
    single = [
        importance_weighted(IWAE(1), Output(replace(many.code, samples=z[None]), logits[None]), target)
        for z, logits in zip(many.code.samples, many.logits, strict=True)
    ]
    assert (bound >= torch.stack(single).mean(0)).all(), "Jensen"


def linear_gaussian(codes: int, samples: int, batch: int = 64) -> tuple[Output, torch.Tensor, torch.Tensor]:
    """Codes z ~ N(0, I), x = W z + N(0, I): an encoder near the exact posterior, and the exact log p(x)."""
    torch.manual_seed(3)
    weight = 0.5 * torch.randn(9, codes, dtype=torch.float64)
    x = torch.randn(batch, codes, dtype=torch.float64) @ weight.T + torch.randn(batch, 9, dtype=torch.float64)
    marginal = MultivariateNormal(torch.zeros(9, dtype=torch.float64), weight @ weight.T + torch.eye(9))
    posterior = torch.linalg.inv(torch.eye(codes, dtype=torch.float64) + weight.T @ weight)
    mean = x @ weight @ posterior
    log_var = torch.diagonal(posterior).log().expand(batch, codes)
    z = mean + (log_var / 2).exp() * torch.randn(samples, batch, codes, dtype=torch.float64)
    logits = (z @ weight.T).view(samples, batch, 1, 3, 3)
    return Output(GaussianCode(mean, z, log_var), logits), x.view(batch, 1, 3, 3), marginal.log_prob(x)


def test_the_importance_bound_rises_to_the_likelihood():
    gaps = []
    for samples in (1, 10, 1000):
        output, x, exact = linear_gaussian(3, samples)
        gaps.append((exact - importance_weighted(VAE("gaussian"), output, x)).mean().item())
    assert gaps[0] > gaps[1] > gaps[2] - 0.01
    assert gaps[0] > 0.1
    assert abs(gaps[2]) < 0.02


def test_stratified_importance_weights_are_those_of_the_paper():
    weights = log_importance_weights(5, 100, "stratified", torch.zeros(1)).exp()
    torch.testing.assert_close(weights.sum(1), torch.ones(5))
    torch.testing.assert_close(torch.diagonal(weights), torch.full((5,), 1 / 100))
    for row in weights:
        assert sorted(row.tolist()) == pytest.approx(sorted([1 / 100, 96 / 400, 1 / 4, 1 / 4, 1 / 4]))
    for normalised, weight in ((False, 1 / 500), (True, 1 / 5)):
        weighted = log_importance_weights(5, 100, "weighted", torch.zeros(1), normalised).exp()
        torch.testing.assert_close(weighted, torch.full((5, 5), weight))


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_the_stratified_estimate_is_right_for_a_gaussian(correlation):
    """Codes whose means have a known covariance C and whose posterior variance is v: TC is that of N(0, C + v I)."""
    torch.manual_seed(0)
    variance, n, batch = 0.3, 4096, 2048
    covariances = torch.tensor([[1.0, correlation], [correlation, 1.0]])
    mean = MultivariateNormal(torch.zeros(2), covariances).sample((n,))
    total = covariances + variance * torch.eye(2)
    exact = 0.5 * (torch.diagonal(total).log().sum() - torch.logdet(total))
    estimates = []
    for part in mean.split(batch):
        log_var = torch.full_like(part, math.log(variance))
        z = part + variance**0.5 * torch.randn_like(part)
        weights = log_importance_weights(len(part), n, "stratified", z)
        joint, product, _ = log_marginals(z, part, log_var, weights)
        estimates.append((joint - product).mean())
    assert torch.stack(estimates).mean().item() == pytest.approx(exact.item(), abs=0.03)


def independent(codes: int, variance: float = 0.8, batch: int = 128, seed: int = 0) -> GaussianCode:
    """Units that are independent of each other over the data, so that their total correlation is 0."""
    torch.manual_seed(seed)
    mean = (1 - variance) ** 0.5 * torch.randn(batch, codes)
    z = mean + variance**0.5 * torch.randn(batch, codes)
    return GaussianCode(mean, z[None], torch.full_like(mean, math.log(variance)))


@pytest.mark.parametrize(("estimator", "nats"), [("weighted", 13), ("stratified", 9)])
def test_the_tc_of_sure_codes_is_too_high(estimator, nats):
    found = []
    for seed in range(20):
        code = independent(16, variance=0.1, seed=seed)
        weights = log_importance_weights(128, 14_745, estimator, code.mean)
        joint, product, _ = log_marginals(code.samples[0], code.mean, code.log_var, weights)
        found.append((joint - product).mean())
    assert torch.stack(found).mean().item() == pytest.approx(nats, abs=0.5)


@pytest.mark.parametrize("estimator", ["weighted", "stratified"])
@pytest.mark.parametrize("codes", [1, 4, 10, 16])
def test_independent_units_have_no_tc(codes, estimator):
    output = Output(independent(codes), torch.zeros(1, 128, 1, 5, 5))
    images, step = torch.rand(128, 1, 5, 5), moment(output)
    step = replace(step, dataset_size=14_745)
    kl = gaussian_kl(output.code.mean, output.code.log_var).sum(1)
    objective = BetaTCVAE(6.0, estimator)
    tc = (objective.regulariser(output, images, step) - kl).mean().item() / 5
    assert tc == pytest.approx(0, abs=0.15)
    if estimator == "weighted":
        published = replace(objective, normalised=False).regulariser(output, images, step)
        constant = 5 * (codes - 1) * math.log(14_745)
        assert (published - kl).mean().item() == pytest.approx(5 * tc + constant, rel=1e-4, abs=1e-3)


def test_beta_tcvae_at_one_is_the_vae_and_its_slope_is_the_tc(output, target):
    step = moment(output)
    vae = loss(VAE(), output, target, step)
    torch.testing.assert_close(loss(BetaTCVAE(1.0), output, target, step), vae)
    slope = loss(BetaTCVAE(3.0), output, target, step) - loss(BetaTCVAE(2.0), output, target, step)
    weights = log_importance_weights(6, 1000, "weighted", target)
    joint, product, own = log_marginals(output.code.samples[0], output.code.mean, output.code.log_var, weights)
    torch.testing.assert_close(slope, joint - product, rtol=1e-4, atol=1e-4)
    exact = Normal(output.code.mean, (output.code.log_var / 2).exp()).log_prob(output.code.samples[0]).sum(1)
    torch.testing.assert_close(own, exact)


def test_permuted_codes_keep_marginals_and_lose_dependence():
    torch.manual_seed(0)
    codes = torch.randn(2000, 1) + 0.1 * torch.randn(2000, 3)
    permuted = permute_codes(codes, torch.randn(2000, 3))
    torch.testing.assert_close(permuted.sort(0).values, codes.sort(0).values)
    assert torch.corrcoef(codes.T)[0, 1] > 0.9
    assert (torch.corrcoef(permuted.T) - torch.eye(3)).abs().max() < 0.1


def test_factor_vae_adds_the_density_ratio_that_it_learns():
    torch.manual_seed(0)
    objective = FactorVAE(gamma=5.0, hidden=(64, 64), discriminator_rate=1e-2)
    discriminator = objective.discriminator(2)
    optimizer = torch.optim.Adam(
        discriminator.parameters(), objective.discriminator_rate, objective.discriminator_betas
    )
    covariances = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
    source = MultivariateNormal(torch.zeros(2), covariances)
    for _ in range(400):
        total = objective.discriminator_loss(discriminator, source.sample((512,)), torch.randn(512, 2))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    codes = source.sample((20_000,))
    ratio = discriminator(codes)
    exact = -0.5 * torch.logdet(covariances).item()
    assert (ratio[:, 0] - ratio[:, 1]).mean().item() == pytest.approx(exact, abs=0.08), "the TC of a Gaussian"
    output = make(codes=2)
    target = torch.rand(6, 1, 5, 5)
    extra = added(objective, output, target, discriminator=discriminator)
    logits = discriminator(output.code.samples[0])
    kl = gaussian_kl(output.code.mean, output.code.log_var).sum(1)
    torch.testing.assert_close(extra, kl + 5 * (logits[:, 0] - logits[:, 1]), rtol=1e-4, atol=1e-4)


def test_dip_covariance_is_numpys_and_kind_two_of_samples(target):
    output = make(batch=6)
    matrix = covariance(output.code.mean)
    torch.testing.assert_close(matrix, torch.cov(output.code.mean.T, correction=0))
    kl = gaussian_kl(output.code.mean, output.code.log_var).sum(1)
    for kind in (1, 2):
        full = matrix + (kind == 2) * torch.diag(output.code.log_var.exp().mean(0))
        diagonal = torch.diagonal(full)
        off = (full**2).sum() - (diagonal**2).sum()
        expected = kl + 3 * off + 7 * ((diagonal - 1) ** 2).sum()
        torch.testing.assert_close(added(DIPVAE(3.0, 7.0, kind), output, target), expected, rtol=1e-4, atol=1e-3)


def test_mmd_is_unbiased_and_grows_with_the_distance():
    torch.manual_seed(0)
    same = [mmd(torch.randn(200, 3), torch.randn(200, 3)).item() for _ in range(50)]
    spread = torch.tensor(same).std().item() / 50**0.5
    assert abs(sum(same) / 50) < 4 * spread
    shifted = [mmd(torch.randn(500, 3), torch.randn(500, 3) + shift).item() for shift in (0.0, 0.5, 1.0, 2.0)]
    assert all(a < b for a, b in itertools.pairwise(shifted))


def test_mmd_is_the_double_sum_over_pairs():
    torch.manual_seed(0)
    a, b = torch.randn(4, 2), torch.randn(4, 2)

    def k(x, y):
        squared = ((x - y) ** 2).sum().item()
        return sum(4 * s / (4 * s + squared) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10))

    within = sum(k(p, q) for s in (a, b) for i, p in enumerate(s) for j, q in enumerate(s) if i != j) / 12
    across = sum(k(p, q) for p in a for q in b) / 16
    assert mmd(a, b).item() == pytest.approx(within - 2 * across, rel=1e-4)


def test_info_vae_ends_are_the_vae_and_mmd_vae(output, target):
    kl = gaussian_kl(output.code.mean, output.code.log_var).sum(1)
    torch.testing.assert_close(added(InfoVAE(alpha=0.0, scale=1.0), output, target), kl, rtol=1e-4, atol=1e-4)
    reference = moment(output).reference
    discrepancy = mmd(output.code.samples[0], reference)
    whole = added(InfoVAE(alpha=1.0, scale=20.0), output, target)
    torch.testing.assert_close(whole, (20 * discrepancy).expand(6), rtol=1e-3, atol=1e-3)
    at_codes = added(WAE(7.0), output, target)
    torch.testing.assert_close(at_codes, (7 * mmd(output.code.mean, reference)).expand(6), rtol=1e-3, atol=1e-3)


def test_unknown_likelihoods_and_bad_strengths_are_refused():
    with pytest.raises(UserError, match="did you mean bernoulli"):
        VAE(likelihood="bernouli")
    with pytest.raises(UserError, match="did you mean gaussian_pixel"):
        VAE(likelihood="gaussian_pixels")
    with pytest.raises(UserError, match="beta >= 0 must hold, but got beta=-1"):
        BetaVAE(beta=-1)
    with pytest.raises(UserError, match="beta=nan"):
        BetaVAE(beta=float("nan"))


@pytest.mark.parametrize(
    ("make_one", "message"),
    [
        (lambda: Sparse(-1.0), "weight >= 0"),
        (lambda: KLSparse(target=1.0), "0 < target < 1"),
        (lambda: KLSparse(decoded="logits"), "did you mean logit"),
        (lambda: Contractive(float("nan")), "weight >= 0"),
        (lambda: FreeBits(-0.1), "nats >= 0"),
        (lambda: AnnealedVAE(over=0.0), "0 < over <= 1"),
        (lambda: IWAE(samples=0), "samples >= 1"),
        (lambda: BetaTCVAE(estimator="stratifed"), "did you mean stratified"),
        (lambda: FactorVAE(hidden=()), r"len\(hidden\) >= 1 and all hidden widths > 0"),
        (lambda: DIPVAE(kind=3), r"kind in \(1, 2\) must hold"),
        (lambda: InfoVAE(alpha=2.0), "alpha <= 1"),
        (lambda: WAE(-1.0), "weight >= 0"),
        (lambda: Linear(0.0), "0 < over <= 1"),
        (lambda: Cyclical(0), "cycles >= 1"),
    ],
)
def test_every_objective_checks_its_fields(make_one, message):
    with pytest.raises(UserError, match=message):
        make_one()
