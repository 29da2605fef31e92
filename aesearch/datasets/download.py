"""Files from the network, checked before anything sees them."""

import hashlib
import sys
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from aesearch.errors import UserError
from aesearch.escapes import say

BLOCK = 1 << 20
PATIENCE = 60  # seconds without a byte


def fetch(url: str, path: Path, checksum: str) -> None:
    """Download ``url`` to ``path``, where it appears whole and checked or not at all.

    Only one process at a time may do so, which a lock beside ``path`` assures.

    checksum: that of the file, such as "sha256:..." or "md5:...".
    Raises UserError where the download fails or the checksum differs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.part")
    say(f"downloading {url} to {path}", out=sys.stderr)
    try:
        found = _download(url, unfinished, checksum.partition(":")[0])
        if found != checksum:
            raise UserError(f"{url} must have the checksum {checksum}, but what came has {found}; try again later")
        unfinished.replace(path)
    except (OSError, HTTPException) as error:
        raise UserError(
            f"{url} must be downloadable to {path}, but got: {' '.join(str(error).split()) or type(error).__name__}; "
            "try again, or put the file there by hand"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _download(url: str, path: Path, kind: str) -> str:
    """Write what ``url`` has to ``path``; its checksum, with the ``kind`` before it."""
    digest = hashlib.new(kind, usedforsecurity=False)
    with urlopen(url, timeout=PATIENCE) as answer, path.open("wb") as file:
        while block := answer.read(BLOCK):
            digest.update(block)
            file.write(block)
        expected = answer.headers.get("Content-Length")
        if expected is not None and file.tell() != int(expected):
            raise OSError(f"the connection ended after {file.tell()} of {expected} bytes")
    return f"{kind}:{digest.hexdigest()}"
