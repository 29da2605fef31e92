"""Bottlenecks: a plain code, a random one (Gaussian, or a flow of one), or vectors from a codebook.

A bottleneck is a value; it combines with every network and with each objective of its kind. A new one is a file with
three things: the numbers that it asks of the encoder, the module from them to a ``Code``, and the kind of that code.
"""

from aesearch.bottlenecks.codebook import Codebook, VectorQuantized
from aesearch.bottlenecks.codes import Bottleneck, Code, FactorisedCode, RandomCode
from aesearch.bottlenecks.flow import FlowCode, InverseAutoregressive
from aesearch.bottlenecks.gaussian import Gaussian, GaussianCode, VampPrior, gaussian_kl, gaussian_log_density
from aesearch.bottlenecks.plain import Plain

__all__ = [
    "Bottleneck",
    "Code",
    "Codebook",
    "FactorisedCode",
    "FlowCode",
    "Gaussian",
    "GaussianCode",
    "InverseAutoregressive",
    "Plain",
    "RandomCode",
    "VampPrior",
    "VectorQuantized",
    "gaussian_kl",
    "gaussian_log_density",
]
