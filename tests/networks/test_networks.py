import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aesearch.autoencoder import Autoencoder
from aesearch.bottlenecks import Gaussian, Plain, RandomCode
from aesearch.errors import UserError
from aesearch.networks import MLP, MLP1200, Burgess, Conv, ResNet
from aesearch.networks.layers import Dropout

NETWORKS = [
    MLP((16,)),
    MLP((32, 8), dropout=0.5, decoder_hidden=(5, 6, 7), decoder_activation="tanh"),
    Conv((4,)),
    Conv((4, 6, 8), dense=0, kernel=3, norm="group"),
    Conv((4, 6), dense=16, kernel=5, norm="batch", dropout=0.2),
    ResNet((4, 6), blocks=2),
]
SHAPES = st.tuples(st.integers(1, 4), st.integers(8, 33), st.integers(8, 33))


@settings(deadline=None, max_examples=25)
@given(shape=SHAPES, network=st.sampled_from(NETWORKS))
def test_any_image_shape_comes_back(shape, network):
    model = Autoencoder(network, shape, latent_dim=3, bottleneck=Gaussian())
    output = model(torch.rand(2, *shape), torch.randn(4, 2, 3))
    assert output.code.mean.shape == output.code.log_var.shape == (2, 3)
    assert output.logits.shape == (4, 2, *shape)


def test_logits_are_not_squashed():
    model = Autoencoder(MLP((8,)), (1, 8, 8), latent_dim=2, bottleneck=Plain())
    logits = model(100 * torch.rand(64, 1, 8, 8), torch.zeros(1, 64, 2)).logits
    assert logits.min() < 0
    assert logits.max() > 1


def test_zero_noise_decodes_the_mean_and_noise_is_scaled():
    torch.manual_seed(0)
    model = Autoencoder(MLP((8,)), (1, 8, 8), latent_dim=2, bottleneck=Gaussian())
    x, noise = torch.rand(5, 1, 8, 8), torch.randn(5, 2)
    output = model(x, torch.stack([torch.zeros(5, 2), noise]))
    torch.testing.assert_close(output.logits[0], model.decode(output.code.mean))
    torch.testing.assert_close(output.logits[1], model.decode(output.code.samples[1]))
    torch.testing.assert_close(output.code.samples[1], output.code.mean + (output.code.log_var / 2).exp() * noise)


def test_a_plain_autoencoder_has_no_posterior_and_ignores_noise():
    model = Autoencoder(Conv((4,)), (1, 9, 9), latent_dim=2, bottleneck=Plain())
    output = model(torch.rand(3, 1, 9, 9), torch.randn(2, 3, 2))
    assert not isinstance(output.code, RandomCode)
    torch.testing.assert_close(output.logits[0], output.logits[1])


def test_mlp_parameter_count_is_that_of_its_layers():
    model = Autoencoder(MLP((256, 256)), (1, 28, 28), latent_dim=20, bottleneck=Gaussian())
    encoder = 784 * 256 + 256 + 256 * 256 + 256 + 256 * 40 + 40
    decoder = 20 * 256 + 256 + 256 * 256 + 256 + 256 * 784 + 784
    assert sum(p.numel() for p in model.parameters()) == encoder + decoder


def test_weights_are_glorot_uniform_and_biases_zero():
    torch.manual_seed(0)
    layer = Autoencoder(MLP((300,)), (1, 20, 20), latent_dim=2, bottleneck=Plain()).requires_grad_(False).encoder[1]
    assert layer.weight.abs().max() <= (6 / 700) ** 0.5
    assert layer.weight.std().item() == pytest.approx((2 / 700) ** 0.5, rel=0.02)
    assert layer.bias.abs().max() == 0


def test_too_many_halvings_are_refused():
    with pytest.raises(UserError, match="can be halved at most 3 times, but got 4"):
        Autoencoder(Conv((4, 4, 4, 4)), (1, 9, 12), latent_dim=2, bottleneck=Plain())


@pytest.mark.parametrize("fields", [{"hidden": ()}, {"hidden": (0,)}])
def test_empty_widths_are_refused(fields):
    with pytest.raises(UserError, match="hidden must be"):
        MLP(**fields)


def test_an_unknown_activation_names_the_nearest():
    with pytest.raises(UserError, match="did you mean relu"):
        MLP((8,), activation="rellu")


@settings(deadline=None, max_examples=25)
@given(shape=SHAPES, network=st.sampled_from([n for n in NETWORKS if not isinstance(n, MLP)]))
def test_any_image_shape_comes_back_from_a_grid(shape, network):
    features = network.grid_encoder(shape, 5)(torch.rand(2, *shape))
    assert features.shape == (2, 5, *network.grid(shape))
    assert network.grid_decoder(5, shape)(features).shape == (2, *shape)


def test_the_presets_are_the_published_layers():
    burgess = Autoencoder(Burgess(), (1, 64, 64), latent_dim=10, bottleneck=Gaussian())
    convolutions = [m for m in burgess.encoder if isinstance(m, torch.nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size, c.stride) for c in convolutions] == [
        (width, (4, 4), (2, 2)) for width in (32, 32, 64, 64)
    ]
    assert [m.out_features for m in burgess.encoder if isinstance(m, torch.nn.Linear)] == [256, 20]
    up = [m.out_channels for m in burgess.decoder if isinstance(m, torch.nn.ConvTranspose2d)]
    assert up == [64, 32, 32, 1]
    mlp = Autoencoder(MLP1200(), (1, 64, 64), latent_dim=10, bottleneck=Gaussian())
    assert [m.out_features for m in mlp.encoder if isinstance(m, torch.nn.Linear)] == [1200, 1200, 20]
    assert [m.out_features for m in mlp.decoder if isinstance(m, torch.nn.Linear)] == [1200, 1200, 1200, 4096]
    assert {type(m) for m in mlp.decoder} == {torch.nn.Linear, torch.nn.Tanh, torch.nn.Unflatten}


def test_dropout_zeroes_its_share_and_keeps_the_mean():
    torch.manual_seed(0)
    dropout, x = Dropout(0.3), torch.ones(500, 400)
    out = dropout(x)
    assert (out == 0).float().mean().item() == pytest.approx(0.3, abs=0.005)
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.7])
    for axis in (0, 1):
        share = (out == 0).float().mean(axis)
        assert share.std().item() == pytest.approx((0.3 * 0.7 / out.shape[axis]) ** 0.5, rel=0.15), "independent"
    again = dropout(x)
    assert ((out == 0) & (again == 0)).float().mean().item() == pytest.approx(0.09, abs=0.005)
    assert torch.equal(dropout.eval()(x), x)


def test_dropout_masks_do_not_follow_from_each_other():
    torch.manual_seed(0)
    dropout = Dropout(0.5)
    masks = torch.stack([dropout(torch.ones(4096)) for _ in range(64)]).sign()
    correlation = torch.corrcoef(masks)
    assert (correlation - torch.eye(64)).abs().max() < 5 / 4096**0.5
    neighbours = torch.corrcoef(torch.stack([masks[:, :-1].flatten(), masks[:, 1:].flatten()]))[0, 1]
    assert abs(neighbours) < 5 / masks.numel() ** 0.5


def test_a_convolution_before_batch_norm_has_no_bias():
    model = Autoencoder(Conv((4, 8), norm="batch"), (1, 8, 8), latent_dim=2, bottleneck=Plain())
    layers = [*model.encoder, *model.decoder]
    before = [a for a, b in itertools.pairwise(layers) if isinstance(b, torch.nn.BatchNorm2d)]
    assert [a.bias for a in before if not isinstance(a, torch.nn.Unflatten)] == [None] * 3
    assert layers[-1].bias is not None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv(norm="bach"), "unknown norm 'bach': did you mean batch"),
        (lambda: Conv(kernel=1), "kernel must be from 2 to 7"),
        (lambda: MLP(dropout=1.0), "dropout must be at least 0 and below 1, but got dropout=1.0"),
        (lambda: MLP(decoder_hidden=()), "decoder_hidden must be"),
        (lambda: ResNet(blocks=0), "blocks must be at least 1"),
    ],
)
def test_impossible_networks_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
