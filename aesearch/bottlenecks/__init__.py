"""Bottlenecks: modules between an encoder and its decoder.

The code is plain, random (a Gaussian, or a flow of one), or made of vectors from a codebook. A bottleneck is a value.
It combines with every network, and with each objective that takes its kind of code.

A new bottleneck is one file with three things: how many numbers the encoder must give, the module that turns them into
a ``Code``, and the kind of that code.
"""

from aesearch.bottlenecks.codebook import Codebook, VectorQuantized
from aesearch.bottlenecks.codes import Bottleneck, Code, FactorisedCode, RandomCode
from aesearch.bottlenecks.flow import FlowCode, InverseAutoregressive
from aesearch.bottlenecks.gaussian import Gaussian, GaussianCode, VampPrior, gaussian_kl, gaussian_log_density
from aesearch.bottlenecks.plain import BoundedCode, Plain, Sigmoid

__all__ = [
    "Bottleneck",
    "BoundedCode",
    "Code",
    "Codebook",
    "FactorisedCode",
    "FlowCode",
    "Gaussian",
    "GaussianCode",
    "InverseAutoregressive",
    "Plain",
    "RandomCode",
    "Sigmoid",
    "VampPrior",
    "VectorQuantized",
    "gaussian_kl",
    "gaussian_log_density",
]
