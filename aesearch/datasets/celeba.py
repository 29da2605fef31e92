"""CelebA: photographs of faces."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aesearch.datasets.cache import cached, key
from aesearch.datasets.dataset import Data, Dataset, Shape
from aesearch.datasets.folder import read_images
from aesearch.errors import UserError, nearest


@dataclass(frozen=True)
class CelebA(Dataset):
    """202,599 faces in the published splits, cut to a square and shrunk to ``size``.

    attribute: one of the 40 published ones, such as "Smiling", as the label. The files must be in root, or in the
    folder of ``--data``, as torchvision lays them out (its download from Google Drive needs a person's consent).
    Liu, Luo, Wang, Tang, "Deep Learning Face Attributes in the Wild", ICCV 2015.
    """

    size: int = 64
    attribute: str | None = None
    root: str | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.size, int) and self.size >= 8):
            raise UserError(f"size must be at least 8 pixels, but got size={self.size!r}")

    @property
    def shape(self) -> Shape:
        return (3, self.size, self.size)

    @property
    def factor_sizes(self) -> Mapping[str, int]:
        return {}

    @property
    def classes(self) -> tuple[str, ...]:
        return (f"not {self.attribute}", self.attribute) if self.attribute else ()

    def load(self, root: Path) -> Data:
        from torchvision import datasets

        folder = Path(self.root) if self.root else root
        try:
            opened = datasets.CelebA(str(folder), split="all", target_type="attr")
            parts = np.loadtxt(folder / "celeba" / "list_eval_partition.txt", dtype=str)[:, 1].astype(int)
            files = [folder / "celeba" / "img_align_celeba" / name for name in opened.filename]
            stamp = [files[0].stat().st_mtime_ns, len(files)]
        except (OSError, RuntimeError, ValueError, IndexError) as error:
            raise UserError(
                f"CelebA needs its files below {folder / 'celeba'}, as torchvision lays them out, but: "
                f"{' '.join(str(error).split())}; give the folder as CelebA(root=...) or --data"
            ) from error
        if self.attribute and self.attribute not in opened.attr_names:
            raise UserError(
                f"unknown attribute {self.attribute!r}: {nearest(self.attribute, filter(None, opened.attr_names))}"
            )
        images = cached(
            root / "celeba-arrays" / f"{key(self.size, stamp)}.npy",
            (len(files), *self.shape),
            lambda out: _all_read(read_images(files, out)),
        )
        labels = None
        if self.attribute:
            labels = opened.attr[:, opened.attr_names.index(self.attribute)].numpy().astype(np.int64)
        train, val, test = (np.flatnonzero(parts == part) for part in range(3))
        return Data(images, train=train, val=val, test=test, labels=labels)


def _all_read(broken: Mapping[str, str]) -> None:
    if broken:
        file, reason = next(iter(broken.items()))
        raise UserError(f"all images of CelebA must be readable, but {len(broken)} are not, such as {file}: {reason}")
