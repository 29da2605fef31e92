"""MPI3D, as published."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from aesearch.datasets.dataset import Shape
from aesearch.datasets.ground_truth import SIDE, GroundTruth, fill_from_npz
from aesearch.errors import UserError, nearest

# The number of values of the object's colour and of its shape.
VARIANTS = {"toy": 6, "realistic": 6, "real": 6, "real_complex": 4}


@dataclass(frozen=True)
class MPI3D(GroundTruth):
    """1,036,800 images of a robot arm with an object, 64 x 64 colour.

    real_complex has 460,800.
    variant: toy and realistic are rendered, real and real_complex photographed. The file ``mpi3d_<variant>.npz`` must
    be there: its publishers state no checksum. The array takes 12.7 GB on disk, or 5.7. Gondal et al., "On the Transfer
    of Inductive Bias from Simulation to the Real World", NeurIPS 2019.
    """

    variant: Literal["toy", "realistic", "real", "real_complex"] = "toy"
    root: str | None = None
    FACTORS: ClassVar[Mapping[str, int]] = {
        "object_size": 2,
        "camera_height": 3,
        "background_color": 3,
        "horizontal_axis": 40,
        "vertical_axis": 40,
    }

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise UserError(f"unknown variant {self.variant!r}: {nearest(str(self.variant), VARIANTS)}")

    @property
    def shape(self) -> Shape:
        return (3, SIDE, SIDE)

    @property
    def factor_sizes(self) -> Mapping[str, int]:
        objects = VARIANTS[self.variant]
        return {"object_color": objects, "object_shape": objects, **self.FACTORS}

    @property
    def classes(self) -> tuple[str, ...]:
        return ()

    @property
    def copies(self) -> int:
        return 1

    @property
    def file(self) -> str:
        return f"mpi3d_{self.variant}.npz"

    @property
    def source(self) -> str:
        return "github.com/rr-learning/disentanglement_dataset"

    def fetch(self, path: Path) -> None:
        """Nothing: no checksum is published."""

    def fill(self, path: Path, out: NDArray[np.uint8]) -> None:
        fill_from_npz(path, "images", out)
