"""Items of a data set that equal another one.

An item that is in test and in train would be judged by what was learnt by heart.
"""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aesearch.datasets.cache import forget

DIGEST_BYTES = 16
CHUNK = 4096  # items after which the pages of a memory map are let go


def first_equals(items: NDArray[Any]) -> NDArray[np.int64]:
    """Find for each item the first one that equals it, which may be the item itself.

    items: (N, ...), compared by their bytes. Gives (N,).
    """
    digests = np.empty((len(items), DIGEST_BYTES), np.uint8)
    for i, item in enumerate(items):
        digests[i] = np.frombuffer(
            blake2b(np.ascontiguousarray(item).data, digest_size=DIGEST_BYTES).digest(), np.uint8
        )
        if i % CHUNK == 0:
            forget(items)
    _, first, places = np.unique(digests.view(f"V{DIGEST_BYTES}")[:, 0], return_index=True, return_inverse=True)
    return first[places].astype(np.int64)


def known_first_equals(items: NDArray[Any], path: Path) -> NDArray[np.int64]:
    """Find what ``first_equals`` does, and remember it in the file ``path``.

    Its name must tell these items from all others.
    """
    known = np.arange(len(items))
    try:
        for place, first in json.loads(path.read_text()):
            known[place] = first
    except (OSError, ValueError, TypeError, IndexError):
        known = first_equals(items)
        pairs = [(int(place), int(known[place])) for place in np.flatnonzero(known != np.arange(len(items)))]
        unfinished = path.with_suffix(f".{os.getpid()}.tmp")
        # A folder that others may only read does without.
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_text(json.dumps(pairs))
            unfinished.rename(path)
    return known


def among(first: NDArray[np.int64], kept: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tell what ``first`` tells of all items of some of them, in their own places.

    first: (N,). kept: (M,), places of the items. Gives (M,).
    """
    _, own, places = np.unique(first[kept], return_index=True, return_inverse=True)
    return own[places].astype(np.int64)


def remarks_on(first: NDArray[np.int64], what: str) -> tuple[str, ...]:
    """Say how many items repeat others, if any do. what: the items in the plural."""
    count = int((first != np.arange(len(first))).sum())
    if not count:
        return ()
    return (f"{count} of {len(first)} {what} equal an earlier one; those that are equal are all in train, val or test",)


def parted(order: NDArray[np.int64], sizes: Sequence[int], first: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Part items so that those that are equal come into the same part.

    A part is filled up before the next one. Equal items that are more than it has room for come into the last part.

    order: (N,), in which the items are taken. sizes: of all parts but the last, which gets the rest.
    first: (N,), the first item that equals each.
    """
    counts = np.bincount(first, minlength=len(first))
    if (counts <= 1).all():
        return np.split(order, np.cumsum(sizes))
    room = [*sizes, len(order)]
    part_of: dict[int, int] = {}
    parts: list[list[int]] = [[] for _ in room]
    for item in order.tolist():
        group = int(first[item])
        if group not in part_of:
            part_of[group] = next(part for part, left in enumerate(room) if left >= counts[group])
            room[part_of[group]] -= int(counts[group])
        parts[part_of[group]].append(item)
    return [np.array(part, np.int64) for part in parts]
