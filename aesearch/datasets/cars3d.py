"""Cars3D, as published."""

import gzip
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, ClassVar

import numpy as np
from numpy.typing import NDArray

from aesearch.datasets.dataset import Shape
from aesearch.datasets.download import fetch
from aesearch.datasets.ground_truth import SIDE, GroundTruth

VIEWS = (128, 128, 3, 24, 4)  # height, width, colour, azimuth, elevation


@dataclass(frozen=True)
class Cars3D(GroundTruth):
    """17,568 renderings of 183 cars, 64 x 64 colour.

    Each pixel is the mean of 2 x 2 published ones.
    The archive is downloaded if missing, and read without unpacking it. Objects are in the order of their files' names.
    Reed, Zhang, Zhang, Lee, "Deep Visual Analogy-Making", NeurIPS 2015.
    """

    root: str | None = None
    URL: ClassVar[str] = "http://www.scottreed.info/files/nips2015-analogy-data.tar.gz"
    CHECKSUM: ClassVar[str] = "md5:4e866a7919c1beedf53964e6f7a23686"
    FACTORS: ClassVar[Mapping[str, int]] = {"elevation": 4, "azimuth": 24, "object": 183}

    @property
    def shape(self) -> Shape:
        return (3, SIDE, SIDE)

    @property
    def factor_sizes(self) -> Mapping[str, int]:
        return self.FACTORS

    @property
    def classes(self) -> tuple[str, ...]:
        return ()

    @property
    def copies(self) -> int:
        return 1

    @property
    def file(self) -> str:
        return "nips2015-analogy-data.tar.gz"

    @property
    def source(self) -> str:
        return self.URL.partition("//")[2]

    def fetch(self, path: Path) -> None:
        fetch(self.URL, path, self.CHECKSUM)

    def fill(self, path: Path, out: NDArray[np.uint8]) -> None:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError

        grid = out.reshape(*self.factor_sizes.values(), *self.shape)
        for place, (name, file) in _meshes(path, grid.shape[2]):
            try:
                views = loadmat(file, variable_names=["im"])["im"]
            except MatReadError as error:
                raise ValueError(f"{name}: {error}") from error
            if views.shape != VIEWS or views.dtype != np.uint8:
                raise ValueError(f"{name} of {views.shape} {views.dtype}")
            means = views.reshape(SIDE, 2, SIDE, 2, *VIEWS[2:]).mean(axis=(1, 3))
            grid[:, :, place] = np.rint(means).transpose(4, 3, 2, 0, 1)


def _meshes(path: Path, count: int) -> Iterator[tuple[int, tuple[str, IO[bytes]]]]:
    """List the car files of the archive, each with its place among their names.

    Raises ValueError unless there are ``count``.
    """
    with gzip.open(path) as stream, tarfile.open(fileobj=stream) as archive:
        files = (item for item in archive if item.isfile() and "cars/" in item.name and "/._" not in item.name)
        cars = [item for item in files if item.name.endswith(".mat")]
        while stream.read(1 << 20):
            pass  # its checksum is at its end
        if len(cars) != count:
            raise ValueError(f"{len(cars)} files of cars, not {count}")
        places = {name: place for place, name in enumerate(sorted(item.name for item in cars))}
        for item in cars:
            content = archive.extractfile(item)
            assert content is not None
            yield places[item.name], (item.name, BytesIO(content.read()))
