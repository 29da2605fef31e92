"""Errors that a user can mend, and the nearest known name for a misspelled one.

Each message is one line: the fact, the value, the remedy.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Input that cannot be used.

    The command line prints its message as one line and exits with status 2.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Write the end of an error about an unknown ``name``: the nearest known names.

    known: all of them; they are listed where none is near.
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(names)}" if names else "there are none"
