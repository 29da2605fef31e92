"""Torchvision's image sets with labels.

Train and test are as published, val is from the end of train.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from aesearch.datasets.dataset import Data, Dataset, Shape
from aesearch.errors import UserError, nearest

VAL = 5_000
Bytes = NDArray[np.uint8]

DIGITS = tuple("0123456789")
UPPER = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
LOWER = tuple("abcdefghijklmnopqrstuvwxyz")
# Letters whose two cases look alike are one class: the 47 classes of "balanced" and "bymerge".
MERGED = (*DIGITS, *UPPER, *"abdefghnqrt")
EMNIST_SPLITS: dict[str, tuple[tuple[str, ...], int, int]] = {
    "balanced": (MERGED, 112_800, 18_800),
    "byclass": ((*DIGITS, *UPPER, *LOWER), 697_932, 116_323),
    "bymerge": (MERGED, 697_932, 116_323),
    "digits": (DIGITS, 240_000, 40_000),
    "letters": (LOWER, 124_800, 20_800),
    "mnist": (DIGITS, 60_000, 10_000),
}


class VisionSet(Dataset):
    """Torchvision's set of labelled images.

    ``root``: its folder; by default that of ``--data``.
    What is missing there is downloaded, and checked against torchvision's checksums.
    """

    root: str | None

    @property
    def factor_sizes(self) -> Mapping[str, int]:
        return {}

    @property
    @abstractmethod
    def counts(self) -> tuple[int, int]:
        """Numbers of images in train and test."""

    @abstractmethod
    def open(self, folder: Path, train: bool, download: bool) -> Any:
        """Torchvision's data set."""

    @abstractmethod
    def arrays(self, opened: Any) -> tuple[Bytes, NDArray[np.int64]]:
        """Give the images (N, C, H, W) and labels (N,) of a set of torchvision's."""

    def load(self, root: Path) -> Data:
        folder = Path(self.root) if self.root else root
        name = type(self).__name__
        try:
            parts = [self.arrays(self._opened(folder, train)) for train in (True, False)]
        except (OSError, RuntimeError, ValueError, AssertionError, EOFError, KeyError, TypeError) as error:
            raise UserError(
                f"{name} must be readable under {folder} or downloadable, but got: "
                f"{' '.join(str(error).split())}; give its folder as {name}(root=...) or --data"
            ) from error
        for (images, labels), expected in zip(parts, self.counts, strict=True):
            if images.shape != (expected, *self.shape) or len(labels) != expected:
                raise UserError(
                    f"{name} under {folder} must have {expected} images of {self.shape} and as many labels, "
                    f"but got {images.shape} and {len(labels)}; delete it to download it again"
                )
        images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        if labels.min() < 0 or labels.max() >= len(self.classes):
            raise UserError(
                f"labels of {name} must be from 0 to {len(self.classes) - 1}, but got {labels.min()} to {labels.max()}"
            )
        index, train = np.arange(len(images)), self.counts[0]
        held_out = min(VAL, train // 5)
        return Data(
            images,
            train=index[: train - held_out],
            val=index[train - held_out : train],
            test=index[train:],
            labels=labels.astype(np.int64),
        )

    def _opened(self, folder: Path, train: bool) -> Any:
        try:
            # First without a lock: torchvision may not even write into such a folder.
            return self.open(folder, train, download=False)
        except RuntimeError:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f"{type(self).__name__.lower()}.lock"):
                return self.open(folder, train, download=True)


class GreySet(VisionSet):
    """28 x 28 grey images in the file format of MNIST."""

    @property
    def shape(self) -> Shape:
        return (1, 28, 28)

    @property
    def counts(self) -> tuple[int, int]:
        return (60_000, 10_000)

    def arrays(self, opened: Any) -> tuple[Bytes, NDArray[np.int64]]:
        return opened.data.numpy()[:, None], opened.targets.numpy()


@dataclass(frozen=True)
class MNIST(GreySet):
    """70,000 digits of 28 x 28: 55,000 for train, 5,000 for val, 10,000 for test.

    LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998.
    """

    root: str | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return DIGITS

    def open(self, folder: Path, train: bool, download: bool) -> Any:
        from torchvision import datasets

        return datasets.MNIST(str(folder), train=train, download=download)


@dataclass(frozen=True)
class FashionMNIST(GreySet):
    """70,000 pieces of clothing of 28 x 28, split as MNIST.

    Xiao, Rasul, Vollgraf, "Fashion-MNIST", 2017.
    """

    root: str | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        tops = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
        return (*tops, "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")

    def open(self, folder: Path, train: bool, download: bool) -> Any:
        from torchvision import datasets

        return datasets.FashionMNIST(str(folder), train=train, download=download)


@dataclass(frozen=True)
class KMNIST(GreySet):
    """70,000 cursive Japanese characters of 28 x 28, split as MNIST.

    Clanuwat et al., "Deep Learning for Classical Japanese Literature", 2018.
    """

    root: str | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")

    def open(self, folder: Path, train: bool, download: bool) -> Any:
        from torchvision import datasets

        return datasets.KMNIST(str(folder), train=train, download=download)


@dataclass(frozen=True)
class EMNIST(VisionSet):
    """Handwritten digits and letters of 28 x 28, upright.

    split: one of balanced (131,600 images, 47 classes), byclass, bymerge, digits, letters and mnist.
    Cohen, Afshar, Tapson, van Schaik, "EMNIST", IJCNN 2017.
    """

    split: Literal["balanced", "byclass", "bymerge", "digits", "letters", "mnist"] = "balanced"
    root: str | None = None

    def __post_init__(self) -> None:
        if self.split not in EMNIST_SPLITS:
            raise UserError(f"unknown split {self.split!r}: {nearest(self.split, EMNIST_SPLITS)}")

    @property
    def shape(self) -> Shape:
        return (1, 28, 28)

    @property
    def classes(self) -> tuple[str, ...]:
        return EMNIST_SPLITS[self.split][0]

    @property
    def counts(self) -> tuple[int, int]:
        return EMNIST_SPLITS[self.split][1:]

    def open(self, folder: Path, train: bool, download: bool) -> Any:
        from torchvision import datasets

        return datasets.EMNIST(str(folder), split=self.split, train=train, download=download)

    def arrays(self, opened: Any) -> tuple[Bytes, NDArray[np.int64]]:
        # The files hold each image transposed, and count the letters from 1.
        images = np.ascontiguousarray(opened.data.numpy().transpose(0, 2, 1))[:, None]
        return images, opened.targets.numpy() - (self.split == "letters")


@dataclass(frozen=True)
class CIFAR10(VisionSet):
    """60,000 colour photographs of 32 x 32: 45,000 train, 5,000 val, 10,000 test.

    Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """

    root: str | None = None

    @property
    def shape(self) -> Shape:
        return (3, 32, 32)

    @property
    def classes(self) -> tuple[str, ...]:
        return ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    @property
    def counts(self) -> tuple[int, int]:
        return (50_000, 10_000)

    def open(self, folder: Path, train: bool, download: bool) -> Any:
        from torchvision import datasets

        return datasets.CIFAR10(str(folder), train=train, download=download)

    def arrays(self, opened: Any) -> tuple[Bytes, NDArray[np.int64]]:
        return np.ascontiguousarray(opened.data.transpose(0, 3, 1, 2)), np.array(opened.targets)


@dataclass(frozen=True)
class SVHN(VisionSet):
    """99,289 colour house numbers of 32 x 32: 68,257 train, 5,000 val, 26,032 test.

    Netzer et al., "Reading Digits in Natural Images with Unsupervised Feature Learning", 2011.
    """

    root: str | None = None

    _SPLITS: ClassVar = {True: "train", False: "test"}

    @property
    def shape(self) -> Shape:
        return (3, 32, 32)

    @property
    def classes(self) -> tuple[str, ...]:
        return DIGITS

    @property
    def counts(self) -> tuple[int, int]:
        return (73_257, 26_032)

    def open(self, folder: Path, train: bool, download: bool) -> Any:
        from torchvision import datasets

        return datasets.SVHN(str(folder), split=self._SPLITS[train], download=download)

    def arrays(self, opened: Any) -> tuple[Bytes, NDArray[np.int64]]:
        return opened.data, opened.labels
