"""Arrays that are made once and then memory-mapped."""

import hashlib
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def cached(path: Path, shape: tuple[int, ...], fill: Callable[[Bytes], None]) -> Bytes:
    """The uint8 array at ``path``, read-only; ``fill`` writes it the first time, and where it was cut short since.

    A half-written file is never seen.
    """
    array = _read(path, shape)
    if array is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            array = _read(path, shape)
            if array is None:
                if path.exists():
                    print(f"{path} is damaged, so it is made again", file=sys.stderr)
                _write(path, shape, fill)
                array = np.load(path, mmap_mode="r")
    return array


def _read(path: Path, shape: tuple[int, ...]) -> Bytes | None:
    """The array at ``path``; None where there is none of this shape."""
    try:
        array: Bytes = np.load(path, mmap_mode="r")
    except (FileNotFoundError, ValueError, EOFError):
        return None
    return array if array.dtype == np.uint8 and array.shape == shape else None


def _write(path: Path, shape: tuple[int, ...], fill: Callable[[Bytes], None]) -> None:
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    array = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
    try:
        fill(array)
        array.flush()
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)


def forget(array: NDArray[Any]) -> None:
    """Let go of the pages of a memory-mapped array that were read, so that reading all of it takes no memory."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)


def key(*parts: object) -> str:
    """A short name for what an array was made from."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
