"""The errors that a user can mend: one line that says what must hold, what was given, what to write instead."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Input that cannot be used. The command line prints its message as one line and exits with status 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown ``name``: the nearest of the ``known`` names, or all of them."""
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(names)}" if names else "there are none"
