"""Data sets as values: their names, their shapes, and how they load."""

from aesearch.datasets.arrays import Arrays
from aesearch.datasets.bundled import BreastCancer, Digits, Iris, Wine
from aesearch.datasets.cache import contents_checked, forget
from aesearch.datasets.cars3d import Cars3D
from aesearch.datasets.celeba import CelebA
from aesearch.datasets.dataset import Data, Dataset, is_picture
from aesearch.datasets.dsprites import DSprites
from aesearch.datasets.folder import ImageFolder
from aesearch.datasets.items import Items, read_items
from aesearch.datasets.mpi3d import MPI3D
from aesearch.datasets.norb import SmallNORB
from aesearch.datasets.one_class import OneClass
from aesearch.datasets.shapes3d import Shapes3D
from aesearch.datasets.sprites import Sprites
from aesearch.datasets.table import Table
from aesearch.datasets.vision import CIFAR10, EMNIST, KMNIST, MNIST, SVHN, FashionMNIST

__all__ = [
    "CIFAR10",
    "EMNIST",
    "KMNIST",
    "MNIST",
    "MPI3D",
    "SVHN",
    "Arrays",
    "BreastCancer",
    "Cars3D",
    "CelebA",
    "DSprites",
    "Data",
    "Dataset",
    "Digits",
    "FashionMNIST",
    "ImageFolder",
    "Iris",
    "Items",
    "OneClass",
    "Shapes3D",
    "SmallNORB",
    "Sprites",
    "Table",
    "Wine",
    "contents_checked",
    "forget",
    "is_picture",
    "read_items",
]
