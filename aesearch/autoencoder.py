"""Autoencoder that every objective trains: an encoder, a bottleneck, a decoder."""

from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from aesearch.bottlenecks import Bottleneck, BoundedCode, Code, Gaussian, GaussianCode, RandomCode
from aesearch.datasets import is_picture
from aesearch.errors import UserError
from aesearch.networks import GridNetwork, Network, Shape

Scale = Literal["none", "global", "pixel"]
# Adam moves each number by about the learning rate. The global log scale is one number that has some 2 to go, so it
# goes faster than a weight.
SCALE_GAIN = 10.0


class Output(NamedTuple):
    """Output of a model for B images, with S samples of each code.

    code: the code of the batch.
    logits: (S, B, C, H, W) decoder outputs of the samples, with 2 C channels where they have a scale.
    mean_logits: (B, C, H, W) decoder outputs of the code's mean, or None if they were not requested.
    """

    code: Code
    logits: Tensor
    mean_logits: Tensor | None = None


class Autoencoder(nn.Module):
    """Module of an encoder, a bottleneck and a decoder.

    network: the value that builds encoder and decoder.
    shape: (C, H, W) of an image.
    latent_dim: the length of the code, or of its vector at each place of a grid.
    bottleneck: the value that builds the module between encoder and decoder.
    classes: the number of classes of a conditional model; 0 for a model without labels. A conditional encoder gets the
    label as one more channel, learned for each class; a conditional decoder gets it as a one-hot part of its code.
    scale: the scale of pixels that decoder outputs have in the second half of their channels: "none", "global" for one
    learned number, or "pixel" for an output of the decoder for each.
    Raises UserError where a bottleneck on a grid meets a network without one, or labels.
    Source of the conditional model: Sohn, Lee, Yan, NeurIPS 2015.
    """

    def __init__(
        self,
        network: Network,
        shape: Shape,
        latent_dim: int,
        bottleneck: Bottleneck,
        classes: int = 0,
        scale: Scale = "none",
    ) -> None:
        super().__init__()
        self.encoder: nn.Module
        self.decoder: nn.Module
        self.latent_dim = latent_dim
        self.shape = shape
        self.classes = classes
        seen = (shape[0] + (classes > 0), *shape[1:])
        made = (shape[0] * (1 + (scale == "pixel")), *shape[1:])
        outputs = bottleneck.outputs(latent_dim)
        if bottleneck.spatial:
            if not isinstance(network, GridNetwork) or classes:
                raise UserError(
                    f"{type(bottleneck).__name__} needs a network with a grid, such as Conv(), and conditional=False, "
                    f"but got {network}{' and conditional=True' if classes else ''}"
                )
            self.grid = (latent_dim, *network.grid(shape))
            self.encoder = network.grid_encoder(shape, outputs)
            self.decoder = nn.Sequential(nn.Unflatten(1, self.grid), network.grid_decoder(latent_dim, made))
        else:
            self.encoder = network.encoder(seen, outputs)
            self.decoder = network.decoder(latent_dim + classes, made)
        self.bottleneck = bottleneck.build(latent_dim)
        if classes:
            self.planes = nn.Linear(classes, shape[1] * shape[2])
        learned = isinstance(bottleneck, Gaussian) and bottleneck.prior
        self.pseudo_inputs = nn.Parameter(torch.rand(learned.components, *shape)) if learned else None
        self.bounded_inputs = bool(learned and learned.bounded and is_picture(shape))
        self.bounded_codes = issubclass(bottleneck.makes, BoundedCode)
        self.log_scale = nn.Parameter(torch.zeros(())) if scale == "global" else None
        self.apply(_initialise)

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None = None, decode_mean: bool = False) -> Output:
        """Encode images, and decode samples of their codes.

        The caller draws the noise, so that a replica gets the same numbers however many replicas train with it.

        x: (B, C, H, W) images.
        noise: (S, B, L) standard normal numbers, for S samples of each code; with S = 0 no sample is decoded.
        label: (B,) int64, for a conditional model.
        decode_mean: True decodes the code's mean too, in the same pass as the samples.
        """
        if not (len(noise) or decode_mean):
            return Output(self.code(x, noise, label), x.new_empty(0, *x.shape))
        code: Code = self.bottleneck(self.features(x, label), noise)
        if not isinstance(code, RandomCode):
            # Without randomness all samples equal the mean, so one pass decodes them all.
            logits = self.decode(code.mean, label)
            return Output(code, logits.expand(len(noise), *logits.shape), logits if decode_mean else None)
        decoded = torch.cat([code.samples, code.mean[None]]) if decode_mean else code.samples
        labels = None if label is None else label.expand(len(decoded), len(label)).flatten()
        logits = self.decode(decoded.flatten(0, 1), labels).unflatten(0, decoded.shape[:2])
        code = self._with_prior(code)
        return Output(code, logits[:-1], logits[-1]) if decode_mean else Output(code, logits)

    def code(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> Code:
        """Encode images as ``forward`` does, without decoding."""
        code: Code = self.bottleneck(self.features(x, label), noise)
        return self._with_prior(code) if isinstance(code, RandomCode) else code

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Compute the encoder's output.

        x: (B, C, H, W) images.
        label: (B,) int64, for a conditional model.
        """
        if label is not None:
            plane = self.planes(self._one_hot(label, x)).view(-1, 1, *self.shape[1:])
            x = torch.cat([x, plane.to(x.dtype)], dim=1)
        features: Tensor = self.encoder(x)
        return features

    def encode(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Encode images (B, C, H, W) to codes (B, L).

        The code of a Gaussian posterior is its mean; any other code is the decoder's input without noise.
        """
        code: Code = self.bottleneck(self.features(x, label), x.new_zeros(1, x.shape[0], self.latent_dim))
        return code.mean

    def decode(self, codes: Tensor, label: Tensor | None = None) -> Tensor:
        """Decode codes (B, L) to logits (B, C, H, W).

        With a scale the logits have 2 C channels. Bounded codes are clipped to 0 and 1, as samples of a mixture and
        traversals go beyond.

        label: (B,) int64, for a conditional model.
        """
        if self.bounded_codes:
            codes = codes.clamp(0, 1)
        if label is not None:
            codes = torch.cat([codes, self._one_hot(label, codes)], dim=1)
        logits: Tensor = self.decoder(codes)
        if self.log_scale is None:
            return logits
        return torch.cat([logits, (SCALE_GAIN * self.log_scale).expand_as(logits)], dim=1)

    def from_prior(self, noise: Tensor, component: Tensor) -> Tensor:
        """Turn normal ``noise`` (B, L) into codes (B, L) of the prior.

        component: (B,) int64, the component of a learned mixture, modulo their number.
        """
        if self.pseudo_inputs is None:
            return noise
        features = self.encoder(self._pseudo_images(self.pseudo_inputs))
        code: Code = self.bottleneck(features[component % len(features)], noise[None])
        return code.samples[0]

    def _one_hot(self, label: Tensor, like: Tensor) -> Tensor:
        return (label[:, None] == torch.arange(self.classes, device=label.device)).to(like.dtype)

    def _pseudo_images(self, given: Tensor) -> Tensor:
        return given.clamp(0, 1) if self.bounded_inputs else given

    def _with_prior(self, code: RandomCode) -> RandomCode:
        """Add the samples' log density under a learned prior.

        It is the log of the mean of q(z | u) over the pseudo-inputs u.
        """
        if self.pseudo_inputs is None:
            return code
        z, features = code.samples, self.encoder(self._pseudo_images(self.pseudo_inputs)).float()
        components: GaussianCode = self.bottleneck(features, z.new_empty(0, len(features), self.latent_dim))
        densities = components.log_density(z.unsqueeze(2))
        log_prior = torch.logsumexp(densities, dim=2) - torch.log(torch.tensor(float(len(features))))
        return replace(code, log_prior=log_prior)


def _initialise(module: nn.Module) -> None:
    """Initialise a layer with Glorot's uniform weights and zero biases.

    With SiLU it brought a VAE on MNIST 2.2 nats (val, 20 epochs) below PyTorch's initialisation with ReLU.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS
    2010.
    """
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
