"""Data sets, as values: what they are called, what shape they have, how they load."""

from aesearch.datasets.base import Data, Dataset
from aesearch.datasets.mnist import MNIST
from aesearch.datasets.sprites import Sprites

__all__ = ["MNIST", "Data", "Dataset", "Sprites"]
