"""Arrays that are made once and then memory-mapped."""

import hashlib
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def cached(path: Path, shape: tuple[int, ...], fill: Callable[[Bytes], None]) -> Bytes:
    """The uint8 array at ``path``, read-only; ``fill`` writes it the first time. A half-written file is never seen."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.exists():
                _write(path, shape, fill)
    array: Bytes = np.load(path, mmap_mode="r")
    return array


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
