"""White shapes on black with five known factors, rendered after dSprites.

Matthey, Higgins, Hassabis, Lerchner, "dSprites: Disentanglement testing Sprites dataset", 2017.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from aesearch.datasets.cache import cached
from aesearch.datasets.dataset import Data, Dataset, held_out, random_split
from aesearch.datasets.repeats import first_equals
from aesearch.errors import UserError, nearest

# Part of every cache file's name: raise it whenever a pixel of any image changes.
RENDERER_VERSION = 2
SUBPIXELS = 8

Plane = NDArray[np.float64]


def _square(u: Plane, v: Plane) -> NDArray[np.bool_]:
    return np.maximum(np.abs(u), np.abs(v)) <= math.sqrt(0.5)


def _ellipse(u: Plane, v: Plane) -> NDArray[np.bool_]:
    return u**2 + (2 * v) ** 2 <= 1


def _heart(u: Plane, v: Plane) -> NDArray[np.bool_]:
    # (x^2 + y^2 - 1)^3 <= x^2 y^3, moved and shrunk into the unit disc.
    x, y = 1.25 * u, 0.25 - 1.25 * v
    inside: NDArray[np.bool_] = (x**2 + y**2 - 1) ** 3 <= x**2 * y**3
    return inside


def _triangle(u: Plane, v: Plane) -> NDArray[np.bool_]:
    # Its base is narrower than its height: no turn brings it onto itself.
    return (v <= 0.5) & (np.abs(u) <= 0.4 * (v + 1))


def _corner(u: Plane, v: Plane) -> NDArray[np.bool_]:
    # Two bars at a right angle, of which one is longer.
    x, y = u + 0.5126, 0.5826 - v
    return (x >= 0) & (y >= 0) & (((x <= 0.6) & (y <= 1.44)) | ((x <= 1.3) & (y <= 0.6)))


# Each says which points of the unit disc a shape covers; u points right and v down. The mass of a shape has its centre
# in the centre of the disc, or near it.
SHAPES: dict[str, Callable[[Plane, Plane], NDArray[np.bool_]]] = {
    "square": _square,
    "ellipse": _ellipse,
    "heart": _heart,
    "triangle": _triangle,
    "corner": _corner,
}


@dataclass(frozen=True)
class Sprites(Dataset):
    """Rendered shapes, one image for each combination of five factors.

    The factors are shape, scale, orientation, position x and position y.
    The defaults are the grid of dSprites: 3 x 6 x 40 x 32 x 32 = 737,280 images of 64 x 64 (3 GB on disk).
    Scales run from 0.5 to 1, orientations over the full turn, positions over the middle half of the image.
    positions: along x and y, or one number for both. Of two numbers the larger runs over the middle half, and the other
    in the same steps over less. Where both are equal, x and y vary equally, so that any turn of the two codes which
    tell them explains the images as well: whether codes tell the one or the other is then left to the seed.
    A fifth of the images each, 10,000 at most, is held out for val and test.

    All images must differ, as an image that is in train and in test is judged by what was learnt by heart, and no code
    tells the factors of two that are equal. So no shape of the default looks the same after a part of a turn. A square
    does after a quarter of one, and an ellipse after half of one: they go with orientations whose number is odd.
    """

    resolution: int = 64
    shapes: tuple[str, ...] = ("heart", "triangle", "corner")
    scales: int = 6
    orientations: int = 40
    positions: int | tuple[int, int] = 32

    def __post_init__(self) -> None:
        if self.resolution < 8:
            raise UserError(f"resolution must be at least 8 pixels, but got resolution={self.resolution}")
        for shape in self.shapes:
            if shape not in SHAPES:
                raise UserError(f"unknown shape {shape!r}: {nearest(shape, SHAPES)}")
        if len(set(self.shapes)) < len(self.shapes):
            raise UserError(f"shapes must differ, but got shapes={self.shapes}")
        for name in ("scales", "orientations"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, but got {name}={getattr(self, name)}")
        if len(self._positions) != 2 or not all(isinstance(one, int) and one >= 1 for one in self._positions):
            raise UserError(
                f"positions must be a number, or two for x and y, each at least 1, but got positions={self.positions!r}"
            )
        if math.prod(self.factor_sizes.values()) < 10:
            raise UserError(f"the grid must have at least 10 images, but got {dict(self.factor_sizes)}")

    @property
    def _positions(self) -> tuple[int, int]:
        """The numbers along x and y."""
        return self.positions if isinstance(self.positions, tuple) else (self.positions, self.positions)

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, self.resolution, self.resolution)

    @property
    def factor_sizes(self) -> Mapping[str, int]:
        return {
            "shape": len(self.shapes),
            "scale": self.scales,
            "orientation": self.orientations,
            "x": self._positions[0],
            "y": self._positions[1],
        }

    @property
    def classes(self) -> tuple[str, ...]:
        return ()

    def load(self, root: Path) -> Data:
        sizes = tuple(self.factor_sizes.values())
        grid = "x".join(map(str, sizes[1:]))
        path = root / "sprites" / f"v{RENDERER_VERSION}-{self.resolution}px-{'-'.join(self.shapes)}-{grid}.npy"
        images = cached(path, (math.prod(sizes), *self.shape), self._render_grid)
        n = len(images)
        factors = np.stack(np.unravel_index(np.arange(n), sizes), axis=1)
        return Data(images, factors=factors, **random_split(n, held_out(n)))

    def _render_grid(self, out: NDArray[np.uint8]) -> None:
        self.render(out.reshape(*self.factor_sizes.values(), self.resolution, self.resolution))
        self._check_distinct(out)

    def _check_distinct(self, images: NDArray[np.uint8]) -> None:
        first = first_equals(images)
        repeated = np.flatnonzero(first != np.arange(len(first)))
        if not len(repeated):
            return
        names, sizes = list(self.factor_sizes), tuple(self.factor_sizes.values())
        one, other = (np.unravel_index(i, sizes) for i in (first[repeated[0]], repeated[0]))
        apart = ", ".join(
            f"{name} {int(a)} and {int(b)}" for name, a, b in zip(names, one, other, strict=True) if a != b
        )
        raise UserError(
            f"all images of {self} must differ, but {len(repeated)} of {len(first)} equal an earlier one, such as that "
            f"of {self.shapes[int(one[0])]} at {apart}; take a higher resolution, fewer scales, orientations or "
            "positions, or shapes that no part of a turn brings onto themselves, such as heart, triangle and corner"
        )

    def render(self, out: NDArray[np.uint8]) -> None:
        """Draw the whole grid into ``out``, (shapes, scales, orientations, x, y, H, W)."""
        scales = np.linspace(0.5, 1, self.scales) if self.scales > 1 else np.array([1.0])
        angles = np.linspace(0, 2 * math.pi, self.orientations, endpoint=False)
        for i, shape in enumerate(self.shapes):
            for j, scale in enumerate(scales):
                for k, angle in enumerate(angles):
                    self._render_positions(out[i, j, k], SHAPES[shape], float(scale), float(angle))

    def _render_positions(
        self, out: NDArray[np.uint8], covers: Callable[[Plane, Plane], NDArray[np.bool_]], scale: float, angle: float
    ) -> None:
        """All positions of one sprite, into ``out``: (x, y, height, width).

        A centre is a whole pixel and a phase in eighths of one. Each pair of phases is drawn once, on a canvas
        of which every image of that pair is a window, so a grid costs little more than writing it.
        """
        (across, left), (down, above) = (self._centres(count) for count in self._positions)
        last = int(max(across.max(), down.max()))
        extent = self.resolution + last - int(min(across.min(), down.min()))
        for px in np.unique(left):
            for py in np.unique(above):
                canvas = self._draw(covers, scale, angle, last + px / SUBPIXELS, last + py / SUBPIXELS, extent)
                windows = sliding_window_view(canvas, (self.resolution, self.resolution))
                xs, ys = np.flatnonzero(left == px), np.flatnonzero(above == py)
                out[np.ix_(xs, ys)] = windows[(last - down[ys])[None, :], (last - across[xs])[:, None]]

    def _centres(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Compute the centre of each of ``count`` positions along an axis.

        Each is a whole pixel and a phase in subpixels.
        """
        margin = self.resolution * 33 / 128  # at 64 pixels: centres 16.5, 17.5, ..., 47.5
        most = max(self._positions)
        step = (self.resolution - 2 * margin) / (most - 1) if most > 1 else 0.0
        reach = step * (count - 1) / 2
        middle = self.resolution / 2
        centres = np.rint(np.linspace(middle - reach, middle + reach, count) * SUBPIXELS).astype(np.int64)
        return centres // SUBPIXELS, centres % SUBPIXELS

    def _draw(
        self,
        covers: Callable[[Plane, Plane], NDArray[np.bool_]],
        scale: float,
        angle: float,
        x: float,
        y: float,
        extent: int,
    ) -> NDArray[np.uint8]:
        """Draw one sprite centred at (x, y) on a square canvas.

        Each pixel is the share of its subpixels covered.
        """
        radius = self.resolution / 4 * scale
        canvas = np.zeros((extent, extent), np.uint8)
        rows = slice(max(0, math.floor(y - radius)), min(extent, math.ceil(y + radius)))
        columns = slice(max(0, math.floor(x - radius)), min(extent, math.ceil(x + radius)))
        dy = np.arange(rows.start + 0.5 / SUBPIXELS, rows.stop, 1 / SUBPIXELS)[:, None] - y
        dx = np.arange(columns.start + 0.5 / SUBPIXELS, columns.stop, 1 / SUBPIXELS)[None, :] - x
        u = (math.cos(angle) * dx + math.sin(angle) * dy) / radius
        v = (math.cos(angle) * dy - math.sin(angle) * dx) / radius
        covered = covers(u, v).reshape(rows.stop - rows.start, SUBPIXELS, columns.stop - columns.start, SUBPIXELS)
        canvas[rows, columns] = np.rint(covered.mean(axis=(1, 3)) * 255)
        return canvas
