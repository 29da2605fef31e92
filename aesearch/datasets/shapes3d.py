"""3D Shapes, as published."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from aesearch.datasets.dataset import Shape
from aesearch.datasets.download import fetch
from aesearch.datasets.ground_truth import CHUNK, SIDE, GroundTruth, as_images, check_count, check_grid


@dataclass(frozen=True)
class Shapes3D(GroundTruth):
    """480,000 rendered rooms with an object, 64 x 64 colour.

    The file (268 MB) is downloaded if missing. Its array takes 5.9 GB on disk.
    Burgess and Kim, "3D Shapes Dataset", 2018.
    """

    root: str | None = None
    URL: ClassVar[str] = "https://storage.googleapis.com/3d-shapes/3dshapes.h5"
    CHECKSUM: ClassVar[str] = "sha256:0a0f6ed98baff276a50f3a081a7434d788da63cb135a98189b2a5b5769be1785"
    FACTORS: ClassVar[Mapping[str, int]] = {
        "floor_hue": 10,
        "wall_hue": 10,
        "object_hue": 10,
        "scale": 8,
        "shape": 4,
        "orientation": 15,
    }

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
        return "3dshapes.h5"

    @property
    def source(self) -> str:
        return "github.com/google-deepmind/3d-shapes"

    def fetch(self, path: Path) -> None:
        fetch(self.URL, path, self.CHECKSUM)

    def fill(self, path: Path, out: NDArray[np.uint8]) -> None:
        import h5py

        with h5py.File(path) as file:
            images = file["images"]
            check_count(len(images), out)
            check_grid(file["labels"][:], self.factor_sizes)
            # Whole compressed blocks: each is unpacked once.
            step = images.chunks[0] if images.chunks else CHUNK
            for start in range(0, len(images), step):
                out[start : start + step] = as_images(images[start : start + step], self.shape)
