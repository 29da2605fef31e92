"""Arrays that are made once and then memory-mapped.

NAME.npy        the array
NAME.npy.json   its sha256, and the size and time of the file that had it
"""

import glob
import hashlib
import json
import mmap
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from aesearch.escapes import say

Bytes = NDArray[np.uint8]

DIGEST_BYTES = 1 << 26  # read at once

_contents_checked = ContextVar("contents_checked", default=False)


@contextmanager
def contents_checked() -> Iterator[None]:
    """Compare arrays of the cache with their checksums, while the context lasts.

    That takes 0.6 s per gigabyte, once for a study; its trials compare size and time alone.
    """
    token = _contents_checked.set(True)
    try:
        yield
    finally:
        _contents_checked.reset(token)


def cached(path: Path, shape: tuple[int, ...], fill: Callable[[Bytes], None]) -> Bytes:
    """Open the uint8 array at ``path``, read-only, and make it first where needed.

    ``fill`` writes it where it is missing or was damaged. A half-written file is never seen.
    """
    array = _read(path, shape)
    if array is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            array = _read(path, shape)
            if array is None:
                if path.exists():
                    say(f"{path} is damaged, so it is made again", out=sys.stderr)
                _write(path, shape, fill)
                array = np.load(path, mmap_mode="r")
    return array


def _read(path: Path, shape: tuple[int, ...]) -> Bytes | None:
    """Open the array at ``path``; None if it is missing, damaged or of another shape."""
    try:
        array: Bytes = np.load(path, mmap_mode="r")
    except (FileNotFoundError, ValueError, EOFError):
        return None
    return array if array.dtype == np.uint8 and array.shape == shape and _is_as_written(path, array) else None


def _is_as_written(path: Path, array: Bytes) -> bool:
    try:
        known = json.loads(_note(path).read_text())
    except (FileNotFoundError, ValueError):
        known = {}
    if known.get("stamp") == _stamp(path) and not _contents_checked.get():
        return True
    found = hashlib.sha256()
    add_to_digest(found, array)
    # Nothing is known of an array that an older aesearch made: it counts from now on.
    if known.get("sha256", found.hexdigest()) != found.hexdigest():
        return False
    if known.get("stamp") != _stamp(path):
        # A folder that others may only read keeps the note that it has.
        with suppress(OSError):
            _write_note(path, found.hexdigest(), _stamp(path))
    return True


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _write_note(path: Path, sha256: str, stamp: list[int]) -> None:
    unfinished = _note(path).with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_text(json.dumps({"sha256": sha256, "stamp": stamp}))
    unfinished.rename(_note(path))


def _write(path: Path, shape: tuple[int, ...], fill: Callable[[Bytes], None]) -> None:
    # Under the lock, so one name is enough: what a process that was killed has left is replaced.
    unfinished = path.with_suffix(".tmp")
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.tmp"):
        left.unlink(missing_ok=True)
    array = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
    try:
        fill(array)
        array.flush()
        written = hashlib.sha256()
        add_to_digest(written, array)
        # The note first: an array without one would be believed.
        _write_note(path, written.hexdigest(), _stamp(unfinished))
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)


def add_to_digest(digest: "hashlib._Hash", array: NDArray[Any]) -> None:
    """Add type, shape and content of ``array`` to a digest, a part at a time.

    The whole array is never in memory.
    """
    digest.update(f"{array.dtype.str}{array.shape}".encode())
    rows = 1 + DIGEST_BYTES * len(array) // (1 + array.nbytes)
    for start in range(0, len(array), rows):
        digest.update(np.ascontiguousarray(array[start : start + rows]).data)
        forget(array)


def forget(array: NDArray[Any]) -> None:
    """Release the pages of a memory-mapped array that were read.

    Reading all of a large array would otherwise fill the memory.
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)


def key(*parts: object) -> str:
    """Make a short name for what an array was made from."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
