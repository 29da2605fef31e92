import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from aesearch.autoencoder import Autoencoder
from aesearch.bottlenecks import (
    Code,
    Gaussian,
    GaussianCode,
    Plain,
    Sigmoid,
    VampPrior,
    VectorQuantized,
    gaussian_log_density,
)
from aesearch.errors import UserError
from aesearch.networks import MLP, Conv
from aesearch.objectives import VAE, gaussian_kl, kl


def codebook(dim=3, **options):
    torch.manual_seed(0)
    return VectorQuantized(**{"codes": 8, "revive": 0.0} | options).build(dim)


def test_each_place_gets_the_nearest_vector_and_pays_for_it():
    book = codebook(codebook="gradient").eval()
    features = torch.randn(2, 3, 4, 5)
    code = book(features, torch.zeros(1, 2, 3))
    chosen = code.mean.view(2, 3, 4, 5)
    distance = (features[:, None] - book.vectors.detach()[None, :, :, None, None]).norm(dim=2)
    assert torch.equal(code.indices.view(2, 4, 5), distance.argmin(1))
    torch.testing.assert_close((features - chosen).norm(dim=1), distance.min(1).values)
    squared = ((features - chosen) ** 2).flatten(1).sum(1)
    torch.testing.assert_close(code.penalty, 1.25 * squared)


def test_the_gradient_passes_straight_through_to_the_encoder():
    book = codebook(commitment=1e-9)
    features = torch.randn(2, 3, 4, 4, requires_grad=True)
    weight = torch.randn(2, 48)
    (book(features, torch.zeros(1, 2, 3)).mean * weight).sum().backward()
    torch.testing.assert_close(features.grad.flatten(1), weight)


def test_commitment_pulls_features_and_gradients_pull_vectors():
    book = codebook(codebook="gradient", commitment=0.5)
    features = torch.randn(2, 3, 4, 4, requires_grad=True)
    code = book(features, torch.zeros(1, 2, 3))
    code.penalty.sum().backward()
    difference = features.detach() - code.mean.detach().view_as(features)
    torch.testing.assert_close(features.grad, 2 * 0.5 * difference)
    flat = difference.movedim(1, -1).flatten(0, 2)
    expected = torch.zeros(8, 3).index_add_(0, code.indices.flatten(), -2 * flat)
    torch.testing.assert_close(book.vectors.grad, expected)


def test_an_ema_codebook_settles_on_the_means_of_its_clusters():
    torch.manual_seed(1)
    centres = torch.tensor([[5.0, 0.0], [-5.0, 0.0], [0.0, 5.0], [0.0, -5.0]])
    book = codebook(dim=2, codes=4, revive=0.05)
    for _ in range(600):
        places = centres[torch.randint(4, (8, 16))] + 0.1 * torch.randn(8, 16, 2)
        book(places.movedim(-1, 1).unflatten(2, (4, 4)), torch.zeros(1, 8, 2))
    found = book.vectors[torch.cdist(centres, book.vectors).argmin(1)]
    torch.testing.assert_close(found, centres, rtol=0, atol=0.1)
    assert book.use.tolist() == pytest.approx([1] * 4, abs=0.2)


def test_an_ema_codebook_has_smoothed_counts():
    """Counts N and sums m are averaged, and e = m / N~ with N~ = (N + c) n / (n + K c): Laplace smoothing."""
    book, K, c = codebook(dim=2, codes=5), 5, 1e-5
    with torch.no_grad():
        book.vectors[4], book.use[4] = 1e3, 1e-5  # which no output chooses
    n = 4 * 9  # outputs of a batch
    counts = book.use * n / K
    smoothed = (counts + c) * n / (n + K * c)
    sums = book.vectors * smoothed[:, None]
    for seed in range(800):
        torch.manual_seed(seed)
        features = torch.randn(4, 2, 3, 3)
        z = features.movedim(1, -1).flatten(0, 2)
        hits = F.one_hot(torch.cdist(z, book.vectors).argmin(1), K).float()
        book(features, torch.zeros(1, 4, 2))
        counts = 0.99 * counts + 0.01 * hits.sum(0)
        sums = 0.99 * sums + 0.01 * hits.T @ z
        smoothed = (counts + c) * n / (n + K * c)
        torch.testing.assert_close(book.vectors, sums / smoothed[:, None], rtol=2e-3, atol=1e-3)
        if seed == 99:
            assert 0 < counts[4] < 1e-3, "it was not chosen so far"
    assert book.vectors[4].abs().max() < 3, "smoothing brings it back to where outputs are"


def test_evaluation_leaves_the_codebook_alone():
    book = codebook(revive=0.05).eval()
    before = {name: tensor.clone() for name, tensor in book.state_dict().items()}
    book(torch.randn(2, 3, 4, 4), torch.zeros(1, 2, 3))
    assert all(torch.equal(tensor, before[name]) for name, tensor in book.state_dict().items())


def test_dead_codes_are_put_onto_vectors_of_the_batch():
    book = codebook(revive=0.05)
    with torch.no_grad():
        book.vectors[1:] = 1e3
    features = torch.randn(4, 3, 8, 8)
    for _ in range(400):
        book(features, torch.zeros(1, 4, 3))
    assert len(book(features, torch.zeros(1, 4, 3)).indices.unique()) == 8


def test_a_vector_quantized_model_needs_a_grid():
    with pytest.raises(UserError, match=r"needs a network with a grid, such as Conv\(\)"):
        Autoencoder(MLP((8,)), (1, 8, 8), 2, VectorQuantized())
    model = Autoencoder(Conv((4, 8)), (1, 8, 8), 2, VectorQuantized(codes=5))
    output = model(torch.rand(3, 1, 8, 8), torch.zeros(1, 3, 2))
    assert output.code.indices.shape == (3, 4)
    assert output.code.mean.shape == (3, 2 * 4)
    assert output.logits.shape == (1, 3, 1, 8, 8)
    torch.testing.assert_close(model.decode(model.encode(torch.rand(3, 1, 8, 8))).shape, output.logits[0].shape)


def test_the_vamp_prior_is_its_mean_pseudo_posterior():
    torch.manual_seed(0)
    model = Autoencoder(MLP((8,)), (1, 4, 4), 2, Gaussian(VampPrior(7)))
    x = torch.rand(5, 1, 4, 4)
    output = model(x, torch.randn(3, 5, 2))
    mean, log_var = model.encoder(model.pseudo_inputs).chunk(2, dim=1)
    density = torch.stack(
        [gaussian_log_density(output.code.samples, m, v).exp() for m, v in zip(mean, log_var, strict=True)]
    ).mean(0)
    torch.testing.assert_close(output.code.log_prior, density.log())
    assert all(name in dict(model.named_parameters()) for name in ("pseudo_inputs",))


@pytest.mark.parametrize(
    ("shape", "bounded", "clipped"), [((1, 4, 4), True, True), ((1, 4, 4), False, False), ((1, 1, 6), True, False)]
)
def test_pseudo_inputs_are_images_as_pixels_are(shape, bounded, clipped):
    """They have no gradient beyond the range of pixels, and rows of a table have no such range."""
    torch.manual_seed(0)
    model = Autoencoder(MLP((8,)), shape, 2, Gaussian(VampPrior(2, bounded)))
    inside = Autoencoder(MLP((8,)), shape, 2, Gaussian(VampPrior(2, bounded=False)))
    with torch.no_grad():
        model.pseudo_inputs[0] = 1.5
        model.pseudo_inputs[1] = -0.5
    inside.load_state_dict(model.state_dict())
    with torch.no_grad():
        inside.pseudo_inputs.clamp_(0, 1)
    x, noise = torch.rand(3, *shape), torch.randn(2, 3, 2)
    log_prior = model(x, noise).code.log_prior
    same = torch.equal(log_prior, inside(x, noise).code.log_prior)
    drawn = model.from_prior(noise[0], torch.arange(3))
    assert same == torch.equal(drawn, inside.from_prior(noise[0], torch.arange(3))) == clipped
    log_prior.sum().backward()
    assert (model.pseudo_inputs.grad.abs().max() == 0) == clipped


def test_a_sigmoid_code_is_decoded_as_it_is_encoded():
    torch.manual_seed(0)
    model = Autoencoder(MLP((8,)), (1, 4, 4), 3, Sigmoid())
    x = 50 * torch.randn(40, 1, 4, 4)
    seen = []
    model.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    code = model(x, torch.zeros(1, 40, 3), decode_mean=True).code
    assert 0 <= code.mean.min() < 0.1 < 0.9 < code.mean.max() <= 1
    assert torch.equal(seen[0], code.mean)
    assert torch.equal(model.encode(x), code.mean)
    assert torch.equal(code.samples[0], code.mean)


def test_the_kl_to_a_vamp_prior_is_estimated_from_the_samples():
    """One pseudo-input that encodes to N(0, 1) makes it the standard normal, whose KL is known."""
    torch.manual_seed(0)
    model = Autoencoder(MLP((8,)), (1, 4, 4), 2, Gaussian(VampPrior(1)))
    x = torch.rand(4, 1, 4, 4)
    with torch.no_grad():
        output = model(x, torch.randn(20_000, 4, 2))
        standard = gaussian_log_density(output.code.samples, torch.zeros(2), torch.zeros(2))
    estimate = kl(output._replace(code=replace(output.code, log_prior=standard)))
    exact = gaussian_kl(output.code.mean, output.code.log_var).sum(1)
    torch.testing.assert_close(estimate, exact, rtol=0, atol=0.03)
    torch.testing.assert_close(standard[0, 0], -0.5 * (output.code.samples[0, 0] ** 2 + math.log(2 * math.pi)).sum())


def test_a_conditional_model_hears_its_label_on_both_sides():
    torch.manual_seed(0)
    model = Autoencoder(Conv((4,)), (1, 8, 8), 2, Gaussian(), classes=3)
    x, noise = torch.rand(2, 1, 8, 8), torch.zeros(1, 2, 2)
    one, other = (model(x, noise, torch.tensor(label)) for label in ([0, 1], [2, 1]))
    assert not torch.allclose(one.code.mean[0], other.code.mean[0])
    assert not torch.allclose(one.logits[0, 0], other.logits[0, 0])
    torch.testing.assert_close(one.logits[0, 1], other.logits[0, 1])
    codes = torch.zeros(2, 2)
    decoded = model.decode(codes, torch.tensor([0, 1]))
    assert not torch.allclose(decoded[0], decoded[1])


def test_no_samples_decode_nothing():
    model = Autoencoder(MLP((8,)), (1, 4, 4), 2, Gaussian())
    assert model(torch.rand(3, 1, 4, 4), torch.zeros(0, 3, 2)).logits.shape == (0, 3, 1, 4, 4)


@pytest.mark.parametrize("bottleneck", [Plain(), Gaussian(), Gaussian(VampPrior(3)), VectorQuantized(codes=4)])
def test_the_mean_is_decoded_beside_the_samples_when_asked_for(bottleneck):
    torch.manual_seed(0)
    model = Autoencoder(Conv((4,)), (1, 8, 8), 2, bottleneck).eval()
    x, noise = torch.rand(3, 1, 8, 8), torch.randn(2, 3, 2)
    both, alone, sampled = model(x, noise, decode_mean=True), model(x, noise[:0], decode_mean=True), model(x, noise)
    torch.testing.assert_close(both.mean_logits, model.decode(model.encode(x)))
    torch.testing.assert_close(alone.mean_logits, both.mean_logits)
    torch.testing.assert_close(both.logits, sampled.logits)
    assert (sampled.mean_logits, alone.logits.shape) == (None, (0, 3, 1, 8, 8))
    torch.testing.assert_close(model.code(x, noise).samples, both.code.samples)


def test_a_code_in_lower_precision_is_widened_whole():
    low = torch.ones(2, 3, dtype=torch.bfloat16)
    wide = GaussianCode(low, low[None], low, log_prior=low[:1]).widened()
    assert {part.dtype for part in (wide.mean, wide.samples, wide.log_var, wide.log_prior)} == {torch.float32}
    chosen = Code(low, low[None], indices=torch.zeros(2, 1, dtype=torch.int64)).widened()
    assert (chosen.indices.dtype, chosen.penalty) == (torch.int64, None)


def test_a_nonnegative_code_is_the_plain_one_clipped():
    torch.manual_seed(0)
    x, noise = torch.rand(6, 1, 4, 4), torch.zeros(1, 6, 4)
    torch.manual_seed(1)
    plain = Autoencoder(MLP((8,)), (1, 4, 4), 4, Plain())
    torch.manual_seed(1)
    clipped = Autoencoder(MLP((8,)), (1, 4, 4), 4, Plain(nonnegative=True))
    torch.testing.assert_close(clipped(x, noise).code.mean, plain(x, noise).code.mean.clamp(min=0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VectorQuantized(codes=1), "codes must be at least 2, but got codes=1"),
        (lambda: VectorQuantized(codebook="emma"), "did you mean ema"),
        (lambda: VectorQuantized(commitment=0.0), "commitment > 0"),
        (lambda: VampPrior(0), "components must be at least 1"),
        (lambda: VAE("gausian"), "did you mean gaussian"),
    ],
)
def test_impossible_bottlenecks_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
