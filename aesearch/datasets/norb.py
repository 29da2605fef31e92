"""Small NORB, as published.

LeCun, Huang, Bottou, "Learning methods for generic object recognition with invariance to pose and lighting", CVPR 2004.
"""

import gzip
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from aesearch.datasets.dataset import Shape
from aesearch.datasets.download import fetch
from aesearch.datasets.ground_truth import SIDE, GroundTruth

KINDS: dict[int, np.dtype[Any]] = {0x1E3D4C55: np.dtype("u1"), 0x1E3D4C54: np.dtype("<i4")}
CHUNK = 256


@dataclass(frozen=True)
class SmallNORB(GroundTruth):
    """48,600 grey photographs of toys, 64 x 64, with the category as class.

    They are those of the left camera. Ten toys stand for each combination of the factors, one after the other. The six
    files, packed or not, lie in the folder ``smallnorb``, which is downloaded if missing.
    """

    root: str | None = None
    URL: ClassVar[str] = "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/"
    CHECKSUMS: ClassVar[Mapping[str, str]] = {
        "smallnorb-5x46789x9x18x6x2x96x96-training-dat.mat.gz": "md5:66054832f9accfe74a0f4c36a75bc0a2",
        "smallnorb-5x46789x9x18x6x2x96x96-training-cat.mat.gz": "md5:23c8b86101fbf0904a000b43d3ed2fd9",
        "smallnorb-5x46789x9x18x6x2x96x96-training-info.mat.gz": "md5:51dee1210a742582ff607dfd94e332e3",
        "smallnorb-5x01235x9x18x6x2x96x96-testing-dat.mat.gz": "md5:e4ad715691ed5a3a5f138751a4ceb071",
        "smallnorb-5x01235x9x18x6x2x96x96-testing-cat.mat.gz": "md5:5aa791cd7e6016cf957ce9bdb93b8603",
        "smallnorb-5x01235x9x18x6x2x96x96-testing-info.mat.gz": "md5:a9454f3864d7fd4bb3ea7fc3eb84924e",
    }
    FACTORS: ClassVar[Mapping[str, int]] = {"category": 5, "elevation": 9, "azimuth": 18, "lighting": 6}
    TOYS: ClassVar[int] = 10

    @property
    def shape(self) -> Shape:
        return (1, SIDE, SIDE)

    @property
    def factor_sizes(self) -> Mapping[str, int]:
        return self.FACTORS

    @property
    def classes(self) -> tuple[str, ...]:
        return ("animal", "human", "airplane", "truck", "car")

    @property
    def copies(self) -> int:
        return self.TOYS

    @property
    def file(self) -> str:
        return "smallnorb"

    @property
    def source(self) -> str:
        return self.URL.partition("//")[2]

    def fetch(self, path: Path) -> None:
        # The folder gets its name when it is complete; what came before an interruption is kept until then.
        unfinished = path.with_suffix(".part")
        for name, checksum in self.CHECKSUMS.items():
            if not (unfinished / name).exists():
                fetch(self.URL + name, unfinished / name, checksum)
        unfinished.rename(path)

    def fill(self, path: Path, out: NDArray[np.uint8]) -> None:
        names = list(self.CHECKSUMS)
        parts = [[path / name for name in names[start : start + 3]] for start in (0, 3)]
        places = [self._places(_read(cat), _read(info)) for _, cat, info in parts]
        if not np.array_equal(np.sort(np.concatenate(places)), np.arange(len(out))):
            raise ValueError("toys and factors that are not a grid")
        for (dat, _, _), into in zip(parts, places, strict=True):
            _shrink(dat, into, out)

    def _places(self, category: NDArray[np.generic], info: NDArray[np.generic]) -> NDArray[np.int64]:
        """Find where in the grid each image belongs, the toy last.

        info: (N, 4), toy, elevation, azimuth, lighting.
        """
        toy, elevation, azimuth, lighting = info.astype(np.int64).T
        # The file counts the azimuth in twos.
        values = (category.astype(np.int64), elevation, azimuth // 2, lighting, toy)
        places: NDArray[np.int64] = np.ravel_multi_index(values, (*self.factor_sizes.values(), self.TOYS))
        return places


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], np.dtype[Any], tuple[int, ...]]]:
    """Open a file in NORB's format at its numbers, with their type and shape.

    The format: magic, dimensions, sizes (three at least), numbers. path: it ends in .gz; where it is not there, the
    unpacked file is read.
    """
    form = path if path.is_file() else path.with_suffix("")
    opener: Any = gzip.open if form.suffix == ".gz" else open
    with opener(form, "rb") as file:
        magic, count = struct.unpack("<ii", file.read(8).ljust(8, b"\0"))
        if magic not in KINDS or not 1 <= count <= 8:
            raise ValueError(f"{form.name} that is not in NORB's format")
        sizes = np.frombuffer(file.read(4 * max(3, count)), "<i4")[:count]
        yield file, KINDS[magic], tuple(sizes.tolist())


def _read(path: Path) -> NDArray[np.generic]:
    with _opened(path) as (file, kind, shape):
        return np.frombuffer(file.read(), kind).reshape(shape)


def _shrink(path: Path, places: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
    """Write the left image of each pair in a file to its place in ``out``.

    The file holds (N, 2, H, W).
    """
    from PIL import Image

    with _opened(path) as (file, kind, (n, cameras, height, width)):
        if n != len(places) or kind != np.uint8:
            raise ValueError(f"{path.name} with {n} images of {kind}, but {len(places)} rows of factors")
        for start in range(0, n, CHUNK):
            into = places[start : start + CHUNK]
            content = file.read(len(into) * cameras * height * width)
            pairs = np.frombuffer(content, np.uint8).reshape(len(into), cameras, height, width)
            for place, pair in zip(into, pairs, strict=True):
                image = Image.fromarray(pair[0]).resize((SIDE, SIDE), Image.Resampling.BOX)
                out[place, 0] = np.asarray(image)
