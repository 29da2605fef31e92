"""Networks: values that build encoders and decoders for any image shape."""

from aesearch.networks.conv import Burgess, Conv
from aesearch.networks.layers import ACTIVATIONS
from aesearch.networks.mlp import MLP, MLP1200
from aesearch.networks.network import GridNetwork, Network, Shape
from aesearch.networks.resnet import ResNet

__all__ = ["ACTIVATIONS", "MLP", "MLP1200", "Burgess", "Conv", "GridNetwork", "Network", "ResNet", "Shape"]
