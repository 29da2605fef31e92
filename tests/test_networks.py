import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aesearch.errors import UserError
from aesearch.networks import MLP, Autoencoder, Conv

SHAPES = st.tuples(st.integers(1, 4), st.integers(8, 33), st.integers(8, 33))


@settings(deadline=None, max_examples=25)
@given(shape=SHAPES, network=st.sampled_from([MLP((16,)), MLP((32, 8)), Conv((4,)), Conv((4, 6, 8), dense=16)]))
def test_any_image_shape_comes_back(shape, network):
    model = Autoencoder(network, shape, latent_dim=3, variational=True)
    output = model(torch.rand(2, *shape), torch.randn(4, 2, 3))
    assert output.mean.shape == output.log_var.shape == (2, 3)
    assert output.logits.shape == (4, 2, *shape)


def test_logits_are_not_squashed():
    model = Autoencoder(MLP((8,)), (1, 8, 8), latent_dim=2, variational=False)
    logits = model(100 * torch.rand(64, 1, 8, 8), torch.zeros(1, 64, 2)).logits
    assert logits.min() < 0
    assert logits.max() > 1


def test_zero_noise_decodes_the_mean_and_noise_scales_with_the_posterior():
    torch.manual_seed(0)
    model = Autoencoder(MLP((8,)), (1, 8, 8), latent_dim=2, variational=True)
    x, noise = torch.rand(5, 1, 8, 8), torch.randn(5, 2)
    output = model(x, torch.stack([torch.zeros(5, 2), noise]))
    torch.testing.assert_close(output.logits[0], model.decoder(output.mean))
    torch.testing.assert_close(output.logits[1], model.decoder(output.mean + (output.log_var / 2).exp() * noise))


def test_a_plain_autoencoder_has_no_posterior_and_ignores_noise():
    model = Autoencoder(Conv((4,)), (1, 9, 9), latent_dim=2, variational=False)
    output = model(torch.rand(3, 1, 9, 9), torch.randn(2, 3, 2))
    assert output.log_var is None
    torch.testing.assert_close(output.logits[0], output.logits[1])


def test_mlp_parameter_count_is_that_of_its_layers():
    model = Autoencoder(MLP((256, 256)), (1, 28, 28), latent_dim=20, variational=True)
    encoder = 784 * 256 + 256 + 256 * 256 + 256 + 256 * 40 + 40
    decoder = 20 * 256 + 256 + 256 * 256 + 256 + 256 * 784 + 784
    assert sum(p.numel() for p in model.parameters()) == encoder + decoder


def test_weights_are_glorot_uniform_and_biases_zero():
    torch.manual_seed(0)
    layer = Autoencoder(MLP((300,)), (1, 20, 20), latent_dim=2, variational=False).requires_grad_(False).encoder[1]
    assert layer.weight.abs().max() <= (6 / 700) ** 0.5
    assert layer.weight.std().item() == pytest.approx((2 / 700) ** 0.5, rel=0.02)
    assert layer.bias.abs().max() == 0


def test_too_many_halvings_are_refused():
    with pytest.raises(UserError, match="can be halved at most 3 times, but got 4"):
        Autoencoder(Conv((4, 4, 4, 4)), (1, 9, 12), latent_dim=2, variational=False)


@pytest.mark.parametrize("fields", [{"hidden": ()}, {"hidden": (0,)}])
def test_empty_widths_are_refused(fields):
    with pytest.raises(UserError, match="hidden must be"):
        MLP(**fields)


def test_an_unknown_activation_names_the_nearest():
    with pytest.raises(UserError, match="did you mean relu"):
        MLP((8,), activation="rellu")
