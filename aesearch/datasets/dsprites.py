"""dSprites, as published."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from aesearch.datasets.dataset import Shape
from aesearch.datasets.download import fetch
from aesearch.datasets.ground_truth import SIDE, GroundTruth, check_grid, fill_from_npz, npz_chunks


@dataclass(frozen=True)
class DSprites(GroundTruth):
    """737,280 white shapes on black, 64 x 64, with the shape as class.

    The file (26 MB) is downloaded if missing.
    Matthey, Higgins, Hassabis, Lerchner, "dSprites: Disentanglement testing Sprites dataset", 2017.
    """

    root: str | None = None
    URL: ClassVar[str] = (
        "https://github.com/google-deepmind/dsprites-dataset/raw/master/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
    )
    CHECKSUM: ClassVar[str] = "md5:7da33b31b13a06f4b04a70402ce90c2e"
    FACTORS: ClassVar[Mapping[str, int]] = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}

    @property
    def shape(self) -> Shape:
        return (1, SIDE, SIDE)

    @property
    def factor_sizes(self) -> Mapping[str, int]:
        return self.FACTORS

    @property
    def classes(self) -> tuple[str, ...]:
        return ("square", "ellipse", "heart")

    @property
    def copies(self) -> int:
        return 1

    @property
    def file(self) -> str:
        return "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"

    @property
    def source(self) -> str:
        return "github.com/google-deepmind/dsprites-dataset"

    def fetch(self, path: Path) -> None:
        fetch(self.URL, path, self.CHECKSUM)

    def fill(self, path: Path, out: NDArray[np.uint8]) -> None:
        # The first of the file's latents is the colour, which is always white.
        check_grid(np.concatenate([part[:, 1:] for _, part in npz_chunks(path, "latents_classes")]), self.factor_sizes)
        fill_from_npz(path, "imgs", out, scale=255)
