"""MNIST, through torchvision.

LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from aesearch.datasets.base import Data, Dataset
from aesearch.errors import UserError

IMAGES = {"train": 60_000, "test": 10_000}


@dataclass(frozen=True)
class MNIST(Dataset):
    """70,000 digits of 28 x 28: 55,000 for train, 5,000 for val (the end of torchvision's train set), 10,000 for test.

    root: the folder that holds ``MNIST/raw``; by default the folder of ``--data``. What is missing there is
    downloaded, and checked against torchvision's checksums.
    """

    root: str | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, 28, 28)

    @property
    def factor_sizes(self) -> Mapping[str, int]:
        return {}

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple("0123456789")

    def load(self, root: Path) -> Data:
        from torchvision import datasets

        folder = Path(self.root) if self.root else root
        try:
            if not _is_complete(folder):
                folder.mkdir(parents=True, exist_ok=True)
                with FileLock(folder / "mnist.lock"):
                    datasets.MNIST(str(folder), train=True, download=True)
            parts = [datasets.MNIST(str(folder), train=train) for train in (True, False)]
        except (OSError, RuntimeError, ValueError, AssertionError) as error:
            raise UserError(
                f"MNIST must be readable under {folder / 'MNIST' / 'raw'} or downloadable, but got: "
                f"{' '.join(str(error).split())}; give its folder as MNIST(root=...) or --data"
            ) from error
        for part, expected in zip(parts, IMAGES.values(), strict=True):
            if part.data.shape != (expected, 28, 28) or len(part.targets) != expected:
                raise UserError(
                    f"MNIST under {folder} must have {expected} images of 28x28 and as many labels, "
                    f"but got {tuple(part.data.shape)} and {len(part.targets)}; delete it to download it again"
                )
        images = np.concatenate([part.data.numpy() for part in parts])[:, None]
        labels = np.concatenate([part.targets.numpy() for part in parts])
        index = np.arange(len(images))
        return Data(images, train=index[:55_000], val=index[55_000:60_000], test=index[60_000:], labels=labels)


def _is_complete(folder: Path) -> bool:
    """Whether all four files are there, packed or not; torchvision may not even write into such a folder."""
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return all((folder / "MNIST" / "raw" / f"{name}-ubyte").is_file() for name in names)
