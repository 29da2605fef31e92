"""A folder of images: any sizes and formats, brought to one shape."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aesearch.datasets.cache import cached, key
from aesearch.datasets.dataset import Data, Dataset, Shape, check_limit, held_out, random_split
from aesearch.datasets.repeats import among, known_first_equals, remarks_on
from aesearch.errors import UserError

ENDINGS = "png apng jpg jpeg jpe jfif jp2 j2k webp avif bmp dib gif ico tif tiff tga pcx sgi qoi pbm pgm ppm pnm pfm"
SUFFIXES = frozenset(f".{ending}" for ending in ENDINGS.split())
NAMED = 3  # broken files that a remark names
LEAST = 10
READER_VERSION = 1  # raise it whenever a pixel of any image changes
MOST_PIXELS = 2**26  # of a decoded image: 8,192 x 8,192
JPEG = b"\xff\xd8\xff"  # the first bytes of such a file

if TYPE_CHECKING:
    from PIL import ImageFile

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageFolder(Dataset):
    """Images in the folder ``path`` and below.

    Each sub-folder of ``path`` is a class, if there are any.
    size: (height, width), or one number for both: an image is shrunk or enlarged to cover it, then cut around its
    centre. colour: RGB, else grey. most_pixels: images with more are not decoded; a JPEG counts as it is decoded, down
    to an eighth of each side. Files that cannot be read are skipped and named in the remarks.
    """

    path: str
    size: int | tuple[int, int] = 64
    colour: bool = True
    # Not in its repr, by which a study knows its data: a limit changes none of them.
    most_pixels: int = field(default=MOST_PIXELS, repr=False)

    def __post_init__(self) -> None:
        check_limit("most_pixels", self.most_pixels)
        sides = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        if len(sides) != 2 or not all(isinstance(side, int) and side >= 4 for side in sides):
            raise UserError(f"size must be pixels or (height, width), each at least 4, but got size={self.size!r}")

    @property
    def _size(self) -> tuple[int, int]:
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def shape(self) -> Shape:
        return (3 if self.colour else 1, *self._size)

    @property
    def factor_sizes(self) -> Mapping[str, int]:
        return {}

    @property
    def classes(self) -> tuple[str, ...]:
        folder = Path(self.path)
        if not folder.is_dir():
            return ()
        inside = (entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        found = sorted(entry.name for entry in inside if image_files(entry))
        return tuple(found) if len(found) > 1 else ()

    def load(self, root: Path) -> Data:
        folder = Path(self.path)
        if not folder.is_dir():
            raise UserError(f"ImageFolder needs a folder, but there is none at {folder}")
        files = image_files(folder)
        if not files:
            raise UserError(f"ImageFolder needs images below its path, but found none below {folder}")
        stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        # At the default, folders that were read before there was such a limit keep their names.
        limit = () if self.most_pixels == MOST_PIXELS else (self.most_pixels,)
        name = key(READER_VERSION, self.shape, stamps, *limit)
        path = root / "folders" / f"{name}.npy"
        skipped = path.with_suffix(".skipped.json")

        def fill(out: Bytes) -> None:
            skipped.write_text(json.dumps(read_images(files, out, self.most_pixels)))

        if not skipped.exists():
            path.unlink(missing_ok=True)
        images = cached(path, (len(files), *self.shape), fill)
        broken: dict[str, str] = json.loads(skipped.read_text())
        # Broken files keep an empty row, which no split refers to.
        kept = np.array([i for i, file in enumerate(files) if str(file) not in broken], dtype=np.int64)
        if len(kept) < LEAST:
            raise UserError(
                f"ImageFolder needs at least {LEAST} readable images, but {folder} has {len(kept)}"
                + (f"; {named(broken)}" if broken else "")
            )
        first = among(known_first_equals(images, path.with_suffix(".repeats.json")), kept)
        drawn = random_split(len(kept), held_out(len(kept)), first)
        splits = {split: kept[index] for split, index in drawn.items()}
        names = tuple(str(file.relative_to(folder)) for file in files)
        remarks = (*([named(broken)] if broken else []), *remarks_on(first, "images"))
        return Data(images, labels=self._labels(names), names=names, remarks=remarks, **splits)

    def _labels(self, names: Sequence[str]) -> NDArray[np.int64] | None:
        """Name the class of each file: its sub-folder.

        Raises UserError for a file beside the sub-folders.
        """
        classes = {name: i for i, name in enumerate(self.classes)}
        if not classes:
            return None
        for name in names:
            if Path(name).parts[0] not in classes:
                raise UserError(
                    f"each image must lie in a sub-folder, its class, but {name} lies beside {list(classes)}"
                )
        return np.array([classes[Path(name).parts[0]] for name in names], dtype=np.int64)


def image_files(folder: Path) -> list[Path]:
    """List all image files in ``folder`` and below, by name; leave out hidden ones."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def read_image(file: Path, shape: Shape, decoding: "Decoding | None" = None) -> Bytes:
    """Read an image in ``shape``, (C, H, W) uint8, upright.

    Where it is transparent, it is laid over white.

    decoding: the limit of pixels, and what other threads decode at the moment; by default that of one image alone.
    Raises UserError for an image of more pixels, and errors of Pillow's for one that is damaged.
    """
    from PIL import Image, ImageOps

    decoding = decoding or Decoding(MOST_PIXELS)
    with _opened(file, decoding.most) as opened:
        # A large JPEG is decoded no larger than twice what is needed, which takes a fraction of the time.
        opened.draft(None, (2 * max(shape[1:]), 2 * max(shape[1:])))
        with decoding.of(opened.width, opened.height):
            ImageOps.exif_transpose(opened, in_place=True)
            image: Image.Image = opened
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            if image.mode.startswith("I"):
                # 16 bits of grey: Pillow would clip them to 8.
                image = Image.fromarray((np.asarray(image).clip(0, 65_535) // 257).astype(np.uint8))
            if image.mode == "F":
                image = Image.fromarray(_bytes(np.asarray(image)))
            fitted = ImageOps.fit(
                image.convert("RGB" if shape[0] == 3 else "L"), (shape[2], shape[1]), Image.Resampling.BILINEAR
            )
            pixels = np.asarray(fitted, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _opened(file: Path, most: int) -> "ImageFile.ImageFile":
    """Open an image without decoding it.

    Raises UserError for one of more than ``most`` pixels, except for a JPEG, which may be decoded smaller.
    """
    from PIL import Image, JpegImagePlugin

    try:
        return Image.open(file)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        with file.open("rb") as start:
            is_jpeg = start.read(len(JPEG)) == JPEG
        if not is_jpeg:
            raise UserError(f"it has more than {most:,} pixels; raise most_pixels to read it") from error
        return JpegImagePlugin.JpegImageFile(file)


class Decoding:
    """Limit of the pixels that are decoded at once, over all threads.

    most: pixels of an image, and of all images that are decoded at the same moment.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._now = 0
        self._changed = Condition()

    @contextmanager
    def of(self, width: int, height: int) -> Iterator[None]:
        """Wait until the others leave room for an image of ``width`` x ``height``.

        Raises UserError for an image that has too many pixels by itself.
        """
        pixels = width * height
        if pixels > self.most:
            raise UserError(
                f"its {width:,} x {height:,} pixels are more than {self.most:,}; raise most_pixels to read it"
            )
        with self._changed:
            self._changed.wait_for(lambda: self._now + pixels <= self.most)
            self._now += pixels
        try:
            yield
        finally:
            with self._changed:
                self._now -= pixels
                self._changed.notify_all()


@contextmanager
def _pillow_refuses(most: int) -> Iterator[None]:
    """Let Pillow raise an error for images of more than ``most`` pixels.

    By itself it warns of fewer than twice its limit, and the limit is a constant of the module.
    """
    from PIL import Image

    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = most
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _bytes(pixels: NDArray[np.float32]) -> Bytes:
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(
            f"floating-point pixels must lie in [0, 1], but reach {pixels.min():.3g} to {pixels.max():.3g}"
        )
    return np.rint(pixels * 255).astype(np.uint8)


def read_images(files: Sequence[Path], out: Bytes, most_pixels: int = MOST_PIXELS) -> dict[str, str]:
    """Read ``files`` into ``out``, (N, C, H, W).

    Gives the files that could not be read, with the reasons.

    most_pixels: images with more are not decoded, and no more than that are decoded at the same moment.
    """
    decoding = Decoding(most_pixels)

    def read(place: int) -> str:
        try:
            out[place] = read_image(files[place], out.shape[1:], decoding)
        except Exception as error:  # Pillow's readers raise errors of many kinds on broken files
            return " ".join(str(error).split()) or type(error).__name__
        return ""

    with _pillow_refuses(most_pixels), ThreadPoolExecutor() as pool:
        problems = list(pool.map(read, range(len(files))))
    return {str(file): problem for file, problem in zip(files, problems, strict=True) if problem}


def named(broken: Mapping[str, str]) -> str:
    """Count the files that could not be read, and name the first with their reasons.

    broken: the reason of each file.
    """
    shown = "; ".join(f"{Path(file).name}: {reason}" for file, reason in list(broken.items())[:NAMED])
    more = f"; and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
    return f"{len(broken)} file(s) could not be read and were skipped: {shown}{more}"
