"""Rights of new files: of this user alone, or as the person's umask has it.

What a study makes is private whatever the umask is: state, ledger, models, MLflow's files. Reports, what ``use``
writes, and data sets are made to be shared, so they follow the umask.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

OTHERS = 0o077
# The umask that the person had. Processes that this one starts, or becomes, have it from the environment.
PERSONS = "AESEARCH_UMASK"


def make_private() -> int:
    """Let all new files of this process be open to its user alone.

    Returns the umask before.
    """
    before = os.umask(OTHERS)
    os.umask(before | OTHERS)
    return before


@contextmanager
def private_files() -> Iterator[None]:
    """Let new files be open to this user alone, while the context lasts."""
    before = make_private()
    first = PERSONS not in os.environ
    os.environ.setdefault(PERSONS, f"{before:o}")
    try:
        yield
    finally:
        os.umask(before)
        if first:
            del os.environ[PERSONS]


@contextmanager
def shared_files() -> Iterator[None]:
    """Let new files follow the person's umask, while the context lasts."""
    if PERSONS not in os.environ:
        yield
        return
    before = os.umask(int(os.environ[PERSONS], 8))
    try:
        yield
    finally:
        os.umask(before)
