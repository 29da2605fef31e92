"""Published image sets with ground-truth factors.

Each is converted once to an array that is memory-mapped.
"""

import math
import shutil
import tarfile
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.lib import format as npy
from numpy.typing import NDArray

from aesearch.datasets.cache import cached, key
from aesearch.datasets.dataset import Data, Dataset, Shape, held_out, random_split
from aesearch.datasets.repeats import known_first_equals, remarks_on
from aesearch.errors import UserError

CHUNK = 4096
SIDE = 64
CONVERTER_VERSION = 1  # raise it whenever a pixel of any image changes
# What zipfile, tarfile, h5py and scipy.io raise of damaged files.
UNREADABLE = (
    *(OSError, RuntimeError, ValueError, KeyError, IndexError, TypeError, EOFError),
    *(zlib.error, tarfile.TarError),
)

Bytes = NDArray[np.uint8]


class GroundTruth(Dataset):
    """Images of each combination of the factors; the last factor changes fastest.

    root: the folder that holds the file; by default that of ``--data``.
    """

    root: str | None

    @property
    @abstractmethod
    def file(self) -> str:
        """The file, or the folder of files, below the root."""

    @property
    @abstractmethod
    def source(self) -> str:
        """Place where a person gets the file."""

    @property
    @abstractmethod
    def copies(self) -> int:
        """Number of images of each combination."""

    @abstractmethod
    def fetch(self, path: Path) -> None:
        """Download the file or folder to ``path``, and check it.

        Does nothing where no checksum is known. Raises UserError where the download fails.
        """

    @abstractmethod
    def fill(self, path: Path, out: Bytes) -> None:
        """Write the images of the file at ``path`` to ``out``, (N, C, H, W).

        Raises one of UNREADABLE.
        """

    def load(self, root: Path) -> Data:
        path = (Path(self.root) if self.root else root) / self.file
        sizes = tuple(self.factor_sizes.values())
        n = math.prod(sizes) * self.copies
        name = type(self).__name__
        try:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                with FileLock(f"{path}.lock"):
                    self.fetch(path)
            made_from = key(CONVERTER_VERSION, self.shape, sizes, _stamps(path))
            array = root / "ground_truth" / f"{name.lower()}-{made_from}.npy"
            images = cached(array, (n, *self.shape), lambda out: self._convert(path, out))
            first = known_first_equals(images, array.with_suffix(".repeats.json"))
        except UNREADABLE as error:
            raise UserError(
                f"{name} needs {path}, from {self.source}, with {n} images of {self.shape}, but got: "
                f"{' '.join(str(error).split())}; give its folder as {name}(root=...) or --data"
            ) from error
        factors = np.stack(np.unravel_index(np.arange(n) // self.copies, sizes), axis=1).astype(np.int64)
        labels = factors[:, 0].copy() if self.classes else None
        remarks = remarks_on(first, "images")
        return Data(images, factors=factors, labels=labels, remarks=remarks, **random_split(n, held_out(n), first))

    def _convert(self, path: Path, out: Bytes) -> None:
        # A memory map on a full disk would not fail but kill the process.
        if (free := shutil.disk_usage(path).free) < out.nbytes:
            raise OSError(f"its array takes {out.nbytes / 1e9:.1f} GB of disk, but {free / 1e9:.1f} GB are free")
        self.fill(path, out)


def _stamps(path: Path) -> list[tuple[str, int, int]]:
    """Read what tells one state of a file or folder from another."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def npz_chunks(path: Path, member: str) -> Iterator[tuple[slice, NDArray[np.generic]]]:
    """Read an array of an .npz file in parts of CHUNK rows, with their places.

    The whole array, which may have gigabytes, is never in memory.
    Raises ValueError for pickled objects and damaged files.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as stream:
            version = npy.read_magic(stream)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, dtype = read(stream)
            if dtype.hasobject or fortran:
                raise ValueError(f"its array {member} must hold plain numbers in C order, but is {dtype}")
            row = int(math.prod(shape[1:])) * dtype.itemsize
            for start in range(0, shape[0], CHUNK):
                stop = min(start + CHUNK, shape[0])
                content = stream.read(row * (stop - start))
                yield slice(start, stop), np.frombuffer(content, dtype).reshape(stop - start, *shape[1:])
    except zipfile.BadZipFile as error:
        raise ValueError(f"it is no whole .npz file: {error}") from error


def fill_from_npz(path: Path, member: str, out: Bytes, scale: int = 1) -> None:
    """Write ``scale`` times the images of an .npz file to ``out``.

    Raises ValueError where there are more or fewer.
    """
    found = 0
    for place, part in npz_chunks(path, member):
        images = as_images(part, out.shape[1:])
        if images.max() > 255 // scale:
            raise ValueError(f"images up to {images.max()}, not {255 // scale}")
        out[place] = images * np.uint8(scale)
        found = place.stop
    check_count(found, out)


def as_images(array: NDArray[np.generic], shape: Shape) -> Bytes:
    """Bring (N, H, W) or (N, H, W, C) uint8 to (N, C, H, W).

    Raises ValueError for another shape or type.
    """
    images = array[:, None] if array.ndim == 3 else np.moveaxis(array, -1, 1)
    if images.shape[1:] != shape or images.dtype != np.uint8:
        raise ValueError(f"images of {images.shape[1:]} {images.dtype}")
    return images.view(np.uint8)


def check_count(found: int, out: Bytes) -> None:
    """Raise ValueError unless as many images were found as ``out`` has places."""
    if found != len(out):
        raise ValueError(f"{found} images")


def check_grid(values: NDArray[np.generic], sizes: Mapping[str, int]) -> None:
    """Raise ValueError unless the images' factors count up as a grid does.

    values: (N, K); the last one changes fastest.
    """
    n = math.prod(sizes.values())
    if values.shape != (n, len(sizes)):
        raise ValueError(f"factors of {values.shape}, not {(n, len(sizes))}")
    grid = np.unravel_index(np.arange(n), tuple(sizes.values()))
    for name, column, expected in zip(sizes, values.T, grid, strict=True):
        if not np.array_equal(np.unique(column, return_inverse=True)[1], expected):
            raise ValueError(f"images that are not in the order of the factor {name}")
