"""Models that a study does not keep: removing their large files, and the reason.

This needs no PyTorch, so commands that only look at a study start a second or two sooner.
"""

from pathlib import Path

WEIGHTS, REFERENCE = "model.safetensors", "reference.safetensors"
MODEL_FILES = (WEIGHTS, REFERENCE)  # the large files, which are removed where a model is not kept
DISCARDED = "discarded.txt"  # the reason for removing them


def discard(folder: Path, reason: str) -> bool:
    """Remove the model in ``folder``, and write the ``reason`` to a file there.

    The pictures stay. Returns True if there was a model.
    """
    there = [folder / name for name in MODEL_FILES if (folder / name).exists()]
    if there:
        # An interruption may leave half a model. With the reason written first, it does not look damaged.
        (folder / DISCARDED).write_text(reason + "\n")
    for file in there:
        file.unlink()
    return bool(there)


def is_discarded(folder: Path) -> bool:
    """Return True if the model in ``folder`` was removed."""
    return (folder / DISCARDED).exists()
